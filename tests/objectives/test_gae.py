import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import gae


def loop_gae(rewards, values, mask, bootstrap, discount, lambda_):
  """Computes the recursion row by row, on the trained tokens only."""
  result = np.zeros(rewards.shape)
  for b, row in enumerate(mask):
    next_value, advantage = bootstrap[b], 0.0
    for t in reversed(np.flatnonzero(row)):
      delta = rewards[b, t] + discount * next_value - values[b, t]
      advantage = delta + discount * lambda_ * advantage
      next_value = values[b, t]
      result[b, t] = advantage
  return result, np.where(mask, result + values, 0)


def gae_case(seed=0, shape=(5, 9)):
  random = np.random.default_rng(seed)
  rewards, values = random.normal(size=(2, *shape)).astype(np.float32)
  mask = random.random(shape) < 0.6
  mask[:, 0], mask[-1] = False, False
  bootstrap = random.normal(size=shape[0]).astype(np.float32)
  return rewards, values, mask, bootstrap


@pytest.mark.parametrize('discount, lambda_', [(1, 1), (0.9, 0.8), (0.9, 0)])
def test_gae_is_the_loop(discount, lambda_):
  rewards, values, mask, bootstrap = gae_case()
  actual = gae.gae(
    rewards,
    values,
    mask,
    discount=discount,
    lambda_=lambda_,
    bootstrap=bootstrap,
  )
  expected = loop_gae(rewards, values, mask, bootstrap, discount, lambda_)
  np.testing.assert_allclose(actual[0], expected[0], atol=1e-5)
  np.testing.assert_allclose(actual[1], expected[1], atol=1e-5)


def test_gae_by_hand_jumps_over_a_token_that_is_not_trained():
  rewards = np.array([[0.0, 0.0, 7.0, 1.0]])  # 7: not trained, ignored
  values = np.array([[9.0, 0.5, 9.0, 0.25]])
  mask = np.array([[False, True, False, True]])
  actual, returns = gae.gae(rewards, values, mask, discount=0.5, lambda_=0.5)
  last = 1 - 0.25
  first = (0 + 0.5 * 0.25 - 0.5) + 0.5 * 0.5 * last
  np.testing.assert_allclose(actual, [[0, first, 0, last]])
  np.testing.assert_allclose(returns, [[0, first + 0.5, 0, last + 0.25]])


def test_gae_gaps_and_their_contents_change_nothing():
  rewards, values, mask, _ = gae_case()
  settings = dict(discount=0.9, lambda_=0.7)
  dense = gae.gae(rewards, values, np.ones_like(mask), **settings)
  # The same tokens with a token of another speaker before each of them.
  spread = np.full((5, 18), np.nan, np.float32)
  gaps = np.zeros((5, 18), bool)
  gaps[:, 1::2] = True
  spread_rewards, spread_values = spread.copy(), spread.copy()
  spread_rewards[:, 1::2], spread_values[:, 1::2] = rewards, values
  actual = gae.gae(spread_rewards, spread_values, gaps, **settings)
  for array, dense_array in zip(actual, dense, strict=True):
    np.testing.assert_allclose(array[:, 1::2], dense_array, atol=1e-6)
    assert not np.any(array[:, ::2])


def test_bootstrap_is_the_value_after_a_cut():
  # Cut: 0 + 0.5 * 4 - 1. Ended: 0 + 0.5 * 0 - 1.
  rewards, values = np.zeros((2, 1)), np.ones((2, 1))
  actual, _ = gae.gae(
    rewards,
    values,
    np.ones((2, 1), bool),
    discount=0.5,
    lambda_=1.0,
    bootstrap=np.array([4.0, 0.0]),
  )
  np.testing.assert_allclose(actual, [[1], [-1]])


def test_gae_at_lambda_one_is_the_discounted_return_minus_the_value():
  rewards, values, mask, _ = gae_case()
  actual, returns = gae.gae(rewards, values, mask, discount=0.9, lambda_=1.0)
  expected = gae.discounted(rewards, mask, discount=0.9)
  np.testing.assert_allclose(returns, expected, atol=1e-5)
  np.testing.assert_allclose(
    actual, np.where(mask, expected - values, 0), atol=1e-5
  )


def test_discounted_by_hand():
  rewards = np.array([[5.0, 1.0, 5.0, 2.0, 4.0]])
  mask = np.array([[False, True, False, True, True]])
  # 4; 2 + 4 / 2; 1 + 2 / 2 + 4 / 4.
  np.testing.assert_allclose(
    gae.discounted(rewards, mask, discount=0.5), [[0, 3, 0, 4, 4]]
  )


def test_gae_has_no_gradient_and_traces():
  rewards, values, mask, bootstrap = map(jnp.asarray, gae_case())

  @jax.jit
  def total(values):
    parts = gae.gae(
      rewards, values, mask, discount=0.9, lambda_=0.9, bootstrap=bootstrap
    )
    return sum(jnp.sum(part) for part in parts)

  assert not np.any(jax.grad(total)(values))


def test_gae_may_be_called_under_a_transfer_guard():
  rewards, values, mask, bootstrap = gae_case()
  with jax.transfer_guard('disallow'):
    gae.discounted(rewards, mask, discount=0.9)
    gae.gae(
      rewards, values, mask, discount=0.9, lambda_=0.9, bootstrap=bootstrap
    )
