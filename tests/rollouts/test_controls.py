"""Texts that the solver is shown in a critique's place."""

import dataclasses

import jax
from loop_helpers import (
  ADVICE,
  PROBLEM,
  RIGHT,
  WRONG,
  grade,
  scripted,
  solution,
)
from loop_helpers import critique as critique_text

from critic_jax.rollouts import controls, rollout
from critic_jax.types import Problem


def critique(lm, conclusion, problem=PROBLEM):
  text = critique_text('incorrect', conclusion)
  parent = solution(lm, problem=problem)
  return rollout.write(lm.stages.critique, parent, text)


def run(critiques, lm, n=1):
  requests = controls.requests(
    lm.stages.refine, critiques, jax.random.key(0), n=n
  )
  groups = rollout.run_graded_together(requests, lm.bind(None), grade)
  return [record for records in groups for record in records]


def test_the_prompts_by_hand():
  lm = scripted(lambda prompt, index: RIGHT if 'Step 1' in prompt else WRONG)
  other = Problem('sum-1', 'Ben has 1 egg. How many eggs?', '1')
  first = critique(lm, 'The answer is 14, not 16.')
  second = critique(lm, 'No idea.', other)
  records = run([first, second], lm, n=2)
  assert [r.stage for r in records] == [
    f'refine_{name}' for name in controls.NAMES for _ in range(4)
  ]
  assert [r.parent for r in records] == [first, first, second, second] * 3
  assert [r.index for r in records] == [0, 1] * 6
  assert all(isinstance(r.parsed['correct'], bool) for r in records)

  critiques_shown = [
    prompt.partition('Critique:\n')[2] for prompt in lm.prompts
  ]
  assert critiques_shown == [
    '\nRefined solution:',
    '\nRefined solution:',
    'No idea.\nVerdict: incorrect\nRefined solution:',
    'The answer is 14, not 16.\nVerdict: incorrect\nRefined solution:',
    'The answer is ?, not 16.\nVerdict: incorrect\nRefined solution:',
    'No idea.\nVerdict: incorrect\nRefined solution:',
  ]
  # The critiques themselves are as they were.
  assert '14' in first.parsed['conclusion']


def test_nothing_to_swap_with():
  lm = scripted(lambda prompt, index: WRONG)
  records = run([critique(lm, ADVICE), critique(lm, 'No.')], lm)
  assert {r.stage for r in records} == {'refine_empty', 'refine_masked'}
  assert run([], lm) == []


def test_spread():
  lm = scripted(lambda prompt, index: WRONG)
  records = [
    dataclasses.replace(critique(lm, ADVICE), index=i) for i in range(10)
  ]
  assert [r.index for r in controls.spread(records, 4)] == [0, 2, 5, 7]
  assert controls.spread(records, 99) == records
  assert controls.spread(records, 0) == controls.spread([], 3) == []
