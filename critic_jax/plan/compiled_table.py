"""The compiler's word on a run's programs as tables and as JSON."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from critic_jax.plan.compiled import Compiled
from critic_jax.terminal import Console


def show(programs: list[Compiled], phase: str, console: Console) -> None:
  """Prints what the compiler says of the programs of a phase."""
  if not programs:
    return
  console.print(_sizes(programs, phase))
  if any(program.transfers for program in programs):
    console.print(_transfers(programs, phase))
  for program in programs:
    if program.refusal:
      console.print(
        f'{phase}: the compiler has no room for {program.program} '
        f'({program.shape}): {program.refusal}'
      )


def plain(programs: list[Compiled]) -> list[dict[str, Any]]:
  """Returns the programs as plain data for JSON."""
  return [
    {
      **program._asdict(),
      'total': program.total,
      'transfers': [transfer._asdict() for transfer in program.transfers],
    }
    for program in programs
  ]


def _sizes(programs, phase) -> Table:
  """Makes a table of bytes, with the plan's beside, flops and traffic."""
  table = _table(
    'GiB', 'argu-\nments', 'tempo-\nraries', 'all', 'planned', 'Tflop',
    'GB\nmoved', 's',
    title=f'{phase}: as compiled\nof one device; Tflop and GB moved: of one '
    'turn of each loop; s: to compile',
  )  # fmt: skip
  for program in programs:
    sizes = program.arguments, program.temporaries, program.total
    table.add_row(
      _name(program),
      *(['no\nroom'] * 3 if program.refusal else map(_gib, sizes)),
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
