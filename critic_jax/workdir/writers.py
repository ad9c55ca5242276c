"""Scalars for TensorBoard, written at once.

tensorboardX's SummaryWriter writes in a thread and, when that has died of a
full disk, waits for it for ever.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import event_file_writer
from tensorboardX.proto import event_pb2, summary_pb2


class Writer:
  """A new file of scalars in a folder.

  Args:
    folder: the folder, made if it is missing.
    first_step: the first step that will be written; the new file replaces
      steps of older files from there on. None: they have no steps.
  """

  def __init__(self, folder: Path, first_step: int | None):
    folder.mkdir(exist_ok=True)
    # By number: a clock that was set back does not change their order.
    number = len(list(folder.iterdir()))
    while (path := folder / f'{number:04d}.events').is_symlink():
      number += 1
    self._file = event_file_writer.EventsWriter(str(path))
    if first_step is not None:
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._file.write_event(
        event_pb2.Event(step=first_step, session_log=start)
      )

  def add(self, step: int, time: float, values: Mapping[str, float]) -> None:
    """Writes the values of a step; those that are not finite have no place."""
    scalars = [
      summary_pb2.Summary.Value(tag=name, simple_value=value)
      for name, value in values.items()
      if math.isfinite(value)
    ]
    summary = summary_pb2.Summary(value=scalars)
    event = event_pb2.Event(step=step, wall_time=time, summary=summary)
    self._file.write_event(event)
    self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()
