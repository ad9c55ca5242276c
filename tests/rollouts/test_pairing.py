import dataclasses

import pytest
from helpers import make_record

from critic_jax.rollouts import pairing


def pairs_of(rewards, max_pairs):
  """Returns the indices of the pairs of siblings with such rewards."""
  siblings = [
    make_record(
      'critique', index=i, scores={} if reward is None else {'reward': reward}
    )
    for i, reward in enumerate(rewards)
  ]
  pairs = pairing.farthest_pairs(siblings, max_pairs)
  return [(chosen.index, rejected.index) for chosen, rejected in pairs]


@pytest.mark.parametrize(
  ('rewards', 'max_pairs', 'expected'),
  [
    ([0.5, 0.1, 1.0], 3, [(2, 1), (2, 0), (0, 1)]),  # all, by their distance
    ([0.5, 0.1, 1.0], 1, [(2, 1)]),
    ([0.5, 0.5, 0.5], 3, []),  # equal rewards
    ([0.5, 0.5, 0.25], 9, [(0, 2), (1, 2)]),
    ([1, 1, 0, 0], 2, [(0, 2), (1, 3)]),  # each record once, as far as it goes
    ([1, 1, 0, 0], 9, [(0, 2), (1, 3), (0, 3), (1, 2)]),
    ([None, 1.0, 0.0, None], 4, [(1, 2)]),  # not determined
    ([1.0], 4, []),
    ([], 4, []),
    ([-1.0, -2.0], 4, [(0, 1)]),
  ],
)
def test_pairs_by_hand(rewards, max_pairs, expected):
  assert pairs_of(rewards, max_pairs) == expected


def test_records_without_tokens_are_in_no_pair():
  siblings = [
    make_record('critique', index=i, scores={'reward': float(i)})
    for i in range(3)
  ]
  siblings[2] = dataclasses.replace(siblings[2], tokens=siblings[2].tokens[:0])
  [(chosen, rejected)] = pairing.farthest_pairs(siblings, 9)
  assert (chosen, rejected) == (siblings[1], siblings[0])
