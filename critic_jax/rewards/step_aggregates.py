"""One score of a solution from those of its steps, to choose the best of n.

Functions `(scores) -> float`; `scores` are float[S], probabilities that each
step is right. A solution of one step has that step's score by all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def minimum(scores: Sequence[float]) -> float:
  """Returns the score of the worst step.

  One wrong step makes a solution wrong; Math-Shepherd's
  (https://arxiv.org/abs/2312.08935).

  >>> minimum([0.5, 0.25, 1.0])
  0.25
  """
  return float(min(scores))


def product(scores: Sequence[float]) -> float:
  """Returns the probability that all steps are right, if they were independent.

  That of https://arxiv.org/abs/2305.20050. It falls with each step that is not
  sure, so that of two solutions the shorter one is preferred.

  >>> product([0.5, 0.25, 1.0])
  0.125
  """
  return float(math.prod(scores))


def mean(scores: Sequence[float]) -> float:
  """Returns the mean; many sure steps make up for a wrong one.

  >>> mean([0.5, 0.25, 0.75])
  0.5
  """
  return float(math.fsum(scores) / len(scores))


def last(scores: Sequence[float]) -> float:
  """Returns the score of the last step, which has seen the whole solution.

  >>> last([0.5, 0.25, 1.0])
  1.0
  """
  return float(scores[-1])
