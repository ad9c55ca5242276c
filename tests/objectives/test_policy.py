import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import kl, policy

RATIOS = [policy.ppo_clip, policy.gspo, policy.cispo]
RATIOS += [functools.partial(policy.ppo_clip, dual_clip=3.0)]
OBJECTIVES = [policy.reinforce, *RATIOS, policy.shaped]
KL = [kl.k1, kl.k2, kl.k3]
SHAPE = (4, 6)


def random_case(seed=0, shape=SHAPE):
  random = np.random.default_rng(seed)
  logprobs, old_logprobs = -random.exponential(size=(2, *shape))
  advantages = random.normal(size=shape)
  mask = random.random(shape) < 0.7
  arrays = logprobs, old_logprobs, advantages
  return *(jnp.asarray(x, jnp.float32) for x in arrays), jnp.asarray(mask)


def one_token(objective, ratio, advantage, **settings):
  logprobs = jnp.full((1, 1), math.log(ratio))
  zero, mask = jnp.zeros((1, 1)), jnp.ones((1, 1), bool)
  return objective(logprobs, zero, zero + advantage, mask, **settings)[0, 0]


def gradient(objective, logprobs, *args):
  return jax.grad(lambda x: jnp.sum(objective(x, *args)))(logprobs)


@pytest.mark.parametrize(
  'ratio, advantage, expected',
  [
    (1.1, 2.0, -1.1 * 2),  # inside
    (1.5, 2.0, -1.28 * 2),  # rewarded enough
    (1.5, -2.0, 1.5 * 2),  # wrong direction: still followed
    (0.5, 2.0, -0.5 * 2),  # wrong direction: still followed
    (0.5, -2.0, 0.8 * 2),  # punished enough
  ],
)
def test_ppo_clip_by_hand(ratio, advantage, expected):
  actual = one_token(
    policy.ppo_clip, ratio, advantage, clip_low=0.2, clip_high=0.28
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize(
  'ratio, advantage, expected',
  [
    (10.0, -2.0, 3.0 * 2),  # bounded by dual_clip
    (2.0, -2.0, 2.0 * 2),  # below it: unchanged
    (10.0, 2.0, -1.2 * 2),  # positive advantage: the ordinary clip
  ],
)
def test_dual_clip_by_hand(ratio, advantage, expected):
  actual = one_token(policy.ppo_clip, ratio, advantage, dual_clip=3.0)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize(
  'ratio, expected',
  [
    (10.0, -5.0 * 2 * math.log(10.0)),  # weight 1 + 4
    (0.5, -0.5 * 2 * math.log(0.5)),  # weight not clipped below
  ],
)
def test_cispo_by_hand(ratio, expected):
  actual = one_token(policy.cispo, ratio, 2.0)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_gspo_by_hand():
  # Log ratios 1, 3 and a masked one: s = exp(2), clipped to 2.
  logprobs = jnp.array([[1.0, 3.0, 99.0]])
  mask = jnp.array([[True, True, False]])
  actual = policy.gspo(
    logprobs, 0 * logprobs, jnp.array([[0.5]]), mask, clip_high=1.0
  )
  np.testing.assert_allclose(actual, [[-1, -1, 0]], rtol=1e-6)
  # Not clipped where the advantage is negative; d s / d logprob = s / 2 at each
  # token, and two tokens have the value -A s: -A s in all.
  actual = gradient(
    policy.gspo, logprobs, 0 * logprobs, jnp.array([[-0.5]]), mask
  )
  slope = 0.5 * math.exp(2)
  np.testing.assert_allclose(actual, [[slope, slope, 0]], rtol=1e-5)


@pytest.mark.parametrize('objective', RATIOS)
def test_on_policy_gradient_is_that_of_reinforce(objective):
  logprobs, _, advantages, mask = random_case()
  if objective is policy.gspo:  # one advantage a response
    advantages = advantages[:, :1]
  expected = gradient(policy.reinforce, logprobs, logprobs, advantages, mask)
  actual = gradient(objective, logprobs, logprobs, advantages, mask)
  np.testing.assert_allclose(actual, expected, atol=1e-6)
  np.testing.assert_allclose(
    expected, jnp.where(mask, -advantages, 0), atol=1e-6
  )


def test_gspo_of_responses_in_one_row_is_that_of_rows():
  logprobs, old_logprobs, advantages, mask = random_case()
  rows = logprobs, old_logprobs, advantages[:, :1] + 0 * logprobs, mask
  # Rows 0 and 1 stand side by side, and so do 2 and 3.
  packed = [x.reshape(2, 12) for x in rows]
  segments = jnp.array([[5] * 6 + [2] * 6, [0] * 6 + [1] * 6])
  np.testing.assert_allclose(
    policy.gspo(*packed, segments).reshape(SHAPE), policy.gspo(*rows), rtol=1e-6
  )
  np.testing.assert_allclose(
    gradient(policy.gspo, *packed, segments).reshape(SHAPE),
    gradient(policy.gspo, *rows),
    rtol=1e-5,
  )


def test_gspo_of_one_token_is_ppo():
  logprobs, old_logprobs, advantages, _ = random_case()
  mask = jnp.arange(SHAPE[1])[None] == jnp.array([1, 2, 3, 5])[:, None]
  settings = dict(clip_low=0.2, clip_high=0.3)
  case = logprobs, old_logprobs, advantages, mask
  gspo = functools.partial(policy.gspo, **settings)
  ppo = functools.partial(policy.ppo_clip, **settings)
  np.testing.assert_allclose(gspo(*case), ppo(*case), rtol=1e-5)
  np.testing.assert_allclose(
    gradient(gspo, *case), gradient(ppo, *case), atol=1e-6
  )


def test_an_inactive_clip_is_no_clip():
  logprobs, old_logprobs, advantages, mask = random_case()
  actual = policy.ppo_clip(
    logprobs, old_logprobs, advantages, mask, clip_low=1.0, clip_high=1e6
  )
  ratio = jnp.exp(logprobs - old_logprobs)
  expected = jnp.where(mask, -ratio * advantages, 0)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_cispo_without_clip_room_is_reinforce():
  case = random_case()
  actual = policy.cispo(*case, clip_low=0.0, clip_high=0.0)
  np.testing.assert_allclose(actual, policy.reinforce(*case), rtol=1e-6)


def test_clipped_tokens_learn_in_cispo_only():
  case = (
    jnp.array([[2.0]]),
    *jnp.array([[[0.0]], [[1.0]]]),
    jnp.ones((1, 1)) > 0,
  )
  assert gradient(policy.ppo_clip, *case) == 0
  np.testing.assert_allclose(gradient(policy.cispo, *case), [[-5.0]])


@pytest.mark.parametrize(
  ('p', 'advantage', 'expected', 'slope'),
  [
    # f = p / (p + 0.1), and A f (1 - f).
    (0.1, 2.0, -2 * 1 / 2, -2 * 1 / 4),
    (0.4, 2.0, -2 * 4 / 5, -2 * 4 / 25),
    (1.0, 2.0, -2 * 10 / 11, -2 * 10 / 121),  # sure: 4 times less than hoped
    (0.001, 2.0, -2 * 1 / 101, -2 * 100 / 101**2),  # would not write it
    (0.1, -3.0, 3 * 1 / 2, 3 * 1 / 4),  # a wrong one becomes less likely
  ],
)
def test_shaped_by_hand(p, advantage, expected, slope):
  actual = one_token(policy.shaped, p, advantage)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)
  logprobs, ones = jnp.log(jnp.full((1, 1), p)), jnp.ones((1, 1))
  case = 0 * ones, advantage * ones, ones > 0
  actual = gradient(policy.shaped, logprobs, *case)
  np.testing.assert_allclose(actual, [[slope]], rtol=1e-5)


