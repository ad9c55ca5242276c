"""Critics of several skills: what they list, and what they say together."""

import random

import pytest
from loop_helpers import PROBLEM, RIGHT, WRONG, problems

from critic_jax.rewards import critique_points, verdicts
from critic_jax.rewards.critique_points import Point
from critic_jax.rollouts import rollout
from critic_jax.rollouts.styles import plain
from critic_jax.tasks import (
  arithmetic,
  arithmetic_labels,
  arithmetic_lessons,
  arithmetic_points,
)

SKILLS = (0.1, 0.2, 0.4)
END = 'The answer is \\boxed{14}.'


def solved(text, problem=PROBLEM):
  return rollout.write(plain.STAGES.solve, problem, text)


def critique(thoughts, advice, verdict='incorrect'):
  lines = ['<think>', *thoughts, '</think>', *advice, f'Verdict: {verdict}']
  return '\n'.join(lines)


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    (RIGHT, {}),
    # 8 * 2 is 16, after a step that is wrong.
    (WRONG, {0: 'Step 1: 5 + 2 = 7'}),
    (
      'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 14\n' + END,
      {0: 'Step 1: 5 + 2 = 7', 1: 'Step 2: 8 * 2 = 16'},
    ),
    # Not the story's; then the last line is missing.
    (
      'Step 1: 5 * 2 = 10\n' + END,
      {0: 'Step 1: 5 + 2 = 7', 1: 'Step 2: 10 * 2 = 20'},
    ),
    ('', {0: 'Step 1: 5 + 2 = 7'}),
    # Another answer, or a line too many, has no line that would be right.
    (RIGHT.replace('{14}', '{15}'), {2: ''}),
    (RIGHT.replace(END, f'Step 3: 14 + 0 = 14\n{END}'), {2: ''}),
  ],
)
def test_corrections_by_hand(text, expected):
  assert arithmetic_points.corrections(PROBLEM, text) == expected


@pytest.mark.parametrize('seed', range(10))
def test_what_is_corrected_is_what_is_marked_wrong(seed):
  """Beside both checkers of this world, on any texts of a student."""
  rng = random.Random(seed)
  for problem in problems(20):
    steps = arithmetic.work(
      arithmetic.read_program(problem),
      arithmetic_lessons.student_fact(rng, 0.5),
    )
    lines = arithmetic.write_solution(steps).split('\n')
    text = '\n'.join(rng.sample(lines, rng.randint(1, len(lines))))
    wrong = arithmetic_points.corrections(problem, text)
    marks = arithmetic_labels.step_marks(problem, text)
    assert [*wrong] == [i for i, is_wrong in enumerate(marks) if is_wrong]
    assert arithmetic.first_error(problem, text) == min(wrong, default=-1)


@pytest.mark.parametrize(
  ('text', 'points', 'expected'),
  [
    (
      RIGHT, [],
      critique(
        ['Step 1: 5 + 2 = 7? 7. Right.', 'Step 2: 7 * 2 = 14? 14. Right.'],
        ['Every step is right.'], 'correct',
      ),
    ),
    # What nobody makes a point of is taken for right.
    (
      WRONG, [(1, 'Step 2: 8 * 2 = 17')],
      critique(
        ['Step 1: 5 + 2 = 8? 8. Right.', 'Step 2: 8 * 2 = 16? 17. Wrong.'],
        ['Step 2 is wrong. It should be', 'Step 2: 8 * 2 = 17'],
      ),
    ),
    # A step without a line, and one that is missing.
    (
      'Step 1: 5 + 2 = 8', [(0, ''), (1, 'Step 2: 8 * 2 = 16')],
      critique(
        ['Step 1: 5 + 2 = 8? Wrong.', 'Step 2: 8 * 2 = 16. Wrong.'],
        ['Step 1 is wrong.', 'Step 2 is wrong. It should be',
         'Step 2: 8 * 2 = 16'],
      ),
    ),
    # Another operation, and the end.
    (
      'Step 1: 5 * 2 = 10', [(0, 'Step 1: 5 + 2 = 7'), (3, '')],
      critique(
        ['Step 1: 5 * 2 = 10? 5 + 2 = 7. Wrong.', 'The end is wrong.'],
        ['Step 1 is wrong. It should be', 'Step 1: 5 + 2 = 7',
         'Step 4 is wrong.'],
      ),
    ),
  ],
)  # fmt: skip
def test_texts_of_points(text, points, expected):
  points = [Point(*point) for point in points]
  written = arithmetic_points.write(text, points)
  assert written == expected
  assert critique_points.read(written) == points


