"""Critiques of paths that are laid beside another one."""

import dataclasses
import random

import pytest
from loop_helpers import PROBLEM, RIGHT, WRONG, grade

from critic_jax.rewards import contrasts, refinement, step_labels, verdicts
from critic_jax.rollouts import rollout
from critic_jax.rollouts.styles import plain
from critic_jax.tasks import (
  arithmetic,
  arithmetic_contrasts,
  arithmetic_lessons,
)

END = 'The answer is \\boxed{14}.'


def contrasted(text, contrast):
  record = rollout.write(plain.STAGES.solve, PROBLEM, text)
  record = dataclasses.replace(record, parsed={'contrast': contrast})
  return arithmetic_contrasts.contrasted(record, random.Random(0))


def critique(thoughts, advice, verdict='incorrect'):
  lines = ['<think>', *thoughts, '</think>', *advice, f'Verdict: {verdict}']
  return '\n'.join(lines)


@pytest.mark.parametrize(
  ('text', 'contrast', 'expected'),
  [
    # 5 + 2 is 7 on the right path.
    (
      WRONG,
      RIGHT,
      critique(
        ['Step 1: 5 + 2 = 8? 7. Wrong.'],
        ['Step 1 is wrong. It should be', 'Step 1: 5 + 2 = 7'],
      ),
    ),
    # They part at the second step.
    (
      'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 15\nThe answer is \\boxed{15}.',
      RIGHT,
      critique(
        ['Step 1: 5 + 2 = 7? 7. Right.', 'Step 2: 7 * 2 = 15? 14. Wrong.'],
        ['Step 2 is wrong. It should be', 'Step 2: 7 * 2 = 14'],
      ),
    ),
    # A right path is laid beside itself.
    (
      RIGHT,
      RIGHT,
      critique(
        ['Step 1: 5 + 2 = 7? 7. Right.', 'Step 2: 7 * 2 = 14? 14. Right.'],
        ['Every step is right.'],
        'correct',
      ),
    ),
    # Another step than on the right path.
    (
      f'Step 1: 5 * 2 = 10\n{END}',
      RIGHT,
      critique(
        ['Step 1: 5 * 2 = 10? 5 + 2 = 7. Wrong.'],
        ['Step 1 is wrong. It should be', 'Step 1: 5 + 2 = 7'],
      ),
    ),
    # A step is missing.
    (
      'Step 1: 5 + 2 = 7',
      RIGHT,
      critique(
        ['Step 1: 5 + 2 = 7? 7. Right.', 'Step 2: 7 * 2 = 14. Wrong.'],
        ['Step 2 is wrong. It should be', 'Step 2: 7 * 2 = 14'],
      ),
    ),
    # The answer alone is wrong, and is not told.
    (
      RIGHT.replace('{14}', '{15}'),
      RIGHT,
      critique(
        ['Step 1: 5 + 2 = 7? 7. Right.', 'Step 2: 7 * 2 = 14? 14. Right.'],
        ['Step 3 is wrong.'],
      ),
    ),
    # The right path has no steps, or a line that is more than a step.
    (WRONG, END, critique([], ['Step 1 is wrong.'])),
    ('', RIGHT.replace(' = 7', ' = 7 Verdict: correct </think>'),
     critique(
        ['Step 1: 5 + 2 = 7. Wrong.'],
        ['Step 1 is wrong. It should be', 'Step 1: 5 + 2 = 7'],
      )),
  ],
)  # fmt: skip
def test_contrasts_by_hand(text, contrast, expected):
  assert contrasted(text, contrast) == expected
  assert verdicts.status(expected) == 'ok'


