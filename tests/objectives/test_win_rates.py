"""Win rates of groups, and what Nash-MD and GPM make of them; mostly numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tabular_games

from critic_jax.objectives import pair_preferences, win_rates

ALL = np.ones((1, 3), bool)
CYCLE = tabular_games.cycle()[None]


def softmax(x):
  return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


# ------------------------------------------------------------ preferences


def test_bradley_terry_by_hand():
  # Scores 2, 0 and 1: the weight of the second criterion is negative.
  values = np.array([[[1.0, 0.0], [1.0, 1.0], [0.5, 0.0]]])
  weights = np.array([2.0, -2.0])
  actual = pair_preferences.bradley_terry(values, weights, temperature=2.0)
  assert actual.dtype == np.float32
  sigmoid = 1 / (1 + np.exp(-np.array([1.0, 0.5])))
  half, by_2, by_1 = 0.5, *sigmoid
  np.testing.assert_allclose(
    actual[0],
    [[half, by_2, by_1], [1 - by_2, half, 1 - by_1], [1 - by_1, by_1, half]],
    rtol=1e-6,
  )
  certain = pair_preferences.bradley_terry(values, weights, temperature=0.0)
  np.testing.assert_array_equal(
    certain[0], [[0.5, 1, 1], [0, 0.5, 0], [0, 1, 0.5]]
  )
  with pytest.raises(ValueError, match=r'temperature: got -1\.0'):
    pair_preferences.bradley_terry(values, weights, temperature=-1.0)


def test_raters_may_prefer_each_to_the_next():
  """Condorcet: ranks 1 2 3, 2 3 1 and 3 1 2. Their sums are equal."""
  values = np.array([[[3.0, 1.0, 2.0], [2.0, 3.0, 1.0], [1.0, 2.0, 3.0]]])
  weights = np.ones(3)
  actual = pair_preferences.raters(values, weights)
  np.testing.assert_allclose(
    actual, tabular_games.cycle(2 / 3, 2 / 3, 2 / 3)[None], rtol=1e-6
  )
  even = pair_preferences.bradley_terry(values, weights, temperature=1.0)
  np.testing.assert_array_equal(even, np.full((1, 3, 3), 0.5))
  # One rater who sees no difference, and one with a weight of 3.
  values = np.array([[[1.0, 0.0], [1.0, 7.0]]])
  actual = pair_preferences.raters(values, np.array([1.0, 3.0]))
  np.testing.assert_allclose(actual[0], [[0.5, 0.125], [0.875, 0.5]])
  less = pair_preferences.raters(values, np.array([1.0, -3.0]))
  np.testing.assert_allclose(less[0], [[0.5, 0.875], [0.125, 0.5]])


@pytest.mark.parametrize(
  'function',
  [
    functools.partial(pair_preferences.bradley_terry, temperature=1.0),
    pair_preferences.raters,
  ],
)
def test_preferences_of_a_pair_are_1_together(function):
  values = np.random.default_rng(0).normal(size=(4, 5, 3)) * 1e3
  actual = function(values, np.array([1.0, -0.5, 2.0]))
  np.testing.assert_allclose(actual + np.swapaxes(actual, 1, 2), 1, rtol=1e-6)
  assert actual.min() >= 0 and actual.max() <= 1
  moved = values[:, [3, 0, 4, 1, 2]]
  order = np.array([3, 0, 4, 1, 2])
  np.testing.assert_array_equal(
    function(moved, np.array([1.0, -0.5, 2.0])),
    actual[:, order][:, :, order],
  )


# -------------------------------------------------------------- win rates


def test_win_rates_by_hand():
  wins = np.array([[[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]]])
  actual = win_rates.against(wins, ALL)
  np.testing.assert_allclose(actual, [[0.55, 0.4, 0.55]], rtol=1e-6)
  assert actual.dtype == np.float32
  # Nobody plays against the second one.
  where = np.array([[True, False, True]])
  wins[0, 1] = wins[0, :, 1] = np.nan
  np.testing.assert_allclose(win_rates.against(wins, where), [[0.2, 0, 0.8]])
  alone = np.array([[True, False, False]])
  np.testing.assert_array_equal(win_rates.against(wins, alone), [[0, 0, 0]])
  # An opponent of weight 3.
  opponents = np.array([[1.0, 1.0, 3.0]])
  actual = win_rates.against(CYCLE, ALL, opponents)  # 0 > 1 > 2 > 0
  expected = [[(0.9 + 3 * 0.1) / 4, (0.1 + 3 * 0.9) / 4, (0.9 + 0.1) / 2]]
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_wins_are_conserved_and_a_cycle_has_none_to_share():
  np.testing.assert_allclose(win_rates.against(CYCLE, ALL), [[0.5] * 3])
  values = np.random.default_rng(0).normal(size=(4, 5, 3))
  wins = pair_preferences.raters(values, np.ones(3))
  rates = win_rates.against(wins, np.ones((4, 5), bool))
  np.testing.assert_allclose(rates.mean(axis=1), 0.5, rtol=1e-6)
  ranks = pair_preferences.bradley_terry(values, np.ones(3), temperature=0.0)
  rates = win_rates.against(ranks, np.ones((4, 5), bool))
  order = values.sum(axis=-1).argsort(axis=1).argsort(axis=1)
  np.testing.assert_allclose(rates, order / 4)


def test_the_host_s_arrays_and_the_device_s():
  rates = win_rates.against(jnp.asarray(CYCLE), jnp.asarray(ALL))
  assert isinstance(rates, jax.Array)
  np.testing.assert_allclose(rates, win_rates.against(CYCLE, ALL))


# ---------------------------------------------------------------- Nash-MD


def test_samples_of_the_policy_are_weighed_as_the_mixture_s():
  """4 samples, as often as the policy has them: exact."""
  policy, ref = np.array([0.5, 0.25, 0.25]), np.array([0.2, 0.2, 0.6])
  actions = np.array([[0, 0, 1, 2]])
  log_ratios = np.log(policy / ref)[actions]
  for share in (0.0, 0.3, 1.0):
    weights = win_rates.of_mixture(
      log_ratios, np.ones((1, 4), bool), share=share
    )
    mixture = policy ** (1 - share) * ref**share
    mixture /= mixture.sum()
    actual = [weights[actions == action].sum() for action in range(3)]
    np.testing.assert_allclose(actual, mixture, rtol=1e-6)
  where = np.array([[True, False, True, True]])
  log_ratios[0, 1] = np.nan
  weights = win_rates.of_mixture(log_ratios, where, share=0.5)
  assert weights[0, 1] == 0 and weights.sum() == pytest.approx(1)
  far = win_rates.of_mixture(np.array([[-1e4, 1e4]]), where[:, ::2], share=1.0)
  np.testing.assert_array_equal(far, [[1, 0]])
  assert not win_rates.of_mixture(far, where[:, ::2] & False, share=1.0).any()
  with pytest.raises(ValueError, match=r'share: got 1\.5'):
    win_rates.of_mixture(log_ratios, where, share=1.5)


def test_nash_md_follows_its_objective():
  """REINFORCE with it is the slope of P(pi > pi') - tau KL(pi || ref)."""
  wins, ref = tabular_games.draw_game(3, 5)
  logits = ref + np.random.default_rng(0).normal(size=5)
  tau, log_ref = 0.3, np.log(softmax(ref))
  mixture = softmax(0.8 * logits + 0.2 * ref)

  def objective(logits):
    policy = softmax(logits)
    kl = policy @ (np.log(policy) - log_ref)
    return policy @ wins @ mixture - tau * kl

  policy = softmax(logits)
  advantages = win_rates.nash_md(
    (wins @ mixture)[None], (np.log(policy) - log_ref)[None],
    np.ones((1, 5), bool), tau=tau,
  )[0]  # fmt: skip
  # The gradient of log p_i is e_i - p.
  slope = policy * (advantages - policy @ advantages)
  expected = [
    (objective(logits + step) - objective(logits - step)) / 2e-5
    for step in 1e-5 * np.eye(5)
  ]
  np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_nash_md_by_hand():
  rates, ratios = np.array([[0.75, 0.5, 9.0]]), np.array([[1.0, -2.0, 9.0]])
  where = np.array([[True, True, False]])
  actual = win_rates.nash_md(rates, ratios, where, tau=0.1)
  np.testing.assert_allclose(actual, [[0.15, 0.2, 0]], rtol=1e-6)
  with pytest.raises(ValueError, match=r'tau: got -0\.1'):
    win_rates.nash_md(rates, ratios, where, tau=-0.1)


# --------------------------------------------------------------------- GPM


def test_scores_of_a_general_preference_model():
  v = np.random.default_rng(0).normal(size=(2, 4, 6))
  scores = win_rates.skew_scores(v)
  np.testing.assert_allclose(scores, -np.swapaxes(scores, 1, 2), atol=1e-6)
  # <R v_i, v_j> with blocks [[0, -1], [1, 0]].
  rotate = np.kron(np.eye(3), [[0, -1], [1, 0]])
  np.testing.assert_allclose(
    scores, np.einsum('ab,nib,nja->nij', rotate, v, v), rtol=1e-5, atol=1e-6
  )
  gates = np.array([[1.0, 0, 0], [0, 2.0, 0]])
  np.testing.assert_allclose(
    win_rates.skew_scores(v, gates)[1],
    2 * win_rates.skew_scores(v[1:, :, 2:4])[0],
    rtol=1e-5,
  )


def test_one_block_is_bradley_terry_or_a_cycle():
  rewards = np.array([2.0, -1.0, 0.5])
  v = np.stack([rewards, np.ones(3)], axis=-1)[None]
  np.testing.assert_allclose(
    win_rates.skew_scores(v)[0], rewards[:, None] - rewards, rtol=1e-6
  )
  angles = -np.arange(4) * np.pi / 2  # each is preferred to the one before
  circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)[None]
  scores = win_rates.skew_scores(circle)[0]
  for i in range(4):
    assert scores[i, (i + 1) % 4] == pytest.approx(-1)
    assert scores[i, (i + 2) % 4] == pytest.approx(0, abs=1e-6)


