"""Programs that draw runs, to which a run gives its numbers and texts.

A tracker is an object of three methods:

    add(step, values)           metrics of a step, or of an evaluation
    add_table(step, name, rows) what models wrote, as rows of `COLUMNS`
    close()
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from critic_jax import files
from critic_jax.workdir import settings

COLUMNS = (
  'row', 'parent', 'problem', 'stage', 'text', 'finish', 'verdict', 'correct',
  'reward',
)  # fmt: skip
# What MLflow takes: settings at once (of metrics more), characters of each.
_MLFLOW_BATCH, _MLFLOW_TEXT = 100, 6000


class Tracker:
  """A run of W&B or of Trackio, whose interfaces agree in what is used here.

  A run that goes on goes on there, too.
  """

  def __init__(
    self,
    name: str,
    options: Callable[[Any, Path], dict[str, Any]],
    folder: Path,
    config: Any,
  ):
    self._module = importlib.import_module(name)
    self._run = self._module.init(
      project=os.environ.get('WANDB_PROJECT', 'critic_jax'),
      config=settings.plain(config),
      resume='allow',
      **options(self._module, folder),
    )
    self._has_axes = hasattr(self._run, 'define_metric')
    if self._has_axes:
      self._run.define_metric('*', step_metric='step')

  def add(self, step: int, values: Mapping[str, float]) -> None:
    """Logs the finite values of a step."""
    self._log(step, finite(values))

  def add_table(self, step: int, name: str, rows: Sequence[Sequence]) -> None:
    """Logs rows of `COLUMNS` as a table."""
    table = self._module.Table(columns=list(COLUMNS), data=list(rows))
    self._log(step, {name: table})

  def _log(self, step: int, values: Mapping[str, Any]) -> None:
    if self._has_axes:  # W&B's own steps only go up; a run's may come again
      self._run.log({'step': step, **values})
    else:
      self._run.log(dict(values), step=step)

  def close(self) -> None:
    """Ends the run there."""
    self._run.finish()


class MLflow:
  """A run of MLflow, where `MLFLOW_TRACKING_URI` says.

  A run that goes on goes on there, too: it is found by a tag.
  """

  def __init__(self, folder: Path, config: Any):
    self._mlflow = mlflow = importlib.import_module('mlflow')
    self._client = mlflow.MlflowClient()
    project = os.environ.get('MLFLOW_EXPERIMENT_NAME', 'critic_jax')
    experiment = self._client.get_experiment_by_name(project)
    number = (
      experiment.experiment_id
      if experiment
      else self._client.create_experiment(project)
    )
    tags = {'critic_jax': _identity(folder)}
    earlier = self._client.search_runs(
      [number], f"tags.critic_jax = '{tags['critic_jax']}'"
    )
    run = earlier[0] if earlier else self._client.create_run(
      number, run_name=folder.resolve().name, tags=tags
    )  # fmt: skip
    self._id = run.info.run_id
    if earlier:  # its settings are there, and cannot be written again
      self._client.update_run(self._id, 'RUNNING')
      return
    self._log(
      params=[
        mlflow.entities.Param(_plain_name(name), str(value)[:_MLFLOW_TEXT])
        for name, value in settings.flat(config).items()
      ]
    )

  def add(self, step: int, values: Mapping[str, float]) -> None:
    """Logs the finite values of a step."""
    now = int(1000 * time.time())
    self._log(
      metrics=[
        self._mlflow.entities.Metric(_plain_name(name), value, now, step)
        for name, value in finite(values).items()
      ]
    )

  def add_table(self, step: int, name: str, rows: Sequence[Sequence]) -> None:
    """Logs rows of `COLUMNS` as an artifact that MLflow shows as a table."""
    table = {'columns': list(COLUMNS), 'data': list(rows)}
    self._client.log_dict(self._id, table, f'{name}/{step}.json')

  def _log(self, **items: Sequence[Any]) -> None:
    """Logs settings, or metrics, as many at once as MLflow takes."""
    [(kind, entities)] = items.items()
    for i in range(0, len(entities), _MLFLOW_BATCH):
      batch = entities[i : i + _MLFLOW_BATCH]
      self._client.log_batch(self._id, **{kind: batch})

  def close(self) -> None:
    """Ends the run there."""
    self._client.set_terminated(self._id)


def _plain_name(name: str) -> str:
  """Returns a name of the characters that MLflow's may have."""
  return re.sub(r'[^\w\-. :/]', '_', name)


def _wandb(wandb: Any, folder: Path) -> dict[str, Any]:
  return {
    'name': folder.resolve().name,
    'id': _identity(folder),
    'dir': str(folder),
    'settings': wandb.Settings(console='off', silent=True),
  }


def _trackio(trackio: Any, folder: Path) -> dict[str, Any]:
  del trackio
  # Trackio knows a run by its name.
  return {
    'name': f'{folder.resolve().name}-{_identity(folder)}',
    'embed': False,
    'auto_log_gpu': False,
    'auto_log_cpu': False,
  }


# By the names that `trackers` may have: `(folder, config)` to a tracker.
TRACKERS: dict[str, Callable[[Path, Any], Tracker | MLflow]] = {
  'mlflow': MLflow,
  'trackio': functools.partial(Tracker, 'trackio', _trackio),
  'wandb': functools.partial(Tracker, 'wandb', _wandb),
}


def names(trackers: str) -> list[str]:
  """Returns the trackers that a setting names, 'wandb,trackio'.

  Raises:
    ValueError: there is no such tracker, or it is not installed.
  """
  chosen = [name.strip() for name in trackers.split(',') if name.strip()]
  for name in chosen:
    if name not in TRACKERS:
      raise ValueError(
        f'trackers: got {name!r}; expected some of {sorted(TRACKERS)} with '
        'commas between them; TensorBoard has its files without one'
      )
    if importlib.util.find_spec(name) is None:
      raise ValueError(
        f'trackers: got {name!r}, which is not installed; expected an '
        f"installed one; write pip install -e '.[{name}]'"
      )
  return chosen


def finite(values: Mapping[str, float]) -> dict[str, float]:
  """Returns the values that are numbers, which is all that programs draw."""
  return {k: v for k, v in values.items() if math.isfinite(v)}


def _identity(folder: Path) -> str:
  """Returns the name of the run in trackers, which is drawn once."""
  path = files.inside(folder, 'tracker.txt')
  if not path.exists():
    files.replace(path, uuid.uuid4().hex[:12].encode())
  return path.read_text().strip()
