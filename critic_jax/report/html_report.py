"""Run directories -> one HTML page that needs no network and no server.

    python -m critic_jax.report RUN                writes RUN/report.html
    python -m critic_jax.report RUN RUN [--out F]  writes one that compares runs

A page has everything inside: the results of `<run>/results/*.json`,

    {"columns": {"cold start": {"verdict accuracy": {"value": 0.5, "low": 0.4,
                                                     "high": 0.6, "n": 100}}}}

limits that were crossed, curves of metrics.jsonl (for one run in
`<run>/plots/*.png` too), how often each verdict was true, and a browser of the
saved records; `report_data` says which of them, `report.js` is its script.
Every text is escaped, and a Content-Security-Policy lets nothing run but that
script, and nothing be loaded.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import rich.box
import rich.table
import rich.text
from rich.console import Console

from critic_jax.evals import selection
from critic_jax.evals.statistics import Estimate, display_scale
from critic_jax.inspection import comparison, reading
from critic_jax.report import page_data, plots

MAX_APPENDIX = 40_000  # characters of the git diff or the list of packages

# By evaluation, column and row.
Results = Mapping[str, Mapping[str, Mapping[str, Estimate]]]

_FOLDER = Path(__file__).parent
_APPENDIX = {
  'Command': 'command.txt',
  'Config': 'config.json',
  'Overrides': 'overrides.json',
  'Code (git)': 'git.txt',
  'Environment': 'env.txt',
}


def results_table(
  results: Mapping[str, Mapping[str, Estimate]], title: str
) -> rich.table.Table:
  """A table for the terminal: a metric a row, "value [low, high]" in percent.

  Args:
    results: estimates by column and row; the column 'difference' is signed, and
      rows whose name has 'tokens' or 'length' are not shares: no percent.
    title: above the table.
  """
  table = rich.table.Table(
    title=_printable(title),
    caption='percent (tokens where named), with 95 % intervals over problems',
    title_justify='left',
    caption_justify='left',
    box=rich.box.SIMPLE_HEAD,
    padding=(0, 1, 0, 0),
  )
  table.add_column('', min_width=12)
  for column in results:
    table.add_column(_printable(column), justify='right', no_wrap=True)
  for row in _rows(results):
    cells = [format_estimate(results[c].get(row), row, c) for c in results]
    table.add_row(_printable(row), *cells)
  return table


def _printable(text: str) -> rich.text.Text:
  """A name as a terminal may show it: no markup, no control characters."""
  shown = (c if c.isprintable() else '\N{REPLACEMENT CHARACTER}' for c in text)
  return rich.text.Text(''.join(shown))


def _rows(results: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
  return list(dict.fromkeys(row for rows in results.values() for row in rows))


def format_estimate(estimate: Estimate | None, row: str, column: str) -> str:
  """'61.3 [55.0, 67.1]', signed in a column 'difference', '–' if undefined."""
  if estimate is None or math.isnan(estimate.value):
    return '–'
  scale = display_scale(row)
  sign = '+' if column == 'difference' else ''
  value, low, high = (f'{scale * x:{sign}.1f}' for x in estimate[:3])
  return f'{value} [{low}, {high}]'


def write(*paths: str | Path, out: str | Path | None = None) -> Path:
  """Writes one page about a run, or about several side by side.

  Args:
    *paths: the runs' folders.
    out: the page; None: report.html in the folder of the run, for several
      comparison.html in the current folder. The folder of a single run gets
      plots/ too.

  Returns:
    The path of the page.

  Raises:
    ValueError: a path is no run's folder, or a file in it is broken.
  """
  runs = [reading.load(path) for path in paths]
  names = comparison.names(runs)
  named = dict(zip(names, runs, strict=True))
  results = {name: reading.all_results(run) for name, run in named.items()}
  columns = {name: reading.metrics(run) for name, run in named.items()}
  if len(runs) == 1:
    figures = plots.write(columns[names[0]], runs[0].path / 'plots')
    target = runs[0].path / 'report.html'
  else:
    figures = plots.compare(columns)
    target = Path('comparison.html')
  files = page_data.read(runs)
  views = [
    _run_view(run, name, columns[name], [f for f in files if f.run == number])
    for number, (name, run) in enumerate(named.items())
  ]
  page = _template().render(
    title=names[0] if len(runs) == 1 else f'{len(runs)} runs compared',
    runs=views,
    differing=_differing(runs),
    results=_results_view(results),
    plots=figures + _selection_figures(results),
    **_browser_view(runs, names, files),
  )
  target = Path(out or target)
  # What a model wrote may hold lone surrogates, which UTF-8 has not.
  target.write_text(page, encoding='utf-8', errors='replace')
  return target


def _browser_view(runs, names, files) -> dict[str, Any]:
  """The records, the script that shows them, and how many there are."""
  script = ''.join(
    (_FOLDER / file).read_text(encoding='utf-8')
    for file in ('report_text.js', 'report.js')
  )
  num_shown, data = page_data.to_json(names, files)
  return {
    'data': data,
    'script': script,
    'script_hash': base64.b64encode(
      hashlib.sha256(script.encode()).digest()
    ).decode(),
    'num_shown': num_shown,
    'num_trees': sum(len(file.trees) for file in files),
    'num_files': len(files),
    'num_saved': sum(len(s) for run in runs for s in run.steps.values()),
  }


def _template() -> jinja2.Template:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template('report.html.jinja')


def _run_view(run, name, columns, files) -> dict[str, Any]:
  """What the page shows of a run by itself."""
  return {
    'name': name,
    'facts': _facts(run, columns),
    'failure': _text(run.path / 'FAILED'),
    'verdicts': [
      _verdicts(file) for file in files if any(file.confusion.values())
    ],
    'warnings': _warnings(run),
    'summary': reading.summary(columns),
    'appendix': {
      title: _text(run.path / file) for title, file in _APPENDIX.items()
    },
  }


def _warnings(run: reading.Run) -> list[dict[str, Any]]:
  """Of each limit the first warning, and 'later': the steps of the others.

  A metric that wavers about its limit is told of often, and must not hide
  another's.
  """
  found = {}
  for row in reading.warnings(run):
    metric = row['warning'].partition(' = ')[0]
    found.setdefault((row['phase'], metric), []).append(row)
  return [
    rows[0] | {'later': [row['step'] for row in rows[1:]]}
    for rows in found.values()
  ]


def _differing(runs: Sequence[reading.Run]) -> list[tuple[str, list[str]]]:
  """The settings in which the runs' configs differ, with their values."""
  points = comparison.points(runs)
  return [
    (name, ['–' if p[name] is None else json.dumps(p[name]) for p in points])
    for name in points[0]
  ]


