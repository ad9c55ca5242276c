"""Curves of thresholds, areas, heights; by hand and by brute force."""

import itertools

import numpy as np
import pytest
from helpers import make_record

from critic_jax.evals import (
  calibration,
  critique_metrics,
  operating_points,
  protocols,
)
from critic_jax.rewards import verdicts
from critic_jax.types import Problem


def scores(seed, num=40, levels=6):
  rng = np.random.default_rng(seed)
  right = rng.random(num) < 0.5
  right[:2] = True, False
  return rng.integers(levels, size=num) - 2.0 * right, right


def test_a_curve_by_hand():
  # Suspicions, least first: right, then right and wrong alike, then wrong.
  curve = operating_points.curve([0.0, 0.4, 0.4, 0.9], [1, 1, 0, 0])
  np.testing.assert_array_equal(curve.wrong, [0, 0, 1 / 2, 1])
  np.testing.assert_array_equal(curve.right, [0, 1 / 2, 1, 1])
  # Pairs: (0, .4) (0, .9) (.4, .9) in order, (.4, .4) a tie: (3 + 1/2) / 4.
  assert operating_points.area(curve) == 3.5 / 4


@pytest.mark.parametrize('seed', range(5))
def test_the_area_is_the_share_of_pairs_in_order(seed):
  suspicion, right = scores(seed)
  pairs = [
    (wrong > good) + (wrong == good) / 2
    for wrong, good in itertools.product(suspicion[~right], suspicion[right])
  ]
  curve = operating_points.curve(suspicion, right)
  assert operating_points.area(curve) == pytest.approx(np.mean(pairs))
  # Scores that are turned round, a scale, an order.
  turned = operating_points.curve(-suspicion, right)
  assert operating_points.area(turned) == pytest.approx(1 - np.mean(pairs))
  scaled = operating_points.curve(np.exp(suspicion[::-1]), right[::-1])
  np.testing.assert_array_equal(scaled, curve)


def test_one_score_for_all_is_chance():
  curve = operating_points.curve([0.5] * 4, [1, 0, 0, 1])
  assert operating_points.area(curve) == 0.5
  assert operating_points.height(curve, 0.3, 0.3) == pytest.approx(0)


@pytest.mark.parametrize(
  ('suspicion', 'right'),
  [([0.1, np.nan], [1, 0]), ([0.1, 0.2], [1, 1]), ([0.1], [0]), ([], [])],
)
def test_scores_that_have_no_curve(suspicion, right):
  with pytest.raises(ValueError, match=r'suspicion: got \d scores'):
    operating_points.curve(suspicion, right)


@pytest.mark.parametrize(
  ('wrong', 'right', 'expected'),
  [  # of the points (0, 0), (0, .5), (.5, 1), (1, 1)
    (0.0, 0.5, 0.0),
    (0.0, 0.75, 0.25),
    (0.25, 0.75, 0.0),  # on the line from (0, .5) to (.5, 1)
    (0.25, 0.5, -0.25),
    (0.5, 1.0, 0.0),
    (0.8, 1.0, 0.0),
    (1.0, 0.9, -0.1),
  ],
)
def test_heights_by_hand(wrong, right, expected):
  curve = operating_points.curve([0.0, 0.4, 0.4, 0.9], [1, 1, 0, 0])
  got = operating_points.height(curve, wrong, right)
  assert got == pytest.approx(expected)


@pytest.mark.parametrize('seed', range(5))
def test_no_threshold_and_no_mixture_is_above_the_curve(seed):
  suspicion, right = scores(seed)
  curve = operating_points.curve(suspicion, right)
  rng = np.random.default_rng(seed)
  for threshold in (-9, *np.unique(suspicion)):
    passed = suspicion <= threshold
    rates = passed[~right].mean(), passed[right].mean()
    assert operating_points.height(curve, *rates) <= 1e-12
  shares = rng.dirichlet(np.ones(curve.wrong.size), 50)
  mixed = shares @ curve.wrong, shares @ curve.right
  assert operating_points.height(
    operating_points.Curve(*(np.tile(c, (50, 1)) for c in curve)), *mixed
  ).max() <= 1e-12  # fmt: skip
  # A dent is filled by a mixture of its neighbours: on the hull it is 0 there.
  dent = operating_points.Curve(
    np.array([0, 0.5, 0.6, 1]), np.array([0, 0.8, 0.8, 1])
  )
  on_line = 0.8 + 0.2 * (0.1 / 0.5)
  assert operating_points.height(dent, 0.6, on_line) == pytest.approx(0)


