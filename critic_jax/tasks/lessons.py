"""Lessons to imitate: functions `(problem, rng, ...) -> Lesson`.

Cold starts imitate critiques that no model wrote: functions
`(solution, rng, ...) -> text`. A config names both kinds; they are seeded and
pure.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from critic_jax.types import Problem


class Lesson(NamedTuple):
  """An example to imitate: a chain of messages, only the last is learned.

  Attributes:
    problem: the problem at the root.
    messages: (stage, text) from the solution down.
    segments: where each segment of the last text ends, and how good it is; ()
      where that is not known.
  """

  problem: Problem
  messages: tuple[tuple[str, str], ...]
  segments: tuple[tuple[int, float], ...] = ()


def reference(problem: Problem, rng: random.Random) -> Lesson:
  """Returns the problem's own worked solution.

  Raises:
    ValueError: it has none.
  """
  if not problem.solution:
    raise ValueError(
      f'problem {problem.id}: got no solution; expected one to imitate'
    )
  return Lesson(problem, (('solve', problem.solution),))
