"""The compiler's word on a run's programs as tables and as JSON."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from critic_jax.plan.compiled import Compiled
from critic_jax.terminal import Console

_CLOSE = 0.15  # of the compiled bytes: the most that a plan is off unexplained


def show(
  programs: list[Compiled], phase: str, memory: float, console: Console
) -> None:
  """Prints what the compiler says of the programs of a phase.

  Args:
    programs: the programs.
    phase: the phase's name.
    memory: bytes of a device of the chip.
    console: where it is printed.
  """
  if not programs:
    return
  console.print(_sizes(programs, phase, memory))
  if any(program.transfers for program in programs):
    console.print(_transfers(programs, phase))
  for program in programs:
    name = f'{phase}, {program.program}, {program.shape}'
    if program.refusal:
      console.print(f'{name}: no room: {program.refusal}', soft_wrap=True)
    elif abs(program.estimate - program.total) > _CLOSE * program.total:
      console.print(f'{name}: {difference(program)}', soft_wrap=True)


def difference(program: Compiled) -> str:
  """Says how far the plan is from the compiler, and of which parts it is."""
  parts = ', '.join(
    f'{_gib(size)} of {name}' for name, size in program.planned.items()
  )
  times = program.estimate / program.total
  return (
    f'planned {times:,.2f} times as much: compiled {_gib(program.arguments)} '
    f'GiB of arguments, {_gib(program.temporaries + program.results)} of '
    f'temporaries; planned {parts}'
  )


def plain(programs: list[Compiled]) -> list[dict[str, Any]]:
  """Returns the programs as plain data for JSON."""
  return [
    {
      **program._asdict(),
      'total': program.total,
      'estimate': program.estimate,
      'transfers': [transfer._asdict() for transfer in program.transfers],
    }
    for program in programs
  ]


def _sizes(programs, phase, memory) -> Table:
  """Makes a table of bytes, with the plan's beside, flops and traffic."""
  table = _table(
    'GiB', 'argu-\nments', 'tempo-\nraries', 'all', 'of\nchip', 'plan-\nned',
    'Tflop', 'GB\nmoved', 's',
    title=f'{phase}: as compiled\nof one device, which has {_gib(memory)} GiB; '
    'Tflop and GB moved: of one turn\nof each loop; s: to compile',
  )  # fmt: skip
  for program in programs:
    sizes = program.arguments, program.temporaries, program.total
    share = f'{program.total / memory:.0%}'
    table.add_row(
      _name(program),
      *(['no\nroom'] * 4 if program.refusal else (*map(_gib, sizes), share)),
      _gib(program.estimate), _scaled(program.flops, 1e12),
      _scaled(program.bytes_accessed, 1e9), f'{program.seconds:,.0f}',
    )  # fmt: skip
  return table


def _transfers(programs, phase) -> Table:
  """Makes a table of the collectives of each program, by loop."""
  table = _table(
    'MB', 'kind', 'in', 'all', 'largest',
    title=f'{phase}: results of collectives on a device, by loop',
  )  # fmt: skip
  for column in table.columns[1:3]:
    column.justify = 'left'
  for program in programs:
    name = _name(program)
    for transfer in program.transfers:
      table.add_row(
        name, transfer.kind, transfer.loop,
        _scaled(transfer.num_bytes, 1e6), _scaled(transfer.largest, 1e6),
      )  # fmt: skip
      name = ''
  return table


def _table(*heads: str, title: str) -> Table:
  """Makes a table whose first column is as wide as the others leave it."""
  table = Table(*heads, title=title, box=box.SIMPLE, padding=(0, 1, 0, 0))
  for column in table.columns[1:]:
    column.justify, column.no_wrap = 'right', True
  return table


def _name(program: Compiled) -> str:
  return f'{program.program}, {program.role}\n{program.shape}'


def _gib(size: float) -> str:
  return f'{size / 2**30:,.2f}'


def _scaled(number: float | None, unit: float) -> str:
  return '' if number is None else f'{number / unit:,.2f}'
