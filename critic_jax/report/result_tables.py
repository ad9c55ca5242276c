"""Estimates as text, and tables of them for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from rich.text import Text

from critic_jax.evals.statistics import Estimate, display_scale
from critic_jax.terminal import Folded, printable

# Estimates of an evaluation by column and row.
Columns = Mapping[str, Mapping[str, Estimate]]
# The columns of a run by evaluation.
Results = Mapping[str, Columns]


def results_table(columns: Columns, title: str) -> Folded:
  """Returns a table with a row per metric, "value [low, high]" in percent.

  Args:
    columns: estimates by column and row. The column 'difference' is signed.
      Rows whose name contains 'tokens' or 'length' are not in percent.
    title: the line above the table.
  """
  names = row_names(columns.values())
  cells = {
    column: [Text(format_estimate(rows.get(row), row, column)) for row in names]
    for column, rows in columns.items()
  }
  return Folded(
    [Text(''), *(Text(printable(row)) for row in names)],
    [(Text(printable(name)), column) for name, column in cells.items()],
    title,
    'percent (tokens where named), with 95 % intervals over problems',
  )


def row_names(columns: Iterable[Mapping[str, Estimate]]) -> list[str]:
  """Returns the names of the rows that any column has, each once, in order."""
  return list(dict.fromkeys(name for rows in columns for name in rows))


def headline_rows(names: Iterable[str]) -> list[str]:
  """Returns the rows to show first: names without a protocol, or all names.

  >>> headline_rows(['balanced verdict accuracy', 'critique/precision'])
  ['balanced verdict accuracy']
  >>> headline_rows(['critique/precision', 'critique/recall'])
  ['critique/precision', 'critique/recall']
  """
  names = list(names)
  return [name for name in names if '/' not in name] or names


def format_estimate(estimate: Estimate | None, row: str, column: str) -> str:
  """Returns '61.3 [55.0, 67.1]', signed in the column 'difference'.

  An absent or undefined estimate is '–'.
  """
  if estimate is None or math.isnan(estimate.value):
    return '–'
  scale = display_scale(row)
  sign = '+' if column == 'difference' else ''
  value, low, high = (f'{scale * x:{sign}.1f}' for x in estimate[:3])
  return f'{value} [{low}, {high}]'
