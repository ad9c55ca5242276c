import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import reward

LOSSES = {
  'plain': reward.bradley_terry,
  'smoothed': functools.partial(reward.bradley_terry, label_smoothing=0.2),
  'centred': functools.partial(reward.bradley_terry, center_coef=0.3),
}


def case(num_pairs=6, seed=0):
  """Draws scores, which are all pairs', and margins."""
  random = np.random.default_rng(seed)
  scores = jnp.asarray(random.normal(0, 2, (num_pairs, 2)), jnp.float32)
  margins = jnp.asarray(random.normal(0, 1, num_pairs), jnp.float32)
  return scores, jnp.ones(num_pairs, bool), margins


def gradient(loss, x, *others):
  return jax.grad(lambda y: jnp.sum(loss(y, *others)))(x)


def one_pair(chosen, rejected, margin=0.0, **settings):
  scores = jnp.array([[chosen, rejected]], jnp.float32)
  return float(
    reward.bradley_terry(scores, jnp.ones(1, bool), margin, **settings)[0]
  )


# ------------------------------------------------------------------ by hand


@pytest.mark.parametrize(
  ('margin', 'settings', 'expected'),
  [
    (0.0, {}, math.log(1 + math.exp(-2))),  # d = 3 - 1
    (0.5, {}, math.log(1 + math.exp(-1.5))),
    (-1.0, {}, math.log(1 + math.exp(-3))),
    (
      0.0,
      dict(label_smoothing=0.1),
      0.9 * math.log(1 + math.exp(-2)) + 0.1 * math.log(1 + math.exp(2)),
    ),
    (
      0.5,
      dict(label_smoothing=0.1),
      0.9 * math.log(1 + math.exp(-1.5)) + 0.1 * math.log(1 + math.exp(1.5)),
    ),
    (
      0.0,
      dict(center_coef=0.25),
      math.log(1 + math.exp(-2)) + (3 + 1) ** 2 / 4,
    ),
  ],
)
def test_losses_by_hand(margin, settings, expected):
  assert one_pair(3.0, 1.0, margin, **settings) == pytest.approx(expected, 1e-6)


# The cases of tests/goldens/make_reward.py: its coefficient, and margins.
GOLDENS = {
  'plain': (0.0, False),
  'margins': (0.0, True),
  'centred': (0.01, False),
  'both': (0.3, True),
}


@pytest.fixture(scope='module')
def goldens():
  path = pathlib.Path(__file__).parents[1] / 'goldens' / 'reward.npz'
  return dict(np.load(path))


@pytest.mark.parametrize('name', GOLDENS)
def test_losses_and_gradients_are_trl_s(goldens, name):
  center_coef, has_margins = GOLDENS[name]
  loss = functools.partial(reward.bradley_terry, center_coef=center_coef)
  margins = goldens['margins'] if has_margins else 0.0
  others = np.ones(9, bool), margins
  scores = goldens['scores']
  np.testing.assert_allclose(
    loss(scores, *others), goldens[f'loss/{name}'], rtol=1e-5
  )
  slope = gradient(loss, scores, *others)
  np.testing.assert_allclose(
    slope, goldens[f'grad/{name}'], rtol=1e-4, atol=1e-7
  )
  assert np.any(slope)
  assert {k for k in goldens if k[:5] == 'loss/'} == {
    f'loss/{name}' for name in GOLDENS
  }


# ------------------------------------------------------- limits, identities


def test_equal_scores_are_a_coin():
  assert one_pair(7.0, 7.0) == pytest.approx(math.log(2))
  assert one_pair(7.5, 7.0, 0.5) == pytest.approx(math.log(2))


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_the_two_labels_of_a_pair_differ_by_its_logit(smoothing):
  scores, where, margins = case()
  loss = functools.partial(reward.bradley_terry, label_smoothing=smoothing)
  swapped = loss(scores[:, ::-1], where, -margins)
  logits = scores[:, 0] - scores[:, 1] - margins
  expected = (1 - 2 * smoothing) * logits
  actual = swapped - loss(scores, where, margins)
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_smoothed_label_is_the_mixture_of_both_labels():
  scores, where, _ = case()
  expected = 0.8 * reward.bradley_terry(scores, where)
  expected += 0.2 * reward.bradley_terry(scores[:, ::-1], where)
  np.testing.assert_allclose(LOSSES['smoothed'](scores, where), expected, 1e-5)


def test_smoothed_labels_have_a_best_difference():
  """It is where sigmoid(d - m) = 1 - e; of certain ones there is none."""
  best = jnp.array([[math.log(0.8 / 0.2) + 0.5, 0.0]])
  others = jnp.ones(1, bool), 0.5
  np.testing.assert_allclose(
    gradient(LOSSES['smoothed'], best, *others), 0, atol=1e-6
  )
  assert gradient(LOSSES['smoothed'], 2 * best, *others)[0, 0] > 0
  assert gradient(LOSSES['plain'], 2 * best, *others)[0, 0] < 0


