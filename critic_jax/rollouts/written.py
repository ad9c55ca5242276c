"""Records that a rule writes in a model's place, as a teacher's critiques."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

from critic_jax.rollouts import rollout
from critic_jax.types import Problem, Record, Stage


def by_rule(
  stage: Stage,
  parents: Sequence[Problem | Record],
  write: Callable[[Problem | Record, random.Random], str],
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
