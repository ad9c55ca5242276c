import random
import re

import pytest
from loop_helpers import PROBLEM, RIGHT, WRONG

from critic_jax.answers import final_answers
from critic_jax.tasks import arithmetic


def end(answer):
  return f'The answer is \\boxed{{{answer}}}.'


def truth(left, op, right):
  return {'+': left + right, '-': left - right, '*': left * right}[op]


# ---------------------------------------------------------------- problems


def test_splits_share_no_program_whatever_the_seed_and_the_length():
  programs = {split: set() for split in arithmetic.SPLITS}
  for split, split_programs in programs.items():
    for seed in (0, 1):
      for steps in ((1, 2), (3, 5)):
        problems = arithmetic.problems(
          split, 300, seed=seed, min_steps=steps[0], max_steps=steps[1]
        )
        split_programs.update(map(arithmetic.read_program, problems))
  train, dev, test = programs.values()
  assert min(len(train), len(dev), len(test)) > 300
  assert not train & dev and not train & test and not dev & test


def test_splits_cover_every_bucket_once():
  buckets = [b for part in arithmetic.SPLITS.values() for b in part]
  assert sorted(buckets) == list(range(100))


def test_problems_are_the_same_every_time_and_more_extend_them():
  few = arithmetic.problems('train', 5)
  assert few == arithmetic.problems('train', 20)[:5]
  assert few != arithmetic.problems('train', 5, seed=1)
  assert few[0].id == 'arithmetic-train-0'


def test_problems_are_what_they_say():
  for problem in arithmetic.problems('dev', 200, min_steps=2, max_steps=4):
    steps = arithmetic.read_steps(problem.solution)
    assert 2 <= len(steps) <= 4
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    for step, after in zip(steps, [*steps[1:], None], strict=True):
      assert step.result == truth(step.left, step.op, step.right)
      assert 0 < step.result <= arithmetic.MAX_VALUE
      assert after is None or after.left == step.result
    assert problem.answer == str(steps[-1].result)
    assert final_answers.grade(problem.solution, problem.answer) == 'right'
    # Every number of the program is told, in order.
    program = arithmetic.read_program(problem)
    numbers = list(map(int, re.findall(r'\d+', problem.question)))
    assert numbers == [program.start, *(n for _, n in program.operations)]


@pytest.mark.parametrize(
  ('split', 'steps', 'message'),
  [('valid', {}, "split: got 'valid'"), ('dev', dict(min_steps=6), 'steps')],
)
def test_wrong_requests_fail(split, steps, message):
  with pytest.raises(ValueError, match=message):
    arithmetic.problems(split, 1, **steps)


def test_a_problem_is_drawn_from_its_split():
  for i in range(50):
    problem = arithmetic.draw_problem(
      f'p-{i}', random.Random(i), split='dev', min_steps=1, max_steps=6
    )
    program = arithmetic.read_program(problem)
    assert arithmetic.split_of(program) == 'dev' and problem.id == f'p-{i}'
    assert 1 <= len(program.operations) <= 6


@pytest.mark.parametrize(
  ('result', 'expected'),
  [
    (22, 'Step 2: 11 * 2 = 24? 22. Wrong.'),
    (24, 'Step 2: 11 * 2 = 24? 24. Right.'),
    (-24, 'Step 2: 11 * 2 = 24? -24. Wrong.'),
  ],
)
def test_a_check_quotes_works_out_and_marks(result, expected):
  step = arithmetic.Step(2, 11, '*', 2, 24)
  assert arithmetic.write_check(step, result) == expected


# ----------------------------------------------------------------- checker


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    (RIGHT, -1),
    (f'Let me see.\n{RIGHT}', -1),
    (WRONG, 0),
    (f'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 15\n{end(15)}', 1),
    # A wrong line does not become right by a right one after it.
    (f'Step 1: 5 + 2 = 8\nStep 2: 7 * 2 = 14\n{end(14)}', 0),
    # True, but not the story's.
    (f'Step 1: 5 + 3 = 8\nStep 2: 8 * 2 = 16\n{end(16)}', 0),
    (f'Step 1: 5 + 2 = 7\nStep 2: 7 + 7 = 14\n{end(14)}', 1),
    (f'Step 1: 2 + 5 = 7\nStep 2: 7 * 2 = 14\n{end(14)}', 0),
    # Misnumbered, swapped, repeated.
    (f'Step 2: 5 + 2 = 7\nStep 3: 7 * 2 = 14\n{end(14)}', 0),
    (f'Step 2: 7 * 2 = 14\nStep 1: 5 + 2 = 7\n{end(14)}', 0),
    # Missing lines.
    ('', 0),
    (end(14), 0),
    (f'Step 1: 5 + 2 = 7\n{end(14)}', 1),
    (f'Step 2: 7 * 2 = 14\n{end(14)}', 0),
    # One too many, and what follows right lines.
    (f'{RIGHT}\nStep 3: 14 + 1 = 15', 2),
    (f'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 14\n{end(15)}', 2),
    ('Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 14', 2),
    (f'{RIGHT}\n{end(15)}', 2),
    # Digits that would take forever are no step.
    (f'Step 1: 5 + 2 = {"7" * 10_000}', 0),
  ],
)
def test_first_error(text, expected):
  assert arithmetic.first_error(PROBLEM, text) == expected


def test_first_error_finds_a_planted_slip_in_every_line():
  for problem in arithmetic.problems('test', 20):
    steps = arithmetic.read_steps(problem.solution)
    assert arithmetic.first_error(problem, problem.solution) == -1
    for i, step in enumerate(steps):
      slipped = [*steps[:i], step._replace(result=step.result + 1)]
      text = arithmetic.write_solution([*slipped, *steps[i + 1 :]])
      assert arithmetic.first_error(problem, text) == i


def test_the_checker_refuses_problems_of_elsewhere():
  foreign = arithmetic.Problem('gsm8k-1', '1 + 1?', '2', 'It is two.')
  with pytest.raises(ValueError, match='gsm8k-1.*no steps'):
    arithmetic.first_error(foreign, RIGHT)
