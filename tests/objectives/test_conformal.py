import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import conformal


def draw(num, seed):
  """Inputs, and targets whose deviation is that of the input: 0.1 to 1."""
  random = np.random.default_rng(seed)
  x = random.uniform(size=num)
  return x, (0.1 + 0.9 * x) * random.normal(size=num)


@pytest.mark.parametrize(
  'num, miss, rank',
  [(4, 0.4, 3), (9, 0.1, 9), (19, 0.05, 19), (99, 0.07, 93), (5, 0.5, 3)],
)
def test_the_rank_of_the_radius(num, miss, rank):
  values = np.random.default_rng(0).permutation(num) + 1.0
  assert conformal.radius(values, miss=miss) == rank


def test_too_few_held_out_data_promise_nothing():
  # (8 + 1) * 0.9 = 8.1: the ninth of eight.
  assert conformal.radius(np.zeros(8), miss=0.1) == np.inf
  low, high = conformal.widen(np.zeros(1), np.ones(1), jnp.inf)
  assert conformal.coverage(low, high, np.array([1e9])) == 1


@pytest.mark.parametrize('miss', [0.0, 1.0, -0.1, float('nan')])
def test_a_share_that_is_none(miss):
  with pytest.raises(ValueError, match='^miss: got'):
    conformal.radius(np.zeros(8), miss=miss)


def test_intervals_by_hand():
  low, high = np.array([0.0, 0.0, 2.0]), np.array([1.0, 4.0, 2.0])
  targets = np.array([1.5, 1.0, 1.0])
  # 0.5 above; inside, 1 from the nearer end; the error of a point.
  np.testing.assert_allclose(
    conformal.residuals(low, high, targets), [0.5, -1, 1]
  )
  assert conformal.coverage(low, high, targets) == pytest.approx(1 / 3)
  wide = conformal.widen(low, high, 0.5)
  np.testing.assert_allclose(wide, [[-0.5, -0.5, 1.5], [1.5, 4.5, 2.5]])
  assert conformal.coverage(*wide, targets) == pytest.approx(2 / 3)
  # Narrower by 1: the first is not as wide, and stays in order.
  narrow = conformal.widen(low, high, -1.0)
  np.testing.assert_allclose(narrow, [[0.5, 1, 2], [0.5, 3, 2]])


@pytest.mark.parametrize('slope', [0.0, 0.5])
def test_intervals_cover_what_they_promise(slope):
  """Ends that are much too near: a point, and half of each deviation."""
  x, y = draw(200 * 300, seed=0)
  ends = slope * (0.1 + 0.9 * x)
  held_out = np.asarray(conformal.residuals(-ends, ends, y)).reshape(300, 200)
  radii = jax.vmap(lambda r: conformal.radius(r, miss=0.1))(held_out)
  new, targets = draw(300 * 100, seed=1)
  ends = slope * (0.1 + 0.9 * new)
  assert conformal.coverage(-ends, ends, targets) < 0.5
  low, high = conformal.widen(-ends, ends, np.repeat(radii, 100))
  # 181 / 201 = 0.9005 on average over what is held out.
  assert conformal.coverage(low, high, targets) == pytest.approx(0.9, abs=0.01)


def test_widened_quantiles_are_as_wide_as_the_input_asks():
  """A point covers quiet inputs too often, and loud ones too rarely."""
  x, y = draw(20_000, seed=2)
  is_loud = x[10_000:] > 0.5
  shares = []
  for slope in (0.0, 1.6):
    ends = slope * (0.1 + 0.9 * x)
    inside = conformal.residuals(-ends, ends, y)
    by = conformal.radius(inside[:10_000], miss=0.1)
    low, high = conformal.widen(-ends[10_000:], ends[10_000:], by)
    shares.append(
      [
        float(conformal.coverage(low[half], high[half], y[10_000:][half]))
        for half in (~is_loud, is_loud)
      ]
    )
  (quiet, loud), both = shares
  assert quiet > 0.97 and loud < 0.84
  assert both == pytest.approx([0.9, 0.9], abs=0.02)
