"""Tabulates the results of runs that differ by their seeds.

An experiment's TABLE is one of these, or a list of them:

    dict(evaluation='heldout', columns=('cold_start', 'rl'),
         metrics=('balanced verdict accuracy', ...))       a row for each metric
    dict(evaluation='selection', columns=('cold_start', 'rl'),
         methods=('majority', 'filtered', ...))    a row for each method and k

`columns` are those of results/<evaluation>.json, the phases of a run, or, of
two phases, their 'difference'. A cell is the mean over seeds with the least and
the greatest value, and below it a change: metrics change from the first column,
methods from the first method at the same k and column. A change is the mean of
the seeds' own changes, so that the variation that a seed's columns share
cancels. Runs whose settings differ in more than the seed form groups of rows.

Functions here take `runs`: a list of pairs, the point of the grid and the
results of its run (`reading.all_results`).
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.text import Text

from critic_jax.evals.statistics import Estimate
from critic_jax.report.result_tables import Results, format_estimate
from critic_jax.terminal import Folded

_TEX = {c: f'\\{c}' for c in '{}$&#%_'} | {
  '\\': '\\textbackslash{}',
  '~': '\\textasciitilde{}',
  '^': '\\textasciicircum{}',
  '–': '--',
}

Runs = Sequence[tuple[Mapping[str, Any], Results]]


class Table(NamedTuple):
  """An entry of TABLE, with either `metrics` or `methods`."""

  evaluation: str
  columns: Sequence[str]
  metrics: Sequence[str] = ()
  methods: Sequence[str] = ()


class Cell(NamedTuple):
  """A metric in a column.

  Attributes:
    values: float[S], each seed's value; NaN if it is undefined.
    change: float[S], each seed's change from the baseline; None without one.
  """

  values: np.ndarray
  change: np.ndarray | None


class Row(NamedTuple):
  """A metric of a group of runs, its cells by column."""

  group: str
  metric: str
  cells: dict[str, Cell]


def make_tables(entries, evaluations: Mapping[str, Any]) -> list[Table]:
  """Returns the tables of an experiment.

  Args:
    entries: the experiment's TABLE.
    evaluations: the config's section `evals`.

  Raises:
    ValueError: an entry has another form than the module's docstring says, or
      names something that the config does not measure.
  """
  entries = [entries] if isinstance(entries, Mapping) else entries
  if not isinstance(entries, (list, tuple)) or not entries:
    raise ValueError(
      f'TABLE: got {entries!r}; expected a dict or a list of dicts'
    )
  return [_make_table(entry, evaluations) for entry in entries]


def _make_table(entry, evaluations) -> Table:
  # The form first: names are looked up only in a table that has one.
  names = set(entry) if isinstance(entry, Mapping) else set()
  kind = names - {'evaluation', 'columns'}
  if len(names) != 3 or kind not in ({'metrics'}, {'methods'}):
    raise ValueError(
      f'TABLE: got {entry!r}; expected evaluation, columns, and metrics or '
      'methods'
    )
  table = Table(**entry)
  for name in ('columns', 'metrics', 'methods'):
    value = getattr(table, name)
    if isinstance(value, str) or (name in names and not value):
      raise ValueError(
        f'TABLE: {name}: got {value!r}; expected a list of names'
      )
  _check('evaluation', table.evaluation, evaluations)
  after = evaluations[table.evaluation]['after']
  columns = [*after, *['difference'] * (len(after) == 2)]
  for column in table.columns:
    _check('column', column, columns)
  return table


def _check(kind: str, name: str, choices: Iterable[str]) -> None:
  choices = list(choices)
  if name not in choices:
    nearest = difflib.get_close_matches(str(name), choices, n=1)
    hint = f'; did you mean {nearest[0]!r}?' if nearest else ''
    raise ValueError(
      f'TABLE: {kind}: got {name!r}; expected one of {choices}{hint}'
    )


def rows(table: Table, runs: Runs) -> list[Row]:
  """Returns the rows of a table, group by group.

  Raises:
    ValueError: a run lacks a result.
  """
  groups = {}
  for point, results in runs:
    groups.setdefault(_group(point), []).append(results)
  return [
    Row(group, metric, _cells(table, metric, base, members))
    for group, members in groups.items()
    for metric, base in _metrics(table, members[0])
  ]


def _group(point: Mapping[str, Any]) -> str:
  """Returns the settings of a point without its seed, as text."""
  return ', '.join(f'{k}={v}' for k, v in sorted(point.items()) if k != 'seed')


def _metrics(table, results) -> list[tuple[str, str | None]]:
  """Returns the names of the rows in results, and of their baselines.

  A baseline of None is the same metric in the first column.
  """
  if table.metrics:
    return [(metric, None) for metric in table.metrics]
  prefix = f'selection/{table.methods[0]}@'
  estimates = results.get(table.evaluation, {}).get(table.columns[0], {})
  ks = sorted(method(n)[1] for n in estimates if n.startswith(prefix))
  if not ks:
    raise ValueError(
      f'TABLE: methods: got {table.methods[0]!r}; expected one that was '
      f'measured; results/{table.evaluation}.json has no {prefix}*'
    )
  return [
    (f'selection/{name}@{k}', f'{prefix}{k}')
    for name in table.methods
    for k in ks
  ]


def _cells(table, metric, base, group) -> dict[str, Cell]:
  values = {
    column: _values(table.evaluation, column, metric, group)
    for column in table.columns
  }
  cells = {}
  for column, value in values.items():
    # The first column is the baseline of metrics, and has none itself.
    baseline = None
    if base is None and cells:
      baseline = values[table.columns[0]]
    elif base not in (None, metric):
      baseline = _values(table.evaluation, column, base, group)
    cells[column] = Cell(value, None if baseline is None else value - baseline)
  return cells


def _values(evaluation, column, metric, group) -> np.ndarray:
  """Returns a metric of each run of a group: float[S]."""
  for results in group:
    _check('results of', evaluation, results)
    _check(f'column of {evaluation}', column, results[evaluation])
    _check(f'metric of {evaluation}', metric, results[evaluation][column])
  return np.array(
    [results[evaluation][column][metric].value for results in group]
  )


def over_seeds(values: np.ndarray) -> Estimate:
  """Returns the mean, least and greatest of the finite values of float[S]."""
  defined = values[np.isfinite(values)]
  if not len(defined):
    return Estimate(math.nan, math.nan, math.nan, 0)
  return Estimate(
    *map(float, (defined.mean(), defined.min(), defined.max())), len(defined)
  )


def agree(change: np.ndarray) -> bool:
  """Returns whether there are several seeds with changes of the same sign."""
  return len(change) > 1 and bool((change > 0).all() or (change < 0).all())


def markdown(tables: Sequence[Table], runs: Runs) -> str:
  """Returns the tables as GitHub's Markdown, with a sentence about them."""
  parts = []
  for table in tables:
    width = len(table.columns)
    lines = [[table.evaluation, *map(title, table.columns)]]
    lines.append(['---'] * (1 + width))
    for name, cells in _lines(table, runs):
      texts = [_markdown_cell(*cell) for cell in cells]
      lines.append([name, *texts] if cells else [f'*{name}*'] + [''] * width)
    parts.append('\n'.join(f'| {" | ".join(line)} |' for line in lines))
  return '\n\n'.join([*parts, caption(tables, runs)]) + '\n'


