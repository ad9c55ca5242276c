import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import demonstrations

P = np.array([[0.5, 0.2, 0.9, 0.1]])
REF = np.array([[0.25, 0.2, 0.3, 0.8]])
FEEDBACK = np.array([[1.0, -1.0, 0.0, -1.0]])
MASK = np.array([[True, True, True, False]])


def values_and_slopes(name, **settings):
  """Returns the losses of one row, and their slopes by log-probabilities."""

  def total(logprobs):
    loss = getattr(demonstrations, name)(
      logprobs, MASK, np.log(REF), FEEDBACK, 0.5 * FEEDBACK, **settings
    )
    return jnp.sum(loss), loss

  slopes, loss = jax.grad(total, has_aux=True)(jnp.log(P))
  return np.asarray(loss)[0], np.asarray(slopes)[0]


def hellinger_weight(ratio, beta, floor):
  return 1 / (1 + max(beta * math.log(ratio), floor)) ** 2


@pytest.mark.parametrize(
  ('name', 'settings', 'losses', 'slopes'),
  [
    ('likelihood', {}, -np.log([0.5, 0.2, 0.9]), [-1, -1, -1]),
    # d log(1 - p) / d log p = -p / (1 - p).
    ('unlikelihood', dict(coef=2.0),
     [-math.log(0.5), -2 * math.log(0.8), -math.log(0.9)], [-1, 0.5, -1]),
    ('unlikelihood', dict(threshold=0.5, coef=0.0),
     [-math.log(0.5), 0, 0], [-1, 0, 0]),
    # Advantages 1/2, -1/2, 0 over a half.
    ('reward_weighted', dict(beta=0.5),
     [-math.e * math.log(0.5), -math.log(0.2) / math.e, -math.log(0.9)],
     [-math.e, -1 / math.e, -1]),
    ('reward_weighted', dict(beta=0.5, max_weight=2.0),
     [-2 * math.log(0.5), -math.log(0.2) / math.e, -math.log(0.9)],
     [-2, -1 / math.e, -1]),
    # Log-ratios log 2, 0, log 3.
    ('implicit_reward', dict(beta=0.5, divergence='total_variation'),
     [-math.log(2), 0, -math.log(3)], [-1, -1, -1]),
    ('implicit_reward', dict(beta=0.5, divergence='chi_squared'),
     [-math.log(2) + math.log(2) ** 2 / 8, 0,
      -math.log(3) + math.log(3) ** 2 / 8],
     [-1 + math.log(2) / 4, -1, -1 + math.log(3) / 4]),
    ('implicit_reward', dict(beta=0.5, divergence='hellinger'),
     [-math.log(2) / (1 + math.log(2) / 2), 0,
      -math.log(3) / (1 + math.log(3) / 2)],
     [-hellinger_weight(2, 0.5, -0.5), -1, -hellinger_weight(3, 0.5, -0.5)]),
  ],
)  # fmt: skip
def test_by_hand(name, settings, losses, slopes):
  actual = values_and_slopes(name, **settings)
  np.testing.assert_allclose(actual[0], [*losses, 0], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(actual[1], [*slopes, 0], rtol=1e-5, atol=1e-6)


def test_hellinger_goes_on_straight_below_its_floor():
  """At u = -1.2, beyond the pole at -1, with the slope that it has at -1/2."""
  lp = jnp.array([[-12.0, -5.0]])
  mask = np.ones((1, 2), bool)
  loss = demonstrations.implicit_reward(
    lp, mask, 0.0, beta=0.1, divergence='hellinger'
  )
  np.testing.assert_allclose(loss, [[(1 + 0.7 * 4) / 0.1, 1 / 0.1]], rtol=1e-5)


def test_chi_squared_has_nothing_to_learn_beyond_its_peak():
  def total(lp):
    return jnp.sum(
      demonstrations.implicit_reward(
        lp, np.ones((1, 3), bool), -9.0, beta=0.5, divergence='chi_squared'
      )
    )

  # Log-ratios 3, 4 = 2 / beta, and 5.
  slopes = jax.grad(total)(jnp.array([[-6.0, -5.0, -4.0]]))
  np.testing.assert_allclose(slopes, [[-0.25, 0, 0.25]], atol=1e-6)


@pytest.mark.parametrize(
  ('name', 'settings'),
  [
    ('reward_weighted', dict(beta=1e6)),
    ('implicit_reward', dict(beta=1e-6)),
    ('implicit_reward', dict(beta=1e-6, divergence='hellinger')),
    ('unlikelihood', dict(threshold=-1.0)),
  ],
)
def test_limits_are_likelihood(name, settings):
  _, slopes = values_and_slopes(name, **settings)
  np.testing.assert_allclose(slopes, [-1, -1, -1, 0], atol=1e-4)


@pytest.mark.parametrize(
  'name',
  ['likelihood', 'unlikelihood', 'reward_weighted', 'implicit_reward'],
)
def test_certain_and_masked_tokens_are_finite(name):
  def total(lp):
    mask = np.array([[True, True, False, False]])
    others = jnp.array([[0.0, -1e4, jnp.nan, jnp.inf]])
    loss = getattr(demonstrations, name)(lp, mask, others, -1 + 0 * others)
    return jnp.sum(loss)

  lp = jnp.array([[0.0, -1e4, -jnp.inf, jnp.nan]])
  value, slopes = jax.value_and_grad(total)(lp)
  assert np.isfinite(value) and np.isfinite(slopes).all()
  assert not slopes[0, 2:].any()


@pytest.mark.parametrize(
  ('name', 'settings'),
  [
    ('unlikelihood', dict(coef=-1.0)),
    ('reward_weighted', dict(beta=0.0)),
    ('reward_weighted', dict(max_weight=0.0)),
    ('implicit_reward', dict(beta=0.0)),
    ('implicit_reward', dict(divergence='kl')),
    ('implicit_reward', dict(floor=-1.0)),
  ],
)
def test_settings_out_of_range(name, settings):
  with pytest.raises(ValueError, match=f'^{next(iter(settings))}: got'):
    values_and_slopes(name, **settings)
