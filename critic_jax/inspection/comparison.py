"""Several runs beside each other, for notebooks: a grid, a few seeds.

    runs = [inspection.load(path) for path in paths]
    points(runs)                           the settings in which they differ
    groups(runs)                           seeds of the same settings
    curves(runs, 'critique/judge')         a curve for each run
    changes(runs[:1], runs[1:], critique.compare, 'rl', 'eval/heldout')

They only read, as inspection.py does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from critic_jax.evals.statistics import Estimate
from critic_jax.inspection.reading import NO_METRICS, Run, metrics, records
from critic_jax.types import Record
from critic_jax.workdir import settings


def names(runs: Sequence[Run]) -> list[str]:
  """The folders' names, or their paths if two have the same name.

  Raises:
    ValueError: a run is there twice.
  """
  found = [run.path.resolve().name for run in runs]
  if len(set(found)) < len(found):
    found = [str(run.path.resolve()) for run in runs]
  if len(set(found)) < len(found):
    raise ValueError(f'runs: got {found}; expected each once; drop the doubles')
  return found


def points(runs: Sequence[Run]) -> list[dict[str, Any]]:
  """The settings in which runs differ: of each run its {'dotted.name': value}.

  A setting that a run lacks is None.
  """
  flat = [dict(settings.leaves(run.config)) for run in runs]
  every = dict.fromkeys(name for leaves in flat for name in leaves)
  differing = [
    name
    for name in every
    if len({json.dumps(leaves.get(name)) for leaves in flat}) > 1
  ]
  return [{name: leaves.get(name) for name in differing} for leaves in flat]


def groups(runs: Sequence[Run]) -> dict[str, dict[str, Run]]:
  """The runs that differ in nothing but their seeds, by their other settings.

  Returns:
    Runs by their name, see `names`, in groups whose names are the settings in
    which runs differ, as short as they are clear: 'gate=wrong'.
  """
  found = {}
  for name, run, point in zip(names(runs), runs, points(runs), strict=True):
    others = [setting for setting in point if setting != 'seed']
    parts = [f'{_short(k, others)}={point[k]}' for k in others]
    found.setdefault(', '.join(parts) or 'all', {})[name] = run
  return found


def _short(name: str, others: Sequence[str]) -> str:
  """The last parts of a dotted name, as many as tell it from the others."""
  parts = name.split('.')
  for number in range(1, len(parts)):
    short = '.'.join(parts[-number:])
    if sum(f'.{other}'.endswith(f'.{short}') for other in others) == 1:
      return short
  return name


def average(runs: Iterable[Run], phase: str) -> dict[str, np.ndarray]:
  """The metrics of a phase, averaged over runs step by step.

  Args:
    runs: e.g. the seeds of a group.
    phase: of all of them.

  Returns:
    As `metrics`; the steps that all runs have logged, and a metric's mean over
    the runs that have it there.
  """
  columns = [metrics(run, phase) for run in runs]
  num_steps = min(len(column['step']) for column in columns)
  found = {name: columns[0][name][:num_steps] for name in NO_METRICS}
  for name in dict.fromkeys(name for column in columns for name in column):
    if name not in NO_METRICS:
      values = np.stack([c[name][:num_steps] for c in columns if name in c])
      defined = ~np.isnan(values)
      total = np.where(defined, values, 0).sum(0)
      count = defined.sum(0)
      found[name] = np.where(count, total / np.maximum(count, 1), np.nan)
  return found


def curves(
  runs: Sequence[Run], metric: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """A metric's curve for each run: {its name: (steps, values)}.

  Raises:
    ValueError: a run never logged the metric; names what it did log.
  """
  found = {}
  for name, run in zip(names(runs), runs, strict=True):
    columns = metrics(run)
    if metric not in columns:
      raise ValueError(
        f'metric: got {metric!r}, which {run.path} never logged; expected one '
        f'of {sorted(set(columns) - {*NO_METRICS})}'
      )
    logged = ~np.isnan(columns[metric])
    found[name] = columns['step'][logged], columns[metric][logged]
  return found


def changes(
  before: Iterable[Run],
  after: Iterable[Run],
  compare_fn: Callable[[list[Record], list[Record]], dict[str, Estimate]],
  step: int | str,
  phase: str,
) -> dict[str, Estimate]:
  """What runs measured less what others did, paired by problem.

  The records of several runs, e.g. seeds, are taken together; the intervals are
  over problems all the same, and say nothing of other seeds.

  Args:
    before: some runs.
    after: others, evaluated on the same problems.
    compare_fn: e.g. evals.critique.compare.
    step: of the saved records of each run.
    phase: likewise, e.g. 'eval/heldout'.

  Raises:
    ValueError: the runs are not about the same problems.
  """
  old, new = (
    [record for run in side for record in records(run, step, phase)]
    for side in (before, after)
  )
  return compare_fn(old, new)
