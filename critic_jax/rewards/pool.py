"""Grader processes with deadlines that kill.

A grader of mathematics may hang inside C code or ask for all the memory, and
neither a signal handler nor a thread can stop it. Here it runs in a child
with a limit on its address space; a child that misses its deadline is killed
and replaced. Children are programs of their own (`python -m
critic_jax.rewards.pool`) that speak length-prefixed JSON over pipes: nothing
is forked from a process that holds jax, the parent's main module is not
imported again, and no child imports jax.
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
import os
import pathlib
import resource
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

from critic_jax.rewards import answers

_LENGTH = struct.Struct('>I')  # bytes of the JSON that follows
_READY_S = 120.0  # for python and sympy to be imported on a busy machine
_MAX_CACHED = 100_000  # pairs; a pair is at most 2,000 characters
_MAX_ITEMS = 1_000  # items of a worker: sympy's caches only grow
_TRIES = 2

Pair = tuple[str, str]  # an answer and its reference
_Job = tuple[Pair, int]  # with the number of the try


class Pool:
  """Grades solutions in up to `num_workers` child processes.

  What needs no sympy (most answers) is graded here; a child is started when
  one is first needed and lives until `close`. Not for several threads.

  Args:
    num_workers: children at most.
    deadline_s: seconds an answer may take, counted from the moment a child
      that has imported everything receives it.
    memory_bytes: address space of a child. An expression that needs more is
      not shown to be equal, and so is 'wrong'.

  Raises:
    ValueError: a limit that is not positive.
  """

  def __init__(
    self,
    num_workers: int,
    *,
    deadline_s: float = 5.0,
    memory_bytes: int = 2 * 2**30,
  ):
    limits = dict(
      num_workers=num_workers, deadline_s=deadline_s, memory_bytes=memory_bytes
    )
    for name, limit in limits.items():
      if not limit > 0:
        raise ValueError(
          f'{name}: got {limit}; expected > 0; give the pool a positive limit'
        )
    self._num_workers = num_workers
    self._deadline_s = deadline_s
    self._memory_bytes = memory_bytes
    self._workers: list[_Worker] = []
    self._cache: collections.OrderedDict[Pair, answers.Grade] = (
      collections.OrderedDict()
    )
    self._closed = False

  def __enter__(self) -> Pool:
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()

  def close(self) -> None:
    """Kills every child; the pool cannot be used again."""
    self._closed = True
    while self._workers:
      self._workers.pop().kill()

  def grade(self, items: Sequence[tuple[str, str]]) -> list[answers.Grade]:
    """The grades of (text, reference) pairs, in their order.

    They are those of `answers.grade`, and 'timeout' for an answer that could
    not be graded within the limits: it missed its deadline, or two children
    died of it (one may have been killed by the system for another's memory).
    A timeout is not cached, since a busy machine may be to blame; the same
    pair asked twice in one call is graded once.

    Raises:
      ValueError: the pool is closed.
      RuntimeError: children cannot be started.
    """
    if self._closed:
      raise ValueError(
        'Pool.grade: got a closed pool; expected an open one; grade inside'
        ' the `with` block'
      )
    pairs = [(answers.extract(text), reference) for text, reference in items]
    grades: dict[tuple[str | None, str], answers.Grade] = {}
    pending = []
    for pair in dict.fromkeys(pairs):
      grade = self._cheap(*pair)
      if grade is None:
        pending.append(pair)
      else:
        grades[pair] = grade
    grades.update(self._run(pending))
    return [grades[pair] for pair in pairs]

  def _cheap(self, answer: str | None, reference: str) -> answers.Grade | None:
    if answer is None:
      return 'unparsable'
    decided = answers.exact(answer, reference)
    if decided is not None:
      return 'right' if decided else 'wrong'
    if (answer, reference) in self._cache:
      self._cache.move_to_end((answer, reference))
    return self._cache.get((answer, reference))

  def _run(self, pairs: Sequence[Pair]) -> dict[Pair, answers.Grade]:
    """Grades distinct pairs in children."""
    waiting = collections.deque((pair, 1) for pair in pairs)
    grades: dict[Pair, answers.Grade] = {}
    try:
      while waiting or any(worker.job for worker in self._workers):
        self._assign(waiting)
        for worker in self._heard():
          self._collect(worker, waiting, grades)
    finally:
      # After an exception (Ctrl-C) a late answer must not meet a later item.
      for worker in [worker for worker in self._workers if worker.job]:
        self._discard(worker)
    for pair, grade in grades.items():
      if grade != 'timeout':
        self._cache[pair] = grade
    while len(self._cache) > _MAX_CACHED:
      self._cache.popitem(last=False)
    return grades

  def _assign(self, waiting: collections.deque[_Job]) -> None:
    """Starts the workers that are needed; gives items to the ready ones."""
    for worker in [w for w in self._workers if not w.job]:
      if worker.num_items >= _MAX_ITEMS:
        self._discard(worker)
    num_free = sum(not worker.job for worker in self._workers)
    num_allowed = self._num_workers - len(self._workers)
    for _ in range(min(len(waiting) - num_free, num_allowed)):
      self._workers.append(_Worker(self._deadline_s, self._memory_bytes))
    for worker in self._workers:
      if waiting and worker.ready and not worker.job:
        worker.send(waiting.popleft())

  def _heard(self) -> list[_Worker]:
    """Waits for workers that answered, died or are late."""
    with selectors.DefaultSelector() as selector:
      for worker in self._workers:
        selector.register(worker.stdout, selectors.EVENT_READ, worker)
      first = min(worker.deadline for worker in self._workers)
      selected = selector.select(max(first - time.monotonic(), 0.0))
    heard = [key.data for key, _ in selected]
    return heard + [w for w in self._workers if w.late and w not in heard]

  def _collect(
    self,
    worker: _Worker,
    waiting: collections.deque[_Job],
    grades: dict[Pair, answers.Grade],
  ) -> None:
    """Takes a worker's answer, or replaces the worker."""
    job = worker.job
    answer = worker.receive()
    if answer in ('right', 'wrong'):
      grades[job[0]] = answer
    elif answer in ('dead', 'late'):
      self._discard(worker)
      if not worker.ready:
        raise RuntimeError(
          f'grader process: got {answer!r} (exit status'
          f' {worker.process.returncode}) before it was ready; expected it to'
          f' start; raise memory_bytes (got {self._memory_bytes}), or run'
          f' `{sys.executable} -m {__name__} {self._memory_bytes} 1` to see why'
        )
      if job and answer == 'dead' and job[1] < _TRIES:
        waiting.append((job[0], job[1] + 1))
      elif job:
        grades[job[0]] = 'timeout'

  def _discard(self, worker: _Worker) -> None:
    worker.kill()
    self._workers.remove(worker)


class _Worker:
  """A child process, and the item it is busy with.

  Attributes:
    process: the child; `stdout` is its end to read from.
    ready: whether it has imported everything.
    job: the pair it grades with the number of this try, None if idle.
    num_items: how many it was given.
    deadline: time (`time.monotonic`) at which it is late.
  """

  def __init__(self, deadline_s: float, memory_bytes: int):
    package = pathlib.Path(__file__).parents[2]  # where critic_jax is
    path = [str(package), *filter(None, [os.environ.get('PYTHONPATH')])]
    # Without preexec_fn python neither forks nor runs jax's fork handlers.
    self.process = subprocess.Popen(
      [
        *(sys.executable, '-P', '-m', 'critic_jax.rewards.pool'),
        *(str(memory_bytes), str(deadline_s)),
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
    self.job: _Job | None = None
    self.num_items = 0
    self.deadline = time.monotonic() + _READY_S
    self._deadline_s = deadline_s
    self._received = b''

  @property
  def late(self) -> bool:
    return self.deadline <= time.monotonic()

  def send(self, job: _Job) -> None:
    """Gives the child an item; a pair fits into the pipe, so none blocks."""
    self.job = job
    self.num_items += 1
    self.deadline = time.monotonic() + self._deadline_s
    with contextlib.suppress(BrokenPipeError):  # `receive` will say 'dead'
      _write(self.process.stdin, job[0])

  def receive(self) -> str | None:
    """'ready', 'right', 'wrong', 'dead', 'late', or None: nothing yet."""
    with contextlib.suppress(BlockingIOError):
      data = os.read(self.stdout.fileno(), 1 << 16)
      if not data:
        return 'dead'
      self._received += data
    if len(self._received) >= _LENGTH.size:
      size = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
      if len(self._received) >= size:
        message = json.loads(self._received[_LENGTH.size : size])
        self._received = self._received[size:]
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


def _write(file: BinaryIO, message: Any) -> None:
  data = json.dumps(message).encode()  # ASCII: lone surrogates are escaped
  file.write(_LENGTH.pack(len(data)) + data)
  file.flush()


def _read(file: BinaryIO) -> Any:
  """The next message; None at the end of the file."""
  head = file.read(_LENGTH.size)
  if len(head) < _LENGTH.size:
    return None
  return json.loads(file.read(_LENGTH.unpack(head)[0]))


def main(memory_bytes: int, deadline_s: float) -> None:
  """A child: reads pairs from stdin and writes grades until stdin ends.

  It limits itself: should its parent die while it grades, the kernel ends it
  by an alarm soon after the deadline, within C code too.
  """
  resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  signal.signal(signal.SIGALRM, signal.SIG_DFL)
  # Parsers print; only messages may enter the pipe.
  output = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)
  answers.equivalent(r'\frac{\pi}{2}', r'\sqrt{2}')  # imports and warms up
  _write(output, 'ready')
  while (pair := _read(sys.stdin.buffer)) is not None:
    signal.setitimer(signal.ITIMER_REAL, 2 * deadline_s + 5)
    equivalent = answers.equivalent(*pair)
    signal.setitimer(signal.ITIMER_REAL, 0)
    _write(output, 'right' if equivalent else 'wrong')


if __name__ == '__main__':
  main(int(sys.argv[1]), float(sys.argv[2]))
