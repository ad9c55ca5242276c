"""As many critiques of right solutions as of wrong ones are learned from."""

import numpy as np
import pytest
from helpers import make_record

from critic_jax.rollouts import balance


def critiques(truths):
  """Two critiques of each solution, which is right, wrong, or not known."""
  solutions = [
    make_record(parsed={'correct': bool(truth)} | (
      {'grade': 'timeout'} if truth is None else {}))
    for truth in truths
  ]  # fmt: skip
  return [
    make_record('critique', solution, index=index)
    for solution in solutions
    for index in range(2)
  ]


@pytest.mark.parametrize(
  ('truths', 'teaching', 'expected'),
  [
    ([1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]),
    ([0, 0, 1, 1], [1, 1, 1, 0], [1, 0, 1, 0]),  # what teaches is counted
    ([1, 0, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]),
    ([0, 1, 0], [0, 1, 1], [0, 1, 1]),
    ([0, 0, 0], [1, 1, 1], [0, 0, 0]),  # of one kind: nothing is learned
    ([1, None, 0], [1, 1, 1], [1, 0, 1]),
  ],
)
def test_the_first_groups_that_teach_of_each_kind(truths, teaching, expected):
  advantage = np.outer(np.float32(teaching), [1, -1]).reshape(-1)
  where = np.ones(2 * len(truths), bool)
  actual = balance.groups(critiques(truths), advantage, where, 2)
  np.testing.assert_array_equal(actual, np.repeat(expected, 2))


def test_what_was_not_determined_stays_out():
  advantage = np.float32([1, -1, 1, -1, 1, -1])
  where = np.array([True, True, True, False, False, False])
  actual = balance.groups(critiques([True, False, False]), advantage, where, 2)
  np.testing.assert_array_equal(actual, [1, 1, 1, 0, 0, 0])
