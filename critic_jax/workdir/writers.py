"""Writers of a run's numbers to programs that draw them.

TensorBoard's file is always there. Trackers (`trackers.py`) are named in the
setting `trackers`: an exception in one is told once, it gets nothing more of
the run, and the run goes on.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2, summary_pb2

from critic_jax import files
from critic_jax.types import Record
from critic_jax.workdir import settings, trackers

MAX_RECORDS, MAX_TEXT = 100, 2000  # rows and characters of a table of records


class TensorBoard:
  """A new file of scalars in the folder `tensorboard`, written at once.

  tensorboardX's SummaryWriter writes in a thread and, when that has died of a
  full disk, waits for it for ever.

  Args:
    folder: the run's.
    config: its settings, which become TensorBoard's hyperparameters.
    first_step: the first step that will be written; the new file replaces
      steps of older files from there on. None: they have no steps.
  """

  def __init__(self, folder: Path, config: Any, first_step: int | None):
    self._folder = files.inside(folder, 'tensorboard')
    with files.writing(self._folder):
      self._folder.mkdir(exist_ok=True)
      # By number: a clock that was set back does not change their order.
      number = len(list(self._folder.iterdir()))
      while (path := self._folder / f'{number:04d}.events').is_symlink():
        number += 1
      self._file = event_file_writer.EventsWriter(str(path))
      if first_step is not None:
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._file.write_event(
          event_pb2.Event(step=first_step, session_log=start)
        )
      # Without the list of its metrics, TensorBoard takes all scalars.
      _, hparams, _ = summary.hparams(settings.flat(config), {})
      self._file.write_event(event_pb2.Event(summary=hparams))

  def add(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
    """Writes the values of a step; those that are not finite have no place."""
    scalars = [
      summary_pb2.Summary.Value(tag=name, simple_value=value)
      for name, value in trackers.finite(values).items()
    ]
    event = event_pb2.Event(
      step=step, wall_time=seconds, summary=summary_pb2.Summary(value=scalars)
    )
    with files.writing(self._folder):
      self._file.write_event(event)
      self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    with contextlib.suppress(OSError):  # a full disk, reported before
      self._file.close()


class Writers:
  """All writers of a run, which are opened when there is something to write.

  Args:
    folder: the run's.
    report: called with a line of text when a tracker fails.
  """

  def __init__(self, folder: Path, report: Callable[[str], None] = print):
    self._folder = folder
    self._report = report
    self._config: Any = {}
    self._step: int | None = None  # the first to be written, then the last
    self._tensorboard: TensorBoard | None = None
    self._trackers: dict[str, trackers.Tracker | trackers.MLflow] = {}

  def describe(self, config: Any) -> None:
    """Takes the config of the run, as JSON has it."""
    self._config = config

  def rewind(self, step: int) -> None:
    """Takes the first step that will be written again."""
    self._step = step

  def add(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
    """Writes the metrics of a step.

    Raises:
      ValueError: TensorBoard's file cannot be written.
    """
    self._open()
    self._step = step
    self._tensorboard.add(step, seconds, values)
    self._track('add', step, values)

  def add_records(self, name: str, records: Sequence[Record]) -> None:
    """Gives trackers records of the step that was written last."""
    if self._config.get('trackers'):
      self._open()
      self._track('add_table', self._step or 0, name, rows(records))

  def add_results(self, name: str, columns: Mapping[str, Mapping]) -> None:
    """Writes metrics of evaluations, each at the end of the phase before it.

    Args:
      name: the name of the evaluation.
      columns: Estimates by phase and metric.

    Raises:
      ValueError: TensorBoard's file cannot be written.
    """
    self._open()
    has_phases = self._config.get('order')
    ends = settings.phase_ends(self._config) if has_phases else {}
    for phase, estimates in columns.items():
      step = ends.get(phase, 1) - 1
      values = {f'eval/{name}/{k}': e.value for k, e in estimates.items()}
      self._tensorboard.add(step, time.time(), values)
      self._track('add', step, values)

  def _open(self) -> None:
    if self._tensorboard is None:
      self._tensorboard = TensorBoard(self._folder, self._config, self._step)
      for name in trackers.names(self._config.get('trackers') or ''):
        with self._telling(name):
          self._trackers[name] = trackers.TRACKERS[name](
            self._folder, self._config
          )

  def _track(self, method: str, *arguments: Any) -> None:
    for name, tracker in list(self._trackers.items()):
      with self._telling(name):
        getattr(tracker, method)(*arguments)

  @contextlib.contextmanager
  def _telling(self, name: str):
    """Within the block an exception ends what `name` gets, not the run."""
    try:
      yield
    except Exception as error:  # of any kind: these are other people's
      self._trackers.pop(name, None)
      text = ' '.join(str(error).split())
      self._report(
        f'warning: {name}: got {type(error).__name__}: {text}; it gets nothing '
        "more of this run, which goes on; the run's folder has everything"
      )

  def close(self) -> None:
    """Closes all writers."""
    if self._tensorboard is not None:
      self._tensorboard.close()
    for name, tracker in list(self._trackers.items()):
      with self._telling(name):
        tracker.close()
    self._tensorboard, self._trackers = None, {}


def rows(records: Sequence[Record]) -> list[list[Any]]:
  """Returns the first records as rows of `COLUMNS`; a parent is a row."""
  numbers, table = {}, []
  for number, record in enumerate(records[:MAX_RECORDS]):
    numbers[id(record)] = number
    parsed = record.parsed
    verdict, correct = parsed.get('verdict'), parsed.get('correct')
    reward = record.scores.get('reward', math.nan)
    # Texts of models may hold lone surrogates, which UTF-8 cannot encode.
    texts = (record.problem.id, record.stage, record.text[:MAX_TEXT])
    table.append(
      [
        number,
        numbers.get(id(record.parent)),
        *(text.encode('utf-8', 'replace').decode() for text in texts),
        record.finish,
        verdict,
        correct if isinstance(correct, bool) else None,
        float(reward) if math.isfinite(reward) else None,
      ]
    )
  return table
