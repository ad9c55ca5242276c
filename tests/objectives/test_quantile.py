import math
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import quantile

LEVELS = jnp.array([0.1, 0.5, 0.8])


def case(num=5, seed=0):
  random = np.random.default_rng(seed)
  quantiles = jnp.asarray(random.normal(size=(num, 3)), jnp.float32)
  targets = jnp.asarray(random.normal(size=num), jnp.float32)
  return quantiles, targets, jnp.ones(num, bool)


def gradient(loss, x, *others):
  return jax.grad(lambda y: jnp.sum(loss(y, *others)))(x)


def test_pinball_by_hand():
  quantiles = jnp.array([[1.0, 2.0, 5.0]])
  loss = quantile.pinball(
    quantiles, jnp.array([3.0]), LEVELS, jnp.ones(1, bool)
  )
  # Errors 2, 1, -2.
  np.testing.assert_allclose(
    loss, [(0.1 * 2 + 0.5 * 1 + 0.2 * 2) / 3], rtol=1e-6
  )


def test_pinball_against_a_loop():
  quantiles, targets, where = case()
  actual = quantile.pinball(quantiles, targets, LEVELS, where)
  for row, target, loss in zip(quantiles, targets, actual, strict=True):
    errors = [float(target - q) for q in row]
    terms = [
      max(tau * e, (tau - 1) * e)
      for tau, e in zip(LEVELS.tolist(), errors, strict=True)
    ]
    assert loss == pytest.approx(sum(terms) / 3, rel=1e-5)


def test_the_median_costs_half_the_absolute_error():
  quantiles, targets, where = case()
  actual = quantile.pinball(quantiles[:, :1], targets, jnp.array([0.5]), where)
  np.testing.assert_allclose(
    actual, jnp.abs(targets - quantiles[:, 0]) / 2, rtol=1e-6
  )


def test_scores_of_intervals_are_sums_of_pinball():
  """The weighted interval score, times alpha / 2 a level."""
  quantiles, targets, where = case()
  low, high = jnp.sort(quantiles, axis=1)[:, 0], jnp.sort(quantiles, 1)[:, 2]
  alpha = 0.2
  levels = jnp.array([alpha / 2, 1 - alpha / 2])
  score = (high - low) + 2 / alpha * (
    jax.nn.relu(low - targets) + jax.nn.relu(targets - high)
  )
  actual = quantile.pinball(jnp.stack([low, high], 1), targets, levels, where)
  np.testing.assert_allclose(2 * actual, alpha / 2 * score, rtol=1e-5)


def test_the_best_constants_are_the_quantiles():
  """Gradients are shares: of targets below, less the level."""
  targets = jnp.arange(1.0, 101.0)
  where = jnp.ones(100, bool)

  def total(x):
    rows = jnp.broadcast_to(x, (100, 3))
    return jnp.mean(quantile.pinball(rows, targets, LEVELS, where))

  points = jnp.array([30.5, 50.5, 60.5])
  np.testing.assert_allclose(
    3 * jax.grad(total)(points), [0.3 - 0.1, 0.0, 0.6 - 0.8], atol=1e-6
  )


def test_huber_s_part():
  quantiles, targets, where = case()
  plain = quantile.pinball(quantiles, targets, LEVELS, where)
  near = quantile.pinball(quantiles, targets, LEVELS, where, delta=1e-5)
  np.testing.assert_allclose(near, plain, atol=1e-4)
  # An error of 1 within delta 2 is a square: 1 / (2 * 2), of 3 it is 3 - 1.
  for target, size in ((1.0, 0.25), (3.0, 2.0), (-3.0, 2.0)):
    loss = quantile.pinball(
      jnp.zeros((1, 1)), jnp.array([target]), jnp.array([0.8]),
      jnp.ones(1, bool), delta=2.0,
    )  # fmt: skip
    slope = 0.8 if target > 0 else 0.2
    assert loss[0] == pytest.approx(slope * size, rel=1e-6)


