import functools
import inspect

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


def test_every_estimator_is_tested():
  functions = {
    name
    for name, x in vars(advantages).items()
    if inspect.isfunction(x) and not name.startswith('_')
  }
  assert functions == {getattr(x, 'func', x).__name__ for x in GROUPS}


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
  single_groups = [estimate(row[None])[0] for row in rewards]
  np.testing.assert_allclose(estimate(rewards), single_groups, atol=1e-6)


@pytest.mark.parametrize('estimate', GROUPS)
@pytest.mark.parametrize('placeholder', [np.nan, 0.0, 100.0])
def test_unscorable_rewards_are_in_no_baseline(estimate, placeholder):
  rewards = np.array([[1.0, placeholder, 0.0, 0.5]], np.float32)
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


def test_the_host_may_call_under_a_transfer_guard():
  rewards = random_rewards()
  where = np.random.default_rng(1).random(rewards.shape) < 0.7
  with jax.transfer_guard('disallow'):
    advantages.group_relative(rewards)
    advantages.leave_one_out(rewards, where=where)
