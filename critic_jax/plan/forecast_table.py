"""A plan as tables and as JSON."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from critic_jax.plan.forecast import Phase, Plan
from critic_jax.terminal import Console


def show(plan: Plan, title: str, console: Console) -> None:
  """Prints the plan: memory of a device, then the stages of a step."""
  console.print(f'{title}, {_sizes(plan.mesh)}')
  if plan.sample_mesh != plan.mesh:
    console.print(f'to sample with, in a process: {_sizes(plan.sample_mesh)}')
  for role, number in plan.parameters.items():
    console.print(f'{role}: {number:,} parameters')
  for line in plan.choices:
    console.print(line)
  for phase in plan.phases:
    console.print(_memory(phase, plan.memory))
    console.print(_times(phase))
    for stage, (length, limit) in phase.overlong.items():
      console.print(
        f'{phase.name}: prompts of {stage} may hold {length:,} tokens of '
        f'responses and have at most {limit:,}; longer ones are refused'
      )
  if plan.better:
    console.print(advice(plan), soft_wrap=True)
  else:
    for phase in plan.phases:
      if not phase.fits:
        console.print(misfit(phase, plan.processes), soft_wrap=True)


def flags(sizes: dict[str, int], name: str = 'sample_mesh') -> str:
  """Returns the flags that make a mesh the one to sample on, or to train on.

  >>> flags(dict(data=8, tensor=4, sequence=1))
  '--config.sample_mesh.data=8 --config.sample_mesh.tensor=4'
  """
  return ' '.join(
    f'--config.{name}.{axis}={size}'
    for axis, size in sizes.items()
    if axis != 'sequence'
  )


def advice(plan: Plan) -> str:
  """Says which flags are better, and by how much."""
  layout = plan.better
  fits = all(phase.fits for phase in plan.phases)
  seconds = '; '.join(
    f'{phase.name}: {layout.seconds[phase.name]:,.1f} s a step instead of '
    f'{phase.seconds:,.1f}'
    for phase in plan.phases
    if layout.seconds[phase.name] != phase.seconds
  )
  settings = flags(layout.sizes)
  if layout.mesh:
    settings = f'{flags(layout.mesh, "mesh")} {settings}'
  return (
    f'{"faster" if fits else "this fits"}: {settings}\n'
    f'({seconds}; {_gib(layout.total)} GiB of a device at most)'
  )


def misfit(phase: Phase, processes: int) -> str:
  """Says what a phase that fits in no layout of sampling would need."""
  settings = []
  if phase.rows > phase.most_rows > 0:
    settings.append(
      f'raise phases.{phase.name}.microbatches, for at most '
      f'{phase.most_rows:,} rows each'
    )
  if phase.slots > phase.most_slots > 0:
    settings.append(
      'lower max_rows of the models that sample to '
      f'{processes * phase.most_slots:,}'
    )
  return f'{phase.name} does not fit: ' + (
    '; '.join(settings) or 'use more devices, or a larger fsdp or tensor'
  )


def largest(
  phase: Phase, most_rows: int | None = None, most_slots: int | None = None
) -> str:
  """Says which rows and slots were compiled and fit, beside the plan's.

  Args:
    phase: the plan of a phase.
    most_rows: those of the largest micro-batch; None: no update was compiled.
    most_slots: likewise, of sampling.
  """
  rows = f'rows of {phase.columns:,} in a micro-batch'
  parts = [
    f'{number:,} {name} (planned: at most {planned:,})'
    for number, name, planned in (
      (most_rows, rows, phase.most_rows),
      (most_slots, 'slots', phase.most_slots),
    )
    if number is not None
  ]
  return (
    f'{phase.name}: compiled, and the largest of a step that fit: '
    f'{" and ".join(parts)}'
  )


def _sizes(mesh: dict[str, int]) -> str:
  return ', '.join(f'{axis}={size}' for axis, size in mesh.items())


def _memory(phase: Phase, limit: float) -> Table:
  table = Table(
    'GiB of a device', '', title=f'{phase.name}: memory', box=box.SIMPLE
  )
  table.columns[1].justify = 'right'
  # The parts by moment, with what is held throughout first.
  parts = {
    '': phase.held,
    'update': phase.update,
    'sampling': phase.sampling,
    'scoring': phase.scoring,
  }
  for moment, sizes in parts.items():
    for name, size in sizes.items():
      table.add_row(f'{moment}: {name}' if moment else name, _gib(size))
  table.add_section()
  verdict = 'fits' if phase.fits else 'does not fit'
  table.add_row(f'the most at once: {verdict}', _gib(phase.total))
  table.add_row('that arrays may take', _gib(limit))
  table.add_section()
  rows = f'{phase.rows:,} of at most {phase.most_rows:,}'
  table.add_row(f'rows of {phase.columns:,} tokens in a micro-batch', rows)
  if phase.slots:
    slots = f'{phase.slots:,} of at most {phase.most_slots:,}'
    table.add_row('slots: responses decoded at once', slots)
  return table


def _times(phase: Phase) -> Table:
  title = f'{phase.name}: {phase.seconds:,.1f} s a step'
  table = Table(
    'stage', 'role', 'rows', 'tokens', 's', 'tokens/s', 'bound by',
    title=title, box=box.SIMPLE,
  )  # fmt: skip
  table.columns[0].no_wrap = True
  for column in table.columns[2:6]:
    column.justify = 'right'
  for time in phase.times:
    table.add_row(
      time.stage, time.role, f'{time.rows:,}', f'{time.tokens:,}',
      f'{time.seconds:,.2f}', f'{time.tokens / time.seconds:,.0f}', time.bound,
    )  # fmt: skip
  return table


def _gib(size: float) -> str:
  return f'{size / 2**30:,.2f}'


def plain(plan: Plan) -> dict[str, Any]:
  """Returns the plan as plain data for JSON."""
  phases = []
  for phase in plan.phases:
    times = [
      {**t._asdict(), 'seconds': t.seconds, 'bound': t.bound}
      for t in phase.times
    ]
    phases.append({**phase._asdict(), 'times': times})
  better = plan.better and plan.better._asdict()
  return {**plan._asdict(), 'phases': phases, 'better': better}
