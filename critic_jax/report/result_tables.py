"""Estimates as text, and tables of them for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import rich.box
import rich.table
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.text import Text

from critic_jax.evals.statistics import Estimate, display_scale
from critic_jax.terminal import printable

# Estimates of an evaluation by column and row.
Columns = Mapping[str, Mapping[str, Estimate]]
# The columns of a run by evaluation.
Results = Mapping[str, Columns]


class Folded:
  """A table that goes on below where a line is too short for its columns.

  The parts have the same rows, and no number is cut.

  Args:
    names: the first column's: its head, then a name for each row.
    columns: of each other column the head and the cells, one or more lines.
    title: above the table; '' for none.
    caption: below it; '' for none.
  """

  def __init__(
    self,
    names: Sequence[Text],
    columns: Sequence[tuple[Text, Sequence[Text]]],
    title: str = '',
    caption: str = '',
  ):
    self._names, self._columns = names, columns
    self._title, self._caption = title, caption

  def __rich_console__(
    self, console: Console, options: ConsoleOptions
  ) -> Iterator[RenderableType]:
    """Yields the title, as many tables as there must be, and the caption."""
    endless = options.update(width=10_000)
    part: list[tuple[Text, Sequence[Text]]] = []
    if self._title:
      yield Text(printable(self._title), 'italic')
    for column in self._columns:
      longer = self._table([*part, column])
      width = Measurement.get(console, endless, longer).minimum
      if part and width > options.max_width:
        yield self._table(part)
        part = []
      part.append(column)
    yield self._table(part)
    if self._caption:
      yield Text(self._caption, 'dim italic')

  def _table(self, columns) -> rich.table.Table:
    """Returns the table of some of the columns."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(self._names[0], min_width=12)
    for head, cells in columns:
      lines = [line for cell in cells for line in cell.plain.split('\n')]
      width = max(map(len, lines), default=1)
      table.add_column(head, justify='right', min_width=width)
    for row, name in enumerate(self._names[1:]):
      table.add_row(name, *(cells[row] for _, cells in columns))
    return table


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
