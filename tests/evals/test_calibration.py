"""Shares of votes as forecasts and majorities as verdicts, by hand."""

import math

import numpy as np
import pytest

from critic_jax.evals import calibration
from critic_jax.types import Problem, Record

GOOD, BAD, SILENT = 'correct', 'incorrect', None


def record(problem, stage, parent, index, parsed):
  empty = np.zeros(0, np.int32)
  logprobs = np.zeros(0, np.float32)
  return Record(
    Problem(problem, '', ''), stage, parent, index, empty, empty, logprobs, '',
    'stop', parsed,
  )  # fmt: skip


def voted(right, *verdicts, name='p', **parsed):
  """Makes a solution and its critiques."""
  solution = record(name, 'solve', None, 0, {'correct': right, **parsed})
  return [solution] + [
    record(
      name, 'critique', solution, index,
      {'verdict': verdict, 'status': 'ok' if verdict else 'missing'},
    )
    for index, verdict in enumerate(verdicts)
  ]  # fmt: skip


def values(records):
  return {k: e.value for k, e in calibration.metrics(records).items()}


BY_HAND = [
  *voted(True, GOOD, GOOD, GOOD, GOOD),  # share 0
  *voted(True, GOOD, GOOD, BAD, BAD),  # 1/2: a tie, the first seen
  *voted(False, BAD, BAD, BAD, GOOD),  # 3/4
  *voted(False, BAD, GOOD, SILENT, BAD),  # (2 + 1/2) / 4 = 5/8
  *voted(False, SILENT, SILENT, SILENT, SILENT),  # 1/2, no vote
]


def test_by_hand():
  got = values(BY_HAND)
  assert got['vote_accuracy_right'] == 1
  assert got['vote_accuracy_wrong'] == pytest.approx(2 / 3)
  assert got['vote_balanced_accuracy'] == pytest.approx((1 + 2 / 3) / 2)
  squares = [0, 1 / 4, 1 / 16, 9 / 64, 1 / 4]
  assert got['brier'] == pytest.approx(sum(squares) / 5)
  assert got['brier_constant'] == pytest.approx(3 / 5 * 2 / 5)
  # Bins: [0, .1] 0 against 0; (.4, .5] 1/2 and 1/2 against 0 and 1; (.7, .8]
  # 3/4 against 1; (.6, .7] 5/8 against 1.
  gaps = 0 + abs(1 - 1) + 1 / 4 + 3 / 8
  assert got['calibration_error'] == pytest.approx(gaps / 5)
  assert calibration.metrics(BY_HAND)['vote_accuracy_wrong'].n == 3


def test_reliability():
  got = calibration.reliability(BY_HAND)
  assert [(b.low, b.high, b.called, b.wrong.value, b.wrong.n) for b in got] == [
    (0.0, 0.1, 0, 0, 1),
    (0.4, 0.5, 0.5, 0.5, 2),
    (0.6, 0.7, 0.625, 1, 1),
    (0.7, 0.8, 0.75, 1, 1),
  ]
  assert calibration.reliability([]) == []


@pytest.mark.parametrize('votes', range(11))
def test_a_share_on_the_edge_is_in_the_lower_bin(votes):
  records = voted(True, *[BAD] * votes, *[GOOD] * (10 - votes))
  (point,) = calibration.reliability(records)
  high = max(1, votes) / 10  # 0.1 * 3 > 0.3 must not make it 0.4
  assert point.high == pytest.approx(high)
  assert point.called == pytest.approx(votes / 10)


def test_the_gap_is_the_error():
  # Brier and ECE of a critic that says 3/4 where 1/4 is wrong.
  rows = [[BAD] * 3 + [GOOD]] * 4
  records = [
    r for i, row in enumerate(rows) for r in voted(i > 0, *row, name=str(i))
  ]
  got = values(records)
  assert got['calibration_error'] == pytest.approx(1 / 2)
  assert got['brier'] == pytest.approx((1 / 16 + 3 * 9 / 16) / 4)


def test_perfect_and_hopeless_forecasts():
  truth = voted(True, GOOD, GOOD) + voted(False, BAD, BAD)
  lies = voted(True, BAD, BAD) + voted(False, GOOD, GOOD)
  best, worst = values(truth), values(lies)
  assert (best['brier'], best['calibration_error']) == (0, 0)
  assert (worst['brier'], worst['calibration_error']) == (1, 1)
  assert best['vote_balanced_accuracy'] == 1
  assert worst['vote_balanced_accuracy'] == 0


@pytest.mark.parametrize('verdict', [GOOD, BAD, SILENT])
def test_a_constant_critic_gains_nothing(verdict):
  records = [
    r
    for i in range(10)
    for r in voted(i % 2 == 0, verdict, verdict, name=str(i))
  ]
  got = values(records)
  assert got['brier'] >= got['brier_constant'] == 0.25
  assert got['vote_balanced_accuracy'] == (0 if verdict is SILENT else 0.5)


def test_a_contradiction_is_no_vote():
  records = voted(False, BAD, GOOD, GOOD)
  for critique in records[2:]:
    critique.parsed['status'] = 'contradictory'
  assert values(records)['vote_accuracy_wrong'] == 1


def test_the_first_seen_is_that_of_the_lowest_index():
  _, *critiques = voted(False, BAD, GOOD)
  assert values(critiques[::-1])['vote_accuracy_wrong'] == 1


@pytest.mark.parametrize(
  'records',
  [
    [],
    voted(True, GOOD),  # one critique is no vote
    voted(None, GOOD, BAD),
    voted(False, GOOD, BAD, grade='timeout'),
  ],
)
def test_nothing_to_measure(records):
  assert calibration.metrics(records) == {}
  assert calibration.compare(records, records) == {}


def test_only_wrong_solutions():
  got = values(voted(False, BAD, BAD))
  assert math.isnan(got['vote_balanced_accuracy']) and got['brier'] == 0


def test_compare_pairs_problems():
  def critic(good):
    return [
      r
      for i in range(40)
      for r in voted(i % 2, *[GOOD if i % 2 == (i < good) else BAD] * 2,
                     name=str(i))
    ]  # fmt: skip

  got = calibration.compare(critic(10), critic(30))
  assert got['vote_balanced_accuracy'].value == pytest.approx(0.5)
  assert got['brier'].value == pytest.approx(-0.5)
  assert got['brier'].high < -0.2
