"""Writes a run, or several, as one HTML page that needs no network or server.

    python -m critic_jax.report RUN                writes RUN/report.html
    python -m critic_jax.report RUN RUN [--out F]  writes a comparison of runs

The page is self-contained. It shows the results of `<run>/results/*.json`,

    {"columns": {"cold start": {"verdict accuracy": {"value": 0.5, "low": 0.4,
                                                     "high": 0.6, "n": 100}}}}

the limits that were crossed, the curves of metrics.jsonl (those of a single run
are also written to `<run>/plots/*.png`), how often each verdict was true, and a
browser of the saved records: `page_data` chooses them, `report.js` is its
script. Every text is escaped, and a Content-Security-Policy allows that script
and nothing else to run, and nothing to be loaded.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from critic_jax import files
from critic_jax.evals import selection
from critic_jax.inspection import comparison, reading
from critic_jax.report import eval_plots, page_data, page_tables, plots
from critic_jax.report.result_tables import (
  Results,
  headline_rows,
  results_table,
)
from critic_jax.terminal import Console

MAX_APPENDIX = 40_000  # characters of the git diff or the list of packages
MAX_FILE = 10_000_000  # bytes that are read of one of these files

_FOLDER = Path(__file__).parent
_APPENDIX = {
  'Command': 'command.txt',
  'Config': 'config.json',
  'Overrides': 'overrides.json',
  'Code (git)': 'git.txt',
  'Environment': 'env.txt',
}
_EXAMPLES = """examples:
  python -m critic_jax.report runs/quickstart
  python -m critic_jax.report runs/seed0 runs/seed1 --out both.html"""


def write(*paths: str | Path, out: str | Path | None = None) -> Path:
  """Writes one page about a run, or about several side by side.

  The plots of a single run are also written to plots/ in its folder.

  Args:
    *paths: the folders of the runs.
    out: the path of the page, by default report.html in the folder of a
      single run, and comparison.html in the current folder for several.

  Returns:
    The path of the page.

  Raises:
    ValueError: a path is not the folder of a run, or a file in it is broken.
  """
  runs = [reading.load(path) for path in paths]
  names = comparison.names(runs)
  named = dict(zip(names, runs, strict=True))
  results = {name: reading.all_results(run) for name, run in named.items()}
  columns = {name: reading.metrics(run) for name, run in named.items()}
  if len(runs) == 1:
    figures = plots.write(columns[names[0]], runs[0].path)
    target = runs[0].path / 'report.html'
  else:
    figures = plots.compare(columns)
    target = Path('comparison.html')
  saved = page_data.read(runs)
  views = [
    _run_view(run, name, columns[name], [f for f in saved if f.run == number])
    for number, (name, run) in enumerate(named.items())
  ]
  page = _template().render(
    title=names[0] if len(runs) == 1 else f'{len(runs)} runs compared',
    runs=views,
    differing=_differing(runs),
    results=page_tables.results(results),
    changes=page_tables.changes(runs),
    plots=figures + _selection_figures(results),
    **_browser_view(runs, names, saved),
  )
  target = Path(out or target)
  # Texts of models may hold lone surrogates, which UTF-8 cannot encode.
  files.replace(target, page.encode('utf-8', errors='replace'))
  return target


def _browser_view(runs, names, files) -> dict[str, Any]:
  """Returns the records, the script that shows them, and their numbers."""
  script = ''.join(
    (_FOLDER / file).read_text(encoding='utf-8')
    for file in ('report_text.js', 'report.js')
  )
  num_trees_shown, data = page_data.to_json(names, files)
  return {
    'data': data,
    'script': script,
    'script_hash': base64.b64encode(
      hashlib.sha256(script.encode()).digest()
    ).decode(),
    'num_shown': num_trees_shown,
    'num_trees': sum(len(file.trees) for file in files),
    'num_files': len(files),
    'num_saved': sum(len(s) for run in runs for s in run.steps.values()),
  }


@functools.cache
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
  """Returns the template's values for the sections about a single run."""
  return {
    'name': name,
    'facts': _facts(run, columns),
    'seconds': page_tables.seconds(columns),
    'failure': _text(run.path / 'FAILED'),
    'verdicts': [
      page_tables.verdicts(file)
      for file in files
      if any(file.confusion.values())
    ],
    'warnings': _warnings(run),
    'summary': reading.summary(columns),
    'appendix': {
      title: _text(run.path / file) for title, file in _APPENDIX.items()
    },
  }


