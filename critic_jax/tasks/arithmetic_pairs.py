"""Pairs of solutions of the embedded world, whose labels may be wrong.

A right solution and one with slips, the gold, are compared; the label of a pair
is wrong with a given probability, as those of people are.
"""

from __future__ import annotations

import dataclasses
import random

from critic_jax.tasks import arithmetic_labels
from critic_jax.types import Comparison, Problem


def solutions(
  problem: Problem, rng: random.Random, *, max_slips: int, noise: float
) -> Comparison:
  """Compares a right solution with a wrong one.

  Args:
    problem: a problem of the embedded world.
    rng: consumed.
    max_slips: the greatest number of wrong steps, at least 1, any number alike.
    noise: the probability that the wrong one is labelled as preferred.

  Returns:
    The comparison, the right solution first. The scores are 'preference', 1
    and 0 by the label, and 'right_share', the gold: the share of steps that are
    right by themselves. `parsed` is that of `arithmetic_labels.solution`.

  Raises:
    ValueError: `noise` is no probability.
  """
  if not 0 <= noise <= 1:
    raise ValueError(f'noise: got {noise}; expected 0 to 1')
  right = arithmetic_labels.solution(problem, False, rng)
  wrong = arithmetic_labels.solution(problem, True, rng, max_slips=max_slips)
  is_flipped = rng.random() < noise
  responses = []
  for index, solution in enumerate((right, wrong)):
    marks = arithmetic_labels.step_marks(problem, solution.text)
    scores = {
      'preference': float((index == 0) != is_flipped),
      'right_share': 1 - sum(marks) / len(marks),
    }
    responses.append(dataclasses.replace(solution, index=index, scores=scores))
  return Comparison(problem, tuple(responses))