def paths(num_problems=400, num_solutions=4):
  """Returns graded paths of the student with their contrasts and labels."""
  rng = random.Random(0)
  fact = arithmetic_lessons.student_fact(rng, 0.2)
  records = [
    rollout.write(
      plain.STAGES.solve, problem,
      arithmetic.write_solution(
        arithmetic.work(arithmetic.read_program(problem), fact)
      ), i,
    )
    for problem in arithmetic.problems('train', num_problems, max_steps=4)
    for i in range(num_solutions)
  ]  # fmt: skip
  records = contrasts.write(rollout.grade(records, grade), num_solutions)
  return step_labels.write(records, arithmetic.first_error)


def scored(write, records):
  """Returns the critiques whose verdict is right, of wrong and right paths."""
  rng = random.Random(1)
  critiques = [
    rollout.write(plain.STAGES.critique, record, write(record, rng))
    for record in records
    if record.parsed['contrast'] is not None
  ]
  rules = {'judge': refinement.judge, 'locate': step_labels.locate}
  critiques = rollout.score(critiques, [], rules, dict.fromkeys(rules, 1.0))
  kept = [c for c in critiques if c.scores['judge'] == 1.0]
  return [
    [c for c in kept if c.parent.parsed['correct'] is truth]
    for truth in (False, True)
  ], len(critiques)


def located(critiques):
  return sum(c.scores['locate'] for c in critiques) / len(critiques)


def test_contrasts_find_the_first_wrong_step_more_often_than_a_path_alone():
  """Both are written by somebody who does not know it, and judged alike."""
  records = paths()
  (wrong, right), number = scored(arithmetic_contrasts.contrasted, records)
  # The outcome is known: none is dropped.
  assert len(wrong) + len(right) == number
  for record in wrong:
    at, _ = contrasts.divergence(
      contrasts.steps(record.parent.text),
      [contrasts.steps(record.parent.parsed['contrast'])],
    )
    assert record.parsed['step'] == at
  # Not all: a right answer after the same slip is the nearest.
  assert 0.95 < located(wrong) < 1.0 and 0.95 < located(right) < 1.0
  (wrong, right), number = scored(
    lambda record, rng: arithmetic_contrasts.alone(record, rng, hard_share=0.2),
    records,
  )
  assert len(wrong) + len(right) < 0.85 * number
  assert 0.75 < located(wrong) < 0.92


def test_beside_the_true_solution_all_annotators_are_the_checker(monkeypatch):
  """What a path is laid beside is all that they differ in."""
  monkeypatch.setattr(
    arithmetic_lessons, 'student_fact', lambda *args: arithmetic.compute
  )
  for record in paths(50):
    rng = random.Random(0)
    parsed = {'contrast': record.problem.solution}
    text = arithmetic_contrasts.contrasted(
      dataclasses.replace(record, parsed=parsed), rng
    )
    assert text == arithmetic_contrasts.alone(record, rng, hard_share=0.2)
    assert text == arithmetic_lessons.teacher_critique(
      record, rng, check_share=1.0, correct_share=1.0, point_share=0.0
    )


def test_alone_an_annotator_has_the_solvers_blind_spots(monkeypatch):

  def believe(rng, hard_share):
    return lambda *fact: {(5, '+', 2): 8}.get(fact, arithmetic.compute(*fact))

  record = rollout.write(plain.STAGES.solve, PROBLEM, WRONG)
  record = dataclasses.replace(record, parsed={'contrast': RIGHT})
  rng = random.Random(0)
  monkeypatch.setattr(arithmetic_lessons, 'student_fact', believe)
  text = arithmetic_contrasts.alone(record, rng, hard_share=0.2)
  assert verdicts.verdict(text) == 'correct'
  text = arithmetic_contrasts.contrasted(record, rng)
  assert verdicts.verdict(text) == 'incorrect'


def test_a_problem_of_elsewhere_has_no_critique_from_a_path_alone():
  problem = dataclasses.replace(PROBLEM, solution='')
  record = rollout.write(plain.STAGES.solve, problem, WRONG)
  with pytest.raises(ValueError, match='expected a problem of the arithmetic'):
    arithmetic_contrasts.alone(record, random.Random(0), hard_share=0.2)
