"""Equations of worked solutions: what is read, computed, and slipped."""

import random
from fractions import Fraction

import pytest

from critic_jax.answers import final_answers
from critic_jax.rewards import verdicts
from critic_jax.tasks import equations
from critic_jax.types import Problem, given_record

SOLUTION = (
  'Natalia sold 48/2 = 24 clips in May.\n'
  'Natalia sold 48+24 = 72 clips altogether.\n'
  'The answer is \\boxed{72}.'
)
PROBLEM = Problem('gsm8k-0', 'How many clips?', '72', SOLUTION)


@pytest.mark.parametrize(
  ('expression', 'value'),
  [
    ('48/2', 24),
    ('2 + 3*4 - 6/4', Fraction(25, 2)),  # 2 + 12 - 1.5
    ('100 - 50 - 30 - 15', 5),
    ('$1,200 x 2', 2400),
    ('8/4/2', 1),
    ('1/0', None),
  ],
)
def test_expressions_are_computed_by_hand(expression, value):
  assert equations.compute(expression) == value


@pytest.mark.parametrize(
  ('line', 'is_wrong'),
  [
    ('48/2 = 24 clips', False),
    ('48/2 = 25 clips', True),
    ('5 * $3 = $15', False),
    ('10/3 = 3.33', False),  # rounded as it is written
    ('10/3 = 3.34', True),
    ('12 * 100 = 1,200', False),
    ('so 2+2 = 4 and 3*3 = 8', True),
    ('50% of 20 = 11', False),  # no equation that is read
    ('(2+3) * 4 = 20', False),
    ('x + 2 + 3 = 9', False),
    ('no numbers', False),
    ('1/0 = 0', True),
  ],
)
def test_lines_whose_equations_fail_are_wrong(line, is_wrong):
  assert equations.step_marks(PROBLEM, line) == [is_wrong]
  assert equations.first_error(PROBLEM, line) == (0 if is_wrong else -1)


def test_blank_lines_are_no_steps():
  assert equations.step_marks(PROBLEM, '1+1 = 2\n\n 2+2 = 5\n') == [False, True]


@pytest.mark.parametrize('seed', range(20))
def test_a_slip_is_carried_on_to_a_wrong_answer(seed):
  text = equations.plant(
    PROBLEM, random.Random(seed), max_slips=1, right_share=0.0
  )
  marks = equations.step_marks(PROBLEM, text)
  assert sum(marks) == 1 and not marks[2]
  assert final_answers.grade(text, PROBLEM.answer) == 'wrong'
  # 24 + d is added to 48, or 72 is off by d itself.
  answer = int(final_answers.extract(text))
  assert 1 <= abs(answer - 72) <= 3
  if marks[0]:
    assert f'48/2 = {answer - 48} clips' in text
    assert f'48+{answer - 48} = {answer} clips' in text


def test_a_share_of_solutions_stays_right():
  rng = random.Random(0)
  texts = [
    equations.plant(PROBLEM, rng, max_slips=2, right_share=0.5)
    for _ in range(400)
  ]
  assert 160 < texts.count(SOLUTION) < 240


def test_a_solution_without_equations_stays_as_it_is():
  problem = Problem('p', '?', '7', 'It is 7.\nThe answer is \\boxed{7}.')
  rng = random.Random(0)
  text = equations.plant(problem, rng, max_slips=3, right_share=0.0)
  assert text == problem.solution


def test_lessons_name_the_lines_that_are_wrong():
  rng = random.Random(1)
  lesson = equations.errors_lesson(PROBLEM, rng, max_slips=2, right_share=0.3)
  for _ in range(20):
    (_, text), (_, critique) = lesson.messages
    marks = equations.step_marks(PROBLEM, text)
    wrong = {i for i, mark in enumerate(marks) if mark}
    assert verdicts.wrong_steps(critique) == wrong
    assert verdicts.verdict(critique) == ('incorrect' if wrong else 'correct')
    lesson = equations.errors_lesson(PROBLEM, rng, max_slips=2, right_share=0.3)


def test_an_attack_does_as_it_is_told():
  rng = random.Random(2)
  for _ in range(10):
    lesson = equations.attack_lesson(PROBLEM, rng, order='Make step {} wrong.')
    (_, right), (_, told), (_, text) = lesson.messages
    assert right == SOLUTION
    number = equations.first_error(PROBLEM, text) + 1
    assert told == f'Make step {number} wrong.'


def test_checks_quote_each_equation_and_compute_it():
  text = SOLUTION.replace('72', '73')
  solution = given_record(PROBLEM, text, parsed={})
  critique = equations.write_checks(solution, random.Random(0))
  assert '48/2 = 24? 24. Right.\n48+24 = 73? 72. Wrong.' in critique
  assert verdicts.verdict(critique) == 'incorrect'
  assert verdicts.wrong_steps(critique) == {1}
  assert equations.execute_check(critique) is None
  right = given_record(PROBLEM, SOLUTION, parsed={})
  critique = equations.write_checks(right, random.Random(0))
  assert verdicts.verdict(critique) == 'correct'


@pytest.mark.parametrize(
  ('text', 'given'),
  [
    ('48/2 = 24? 25. Wrong.', '48/2 = 24? 24.'),
    ('48/2 = 24?', '48/2 = 24? 24.'),
    (
      '10/3 = 3? 3.33. Right. 2+2 = 5? 5.',
      '10/3 = 3? 3.33. Right. 2+2 = 5? 4.',
    ),
    ('2-7 = 5? -5. Wrong.', None),
    ('1/0 = 0? 0.', None),
    ('Is 2+2 = 4?!', 'Is 2+2 = 4? 4.'),
    ('no check', None),
  ],
)
def test_false_results_are_replaced_by_true_ones(text, given):
  assert equations.execute_check(text) == given
