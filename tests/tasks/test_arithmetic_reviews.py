"""Claims of critiques that are so, and those that are made up."""

import random

import numpy as np
import pytest

from critic_jax.rewards import graded_verdicts, verdicts
from critic_jax.tasks import (
  arithmetic,
  arithmetic_labels,
  arithmetic_lessons,
  arithmetic_reviews,
)
from critic_jax.types import Problem, Record

PROBLEM = Problem(
  'p', '', '14',
  'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 14\nThe answer is \\boxed{14}.',
)  # fmt: skip
# Its second line is true of what the first one says.
WRONG = 'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 16\nThe answer is \\boxed{16}.'
CHECKS = 'Step 1: 5 + 2 = 8? 7. Wrong.'


def critique(text, solution=WRONG, problem=PROBLEM):
  empty = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
  parent = Record(
    problem, 'solve', None, 0, *empty, solution,
    parsed={'correct': solution == problem.solution},
  )  # fmt: skip
  return Record(
    problem, 'critique', parent, 0, *empty, text, parsed=verdicts.parse(text)
  )


def written(thoughts, advice, verdict='incorrect'):
  return arithmetic.write_critique([thoughts], advice, verdict)


@pytest.mark.parametrize(
  ('text', 'review'),
  [
    (written(CHECKS, 'Step 1 is wrong.'), 1),
    (written('Hm.', 'Step 1 is wrong.'), 1),
    (written(CHECKS, 'Step 1 is wrong. It should be\nStep 1: 5 + 2 = 7'), 1),
    # The place is right, and what is worked out is not: the result, the line,
    # the operation, a check, its mark, and the line that is quoted.
    (written(CHECKS, 'Step 1 is wrong. It should be\nStep 1: 5 + 2 = 9'), 0.5),
    (written(CHECKS, 'Step 1 is wrong. It should be\nStep 1: 6 + 2 = 8'), 0.5),
    (written(CHECKS, 'Step 1 is wrong. It should be\nStep 1: 5 * 2 = 10'), 0.5),
    (written(CHECKS, 'Step 1 is wrong. It should be\nStep 9: 5 + 2 = 7'), 0.5),
    (written('Step 1: 5 + 2 = 8? 9. Wrong.', 'Step 1 is wrong.'), 0.5),
    (written('Step 1: 5 + 2 = 8? 7. Right.', 'Step 1 is wrong.'), 0.5),
    (written('Step 1: 5 + 2 = 9? 7. Wrong.', 'Step 1 is wrong.'), 0.5),
    # Errors that are made up, beside a true one, too, or named in vain.
    (written(CHECKS, 'Step 2 is wrong.'), 0),
    (written(CHECKS, 'Step 1 is wrong. Step 2 is wrong.'), 0),
    (written(CHECKS, 'Step 3 is wrong.'), 0),
    (written(CHECKS, 'There is a mistake.'), 0),
    # Many true checks do not make up for it.
    (written('Step 2: 8 * 2 = 16? 16. Right.\n' * 9, 'Step 2 is wrong.'), 0),
    # Nothing is claimed, or it is so: the verdict is another rule's.
    (written('Hm.', 'Every step is right.', 'correct'), 1),
    (written('Step 2: 8 * 2 = 16? 16. Right.', 'Fine.', 'correct'), 1),
    (written('Step 1: 5 + 2 = 8? 8. Right.', 'Fine.', 'correct'), 0.5),
    ('Hm.', 0),
  ],
)
def test_reviews_by_hand(text, review):
  assert arithmetic_reviews.review(critique(text)) == review
  share = arithmetic_reviews.review(critique(text), slip_share=0.25)
  assert share == {0.5: 0.25}.get(review, review)


def test_an_error_that_is_made_up_earns_nothing_with_a_right_verdict():
  paid = {
    advice: graded_verdicts.reviewed(
      critique(written('Hm.', advice)), [], reviewer=arithmetic_reviews.review
    )
    for advice in ('Step 1 is wrong.', 'Step 2 is wrong.')
  }
  assert paid == {'Step 1 is wrong.': 1.0, 'Step 2 is wrong.': 0.0}


def test_a_teacher_who_checks_makes_nothing_up():
  rng, styles = random.Random(0), set()
  for problem in arithmetic.problems('train', 100):
    text = arithmetic_labels.plant(problem, rng, max_slips=3, right_share=0.3)
    record = critique('', text, problem).parent
    said = arithmetic_lessons.teacher_critique(
      record, rng, check_share=1.0, correct_share=0.4, point_share=0.4
    )
    vague = 'There is a mistake.' in said
    styles.add((vague, text == problem.solution))
    review = arithmetic_reviews.review(critique(said, text, problem))
    assert review == (0.0 if vague else 1.0)
  assert len(styles) == 3
