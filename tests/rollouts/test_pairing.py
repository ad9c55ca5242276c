import dataclasses
import random

import pytest
from helpers import make_record
from loop_helpers import PROBLEM, RIGHT, WRONG

from critic_jax.rollouts import pairing


def pairs_of(rewards, max_pairs, *margin):
  """Returns the indices of the pairs of siblings with such rewards."""
  siblings = [
    make_record(
      'critique', index=i, scores={} if reward is None else {'reward': reward}
    )
    for i, reward in enumerate(rewards)
  ]
  pairs = pairing.farthest_pairs(siblings, max_pairs, *margin)
  return [(chosen.index, rejected.index) for chosen, rejected in pairs]


@pytest.mark.parametrize(
  ('rewards', 'max_pairs', 'expected'),
  [
    ([0.5, 0.1, 1.0], 3, [(2, 1), (2, 0), (0, 1)]),  # all, by their distance
    ([0.5, 0.1, 1.0], 1, [(2, 1)]),
    ([0.5, 0.5, 0.5], 3, []),  # equal rewards
    ([0.5, 0.5, 0.25], 9, [(0, 2), (1, 2)]),
    ([1, 1, 0, 0], 2, [(0, 2), (1, 3)]),  # each record once, as far as it goes
    ([1, 1, 0, 0], 9, [(0, 2), (1, 3), (0, 3), (1, 2)]),
    ([None, 1.0, 0.0, None], 4, [(1, 2)]),  # not determined
    ([1.0], 4, []),
    ([], 4, []),
    ([-1.0, -2.0], 4, [(0, 1)]),
  ],
)
def test_pairs_by_hand(rewards, max_pairs, expected):
  assert pairs_of(rewards, max_pairs) == expected


def test_rewards_of_a_pair_differ_by_more_than_the_margin():
  rewards = [0.5, 0.25, 1.0]  # 0.5, 0.25 and 0.75 apart
  assert pairs_of(rewards, 9, 0.25) == [(2, 1), (2, 0)]
  assert pairs_of(rewards, 9, 0.2) == pairs_of(rewards, 9)
  assert pairs_of(rewards, 9, 0.75) == []


def test_records_without_tokens_are_in_no_pair():
  siblings = [
    make_record('critique', index=i, scores={'reward': float(i)})
    for i in range(3)
  ]
  siblings[2] = dataclasses.replace(siblings[2], tokens=siblings[2].tokens[:0])
  [(chosen, rejected)] = pairing.farthest_pairs(siblings, 9)
  assert (chosen, rejected) == (siblings[1], siblings[0])


def test_a_share_of_labels_is_swapped_by_the_draws():
  rng = random.Random(0)
  draws = [rng.random() for _ in range(200)]
  pairs = [(('chosen', i), ('rejected', i)) for i in range(200)]
  swapped = pairing.swap(pairs, 0.3, random.Random(0))
  for pair, other, draw in zip(pairs, swapped, draws, strict=True):
    assert other == (pair[::-1] if draw < 0.3 else pair)
  assert pairing.swap(pairs, 0.0, random.Random(0)) == pairs


def test_gold_is_a_grade_a_verdict_or_a_measure():
  nobody = dict(module='')
  assert {*pairing.gold_rules(nobody, 'solve')} == {'correct'}
  assert {*pairing.gold_rules(nobody, 'critique')} == {'judge'}
  measure = dict(module='arithmetic_labels', name='share_right')
  rules = pairing.gold_rules(measure, 'solve')
  solutions = [
    make_record('solve', problem=PROBLEM, text=text) for text in (RIGHT, WRONG)
  ]
  shares = [rules['gold'](solution, []) for solution in solutions]
  assert shares[0] == 1.0 > shares[1]
  with pytest.raises(ValueError, match="gold: got 'share_right', which"):
    pairing.gold_rules(measure, 'critique')


def test_responses_are_given_or_made():
  nobody, somebody = dict(module=''), dict(module='labels')
  given = dict(max_responses=2, score=dict(preference=1.0, length=0.0))
  assert pairing.given_weights(None, 'solve', somebody, nobody) == {}
  assert pairing.given_weights(given, 'solve', nobody, nobody) == {
    'preference': 1.0
  }
  for made in (
    ('critique', nobody, nobody),
    ('solve', somebody, nobody),
    ('solve', nobody, somebody),
  ):
    with pytest.raises(ValueError, match='comparisons: got them with'):
      pairing.given_weights(given, *made)


def test_the_most_plausible_right_and_wrong_ones_are_paired():
  def solution(reward, plausible, **fields):
    scores = {'reward': reward, 'plausible': plausible}
    return make_record(scores=scores, **fields)

  low, high = solution(1.0, 0.1), solution(1.0, 0.9)
  easy, hard = solution(0.0, 0.2), solution(0.0, 0.8)
  group = [low, easy, high, hard]
  assert pairing.hard_pairs(group, 1) == [(high, hard)]
  assert pairing.hard_pairs(group, 9) == [(high, hard), (low, easy)]
  assert pairing.hard_pairs(group[::-1], 1) == [(high, hard)]
  # Equal ones in order; no side, no pair.
  other = solution(0.0, 0.8)
  assert pairing.hard_pairs([high, hard, other], 9) == [(high, hard)]
  assert pairing.hard_pairs([high, low], 9) == []
  without = [solution(0.0, 1.0, tokens=[]), make_record(scores={'reward': 0.0})]
  assert pairing.hard_pairs([high, *without, easy], 9) == [(high, easy)]