def test_a_margin_asks_for_more():
  """It has an effect on the gradient: outside of the logarithm it would not."""
  scores, where, _ = case()
  slopes = [gradient(LOSSES['plain'], scores, where, m) for m in (0.0, 1.0)]
  assert np.all(np.abs(slopes[1]) > np.abs(slopes[0]))


def test_margins_have_no_gradient():
  scores, where, margins = case()
  slope = jax.grad(lambda m: jnp.sum(reward.bradley_terry(scores, where, m)))(
    margins
  )
  assert not np.any(slope)


@pytest.mark.parametrize('name', LOSSES)
def test_a_constant_added_to_all_scores(name):
  """It changes what is centred alone, and is drawn to 0 there."""
  scores, where, margins = case()
  plain, shifted = (
    LOSSES[name](x, where, margins) for x in (scores, scores + 3)
  )
  if name != 'centred':
    np.testing.assert_allclose(shifted, plain, rtol=1e-4)
    return
  sums = jnp.sum(scores, axis=1)
  expected = 0.3 * ((sums + 6) ** 2 - sums**2)
  np.testing.assert_allclose(shifted - plain, expected, rtol=1e-4, atol=1e-5)
  slope = gradient(LOSSES[name], scores + 100, where, margins)
  assert np.all(slope > 0)


def test_scores_that_grow_are_a_hinge():
  """The loss of t times the scores is t times max(0, -d)."""
  scores, where, _ = case()
  differences = scores[:, 0] - scores[:, 1]
  actual = reward.bradley_terry(1e4 * scores, where) / 1e4
  np.testing.assert_allclose(actual, jax.nn.relu(-differences), atol=1e-4)


@pytest.mark.parametrize('name', LOSSES)
def test_the_chosen_score_grows(name):
  _, where, _ = case()
  scores = jnp.zeros((6, 2))
  slope = gradient(LOSSES[name], scores, where)
  assert np.all(slope[:, 0] < 0) and np.all(slope[:, 1] > 0)


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_padding_reaches_neither_value_nor_gradient(name, bad):
  scores, where, margins = case()
  expected = LOSSES[name](scores, where, margins)
  slope = gradient(LOSSES[name], scores, where, margins)
  padded = jnp.concatenate([scores, jnp.full((2, 2), bad)])
  others = (
    jnp.concatenate([where, jnp.zeros(2, bool)]),
    jnp.concatenate([margins, jnp.full(2, bad)]),
  )
  actual = LOSSES[name](padded, *others)
  padded_slope = gradient(LOSSES[name], padded, *others)
  np.testing.assert_array_equal(actual[:6], expected)
  np.testing.assert_array_equal(padded_slope[:6], slope)
  assert not np.any(actual[6:]) and not np.any(padded_slope[6:])


@pytest.mark.parametrize('name', LOSSES)
def test_the_order_of_pairs_does_not_matter(name):
  arrays, order = case(), jnp.array([3, 0, 5, 4, 1, 2])
  np.testing.assert_array_equal(
    LOSSES[name](*(x[order] for x in arrays)), LOSSES[name](*arrays)[order]
  )


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('size', [0.0, 1e-30, 1e5, 1e15])
def test_extreme_scores_are_finite(name, size):
  for pair in ([size, -size], [-size, size], [size, size]):
    arrays = jnp.array([pair]), jnp.ones(1, bool), size
    assert np.all(np.isfinite(LOSSES[name](*arrays)))
    assert np.all(np.isfinite(gradient(LOSSES[name], *arrays)))


@pytest.mark.parametrize('name', LOSSES)
def test_bfloat16_is_only_read(name):
  scores, where, margins = case()
  short = (100 * scores).astype(jnp.bfloat16)
  actual = LOSSES[name](short, where, margins)
  assert actual.dtype == jnp.float32 and actual.shape == (6,)
  np.testing.assert_array_equal(
    actual, LOSSES[name](short.astype(jnp.float32), where, margins)
  )


def test_scores_that_fit_labels_have_their_odds():
  """Of 3 labels in 4 the best difference is log 3, whatever the mean is."""
  scores = jnp.array([2.0, 2.0])
  where = jnp.ones(4, bool)
  pairs = jnp.array([[0, 1], [0, 1], [0, 1], [1, 0]])

  def total(x):
    return jnp.sum(reward.bradley_terry(x[pairs], where, center_coef=0.01))

  step = jax.jit(lambda x: x - 0.3 * jax.grad(total)(x))
  for _ in range(300):
    scores = step(scores)
  assert scores[0] - scores[1] == pytest.approx(math.log(3), rel=1e-3)
  assert scores[0] + scores[1] == pytest.approx(0, abs=1e-3)


# ---------------------------------------------------------- wrong settings


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(label_smoothing=0.5), 'label_smoothing: got 0.5; expected at least'),
    (dict(label_smoothing=-0.1), 'label_smoothing: got -0.1'),
    (dict(center_coef=-1.0), 'center_coef: got -1.0; expected >= 0'),
    (dict(center_coef=math.nan), 'center_coef: got nan'),
  ],
)
def test_wrong_settings(settings, message):
  with pytest.raises(ValueError, match=message):
    one_pair(0.0, 0.0, **settings)