def test_sorting_never_raises_the_loss():
  random = np.random.default_rng(0)
  quantiles = jnp.asarray(random.normal(size=(200, 3)), jnp.float32)
  targets = jnp.asarray(random.normal(size=200), jnp.float32)
  where = jnp.ones(200, bool)
  loss, of_sorted = (
    quantile.pinball(q, targets, LEVELS, where)
    for q in (quantiles, jnp.sort(quantiles, axis=1))
  )
  assert np.all(of_sorted <= loss + 1e-6) and np.any(of_sorted < loss - 0.1)


def test_crossing_by_hand():
  where = jnp.ones(2, bool)
  quantiles = jnp.array([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
  # Of the first row 3 is above 1 and 2: by 2 and by 1, of three pairs.
  np.testing.assert_allclose(
    quantile.crossing(quantiles, LEVELS, where), [1.0, 0.0], atol=1e-6
  )
  # A slope of 4 asks for gaps of 1.6, 1.2 and 2.8 between levels.
  np.testing.assert_allclose(
    quantile.crossing(quantiles, LEVELS, where, margin=4.0),
    [(2 + 1.6 + 1 + 2.8 - 1 + 1.2) / 3, (0.6 + 0.8 + 0.2) / 3],
    rtol=1e-5,
  )
  one = quantile.crossing(quantiles[:, :1], LEVELS[:1], where)
  np.testing.assert_array_equal(one, [0, 0])


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_laws_of_both(bad):
  quantiles, targets, where = case()

  def pinball(q, t, w):
    return quantile.pinball(q, t, LEVELS, w, delta=0.3)

  def crossing(q, t, w):
    return quantile.crossing(q, LEVELS, w, margin=0.1)

  for loss in (pinball, crossing):
    expected = loss(quantiles, targets, where)
    assert expected.dtype == jnp.float32 and np.any(expected)
    # A shift of all, another order, and padding.
    np.testing.assert_allclose(
      loss(quantiles + 2, targets + 2, where), expected, rtol=1e-4, atol=1e-6
    )
    order = jnp.array([2, 0, 4, 1, 3])
    np.testing.assert_array_equal(
      loss(quantiles[order], targets[order], where), expected[order]
    )
    padded = (
      jnp.concatenate([quantiles, jnp.full((2, 3), bad)]),
      jnp.concatenate([targets, jnp.full(2, bad)]),
      jnp.concatenate([where, jnp.zeros(2, bool)]),
    )
    actual = loss(*padded)
    slope = gradient(loss, *padded)
    np.testing.assert_array_equal(actual[:5], expected)
    assert np.all(np.isfinite(slope))
    assert not np.any(actual[5:]) and not np.any(slope[5:])
    assert loss(quantiles.astype(jnp.bfloat16), targets, where).dtype == (
      jnp.float32
    )
  slope = gradient(lambda t, q: pinball(q, t, where), targets, quantiles)
  assert not np.any(slope)


def test_wrong_settings():
  quantiles, targets, where = case()
  with pytest.raises(ValueError, match='delta: got -1; expected >= 0'):
    quantile.pinball(quantiles, targets, LEVELS, where, delta=-1)
  with pytest.raises(ValueError, match='margin: got -1; expected >= 0'):
    quantile.crossing(quantiles, LEVELS, where, margin=-1)


def test_sorted_quantiles_cost_less():
  """19 noisy quantiles of a normal variable, by the exact mean loss.

  A loss at q of level tau is phi(q) + q (Phi(q) - tau) on average. Noise costs
  8 % of the least loss, and sorting leaves a quarter of that.
  """
  levels = np.arange(1, 20) / 20
  normal = statistics.NormalDist()
  best = np.array([normal.inv_cdf(level) for level in levels])
  noisy = best + 0.4 * np.random.default_rng(0).normal(size=(200, 19))

  def losses(quantiles):
    density = np.exp(-(quantiles**2) / 2) / math.sqrt(2 * math.pi)
    below = np.vectorize(normal.cdf)(quantiles)
    return np.mean(density + quantiles * (below - levels), axis=1)

  raw, ordered = losses(noisy), losses(np.sort(noisy, axis=1))
  assert np.all(ordered <= raw)
  least = losses(best[None])[0]
  assert np.mean(raw) / least == pytest.approx(1.079, abs=0.004)
  assert np.mean(ordered) / least == pytest.approx(1.019, abs=0.004)
