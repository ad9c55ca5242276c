"""The runs of experiments: their tasks, states and locks.

A launched run is held by a lock on <folder>/.lock, which its process inherits:
the lock lasts exactly as long as the process, even if the launcher was killed.
So no run is launched that another process trains. A run that was started by
hand has its own lock (`files.lock`), which is respected, too.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from critic_jax import files, strict_json
from critic_jax.inspection import reading
from critic_jax.launch import experiment as experiment_lib
from critic_jax.launch.experiment import Experiment, Run

_LOCK = '.lock'


class Task(NamedTuple):
  """A run and its folder."""

  run: Run
  folder: Path

  @property
  def name(self) -> str:
    """Returns the name of the folder."""
    return self.folder.name

  @property
  def log(self) -> Path:
    """Returns the file that the run prints to, where several run."""
    return self.folder.with_name(f'{self.name}.log')

  @property
  def steps(self) -> int:
    """Counts the steps of all its phases."""
    settings = self.run.settings
    return sum(settings.phases[name].steps for name in settings.order)


def load(paths: Sequence[str | Path]) -> list[Experiment]:
  """Reads and checks the files of experiments."""
  return [experiment_lib.load(path) for path in paths]


def tasks(experiments: Sequence[Experiment], workdir: Path) -> list[Task]:
  """Returns the runs of all experiments, each once, in the order of --index.

  Raises:
    ValueError: a run's folder holds a run with other settings, or none in
      `workdir` could save checkpoints.
  """
  files.check_checkpoints_path(workdir)
  runs = {}
  for experiment in experiments:
    for run in experiment.runs:
      runs.setdefault(run.digest, run)
  return [
    Task(run, experiment_lib.folder(run, workdir)) for run in runs.values()
  ]


def state(folder: Path) -> str:
  """Returns 'running' for a run that a process holds, else `reading.state`."""
  saved_state = reading.state(folder)
  if saved_state != 'done' and _is_held(folder):
    return 'running'
  return saved_state


def hold(folder: Path, patience_s: float = 1.0) -> int | None:
  """Locks a run's folder.

  Returns:
    The open file that holds the lock: the caller closes it, and the process
    that trains inherits it. None if another process holds the folder.
  """
  folder.mkdir(parents=True, exist_ok=True)
  descriptor = files.open_lock(folder / _LOCK)
  deadline = time.monotonic() + patience_s
  while True:  # `_is_held` of another process may hold it for a moment
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if not files.is_locked(folder / files.WRITER):
        return descriptor
    except BlockingIOError:
      pass
    if time.monotonic() > deadline:
      os.close(descriptor)
      return None
    time.sleep(0.05)


def _is_held(folder: Path) -> bool:
  return any(files.is_locked(folder / name) for name in (_LOCK, files.WRITER))


def run_of_same_label(task: Task) -> str:
  """Tells of a run that has a new run's label and other settings.

  A config that was changed makes new folders; the user should learn of it.

  Returns:
    '' or, e.g., 'seed=0-7c9e2a41 has other settings (phases.rl.steps)'.
  """
  for path in sorted(task.folder.parent.glob('*/config.json')):
    folder = path.parent
    label = folder.name.rpartition('-')[0]
    if label == task.run.label and folder != task.folder:
      saved = strict_json.read(path)
      names = experiment_lib.differences(task.run, saved)
      text = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
      return f'{folder.name} has other settings ({text})'
  return ''
