"""SIGTERM, and notices of pre-emption: the step under way is the last.

The loop asks after each step whether to save and to end. A second SIGTERM ends
the process at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

EXIT = 128 + signal.SIGTERM  # the status of a process that SIGTERM has ended


@contextlib.contextmanager
def awaited() -> Iterator[Callable[[int], bool]]:
  """Notes SIGTERM within the block; yields `step -> whether it is the last`.

  In a run of several processes jax's service takes every signal, and has all
  processes end after the same step; each must ask after every step. A thread
  other than the main one notes nothing.
  """
  if jax.process_count() > 1:
    yield multihost_utils.reached_preemption_sync_point
    return
  signals = []

  def note(number, frame):
    del frame
    # A second signal ends the process at once, without a checkpoint.
    if signals:
      signal.signal(number, signal.SIG_DFL)
      os.kill(os.getpid(), number)
    signals.append(number)

  if threading.current_thread() is not threading.main_thread():
    yield lambda step: False
    return
  before = signal.signal(signal.SIGTERM, note)
  try:
    yield lambda step: bool(signals)
  finally:
    signal.signal(signal.SIGTERM, before)
