"""What notebooks call to read a run: its folder as metrics and records.

    run = load('runs/refcritic')
    metrics(run, 'rl')['critique/reward']  columns of metrics.jsonl
    warnings(run)                          limits that were crossed
    critiques = records(run, 100)          what was written at step 100
    results(run, 'heldout')['rl']['balanced verdict accuracy']
    replay(run, 'rl', critique.metrics, 'eval/heldout')   metrics anew

They only read, and need no device, no jax and no pandas. A table is a list of
rows, each a dict. Several runs beside each other are in `comparison.py`, what
to look at among records in `trees.py`, how it is shown in `views.py`.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from critic_jax import strict_json
from critic_jax.evals.statistics import Estimate
from critic_jax.inspection import limits
from critic_jax.types import Record
from critic_jax.workdir import run_dir

_SUFFIX = '.jsonl.gz'
NO_METRICS = ('step', 'phase', 'time')  # but in every line all the same

Columns = Mapping[str, np.ndarray]  # as of `metrics`


class Run(NamedTuple):
  """A run's folder, opened for reading.

  Attributes:
    path: the folder.
    config: what it was run with.
    state: 'done', 'failed', or 'unfinished'.
    steps: the saved files of records by phase, {'rl': [0, 100]}; those of
      evaluations are under 'eval/<evaluation>' and have names for steps, those
      of the phases after which they were made.
  """

  path: Path
  config: dict[str, Any]
  state: str
  steps: dict[str, list[int | str]]


def load(path: str | Path) -> Run:
  """Opens a run's folder.

  Raises:
    ValueError: it holds no config.json, or a broken one.
  """
  path = Path(path)
  config = path / 'config.json'
  if not config.exists():
    raise ValueError(
      f'run: got {str(path)!r} without a config.json; expected the folder of a '
      'run; give the --workdir of critic_jax.train'
    )
  steps = {}
  files = [*path.glob(f'records/**/*{_SUFFIX}')]
  files += path.glob(f'eval/**/*{_SUFFIX}')
  for file in sorted(files):
    folder = file.parent.relative_to(path).as_posix()
    stem = file.name.removesuffix(_SUFFIX)
    is_step = stem.isascii() and stem.isdigit() and f'{int(stem):06d}' == stem
    step = int(stem) if is_step else stem
    steps.setdefault(folder.removeprefix('records/'), []).append(step)
  return Run(path, strict_json.read(config), state(path), steps)


def state(path: str | Path) -> str:
  """What a run's folder says: 'done', 'failed', 'unfinished' or 'absent'."""
  if not (Path(path) / 'config.json').exists():
    return 'absent'
  markers = [m for m in ('DONE', 'FAILED') if (Path(path) / m).exists()]
  return markers[0].lower() if markers else 'unfinished'


def metrics(run: Run, phase: str | None = None) -> dict[str, np.ndarray]:
  """The lines of metrics.jsonl as columns of equal length, oldest first.

  Args:
    run: see `load`.
    phase: take its lines only, and count steps from its start, as its files of
      records do. None: all lines, steps counted over the whole run.

  Returns:
    'step' int[N], 'phase' str[N], 'time' float[N] (seconds since 1970), and
    float[N] for each metric, NaN in the lines that lack it.
  """
  rows = list(run_dir.read_metrics(run.path / 'metrics.jsonl'))
  if phase is not None:
    rows = [row for row in rows if row['phase'] == phase]
    start = min((row['step'] for row in rows), default=0)
    rows = [row | {'step': row['step'] - start} for row in rows]
  names = dict.fromkeys(NO_METRICS)
  names.update(dict.fromkeys(name for row in rows for name in row))
  kinds = {'step': int, 'phase': str}
  return {
    name: np.array(
      [row.get(name, np.nan) for row in rows], kinds.get(name, float)
    )
    for name in names
  }


def summary(columns: Columns) -> list[dict[str, Any]]:
  """A row for each metric that has values: first, last, least, greatest."""
  rows = []
  for name in sorted(set(columns) - {*NO_METRICS}):
    values = columns[name][~np.isnan(columns[name])]
    if len(values):
      ends = values[0], values[-1], values.min(), values.max()
      names = ('first', 'last', 'least', 'greatest')
      rows.append({'metric': name, **dict(zip(names, ends, strict=True))})
  return rows


