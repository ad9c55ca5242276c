"""Compares several runs, e.g. a grid or a few seeds, for notebooks.

    runs = [reading.load(path) for path in paths]
    points(runs)                           the settings in which they differ
    groups(runs)                           seeds of the same settings
    curves(runs, 'critique/judge')         a curve for each run
    changes(
      runs[:1], runs[1:], critique_metrics.compare, 'rl', 'eval/heldout'
    )

No function writes to a run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from critic_jax.evals.statistics import Estimate, finite_mean
from critic_jax.inspection.reading import NO_METRICS, Run, metrics, records
from critic_jax.types import Record
from critic_jax.workdir import settings


def names(runs: Sequence[Run]) -> list[str]:
  """Returns the folders' names, or their paths if two share a name.

  Raises:
    ValueError: a run is listed twice.
  """
  labels = [run.path.resolve().name for run in runs]
  if len(set(labels)) < len(labels):
    labels = [str(run.path.resolve()) for run in runs]
  if len(set(labels)) < len(labels):
    raise ValueError(
      f'runs: got {labels}; expected each once; drop the duplicates'
    )
  return labels


def points(runs: Sequence[Run]) -> list[dict[str, Any]]:
  """Returns each run's values of the settings in which the runs differ.

  Settings have dotted names, 'phases.rl.steps'. A setting that a run lacks is
  None.
  """
  # Compare as JSON: values may be lists, and 1 is not True.
  flat = [dict(settings.leaves(run.config)) for run in runs]
  all_names = dict.fromkeys(name for leaves in flat for name in leaves)
  differing = [
    name
    for name in all_names
    if len({json.dumps(leaves.get(name)) for leaves in flat}) > 1
  ]
  return [{name: leaves.get(name) for name in differing} for leaves in flat]


def groups(runs: Sequence[Run]) -> dict[str, dict[str, Run]]:
  """Groups the runs that differ only by their seeds.

  Returns:
    Runs by name (of `names`), by group. A group's name lists the settings in
    which runs differ, abbreviated to be short but unique: 'gate=wrong'.
  """
  by_group = {}
  for name, run, point in zip(names(runs), runs, points(runs), strict=True):
    # Runs whose other settings agree get the same name, and so one group.
    others = [setting for setting in point if setting != 'seed']
    parts = [f'{_short(k, others)}={point[k]}' for k in others]
    by_group.setdefault(', '.join(parts) or 'all', {})[name] = run
  return by_group


def _short(name: str, others: Sequence[str]) -> str:
  """Returns the shortest end of a dotted name that no other name shares."""
  parts = name.split('.')
  for number in range(1, len(parts)):
    short = '.'.join(parts[-number:])
    if sum(f'.{other}'.endswith(f'.{short}') for other in others) == 1:
      return short
  return name


def average(runs: Iterable[Run], phase: str) -> dict[str, np.ndarray]:
  """Returns the metrics of a phase, averaged over runs step by step.

  Args:
    runs: runs of the same settings, e.g. the seeds of a group.
    phase: a phase that all runs have.

  Returns:
    Columns as those of `reading.metrics`: the steps that all runs have logged,
    and each metric's mean over the runs that logged it at the step.
  """
  columns = [metrics(run, phase) for run in runs]
  # A run that is behind, or was cut off, shortens the average.
  num_steps = min(len(column['step']) for column in columns)
  means = {name: columns[0][name][:num_steps] for name in NO_METRICS}
  for name in dict.fromkeys(name for column in columns for name in column):
    if name not in NO_METRICS:
      values = [c[name][:num_steps] for c in columns if name in c]
      means[name] = finite_mean(np.stack(values))
  return means


def curves(
  runs: Sequence[Run], metric: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Returns the steps and values of a metric, by the run's name.

  Raises:
    ValueError: a run never logged the metric; the message lists its metrics.
  """
  by_run = {}
  for name, run in zip(names(runs), runs, strict=True):
    columns = metrics(run)
    if metric not in columns:
      raise ValueError(
        f'metric: got {metric!r}, which {run.path} never logged; expected one '
        f'of {sorted(set(columns) - {*NO_METRICS})}'
      )
    # Other phases log other metrics: their steps hold NaN.
    logged = ~np.isnan(columns[metric])
    by_run[name] = columns['step'][logged], columns[metric][logged]
  return by_run


def changes(
  before: Iterable[Run],
  after: Iterable[Run],
  compare_fn: Callable[[list[Record], list[Record]], dict[str, Estimate]],
  step: int | str,
  phase: str,
) -> dict[str, Estimate]:
  """Returns the change of metrics between runs, paired by problem.

  The records of several runs, e.g. seeds, are pooled. The intervals are over
  problems only: they do not cover the variation over seeds.

  Args:
    before: the runs to compare with.
    after: other runs, evaluated on the same problems.
    compare_fn: a protocol's `compare`, e.g. that of `critique_metrics`.
    step: a step at which each run saved records.
    phase: the phase of that step, or an evaluation: 'eval/heldout'.

  Raises:
    ValueError: the runs are not about the same problems.
  """
  old, new = (
    [record for run in side for record in records(run, step, phase)]
    for side in (before, after)
  )
  return compare_fn(old, new)
