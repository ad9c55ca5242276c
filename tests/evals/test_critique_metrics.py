"""Verdict accuracy and first-error accuracy on handmade records."""

import dataclasses
import math

import numpy as np
import pytest

from critic_jax.evals import critique, localisation
from critic_jax.types import Problem, Record


def record(problem, stage, parent, parsed, *, length=4, finish='stop'):
  empty = np.zeros(0, np.int32)
  tokens = np.zeros(length, np.int32)
  logprobs = np.zeros(length, np.float32)
  return Record(
    Problem(problem, '', ''), stage, parent, 0, empty, tokens, logprobs, '',
    finish, parsed,
  )  # fmt: skip


def judge(right, verdict, *, problem='p', first_error=None, **fields):
  """A solution and a critique of it."""
  parsed = {'correct': right, 'answer': '1', 'grade': 'right'}
  if first_error is not None:
    parsed['first_error'] = first_error
  solution = record(problem, 'solve', None, parsed)
  said = {
    'verdict': verdict,
    'status': fields.pop('status', 'ok'),
    'step': fields.pop('step', None),
  }
  return [solution, record(problem, 'critique', solution, said, **fields)]


def values(estimates):
  return {name: estimate.value for name, estimate in estimates.items()}


def test_by_hand():
  records = [
    *judge(True, 'correct'),
    *judge(True, 'incorrect'),
    *judge(True, None, status='missing', length=1, finish='prompt'),
    *judge(False, 'incorrect'),
    *judge(False, 'incorrect'),
    *judge(False, 'incorrect'),
    *judge(False, 'correct'),
    *judge(False, None, status='unfinished', length=27, finish='length'),
  ]
  got = values(critique.metrics(records))
  # Right: 1 of 3. Wrong: 3 of 5. Called wrong: 4 of 8, of which 3 are.
  assert got['accuracy_right'] == pytest.approx(1 / 3)
  assert got['accuracy_wrong'] == got['recall'] == pytest.approx(3 / 5)
  assert got['balanced_accuracy'] == pytest.approx((1 / 3 + 3 / 5) / 2)
  assert got['called_wrong'] == pytest.approx(4 / 8)
  assert got['precision'] == pytest.approx(3 / 4)
  # F1 = 2 * (3/4 * 3/5) / (3/4 + 3/5) = 0.9 / 1.35
  assert got['f1'] == pytest.approx(0.9 / 1.35)
  assert got['missing'] == got['unfinished'] == pytest.approx(1 / 8)
  assert got['contradictory'] == 0
  assert got['truncated'] == pytest.approx(2 / 8)
  assert got['length'] == pytest.approx((6 * 4 + 1 + 27) / 8)
  counts = critique.metrics(records)
  assert counts['accuracy_wrong'].n == 5 and counts['precision'].n == 4


@pytest.mark.parametrize('verdict', ['correct', 'incorrect'])
def test_a_constant_critic_is_no_better_than_chance(verdict):
  records = []
  for right in [True] * 9 + [False]:
    records += judge(right, verdict)
  assert values(critique.metrics(records))['balanced_accuracy'] == 0.5


def test_a_contradiction_earns_nothing():
  # A parser that kept one of two verdicts must not make it count.
  records = judge(True, 'correct', status='contradictory')
  records += judge(False, 'incorrect', status='contradictory')
  got = values(critique.metrics(records))
  assert got['balanced_accuracy'] == 0 and got['contradictory'] == 1
  assert got['called_wrong'] == 0


def test_solutions_of_unknown_correctness_are_left_out():
  solution, said = judge(False, 'correct')
  parsed = {'correct': False, 'answer': '1', 'grade': 'timeout'}
  timeout = dataclasses.replace(solution, parsed=parsed)
  records = [timeout, dataclasses.replace(said, parent=timeout)]
  got = critique.metrics(records + judge(True, 'correct'))
  assert got['called_wrong'].n == 1
  assert got['accuracy_right'].value == 1
  assert math.isnan(got['accuracy_wrong'].value)
  assert math.isnan(got['balanced_accuracy'].value)


def test_no_critiques():
  assert all(math.isnan(e.value) for e in critique.metrics([]).values())


def test_compare_pairs_problems():
  def critiques(good):
    return [
      r
      for i in range(20)
      for r in judge(i < 10, 'correct' if i < good else None, problem=str(i))
    ]

  got = critique.compare(critiques(2), critiques(9))['accuracy_right']
  assert got.value == pytest.approx(0.7)
  assert 0.35 < got.low < 0.7 < got.high <= 1


def test_localisation_by_hand():
  records = [
    *judge(False, 'incorrect', first_error=2, step=2),
    *judge(False, 'incorrect', first_error=2, step=1),  # wrong, another place
    *judge(False, 'incorrect', first_error=0, step=None),
    *judge(False, 'correct', first_error=0),
    *judge(True, 'correct', first_error=-1),
    *judge(True, 'incorrect', first_error=-1, step=0),
    *judge(True, 'incorrect', first_error=-1, step=-1),  # says both
    *judge(False, 'incorrect', step=0),  # no label: no row
  ]
  got = localisation.metrics(records)
  assert values(got) == {
    'accuracy_erroneous': pytest.approx(1 / 4),
    'accuracy_correct': pytest.approx(1 / 3),
    'f1': pytest.approx(2 * (1 / 4) * (1 / 3) / (1 / 4 + 1 / 3)),
  }
  assert (got['accuracy_erroneous'].n, got['f1'].n) == (4, 7)


def test_a_right_answer_by_a_wrong_step_is_an_erroneous_solution():
  # ProcessBench labels steps, not answers.
  got = localisation.metrics(
    judge(True, 'correct', first_error=1)
    + judge(True, 'correct', first_error=-1)
  )
  assert values(got) == {
    'accuracy_erroneous': 0,
    'accuracy_correct': 1,
    'f1': 0,
  }


def test_f1_of_two_zeros_is_zero():
  records = judge(False, None, first_error=0) + judge(
    True, None, first_error=-1
  )
  assert localisation.metrics(records)['f1'].value == 0.0


def test_localisation_is_absent_without_labels():
  assert localisation.metrics(judge(True, 'correct')) == {}
  unlabelled = judge(True, 'correct')
  assert localisation.compare(unlabelled, unlabelled) == {}
