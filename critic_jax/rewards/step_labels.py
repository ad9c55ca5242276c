"""Rewards of critiques by step labels: the first wrong step of a solution.

RefCritic does without such labels; critics of people's labels are trained by
them, e.g. DeepCritic's (https://arxiv.org/abs/2505.00662). Steps are counted
from 0, -1 is none (https://arxiv.org/abs/2412.06559).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from critic_jax.types import Problem, Record


def write(
  solutions: Sequence[Record], first_error: Callable[[Problem, str], int]
) -> list[Record]:
  """Returns the solutions with their labels: `parsed['first_error']`.

  Args:
    solutions: solve records; one that was refused has no text, and no label.
    first_error: (problem, solution) -> index of its first wrong step, or -1.
  """
  return [
    s
    if s.refused
    else dataclasses.replace(
      s, parsed={**s.parsed, 'first_error': first_error(s.problem, s.text)}
    )
    for s in solutions
  ]


def locate(critique: Record, refinements: Sequence[Record]) -> float | None:
  """Returns 1.0 if the critique's verdict and first wrong step are the label's.

  On a right solution the verdict is all there is to say. A critique without a
  verdict, or one that was cut off, earns nothing, and neither does
  'incorrect' without a step. None for a refused solution.

  Raises:
    ValueError: the solution has no label.
  """
  solution = critique.parent
  if solution.refused:
    return None
  label = solution.parsed.get('first_error')
  if label is None:
    raise ValueError(
      f"parsed['first_error'] of {solution.id}: got none; expected the "
      'index of its first wrong step, or -1; label solutions before scoring '
      'critiques'
    )
  if critique.finish != 'stop' or critique.parsed.get('status') != 'ok':
    return 0.0
  if critique.parsed['verdict'] == 'correct':
    return float(label == -1)
  return float(label >= 0 and critique.parsed.get('step') == label)
