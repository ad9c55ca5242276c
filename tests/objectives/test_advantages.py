import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import advantages

GROUPS = [
  advantages.group_relative,
  functools.partial(advantages.group_relative, normalize=False),
  advantages.leave_one_out,
]


def random_rewards(seed=0, shape=(4, 6)):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_group_relative_by_hand():
  # Mean 2; deviations -2, 0, 2; variance (4 + 0 + 4) / 3.
  rewards = np.array([[0.0, 2.0, 4.0]])
  deviation = (8 / 3) ** 0.5
  np.testing.assert_allclose(
    advantages.group_relative(rewards),
    [[-2 / deviation, 0, 2 / deviation]],
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    advantages.group_relative(rewards, normalize=False), [[-2, 0, 2]]
  )


def test_leave_one_out_by_hand():
  # 0 - (2 + 4) / 2, 2 - (0 + 4) / 2, 4 - (0 + 2) / 2.
  rewards = np.array([[0.0, 2.0, 4.0]])
  np.testing.assert_allclose(
    advantages.leave_one_out(rewards), [[-3, 0, 3]], atol=1e-6
  )


def test_leave_one_out_is_centred_times_a_factor():
  rewards = random_rewards()
  centred = advantages.group_relative(rewards, normalize=False)
  np.testing.assert_allclose(
    advantages.leave_one_out(rewards), 6 / 5 * centred, rtol=1e-5
  )


@pytest.mark.parametrize('estimate', GROUPS)
@pytest.mark.parametrize('kind', [np.asarray, jnp.asarray])
def test_equal_rewards_have_exactly_no_advantage(estimate, kind):
  # 0.1 is not representable: the mean of seven differs from it by rounding.
  rewards = kind(np.full((2, 7), 0.1, np.float32))
  actual = estimate(rewards)
  assert isinstance(actual, type(rewards))
  assert not np.any(actual)


@pytest.mark.parametrize('estimate', GROUPS)
def test_a_shift_changes_nothing(estimate):
  rewards = random_rewards()
  np.testing.assert_allclose(
    estimate(rewards + 5), estimate(rewards), atol=1e-5
  )


@pytest.mark.parametrize('scale', [1e-4, 3.0, 1e4])
def test_a_scale_changes_what_is_not_normalised(scale):
  rewards = random_rewards()
  normalised, centred, one_out = (
    (estimate(rewards * scale), estimate(rewards)) for estimate in GROUPS
  )
  np.testing.assert_allclose(*normalised, rtol=1e-4)
  for scaled, plain in (centred, one_out):
    np.testing.assert_allclose(scaled, scale * plain, rtol=1e-4)


@pytest.mark.parametrize('estimate', GROUPS)
def test_groups_do_not_mix(estimate):
  rewards = random_rewards()
  alone = [estimate(row[None])[0] for row in rewards]
  np.testing.assert_allclose(estimate(rewards), alone, atol=1e-6)


@pytest.mark.parametrize('estimate', GROUPS)
@pytest.mark.parametrize('missing', [np.nan, 0.0, 100.0])
def test_unscorable_rewards_are_in_no_baseline(estimate, missing):
  rewards = np.array([[1.0, missing, 0.0, 0.5]], np.float32)
  where = np.array([[True, False, True, True]])
  actual = estimate(rewards, where=where)
  expected = estimate(np.array([[1.0, 0.0, 0.5]], np.float32))
  np.testing.assert_allclose(actual[:, [0, 2, 3]], expected, atol=1e-6)
  assert actual[0, 1] == 0


@pytest.mark.parametrize('estimate', GROUPS)
@pytest.mark.parametrize('num_scored', [0, 1])
def test_a_lone_sample_has_no_advantage(estimate, num_scored):
  where = np.arange(3)[None] < num_scored
  assert not np.any(estimate(random_rewards(shape=(1, 3)), where=where))


def test_integer_rewards():
  actual = advantages.group_relative(np.array([[1, 0, 1, 0]]))
  np.testing.assert_array_equal(actual, [[1, -1, 1, -1]])
  assert actual.dtype == np.float32


def loop_gae(rewards, values, mask, bootstrap, discount, lambda_):
  """The recursion row by row, on the trained tokens only."""
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
  actual = advantages.gae(
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
  actual, returns = advantages.gae(
    rewards, values, mask, discount=0.5, lambda_=0.5
  )
  last = 1 - 0.25
  first = (0 + 0.5 * 0.25 - 0.5) + 0.5 * 0.5 * last
  np.testing.assert_allclose(actual, [[0, first, 0, last]])
  np.testing.assert_allclose(returns, [[0, first + 0.5, 0, last + 0.25]])


def test_gae_gaps_and_their_contents_change_nothing():
  rewards, values, mask, _ = gae_case()
  settings = dict(discount=0.9, lambda_=0.7)
  dense = advantages.gae(rewards, values, np.ones_like(mask), **settings)
  # The same tokens with a token of another speaker before each of them.
  spread = np.full((5, 18), np.nan, np.float32)
  gaps = np.zeros((5, 18), bool)
  gaps[:, 1::2] = True
  spread_rewards, spread_values = spread.copy(), spread.copy()
  spread_rewards[:, 1::2], spread_values[:, 1::2] = rewards, values
  actual = advantages.gae(spread_rewards, spread_values, gaps, **settings)
  for one, other in zip(actual, dense, strict=True):
    np.testing.assert_allclose(one[:, 1::2], other, atol=1e-6)
    assert not np.any(one[:, ::2])


def test_bootstrap_is_the_value_after_a_cut():
  # Cut: 0 + 0.5 * 4 - 1. Ended: 0 + 0.5 * 0 - 1.
  rewards, values = np.zeros((2, 1)), np.ones((2, 1))
  actual, _ = advantages.gae(
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
  actual, returns = advantages.gae(
    rewards, values, mask, discount=0.9, lambda_=1.0
  )
  expected = advantages.discounted(rewards, mask, discount=0.9)
  np.testing.assert_allclose(returns, expected, atol=1e-5)
  np.testing.assert_allclose(
    actual, np.where(mask, expected - values, 0), atol=1e-5
  )


def test_discounted_by_hand():
  rewards = np.array([[5.0, 1.0, 5.0, 2.0, 4.0]])
  mask = np.array([[False, True, False, True, True]])
  # 4; 2 + 4 / 2; 1 + 2 / 2 + 4 / 4.
  np.testing.assert_allclose(
    advantages.discounted(rewards, mask, discount=0.5), [[0, 3, 0, 4, 4]]
  )


def test_gae_has_no_gradient_and_traces():
  rewards, values, mask, bootstrap = map(jnp.asarray, gae_case())

  @jax.jit
  def total(values):
    parts = advantages.gae(
      rewards, values, mask, discount=0.9, lambda_=0.9, bootstrap=bootstrap
    )
    return sum(jnp.sum(part) for part in parts)

  assert not np.any(jax.grad(total)(values))


def test_the_host_may_call_under_a_transfer_guard():
  rewards, values, mask, bootstrap = gae_case()
  with jax.transfer_guard('disallow'):
    advantages.group_relative(rewards)
    advantages.leave_one_out(rewards, where=mask)
    advantages.discounted(rewards, mask, discount=0.9)
    advantages.gae(
      rewards, values, mask, discount=0.9, lambda_=0.9, bootstrap=bootstrap
    )
