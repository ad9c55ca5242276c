"""Grader processes with deadlines that kill.

A grader of mathematics may hang inside C code or ask for all the memory, and
neither a signal handler nor a thread can stop it. Here it runs in a child that
limits itself; a child that misses its deadline is killed and replaced. Children
are programs of their own (`pool_child`) that speak length-prefixed JSON over
pipes: nothing is forked from a process that holds jax, the parent's main module
is not imported again, and no child imports jax.

A grader is a module of `GRADERS` with `extract`, `exact`, `decide` and
`CANARIES`. One that is not `IN_SANDBOX` can in its child neither start
processes nor write files, and needs no more than `memory_bytes`; one that is
puts what it runs into a sandbox of its own (see `sandbox`).

When items were given to children, each child that is still alive grades the
canaries before any grade is given out, and one at least does: if they do not
come out as known, nothing does, and the step is refused.

'right', 'wrong' and 'unparsable' are functions of the text, the reference and
the grader alone, but for programs that read a clock; those that took a child
are cached by their content. 'timeout' is about this machine too, and is asked
again. A run that goes on from a checkpoint grades as before without the cache
wherever grades are such functions; checkpoints carry the cache over, so that it
does for the others also.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import importlib
import json
import math
import os
import pathlib
import reprlib
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from critic_jax.rewards import code, code_host, pool_child, sandbox
from critic_jax.rewards.answers import Grade
from critic_jax.types import Problem, Record

GRADERS = {
  'answers': 'critic_jax.rewards.answers',
  'code': 'critic_jax.rewards.code',
}
_READY_S = 120.0  # for python and sympy to be imported on a busy machine
_MAX_CACHED = 100_000  # grades; 75 bytes each when they are saved
_MAX_MESSAGE = 2**16  # bytes that a child may answer
_MAX_ITEMS = 1_000  # items of a worker: sympy's caches only grow
_TRIES = 2

Pair = tuple[str, str]  # an answer and its reference
_Job = tuple[Pair, int]  # with the number of the try
_CHECK: _Job = (('', ''), 0)  # grade the canaries
_CACHED = ('right', 'wrong')


class Pool:
  """Grades solutions in up to `num_workers` child processes.

  What needs no child (most answers) is graded here; a child is started when
  one is first needed and lives until `close`. Not for several threads.

  Args:
    num_workers: children at most.
    name: the grader, a name in `GRADERS`.
    deadline_s: seconds an item may take, counted from the moment a child
      that has imported everything, or a sandbox that has started, receives it.
    memory_bytes: address space of a child. An expression that needs more is
      not shown to be equal, and so is 'wrong'.
    accept_missing: protections that a sandbox may lack (`sandbox.means`).

  Raises:
    ValueError: no such grader, a limit that is not positive, or a protection
      is missing on this machine and not accepted.
  """

  def __init__(
    self,
    num_workers: int,
    *,
    name: str = 'answers',
    deadline_s: float = 5.0,
    memory_bytes: int = 2 * 2**30,
    accept_missing: Collection[str] = (),
  ):
    limits = dict(
      num_workers=num_workers, deadline_s=deadline_s, memory_bytes=memory_bytes
    )
    for what, limit in limits.items():
      if not limit > 0:
        raise ValueError(
          f'{what}: got {limit}; expected > 0; give the pool a positive limit'
        )
    if name not in GRADERS:
      raise ValueError(
        f'graders.name: got {name!r}; expected one of {sorted(GRADERS)}'
      )
    self._name = name
    self._grader = importlib.import_module(GRADERS[name])
    self._settings = dict(
      grader=GRADERS[name], memory_bytes=memory_bytes, deadline_s=deadline_s
    )
    if self._grader.IN_SANDBOX:
      self._settings['means'] = sandbox.means(accept_missing)
    self._num_workers = num_workers
    self._workers: list[_Worker] = []
    self._cache: collections.OrderedDict[bytes, Grade] = (
      collections.OrderedDict()
    )
    self._vouched, self._failed_checks = True, 0
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

  def grade(self, items: Sequence[tuple[str, str]]) -> list[Grade]:
    """The grades of (text, reference) pairs, in their order.

    They are those of the grader, and 'timeout' for an item that could not be
    graded within the limits: it missed its deadline, or two children died of
    it (one may have been killed by the system for another's memory). A timeout
    is not cached, since a busy machine may be to blame; the same pair asked
    twice in one call is graded once.

    Raises:
      ValueError: the pool is closed.
      RuntimeError: children cannot be started, or a canary is not graded as
        known; then no grade of this call is to be trusted.
    """
    if self._closed:
      raise ValueError(
        'Pool.grade: got a closed pool; expected an open one; grade inside'
        ' the `with` block'
      )
    for text, reference, known in self._grader.CANARIES:
      found = self._cheap(self._grader.extract(text), reference, cached=False)
      self._check_canary(found or known, known, text)
    pairs = [
      (self._grader.extract(text), reference) for text, reference in items
    ]
    grades: dict[tuple[str | None, str], Grade] = {}
    pending = []
    for pair in dict.fromkeys(pairs):
      grade = self._cheap(*pair)
      if grade is None:
        pending.append(pair)
      else:
        grades[pair] = grade
    grades.update(self._run(pending))
    return [grades[pair] for pair in pairs]

  def check(self, examples: Iterable[Problem | Record]) -> None:
    """Raises ValueError for an answer that is not this grader's kind."""
    for example in examples:
      problem = getattr(example, 'problem', example)
      if code.is_reference(problem.answer) != self._grader.IN_SANDBOX:
        raise ValueError(
          f'graders.name: got {self._name!r} for the answer of {problem.id},'
          f' {reprlib.repr(problem.answer)}; expected the grader of its kind:'
          " 'code' for tests, 'answers' for final answers"
        )

  def state(self) -> dict[str, Grade]:
    """The cache: grades by hashes of content, the oldest first."""
    return {key.hex(): grade for key, grade in self._cache.items()}

  def restore(self, state: Mapping[str, Grade]) -> None:
    """Takes over a cache that `state` gave, in place of this one."""
    self._cache.clear()
    for key, grade in state.items():
      self._cache[bytes.fromhex(key)] = grade

  def _cheap(
    self, answer: str | None, reference: str, *, cached: bool = True
  ) -> Grade | None:
    if answer is None:
      return 'unparsable'
    decided = self._grader.exact(answer, reference)
    if decided is not None:
      return 'right' if decided else 'wrong'
    key = self._key((answer, reference))
    if not cached or key not in self._cache:
      return None
    self._cache.move_to_end(key)
    return self._cache[key]

  def _key(self, pair: Pair) -> bytes:
    content = json.dumps([self._name, *pair])  # no two give one text
    return hashlib.sha256(content.encode()).digest()

  def _check_canary(self, found: str, known: str, text: str) -> None:
    if found != known:
      raise RuntimeError(
        f'graders.{self._name}: got {found!r} for the canary {text!r}; expected'
        f' {known!r}; no grade of this step is to be trusted: mend the grader,'
        ' or the machine, and start the run again'
      )

  def _run(self, pairs: Sequence[Pair]) -> dict[Pair, Grade]:
    """Grades distinct pairs in children."""
    waiting = collections.deque((pair, 1) for pair in pairs)
    grades: dict[Pair, Grade] = {}
    self._vouched, self._failed_checks = not pairs, 0
    try:
      while (
        waiting
        or not self._vouched
        or any(worker.job or worker.unchecked for worker in self._workers)
      ):
        self._assign(waiting)
        for worker in self._heard():
          self._collect(worker, waiting, grades)
    finally:
      # After an exception (Ctrl-C) a late answer must not meet a later item,
      # and a child that failed a canary none at all.
      for worker in [w for w in self._workers if w.job or w.unchecked]:
        self._discard(worker)
    for pair, grade in grades.items():
      if grade in _CACHED:
        self._cache[self._key(pair)] = grade
    while len(self._cache) > _MAX_CACHED:
      self._cache.popitem(last=False)
    return grades

  def _assign(self, waiting: collections.deque[_Job]) -> None:
    """Starts the workers that are needed; gives items to the ready ones."""
    for worker in [w for w in self._workers if not w.job and not w.unchecked]:
      if worker.num_items >= _MAX_ITEMS:
        self._discard(worker)
    num_free = sum(not worker.job for worker in self._workers)
    num_allowed = self._num_workers - len(self._workers)
    num_needed = len(waiting) - num_free
    if not self._vouched and not self._workers:
      num_needed = max(num_needed, 1)
    for _ in range(min(num_needed, num_allowed)):
      self._workers.append(_Worker(self._settings))
    for worker in [w for w in self._workers if w.ready and not w.job]:
      if waiting and worker.num_items < _MAX_ITEMS:
        worker.send(waiting.popleft())
      elif worker.unchecked or not self._vouched:
        worker.send(_CHECK)

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
    grades: dict[Pair, Grade],
  ) -> None:
    """Takes a worker's answer, or replaces the worker."""
    job = worker.job
    answer = worker.receive()
    if answer in (None, 'ready'):
      return
    if job == _CHECK and isinstance(answer, list):
      canaries = pool_child.canaries(self._grader)
      for found, (text, _, known) in zip(answer, canaries, strict=True):
        self._check_canary(found, known, text)
      worker.unchecked, self._vouched = False, True
    elif job and job != _CHECK and answer in ('right', 'wrong', 'timeout'):
      grades[job[0]] = answer
      worker.unchecked = True
    else:
      self._discard(worker)
      if not worker.ready or isinstance(answer, dict):
        raise RuntimeError(self._no_start(worker, answer))
      if job == _CHECK:
        self._failed_checks += 1
        if self._failed_checks >= _TRIES:
          self._check_canary(answer, known='alive', text='any')
      elif job and answer == 'dead' and job[1] < _TRIES:
        waiting.append((job[0], job[1] + 1))
      elif job:
        grades[job[0]] = 'timeout'

  def _no_start(self, worker: _Worker, answer: Any) -> str:
    settings = json.dumps(self._settings)
    return (
      f'grader process: got {answer!r} (exit status'
      f' {worker.process.returncode}) before it was ready; expected it to'
      f' start; raise memory_bytes (got {self._settings["memory_bytes"]}), or'
      f' run `{sys.executable} -m {pool_child.__name__} {settings!r}`'
    )

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
    unchecked: whether it graded anything since it graded the canaries.
    deadline: time (`time.monotonic`) at which it is late.
  """

  def __init__(self, settings: Mapping[str, Any]):
    package = pathlib.Path(__file__).parents[2]  # where critic_jax is
    path = [str(package), *filter(None, [os.environ.get('PYTHONPATH')])]
    # Without preexec_fn python neither forks nor runs jax's fork handlers.
    self.process = subprocess.Popen(
      [
        *(sys.executable, '-P', '-m', 'critic_jax.rewards.pool_child'),
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
    self.job: _Job | None = None
    self.num_items = 0
    self.unchecked = False
    self.deadline = time.monotonic() + _READY_S
    startup_s = pool_child.STARTUP_S if settings.get('means') else 0.0
    self._seconds = settings['deadline_s'] + startup_s
    self._received = b''

  @property
  def late(self) -> bool:
    return self.deadline <= time.monotonic()

  def send(self, job: _Job) -> None:
    """Gives the child an item; a ready child reads, so none blocks for long."""
    self.job = job
    self.deadline = time.monotonic() + self._seconds
    if job == _CHECK:
      self.deadline += _READY_S  # says nothing of speed
    else:
      self.num_items += 1
    with contextlib.suppress(BrokenPipeError):  # `receive` will say 'dead'
      code_host.write(self.process.stdin, job[0] if job != _CHECK else 'check')

  def receive(self) -> Any:
    """A message, 'dead', 'late', or None: nothing yet.

    Messages are 'ready', a grade, the grades of the canaries, and a dict that
    says why nothing could be graded.
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
        return 'dead'  # it does not speak its language
      if len(self._received) >= size:
        try:
          message = json.loads(self._received[head:size])
        except ValueError:
          return 'dead'
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
