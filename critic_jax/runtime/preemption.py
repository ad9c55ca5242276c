"""SIGTERM, Ctrl-C and notices of pre-emption: the step under way is the last.

The loop asks after each step whether to save and to end. A second signal ends
the process at once. Outside of steps there is nothing to save that is not on
the disk: SIGTERM ends the process there, and Ctrl-C is a KeyboardInterrupt.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

from critic_jax.terminal import printable

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def status(number: int) -> int:
  """Returns the exit status of a process that a signal has ended, as shells do.

  >>> status(signal.SIGTERM), status(signal.SIGINT)
  (143, 130)
  """
  return 128 + number


@contextlib.contextmanager
def awaited() -> Iterator[Callable[[int], int]]:
  """Notes SIGTERM and SIGINT within the block.

  In a run of several processes jax's service takes SIGTERM, as which SIGINT is
  passed on to it, and has all processes end after the same step; each must ask
  after every step. A thread other than the main one notes nothing. A process
  that was started to ignore Ctrl-C, such as one in the background of a script,
  goes on to do so.

  Yields:
    step -> the exit status to end with after it, or 0 to go on.
  """
  if threading.current_thread() is not threading.main_thread():
    yield lambda step: 0
    return
  is_alone = jax.process_count() == 1
  signals = []

  def note(number, frame):
    del frame
    # A second signal ends the process at once, without a checkpoint.
    if signals:
      _die_of(number)
    signals.append(number)
    if not is_alone:
      os.kill(os.getpid(), signal.SIGTERM)

  def is_last(step):
    if is_alone:
      return status(signals[0]) if signals else 0
    if multihost_utils.reached_preemption_sync_point(step):
      return status(signals[0] if signals else signal.SIGTERM)
    return 0

  before = {
    number: signal.signal(number, note)
    for number in (_SIGNALS if is_alone else [signal.SIGINT])
    if signal.getsignal(number) is not signal.SIG_IGN
  }
  try:
    yield is_last
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


@contextlib.contextmanager
def interrupted_in_one_line() -> Iterator[None]:
  """Ends the process with one line at Ctrl-C, and at once at the second."""

  def interrupt(number, frame):
    del frame
    signal.signal(number, lambda number, frame: _die_of(number))
    raise KeyboardInterrupt

  is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
  if threading.current_thread() is threading.main_thread() and not is_ignored:
    signal.signal(signal.SIGINT, interrupt)  # for good: the process ends
  try:
    yield
  except KeyboardInterrupt:
    text = 'interrupted: the same command goes on from what is saved'
    print(printable(text), file=sys.stderr)
    raise SystemExit(status(signal.SIGINT)) from None


def _die_of(number: int) -> None:
  signal.signal(number, signal.SIG_DFL)
  os.kill(os.getpid(), number)
