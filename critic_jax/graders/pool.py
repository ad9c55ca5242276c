"""Grader processes with deadlines that kill.

A grader of mathematics may hang inside C code or ask for all the memory, and
neither a signal handler nor a thread can stop it. Here it runs in a child that
limits itself; a child that misses its deadline is killed and replaced. Children
are programs of their own (`pool_child`) that speak length-prefixed JSON over
pipes: nothing is forked from a process that holds jax, the parent's main module
is not imported again, and no child imports jax.

A grader is a module of `GRADERS` with `extract`, `exact`, `decide` and
`CANARIES`. Without `IN_SANDBOX` it can in its child neither start processes nor
write files, and has at most `memory_bytes`; with it, the grader runs programs
in a sandbox of their own (`sandbox`).

Canaries are items whose grades are known. After children graded items, each
child still alive, and at least one, grades the canaries before any grade is
returned. What a child graded that fails them is graded again, by fresh
children; if one of these fails, too, all grades are refused.

Sympy keeps what it computed, so a child's memory fills. A child that ever
needed half of it is replaced, and until then its 'wrong' is not trusted: too
little memory may be the reason, and libraries hide that.

'right', 'wrong' and 'unparsable' are functions of the text, the reference and
the grader alone, except for programs that read a clock or compute for about as
long as they may; those that took a child are cached by their content. 'timeout'
depends on the machine too, and is tried again. A run that continues from a
checkpoint grades as before: checkpoints carry the cache, which matters only for
grades that are no such functions.
"""

from __future__ import annotations

import collections
import hashlib
import importlib
import json
import reprlib
import selectors
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from critic_jax.answers.final_answers import Grade
from critic_jax.execution import code, sandbox
from critic_jax.graders import pool_child
from critic_jax.graders.pool_worker import CHECK, Job, Pair, Worker
from critic_jax.types import Problem, Record

GRADERS = {
  'answers': 'critic_jax.answers.final_answers',
  'code': 'critic_jax.execution.code',
}
_MAX_CACHED = 100_000  # grades; 75 bytes each when they are saved
_MAX_ITEMS = 1_000  # items of a worker
_TRIES = 2

_CACHED = ('right', 'wrong')


