"""Losses of preference games: by hand, by identities, by their optima."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tabular_games

from critic_jax.objectives import games, preference

OBJECTIVES = [
  functools.partial(games.inpo, eta=0.5, tau=0.2),
  functools.partial(games.online_ipo, beta=0.3),
  functools.partial(games.dno, eta=0.7),
  functools.partial(games.sppo, eta=2.0),
]
INPO, ONLINE_IPO, DNO, SPPO = OBJECTIVES
# Log-probabilities of the policy, the reference and the old policy; lengths;
# win rates. To the reference h = 1, to the old policy -1/2; the gap of wins is
# a half.
PAIR = tuple(
  np.array([x], np.float32)
  for x in (
    [0.75, -0.25], [0.0, 0.0], [0.5, -1.0], [3.0, 5.0], [0.8, 0.3]
  )
)  # fmt: skip


def name_of(objective):
  return objective.func.__name__


def random_case(num_pairs=3, seed=0):
  random = np.random.default_rng(seed)
  sums = -random.exponential(size=(3, num_pairs, 2))
  num_tokens = random.integers(1, 9, (num_pairs, 2))
  wins = random.uniform(size=(num_pairs, 2))
  return tuple(x.astype(np.float32) for x in (*sums, num_tokens, wins))


def gradient(objective, logprobs, *others):
  return jax.grad(lambda x: jnp.sum(objective(x, *others)))(logprobs)


def swapped(case):
  return tuple(x[:, ::-1] for x in case)


def test_the_list_has_all_functions_of_the_module():
  functions = {
    name
    for name, function in inspect.getmembers(games, inspect.isfunction)
    if function.__module__ == games.__name__ and name[0] != '_'
  }
  assert functions == {name_of(o) for o in OBJECTIVES}
  assert {*games.WITH_REFERENCE, *games.WITH_OLD} == functions


SIGMOID = 1 / (1 + math.exp(-0.5))  # of the gap of wins


@pytest.mark.parametrize(
  ('objective', 'settings', 'expected'),
  [
    # The reference is 0.6 old: h = (0.75 - 0.3) - (-0.25 + 0.6) = 0.1, and the
    # target 1.
    ('inpo', dict(eta=0.5, tau=0.2), 0.9**2),
    ('inpo', dict(eta=0.25, tau=0.25), (1 - 2) ** 2),  # all reference
    ('online_ipo', dict(beta=0.25), (1 - 0.5 / 0.25) ** 2),
    ('online_ipo', dict(beta=0.5), 0.0),
    (
      'dno',  # eta h = -1
      dict(eta=2.0),
      SIGMOID * math.log1p(math.e) + (1 - SIGMOID) * math.log1p(1 / math.e),
    ),
    # Log-ratios 0.25 and 0.75 to the old policy; targets 0.6 and -0.4.
    ('sppo', dict(eta=2.0), (0.35**2 + 1.15**2) / 2),
    # Of scores: targets 0.4 and 0.15.
    ('sppo', dict(eta=0.5, even=0.0), (0.15**2 + 0.6**2) / 2),
  ],
)
def test_by_hand(objective, settings, expected):
  actual = getattr(games, objective)(*PAIR, **settings)
  np.testing.assert_allclose(actual, [expected], rtol=1e-5, atol=1e-9)


def test_each_is_an_objective_of_other_arrays():
  logprobs, ref, old, num_tokens, wins = case = random_case()
  mixed = 0.4 * ref + 0.6 * old
  np.testing.assert_allclose(
    INPO(*case), preference.ipo(logprobs, mixed, num_tokens, tau=0.5), rtol=1e-5
  )
  # Wins of a half more are labels that are certain.
  wins = wins * 0 + np.array([0.7, 0.2], np.float32)
  np.testing.assert_allclose(
    ONLINE_IPO(*case[:4], wins),
    preference.ipo(logprobs, ref, num_tokens, tau=0.3),
    rtol=1e-5,
  )
  # Equal wins are labels of which half are wrong.
  np.testing.assert_allclose(
    DNO(*case[:4], 0 * wins),
    preference.dpo(
      logprobs, old, num_tokens, beta=0.7, label_smoothing=0.5 - 1e-7
    ),
    rtol=1e-4,
  )


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_who_is_called_chosen(objective):
  """It matters to labels only: INPO's two losses of a pair are 2 h / eta apart.

  h is of the mixture, as above.
  """
  case = random_case()
  logprobs, ref, old, *_ = case
  expected = 0.0
  if objective is INPO:
    h = logprobs - 0.4 * ref - 0.6 * old
    expected = 2 * (h[:, 0] - h[:, 1]) / 0.5
  difference = objective(*swapped(case)) - objective(*case)
  np.testing.assert_allclose(difference, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_shifts_that_do_not_matter(objective):
  """Of log-probabilities, and of win rates, alike for both responses."""
  logprobs, *others, wins = case = random_case()
  plain = objective(*case)
  louder = objective(logprobs - 0.7, *others, wins)
  luckier = objective(logprobs, *others, wins + 0.1)
  if objective is SPPO:
    assert np.all(np.abs(louder - plain) > 1e-3)
    even = objective(logprobs, *others, wins + 0.1, even=0.6)
    np.testing.assert_allclose(even, plain, rtol=1e-4)
  else:
    np.testing.assert_allclose(louder, plain, rtol=1e-4)
    np.testing.assert_allclose(luckier, plain, rtol=1e-4)


def test_a_game_that_all_win_alike_teaches_nothing_at_the_reference():
  logprobs, *_, num_tokens, _ = random_case()
  case = logprobs, logprobs, logprobs, num_tokens, 0 * logprobs + 0.5
  for objective in OBJECTIVES[1:]:
    np.testing.assert_allclose(gradient(objective, *case), 0, atol=1e-6)
  # Labels do, but as often one as the other.
  slope = gradient(INPO, *case)
  np.testing.assert_allclose(slope, [[-2.0, 2.0]] * 3, rtol=1e-5)
  np.testing.assert_allclose(
    slope + gradient(INPO, *swapped(case))[:, ::-1], 0, atol=1e-6
  )


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_what_is_padding_and_what_has_a_gradient(objective):
  logprobs, *others = random_case()

  def total(*case):
    return jnp.sum(objective(*case))

  slopes = jax.grad(total, (0, 1, 2, 4))(logprobs, *others)
  assert np.all(slopes[0]) and not np.any(slopes[1:])
  padded = [x.copy() for x in (logprobs, *others)]
  for x in padded:
    x[1] = np.nan
  padded[3][1] = [2, 0]
  loss, slope = objective(*padded), gradient(objective, *padded)
  assert loss.dtype == jnp.float32 and loss.shape == (3,)
  assert loss[1] == 0 and not np.any(slope[1])
  np.testing.assert_array_equal(slope[::2], slopes[0][::2])


# --------------------------------------------------------- optima and steps


NUM = 6


@functools.cache
def game():
  """Draws preferences, a reference, an old policy, and its win rates."""
  wins, ref = tabular_games.draw_game(1, NUM)
  old = ref + np.random.default_rng(2).normal(size=NUM)
  old_policy = tabular_games.softmax(old)
  return wins, ref, old, wins @ old_policy


def slope_of_logits(objective, logits, weights):
  """Returns the gradient of the loss over all ordered pairs of 6 actions."""
  _, ref, old, rates = game()

  def of_pairs(x):
    return jnp.stack(jnp.meshgrid(x, x, indexing='ij'), -1).reshape(-1, 2)

  def loss(logits):
    case = jax.nn.log_softmax(logits), *map(jax.nn.log_softmax, (ref, old))
    case = [of_pairs(x) for x in (*case, jnp.ones(NUM), rates)]
    return jnp.sum(weights.ravel() * objective(*case))

  return np.asarray(jax.grad(loss)(jnp.asarray(logits, jnp.float32)))


@pytest.mark.parametrize('objective', OBJECTIVES[:3], ids=name_of)
def test_the_optimum_is_the_papers_closed_form(objective):
  """Losses are convex in logits: the optimum is where the slope is 0."""
  wins, ref, old, rates = game()
  policy = tabular_games.softmax(old)
  of_samples = policy[:, None] * policy[None]
  mirror = functools.partial(tabular_games.mirror, old, wins, ref)
  # Pairs of samples that the game labels; any pairs, of which rates are known.
  optimum, weights = {
    'inpo': (mirror(eta=1 / 0.5, tau=0.2), of_samples * wins),
    'online_ipo': (ref + rates / 0.3, np.ones((NUM, NUM)) / NUM**2),
    'dno': (mirror(eta=1 / 0.7, tau=0.0), np.ones((NUM, NUM)) / NUM**2),
  }[name_of(objective)]
  slope = slope_of_logits(objective, optimum, weights)
  np.testing.assert_allclose(slope, 0, atol=2e-6)
  assert np.max(np.abs(slope_of_logits(objective, old, weights))) > 1e-2
  if objective is DNO:  # the step wins against where it came from
    assert tabular_games.softmax(optimum) @ rates > 0.5


def test_inpo_wants_pairs_of_the_old_policy_s_own():
  wins, ref, old, _ = game()
  optimum = tabular_games.mirror(old, wins, ref, eta=1 / 0.5, tau=0.2)
  assert np.max(np.abs(slope_of_logits(INPO, optimum, wins / NUM**2))) > 1e-2


def test_a_gradient_step_of_online_ipo_is_the_step_of_mirror_descent():
  """Over uniform pairs a step of size lr is eta = 4 lr / (beta N)."""
  wins, ref, old, _ = game()
  beta, eta = 0.3, 0.4
  slope = slope_of_logits(ONLINE_IPO, old, np.ones((NUM, NUM)) / NUM**2)
  actual = old - eta * beta * NUM / 4 * slope
  expected = tabular_games.mirror(old, wins, ref, eta=eta, tau=beta)
  difference = actual - expected
  np.testing.assert_allclose(difference, np.mean(difference), atol=1e-5)


def test_sppo_has_a_target_for_each_response():
  case = random_case()
  _, ref, old, num_tokens, wins = case
  best = old + 2.0 * (wins - 0.5)
  np.testing.assert_allclose(
    gradient(SPPO, best, ref, old, num_tokens, wins), 0, atol=1e-6
  )


@pytest.mark.parametrize(
  ('objective', 'settings', 'message'),
  [
    ('inpo', dict(eta=0.0), 'eta: got 0.0; expected > 0'),
    ('inpo', dict(eta=0.1, tau=0.2), 'tau: got 0.2; expected > 0 and <= eta'),
    ('inpo', dict(tau=0.0), 'tau: got 0.0'),
    ('online_ipo', dict(beta=-1.0), 'beta: got -1.0'),
    ('dno', dict(eta=math.nan), 'eta: got nan'),
    ('sppo', dict(eta=0.0), 'eta: got 0.0'),
  ],
)
def test_wrong_settings(objective, settings, message):
  with pytest.raises(ValueError, match=message):
    getattr(games, objective)(*PAIR, **settings)
