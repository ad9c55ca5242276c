"""The runs of experiments: which there are, how far they are, who has them.

A run that is launched is held by a lock on <folder>/.lock, which its process
inherits: the lock is there as long as the process is, even if the launcher was
killed, and not longer. So nobody launches a run that another process trains;
one that trains by another's hand is known by its own lock (`files.lock`).
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
    """Of the folder."""
    return self.folder.name

  @property
  def log(self) -> Path:
    """What the run printed, where several run."""
    return self.folder.with_name(f'{self.name}.log')

  @property
  def steps(self) -> int:
    """Of all its phases."""
    settings = self.run.settings
    return sum(settings.phases[name].steps for name in settings.order)


def load(paths: Sequence[str | Path]) -> list[Experiment]:
  """Reads and checks experiments' files; see `experiment.load`."""
  return [experiment_lib.load(path) for path in paths]


def tasks(experiments: Sequence[Experiment], workdir: Path) -> list[Task]:
  """The runs of all experiments, each once, in the order of --index.

  Raises:
    ValueError: see `experiment.folder`.
  """
  every = {}
  for experiment in experiments:
    for run in experiment.runs:
      every.setdefault(run.digest, run)
  return [
    Task(run, experiment_lib.folder(run, workdir)) for run in every.values()
  ]


def state(folder: Path) -> str:
  """'running', or as `inspection.state` says."""
  found = reading.state(folder)
  return found if found == 'done' or not _is_held(folder) else 'running'


def hold(folder: Path, patience_s: float = 1.0) -> int | None:
  """Locks a run's folder; None if another process has it or writes to it.

  Returns:
    The open file that holds the lock: for the caller to close, and for the
    process that trains to inherit.
  """
  folder.mkdir(parents=True, exist_ok=True)
  descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
  until = time.monotonic() + patience_s
  while True:  # `_is_held` of another process may have it for a moment
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if not files.is_locked(folder / files.WRITER):
        return descriptor
    except BlockingIOError:
      pass
    if time.monotonic() > until:
      os.close(descriptor)
      return None
    time.sleep(0.05)


def _is_held(folder: Path) -> bool:
  return any(files.is_locked(folder / name) for name in (_LOCK, files.WRITER))


def others(task: Task) -> str:
  """What else lies beside a run that is not there yet and has its label.

  A config that was changed makes new folders; that should not pass unseen.

  Returns:
    '' or, e.g., 'seed=0-7c9e2a41 has other settings (phases.rl.steps)'.
  """
  label = task.run.label
  for folder in sorted(task.folder.parent.glob('*/config.json')):
    name = folder.parent.name
    if name.rpartition('-')[0] == label and folder.parent != task.folder:
      saved = strict_json.read(folder)
      differ = experiment_lib.differences(task.run, saved)
      more = ', ...' if len(differ) > 3 else ''
      return f'{name} has other settings ({", ".join(differ[:3])}{more})'
  return ''
