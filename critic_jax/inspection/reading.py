"""Reads a run's folder as metrics and records, e.g. in a notebook.

    run = load('runs/refcritic')
    metrics(run, 'rl')['critique/reward']  columns of metrics.jsonl
    warnings(run)                          limits that were crossed
    critiques = records(run, 100)          records that step 100 saved
    results(run, 'heldout')['rl']['balanced verdict accuracy']
    replay(run, 'rl', critique_metrics.metrics, 'eval/heldout')

No function writes to the folder or needs a device, jax or pandas. A table is a
list of rows, each a dict. `comparison.py` compares several runs, `trees.py`
picks records worth a look, and `report/views.py` shows them.
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
NO_METRICS = ('step', 'phase', 'time')  # fields of every line of metrics.jsonl

Columns = Mapping[str, np.ndarray]  # as returned by `metrics`


class Run(NamedTuple):
  """A run's folder, opened for reading.

  Attributes:
    path: the folder.
    config: the settings of the run.
    state: 'done', 'failed', or 'unfinished'.
    steps: the steps with saved records by phase, {'rl': [0, 100]}. Evaluations
      are under 'eval/<evaluation>'; in place of steps they have the names of
      the phases after which they ran.
  """

  path: Path
  config: dict[str, Any]
  state: str
  steps: dict[str, list[int | str]]


def load(path: str | Path) -> Run:
  """Opens a run's folder.

  Raises:
    ValueError: the folder has no config.json, a broken one, or a model's.
  """
  path = Path(path)
  config = path / 'config.json'
  if not config.exists():
    raise ValueError(
      f'run: got {str(path)!r} without a config.json; expected the folder of a '
      'run; give the --workdir of critic_jax.train'
    )
  settings = strict_json.read(config)
  if 'model_type' in settings:  # a report would be written into it
    raise ValueError(
      f'run: got {str(path)!r} with the config.json of a Hugging Face model; '
      'expected the folder of a run; give the --workdir of critic_jax.train'
    )
  steps = {}
  files = [*path.glob(f'records/*/*{_SUFFIX}')]  # no deeper: links are followed
  files += path.glob(f'eval/*/*{_SUFFIX}')
  for file in sorted(files):
    folder = file.parent.relative_to(path).as_posix()
    stem = file.name.removesuffix(_SUFFIX)
    is_step = stem.isascii() and stem.isdigit() and f'{int(stem):06d}' == stem
    step = int(stem) if is_step else stem
    steps.setdefault(folder.removeprefix('records/'), []).append(step)
  return Run(path, settings, state(path), steps)


def state(path: str | Path) -> str:
  """Returns a run's state: 'done', 'failed', 'unfinished' or 'absent'."""
  if not (Path(path) / 'config.json').exists():
    return 'absent'
  markers = [m for m in ('DONE', 'FAILED') if (Path(path) / m).exists()]
  return markers[0].lower() if markers else 'unfinished'


def metrics(run: Run, phase: str | None = None) -> dict[str, np.ndarray]:
  """Returns the lines of metrics.jsonl as columns, oldest first.

  Args:
    run: the run, as returned by `load`.
    phase: selects the lines of a phase, with steps counted from its start, as
      its files of records do. None selects all lines, with steps counted over
      the whole run.

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
  """Returns each metric's first, last, least and greatest value, as rows."""
  rows = []
  for name in sorted(set(columns) - {*NO_METRICS}):
    values = columns[name][~np.isnan(columns[name])]
    if len(values):
      ends = values[0], values[-1], values.min(), values.max()
      names = ('first', 'last', 'least', 'greatest')
      rows.append({'metric': name, **dict(zip(names, ends, strict=True))})
  return rows


def warnings(run: Run) -> list[dict[str, Any]]:
  """Returns the limits that a run crossed: 'phase', 'step', 'warning'.

  Steps are counted from the start of the phase.
  """
  rows = collections.defaultdict(list)
  for row in run_dir.read_metrics(run.path / 'metrics.jsonl'):
    rows[row['phase']].append(row)
  crossings = []
  for phase, lines in rows.items():
    section = _phase(run.config, phase)
    if section.get('limits'):
      limited, window = section['limits'], section.get('limit_window', 1)
      limits.check(limited, limits.ACTIONS[0], window)
      crossings += [
        {'phase': phase, 'step': step - lines[0]['step'], 'warning': text}
        for step, text in limits.warnings(lines, limited, window)
      ]
  return crossings


def _phase(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
  """Returns a phase's section of a config, {} if there is none."""
  phases = config.get('phases')
  section = phases.get(name) if isinstance(phases, dict) else None
  return section if isinstance(section, dict) else {}


def results(run: Run, evaluation: str) -> dict[str, dict[str, Estimate]]:
  """Returns the estimates of results/<evaluation>.json by column and metric.

  Raises:
    ValueError: the file is missing, or is not a table of results.
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
      column: {row: _estimate(fields) for row, fields in rows.items()}
      for column, rows in columns.items()
    }
  except (
    ValueError, KeyError, TypeError, AttributeError, OverflowError,
    FileNotFoundError,
  ) as error:  # fmt: skip
    raise ValueError(
      f'{path}: got no table of results ({error!r}); expected '
      '{"columns": {column: {row: {"value", "low", "high", "n"}}}}; write it '
      'with RunDir.write_results'
    ) from error


def _estimate(fields: Mapping[str, Any]) -> Estimate:
  numbers = [float(fields[name]) for name in ('value', 'low', 'high')]
  return Estimate(*numbers, int(fields['n']))


def evaluations(run: Run) -> list[str]:
  """Returns the names of the evaluations that have results."""
  return sorted(path.stem for path in run.path.glob('results/*.json'))


def all_results(run: Run) -> dict[str, dict[str, dict[str, Estimate]]]:
  """Returns the results of all evaluations, by name."""
  return {name: results(run, name) for name in evaluations(run)}


def records(run: Run, step: int | str, phase: str = 'rl') -> list[Record]:
  """Returns the records saved at a step, in the order they were written.

  Args:
    run: the run, as returned by `load`.
    step: a step of `run.steps[phase]`.
    phase: a key of `run.steps`, e.g. 'rl' or 'eval/heldout'.

  Raises:
    ValueError: the step saved no records, or its file is truncated.
  """
  return run_dir.read_records(records_path(run, step, phase))


def records_path(run: Run, step: int | str, phase: str) -> Path:
  """Returns the file of a step's records; takes the arguments of `records`."""
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
  """Computes metrics from the records saved at a step.

  So a measurement can be repeated, and a new metric computed for old runs.

  Args:
    run: the run, as returned by `load`.
    step: a step of `run.steps[phase]`.
    metrics_fn: a function of records, e.g. `critique_metrics.metrics`.
    phase: a key of `run.steps`.
  """
  return metrics_fn(records(run, step, phase))
