"""The plan of a run: what its phases hold, what fits, how long they take."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from jax.sharding import AbstractMesh

from critic_jax.models import cost
from critic_jax.plan import abstract, compiled, memory, speed, workload
from critic_jax.plan.chips import Chip
from critic_jax.plan.speed import Shares, Time
from critic_jax.runtime import sharding
from critic_jax.sampling import lm as lm_lib

_MOST = 1 << 20  # rows and slots; more are not looked for


class Target(NamedTuple):
  """What is planned for: see `make`; `own` is the mesh to sample with."""

  mesh: Any
  own: Any
  processes: int
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
    most_rows: of a micro-batch that fits, a multiple of the mesh's row shards.
    slots: responses decoded at once by a process, of the model that samples
      most.
    most_slots: that fit; the mesh's row shards should divide them.
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
    sample_mesh: of the devices of a process, to sample with.
    memory: bytes of a device that arrays may take.
    parameters: their number by role.
    phases: in order.
  """

  mesh: dict[str, int]
  sample_mesh: dict[str, int]
  memory: float
  parameters: dict[str, int]
  phases: list[Phase]


def make(
  config, mesh, chip: Chip, shares: Shares, compiles: bool, processes: int = 1
) -> Plan:
  """Plans a run without allocating anything of it.

  Args:
    config: a ConfigDict, as the files in configs/ make it.
    mesh: of `sharding.make_mesh`, or without devices if nothing is compiled.
    chip: what its devices are.
    shares: what is reached of that.
    compiles: whether to compile the updates; see `compiled.py`.
    processes: of the run; each samples a share on its own devices.

  Raises:
    ValueError: a setting is wrong, or a matrix can not be split so.
  """
  lms = abstract.make_lms(config)
  own = _own_mesh(config.sample_mesh, mesh, processes)
  target = Target(mesh, own, processes, chip, shares)
  return Plan(
    mesh=dict(mesh.shape),
    sample_mesh=dict(own.shape),
    memory=target.limit,
    parameters={
      role: cost.num_params(vars(lm.model.config)) for role, lm in lms.items()
    },
    phases=[
      _plan(name, config, lms, target, compiles) for name in config.order
    ],
  )


def _own_mesh(sizes, mesh, processes):
  """What a process samples with, as `roles.sampling_shardings` makes it."""
  sizes = {axis: size for axis, size in sizes.items() if size}
  if mesh.size % processes:
    raise ValueError(
      f'processes: got {processes} for {mesh.size} devices; expected a divisor'
    )
  if not sizes and processes == 1:
    return mesh
  shape = sharding.mesh_shape(sizes or {'data': -1}, mesh.size // processes)
  return (
    mesh if shape == mesh.axis_sizes else AbstractMesh(shape, sharding.AXES)
  )


def _plan(name, config, lms, target, compiles) -> Phase:
  mesh, own, limit = target.mesh, target.own, target.limit
  phase = abstract.phase(config, lms, name)
  section = phase.config
  learned = workload.learned(section, lms)
  sampled = workload.sampled(section, lms, target.shares.length)
  held = memory.held(phase, lms, mesh, own)
  each, update = memory.update(phase, config, lms, mesh, learned)
  rows = learned.rows // section.microbatches
  num_shards = abstract.num_batch_shards(mesh, rows, learned.columns)
  update['activations'] = each * rows // num_shards
  copies = memory.copies(section.train, lms, mesh, own)
  samplers = {
    stage: _sampler(stage, lms, own)
    for stage in (_share(stage, target.processes) for stage in sampled)
  }
  widest = max(samplers, key=lambda s: _sum(samplers[s]), default=None)
  sampling = copies | samplers.get(widest, {})
  scorers = [
    copies | memory.scorer(lms[r], own, learned)
    for r in workload.scored(section)
  ]
  scoring = max(scorers, key=_sum, default={})
  collect = max(_sum(sampling), _sum(scoring))
  together = sum if section.staleness else max
  free = limit - _sum(held)
  # What one half of a step leaves to the other, which it may be beside.
  rest = _sum(update) - update['activations']
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
    most_slots=_most_slots(to_sampling - _sum(copies), lms, own, widest),
    compiled=compiled.temporaries(name, config, lms, mesh, learned)
    if compiles
    else None,
    times=times,
    seconds=_seconds(times, section.staleness),
  )


def _share(stage, processes):
  """What of a stage one process samples."""
  return stage._replace(prompts=-(-stage.prompts // processes))


def _sum(parts) -> int:
  return sum(parts.values())


def _most_rows(free, each, mesh, learned) -> int:
  """Rows of a micro-batch, as many on each device, that `free` bytes hold."""
  split = abstract.num_shards_of(mesh, 'columns', learned.columns)
  rows = max(0, int(free * split // each)) * sharding.num_shards(mesh, 'rows')
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
  mesh, own, processes, *chip = target

  def model(role, mesh):
    return speed.make_model(lms[role], mesh, *chip)

  times = []
  for role in section.train:
    for copied in memory.copies([role], lms, mesh, own).values():
      times.append(speed.lay_out(model(role, mesh), role, copied))
  for stage in sampled:
    lm, share = lms[stage.role], _share(stage, processes)
    for time in speed.sample(model(stage.role, own), own, share, lm):
      # Of all processes, which sample at once.
      rows, tokens = processes * time.rows, processes * time.tokens
      times.append(time._replace(rows=rows, tokens=tokens))
  for role in workload.scored(section):
    times.append(speed.score(model(role, own), own, role, learned))
  for role in section.train:
    times.append(speed.update(model(role, mesh), mesh, role, learned, section))
  return times


def _seconds(times, staleness) -> float:
  """Of a step; the next batch may be collected beside the update."""
  updates = sum(t.seconds for t in times if t.stage == 'update')
  collect = sum(t.seconds for t in times) - updates
  return max(updates, collect) if staleness else updates + collect
