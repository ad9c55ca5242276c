"""FAPO's distance to the first wrong step, and DeepSeekMath-V2's reviews."""

import dataclasses

import numpy as np
import pytest

from critic_jax.rewards import graded_verdicts, refinement, verdicts
from critic_jax.types import Problem, Record

_NONE = np.zeros(0, np.int32)
FOUR_LINES = 'Step 1: x\n\nStep 2: x\nStep 3: x\nThe answer is 7.'
RIGHT = 'Every step is right.\nVerdict: correct'
VAGUE = 'There is a mistake.\nVerdict: incorrect'


def says(step):
  return f'Step {step} is wrong.\nVerdict: incorrect'


def make(text, finish='stop', **parsed):
  """Makes a critique of a solution of four lines with these labels."""
  problem = Problem('p', '6 + 1?', '7')
  empty = _NONE, _NONE, np.zeros(0, np.float32)
  solution = Record(
    problem, 'solve', None, 0, *empty, FOUR_LINES, parsed=parsed
  )  # fmt: skip
  return Record(
    problem, 'critique', solution, 0, *empty, text, finish,
    verdicts.parse(text),
  )  # fmt: skip


def distance(text, finish='stop', **parsed):
  return graded_verdicts.distance(make(text, finish, **parsed), [])


@pytest.mark.parametrize(
  'text, by_label',
  [  # what is earned if the first wrong line of four is none, 0, 1, 3
    (RIGHT, (1, -1, -1, -1)),
    # 1 - |0 - 1| / 4 = 3/4, 1 - |0 - 3| / 4 = 1/4.
    (says(1), (-1, 1, 3 / 4, 1 / 4)),
    (says(2), (-1, 3 / 4, 1, 2 / 4)),
    (says(4), (-1, 1 / 4, 2 / 4, 1)),
    # No step is as far off as can be, and so is one far outside.
    (VAGUE, (-1, 0, 0, 0)),
    (says(9999), (-1, 0, 0, 0)),
    (says(0), (-1, 0, 0, 0)),
    # Who names all of them is paid for the first.
    (' '.join(f'Step {k} is wrong.' for k in (1, 2, 3, 4))
     + '\nVerdict: incorrect', (-1, 1, 3 / 4, 1 / 4)),
    # No verdict, two of them, or no end of the thinking.
    ('Step 2 is wrong.', (-1, -1, -1, -1)),
    ('Step 2 is wrong.\nVerdict: incorrect\nVerdict: correct', (-1,) * 4),
    ('<think>Step 2 is wrong.\nVerdict: incorrect', (-1,) * 4),
  ],
)  # fmt: skip
def test_distance(text, by_label):
  labels = -1, 0, 1, 3
  earned = [distance(text, first_error=label) for label in labels]
  assert tuple(earned) == by_label
  assert distance(text, 'length', first_error=1) == -1


@pytest.mark.parametrize('is_right', [True, False])
def test_the_truth_is_the_label_and_not_the_answer(is_right):
  """A wrong step on the way to a right answer is a flaw to be found."""
  assert distance(says(2), first_error=1, correct=is_right) == 1
  assert distance(RIGHT, first_error=1, correct=is_right) == -1
  assert refinement.judge(make(RIGHT, first_error=1, correct=True), []) == 1


def test_without_the_distance_it_is_judge_and_misjudge():
  for text in (RIGHT, says(2), 'Hm.'):
    for label in (-1, 1):
      critique = make(text, first_error=label, correct=label == -1)
      both = refinement.judge(critique, []) + refinement.misjudge(critique, [])
      assert graded_verdicts.distance(critique, []) == both


def test_steps_are_those_that_the_data_counts():
  # 1 - |0 - 1| / 2: of two steps, and not of four lines.
  assert distance(says(1), first_error=1, num_steps=2) == 1 / 2
  assert distance(says(1), targets=[1.0, 0.25], first_error=0) == 3 / 4
  assert distance(says(1), targets=None) is None
  with pytest.raises(ValueError, match='label solutions before scoring'):
    distance(says(1))
  refused = make(RIGHT)
  refused = dataclasses.replace(
    refused, parent=dataclasses.replace(refused.parent, finish='prompt')
  )
  assert graded_verdicts.distance(refused, []) is None


def reviewed(text, review=1.0, finish='stop', **parsed):
  critique = make(text, finish, **parsed)
  return graded_verdicts.reviewed(critique, [], reviewer=lambda c: review)


FLAWED = 'Step 2 is wrong.\nVerdict: correct'  # and yet it gets there


@pytest.mark.parametrize(
  'text, earned',
  [  # of a right solution, of one with a wrong step and a right answer, of a
    # wrong one: 1 - |s' - s| with s = 1, 0.5, 0
    (RIGHT, (1, 0.5, 0)),
    (FLAWED, (0.5, 1, 0.5)),
    (says(2), (0, 0.5, 1)),
    ('Step 2 is wrong.', (0, 0, 0)),
    ('Verdict: correct\nVerdict: incorrect', (0, 0, 0)),
  ],
)
def test_reviewed(text, earned):
  solutions = (
    dict(correct=True, first_error=-1),
    dict(correct=True, first_error=1),
    dict(correct=False, first_error=1),
  )
  for solution, reward in zip(solutions, earned, strict=True):
    assert reviewed(text, **solution) == reward
    assert reviewed(text, review=0.25, **solution) == reward / 4
    assert reviewed(text, review=0.0, **solution) == 0
    assert reviewed(text, finish='length', **solution) == 0
  # The first step may be the wrong one, too.
  assert reviewed(RIGHT, correct=True, first_error=0) == 0.5


def test_with_a_review_of_1_and_without_labels_it_is_judge():
  for text in (RIGHT, says(2), VAGUE, 'Hm.'):
    for right in (True, False):
      critique = make(text, correct=right)
      assert reviewed(text, correct=right) == refinement.judge(critique, [])


def test_what_is_not_known_is_not_paid_and_reviews_are_shares():
  assert reviewed(RIGHT, correct=False, grade='timeout') is None
  with pytest.raises(ValueError, match='the review of .*: got 1.5'):
    reviewed(RIGHT, review=1.5, correct=True)
