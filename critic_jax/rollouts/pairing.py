"""Pairs of sibling records for preferences: one chosen, the other rejected."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Sequence

from critic_jax.types import Record


def farthest_pairs(
  siblings: Sequence[Record], max_pairs: int
) -> list[tuple[Record, Record]]:
  """Pairs records with others of a lower reward, those farthest apart first.

  Of pairs that are equally far apart, that one comes first whose records are in
  the fewest pairs so far, and then that of the first siblings. Equal rewards
  make no pair, and a record without a reward or without tokens is in none.

  Args:
    siblings: records with `scores`.
    max_pairs: the greatest number of pairs.

  Returns:
    (chosen, rejected) each.
  """
  scored = [r for r in siblings if 'reward' in r.scores and len(r.tokens)]

  def gap(pair):
    return pair[0].scores['reward'] - pair[1].scores['reward']

  left = [pair for pair in itertools.permutations(scored, 2) if gap(pair) > 0]
  pairs, uses = [], collections.Counter()
  while left and len(pairs) < max_pairs:
    pair = max(left, key=lambda p: (gap(p), -sum(uses[r.index] for r in p)))
    left.remove(pair)
    pairs.append(pair)
    uses.update(r.index for r in pair)
  return pairs
