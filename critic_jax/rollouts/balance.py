"""As many critiques of right solutions as of wrong ones are learned from.

A critic that sees more of one kind learns to say that verdict: it is paid for
it until it can tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from critic_jax.rewards import refinement
from critic_jax.types import Record


def balanced(critiques: Sequence[Record], num_rows: int) -> list[Record]:
  """Keeps the first critiques of right and of wrong solutions, equally many.

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


def groups(
  critiques: Sequence[Record],
  advantage: np.ndarray,
  where: np.ndarray,
  num_siblings: int,
) -> np.ndarray:
  """Chooses as many groups of right solutions as of wrong ones, the first.

  Only groups that teach are counted: those whose critiques earned the same have
  no advantage.

  Args:
    critiques: N groups of G critiques of one solution, adjacent.
    advantage: float32[N * G].
    where: bool[N * G], which rewards could be determined.
    num_siblings: G.

  Returns:
    bool[N * G]: `where`, without the groups that are too many.
  """
  teaches = (where & (advantage != 0)).reshape(-1, num_siblings).any(axis=1)
  truths = [refinement.is_right(c.parent) for c in critiques[::num_siblings]]
  places = [
    [i for i in np.flatnonzero(teaches) if truths[i] is truth]
    for truth in (True, False)
  ]
  num_each = min(map(len, places))
  chosen = np.zeros(len(truths), bool)
  for kind in places:
    chosen[kind[:num_each]] = True
  return where & np.repeat(chosen, num_siblings)
