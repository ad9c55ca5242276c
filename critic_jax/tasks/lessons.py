"""What imitation learns from: functions `(problem, rng, ...) -> Lesson`.

And, for cold starts, the hands that write critiques without a model: functions
`(solution, rng, ...) -> text`. A config names them; they are seeded and pure.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from critic_jax.types import Problem


class Lesson(NamedTuple):
  """One example for imitation: a chain of messages, of which the last counts.

  Attributes:
    problem: the problem at the root.
    messages: (stage, text) from the solution down.
  """

  problem: Problem
  messages: tuple[tuple[str, str], ...]


def reference(problem: Problem, rng: random.Random) -> Lesson:
  """The problem's own worked solution.

  Raises:
    ValueError: it has none.
  """
  if not problem.solution:
    raise ValueError(
      f'problem {problem.id}: got no solution; expected one to imitate'
    )
  return Lesson(problem, (('solve', problem.solution),))
