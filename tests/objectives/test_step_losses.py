"""Objectives of the scores of steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from critic_jax.objectives import step_losses

OBJECTIVES = [step_losses.cross_entropy, step_losses.squared]


def random_case(shape=(4, 6)):
  random = np.random.default_rng(0)
  scores = jnp.asarray(random.normal(0, 3, shape), jnp.float32)
  targets = jnp.asarray(random.random(shape), jnp.float32)
  return scores, targets, jnp.asarray(random.random(shape) < 0.7)


def gradient(objective, scores, *args):
  return jax.grad(lambda x: jnp.sum(objective(x, *args)))(scores)


def test_cross_entropy_by_hand():
  scores = jnp.log(jnp.array([[3.0, 3.0, 1.0, 9.0]]))  # p = 0.75, 0.75, 0.5
  targets = jnp.array([[1.0, 0.0, 0.25, 1.0]])
  mask = jnp.array([[True, True, True, False]])
  actual = step_losses.cross_entropy(scores, targets, mask)
  # -log(0.75), -log(0.25), and log(2) whatever the target is.
  np.testing.assert_allclose(
    actual, [[0.2876821, 1.3862944, 0.6931472, 0]], rtol=1e-5
  )
  # p - t
  slope = gradient(step_losses.cross_entropy, scores, targets, mask)
  np.testing.assert_allclose(slope, [[-0.25, 0.75, 0.25, 0]], rtol=1e-5)


def test_squared_by_hand():
  scores = jnp.log(jnp.array([[3.0, 3.0]]))
  targets, mask = jnp.array([[1.0, 0.25]]), jnp.array([[True, True]])
  actual = step_losses.squared(scores, targets, mask)
  # (0.75 - 1)**2 / 2, (0.75 - 0.25)**2 / 2; the slope is (p - t) p (1 - p).
  np.testing.assert_allclose(actual, [[0.03125, 0.125]], rtol=1e-6)
  slope = gradient(step_losses.squared, scores, targets, mask)
  np.testing.assert_allclose(slope, [[-0.046875, 0.09375]], rtol=1e-5)


def test_cross_entropy_is_optax_s_and_linear_in_the_target():
  """A soft target is a mixture of hard ones: one right of four is 1/4."""
  scores, targets, _ = random_case()
  mask = jnp.ones_like(targets, bool)
  actual = step_losses.cross_entropy(scores, targets, mask)
  np.testing.assert_allclose(
    actual, optax.sigmoid_binary_cross_entropy(scores, targets), rtol=1e-5
  )
  right, wrong = (
    step_losses.cross_entropy(scores, jnp.full_like(scores, t), mask)
    for t in (1.0, 0.0)
  )
  mixture = targets * right + (1 - targets) * wrong
  np.testing.assert_allclose(actual, mixture, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_the_best_score_is_the_target(objective):
  targets = jnp.array([[0.1, 0.5, 0.9]])
  best = jnp.log(targets / (1 - targets))
  mask = targets > 0
  slope = gradient(objective, best, targets, mask)
  np.testing.assert_allclose(slope, 0, atol=1e-6)
  for change in (-0.5, 0.5):
    assert (
      objective(best + change, targets, mask) > objective(best, targets, mask)
    ).all()


def test_who_is_sure_and_wrong_learns_by_the_cross_entropy_only():
  scores, targets = jnp.array([[20.0]]), jnp.array([[0.0]])
  mask = targets == 0
  slopes = [float(gradient(f, scores, targets, mask)[0, 0]) for f in OBJECTIVES]
  assert slopes[0] == pytest.approx(1.0) and abs(slopes[1]) < 1e-6
  # And no score is so large that the loss is not a number.
  for score in (1e4, -1e4):
    case = jnp.array([[score]]), targets, mask
    assert np.isfinite(step_losses.cross_entropy(*case)).all()
    assert np.isfinite(gradient(step_losses.cross_entropy, *case)).all()


@pytest.mark.parametrize('objective', OBJECTIVES)
@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf, -jnp.inf])
def test_masked_places_reach_neither_value_nor_gradient(objective, bad):
  scores, targets, mask = random_case()
  scores, targets = (jnp.where(mask, x, bad) for x in (scores, targets))
  for actual in (
    objective(scores, targets, mask), gradient(objective, scores, targets, mask)
  ):  # fmt: skip
    assert np.all(np.isfinite(actual))
    assert not np.any(np.asarray(actual)[~np.asarray(mask)])
