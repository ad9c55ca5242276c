"""Lifts over controls, on handmade records."""

import numpy as np
import pytest

from critic_jax.evals import control_metrics
from critic_jax.types import Problem, Record


def record(problem, stage, parent, **parsed):
  no_tokens = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
  return Record(problem, stage, parent, 0, *no_tokens, '', 'stop', parsed)


def tree(name, right, verdict, **refined):
  """Makes a solution, a critique, and refinements: stage -> is each right."""
  problem = Problem(name, '', '1')
  solution = record(problem, 'solve', None, correct=right, grade='')
  critique = record(problem, 'critique', solution, verdict=verdict, status='ok')
  return [solution, critique] + [
    record(problem, stage, critique, correct=good, grade='')
    for stage, outcomes in refined.items()
    for good in outcomes
  ]


def test_lifts_by_hand():
  records = [
    *tree(
      'p', False, 'incorrect',
      refine=[True, False], refine_empty=[False], refine_swapped=[True],
      refine_masked=[False],
    ),
    *tree(
      'q', False, 'incorrect',
      refine=[True], refine_empty=[False], refine_masked=[True],
    ),
    # Not counted: right solutions, those called right, trees without controls.
    *tree('r', True, 'incorrect', refine=[True], refine_empty=[True]),
    *tree('s', False, 'correct'),
    *tree('t', False, 'incorrect', refine=[False]),
  ]  # fmt: skip
  got = {k: (v.value, v.n) for k, v in control_metrics.metrics(records).items()}
  assert got == {
    'with_critique': (0.75, 2),
    'empty': (0, 2),
    'swapped': (1, 1),
    'masked': (0.5, 2),
    'lift_over_empty': (0.75, 2),
    'lift_over_swapped': (-0.5, 1),
    'lift_over_masked': (0.25, 2),
  }


def test_a_critique_that_only_names_the_answer_gains_nothing_masked():
  """TRAPS 29: its refinements are right, but not without the answer."""
  hack = tree(
    'p', False, 'incorrect', refine=[True], refine_masked=[False]
  )  # fmt: skip
  got = control_metrics.metrics(hack)
  assert got['with_critique'].n == 0
  assert got['lift_over_masked'].value == 1


def test_a_refinement_that_timed_out_is_of_no_pair():
  records = tree(
    'p', False, 'incorrect', refine=[True, False], refine_empty=[False]
  )
  records += tree('q', False, 'incorrect', refine=[True], refine_empty=[False])
  for timed_out in (records[3], records[-1]):  # one of two, and an only one
    timed_out.parsed['grade'] = 'timeout'
  got = control_metrics.metrics(records)
  assert got['lift_over_empty'].value == 1 and got['lift_over_empty'].n == 1


def test_compare_is_over_problems_of_both():
  before = tree('p', False, 'incorrect', refine=[False], refine_empty=[False])
  after = tree('p', False, 'incorrect', refine=[True], refine_empty=[False])
  after += tree('q', False, 'incorrect', refine=[False], refine_empty=[True])
  got = control_metrics.compare(before, after)
  assert got['lift_over_empty'].value == pytest.approx(1)
  assert control_metrics.compare([], after) == {}
  assert control_metrics.metrics([]) == {}
