import json

import pytest

from critic_jax.execution import code
from critic_jax.tasks import functions


def passes(program, problem):
  """Which tests a program of this world passes, run here: it is ours."""
  scope = {}
  exec(program, scope)
  for test in json.loads(problem.answer)['tests']:
    try:
      exec(test, dict(scope))
      yield True
    except AssertionError:
      yield False


def test_a_problem_and_its_tests():
  chain = ('multiply', 3), ('limit', 12), ('subtract', 5)
  problem = functions._problem('function-0', chain)
  assert problem.question == (
    'Write a function `f` of a number: multiply it by 3, then make it 12 if it '
    'is more than 12, then subtract 5 from it. It is called like this: `f(7)`'
  )
  assert problem.solution == (
    '```python\ndef f(x):\n  x = x * 3\n  x = min(x, 12)\n  x = x - 5\n'
    '  return x\n```'
  )
  # -20 -> -60 -> -60 -> -65; 0 -> -5; 7 -> 21 -> 12 -> 7; 50 -> 150 -> 12 -> 7
  assert json.loads(problem.answer)['tests'] == [
    'assert f(-20) == -65', 'assert f(0) == -5', 'assert f(7) == 7',
    'assert f(50) == 7',
  ]  # fmt: skip


@pytest.mark.parametrize('max_steps', [2, 3])
def test_every_line_of_a_solution_is_needed(max_steps):
  shares = set()
  for problem in functions.problems('train', 200, max_steps=max_steps):
    program = code.extract(problem.solution)
    assert all(passes(program, problem))
    first, *lines, last = program.splitlines()
    for i in range(len(lines)):
      rest = [first, *lines[:i], *lines[i + 1 :], last]
      passed = [*passes('\n'.join(rest), problem)]
      assert not all(passed)
      shares.add(sum(passed) / len(passed))
  assert len(shares) > 2  # some without a line pass some tests


def test_no_result_is_in_a_question():
  for problem in functions.problems('dev', 20):
    assert '==' not in problem.question


def test_splits_are_disjoint_and_seeded():
  splits = {
    name: functions.problems(name, 100, seed=1) for name in functions.SPLITS
  }
  questions = [p.question for split in splits.values() for p in split]
  assert len(set(questions)) == 300
  again = functions.problems('train', 50, seed=1)
  assert again == splits['train'][:50]
  assert again != functions.problems('train', 50, seed=2)


@pytest.mark.parametrize(
  ('split', 'number', 'max_steps', 'message'),
  [
    ('tests', 1, 3, "split: got 'tests'"),
    ('train', 1, 1, 'max_steps: got 1; expected 2 to 4'),
    ('dev', 500, 2, 'num_dev: got 500; expected at most about'),
  ],
)
def test_wrong_settings_are_refused(split, number, max_steps, message):
  with pytest.raises(ValueError, match=message):
    functions.problems(split, number, max_steps=max_steps)
