"""Keeps as many critiques of right solutions as of wrong ones."""

from __future__ import annotations

from collections.abc import Sequence

from critic_jax.rewards import refinement
from critic_jax.types import Record


def balanced(critiques: Sequence[Record], num_rows: int) -> list[Record]:
  """Keeps the first critiques of right and of wrong solutions, equally many.

  A critic that imitates more of one kind learns to say that verdict.

  Args:
    critiques: the critiques, those first that are preferred; a solution whose
      grade is not known is of neither kind.
    num_rows: the most critiques to keep.
  """
  by_truth = {
    truth: [c for c in critiques if refinement.is_right(c.parent) is truth]
    for truth in (True, False)
  }
  num_each = min(num_rows // 2, *map(len, by_truth.values()))
  return by_truth[True][:num_each] + by_truth[False][:num_each]
