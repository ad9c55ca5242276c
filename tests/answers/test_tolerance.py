"""Answers within a tolerance that the data set states."""

import pytest

from critic_jax.answers import final_answers, tolerance
from critic_jax.rewards import leaks
from critic_jax.types import Problem


@pytest.mark.parametrize(
  ('answer', 'reference', 'is_right'),
  [
    ('3.14', '3.14 (within 0.01)', True),
    ('3.149', '3.14 (within 0.01)', True),
    ('3.151', '3.14 (within 0.01)', False),
    ('3.13', '3.14 (within 0.01)', True),
    ('3.1', '3.14', False),
    (r'\frac{22}{7}', '3.14 (within 0.01)', True),
    (r'\pi', '3.14 (within 0.01)', True),
    (r'\sqrt{10}', '3.14 (within 0.1)', True),
    ('x = 3.15', '3.14 (within 1e-2)', True),
    ('3.15 cm', '3.14 (within 1e-2)', True),
    ('3.15 cm', '3.14 cm (within 1e-2)', True),
    ('3.15 kg', '3.14 cm (within 1e-2)', False),
    (r'3.1 \times 10^3', '3105 (within 10)', True),
    ('2.01, 0.99', '1, 2 (within 0.1)', True),
    ('2.01', '1, 2 (within 0.1)', False),
    ('2.01, 0.8', '1, 2 (within 0.1)', False),
    # These restate a question.
    ('1.57 * 2', '3.14 (within 0.01)', False),
    ('3 + 0.14', '3.14 (within 0.01)', False),
    ('2(1.57)', '3.14 (within 0.01)', False),
    ('about three', '3.14 (within 0.01)', False),
    ('', '3.14 (within 0.01)', False),
    ('-3.14', '3.14 (within 0.01)', False),
    # Lists have no order; tuples and intervals have one.
    ('2, 1.005', '1, 2 (within 0.01)', True),
    (r'\{2, 1.005\}', '1, 2 (within 0.01)', True),
    ('(1.005, 2)', '(1, 2) (within 0.01)', True),
    ('(2, 1)', '(1, 2) (within 0.01)', False),
    ('[1, 2]', '(1, 2) (within 0.01)', False),
    (r'1 \cup 2', '1, 2 (within 0.01)', False),
  ],
)
def test_answers_within_a_tolerance(answer, reference, is_right):
  assert bool(final_answers.exact(answer, reference)) is is_right
  text = f'So \\boxed{{{answer}}}.'
  expected = 'right' if is_right else 'wrong'
  assert final_answers.grade(text, reference) == expected or not answer


@pytest.mark.parametrize('stated', ['1e-2', '0.02', '5', '1E-3', ' 0.1 '])
def test_a_tolerance_is_stated_and_read(stated):
  reference = tolerance.state('3.14', stated)
  assert tolerance.split(reference)[0] == '3.14'
  assert tolerance.split(reference)[1] > 0
  assert leaks.kind_of(reference) == 'number'


@pytest.mark.parametrize(
  'stated', ['', 'small', '-1', '0', '1e999', '1/2', 'nan', '9' * 99]
)
def test_no_other_tolerance_is_stated(stated):
  with pytest.raises(ValueError, match='got the tolerance'):
    tolerance.state('3.14', stated)
  reference = f'3.14 (within {stated})'
  assert tolerance.split(reference)[1] in (None, 0)


def test_references_without_one_are_as_they_were():
  for reference in ('3.14', '(within 3)', 'x (within it)', '1 (within 0.1) 2'):
    assert tolerance.split(reference) == (reference, None)
  assert Problem('p', 'q', '3 (within 1)').answer