def test_shaped_at_its_limits():
  """Gamma at infinity follows p, and at 0 nothing; see `reinforce`, too."""
  logprobs, old_logprobs, advantages, mask = random_case()
  case = old_logprobs, advantages, mask
  probability = jnp.where(mask, jnp.exp(logprobs), 0)
  large = functools.partial(policy.shaped, gamma=1e6)
  expected = -advantages * probability
  for actual in (large(logprobs, *case), gradient(large, logprobs, *case)):
    np.testing.assert_allclose(1e6 * actual, expected, rtol=1e-4, atol=1e-6)
  # Which is a ratio to someone who was sure of each token.
  sure = functools.partial(policy.ppo_clip, clip_low=1.0, clip_high=1e6)
  np.testing.assert_allclose(
    sure(logprobs, 0 * logprobs, advantages, mask), expected, rtol=1e-5
  )
  small = functools.partial(policy.shaped, gamma=1e-7)
  actual = small(logprobs, *case)
  expected = jnp.where(mask, -advantages, 0)
  np.testing.assert_allclose(actual, expected, rtol=1e-4)
  assert jnp.max(jnp.abs(gradient(small, logprobs, *case))) < 1e-4


def test_shaped_never_moves_a_token_by_more_than_a_quarter():
  """REINFORCE moves those most that the policy would never have written."""
  logprobs = jnp.linspace(-30.0, 0.0, 301)[None]
  case = logprobs, 0 * logprobs, 1 + 0 * logprobs, logprobs <= 0
  slopes = -gradient(policy.shaped, *case)[0]
  assert jnp.max(slopes) <= 0.25 and jnp.min(slopes) > 0
  assert jnp.exp(logprobs[0, jnp.argmax(slopes)]) == pytest.approx(0.1, rel=0.1)
  assert slopes[0] < 1e-10 and slopes[-1] < 0.09
  np.testing.assert_array_equal(gradient(policy.reinforce, *case), -1)


