"""Rollouts: records grow from records, stage by stage.

Siblings, the records with one parent, are adjacent and in order. A record's
random key depends on the stage's key and on its parent's id alone, so that its
text does not depend on what else is sampled with it.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.rewards import leaks
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


def run(
  stage: Stage,
  generate: Generate,
  parents: Sequence[Problem | Record],
  key: Key,
  *,
  n: int,
) -> list[Record]:
  """Samples n responses of a stage to each parent.

  Args:
    stage: the prompt to write and the parser of what comes back.
    generate: the sampler of the model that answers.
    parents: problems for a first stage, records for a later one.
    key: consumed.
    n: responses to each.

  Returns:
    len(parents) * n records.
  """
  if not parents:
    return []
  prompts = [stage.prompt(parent) for parent in parents]
  keys = _keys(key, [parent.id for parent in parents])
  generations = generate(prompts, keys, n)
  return [
    _record(stage, parent, index, generation)
    for parent, siblings in zip(parents, generations, strict=True)
    for index, generation in enumerate(siblings)
  ]


def _keys(key, ids):
  """A key for each id, and more up to a power of two: few shapes compile."""
  names = np.zeros(1 << (len(ids) - 1).bit_length(), np.uint32)
  names[: len(ids)] = [zlib.crc32(name.encode()) for name in ids]
  return _fold_in(key, jnp.asarray(names))


@jax.jit
def _fold_in(key, names):
  return jax.vmap(jax.random.fold_in, (None, 0))(key, names)


def _record(stage, parent, index, generation: Generation) -> Record:
  is_problem = isinstance(parent, Problem)
  return Record(
    problem=parent if is_problem else parent.problem,
    stage=stage.name,
    parent=None if is_problem else parent,
    index=index,
    parsed=stage.parse(generation.text),
    **generation._asdict(),
  )


def write(
  stage: Stage, parent: Problem | Record, text: str, index: int = 0
) -> Record:
  """A record of a text that nobody sampled, such as a demonstration."""
  nothing, no_logprobs = np.zeros(0, np.int32), np.zeros(0, np.float32)
  generation = Generation(nothing, nothing, no_logprobs, text, 'stop')
  return _record(stage, parent, index, generation)


def grade(records: Sequence[Record], grade_fn: Grade) -> list[Record]:
  """Marks final answers: adds 'grade' and 'correct' to what was parsed.

  A response that was cut off is not right, whatever it says so far.
  """
  pairs = [(r.text, r.problem.answer) for r in records]
  return [
    dataclasses.replace(
      record,
      parsed={
        **record.parsed,
        'grade': grade,
        'correct': grade == 'right' and not record.truncated,
      },
    )
    for record, grade in zip(records, grade_fn(pairs), strict=True)
  ]


def run_graded(
  stage: Stage,
  generate: Generate,
  parents: Sequence[Problem | Record],
  key: Key,
  grade_fn: Grade,
  *,
  n: int,
) -> list[Record]:
  """`run`, then `grade`: for stages whose responses end in an answer."""
  return grade(run(stage, generate, parents, key, n=n), grade_fn)


def children(
  parents: Sequence[Record], records: Sequence[Record]
) -> list[list[Record]]:
  """The records that respond to each parent, in order."""
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
    weights: of each rule, by the same names.

  Returns:
    The records with `scores`: each rule's value, and 'reward', their sum
    weighted.
  """
  scored = []
  for record, its in zip(records, children(records, responses), strict=True):
    values = {name: float(rule(record, its)) for name, rule in rewards.items()}
    values['reward'] = sum(weights[name] * values[name] for name in rewards)
    scored.append(dataclasses.replace(record, scores=values))
  return scored


def replant(
  responses: Sequence[Record], old: Sequence[Record], new: Sequence[Record]
) -> list[Record]:
  """The responses with each parent among `old` replaced by its like in `new`.

  Scoring makes new records; what responds to the old ones has to follow, or
  both would be written.
  """
  successor = {id(a): b for a, b in zip(old, new, strict=True)}
  return [
    dataclasses.replace(r, parent=successor.get(id(r.parent), r.parent))
    for r in responses
  ]


def summary(records: Sequence[Record]) -> dict[str, float]:
  """Means over the records of each stage, named 'stage/what'.

  'count', 'length' in tokens and 'truncated' of every stage; the rewards by
  name where there are any; 'correct' where answers were graded; how often each
  verdict status and the verdict 'incorrect' came up; and of critiques also
  'judge_right' and 'judge_wrong', 'judge' on right and on wrong solutions, and
  'leak', how many of wrong solutions name the reference answer. Beside the
  controls of a stage (controls.py), 'refine/lift_over_empty' is its accuracy
  less theirs.
  """
  found: dict[str, list[float]] = {}
  for record in records:
    for name, value in _facts(record).items():
      found.setdefault(f'{record.stage}/{name}', []).append(value)
  means = {name: float(np.mean(values)) for name, values in found.items()}
  for stage in {record.stage for record in records}:
    means[f'{stage}/count'] = sum(r.stage == stage for r in records)
    kind, _, control = stage.partition('_')
    if control and f'{kind}/correct' in means:
      lift = means[f'{kind}/correct'] - means[f'{stage}/correct']
      means[f'{kind}/lift_over_{control}'] = lift
  return means


def _facts(record: Record) -> dict[str, float]:
  facts = {
    'length': len(record.tokens),
    'truncated': record.truncated,
    **record.scores,
  }
  parsed = record.parsed
  if 'correct' in parsed:
    facts['correct'] = parsed['correct']
    facts['timeout'] = parsed['grade'] == 'timeout'
  if 'status' in parsed:
    facts['called_wrong'] = parsed['verdict'] == 'incorrect'
    for status in ('missing', 'contradictory', 'unfinished'):
      facts[status] = parsed['status'] == status
    if 'correct' in record.parent.parsed:
      facts |= _facts_by_truth(record, record.parent.parsed['correct'])
  return facts


def _facts_by_truth(critique: Record, right: bool) -> dict[str, float]:
  facts = {} if right else {'leak': leaks.leaks(critique)}
  if 'judge' in critique.scores:
    facts['judge_right' if right else 'judge_wrong'] = critique.scores['judge']
  return facts
