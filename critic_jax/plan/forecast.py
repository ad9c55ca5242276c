"""The plan of a run: what its phases hold, what fits, how long they take."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from critic_jax import lm as lm_lib
from critic_jax import sharding
from critic_jax.models import cost
from critic_jax.plan import abstract, compiled, memory, speed, stages
from critic_jax.plan.chips import Chip
from critic_jax.plan.speed import Shares, Time

_MOST = 1 << 20  # rows and slots; more are not looked for


class Target(NamedTuple):
  """What is planned for: see `make`."""

  mesh: Any
  chip: Chip
  shares: Shares

  @property
  def limit(self) -> float:
    """Bytes of a device that arrays may take."""
    return self.shares.memory * self.chip.memory


class Phase(NamedTuple):
  """The plan of a phase; bytes are of one device.

  Attributes:
    name: of the phase.
    held: bytes that are there all the time, by what they are.
    update: ... during an update.
    sampling: ... during sampling, of the stage that needs most.
    scoring: ... while the reference or the value model reads the batch.
    total: the most at one time.
    fits: whether that is there.
    rows: of a micro-batch.
    columns: of the batch.
    most_rows: of a micro-batch that fits, a multiple of the mesh's ways.
    slots: responses decoded at once, of the model that samples most.
    most_slots: that fit; the mesh's ways should divide them.
    compiled: bytes of the compiled update's temporaries; None: not compiled.
    times: the stages of a step.
    seconds: of a step.
  """

  name: str
  held: dict[str, int]
  update: dict[str, int]
  sampling: dict[str, int]
  scoring: dict[str, int]
  total: int
  fits: bool
  rows: int
  columns: int
  most_rows: int
  slots: int
  most_slots: int
  compiled: int | None
  times: list[Time]
  seconds: float


class Plan(NamedTuple):
  """The plan of a run.

  Attributes:
    mesh: sizes by axis.
    memory: bytes of a device that arrays may take.
    parameters: their number by role.
    phases: in order.
  """

  mesh: dict[str, int]
  memory: float
  parameters: dict[str, int]
  phases: list[Phase]


def make(config, mesh, chip: Chip, shares: Shares, compiles: bool) -> Plan:
  """Plans a run without allocating anything of it.

  Args:
    config: a ConfigDict, as the files in configs/ make it.
    mesh: of `sharding.make_mesh`, or without devices if nothing is compiled.
    chip: what its devices are.
    shares: what is reached of that.
    compiles: whether to compile the updates; see `compiled.py`.

  Raises:
    ValueError: a setting is wrong, or a matrix can not be split so.
  """
  lms = abstract.make_lms(config)
  target = Target(mesh, chip, shares)
  return Plan(
    mesh=dict(mesh.shape),
    memory=target.limit,
    parameters={
      role: cost.num_params(vars(lm.model.config)) for role, lm in lms.items()
    },
    phases=[
      _plan(name, config, lms, target, compiles) for name in config.order
    ],
  )


def _plan(name, config, lms, target, compiles) -> Phase:
  mesh, limit = target.mesh, target.limit
  phase = abstract.phase(config, lms, name)
  section = phase.config
  learned = stages.learned(section, lms)
  sampled = stages.sampled(section, lms, target.shares.length)
  scored = stages.scored(section)
  held = memory.held(phase, lms, mesh)
  each, update = memory.update(phase, config, lms, mesh, learned)
  rows = learned.rows // section.microbatches
  ways = abstract.batch_ways(mesh, rows, learned.columns)
  samplers = {stage: _sampler(stage, lms, mesh) for stage in sampled}
  widest = max(samplers, key=lambda s: _sum(samplers[s]), default=None)
  sampling = samplers.get(widest, {})
  scorers = [memory.scorer(lms[r], mesh, learned) for r in scored]
  scoring = max(scorers, key=_sum, default={})
  collect, rest = max(_sum(sampling), _sum(scoring)), _sum(update)
  update['activations'] = each * rows // ways
  together = sum if section.staleness else max
  free = limit - _sum(held)
  # What one half of a step leaves to the other, which it may be beside.
  to_update = free - (collect if section.staleness else 0)
  to_sampling = free - (_sum(update) if section.staleness else 0)
  total = _sum(held) + together((_sum(update), collect))
  times = _times(section, lms, target, sampled, learned)
  return Phase(
    name=name,
    held=held,
    update=update,
    sampling=sampling,
    scoring=scoring,
    total=total,
    fits=total <= limit,
    rows=rows,
    columns=learned.columns,
    most_rows=_most_rows(to_update - rest, each, mesh, learned),
    slots=math.prod(_shape(widest, lms)) if widest else 0,
    most_slots=_most_slots(to_sampling, lms, mesh, widest),
    compiled=compiled.temporaries(name, config, lms, mesh, learned)
    if compiles
    else None,
    times=times,
    seconds=_seconds(times, section.staleness),
  )


def _sum(parts) -> int:
  return sum(parts.values())


def _most_rows(free, each, mesh, learned) -> int:
  """Rows of a micro-batch, as many on each device, that `free` bytes hold."""
  split = abstract.ways_of(mesh, 'columns', learned.columns)
  rows = max(0, int(free * split // each)) * sharding.ways(mesh, 'rows')
  return min(rows, _MOST)


def _shape(stage, lms) -> lm_lib.Shape:
  """The prompts of a stage that are sampled for at once, and rows of each."""
  return lms[stage.role].shape(stage.prompts, stage.samples)


def _sampler(stage, lms, mesh, lanes=0) -> dict[str, int]:
  """What sampling of a stage needs, with other lanes if they are given."""
  lm, shape = lms[stage.role], _shape(stage, lms)
  return memory.sampler(
    lm,
    mesh,
    lanes=lanes or shape.num_lanes,
    rows=shape.num_rows,
    samples=stage.samples,
    columns=lm.row_length(stage.prompt),
  )


def _most_slots(free, lms, mesh, stage) -> int:
  """The most slots that `free` bytes hold; lanes are a power of two."""
  if stage is None:
    return 0
  fitting = [
    lanes
    for lanes in (2**i for i in range(_MOST.bit_length()))
    if _sum(_sampler(stage, lms, mesh, lanes)) <= free
  ]
  return max(fitting, default=0) * _shape(stage, lms).num_rows


def _times(section, lms, target, sampled, learned) -> list[Time]:
  def model(role):
    return speed.make_model(lms[role], *target)

  mesh, times = target.mesh, []
  for stage in sampled:
    times += speed.sample(model(stage.role), mesh, stage, lms[stage.role])
  for role in stages.scored(section):
    times.append(speed.score(model(role), mesh, role, learned))
  for role in section.train:
    times.append(speed.update(model(role), mesh, role, learned, section))
  return times


def _seconds(times, staleness) -> float:
  """Of a step; the next batch may be collected beside the update."""
  updates = sum(t.seconds for t in times if t.stage == 'update')
  collect = sum(t.seconds for t in times) - updates
  return max(updates, collect) if staleness else updates + collect