@pytest.mark.parametrize(
  ('name', 'base', 'rl', 'accuracies', 'expected'),
  [
    # TPR and TNR in percent, by eye from the paper's repository; 250 statements
    # of each kind, so that accuracy is their mean. The base's chord from (0, 0)
    # by (1 - TNR, TPR): at RL's 1 - TNR it has 94.4 * 30.4 / 34.8 = 82.46.
    ('8B', (94.4, 65.2), (90.0, 69.6), (79.8, 79.8), 90.0 - 82.464),
    # 96.0 * 14.4 / 24.8 = 55.74
    ('32B', (96.0, 75.2), (88.4, 85.6), (85.6, 87.0), 88.4 - 55.742),
  ],
)
def test_the_papers_points(name, base, rl, accuracies, expected):
  assert [sum(point) / 2 for point in (base, rl)] == pytest.approx(accuracies)
  wrong, right = 1 - base[1] / 100, base[0] / 100
  chord = operating_points.chord(wrong, right)
  height = operating_points.height(chord, 1 - rl[1] / 100, rl[0] / 100)
  assert 100 * height == pytest.approx(expected, abs=1e-2)
  # Accuracy alone does not tell: its columns 'FPR' are 100 - TPR.
  assert operating_points.height(chord, wrong, right) == pytest.approx(0)


# ----------------------------------------------------------------- records


def solution(id, says, *, correct):
  """Returns critiques of a solution: + is 'correct', - 'incorrect'."""
  parent = make_record(
    'solve', problem=Problem(id, '', ''), parsed=dict(correct=correct)
  )
  texts = {'+': 'Verdict: correct', '-': 'Verdict: incorrect', '?': 'Hm.'}
  return [
    make_record(
      'critique',
      parent,
      index=i,
      text=texts[c],
      parsed=verdicts.parse(texts[c]),
    )
    for i, c in enumerate(says)
  ]


def group(**solutions):
  """Makes records; names begin with r for right solutions, w for wrong ones."""
  return [
    critique
    for id, says in solutions.items()
    for critique in solution(id, says, correct=id[0] == 'r')
  ]


BASE = group(r1='++++', r2='++--', w1='+---', w2='++--')
# r1 is passed by all, ...; of the wrong ones a quarter is.
AFTER = group(r1='+++-', r2='++++', w1='----', w2='+--+')


def values(estimates):
  return {name: estimate.value for name, estimate in estimates.items()}


def test_metrics_by_hand():
  assert values(operating_points.metrics(BASE)) == dict(
    right_passed=6 / 8,
    wrong_passed=3 / 8,
    # Shares against: right 0, 1/2; wrong 3/4, 1/2. Of four pairs one is a tie.
    vote_area=3.5 / 4,
  )
  changes = values(operating_points.compare(BASE, AFTER))
  assert changes == pytest.approx(
    dict(
      right_passed=7 / 8 - 6 / 8,
      wrong_passed=2 / 8 - 3 / 8,
      vote_area=4 / 4 - 3.5 / 4,
      # The chord has 6/8 * (2/8) / (3/8) = 1/2 there, the votes' hull from
      # (0, 1/2) to (1/2, 1) has 3/4.
      above_chord=7 / 8 - 1 / 2,
      above_votes=7 / 8 - 3 / 4,
    )
  )
  # A point lies on its own chord, and below its own votes.
  same = operating_points.compare(BASE, BASE)
  assert same['above_chord'].value == pytest.approx(0)
  assert same['above_chord'].low == pytest.approx(0, abs=1e-6)
  assert same['above_votes'].value <= 0


def test_who_says_nothing_passes_the_wrong_ones_only():
  silent = group(r1='????', r2='????', w1='????', w2='????')
  assert values(operating_points.metrics(silent)) == dict(
    right_passed=0, wrong_passed=1, vote_area=0.5
  )
  assert operating_points.compare(BASE, silent)['above_votes'].value == -1


def test_who_only_turns_stricter_is_on_the_chord():
  """Half of what was passed is refused, whatever it is."""
  base = group(r1='+++-', w1='+-+-', r2='+++-', w2='+-+-')
  after = group(r1='+--+', w1='+---', r2='+---', w2='+---')
  moved = operating_points.compare(base, after)
  assert moved['right_passed'].value == 3 / 8 - 6 / 8
  assert moved['wrong_passed'].value == 2 / 8 - 4 / 8
  assert moved['above_chord'].value == pytest.approx(0)


def test_rates_are_those_of_the_verdicts():
  records = BASE + AFTER
  accuracy = values(critique_metrics.metrics(records))
  rates = values(operating_points.metrics(records))
  assert rates['right_passed'] == accuracy['accuracy_right']
  assert rates['wrong_passed'] == 1 - accuracy['accuracy_wrong']
  assert calibration.metrics(records)
  shown = protocols.metrics(BASE)
  assert shown['operating/vote_area'].n == 16
  assert 'operating/above_votes' in protocols.compare(BASE, AFTER)


def test_single_critiques_have_no_curve():
  once = group(r1='+', w1='-')
  assert operating_points.metrics(once) == {}
  assert operating_points.compare(once, once) == {}
  assert operating_points.compare(BASE, once) == {}
  assert operating_points.metrics([]) == {}


def test_other_problems_are_not_compared():
  with pytest.raises(ValueError, match='problems: got 1 on one side only'):
    operating_points.compare(BASE, AFTER[:-4])
