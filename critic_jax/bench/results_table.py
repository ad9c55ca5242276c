"""The results as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from critic_jax.bench import rounds

NOTE = """\
matmul, bandwidth: the least flops and bytes of the work over those that the
machine could do in the time. of limit: the least time of both, phase by phase,
over the time. MiB: high-water mark of the process, or on a GPU. program: MiB
that the compiled update holds. first: seconds of the first round less the
others'. times ours: seconds over ours, median and extremes of the rounds."""
WIDTH = 140  # columns of the table where no terminal has a width
_COLUMNS = (
  'work', 'system', 's', 'tok/s', 'matmul', 'bandwidth', 'of limit', 'MiB',
  'program', 'first', 'times ours',
)  # fmt: skip


def make(
  results: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], dtype: str
) -> Table:
  """Returns a table with a row for each work and system.

  Args:
    results: the results of `rounds.run`.
    machine: the result of `machine.limits`.
    dtype: the dtype of the works.
  """
  table = Table(
    *_COLUMNS, title=title(machine, dtype), caption=NOTE, box=box.SIMPLE
  )
  for column in table.columns:
    column.no_wrap = True
  for column in table.columns[2:]:
    column.justify = 'right'
  for result in results:
    for system, facts in result['systems'].items():
      name = result['work']['name']
      if 'error' in facts:
        # The error stands below the table in full: see `errors`.
        table.add_row(name, system, 'failed', *([''] * 8))
      else:
        table.add_row(name, system, *_cells(result, system, machine, dtype))
    table.add_section()
  return table


def title(machine: Mapping[str, Any], dtype: str) -> str:
  """Describes the machine."""
  flops = machine['matmul_flops'][dtype] / 1e9
  return (
    f'{machine["processor"]}, {machine["cores"]} cores, {machine["device"]}, '
    f'{dtype}: {flops:.0f} GFLOP/s, {machine["bandwidth"] / 1e9:.1f} GB/s'
  )


def errors(results: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns a line for each system that failed at a work."""
  return [
    f'{result["work"]["name"]}: {facts["error"]}'
    for result in results
    for facts in result['systems'].values()
    if 'error' in facts
  ]


def _cells(result, system, machine, dtype):
  facts = result['systems'][system]
  use = rounds.utilisation(result, system, machine, dtype)
  ratio = result['ratios'].get(system)
  return (
    f'{facts["median_seconds"]:.3g}',
    f'{use["tokens_per_second"]:.0f}',
    *(f'{use[name]:.0%}' for name in ('matmul', 'bandwidth', 'of_limit')),
    _size(facts.get('device_bytes', facts['peak_bytes'])),
    _size(facts['compiled_bytes']) if 'compiled_bytes' in facts else '',
    f'{facts["compile_seconds"]:.1f}',
    f'{ratio["median"]:.2f} ({ratio["low"]:.2f}..{ratio["high"]:.2f})'
    if ratio
    else '',
  )


def _size(num_bytes: int) -> str:
  return f'{num_bytes / 2**20:.0f}'


def write(
  path: Path,
  results: Sequence[Mapping[str, Any]],
  machine: Mapping[str, Any],
  settings: Mapping[str, Any],
) -> None:
  """Writes 'machine', 'settings' and 'results' as JSON.

  Each system that did not fail also gets its 'utilisation'.
  """
  rows = []
  for result in results:
    systems = {
      name: facts
      if 'error' in facts
      else facts
      | {
        'utilisation': rounds.utilisation(
          result, name, machine, settings['dtype']
        )
      }
      for name, facts in result['systems'].items()
    }
    rows.append({**result, 'systems': systems})
  content = {'machine': machine, 'settings': settings, 'results': rows}
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(content, indent=2) + '\n')