def test_a_critic_errs_by_its_skill_and_writes_what_it_means():
  """A right one names the first wrong step; the less skilled are less so."""
  shares = []
  for hard_share in (0.0, 0.3, 0.9):
    rng, right = random.Random(0), []
    for problem in problems(60) * 3:
      text = arithmetic_labels.plant(problem, rng, max_slips=2, right_share=0.5)
      solution = solved(text, problem)
      listed = arithmetic_points.listed(solution, rng, hard_share=hard_share)
      truth = arithmetic_points.corrections(problem, text)
      points = {p.step: p.line for p in critique_points.read(listed)}
      is_called_wrong = verdicts.verdict(listed) == 'incorrect'
      assert is_called_wrong == bool(points)
      right.append(points == truth)
    shares.append(sum(right) / len(right))
  assert shares[0] > 0.85 > shares[1] > shares[2] + 0.1


@pytest.fixture(scope='module')
def solutions():
  """Returns solutions of a student, two thirds of them wrong."""
  rng = random.Random(1)
  return [
    solved(arithmetic_labels.plant(p, rng, max_slips=2, right_share=0.3), p)
    for p in problems(200)
  ]


def exact(solutions, writer, **settings):
  """Returns the share of critiques whose points are all and only the truth."""
  rng = random.Random(2)
  shares = []
  for solution in solutions:
    text = writer(solution, rng, hard_shares=SKILLS, **settings)
    points = {p.step: p.line for p in critique_points.read(text)}
    truth = arithmetic_points.corrections(solution.problem, solution.text)
    shares.append(points == truth)
  return sum(shares) / len(shares)


def test_the_merged_critique_is_better_than_the_best_and_that_than_any(
  solutions,
):
  merged, best, unmerged = (
    exact(solutions, arithmetic_points.merged, judge_error=0.0),
    exact(solutions, arithmetic_points.best_single, judge_error=0.0),
    exact(solutions, arithmetic_points.unmerged),
  )
  assert merged > best + 0.03 > unmerged + 0.13
  # By a judge who has it the wrong way round, what is left is wrong.
  assert exact(solutions, arithmetic_points.merged, judge_error=1.0) < 0.3
  noisy = exact(solutions, arithmetic_points.merged, judge_error=0.2)
  assert unmerged < noisy < merged


def test_a_merged_critique_without_a_judge_s_errors_has_no_false_point(
  solutions,
):
  rng = random.Random(3)
  for solution in solutions:
    text = arithmetic_points.merged(
      solution, rng, hard_shares=SKILLS, judge_error=0.0
    )
    truth = arithmetic_points.corrections(solution.problem, solution.text)
    for point in critique_points.read(text):
      assert truth[point.step] == point.line


def test_the_best_of_one_critic_is_what_it_lists(solutions):
  for solution in solutions[:20]:
    texts = [
      writer(solution, random.Random(4), **settings)
      for writer, settings in (
        (arithmetic_points.listed, dict(hard_share=0.4)),
        (arithmetic_points.best_single,
         dict(hard_shares=(0.4,), judge_error=1.0)),
      )
    ]  # fmt: skip
    assert texts[0] == texts[1]


def test_nobody_says_nothing():
  for writer, settings in (
    (arithmetic_points.merged, dict(judge_error=0.0)),
    (arithmetic_points.best_single, dict(judge_error=0.0)),
    (arithmetic_points.unmerged, {}),
  ):
    with pytest.raises(ValueError, match=r'hard_shares: got \(\); expected'):
      writer(solved(WRONG), random.Random(0), hard_shares=(), **settings)