def _markdown_cell(value: str, change: str, bold: bool) -> str:
  number, space, interval = change.partition(' ')
  number = f'**{number}**' if bold else number
  return f'{value}<br>{number}{space}{interval}' if change else value


def terminal(table: Table, runs: Runs) -> Folded:
  """Returns a table for the terminal."""
  names, columns = [Text(table.evaluation)], [[] for _ in table.columns]
  for name, cells in _lines(table, runs):
    names.append(Text(name, '' if cells else 'italic'))
    texts = [_terminal_cell(*cell) for cell in cells]
    for column, text in itertools.zip_longest(columns, texts, fillvalue=Text()):
      column.append(text)
  heads = [Text(title(column)) for column in table.columns]
  return Folded(names, list(zip(heads, columns, strict=True)))


def _terminal_cell(value: str, change: str, bold: bool) -> Text:
  if not change:
    return Text(value)
  return Text(f'{value}\n').append(change, 'bold' if bold else 'dim')


def csv_text(tables: Sequence[Table], runs: Runs) -> str:
  """Returns the tables as CSV: a line for each cell, with shares in [0, 1].

  `seeds` counts the seeds whose metric is defined. The change is empty for a
  cell without a baseline.
  """
  names = ('mean', 'least', 'greatest')
  out = io.StringIO()
  writer = csv.writer(out, lineterminator='\n')
  head = ('evaluation', 'group', 'metric', 'column', 'seeds', *names)
  writer.writerow([*head, *(f'change_{name}' for name in names)])
  for table in tables:
    for row in rows(table, runs):
      for column, cell in row.cells.items():
        value, change = over_seeds(cell.values), ()
        if cell.change is not None:
          change = over_seeds(cell.change)[:3]
        labels = (table.evaluation, row.group, row.metric, column, value.n)
        numbers = [f'{number:.6g}' for number in (*value[:3], *change)]
        writer.writerow([*labels, *numbers, *[''] * (6 - len(numbers))])
  return out.getvalue()