def _text(path: Path) -> str:
  text = path.read_text(errors='replace').strip() if path.exists() else ''
  return page_data.cut(text, MAX_APPENDIX)


def _facts(run, columns) -> dict[str, str]:
  facts = {'state': run.state}
  if len(columns['step']):
    start, end = map(_clock, columns['time'][[0, -1]])
    hours = (columns['time'][-1] - columns['time'][0]) / 3600
    spent = f'{hours:.1f} h' if hours >= 1 else f'{60 * hours:.1f} min'
    facts['logged'] = f'{start} to {end} ({spent})'
    facts['phases'] = ', '.join(
      f'{phase}: steps {low} to {high}'
      for phase, (low, high) in plots.spans(columns).items()
    )
    if 'time/step_s' in columns:
      facts['seconds a step'] = '; '.join(
        _seconds(columns, phase) for phase in plots.spans(columns)
      )
  for line in _text(run.path / 'git.txt').splitlines()[:1]:
    facts['code'] = line
  for line in _text(run.path / 'env.txt').splitlines():
    kind, _, rest = line.partition(' ')
    if kind in ('python', 'devices') and rest:
      facts[kind] = rest.split('(')[0].strip()
  return facts


def _clock(seconds: float) -> str:
  try:
    return time.strftime('%Y-%m-%d %H:%M', time.localtime(seconds))
  except (ValueError, OverflowError, OSError):  # NaN, or beyond all calendars
    return '–'


