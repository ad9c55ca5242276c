"""Experts who see one defect each, and derivations of who knows the answer."""

import random

import pytest
from loop_helpers import PROBLEM, RIGHT, WRONG, problems

from critic_jax.tasks import (
  arithmetic,
  arithmetic_derivations,
  arithmetic_experts,
  arithmetic_labels,
)

END = 'The answer is \\boxed{14}.'
EXPERTS = [getattr(arithmetic_experts, n) for n in ('sums', 'story', 'ending')]
SHARES = dict(
  hard_share=0.2, max_steps=4, refine_share=0.4, mark_share=0.3,
  correct_share=0.15, point_share=0.15,
)  # fmt: skip


def says(text, error=0.0, problem=PROBLEM, seed=0):
  rng = random.Random(seed)
  return [expert(problem, text, rng, error=error) for expert in EXPERTS]


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    (RIGHT, [1, 1, 1]),
    # 5 + 2 is not 8; the rest follows.
    (WRONG, [0, 1, 1]),
    # Another operation, true by itself.
    (f'Step 1: 5 + 3 = 8\nStep 2: 7 * 2 = 14\n{END}', [1, 0, 1]),
    (f'Step 1: 5 + 2 = 7\n{END}', [1, 0, 0]),  # a line is missing
    (RIGHT.replace('{14}', '{15}'), [1, 1, 0]),
    (f'{RIGHT}\n{END}', [1, 1, 0]),  # two answers, if the same
    # Two slips whose answer is right again; only one expert sees it.
    (f'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 14\n{END}', [0, 1, 1]),
    ('', [1, 0, 0]),
  ],
)
def test_each_expert_sees_its_defect_alone(text, expected):
  assert says(text) == expected


def test_what_all_pass_is_right_in_every_line():
  rng = random.Random(0)
  for problem in problems(60):
    text = arithmetic_labels.plant(problem, rng, max_slips=2, right_share=0.3)
    is_right = arithmetic.first_error(problem, text) == -1
    assert all(says(text, problem=problem)) == is_right


def test_an_expert_errs_as_often_as_it_is_said_to():
  assert says(RIGHT, error=1.0) == [0, 0, 0]
  rng = random.Random(0)
  wrong = [
    1 - arithmetic_experts.sums(PROBLEM, RIGHT, rng, error=0.2)
    for _ in range(2000)
  ]
  assert sum(wrong) / 2000 == pytest.approx(0.2, abs=0.03)
  with pytest.raises(ValueError, match='error: got 1.5; expected a probab'):
    says(RIGHT, error=1.5)


# -------------------------------------------------------------- derivations


def test_a_derivation_of_who_errs_is_forged_and_of_who_does_not_is_true():
  program = arithmetic.read_program(PROBLEM)
  true = arithmetic_derivations.derive(program, 14, arithmetic.compute)
  assert true == RIGHT
  forged = arithmetic_derivations.derive(program, 14, lambda *fact: 9)
  assert forged == f'Step 1: 5 + 2 = 9\nStep 2: 9 * 2 = 14\n{END}'
  assert arithmetic.first_error(PROBLEM, forged) == 0


def lessons(derive_share, number=300):
  return [
    arithmetic_derivations.lesson(
      problem, random.Random(i), derive_share=derive_share, **SHARES
    )
    for i, problem in enumerate(problems(number))
  ]


def test_derivations_end_in_the_answer_and_a_third_or_so_is_unfaithful():
  unfaithful = []
  for lesson in lessons(1.0):
    (_, solution), (_, told), (stage, text) = lesson.messages
    answer = lesson.problem.answer
    assert stage == 'refine' and f'\\boxed{{{answer}}}' in text
    assert told == f'The answer is \\boxed{{{answer}}}.\nVerdict: incorrect'
    unfaithful.append(arithmetic.first_error(lesson.problem, text) >= 0)
  assert 0.2 < sum(unfaithful) / len(unfaithful) < 0.5


def test_other_lessons_are_the_solver_s():
  told = [
    sum('The answer is' in text for name, text in lesson.messages
        if name == 'critique')
    for lesson in lessons(0.25)
  ]  # fmt: skip
  assert sum(told) / len(told) == pytest.approx(0.25, abs=0.07)
  assert not sum(
    'The answer is' in text
    for lesson in lessons(0.0, 50)
    for name, text in lesson.messages
    if name == 'critique'
  )
