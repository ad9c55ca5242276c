"""Rollouts: records grow from records, stage by stage.

Siblings, the records with one parent, are adjacent and in order. A record's
random key depends on the stage's key and on its parent's id alone, so that its
text does not depend on what else is sampled with it. A problem that a step has
twice is the one exception: ids repeat then, and those that come again have keys
of their own.

Rules grade on the host, in a thread, while the device samples. Records do not
change: a graded record is a new one, and the responses to the old one are
reattached to it.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import contextvars
import dataclasses
import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.runtime import timing
from critic_jax.types import (
  Generate,
  Generation,
  Key,
  Problem,
  Record,
  RewardFn,
  Stage,
)

# (text, reference) pairs -> 'right', 'wrong', 'unparsable' or 'timeout' each.
Grade = Callable[[Sequence[tuple[str, str]]], list[str]]


# Random keys are made for at least so many parents at once: for fewer than that
# their number is one shape to compile, for them and for the sampler.
_MIN_KEYS = 1024


_NO_TOKENS, _NO_LOGPROBS = np.zeros(0, np.int32), np.zeros(0, np.float32)
_REFUSED = Generation(_NO_TOKENS, _NO_TOKENS, _NO_LOGPROBS, '', 'prompt')


class Request(NamedTuple):
  """A stage to sample: the responses to some parents.

  Attributes:
    stage: the prompt of each response, and its parser.
    parents: problems for a first stage, records for a later one.
    key: consumed.
    n: responses to each parent.
    max_prompts: how many parents there may be at other steps, if more than now;
      the sampler's shapes are chosen by it, and so are the same at every step.
  """

  stage: Stage
  parents: Sequence[Problem | Record]
  key: Key
  n: int
  max_prompts: int = 0


def run(
  stage: Stage,
  generate: Generate,
  parents: Sequence[Problem | Record],
  key: Key,
  *,
  n: int,
  max_prompts: int = 0,
) -> list[Record]:
  """Samples n responses of a stage to each parent.

  Args:
    stage: the prompt of each response, and its parser.
    generate: the sampler of the model that answers.
    parents: problems for a first stage, records for a later one.
    key: consumed.
    n: responses to each parent.
    max_prompts: parents at other steps, if they may be more; see `Request`.

  Returns:
    len(parents) * n records.
  """
  return _sample([Request(stage, parents, key, n, max_prompts)], generate)


def _sample(requests: Sequence[Request], generate: Generate) -> list[Record]:
  """Samples requests of one n by one call; their records, in order.

  A request without parents is passed on too, so that the sampler can compile
  for the steps that have some. A refused parent is no content: nothing is
  sampled for it, and its responses are refused, too.
  """
  pairs = [
    (request.stage, parent)
    for request in requests
    for parent in request.parents
  ]
  asked = [
    request._replace(parents=[p for p in request.parents if not is_refused(p)])
    for request in requests
  ]
  max_prompts = sum(
    max(request.max_prompts, len(request.parents)) for request in requests
  )
  if not max_prompts:
    return []
  stage = requests[0].stage
  kind = stage.control_of or stage.name  # controls cost it time
  with timing.timed(f'time/{kind}_s'):
    prompts = [
      stage.prompt(parent) for stage, parent in pairs if not is_refused(parent)
    ]
    n = requests[0].n
    sampled = iter(generate(prompts, _keys(asked), n, max_prompts))
  records = [
    _record(stage, parent, index, generation)
    for stage, parent in pairs
    for index, generation in enumerate(
      [_REFUSED] * n if is_refused(parent) else next(sampled)
    )
  ]
  timing.add(f'tokens/{kind}', sum(len(record.tokens) for record in records))
  return records


def is_refused(parent: Problem | Record) -> bool:
  """Returns whether a parent is a record of which nothing was sampled."""
  return isinstance(parent, Record) and parent.refused


def _distinct_names(parents):
  """Yields each parent's id, with a number where the id comes again."""
  num_earlier = collections.Counter()
  for parent in parents:
    number = num_earlier[parent.id]
    yield f'{parent.id}#{number}' if number else parent.id
    num_earlier[parent.id] += 1


