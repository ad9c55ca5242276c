"""A grader process as its pool sees it: started, sent items, read, killed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from critic_jax.execution import code, code_host
from critic_jax.graders import pool_child

_READY_S = 120.0  # for python and sympy to be imported on a busy machine
_MAX_MESSAGE = 2**16  # bytes that a child may answer

Pair = tuple[str, str]  # an answer and its reference
Job = tuple[Pair, int]  # with the number of the try
CHECK: Job = (('', ''), 0)  # grade the canaries


class Worker:
  """A child process, and the item it is busy with.

  Attributes:
    process: the child.
    stdout: the pipe of its answers.
    ready: whether it has imported everything.
    job: the pair that it grades with the number of the try, None if idle.
    num_items: the number of items sent to it.
    unchecked: the pairs that it graded since it graded the canaries.
    deadline: the time (`time.monotonic`) at which it is late.
  """

  def __init__(self, settings: Mapping[str, Any]):
    package = pathlib.Path(__file__).parents[2]  # where critic_jax is
    path = [str(package), *filter(None, [os.environ.get('PYTHONPATH')])]
    # Without preexec_fn python neither forks nor runs jax's fork handlers.
    self.process = subprocess.Popen(
      [
        *(sys.executable, '-P', '-m', 'critic_jax.graders.pool_child'),
        json.dumps(settings),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      bufsize=0,
      close_fds=True,
      start_new_session=True,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(path)},
    )
    self.stdout = self.process.stdout
    os.set_blocking(self.stdout.fileno(), False)
    self.ready = False
    self.job: Job | None = None
    self.num_items = 0
    self.unchecked: list[Pair] = []
    self.deadline = time.monotonic() + _READY_S
    self._seconds = settings['deadline_s']
    if settings.get('walls'):
      self._seconds *= code.SLOWDOWN
      self._seconds += pool_child.STARTUP_S
    self._received = b''
    self._max_bytes = settings['memory_bytes']
    self._ready_bytes = 0
    self._has_failed = False

  @property
  def late(self) -> bool:
    """Whether its deadline has passed."""
    return self.deadline <= time.monotonic()

  @property
  def is_short_of_memory(self) -> bool:
    """Whether memory failed it, or half of what it has to grade in was used.

    As long as not, no expression that fits into the other half failed for what
    earlier ones left behind.
    """
    used_bytes = self._peak_bytes() - self._ready_bytes
    is_half_used = 2 * used_bytes > self._max_bytes - self._ready_bytes
    return self.ready and (self._has_failed or is_half_used)

  def _peak_bytes(self) -> int:
    """Returns the greatest address space that it had; 0 if it is dead."""
    with contextlib.suppress(OSError):
      status = pathlib.Path(f'/proc/{self.process.pid}/status').read_text()
      if peak := re.search(r'VmPeak:\s+([0-9]+) kB', status):
        return 1024 * int(peak[1])
    return 0

  def send(self, job: Job) -> None:
    """Sends the child an item; a ready child reads, so this is quick."""
    self.job = job
    self.deadline = time.monotonic() + self._seconds
    if job == CHECK:
      self.deadline += _READY_S  # a check is no test of speed
    else:
      self.num_items += 1
    with contextlib.suppress(BrokenPipeError):  # `receive` will say 'dead'
      code_host.write(self.process.stdin, job[0] if job != CHECK else 'check')

  def receive(self) -> Any:
    """Returns a message, 'dead', 'late', or None: nothing yet.

    Messages are 'ready', a grade, 'memory' if there was too little of it, the
    grades of the canaries, and a dict with the reason why nothing could be
    graded.
    """
    with contextlib.suppress(BlockingIOError):
      data = os.read(self.stdout.fileno(), 1 << 16)
      if not data:
        return 'dead'
      self._received += data
    head = code_host.LENGTH.size
    if len(self._received) >= head:
      size = head + code_host.LENGTH.unpack_from(self._received)[0]
      if size > _MAX_MESSAGE:
        return 'dead'  # it does not keep to the protocol
      if len(self._received) >= size:
        try:
          message = json.loads(self._received[head:size])
        except ValueError:
          return 'dead'
        self._received = self._received[size:]
        if not self.ready:
          self._ready_bytes = self._peak_bytes()
        self._has_failed |= message == 'memory'
        self.ready, self.job, self.deadline = True, None, math.inf
        return message
    return 'late' if self.late else None

  def kill(self) -> None:
    """Kills the child with its process group; leaves no zombie, no pipe."""
    # Until `wait` the child's id cannot be reused, even if it is dead.
    if self.process.returncode is None:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(self.process.pid, signal.SIGKILL)
      self.process.wait()
    self.process.stdin.close()
    self.process.stdout.close()
