"""The plan of a run: the memory of its phases, what fits, and seconds."""

from __future__ import annotations

import bisect
import functools
import math
from typing import Any, NamedTuple

from critic_jax.models import cost
from critic_jax.plan import (
  abstract,
  forward_memory,
  layouts,
  memory,
  step_times,
  workload,
)
from critic_jax.plan.chips import Chip
from critic_jax.plan.layouts import Layout
from critic_jax.plan.speed import Shares, Time
from critic_jax.runtime import sharding
from critic_jax.sampling.lm import Shape
from critic_jax.sampling.served import local
from critic_jax.training import adapters, choices

_MAX_COUNT = 1 << 20  # rows or slots; no plan looks for more


class Target(NamedTuple):
  """The machine that is planned for.

  Attributes:
    mesh: the mesh of the training.
    sample_mesh: the mesh that a process samples on.
    processes: number of processes.
    chip: the chip of each device.
    shares: the shares of its figures that are reached.
  """

  mesh: Any
  sample_mesh: Any
  processes: int
  chip: Chip
  shares: Shares

  @property
  def limit(self) -> float:
    """Returns the bytes of a device that arrays may take."""
    return self.shares.memory * self.chip.memory


class Scale(NamedTuple):
  """Compiled over planned bytes, beside what is held; None: not compiled.

  Attributes:
    update: those of the longest update.
    sampling: those of the program of sampling that needs most.
  """

  update: float | None = None
  sampling: float | None = None


_AS_PLANNED = Scale(1.0, 1.0)