def _keys(requests):
  """Makes a key for each parent, and more, so that the array has few shapes."""
  ids = [
    name for request in requests for name in _distinct_names(request.parents)
  ]
  owners = [i for i, request in enumerate(requests) for _ in request.parents]
  size = max(_MIN_KEYS, 1 << (len(ids) - 1).bit_length())
  names, owner = np.zeros(size, np.uint32), np.zeros(size, np.int32)
  names[: len(ids)] = [zlib.crc32(name.encode()) for name in ids]
  owner[: len(ids)] = owners
  return _fold_in(tuple(request.key for request in requests), owner, names)


@jax.jit
def _fold_in(keys, owner, names):
  return jax.vmap(jax.random.fold_in)(jnp.stack(keys)[owner], names)


def _record(stage, parent, index, generation: Generation) -> Record:
  is_problem = isinstance(parent, Problem)
  return Record(
    problem=parent if is_problem else parent.problem,
    stage=stage.name,
    parent=None if is_problem else parent,
    index=index,
    parsed=stage.parse(generation.text),
    control_of=stage.control_of,
    **generation._asdict(),
  )


def write(
  stage: Stage, parent: Problem | Record, text: str, index: int = 0
) -> Record:
  """Makes a record of a text that nobody sampled, such as a demonstration."""
  generation = Generation(_NO_TOKENS, _NO_TOKENS, _NO_LOGPROBS, text, 'stop')
  return _record(stage, parent, index, generation)


def given(solutions: Sequence[Record]) -> list[Record]:
  """Returns given solutions as a step's own: it may have one of them twice."""
  return [dataclasses.replace(solution) for solution in solutions]


def grade(records: Sequence[Record], grade_fn: Grade) -> list[Record]:
  """Grades final answers: adds 'grade' and 'correct' to `parsed`.

  A response that was cut off is not right, even if its answer so far is. A
  record that was refused has no answer: its grade is 'refused'. A given
  solution stays as its file has it, unless that leaves the grade to us.
  """
  ungraded = [r for r in records if not r.refused and not _is_judged(r)]
  grades = []
  if ungraded:
    with timing.timed('time/grade_s'):
      grades = grade_fn([(r.text, r.problem.answer) for r in ungraded])
  grade_of = dict(zip(map(id, ungraded), grades, strict=True))
  return [
    record
    if _is_judged(record)
    else _graded(record, grade_of.get(id(record), 'refused'))
    for record in records
  ]


def _is_judged(record: Record) -> bool:
  """Whether a record is a given solution that its file judges."""
  parsed = record.parsed
  return 'part' in parsed and parsed.get('grade') != 'open'


def _graded(record: Record, mark: str) -> Record:
  correct = mark == 'right' and not record.truncated
  parsed = {**record.parsed, 'grade': mark, 'correct': correct}
  return dataclasses.replace(record, parsed=parsed)


def run_graded(
  stage: Stage,
  generate: Generate,
  parents: Sequence[Problem | Record],
  key: Key,
  grade_fn: Grade,
  *,
  n: int,
) -> list[Record]:
  """Runs a stage whose responses end in an answer, and grades them."""
  requests = [Request(stage, parents, key, n)]
  return run_graded_together(requests, generate, grade_fn)[0]


def run_graded_together(
  requests: Sequence[Request], generate: Generate, grade_fn: Grade
) -> list[list[Record]]:
  """Samples and grades several requests to one model.

  Requests of the same n are one call of the sampler, which then has more rows
  to decode together; its records are graded while the next call samples.

  Args:
    requests: requests for one kind of stage, such as refinements and controls.
    generate: the sampler of the model that answers.
    grade_fn: final answers to grades.

  Returns:
    The records of each request, as `run_graded` gives them.
  """
  by_n: dict[int, list[Request]] = {}
  for request in requests:
    by_n.setdefault(request.n, []).append(request)
  with _grader() as start:
    graded = {
      n: start(grade, _sample(same_n, generate), grade_fn)
      for n, same_n in by_n.items()
    }
  flat = {n: iter(future.result()) for n, future in graded.items()}
  return [
    list(itertools.islice(flat[request.n], request.n * len(request.parents)))
    for request in requests
  ]


