"""Planted slips, the exact set of wrong steps, and critiques that list them."""

import random

import pytest

from critic_jax.rewards import step_labels, verdicts
from critic_jax.rollouts.styles import plain
from critic_jax.tasks import arithmetic, arithmetic_labels
from critic_jax.types import Problem, Record

PROBLEM = Problem(
  'p', '', '14',
  'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 14\nThe answer is \\boxed{14}.',
)  # fmt: skip


@pytest.mark.parametrize(
  ('text', 'marks'),
  [
    (PROBLEM.solution, [False, False]),
    # The second line is true of the first one's result.
    ('Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 16\n\\boxed{16}', [True, False]),
    ('Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 15\n\\boxed{15}', [False, True]),
    ('Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 15\n\\boxed{15}', [True, True]),
    # It does not go on from the line before.
    ('Step 1: 5 + 2 = 8\nStep 2: 7 * 2 = 14\n\\boxed{14}', [True, True]),
    ('Step 1: 5 + 2 = 7\nStep 2: 7 + 2 = 9\n\\boxed{9}', [False, True]),
    ('Step 1: 5 + 2 = 7\n\\boxed{7}', [False, True]),
    ('', [True]),
    # Another answer than the last line's, several, and a line too many.
    ('Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 14\n\\boxed{7}', [False, False, True]),
    (PROBLEM.solution + ' \\boxed{14}', [False, False, True]),
    (PROBLEM.solution + '\nStep 3: 14 + 0 = 14', [False, False, True]),
  ],
)
def test_marks_by_hand(text, marks):
  assert arithmetic_labels.step_marks(PROBLEM, text) == marks
  first = marks.index(True) if True in marks else -1
  assert arithmetic.first_error(PROBLEM, text) == first


@pytest.mark.parametrize(
  ('text', 'operations', 'results'),
  [
    (PROBLEM.solution, [1, 1], [1, 1]),
    # Another result, with which the next line goes on.
    ('Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 16', [1, 1], [-1, 1]),
    # A true line that is not the story's, and one that forgets it.
    ('Step 1: 5 + 3 = 8\nStep 2: 7 * 2 = 14', [-1, -1], [1, 1]),
    # Lines too many, and too few; other text is none.
    (f'{PROBLEM.solution}\nStep 3: 1 + 1 = 2', [1, 1, -1], [1, 1, -1]),
    ('Step 1: 5 + 2 = 7\nStep 1: 5 + 2 = 7\n' * 2, [1, -1, -1, -1],
     [1, 1, -1, -1]),
    ('Hm.\nStep 1: 5 + 2 = 7', [1], [1]),
    ('So.', [], []),
  ],
)  # fmt: skip
def test_rewards_of_lines_by_hand(text, operations, results):
  for function, expected in (
    (arithmetic_labels.rewarded_operations, operations),
    (arithmetic_labels.rewarded_results, results),
  ):
    segments = function(PROBLEM, text)
    assert [reward for _, reward in segments] == expected
    lines = [line for line in text.split('\n') if line.startswith('Step')]
    for (end, _), line in zip(segments, lines, strict=True):
      assert text[:end].endswith(line)


def solved(problem, text):
  return Record(problem, 'solve', None, 0, (), (), (), text)


@pytest.mark.parametrize('num_slips', [1, 2, 3])
def test_slips_are_all_that_is_wrong(num_slips):
  rng = random.Random(num_slips)
  places = set()
  for problem in arithmetic.problems('train', 60, min_steps=3, max_steps=5):
    program = arithmetic.read_program(problem)
    text = arithmetic_labels.slip(program, rng, num_slips)
    marks = arithmetic_labels.step_marks(problem, text)
    assert sum(marks) == num_slips and len(marks) == len(program.operations)
    assert f'\\boxed{{{problem.answer}}}' not in text, 'slips cancel out'
    places.update(i for i, is_wrong in enumerate(marks) if is_wrong)
  assert places == set(range(5))


def test_planted_solutions_have_any_number_of_slips():
  rng, counts = random.Random(0), {}
  for problem in arithmetic.problems('train', 400, min_steps=1, max_steps=4):
    text = arithmetic_labels.plant(
      problem, rng, max_slips=3, right_share=0.25
    )  # fmt: skip
    marks = arithmetic_labels.step_marks(problem, text)
    assert sum(marks) <= min(3, len(marks))
    counts[sum(marks)] = counts.get(sum(marks), 0) + 1
    if not any(marks):
      assert text == problem.solution
  assert counts.keys() == {0, 1, 2, 3}
  assert 70 < counts[0] < 130 and counts[1] > counts[2] > counts[3] > 20


def score(solution, text):
  """Returns the overlap of a critique with what is wrong."""
  [solution] = step_labels.write_marks(
    [solution], arithmetic_labels.step_marks
  )  # fmt: skip
  critique = Record(
    solution.problem, 'critique', solution, 0, (), (), (), text,
    parsed=plain.STAGES.critique.parse(text),
  )  # fmt: skip
  return step_labels.overlap(critique, [])


@pytest.mark.parametrize(
  ('check_share', 'name_share', 'low', 'high'),
  [(1.0, 1.0, 1.0, 1.0), (1.0, 0.5, 0.35, 0.65), (0.0, 1.0, 0.2, 0.4)],
)
def test_critiques_list_what_they_find(check_share, name_share, low, high):
  rng, scores = random.Random(1), []
  for problem in arithmetic.problems('train', 200, min_steps=2, max_steps=4):
    lesson = arithmetic_labels.errors_lesson(
      problem, rng, max_slips=3, right_share=0.2,
      check_share=check_share, name_share=name_share,
    )  # fmt: skip
    (_, solution), (stage, critique) = lesson.messages
    assert stage == 'critique'
    assert verdicts.status(critique) == 'ok'
    checks = critique.count('? ')
    assert checks == (
      len(arithmetic.read_steps(solution)) if check_share else 0
    )
    scores.append(score(solved(problem, solution), critique))
  assert low <= sum(scores) / len(scores) <= high


def test_a_checked_line_is_marked_by_itself():
  text = 'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 17\n\\boxed{17}'
  critique = arithmetic_labels.list_errors(
    solved(PROBLEM, text), random.Random(0), check_share=1.0, name_share=1.0
  )
  assert critique == (
    '<think>\nStep 1: 5 + 2 = 8? 7. Wrong.\nStep 2: 8 * 2 = 17? 16. Wrong.\n'
    '</think>\nStep 1 is wrong.\nStep 2 is wrong.\nVerdict: incorrect'
  )