def _warnings(run: reading.Run) -> list[dict[str, Any]]:
  """Returns the first warning of each limit; 'later' has the others' steps.

  A metric that wavers about its limit warns often, and must not hide the
  warnings of other metrics.
  """
  by_limit = {}
  for row in reading.warnings(run):
    metric = row['warning'].partition(' = ')[0]
    by_limit.setdefault((row['phase'], metric), []).append(row)
  return [
    rows[0] | {'later': [row['step'] for row in rows[1:]]}
    for rows in by_limit.values()
  ]


def _differing(runs: Sequence[reading.Run]) -> list[tuple[str, list[str]]]:
  """Returns the settings in which the runs differ, with each run's value."""
  points = comparison.points(runs)
  return [
    (name, ['–' if p[name] is None else json.dumps(p[name]) for p in points])
    for name in points[0]
  ]


def _text(path: Path) -> str:
  """Returns the text of a file, cut to `MAX_APPENDIX`; '' without the file."""
  if path.is_symlink():  # a page shows nothing from outside of its run
    return '(a link, which is not followed)'
  content = files.head(path, MAX_FILE)
  text = content.decode(errors='replace').strip()
  return page_data.cut(text, MAX_APPENDIX)


def _facts(run, columns) -> dict[str, str]:
  """Returns the lines at the top of the page: state, time, phases, machine."""
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
  for line in _text(run.path / 'git.txt').splitlines()[:1]:
    facts['code'] = line
  for line in _text(run.path / 'env.txt').splitlines():
    kind, _, value = line.partition(' ')
    if kind in ('python', 'devices') and value:
      facts[kind] = value.split('(')[0].strip()
  return facts


def _clock(seconds: float) -> str:
  """Returns local time from seconds since 1970; '–' if it has no date."""
  try:
    return time.strftime('%Y-%m-%d %H:%M', time.localtime(seconds))
  except (ValueError, OverflowError, OSError):  # NaN, or beyond all calendars
    return '–'


def _selection_figures(results: Mapping[str, Results]) -> list[dict[str, str]]:
  """Returns a figure for each column with rows 'selection/<method>@<k>'."""
  figures = []
  for run, tables in results.items():
    for evaluation, table in tables.items():
      for column, rows in table.items():
        curves = selection.curves_of(rows)
        if curves and column != 'difference':
          # The run's name goes without saying where there is one run.
          parts = (run, evaluation, column)[len(results) == 1 :]
          title = f'Choosing among k solutions: {", ".join(parts)}'
          figures.append(eval_plots.selection_panel(curves, title))
  return figures


def main(arguments: Sequence[str] | None = None) -> None:
  """Writes the report of the given runs, and prints their result tables."""
  parser = argparse.ArgumentParser(
    prog='python -m critic_jax.report',
    description=__doc__.splitlines()[0],
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('runs', nargs='+', metavar='RUN', help='folder of a run')
  parser.add_argument(
    '--out',
    metavar='PATH',
    help='where to write the page (default: RUN/report.html, or '
    './comparison.html for several runs)',
  )
  parsed = parser.parse_args(arguments)
  # A log file is no narrow terminal: each row stays on one line in it.
  console = Console(width=None if sys.stdout.isatty() else 120)
  target = write(*parsed.runs, out=parsed.out)
  for path in parsed.runs:
    results = reading.all_results(reading.load(path))
    for evaluation, columns in results.items():
      headlines = {
        column: {name: rows[name] for name in headline_rows(rows)}
        for column, rows in columns.items()
      }
      console.print(results_table(headlines, f'{path}: {evaluation}'))
  console.print(str(target), soft_wrap=True, highlight=False)