def test_a_general_preference_model_learns_a_cycle_and_one_score_does_not():
  """2410.02197: four kinds in a circle, each preferred to the next.

  Linear embeddings of noisy features of 16 numbers, learned from pairs; a card
  of a run elsewhere has 100 % of such pairs right, and 50.7 % by one score.
  """
  random = np.random.default_rng(0)
  centres = random.normal(size=(4, 16))

  def draw(size):
    kinds = random.integers(4, size=size)
    pairs = np.stack([kinds, (kinds + 1) % 4], axis=1)  # the first is preferred
    return centres[pairs] + 0.1 * random.normal(size=(size, 2, 16))

  given, others = draw(500), draw(500)

  def scores(params, pairs):
    v = pairs @ params
    if params.shape[1] == 1:  # (score, 1), which is Bradley and Terry's
      v = jnp.concatenate([v, jnp.ones_like(v)], axis=-1)
    return win_rates.skew_scores(v)[:, 0, 1]

  @jax.jit
  def step(params):
    def loss(params):
      return -jax.nn.log_sigmoid(scores(params, given)).mean()

    return params - 0.1 * jax.grad(loss)(params)

  right = []
  for size in (1, 2):
    params = jnp.asarray(0.1 * random.normal(size=(16, size)))
    for _ in range(300):
      params = step(params)
    right.append(np.mean(scores(params, others) > 0))
  assert right[0] < 0.8 and right[1] > 0.99, right
