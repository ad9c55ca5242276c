"""The tables of a report's page: results, differences, verdicts, seconds.

Each function returns values for the template report.html.jinja.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from critic_jax.evals import protocols
from critic_jax.evals.statistics import Estimate
from critic_jax.inspection import comparison, reading
from critic_jax.report import page_data, plots
from critic_jax.report.panels import Columns
from critic_jax.report.result_tables import (
  Results,
  format_estimate,
  headline_rows,
  row_names,
)


def results(
  by_name: Mapping[str, Results],
) -> list[dict[str, Any]]:
  """Returns a table per evaluation, with the columns of all runs abreast."""
  tables = []
  for evaluation in dict.fromkeys(name for r in by_name.values() for name in r):
    by_run = {run: r.get(evaluation, {}) for run, r in by_name.items()}
    columns = {
      (run, column): rows
      for run, table in by_run.items()
      for column, rows in table.items()
    }
    rows = {
      row: [_cell(cells.get(row), row, c) for (_, c), cells in columns.items()]
      for row in row_names(columns.values())
    }
    headlines = headline_rows(rows)
    tables.append(
      {
        'name': evaluation,
        'runs': [(run, len(table)) for run, table in by_run.items() if table],
        'columns': [(c, c == next(iter(by_run[run]))) for run, c in columns],
        'rows': [(row, rows[row]) for row in headlines],
        'others': [item for item in rows.items() if item[0] not in headlines],
      }
    )
  return tables


def changes(runs: Sequence[reading.Run]) -> list[dict[str, Any]]:
  """Returns a table per evaluation: other runs less the first, paired.

  It is after the last phase that all runs were measured after. Seeds of the
  same settings are pooled; runs that differ by seeds only are each their own.
  """
  groups = comparison.groups(runs)
  if len(groups) == 1:
    [members] = groups.values()
    groups = {name: {name: run} for name, run in members.items()}
  (first, before), *others = (
    (name, list(members.values())) for name, members in groups.items()
  )
  tables = []
  for phase in (name for name in runs[0].steps if name.startswith('eval/')):
    stems = [
      stem
      for stem in runs[0].config.get('order') or runs[0].steps[phase]
      if all(stem in run.steps.get(phase, ()) for run in runs)
    ]
    if not others or not stems:
      continue
    view = {'name': f'{phase.removeprefix("eval/")}, {stems[-1]}'}
    try:
      columns = {
        name: comparison.changes(before, after, _compare, stems[-1], phase)
        for name, after in others
      }
    except ValueError as error:  # the runs are not about the same problems
      tables.append(view | {'problem': str(error)})
      continue
    rows = {
      row: [_cell(c.get(row), row, 'difference') for c in columns.values()]
      for row in headline_rows(row_names(columns.values()))
    }
    view |= {'runs': [(f'less {first}', len(columns))], 'rows': rows.items()}
    view['columns'] = [(name, False) for name in columns]
    tables.append(view | {'problem': ''})
  return tables


def _compare(before, after):
  is_refined = any(record.stage == 'refine' for record in (*before, *after))
  return protocols.compare(before, after, refined=is_refined)


def _cell(estimate: Estimate | None, row: str, column: str) -> dict[str, Any]:
  value, _, interval = format_estimate(estimate, row, column).partition(' ')
  return {
    'value': value.replace('-', '\N{MINUS SIGN}'),
    'interval': interval.replace('-', '\N{MINUS SIGN}'),
    'n': estimate.n if estimate else 0,
    # A difference is clear if its interval excludes 0.
    'kind': ''
    if column != 'difference' or (estimate and estimate.low * estimate.high > 0)
    else 'unclear',
  }


def verdicts(file: page_data.File) -> dict[str, Any]:
  """Returns a row of the table of verdicts on right and wrong solutions."""
  step = f'step {file.step}' if isinstance(file.step, int) else file.step
  cells = []
  for right, counts in file.confusion.items():
    total = sum(counts.values())
    cells.append({'count': total, 'percent': None, 'kind': ''})
    names = ('correct', 'incorrect') if right else ('incorrect', 'correct')
    for verdict, kind in zip(
      (*names, None), ('good', 'bad', 'none'), strict=True
    ):
      percent = 100 * counts[verdict] / total if total else None
      cells.append({'count': counts[verdict], 'percent': percent, 'kind': kind})
  return {'name': f'{file.phase}, {step.replace("_", " ")}', 'cells': cells}


def seconds(columns: Columns) -> tuple[list[str], list[tuple[str, list[str]]]]:
  """Returns the median seconds of a step and its parts, in the phases.

  Returns:
    The names of the parts, the longest first, and rows: a phase, and a text for
    each part.
  """
  medians = {}
  for name, column in columns.items():
    part = re.fullmatch(r'time/(\w+(?<!_per))_s', name)
    for phase in plots.spans(columns) if part else ():
      values = column[(columns['phase'] == phase) & np.isfinite(column)]
      if len(values):
        medians.setdefault(part[1], {})[phase] = float(np.median(values))
  parts = sorted(
    (part for part, by_phase in medians.items() if any(by_phase.values())),
    key=lambda part: (part != 'step', -max(medians[part].values())),
  )
  rows = [
    (
      phase,
      [
        f'{medians[part][phase]:.2g}' if phase in medians[part] else '–'
        for part in parts
      ],
    )
    for phase in plots.spans(columns)
  ]
  return [part.replace('_', ' ') for part in parts], rows if parts else []
