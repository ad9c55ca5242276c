"""One score of the scores of steps."""

import numpy as np
import pytest

from critic_jax.rewards import step_aggregates

ALL = [
  step_aggregates.minimum, step_aggregates.product, step_aggregates.mean,
  step_aggregates.last,
]  # fmt: skip


def test_one_step_is_the_solution():
  assert [f([0.3]) for f in ALL] == [0.3] * 4


def test_order_and_laws():
  random = np.random.default_rng(0)
  for size in (2, 5, 40):
    scores = random.random(size)
    minimum, product, mean, last = (f(scores) for f in ALL)
    assert product <= minimum <= mean and minimum <= last
    # The order of steps matters for the last alone.
    swapped = scores[[1, 0, *range(2, size)]]
    for f in ALL:
      assert f(swapped) == pytest.approx(f(scores)) or size == 2
    # A sure step more changes a product and a minimum by nothing.
    longer = [1.0, *scores]
    assert step_aggregates.product(longer) == pytest.approx(product)
    assert step_aggregates.minimum(longer) == minimum
    assert step_aggregates.mean(longer) > mean


def test_an_unsure_step_more_lowers_the_product_alone():
  """It prefers the shorter of two solutions whose steps are alike."""
  short, long = [0.9] * 2, [0.9] * 8
  assert step_aggregates.product(long) < 0.6 * step_aggregates.product(short)
  for f in (
    step_aggregates.minimum,
    step_aggregates.mean,
    step_aggregates.last,
  ):
    assert f(long) == pytest.approx(f(short))


def test_who_hides_a_wrong_step_among_sure_ones():
  hidden, plain = [1.0] * 9 + [0.0, 1.0], [0.8] * 3
  chosen = [f(hidden) > f(plain) for f in ALL]
  assert chosen == [False, False, True, True]
