"""What updates of preference games come to, told apart: exact, no noise."""

import functools

import numpy as np
import pytest
from tabular_games import (
  cycle,
  draw_game,
  duality_gap,
  exploitability,
  extragradient,
  gaps,
  log_odds,
  mirror,
  nash_md,
  nash_md_of_falling_steps,
  play,
  softmax,
)

ZERO = 1e-12


def test_the_gap_is_0_at_the_equilibrium_and_nowhere_else():
  wins, ref = draw_game()
  nash, _ = play(
    functools.partial(extragradient, eta=1.0, tau=0.1), wins, ref, 500
  )
  # A fixed point: the best answer to itself.
  np.testing.assert_allclose(
    softmax(nash), softmax(ref + wins @ softmax(nash) / 0.1), atol=1e-9
  )
  assert abs(duality_gap(nash, wins, ref, 0.1)) < ZERO
  for step in np.eye(10):
    assert duality_gap(nash + 0.1 * step, wins, ref, 0.1) > 1e-7
  assert 0.01 < duality_gap(ref, wins, ref, 0.1)
  # Preferences that are all even leave the reference where it is.
  even = np.full((10, 10), 0.5)
  assert abs(duality_gap(ref, even, ref, 0.1)) < ZERO
  np.testing.assert_allclose(
    softmax(mirror(ref, even, ref, eta=1.0, tau=0.1)), softmax(ref)
  )


@pytest.mark.parametrize(
  ('update', 'tau', 'eta', 'low', 'high'),
  [
    # INPO and online IPO: the last policy is the equilibrium, if steps are
    # small beside the KL; else it goes around it.
    (mirror, 0.1, 1.0, -ZERO, ZERO),
    (mirror, 0.1, 3.0, -ZERO, 1e-3),
    (mirror, 0.1, 10.0, 0.1, 1.0),  # eta of INPO is its tau
    (mirror, 0.01, 1.0, 0.1, 1.0),
    # EGPO: also where the others go around, but not with any step.
    (extragradient, 0.1, 3.0, -ZERO, ZERO),
    (extragradient, 0.01, 1.0, -ZERO, 1e-9),
    (extragradient, 0.01, 5.0, 0.05, 1.0),
    # Nash-MD with a constant step ends beside the equilibrium.
    (nash_md, 0.1, 1.0, 2e-4, 5e-3),
    (nash_md, 0.1, 3.0, 4e-3, 5e-2),
    (nash_md, 0.01, 1.0, 0.1, 1.0),
  ],
)
def test_the_last_policy_s_gap(update, tau, eta, low, high):
  its = gaps(update, tau, eta, num_games=3)
  assert low < np.min(its) and np.max(its) < high, its


def test_nash_md_ends_beside_the_equilibrium_by_the_square_of_its_step():
  floors = [np.median(gaps(nash_md, 0.1, eta, 500, 3)) for eta in (1, 0.5)]
  assert 3 < floors[0] / floors[1] < 6, floors
  # What it ends at is the best answer to a mixture, not to itself.
  wins, ref = draw_game()
  last, _ = play(functools.partial(nash_md, eta=1.0, tau=0.1), wins, ref, 500)
  mixture = softmax(0.9 * last + 0.1 * ref)
  fixed = softmax(ref + wins @ mixture / 0.1)
  np.testing.assert_allclose(softmax(last), fixed, atol=1e-9)


def test_nash_md_s_falling_steps_reach_it():
  """The bound is 8 / (tau**2 (T + 1)); it is far better than that."""
  wins, ref = draw_game()
  early, late = (
    duality_gap(
      nash_md_of_falling_steps(wins, ref, tau=0.1, num_steps=n), wins, ref, 0.1
    )
    for n in (100, 1000)
  )
  assert 1e-5 < early < 1e-3 and 1e-8 < late < 1e-5, (early, late)


@pytest.mark.parametrize('wins', [cycle(), cycle(0.9, 0.8, 0.6)])
def test_spo_s_average_is_not_exploited_and_its_last_policy_is(wins):
  update = functools.partial(mirror, eta=0.1, tau=0.0)
  last, average = play(update, wins, np.array([0.3, 0.0, -0.3]), 5000)
  assert exploitability(average, wins) < 0.005
  assert exploitability(softmax(last), wins) > 0.1
  assert exploitability(softmax(last), wins) > 20 * exploitability(
    average, wins
  )


def test_no_single_reward_is_any_good_in_a_cycle():
  """All have the same mean; whichever is best by it is beaten 9 times of 10."""
  wins = cycle()
  rewards = np.mean(wins, axis=1)
  np.testing.assert_allclose(rewards, 0.5)
  best = np.eye(3)[np.argmax(rewards)]
  assert exploitability(best, wins) == pytest.approx(0.4)


def test_gpo_s_average_gets_better_by_the_root_of_its_steps():
  scores, ref = log_odds(draw_game()[0]), draw_game()[1]
  np.testing.assert_allclose(scores, -scores.T)
  values = []
  for num_steps in (100, 6400):
    update = functools.partial(mirror, eta=num_steps**-0.5, tau=0.0)
    last, average = play(update, scores, ref, num_steps)
    values.append(exploitability(average, scores, even=0.0))
    assert exploitability(softmax(last), scores, even=0.0) > 0.5
  assert exploitability(softmax(ref), scores, even=0.0) > 1.0
  assert values[0] < 0.5 and values[1] < values[0] / 6, values