class Phase(NamedTuple):
  """The plan of a phase; bytes are of one device.

  Attributes:
    name: the phase's name.
    held: bytes present during the whole phase, by what they are.
    update: further bytes during an update.
    sampling: further bytes during sampling, of the stage that needs most.
    scoring: further bytes while the reference or the value model reads the
      batch.
    total: the most bytes at one time.
    fits: whether a device has them.
    rows: rows of a micro-batch.
    columns: columns of the batch.
    most_rows: rows of the largest micro-batch that fits, a multiple of the
      mesh's row shards.
    slots: responses decoded at once by a process, of the model that samples
      most.
    most_slots: the most slots that fit; the mesh's row shards should divide
      them.
    overlong: by stage, the tokens of responses that a prompt may hold and the
      most that it can have, where some prompts may be refused.
    times: the stages of a step.
    seconds: seconds of a step.
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
  overlong: dict[str, tuple[int, int]]
  times: list[Time]
  seconds: float


class Plan(NamedTuple):
  """The plan of a run.

  Attributes:
    mesh: sizes by axis.
    sample_mesh: sizes by axis of the mesh that a process samples on.
    processes: number of processes.
    memory: bytes of a device that arrays may take.
    parameters: number of parameters by role.
    choices: lines that say which programs compute the models.
    phases: the phases in order.
    better: a layout that is faster and fits, or that fits where this one does
      not; None: this is the best.
  """

  mesh: dict[str, int]
  sample_mesh: dict[str, int]
  processes: int
  memory: float
  parameters: dict[str, int]
  choices: list[str]
  phases: list[Phase]
  better: Layout | None


class _Learning(NamedTuple):
  """The part of a phase that does not depend on how it samples.

  Attributes:
    phase: the phase.
    batch: the batch of an update.
    held: bytes present during the whole phase, by what they are.
    update: further bytes during an update, whatever its micro-batches.
    row_bytes: the activations of a row of a micro-batch.
    lenders: by role another one, whose arrays it has (`adapters.lenders`).
  """

  phase: Any
  batch: workload.Learned
  held: dict[str, int]
  update: dict[str, int]
  row_bytes: memory.RowBytes
  lenders: dict[str, str]


def make(config, mesh, chip: Chip, shares: Shares, processes: int = 1) -> Plan:
  """Plans a run without allocating anything of it.

  Args:
    config: a ConfigDict, as the files in configs/ make it.
    mesh: the mesh of the training, with or without devices.
    chip: the chip of each device.
    shares: the shares of its figures that are reached.
    processes: number of processes; each samples a share on its own devices.

  Raises:
    ValueError: a setting is wrong, or a matrix can not be split so.
  """
  lms = abstract.make_lms(config, chip.platform, processes)
  learning = [_learning(name, config, lms, mesh) for name in config.order]

  sample_mesh = layouts.sample_mesh(config.sample_mesh, mesh, processes)
  target = Target(mesh, sample_mesh, processes, chip, shares)
  plan = functools.partial(_plan_all, learning, lms)
  phases = plan(target)
  steps = [part.phase.config.steps for part in learning]
  seconds = functools.partial(_seconds, learning, lms)
  candidates = layouts.to_sample_on(lms, target, seconds, plan)
  better = layouts.better(phases, candidates, steps)
  others = _on_other_meshes(config, lms, learning, target, better)
  return Plan(
    mesh=dict(mesh.shape),
    sample_mesh=dict(sample_mesh.shape),
    processes=processes,
    memory=shares.memory * chip.memory,
    parameters={
      role: cost.num_params(vars(lm.model.config))
      for role, lm in local(lms).items()
    },
    choices=choices.of_models(config.models, lms, chip.platform),
    phases=phases,
    better=layouts.on_another_mesh(phases, better, others, steps),
  )


def largest(
  config, mesh, chip: Chip, shares: Shares, processes: int, name: str,
  scale: Scale,
) -> dict[str, int]:  # fmt: skip
  """Returns 'most_rows' and 'most_slots' by what was compiled of a phase.

  Args:
    config: as for `make`, and so are the next four.
    mesh: the mesh of the training.
    chip: the chip of each device.
    shares: the shares of its figures that are reached.
    processes: number of processes.
    name: the phase's name.
    scale: compiled over planned bytes.
  """
  lms = abstract.make_lms(config, chip.platform, processes)
  sample_mesh = layouts.sample_mesh(config.sample_mesh, mesh, processes)
  target = Target(mesh, sample_mesh, processes, chip, shares)
  learning = _learning(name, config, lms, mesh)
  whole = Scale(scale.update or 1.0, scale.sampling or 1.0)
  phase = _plan(learning, lms, target, whole)
  numbers = {}
  if scale.update:
    numbers['most_rows'] = phase.most_rows
  if scale.sampling:
    numbers['most_slots'] = phase.most_slots
  return numbers


def _on_other_meshes(config, lms, learning, target: Target, better):
  """Yields the candidates of `layouts.on_another_mesh`.

  Each is sampled on the mesh that is best for the plan's own, and on its own.
  """
  best = better.sizes if better else target.sample_mesh.shape

  def plan(target):
    for part in learning:  # without its update, which takes seconds to trace
      held = memory.persistent_bytes(part.phase, lms, target.mesh, part.lenders)
      none = memory.RowBytes(0, 0)
      rest = part._replace(held=held, row_bytes=none, update={})
      if not _plan(rest, lms, target).fits:
        return None
    return [
      _plan(_learning(name, config, lms, target.mesh), lms, target)
      for name in config.order
    ]

  for mesh in layouts.train_meshes(lms, target.mesh):
    for sizes in (best, config.sample_mesh):
      sampling = layouts.sample_mesh(sizes, mesh, target.processes)
      other = target._replace(mesh=mesh, sample_mesh=sampling)
      meshes = dict(mesh.shape), dict(sampling.shape)
      seconds = _seconds(learning, lms, other)
      yield seconds, *meshes, functools.partial(plan, other)


def _plan_all(learning, lms, target: Target) -> list[Phase]:
  return [_plan(part, lms, target) for part in learning]


def _seconds(learning, lms, target: Target) -> float:
  """Returns the seconds of a run; nothing is traced for it."""
  return sum(
    part.phase.config.steps
    * step_times.of_phase(part.phase, lms, target, part.batch)
    for part in learning
  )


def _learning(name, config, lms, mesh) -> _Learning:
  phase = abstract.phase(config, lms, name)
  batch = workload.learned(phase.config.row_shapes, phase.recipe, lms)
  lenders = adapters.lenders(config, lms)
  return _Learning(
    phase,
    batch,
    memory.persistent_bytes(phase, lms, mesh, lenders),
    memory.update(phase, lms, mesh, batch),
    memory.activations(name, config, lms, mesh, batch),
    lenders,
  )


def _plan(
  learning: _Learning, lms, target: Target, scale: Scale = _AS_PLANNED
) -> Phase:
  mesh, sample_mesh = target.mesh, target.sample_mesh
  phase, learned = learning.phase, learning.batch
  section = phase.config
  sampled = workload.sampled(phase.recipe, lms, target.shares.length)

  # The parts of a device's memory.
  held = learning.held | _frozen_copies(learning, lms, mesh, sample_mesh)
  rows = learned.rows // section.microbatches
  update = learning.update | _micro_batch(learning, lms, mesh, rows)
  copies = memory.copies(section.train, lms, mesh, sample_mesh)
  samplers = {
    stage: _sampler(stage, lms, sample_mesh)
    for stage in (step_times.share(x, target.processes) for x in sampled)
  }
  widest = max(samplers, key=lambda s: _sum(samplers[s]), default=None)
  sampling = copies | samplers.get(widest, {})
  scorers = [
    copies
    | forward_memory.scorer(lms[r], sample_mesh, learned, section.microbatches)
    for r in phase.recipe.scored
  ]
  scoring = max(scorers, key=_sum, default={})

  # A stale phase collects its next batch beside the update.
  collect = max(_sum(sampling), _sum(scoring))
  stale = section.staleness
  moments = collect, _sum(update)
  total = _sum(held) + (sum(moments) if stale else max(moments))
  free = target.limit - _sum(held)
  free_to_update = free - (collect if stale else 0)
  free_to_fill = free - _sum(copies) - (_sum(update) if stale else 0)
  times = step_times.of_stages(phase, lms, target, sampled, learned)
  return Phase(
    name=phase.name,
    held=held,
    update=update,
    sampling=sampling,
    scoring=scoring,
    total=total,
    fits=total <= target.limit,
    rows=rows,
    columns=learned.columns,
    most_rows=_max_rows(
      free_to_update / scale.update - _sum(learning.update), learning, lms, mesh
    ),
    slots=math.prod(_shape(widest, lms)) if widest else 0,
    most_slots=_max_slots(
      free_to_fill / scale.sampling, lms, sample_mesh, widest
    ),
    overlong=workload.overlong(phase.recipe, lms),
    times=times,
    seconds=step_times.total(times, stale),
  )


def _frozen_copies(learning, lms, mesh, sample_mesh) -> dict[str, int]:
  """Returns bytes, laid out to sample with, of what a phase does not train."""
  train = learning.phase.config.train
  part = functools.partial(
    abstract.frozen_part, lms=lms, train=train, lenders=learning.lenders
  )
  roles = [r for r in lms if r not in train or lms[r].model.config.lora]
  return memory.copies(roles, lms, mesh, sample_mesh, part)


def _sum(parts) -> int:
  return sum(parts.values())


def _micro_batch(learning: _Learning, lms, mesh, rows) -> dict[str, int]:
  return memory.micro_batch(
    learning.phase, lms, mesh, learning.row_bytes, rows, learning.batch.columns
  )


def _max_rows(num_bytes, learning, lms, mesh) -> int:
  """Counts the rows of a micro-batch that the bytes of each device hold."""
  each = sharding.num_shards(mesh, 'rows')  # a row of each device
  number = bisect.bisect_right(
    range(1, _MAX_COUNT // each + 1),
    num_bytes,
    key=lambda n: _sum(_micro_batch(learning, lms, mesh, n * each)),
  )
  return number * each


def _shape(stage, lms) -> Shape:
  """Returns the prompts of a stage in lanes at once, and rows of each."""
  return lms[stage.role].shape(stage.prompts, stage.samples)


def _sampler(stage, lms, mesh, num_lanes=None) -> dict[str, int]:
  """Returns bytes to sample a stage; None: with the lanes of its shape."""
  lm, shape = lms[stage.role], _shape(stage, lms)
  lanes = num_lanes or shape.num_lanes
  return max(
    (
      forward_memory.sampler(
        lm, mesh, lanes=lanes, rows=shape.num_rows, samples=stage.samples,
        columns=lm.row_length(stage.prompt), program=program,
      )
      for program in forward_memory.inserts(lanes, mesh)
    ),
    key=_sum,
  )  # fmt: skip


def _max_slots(num_bytes, lms, mesh, stage) -> int:
  """Counts the slots that the bytes hold; lanes are a power of two."""
  if stage is None:
    return 0
  lanes_that_fit = [
    num_lanes
    for num_lanes in (2**i for i in range(_MAX_COUNT.bit_length()))
    if _sum(_sampler(stage, lms, mesh, num_lanes)) <= num_bytes
  ]
  return max(lanes_that_fit, default=0) * _shape(stage, lms).num_rows