def warnings(run: Run) -> list[dict[str, Any]]:
  """The limits that a run crossed, in order: 'phase', 'step' and 'warning'.

  Steps are counted from the start of the phase.
  """
  rows = collections.defaultdict(list)
  for row in run_dir.read_metrics(run.path / 'metrics.jsonl'):
    rows[row['phase']].append(row)
  found = []
  for phase, lines in rows.items():
    section = _phase(run.config, phase)
    if section.get('limits'):
      limited, window = section['limits'], section.get('limit_window', 1)
      limits.check(limited, limits.ACTIONS[0], window)
      told = limits.warnings(lines, limited, window)
      found += [
        {'phase': phase, 'step': step - lines[0]['step'], 'warning': text}
        for step, text in told
      ]
  return found


def _phase(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
  """A phase's section of a config, {} without one."""
  phases = config.get('phases')
  section = phases.get(name) if isinstance(phases, dict) else None
  return section if isinstance(section, dict) else {}


def results(run: Run, evaluation: str) -> dict[str, dict[str, Estimate]]:
  """What results/<evaluation>.json holds: estimates by column and metric.

  Raises:
    ValueError: there is no such file, or it is no such table.
  """
  path = run.path / 'results' / f'{evaluation}.json'
  if evaluation not in evaluations(run):
    raise ValueError(
      f'evaluation: got {evaluation!r}; expected one of {evaluations(run)}, '
      f'which are in {path.parent}'
    )
  try:
    columns = strict_json.read(path)['columns']
    return {
      column: {row: _estimate(found) for row, found in rows.items()}
      for column, rows in columns.items()
    }
  except (
    ValueError, KeyError, TypeError, AttributeError, OverflowError
  ) as error:  # fmt: skip
    raise ValueError(
      f'{path}: got no table of results ({error!r}); expected '
      '{"columns": {column: {row: {"value", "low", "high", "n"}}}}; write it '
      'with RunDir.write_results'
    ) from error


def _estimate(found: Mapping[str, Any]) -> Estimate:
  numbers = [float(found[name]) for name in ('value', 'low', 'high')]
  return Estimate(*numbers, int(found['n']))


def evaluations(run: Run) -> list[str]:
  """The names of the evaluations that have results."""
  return sorted(path.stem for path in run.path.glob('results/*.json'))


def all_results(run: Run) -> dict[str, dict[str, dict[str, Estimate]]]:
  """The results of every evaluation that has some, by its name."""
  return {name: results(run, name) for name in evaluations(run)}


def records(run: Run, step: int | str, phase: str = 'rl') -> list[Record]:
  """The records saved at a step, in the order they were written.

  Args:
    run: see `load`.
    step: one of `run.steps[phase]`.
    phase: a key of `run.steps`, e.g. 'rl' or 'eval/heldout'.

  Raises:
    ValueError: none were saved there, or the file is truncated.
  """
  return run_dir.read_records(records_path(run, step, phase))


def records_path(run: Run, step: int | str, phase: str) -> Path:
  """The file that holds the records of a step; arguments as of `records`."""
  if step not in run.steps.get(phase, []):
    raise ValueError(
      f'records: got step {step!r} of phase {phase!r}; expected one of '
      f'{run.steps}'
    )
  stem = step if isinstance(step, str) else f'{step:06d}'
  folder = phase if phase.split('/')[0] == 'eval' else f'records/{phase}'
  if phase == 'records':  # files that lie in records/ itself
    folder = phase
  return run.path / folder / f'{stem}{_SUFFIX}'


def replay(
  run: Run,
  step: int | str,
  metrics_fn: Callable[[list[Record]], Any],
  phase: str = 'rl',
) -> Any:
  """`metrics_fn` of the records saved at a step, e.g. evals.critique.metrics.

  What was measured can be measured anew, and a metric that was thought of later
  can be had of old runs.
  """
  return metrics_fn(records(run, step, phase))