def test_shaped_reads_no_old_logprobs():
  logprobs, old_logprobs, *case = random_case()
  np.testing.assert_array_equal(
    policy.shaped(logprobs, old_logprobs, *case),
    policy.shaped(logprobs, jnp.nan * old_logprobs, *case),
  )


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_one_advantage_a_response_is_broadcast(objective):
  logprobs, old_logprobs, advantages, mask = random_case()
  row = advantages[:, :1]
  tokens = jnp.broadcast_to(row, SHAPE)
  actual = objective(logprobs, old_logprobs, row, mask)
  expected = objective(logprobs, old_logprobs, tokens, mask)
  assert actual.shape == SHAPE
  np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize('objective', OBJECTIVES)
@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf, -jnp.inf])
def test_masked_places_reach_neither_value_nor_gradient(objective, bad):
  logprobs, old_logprobs, advantages, mask = random_case()
  mask = mask.at[0].set(False)  # an empty row

  def value_and_gradient(filler):
    case = [
      jnp.where(mask, x, filler) for x in (logprobs, old_logprobs, advantages)
    ]
    return objective(*case, mask), gradient(objective, *case, mask)

  expected = value_and_gradient(0.0)
  actual = value_and_gradient(bad)
  for array, expected_array in zip(actual, expected, strict=True):
    np.testing.assert_array_equal(array, expected_array)
    assert not np.any(np.asarray(array)[~np.asarray(mask)])
    assert np.all(np.isfinite(array))


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_an_absurd_ratio_is_finite(objective):
  logprobs = jnp.array([[0.0, -500.0], [0.0, 0.0]])
  old_logprobs = jnp.array([[-500.0, 0.0], [-500.0, -500.0]])
  case = logprobs, old_logprobs, jnp.zeros((2, 1)), jnp.ones((2, 2), bool)
  assert not np.any(objective(*case))
  assert not np.any(gradient(objective, *case))


def public_functions(module):
  return [
    function
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith('_')
  ]


def test_the_lists_have_all_functions_of_their_modules():
  assert set(public_functions(policy)) <= {*OBJECTIVES}
  assert set(public_functions(kl)) == {*KL}


# float32 holds exp(88); the logits of a broken model differ by more.
@pytest.mark.parametrize('log_ratio', [-1e5, -100.0, 100.0, 1e5])
@pytest.mark.parametrize('formula', [*OBJECTIVES, *KL])
def test_no_log_ratio_makes_a_value_or_a_gradient_infinite(formula, log_ratio):
  """Each difference of log-probabilities is bounded before its exponential."""
  logprobs, old_logprobs = jnp.array([[[log_ratio], [0.0]], [[0.0], [0.0]]])
  advantages, mask = jnp.array([[2.0], [-2.0]]), jnp.ones((2, 1), bool)
  case = (mask,) if formula in KL else (advantages, mask)
  for sign in (1, -1):
    others = [sign * x if x is advantages else x for x in case]
    assert np.all(np.isfinite(formula(logprobs, old_logprobs, *others)))
    slope = gradient(formula, logprobs, old_logprobs, *others)
    assert np.all(np.isfinite(slope))


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_gradient_flows_through_logprobs_only(objective):
  case = random_case()
  total = lambda *x: jnp.sum(objective(*x, case[3]))  # noqa: E731
  assert np.any(jax.grad(total, 0)(*case[:3]))
  assert not np.any(jax.grad(total, 1)(*case[:3]))


