"""A judge asked in both orders: by hand, by listing pairs, and identities."""

import itertools
import math
import random

import pytest
from helpers import make_record

from critic_jax.evals import order_swaps, protocols
from critic_jax.rewards import ratings
from critic_jax.types import Problem

FIRST, SECOND, TIE, SILENT = 'Scores: 9, 1', 'Scores: 1, 9', 'Scores: 5, 5', ''


def judge(said, order=(0, 1), index=0, name='p', labels=(1, 0), **fields):
  """Makes a slate of two in an order, and a critique; scores are as shown."""
  slate = ratings.Slate(['a', 'b'], [*labels], [*order], 1, 10)
  slate = ratings.make_record(
    Problem(name, '', ''), slate, index=index, part=''
  )
  parsed = ratings.parse(said)
  return [slate, make_record('critique', slate, text=said, parsed=parsed,
                             **fields)]  # fmt: skip


def records(straight, swapped, **fields):
  """Makes critiques in both orders; in the first the better is shown first."""
  both = [(said, (0, 1)) for said in straight]
  both += [(said, (1, 0)) for said in swapped]
  made = [judge(said, order, i, **fields) for i, (said, order) in
          enumerate(both)]  # fmt: skip
  return list(itertools.chain(*made))


def values(straight, swapped):
  metrics = order_swaps.metrics(records(straight, swapped))
  return {name: estimate.value for name, estimate in metrics.items()}


def test_by_hand():
  # Straight: 2/4 better, 1/4 worse, 1/4 nobody. Swapped: 1/2 and 1/2.
  got = values([FIRST, FIRST, SECOND, TIE], [SECOND, FIRST])
  assert got['single'] == (2 / 4 + 1 / 2) / 2
  assert got['coverage'] == 2 / 4 * 1 / 2 + 1 / 4 * 1 / 2
  assert got['consistent'] == pytest.approx((2 / 4 * 1 / 2) / got['coverage'])
  # Of 4 * 3 ordered pairs in the straight order 2 agree on the better; of 2 * 1
  # in the other none does.
  assert got['same_coverage'] == pytest.approx((2 / 12 + 0) / 2)
  assert got['same_consistent'] == 1.0
  # First: 2/4 and 1/2; second: 1/4 and 1/2.
  assert got['first_bias'] == ((2 / 4 - 1 / 4) + (1 / 2 - 1 / 2)) / 2


def test_a_liking_for_a_place_is_abstained_from():
  """In one order two critiques agree on it; in both orders they never do."""
  for said, bias in ((FIRST, 1.0), (SECOND, -1.0)):
    got = values([said] * 2, [said] * 2)
    assert got['single'] == 0.5 and got['first_bias'] == bias
    assert got['coverage'] == 0.0 and math.isnan(got['consistent'])
    assert got['same_coverage'] == 1.0 and got['same_consistent'] == 0.5


def test_a_judge_that_knows_abstains_never():
  got = values([FIRST], [SECOND])
  assert got['single'] == got['coverage'] == got['consistent'] == 1.0
  assert got['first_bias'] == 0.0
  assert math.isnan(got['same_coverage'])  # one critique in each order


def test_who_is_always_wrong_agrees_with_itself():
  """Agreement is no evidence of being right."""
  got = values([SECOND], [FIRST])
  assert got['coverage'] == 1.0 and got['consistent'] == got['single'] == 0.0


def test_ties_silence_and_what_was_cut_name_nobody():
  for said in (TIE, SILENT, 'Scores: 9, 1, 3', 'Scores: 99, 1'):
    got = values([said], [said])
    assert got['single'] == got['coverage'] == 0.0
  cut = records([FIRST], [SECOND], finish='length')
  assert order_swaps.metrics(cut)['coverage'].value == 0.0


def test_without_both_orders_a_problem_is_left_out():
  assert order_swaps.metrics(records([FIRST, FIRST], [])) == {}
  one = judge(FIRST, name='q') + records([FIRST], [SECOND])
  assert order_swaps.metrics(one)['single'].n == 1


def test_other_slates_are_none_of_these():
  slate = ratings.Slate(['a', 'b', 'c'], [1, 0, 0], [0, 1, 2], 1, 10)
  slate = ratings.make_record(Problem('p', '', ''), slate, part='')
  critique = make_record('critique', slate, parsed=ratings.parse('Scores: 9'))
  assert order_swaps.metrics([slate, critique]) == {}
  assert 'swaps/coverage' in protocols.metrics(
    records([FIRST], [SECOND]), refined=False
  )


def test_names_of_responses_do_not_matter():
  """Which of the two is the better one in the true order."""
  straight, swapped = [FIRST, TIE, SECOND], [FIRST, SECOND]
  other = [
    *(judge(s, (1, 0), i, labels=(0, 1)) for i, s in enumerate(straight)),
    *(judge(s, (0, 1), 9 + i, labels=(0, 1)) for i, s in enumerate(swapped)),
  ]
  got = order_swaps.metrics(list(itertools.chain(*other)))
  expected = order_swaps.metrics(records(straight, swapped))
  assert {k: e.value for k, e in got.items()} == {
    k: e.value for k, e in expected.items()
  }


def test_against_a_list_of_all_pairs():
  rng = random.Random(0)
  texts = [FIRST, SECOND, TIE]
  straight, swapped = (rng.choices(texts, k=k) for k in (5, 4))
  name = {FIRST: 0, SECOND: 1, TIE: None}
  # As they name the true place: in the swapped order the first is the worse.
  true = [name[s] for s in straight]
  other = [None if name[s] is None else 1 - name[s] for s in swapped]
  pairs = [(a, b) for a in true for b in other]
  agreed = [a for a, b in pairs if a is not None and a == b]
  got = values(straight, swapped)
  assert got['coverage'] == pytest.approx(len(agreed) / len(pairs))
  assert got['consistent'] == pytest.approx(agreed.count(0) / len(agreed))


def test_a_swap_helps_as_much_as_a_place_matters():
  """A noisy judge with a bias b for the first place; the card's toy.

  With skill s it names the better one with probability s + b where that is
  first, and s - b where it is second.
  """
  skill, gains = 0.7, []
  for bias in (0.0, 0.1, 0.2):
    number = 100
    counts = [round(number * p) for p in (skill + bias, skill - bias)]
    got = values(
      [FIRST] * counts[0] + [SECOND] * (number - counts[0]),
      [SECOND] * counts[1] + [FIRST] * (number - counts[1]),
    )
    assert got['single'] == pytest.approx(skill)
    assert got['first_bias'] == pytest.approx(2 * bias)
    p, q = skill + bias, skill - bias
    assert got['coverage'] == pytest.approx(p * q + (1 - p) * (1 - q))
    assert got['consistent'] == pytest.approx(p * q / got['coverage'])
    gains.append(got['consistent'] - got['same_consistent'])
  assert gains[0] == pytest.approx(0, abs=0.01) and gains == sorted(gains)


def test_compared_critics_share_problems():
  change = order_swaps.compare(
    records([FIRST], [FIRST]), records([FIRST], [SECOND])
  )
  assert change['coverage'].value == 1.0 and change['single'].value == 0.5
