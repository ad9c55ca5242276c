import dataclasses

import pytest
from loop_helpers import ADVICE

from critic_jax import rollout, stages
from critic_jax.types import Problem

# Each text says where it comes from.
PROBLEM = Problem('p-0', 'QUESTION', 'REFERENCE', 'REFERENCE-SOLUTION')
CRITIQUE = '<think>\nTHOUGHT\n</think>\nADVICE\nVerdict: incorrect'

BOTH = pytest.mark.parametrize('style', ['plain', 'instruct'])


def chain(style, critique=CRITIQUE):
  """A solution and its critique."""
  its = stages.make_stages(style)
  solution = rollout.write(its.solve, PROBLEM, 'SOLUTION \\boxed{7}')
  return its, solution, rollout.write(its.critique, solution, critique)


def shown(style, critique=CRITIQUE):
  """The prompts of the three stages."""
  its, solution, record = chain(style, critique)
  return (
    its.solve.prompt(PROBLEM),
    its.critique.prompt(solution),
    its.refine.prompt(record),
  )


@BOTH
def test_what_each_stage_is_shown(style):
  solve, critique, refine = shown(style)
  assert 'QUESTION' in solve
  for part in ('QUESTION', 'SOLUTION \\boxed{7}'):
    assert part in critique and part in refine
  assert 'ADVICE' in refine
  # In the order of the conversation.
  assert refine.index('QUESTION') < refine.index('SOLUTION')
  assert refine.index('SOLUTION') < refine.index('ADVICE')


@BOTH
def test_no_prompt_shows_the_reference(style):
  for prompt in shown(style):
    assert 'REFERENCE' not in prompt


@BOTH
@pytest.mark.parametrize(
  'critique',
  [
    CRITIQUE,
    'THOUGHT</think>ADVICE',  # the prompt opened the span
    '<think>THOUGHT</think>ADVICE<think>THOUGHT</think>ADVICE',
    '<think>THOUGHT<think>THOUGHT</think>THOUGHT</think>ADVICE',
    'THOUGHT <think>THOUGHT</think> ADVICE',
  ],
)
def test_the_solver_never_sees_the_thinking(style, critique):
  refine = shown(style, critique)[2]
  assert 'THOUGHT' not in refine and 'think>' not in refine
  assert 'ADVICE' in refine


@BOTH
@pytest.mark.parametrize(
  'critique',
  [
    '<think>THOUGHT Verdict: incorrect',
    'ADVICE<think>THOUGHT',
    '<think>THOUGHT</think>ADVICE<think>THOUGHT',
  ],
)
def test_thinking_without_an_end_is_all_hidden(style, critique):
  refine = shown(style, critique)[2]
  assert 'THOUGHT' not in refine and 'think>' not in refine
  assert 'None' not in refine


@BOTH
def test_a_refinement_is_of_the_solution_not_of_the_reference(style):
  """Whatever was written into `parsed`, prompts read texts."""
  its, solution, critique = chain(style)
  graded = dataclasses.replace(
    solution, parsed={**solution.parsed, 'grade': 'REFERENCE', 'correct': False}
  )
  critique = dataclasses.replace(critique, parent=graded)
  assert 'REFERENCE' not in its.refine.prompt(critique)


def test_the_prompts_of_the_plain_style_by_hand():
  assert shown('plain') == (
    'Problem: QUESTION\nSolution:',
    'Problem: QUESTION\nSolution:\nSOLUTION \\boxed{7}\nCritique:',
    'Problem: QUESTION\nSolution:\nSOLUTION \\boxed{7}\nCritique:\n'
    'ADVICE\nVerdict: incorrect\nRefined solution:',
  )


def test_parsers():
  its, solution, critique = chain('plain')
  assert solution.parsed == {'answer': '7'}
  assert critique.parsed == {
    'verdict': 'incorrect',
    'status': 'ok',
    'conclusion': 'ADVICE\nVerdict: incorrect',
    'step': None,
  }
  refined = rollout.write(its.refine, critique, 'I cannot.')
  assert refined.parsed == {'answer': None}
  located = its.critique.parse(f'{ADVICE}\nVerdict: incorrect')
  assert located['step'] == 0


def test_an_unknown_style_lists_the_choices():
  with pytest.raises(ValueError, match="got 'fancy'; expected one of .*plain"):
    stages.make_stages('fancy')
