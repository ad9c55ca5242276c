"""Records that a rule writes in a model's place, as a teacher's critiques."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

import jax

from critic_jax.rollouts import rollout
from critic_jax.types import Generate, Key, Problem, Record, Stage

Write = Callable[[Problem | Record, random.Random], str]


def by_rule(
  stage: Stage,
  parents: Sequence[Problem | Record],
  write: Write,
  rng: random.Random,
  *,
  n: int = 1,
) -> list[Record]:
  """Makes n records of each parent, adjacent and in order, without tokens.

  Args:
    stage: the stage whose records they are.
    parents: problems, or records that were not refused.
    write: `(parent, rng) -> text`.
    rng: drawn from in the order of the records.
    n: records of each parent.
  """
  return [
    rollout.write(stage, parent, write(parent, rng), i)
    for parent, i in itertools.product(parents, range(n))
  ]


def or_sampled(
  stage: Stage,
  generate: Generate | None,
  parents: Sequence[Problem | Record],
  write: Write | None,
  key: Key,
  *,
  n: int = 1,
) -> list[Record]:
  """Makes n records of each parent, by a rule or, if there is none, by a model.

  Args:
    stage: the stage whose records they are.
    generate: the sampler of the model; a rule needs none.
    parents: problems or records. The rule has nothing to say of those that were
      refused; of the model's responses to them nothing is sampled.
    write: the rule, `(parent, rng) -> text`; None for the model.
    key: consumed.
    n: records of each parent.
  """
  if not write:
    return rollout.run(stage, generate, parents, key, n=n)
  parents = [parent for parent in parents if not rollout.is_refused(parent)]
  return by_rule(
    stage, parents, write, random.Random(int(jax.random.bits(key))), n=n
  )
