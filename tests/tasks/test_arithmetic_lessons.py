import random

import pytest
from loop_helpers import PROBLEM, RIGHT, WRONG

from critic_jax.rewards import verdicts
from critic_jax.rollouts import rollout
from critic_jax.rollouts.styles import plain
from critic_jax.tasks import arithmetic, arithmetic_lessons

SHARES = dict(check_share=1.0, correct_share=0.5, point_share=0.25)


def end(answer):
  return f'The answer is \\boxed{{{answer}}}.'


def solution(text, problem=PROBLEM):
  return rollout.write(plain.STAGES.solve, problem, text)


def truth(left, op, right):
  return {'+': left + right, '-': left - right, '*': left * right}[op]


# ----------------------------------------------------------------- student


def test_misconceptions_are_the_same_every_time_and_about_the_share():
  facts = [
    (left, op, right)
    for left in range(1, arithmetic.MAX_VALUE + 1)
    for op, rights in arithmetic.OPERANDS.items()
    for right in rights
  ]  # 40 * 18 = 720
  for share in (0.0, 0.12, 0.5, 1.0):
    beliefs = [arithmetic_lessons.belief(*fact, share=share) for fact in facts]
    assert beliefs == [
      arithmetic_lessons.belief(*f, share=share) for f in facts
    ]
    wrong = [b != truth(*f) for b, f in zip(beliefs, facts, strict=True)]
    deviation = (share * (1 - share) / len(facts)) ** 0.5
    assert abs(sum(wrong) / len(facts) - share) <= 3 * deviation
  # A greater share keeps the smaller one's misconceptions.
  few = {
    f for f in facts if arithmetic_lessons.belief(*f, share=0.1) != truth(*f)
  }
  many = {
    f for f in facts if arithmetic_lessons.belief(*f, share=0.3) != truth(*f)
  }
  assert few < many


def test_a_wrong_belief_is_no_negative_number_of_eggs():
  for left in range(3, 12):
    value = arithmetic_lessons.belief(left, '-', left - 1, share=1.0)
    assert value >= 0 and value != 1


def test_a_student_without_misconceptions_is_right():
  for i, problem in enumerate(arithmetic.problems('train', 20)):
    lesson = arithmetic_lessons.solver_lesson(
      problem, random.Random(i), share=0.0, refine_share=0.0
    )
    assert lesson.messages == (('solve', problem.solution),)


def test_a_student_solves_the_same_way_every_time():
  [problem] = arithmetic.problems('train', 1)
  texts = {
    arithmetic_lessons.solver_lesson(
      problem, random.Random(i), share=0.4
    ).messages[0]
    for i in range(10)
  }
  assert len(texts) == 1


def believe(left, op, right):
  """5 + 2 is a misconception: 8."""
  return 8 if (left, op, right) == (5, '+', 2) else truth(left, op, right)


@pytest.mark.parametrize(
  ('critique', 'expected'),
  [
    # Vague advice, and a step without a result: as before.
    ('There is a mistake.', WRONG),
    ('Step 1 is wrong.', WRONG),
    ('', WRONG),
    # Concrete advice: taken over, and the rest worked anew.
    ('Step 1 is wrong. It should be\nStep 1: 5 + 2 = 7', RIGHT),
    # Even if it is wrong.
    (
      'Step 1: 5 + 2 = 9',
      f'Step 1: 5 + 2 = 9\nStep 2: 9 * 2 = 18\n{end(18)}',
    ),
    (
      'Step 2: 8 * 2 = 20',
      f'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 20\n{end(20)}',
    ),
    # A step that there is not changes nothing.
    ('Step 7: 1 + 1 = 2', WRONG),
  ],
)
def test_the_student_follows_concrete_advice(critique, expected):
  program = arithmetic.read_program(PROBLEM)
  assert (
    arithmetic_lessons.follow(program, WRONG, critique, believe) == expected
  )


def test_lessons_of_refining_follow_their_critique():
  num_followed = num_ignored = 0
  for i, problem in enumerate(arithmetic.problems('train', 200)):
    lesson = arithmetic_lessons.solver_lesson(
      problem, random.Random(i), share=0.2, refine_share=1.0
    )
    (_, first), (_, critique), (stage, refined) = lesson.messages
    assert stage == 'refine'
    assert verdicts.verdict(critique) == 'incorrect'
    advice = arithmetic.read_steps(critique)
    if advice:
      num_followed += 1
      number, result = advice[0].number, advice[0].result
      assert arithmetic.read_steps(refined)[number - 1].result == result
      assert (
        arithmetic.read_steps(refined)[: number - 1]
        == arithmetic.read_steps(first)[: number - 1]
      )
    else:
      num_ignored += 1
      assert refined == first
  # kind < 0.2 of the lessons are vague or point only.
  assert 20 <= num_ignored <= 60 and num_followed + num_ignored == 200


# ----------------------------------------------------------------- teacher


def test_a_teacher_who_checks_is_right():
  styles = set()
  for i, problem in enumerate(arithmetic.problems('train', 200)):
    rng = random.Random(i)
    lesson = arithmetic_lessons.solver_lesson(problem, rng, share=0.3)
    text = lesson.messages[0][1]
    critique = arithmetic_lessons.teacher_critique(
      solution(text, problem), rng, **SHARES
    )
    parsed = verdicts.parse(critique)
    error = arithmetic.first_error(problem, text)
    assert parsed['status'] == 'ok'
    assert parsed['verdict'] == ('correct' if error == -1 else 'incorrect')
    if parsed['step'] is not None:
      assert parsed['step'] == error
    advice = arithmetic.read_steps(parsed['conclusion'])
    if advice:
      [step] = advice
      assert step.number == error + 1
      assert step.result == truth(step.left, step.op, step.right)
    styles.add((error >= 0, parsed['step'] is not None, bool(advice)))
  # right; wrong with a correction, with a step, with neither.
  assert styles == {
    (False, False, False),
    (True, True, True),
    (True, True, False),
    (True, False, False),
  }


@pytest.mark.parametrize(
  ('text', 'verdict'),
  [
    (f'Step 1: 5 + 2 = 7\n{end(7)}', 'incorrect'),  # a line is missing
    ('', 'incorrect'),
    (f'{RIGHT}\nStep 3: 14 + 1 = 15\n{end(15)}', 'incorrect'),  # one too many
    (RIGHT.replace('{14}', '{15}'), 'incorrect'),  # a wrong end
    (RIGHT, 'correct'),
  ],
)
def test_a_teacher_who_checks_reads_to_the_end(text, verdict):
  critique = arithmetic_lessons.teacher_critique(
    solution(text), random.Random(0), **SHARES
  )
  assert verdicts.verdict(critique) == verdict


def test_a_teacher_who_glances_guesses():
  verdicts_given = [
    verdicts.verdict(
      arithmetic_lessons.teacher_critique(
        solution(WRONG), random.Random(i), **SHARES | dict(check_share=0.0)
      )
    )
    for i in range(200)
  ]
  # 100 +- 4 deviations of 7.
  assert 70 <= verdicts_given.count('correct') <= 130
  assert set(verdicts_given) == {'correct', 'incorrect'}


def test_the_teacher_is_seeded():
  def write(seed):
    return arithmetic_lessons.teacher_critique(
      solution(WRONG), random.Random(seed), **SHARES
    )

  assert write(1) == write(1)
  assert len({write(seed) for seed in range(20)}) > 2