@pytest.mark.parametrize('estimator', KL)
def test_kl_is_zero_at_equality_and_where_masked(estimator):
  logprobs, ref_logprobs, _, mask = random_case()
  assert not np.any(estimator(logprobs, logprobs, mask))
  actual = np.asarray(estimator(logprobs, ref_logprobs, mask))
  assert np.all(actual[np.asarray(mask)])
  assert not np.any(actual[~np.asarray(mask)])


def test_kl_by_hand():
  log_ratio, zero = jnp.array([[0.5]]), jnp.zeros((1, 1))
  mask = jnp.ones((1, 1), bool)
  for estimator, expected in [
    (kl.k1, 0.5),
    (kl.k2, 0.5 * 0.5**2),
    (kl.k3, math.exp(-0.5) - 1 + 0.5),
  ]:
    actual = estimator(log_ratio, zero, mask)
    np.testing.assert_allclose(actual, [[expected]], rtol=1e-6)


@pytest.mark.parametrize('estimator', KL[1:])
def test_k2_and_k3_are_never_negative(estimator):
  logprobs, ref_logprobs, _, mask = random_case(shape=(50, 50))
  assert np.min(estimator(logprobs, ref_logprobs, mask)) >= 0


@pytest.mark.parametrize('estimator', KL[1:])
def test_a_small_kl_is_exact(estimator):
  # Both are x**2 / 2 to second order; exp(-x) - 1 + x would be 10% off.
  x = 1e-3 * jnp.ones((1, 1))
  actual = estimator(x, 0 * x, x > 0)
  np.testing.assert_allclose(actual, [[1e-6 / 2]], rtol=1e-3)


@pytest.mark.parametrize('estimator', KL)
@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf, -jnp.inf])
def test_kl_ignores_masked_places(estimator, bad):
  logprobs, ref_logprobs, _, mask = random_case()
  logprobs = jnp.where(mask, logprobs, bad)
  ref_logprobs = jnp.where(mask, ref_logprobs, -bad)
  assert np.all(np.isfinite(estimator(logprobs, ref_logprobs, mask)))
  slope = gradient(estimator, logprobs, ref_logprobs, mask)
  assert np.all(np.isfinite(slope))


# A categorical of four outcomes, enumerated: the exact expectations that the
# docstrings of k1, k2 and k3 claim.
LOGITS = jnp.array([0.3, -0.5, 1.0, 0.1])
REF = jax.nn.log_softmax(jnp.array([-0.2, 0.4, 0.3, 0.9]))


def exact_kl(log_p, log_q):
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q))


def expected_estimate(logits, estimator):
  """Computes the mean over the policy's samples (constant probabilities)."""
  logprobs = jax.nn.log_softmax(logits)
  probs = jax.lax.stop_gradient(jnp.exp(logprobs))
  mask = jnp.ones((1, 4), bool)
  return jnp.sum(probs * estimator(logprobs[None], REF[None], mask)[0])


def test_k1_and_k3_are_unbiased():
  exact = exact_kl(jax.nn.log_softmax(LOGITS), REF)
  for estimator in (kl.k1, kl.k3):
    np.testing.assert_allclose(
      expected_estimate(LOGITS, estimator), exact, rtol=1e-5
    )


def test_expected_on_policy_gradients_of_kl():
  def exact(direction):
    return jax.grad(lambda x: direction(jax.nn.log_softmax(x)))(LOGITS)

  reverse = exact(lambda log_p: exact_kl(log_p, REF))
  forward = exact(lambda log_p: exact_kl(REF, log_p))
  assert np.max(np.abs(reverse - forward)) > 0.02
  for estimator, expected in [
    (kl.k1, jnp.zeros(4)),
    (kl.k2, reverse),
    (kl.k3, forward),
  ]:
    actual = jax.grad(expected_estimate)(LOGITS, estimator)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