def _seconds(columns, phase) -> str:
  """The median step of a phase, and of its parts those that are known."""
  medians = {}
  for name, column in columns.items():
    stage = re.fullmatch(r'time/(\w+(?<!_per))_s', name)
    values = column[columns['phase'] == phase]
    values = [x for x in values.tolist() if x == x] if stage else []
    if values:
      medians[stage[1].replace('_', ' ')] = statistics.median(values)
  whole = medians.pop('step', math.nan)
  parts = sorted(medians.items(), key=lambda item: -item[1])
  known = ', '.join(f'{stage} {value:.2g}' for stage, value in parts if value)
  return f'{phase} {whole:.2g} ({known})'


def _results_view(
  results: Mapping[str, Results],
) -> list[dict[str, Any]]:
  """For each evaluation a table, the columns of all runs beside each other."""
  tables = []
  for evaluation in dict.fromkeys(name for r in results.values() for name in r):
    found = {run: r.get(evaluation, {}) for run, r in results.items()}
    columns = {
      (run, column): rows
      for run, table in found.items()
      for column, rows in table.items()
    }
    rows = [
      (row, [_cell(rows.get(row), row, c) for (_, c), rows in columns.items()])
      for row in _rows(columns)
    ]
    first, others = _first(rows)
    tables.append(
      {
        'name': evaluation,
        'runs': [(run, len(table)) for run, table in found.items() if table],
        'columns': [(c, c == next(iter(found[run]))) for run, c in columns],
        'rows': first,
        'others': others,
      }
    )
  return tables


def _first(rows: Sequence[tuple[str, Any]]) -> tuple[list, list]:
  """The rows that stand first, and the others, named 'protocol/metric'."""
  first = [row for row in rows if '/' not in row[0]] or rows
  return first, [row for row in rows if row not in first]


def _selection_figures(results: Mapping[str, Results]) -> list[dict[str, str]]:
  """Of each column with rows 'selection/<method>@<k>' their curves over k."""
  figures = []
  for run, tables in results.items():
    for evaluation, table in tables.items():
      for column, rows in table.items():
        curves = selection.curves_of(rows)
        if curves and column != 'difference':
          named = (run, evaluation, column)[len(results) == 1 :]
          title = f'Choosing among k solutions: {", ".join(named)}'
          figures.append(plots.selection_panel(curves, title))
  return figures


def _cell(estimate: Estimate | None, row: str, column: str) -> dict[str, Any]:
  value, _, interval = format_estimate(estimate, row, column).partition(' ')
  return {
    'value': value.replace('-', '\N{MINUS SIGN}'),
    'interval': interval.replace('-', '\N{MINUS SIGN}'),
    'n': estimate.n if estimate else 0,
  }


def _verdicts(file: page_data.File) -> dict[str, Any]:
  """A row of the table of verdicts: for right and for wrong solutions."""
  step = f'step {file.step}' if isinstance(file.step, int) else file.step
  cells = []
  for right, counts in file.confusion.items():
    total = sum(counts.values())
    cells.append({'count': total, 'percent': None, 'kind': ''})
    said = ('correct', 'incorrect') if right else ('incorrect', 'correct')
    for verdict, kind in zip(
      (*said, None), ('good', 'bad', 'none'), strict=True
    ):
      percent = 100 * counts[verdict] / total if total else None
      cells.append({'count': counts[verdict], 'percent': percent, 'kind': kind})
  return {'name': f'{file.phase}, {step.replace("_", " ")}', 'cells': cells}


def main(arguments: Sequence[str] | None = None) -> None:
  """Writes the report of the runs named, and prints their result tables."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('runs', nargs='+', metavar='RUN', help="a run's folder")
  parser.add_argument(
    '--out',
    metavar='PATH',
    help='the page (RUN/report.html; of several runs comparison.html here)',
  )
  parsed = parser.parse_args(arguments)
  # A log file is no narrow terminal: there rows stay on one line.
  console = Console(width=None if sys.stdout.isatty() else 120)
  target = write(*parsed.runs, out=parsed.out)
  for path in parsed.runs:
    results = reading.all_results(reading.load(path))
    for evaluation, table in results.items():
      first = {c: dict(_first(list(r.items()))[0]) for c, r in table.items()}
      console.print(results_table(first, f'{path}: {evaluation}'))
  console.print(str(target), soft_wrap=True, highlight=False)
