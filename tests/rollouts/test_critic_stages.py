import dataclasses

import jax
import numpy as np
import pytest
from helpers import make_record
from loop_helpers import PROBLEM, WRONG, grade, scripted
from loop_helpers import critique as critique_text

from critic_jax.execution import code
from critic_jax.rewards import refinement
from critic_jax.rollouts import critic_stages, rollout
from critic_jax.types import Problem

TESTS = ['assert f(1) == 1', 'assert f(2) == 4', 'assert f(3) == 9']
PROGRAMS = Problem(
  'p', 'Square it.', code.reference(TESTS, setup='import math')
)


def refined(text, mark, finish='stop', problem=PROGRAMS):
  parsed = dict(grade=mark, correct=mark == 'right' and finish == 'stop')
  return make_record(
    'refine', problem=problem, text=text, parsed=parsed, finish=finish
  )


def shares(records, passes):
  """The shares, and the tests that were done alone; passes: (text, test)."""
  asked = []

  def grade(pairs):
    asked.extend(pairs)
    return [passes(text, test) for text, test in pairs]

  written = critic_stages.write_shares(records, grade)
  assert [r.id for r in written] == [r.id for r in records]
  return [r.parsed['passed'] for r in written], asked


def test_shares_of_tests_by_hand():
  def passes(text, test):
    assert code.is_reference(test) and 'import math' in test
    return 'right' if any(f'f({i})' in test for i in text) else 'wrong'

  records = [
    refined('123', 'right'),
    refined('1', 'wrong'),
    refined('23', 'wrong'),
    refined('', 'unparsable'),
    refined('12', 'wrong', 'length'),  # was cut off: wrong, and not run again
    refined('12', 'timeout'),
    refined('', 'refused', 'prompt'),
  ]
  passed, asked = shares(records, passes)
  assert passed == [1, 1 / 3, 2 / 3, 0, 0, None, None]
  # Only programs that are wrong are asked again, once for each test.
  assert [text for text, _ in asked] == ['1'] * 3 + ['23'] * 3 + [''] * 3


def test_a_test_that_is_not_decided_leaves_the_share_open():
  """The others alone would pay for a program that hangs the grader."""
  passed, _ = shares(
    [refined('1', 'wrong'), refined('2', 'wrong')],
    lambda text, test: 'timeout' if (text, 'f(1)' in test) == ('1', True)
    else 'right',
  )  # fmt: skip
  assert passed == [None, 1]


def test_a_share_of_one_test_is_the_grade():
  one = dataclasses.replace(PROGRAMS, answer=code.reference(TESTS[:1]))
  records = [
    refined(text, mark, problem=one)
    for text, mark in (('a', 'right'), ('b', 'wrong'))
  ]
  passed, _ = shares(records, lambda text, test: 'wrong')
  assert passed == [refinement.correct(r, []) for r in records]


def test_final_answers_have_no_shares():
  number = refined('7', 'wrong', problem=Problem('q', '3 + 4?', '7'))
  with pytest.raises(ValueError, match="answer: got '7'; expected unit tests"):
    shares([number], lambda text, test: 'right')


def test_solutions_are_graded_while_the_critic_writes():
  lm = scripted(
    lambda prompt, index: critique_text(('incorrect', 'correct')[index]),
    max_new_tokens=64,
  )
  solutions = [
    rollout.write(lm.stages.solve, PROBLEM, WRONG, i) for i in (0, 1)
  ]
  graded, critiques = critic_stages.critique(
    lm.stages.critique, lm.bind(None), solutions, jax.random.key(0), grade, n=2
  )
  assert [s.parsed['correct'] for s in graded] == [False, False]
  assert [c.parent for c in critiques] == [graded[i] for i in (0, 0, 1, 1)]


def test_advantages_are_made_of_siblings():
  none = np.zeros(0, np.int32)
  rewards = [1.0, 0.0, None, 2.0]
  records = [
    dataclasses.replace(
      make_record('critique', tokens=none),
      scores={} if x is None else dict(reward=x),
    )
    for x in rewards
  ]

  def less_mean(rewards, where):
    assert rewards.shape == where.shape == (2, 2)
    return rewards - np.mean(rewards, axis=1, where=where, keepdims=True)

  got, where = rollout.group_advantages(records, less_mean, 2)
  assert got.tolist() == [0.5, -0.5, -2.0, 0.0]
  assert where.tolist() == [True, True, False, True]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(num_critiques=1), 'num_critiques: got 1; .* of 2 or more'),
    (dict(num_solutions=-1), 'num_solutions: got -1; .* of 0 or more'),
    (dict(num_controls=-1), 'num_controls: got -1; .* of 0 or more'),
  ],
)
def test_wrong_numbers_of_a_step_are_refused(changes, message):
  completions = dict(num=0, max_steps=8, labels=dict(name='hard'))
  settings = dict(
    batch_size=2, num_solutions=1, num_critiques=2, num_refinements=0,
    num_controls=0, gate='always', mask_answers=False, each_test=False,
    completions=completions, has_judge=False,
  )  # fmt: skip
  stages = critic_stages.bind({}, grade, **settings)
  assert [tuple(stage) for stage in stages.sampled] == [
    ('solve', 'solver', 2, 1), ('critique', 'critic', 2, 2)
  ]  # fmt: skip
  with pytest.raises(ValueError, match=message):
    critic_stages.bind({}, grade, **{**settings, **changes})