def latex(tables: Sequence[Table], runs: Runs) -> str:
  """Returns the tables as LaTeX for the package booktabs.

  The caption is a comment, and a change is in the line below its value.
  """
  parts = [f'% {_tex(caption(tables, runs))}']
  for table in tables:
    head = [table.evaluation, *map(title, table.columns)]
    lines = [f'\\begin{{tabular}}{{l{"r" * len(table.columns)}}}', '\\toprule']
    lines += [' & '.join(map(_tex, head)) + ' \\\\', '\\midrule']
    for name, cells in _lines(table, runs):
      if not cells:
        name = f'\\multicolumn{{{len(head)}}}{{l}}{{\\emph{{{_tex(name)}}}}}'
        lines.append(f'{name} \\\\')
        continue
      values = [_tex(value) for value, _, _ in cells]
      lines.append(' & '.join([_tex(name), *values]) + ' \\\\')
      changes = [_tex_change(*cell[1:]) for cell in cells]
      if any(changes):
        lines.append(' & '.join(['', *changes]).strip() + ' \\\\')
    parts.append('\n'.join([*lines, '\\bottomrule', '\\end{tabular}']))
  return '\n'.join(parts) + '\n'


def _tex_change(change: str, bold: bool) -> str:
  number, space, interval = _tex(change).partition(' ')
  number = f'\\textbf{{{number}}}' if bold else number
  return f'\\small {number}{space}{interval}' if change else ''


def _tex(text: str) -> str:
  """Returns text with LaTeX's special characters escaped."""
  return re.sub(r'[\\{}$&#%_~^–]', lambda match: _TEX[match[0]], text)


def _lines(table, runs) -> list[tuple[str, list[tuple[str, str, bool]]]]:
  """Returns names with their cells: value, change, and whether seeds agree.

  A group's name comes before its rows, without cells.
  """
  lines, group = [], ''
  for row in rows(table, runs):
    if row.group != group:
      group = row.group
      lines.append((group, []))
    cells = [_texts(cell, row.metric) for cell in row.cells.values()]
    lines.append((title(row.metric), cells))
  return lines


def _texts(cell: Cell, metric: str) -> tuple[str, str, bool]:
  value = _text(cell.values, metric, '')
  if cell.change is None:
    return value, '', False
  return value, _text(cell.change, metric, 'difference'), agree(cell.change)


def caption(tables: Sequence[Table], runs: Runs) -> str:
  """Returns a sentence that explains the numbers of the tables."""
  seeds = sorted({point['seed'] for point, _ in runs if 'seed' in point})
  sample = f'seeds {", ".join(map(str, seeds))}' if seeds else 'one seed'
  bases = {}  # in the order of the tables, each once
  for table in tables:
    if table.metrics and len(table.columns) > 1:
      bases[f'{title(table.columns[0])!r}'] = None
    if len(table.methods) > 1:
      bases[f'{title(table.methods[0])!r} at the same k'] = None
  text = f'Percent (tokens where named): mean [least, greatest] of {sample}'
  if bases:
    text += f'; below, the same of the change from {" or ".join(bases)}'
    text += ', paired by seed, in bold where all seeds agree in its sign'
  return f'{text}.'


def method(metric: str) -> tuple[str, int]:
  """Returns the method and the k of a metric of selection.

  >>> method('selection/filtered@8')
  ('filtered', 8)
  """
  name, _, k = metric.removeprefix('selection/').partition('@')
  return name, int(k)


def title(name: str) -> str:
  """Returns the name of a metric, a column or a method for display.

  >>> title('selection/random_filtered@4')
  'random filtered, k = 4'
  """
  if name.startswith('selection/'):
    name = '{}, k = {}'.format(*method(name))
  return name.replace('_', ' ')


def _text(values: np.ndarray, metric: str, column: str) -> str:
  """Returns '61.3 [55.0, 67.1]' over the seeds with a defined value."""
  estimate = over_seeds(values)
  text = format_estimate(estimate, metric, column)
  if 0 < estimate.n < len(values):
    text += f' ({estimate.n} of {len(values)} seeds)'
  return text