class Pool:
  """Grades solutions in up to `num_workers` child processes.

  Most answers need no child and are graded in this process; a child is
  started when it is first needed and lives until `close`. A pool is for one
  thread.

  Args:
    num_workers: the greatest number of children.
    name: the grader, a name in `GRADERS`.
    deadline_s: seconds an item may take, from the moment it reaches a
      child that has imported everything; seconds that a program may compute.
    memory_bytes: address space of a child. An expression that needs more than
      half of it may be a 'timeout'.
    accept_missing: protections that a sandbox may lack (`sandbox.find_walls`).

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
    for setting, limit in limits.items():
      if not limit > 0:
        raise ValueError(
          f'{setting}: got {limit}; expected > 0; give the pool a positive'
          ' limit'
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
      self._settings['walls'] = sandbox.find_walls(accept_missing)
    self._num_workers = num_workers
    self._workers: list[Worker] = []
    self._cache: collections.OrderedDict[bytes, Grade] = (
      collections.OrderedDict()
    )
    self._is_checked, self._has_failed, self._is_last = True, False, False
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
    """Returns the grades of (text, reference) pairs, in their order.

    A grade is the grader's, or 'timeout' for an item that could not be graded
    within the limits: it missed its deadline, it needed too much memory of a
    child that had graded nothing else, or two children died of it (the system
    may have killed the first for another's memory). A timeout is not cached,
    since a busy machine may be to blame; a pair that occurs twice in a call is
    graded once.

    Raises:
      ValueError: the pool is closed.
      RuntimeError: children cannot be started, or a canary gets a wrong grade
        of a fresh child, too; then no grade of this call is to be trusted.
    """
    if self._closed:
      raise ValueError(
        'Pool.grade: got a closed pool; expected an open one; grade inside'
        ' the `with` block'
      )
    # Canaries that need no child.
    for text, reference, expected in self._grader.CANARIES:
      answer = self._grader.extract(text)
      grade = self._grade_here(answer, reference, cached=False)
      self._check_canary(grade or expected, expected, text)
    # Grade each distinct pair once, in a child only if it must be.
    pairs = [
      (self._grader.extract(text), reference) for text, reference in items
    ]
    grades: dict[tuple[str | None, str], Grade] = {}
    pending = []
    for pair in dict.fromkeys(pairs):
      grade = self._grade_here(*pair)
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
    """Returns the cache: grades by hashes of content, the oldest first."""
    return {key.hex(): grade for key, grade in self._cache.items()}

  def restore(self, state: Mapping[str, Grade]) -> None:
    """Replaces the cache by one that `state` returned."""
    self._cache.clear()
    for key, grade in state.items():
      self._cache[bytes.fromhex(key)] = grade

  def _grade_here(
    self, answer: str | None, reference: str, *, cached: bool = True
  ) -> Grade | None:
    """Grades an answer without a child; None where one is needed."""
    if answer is None:
      return 'unparsable'
    decision = self._grader.exact(answer, reference)
    if decision is not None:
      return 'right' if decision else 'wrong'
    key = self._key((answer, reference))
    if not cached or key not in self._cache:
      return None
    self._cache.move_to_end(key)
    return self._cache[key]

  def _key(self, pair: Pair) -> bytes:
    content = json.dumps([self._name, *pair])  # injective
    return hashlib.sha256(content.encode()).digest()

  def _check_canary(self, grade: str, expected: str, text: str) -> None:
    if grade != expected:
      raise RuntimeError(
        f'graders.{self._name}: got {grade!r} for the canary {text!r}; expected'
        f' {expected!r}; no grade of this step is to be trusted: mend the'
        ' grader, or the machine, and start the run again'
      )

  def _run(self, pairs: Sequence[Pair]) -> dict[Pair, Grade]:
    """Grades distinct pairs in children."""
    if not pairs:
      return {}
    grades = self._run_once(pairs, is_last=False)
    if self._has_failed:
      while self._workers:
        self._discard(self._workers[0])
      doubted_pairs = [pair for pair in pairs if pair not in grades]
      grades |= self._run_once(doubted_pairs, is_last=True)
    # Cache the grades; forget those that were not read for the longest.
    for pair, grade in grades.items():
      if grade in _CACHED:
        self._cache[self._key(pair)] = grade
    while len(self._cache) > _MAX_CACHED:
      self._cache.popitem(last=False)
    return grades

  def _run_once(
    self, pairs: Sequence[Pair], is_last: bool
  ) -> dict[Pair, Grade]:
    """Grades pairs, but for those of children that fail the canaries.

    Sets `_has_failed` to whether a child did; the last time that is an error.
    """
    waiting = collections.deque((pair, 1) for pair in pairs)
    grades: dict[Pair, Grade] = {}
    self._is_checked, self._has_failed, self._is_last = False, False, is_last
    try:
      while (
        waiting
        or not self._is_checked
        or any(worker.job or worker.unchecked for worker in self._workers)
      ):
        self._assign(waiting)
        for worker in self._wait():
          self._collect(worker, waiting, grades)
    finally:
      # After an exception (Ctrl-C) a late answer must not be taken for that of
      # a later item, and a child that failed a canary must grade no more.
      for worker in [w for w in self._workers if w.job or w.unchecked]:
        self._discard(worker)
    return grades

  def _assign(self, waiting: collections.deque[Job]) -> None:
    """Starts the workers that are needed; gives items to the ready ones."""
    for worker in [w for w in self._workers if not w.job and not w.unchecked]:
      if _is_used_up(worker):
        self._discard(worker)
    num_free = sum(not worker.job for worker in self._workers)
    num_allowed = self._num_workers - len(self._workers)
    num_needed = len(waiting) - num_free
    if not self._is_checked and not self._workers:
      num_needed = max(num_needed, 1)
    for _ in range(min(num_needed, num_allowed)):
      self._workers.append(Worker(self._settings))
    for worker in [w for w in self._workers if w.ready and not w.job]:
      if waiting and not _is_used_up(worker):
        worker.send(waiting.popleft())
      elif worker.unchecked or not self._is_checked:
        worker.send(CHECK)

  def _wait(self) -> list[Worker]:
    """Waits until workers answered, died or are late; returns these."""
    with selectors.DefaultSelector() as selector:
      for worker in self._workers:
        selector.register(worker.stdout, selectors.EVENT_READ, worker)
      first = min(worker.deadline for worker in self._workers)
      selected = selector.select(max(first - time.monotonic(), 0.0))
    workers = [key.data for key, _ in selected]
    return workers + [w for w in self._workers if w.late and w not in workers]

  def _collect(
    self,
    worker: Worker,
    waiting: collections.deque[Job],
    grades: dict[Pair, Grade],
  ) -> None:
    """Takes a worker's answer, or replaces the worker."""
    job = worker.job
    answer = worker.receive()
    if answer in (None, 'ready'):
      return
    if job == CHECK and isinstance(answer, list):
      canaries = pool_child.canaries(self._grader)
      for grade, (text, _, expected) in zip(answer, canaries, strict=True):
        if grade != expected:
          return self._doubt(worker, grades, (grade, expected, text))
      worker.unchecked, self._is_checked = [], True
    elif job == CHECK:
      self._doubt(worker, grades, (answer, 'alive', 'any'))
    elif job and (
      answer == 'memory' or (answer == 'wrong' and worker.is_short_of_memory)
    ):
      # Earlier items may have filled the memory, but not if there were none.
      if worker.num_items > 1:
        waiting.appendleft(job)
      else:
        grades[job[0]] = 'timeout'
    elif job and answer in ('right', 'wrong', 'timeout'):
      grades[job[0]] = answer
      worker.unchecked.append(job[0])
    else:
      self._discard(worker)
      if not worker.ready or isinstance(answer, dict):
        raise RuntimeError(self._start_error(worker, answer))
      if job and answer == 'dead' and job[1] < _TRIES:
        waiting.append((job[0], job[1] + 1))
      elif job:
        grades[job[0]] = 'timeout'

  def _doubt(
    self,
    worker: Worker,
    grades: dict[Pair, Grade],
    failure: tuple[str, str, str],
  ) -> None:
    """Forgets the grades of a child that failed the canaries, and the child.

    Args:
      worker: the child.
      grades: the grades so far.
      failure: the canary's grade, its expected grade and its text.

    Raises:
      RuntimeError: it was a fresh child.
    """
    self._discard(worker)
    if isinstance(failure[0], dict):
      raise RuntimeError(self._start_error(worker, failure[0]))
    if self._is_last:
      self._check_canary(*failure)
    for pair in worker.unchecked:
      del grades[pair]
    # There will be a check of the fresh children.
    self._has_failed = self._is_checked = True

  def _start_error(self, worker: Worker, answer: Any) -> str:
    settings = json.dumps(self._settings)
    return (
      f'grader process: got {answer!r} (exit status'
      f' {worker.process.returncode}) before it was ready; expected it to'
      f' start; raise memory_bytes (got {self._settings["memory_bytes"]}), or'
      f' run `{sys.executable} -m {pool_child.__name__} {settings!r}`'
    )

  def _discard(self, worker: Worker) -> None:
    worker.kill()
    self._workers.remove(worker)


def _is_used_up(worker: Worker) -> bool:
  """Whether a child must grade no more: sympy's caches only grow."""
  return worker.num_items >= _MAX_ITEMS or worker.is_short_of_memory