@contextlib.contextmanager
def grading(
  records: Sequence[Record], grade_fn: Grade
) -> Iterator[concurrent.futures.Future]:
  """Grades records while the block runs, which ends when they are graded.

      with rollout.grading(solutions, grade) as graded:
        critiques = rollout.run(...)  # on the device
      critiques = rollout.reattach(critiques, solutions, graded.result())

  An error of `grade_fn` is raised at the end of the block. Its thread ends with
  the block, and blocks are not nested, so it needs no lock.
  """
  with _grader() as start:
    yield start(grade, records, grade_fn)


@contextlib.contextmanager
def _grader():
  """Yields `start(function, *args) -> Future`: a call in another thread."""
  futures = []

  def start(function, *args):
    context = contextvars.copy_context()  # with the open meter
    futures.append(thread.submit(context.run, function, *args))
    return futures[-1]

  with concurrent.futures.ThreadPoolExecutor(1, 'grader') as thread:
    yield start
    with timing.timed('time/grade_waited_s'):
      concurrent.futures.wait(futures)
  for future in futures:
    future.result()


def children(
  parents: Sequence[Record], records: Sequence[Record]
) -> list[list[Record]]:
  """Groups records by the parent that they respond to, in order."""
  by_parent = {id(parent): [] for parent in parents}
  for record in records:
    if id(record.parent) in by_parent:
      by_parent[id(record.parent)].append(record)
  return [by_parent[id(parent)] for parent in parents]


def score(
  records: Sequence[Record],
  responses: Sequence[Record],
  rewards: Mapping[str, RewardFn],
  weights: Mapping[str, float],
) -> list[Record]:
  """Rewards records by rules.

  Args:
    records: the records to score.
    responses: records whose parents are among them.
    rewards: rules by name.
    weights: the weights of the rules, by the same names.

  Returns:
    The records with `scores`: each rule's value, and their weighted sum as
    'reward'. A value that could not be determined is left out, and so is a sum
    to which it would add. A refused record has none.
  """
  scored = []
  for record, its in zip(records, children(records, responses), strict=True):
    if record.refused:
      scored.append(dataclasses.replace(record, scores={}))
      continue
    values = {name: rule(record, its) for name, rule in rewards.items()}
    values = {name: float(x) for name, x in values.items() if x is not None}
    if all(name in values or not weights[name] for name in rewards):
      values['reward'] = sum(weights[name] * values[name] for name in values)
    scored.append(dataclasses.replace(record, scores=values))
  return scored


def determined_rewards(
  records: Sequence[Record],
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the rewards of scored records, and which could be determined.

  Returns:
    float32[N], 0 where there is none, and bool[N].
  """
  rewards = [record.scores.get('reward') for record in records]
  where = np.array([reward is not None for reward in rewards], bool)
  return np.array([reward or 0.0 for reward in rewards], np.float32), where


def group_advantages(
  records: Sequence[Record],
  advantage_fn: Callable[[np.ndarray, np.ndarray], Any],
  num_siblings: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the advantages of scored records among their siblings.

  Args:
    records: scored records; siblings are adjacent.
    advantage_fn: rewards and which are determined, [N, G] -> advantages.
    num_siblings: G.

  Returns:
    float32[N * G], and bool[N * G]: which rewards could be determined.
  """
  rewards, where = determined_rewards(records)
  groups = -1, num_siblings
  advantages = advantage_fn(rewards.reshape(groups), where.reshape(groups))
  return np.asarray(advantages).reshape(-1), where


def reattach(
  responses: Sequence[Record], old: Sequence[Record], new: Sequence[Record]
) -> list[Record]:
  """Replaces the parents of responses that are in `old` by those in `new`.

  Grading and scoring make new records. Responses must follow, or both the old
  and the new records would be written.
  """
  successor = {id(a): b for a, b in zip(old, new, strict=True)}
  return [
    dataclasses.replace(r, parent=successor.get(id(r.parent), r.parent))
    for r in responses
  ]
