"""Run directories -> one static HTML page each.

    python -m critic_jax.report RUN [RUN ...]

`<run>/report.html` has everything inside: no script, no request to anywhere,
every text escaped. `<run>/plots/*.png` are its curves. The page shows the
result table of `<run>/results.json`,

    {"columns": {"cold start": {"verdict accuracy": {"value": 0.5, "low": 0.4,
                                                     "high": 0.6, "n": 100}}}}

and, of a few of the saved steps, trees: problem, solutions, critiques,
refinements, with what each earned. The limits below bound its size.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import rich.box
import rich.table
from rich.console import Console

from critic_jax import inspection, plots
from critic_jax.evals import critique as critique_metrics
from critic_jax.evals.statistics import Estimate
from critic_jax.types import Record

MAX_TREES = 8  # problems shown of one saved step
MAX_STEPS = 3  # saved steps shown of one phase: first, middle, last
MAX_CHILDREN = 8  # solutions of a problem, critiques, refinements
MAX_TEXT = 4000  # characters of one message
MAX_APPENDIX = 40_000  # characters of the git diff or the list of packages


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
    title=title,
    caption='percent (tokens where named), with 95 % intervals over problems',
    title_justify='left',
    caption_justify='left',
    box=rich.box.SIMPLE_HEAD,
    padding=(0, 1, 0, 0),
  )
  table.add_column('', min_width=12)
  for column in results:
    table.add_column(column, justify='right', no_wrap=True)
  for row in _rows(results):
    cells = [format_estimate(results[c].get(row), row, c) for c in results]
    table.add_row(row, *cells)
  return table


def _rows(results: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
  return list(dict.fromkeys(row for rows in results.values() for row in rows))


def format_estimate(estimate: Estimate | None, row: str, column: str) -> str:
  """'61.3 [55.0, 67.1]', signed in a column 'difference', '–' if undefined."""
  if estimate is None or math.isnan(estimate.value):
    return '–'
  scale = 1 if re.search('tokens|length', row) else 100
  sign = '+' if column == 'difference' else ''
  value, low, high = (f'{scale * x:{sign}.1f}' for x in estimate[:3])
  return f'{value} [{low}, {high}]'


def read_results(path: str | Path) -> dict[str, dict[str, Estimate]]:
  """The columns of a results.json; {} if there is none.

  Raises:
    ValueError: it is no such table.
  """
  path = Path(path)
  if not path.exists():
    return {}
  try:
    columns = json.loads(path.read_text())['columns']
    return {
      column: {
        row: Estimate(*(float(e[k]) for k in ('value', 'low', 'high')), e['n'])
        for row, e in rows.items()
      }
      for column, rows in columns.items()
    }
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path}: got no table of results ({error!r}); expected '
      '{"columns": {column: {row: {"value", "low", "high", "n"}}}}; write it '
      'with RunDir.write_results'
    ) from error


def write(path: str | Path) -> Path:
  """Writes plots/ and report.html into a run's folder.

  Returns:
    The path of report.html.

  Raises:
    ValueError: it is no run's folder, or a file in it is broken.
  """
  run = inspection.load(path)
  columns = inspection.metrics(run)
  results = read_results(run.path / 'results.json')
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  page = environment.get_template('report.html.jinja').render(
    run=run,
    name=run.path.resolve().name,
    facts=_facts(run, columns),
    failure=_text(run.path / 'FAILED'),
    results=_results_view(results),
    plots=plots.write(columns, run.path / 'plots'),
    sections=_sections(run),
    summary=_summary(columns),
    files={
      'Command': _text(run.path / 'command.txt'),
      'Config': _text(run.path / 'config.json'),
      'Overrides': _text(run.path / 'overrides.json'),
      'Code (git)': _text(run.path / 'git.txt'),
      'Environment': _text(run.path / 'env.txt'),
    },
  )
  target = run.path / 'report.html'
  target.write_text(page, encoding='utf-8')
  return target


def _text(path: Path) -> str:
  text = path.read_text(errors='replace').strip() if path.exists() else ''
  return cut(text, MAX_APPENDIX)


def cut(text: str, limit: int = MAX_TEXT) -> str:
  """`text`, and if it is longer than `limit` its beginning with a note."""
  if len(text) <= limit:
    return text
  return f'{text[:limit]}\n[cut here: {len(text) - limit} characters more]'


def _facts(run, columns) -> dict[str, str]:
  facts = {'state': run.state}
  if len(columns['step']):
    start, end = (
      time.strftime('%Y-%m-%d %H:%M', time.localtime(t))
      for t in columns['time'][[0, -1]]
    )
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
    kind, _, rest = line.partition(' ')
    if kind in ('python', 'devices') and rest:
      facts[kind] = rest.split('(')[0].strip()
  return facts


def _results_view(results) -> dict[str, Any]:
  return {
    'columns': list(results),
    'rows': [
      (row, [_cell(results[c].get(row), row, c) for c in results])
      for row in _rows(results)
    ],
  }


def _cell(estimate: Estimate | None, row: str, column: str) -> dict[str, Any]:
  value, _, interval = format_estimate(estimate, row, column).partition(' ')
  return {
    'value': value.replace('-', '\N{MINUS SIGN}'),
    'interval': interval.replace('-', '\N{MINUS SIGN}'),
    'n': estimate.n if estimate else 0,
  }


def _summary(columns) -> list[tuple[str, str, str, str, str]]:
  """Of every metric: name, first and last value, least and greatest."""
  rows = []
  for name in sorted(set(columns) - {'step', 'phase', 'time'}):
    values = columns[name][~np.isnan(columns[name])]
    if len(values):
      numbers = values[0], values[-1], values.min(), values.max()
      rows.append((name, *(f'{x:.4g}' for x in numbers)))
  return rows


def _sections(run: inspection.Run) -> list[dict[str, Any]]:
  """The saved steps that are shown: evaluations first, then each phase."""
  sections, shown = [], []
  for phase in sorted(run.steps, key=lambda name: not name.startswith('eval/')):
    steps = run.steps[phase]
    picks = np.linspace(0, len(steps) - 1, min(MAX_STEPS, len(steps)))
    for step in (steps[int(i)] for i in picks):
      records = inspection.records(run, step, phase)
      trees = _by_problem(records)
      shown = _choose(trees, shown)
      step_name = f'step {step}' if isinstance(step, int) else step
      sections.append(
        {
          'id': f'records-{len(sections)}',
          'phase': phase,
          'step': step_name.replace('_', ' '),
          'num_problems': len(trees),
          'confusion': _confusion(records),
          'trees': [_tree(trees[name], records) for name in shown],
        }
      )
  return sections


def _by_problem(records: Sequence[Record]) -> dict[str, list[Record]]:
  """The solutions of each problem."""
  trees = collections.defaultdict(list)
  for record in records:
    if record.parent is None:
      trees[record.problem.id].append(record)
  return dict(trees)


def _choose(trees: Mapping[str, Any], before: Sequence[str]) -> list[str]:
  """Up to MAX_TREES ids, spread over the file; those shown before come first.

  The same problem before and after training is what a reader wants to compare.
  """
  ids = [name for name in before if name in trees]
  rest = [name for name in trees if name not in ids]
  room = min(MAX_TREES - len(ids), len(rest))
  picks = np.linspace(0, len(rest) - 1, room).astype(int) if room else []
  return ids + [rest[i] for i in picks]


def _confusion(records: Sequence[Record]) -> list[dict[str, Any]]:
  """Verdicts by truth: a row for right, one for wrong solutions."""
  counts = collections.Counter(
    (bool(c.parent.parsed['correct']), critique_metrics.verdict(c))
    for c in critique_metrics.judged(records)
  )
  rows = []
  for right, truth in ((True, 'right solutions'), (False, 'wrong solutions')):
    total = sum(n for (r, _), n in counts.items() if r == right)
    cells = [
      {
        'count': counts[right, verdict],
        'percent': 100 * counts[right, verdict] / total if total else 0,
        'kind': _kind(verdict, right),
      }
      for verdict in ('correct', 'incorrect', None)
    ]
    rows.append({'truth': truth, 'total': total, 'cells': cells})
  return rows if counts else []


def _kind(verdict: str | None, right: bool) -> str:
  """'good' if the verdict is the truth, 'bad' if not, 'none' without one."""
  if verdict is None:
    return 'none'
  return 'good' if (verdict == 'correct') == right else 'bad'


def _tree(
  solutions: Sequence[Record], records: Sequence[Record]
) -> dict[str, Any]:
  children = collections.defaultdict(list)
  for record in records:
    children[id(record.parent)].append(record)
  return {
    'problem': solutions[0].problem,
    'question': cut(solutions[0].problem.question),
    'solutions': [
      _solution(solution, children) for solution in solutions[:MAX_CHILDREN]
    ],
    'hidden': max(0, len(solutions) - MAX_CHILDREN),
  }


def _message(record: Record) -> dict[str, Any]:
  """What every message is shown with."""
  return {
    'name': f'{record.stage} {record.index}',
    'text': cut(record.text.strip()),
    'num_tokens': len(record.tokens),
    'finish': record.finish,
    'scores': record.scores,
    'parsed': record.parsed,
    'right': bool(record.parsed.get('correct')),
  }


def _solution(solution: Record, children: Mapping[int, list[Record]]):
  message = _message(solution)
  first_error = solution.parsed.get('first_error')
  step, lines = 0, []
  for line in message['text'].splitlines():
    if line.strip():  # a step is a line that is not blank
      lines.append({'text': line, 'wrong': step == first_error})
      step += 1
  critiques = children[id(solution)]
  return message | {
    'lines': lines,
    'critiques': [
      _critique(critique, children[id(critique)])
      for critique in critiques[:MAX_CHILDREN]
    ],
    'hidden': max(0, len(critiques) - MAX_CHILDREN),
  }


def _critique(critique: Record, refinements: Sequence[Record]):
  conclusion = (critique.parsed.get('conclusion') or '').strip()
  thinking, found, _ = critique.text.rpartition(conclusion or '\0')
  verdict = critique_metrics.verdict(critique)
  step = critique.parsed.get('step')
  return _message(critique) | {
    'verdict': verdict,
    'kind': _kind(verdict, bool(critique.parent.parsed.get('correct'))),
    'status': critique.parsed.get('status', 'ok'),
    'step': None if step is None or step < 0 else step + 1,
    'conclusion': cut(conclusion),
    'thinking': cut((thinking if found else critique.text).strip()),
    'refinements': [_message(r) for r in refinements[:MAX_CHILDREN]],
    'hidden': max(0, len(refinements) - MAX_CHILDREN),
  }


def main(arguments: Sequence[str] | None = None) -> None:
  """Writes the report of every run named, and prints its result table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('runs', nargs='+', metavar='RUN', help="a run's folder")
  # A log file is no narrow terminal: there rows stay on one line.
  console = Console(width=None if sys.stdout.isatty() else 120)
  for path in parser.parse_args(arguments).runs:
    target = write(path)
    if results := read_results(target.parent / 'results.json'):
      console.print(results_table(results, str(path)))
    console.print(str(target), soft_wrap=True, highlight=False)


if __name__ == '__main__':
  main()
