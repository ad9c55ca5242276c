import dataclasses
import pkgutil

import pytest
from helpers import text_of
from loop_helpers import ADVICE

from critic_jax.rewards import verdicts
from critic_jax.rollouts import rollout, stages, styles
from critic_jax.rollouts.styles import first_error
from critic_jax.types import Problem

# Each text says where it comes from.
PROBLEM = Problem('p-0', 'QUESTION', 'REFERENCE', 'REFERENCE-SOLUTION')
CRITIQUE = '<think>\nTHOUGHT\n</think>\nADVICE\nVerdict: incorrect'

STYLES = pytest.mark.parametrize('style', ['plain', 'instruct', 'first_error'])
ALL_STYLES = [module.name for module in pkgutil.iter_modules(styles.__path__)]
ALL_STYLES.remove('slates')  # of several responses: test_slates_style.py


def chain(style, critique=CRITIQUE):
  """A solution and its critique."""
  its = stages.make_stages(style)
  solution = rollout.write(its.solve, PROBLEM, 'SOLUTION \\boxed{7}')
  return its, solution, rollout.write(its.critique, solution, critique)


def prompts_of(style, critique=CRITIQUE):
  """Returns the prompts of the three stages."""
  its, solution, record = chain(style, critique)
  return (
    its.solve.prompt(PROBLEM),
    its.critique.prompt(solution),
    text_of(its.refine.prompt(record)),
  )


@STYLES
def test_what_each_stage_is_shown(style):
  solve, critique, refine = prompts_of(style)
  assert 'QUESTION' in solve
  for part in ('QUESTION', 'SOLUTION \\boxed{7}'):
    assert part in critique and part in refine
  assert 'ADVICE' in refine
  # The parts come in the order of the conversation.
  assert refine.index('QUESTION') < refine.index('SOLUTION')
  assert refine.index('SOLUTION') < refine.index('ADVICE')


@STYLES
def test_no_prompt_shows_the_reference(style):
  for prompt in prompts_of(style):
    assert 'REFERENCE' not in prompt


@STYLES
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
  refine = prompts_of(style, critique)[2]
  assert 'THOUGHT' not in refine and 'think>' not in refine
  assert 'ADVICE' in refine


@STYLES
@pytest.mark.parametrize(
  'critique',
  [
    '<think>THOUGHT Verdict: incorrect',
    'ADVICE<think>THOUGHT',
    '<think>THOUGHT</think>ADVICE<think>THOUGHT',
  ],
)
def test_thinking_without_an_end_is_all_hidden(style, critique):
  refine = prompts_of(style, critique)[2]
  assert 'THOUGHT' not in refine and 'think>' not in refine
  assert 'None' not in refine


@STYLES
def test_a_refinement_is_of_the_solution_not_of_the_reference(style):
  """Prompts read texts, not `parsed`."""
  its, solution, critique = chain(style)
  graded = dataclasses.replace(
    solution, parsed={**solution.parsed, 'grade': 'REFERENCE', 'correct': False}
  )
  critique = dataclasses.replace(critique, parent=graded)
  assert 'REFERENCE' not in text_of(its.refine.prompt(critique))


def test_the_prompts_of_the_plain_style_by_hand():
  assert prompts_of('plain') == (
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


def located(text, steps=None):
  """Returns the critique prompt for a solution with this text."""
  its = stages.make_stages('first_error')
  solution = rollout.write(its.solve, PROBLEM, text)
  if steps:
    parsed = {**solution.parsed, 'steps': steps}
    solution = dataclasses.replace(solution, parsed=parsed)
  return its.critique.prompt(solution)


def test_the_prompt_of_the_first_error_style_by_hand():
  assert located('unused', ['One {x}.', 'Two,\n\nthree.']) == (
    'The following is a math problem and a solution (split into paragraphs, '
    'enclosed with tags and indexed from 0):\n'
    '\n'
    '[Math Problem]\n'
    '\n'
    'QUESTION\n'
    '\n'
    '[Solution]\n'
    '\n'
    '<paragraph_0>\nOne {x}.\n</paragraph_0>\n'
    '\n'
    '<paragraph_1>\nTwo,\n\nthree.\n</paragraph_1>\n'
    '\n'
    'Check the solution paragraph by paragraph and write a critique of it. If '
    'a paragraph is wrong, answer with the index of the first that is; if none '
    'is, answer with -1.\n'
    '\n'
    'Put the answer, which is the index alone, in \\boxed{}.'
  )


def test_steps_of_a_sampled_solution_are_its_lines():
  prompt = located('One.\n\n  \nTwo.\n')
  assert prompt == located('', ['One.', 'Two.'])
  assert '<paragraph_1>\nTwo.\n</paragraph_1>' in prompt
  assert '<paragraph_2>' not in prompt


def test_only_the_critique_of_the_first_error_style_differs():
  its, other = map(stages.make_stages, ('first_error', 'instruct'))
  assert (its.solve, its.refine) == (other.solve, other.refine)
  assert its.critique != other.critique


@pytest.mark.parametrize(
  ('text', 'boxed', 'step', 'verdict'),
  [
    (r'\boxed{-1}', '-1', -1, 'correct'),
    (r'\boxed{0}', '0', 0, 'incorrect'),
    (r'See \boxed{ 12 }. Done', '12', 12, 'incorrect'),
    (r'\boxed{1} no, \boxed{-1}', '-1', -1, 'correct'),  # the last counts
    (r'\boxed{-1} no, \boxed{none}', 'none', None, None),
    (r'\boxed{01}', '01', 1, 'incorrect'),  # another string in a vote
    (r'\boxed{-2}', '-2', None, None),
    (r'\boxed{}', '', None, None),
    (r'\boxed{1.0}', '1.0', None, None),
    (r'\boxed{\text{1}}', r'\text{1', None, None),
    (r'\boxed{2} or \boxed{3', '2', 2, 'incorrect'),
    (r'\boxed {2}', None, None, None),
    ('Verdict: correct', None, None, None),
    ('', None, None, None),
    ('\\boxed{%s}' % ('9' * 5000), '9' * 5000, None, None),
    # The released rule reads the whole text, thinking included.
    (r'<think>\boxed{1}</think> Hm.', '1', 1, 'incorrect'),
  ],
)
def test_the_parser_of_the_first_error_style(text, boxed, step, verdict):
  parsed = stages.make_stages('first_error').critique.parse(text)
  assert (parsed['boxed'], parsed['step'], parsed['verdict']) == (
    boxed, step, verdict
  )  # fmt: skip
  assert parsed['status'] == ('ok' if verdict else 'missing')
  assert parsed.keys() - {'boxed'} == verdicts.parse(text).keys()


@pytest.mark.parametrize('style', ALL_STYLES)
@pytest.mark.parametrize(
  'text', ['I wonder', 'ADVICE\nVerdict: incorrect', 'ADVICE \\boxed{1}']
)
def test_thinking_without_an_end_is_no_critique(style, text):
  """The tag may be the template's, which `LM.decode_response` writes."""
  style_stages = stages.make_stages(style)
  parsed = style_stages.critique.parse(f'<think>\n{text}')
  assert parsed['status'] == 'unfinished' and parsed['verdict'] is None
  assert parsed['conclusion'] is None and parsed['step'] is None
  refine = prompts_of(style, f'<think>\n{text}')[2]
  assert text not in refine and 'ADVICE' not in refine


def test_a_box_in_unfinished_thinking_counts_for_the_benchmark_only():
  parsed = first_error.parse_boxed_step('<think> \\boxed{2}')
  assert parsed['boxed'] == '2' and parsed['verdict'] is None


@pytest.mark.parametrize('end', ['', '}'])
def test_the_parser_is_linear(end):
  # A second or so if it is; a quadratic one would take minutes.
  first_error.parse_boxed_step('\\boxed{' * 300_000 + end)


def test_an_unknown_style_lists_the_choices():
  with pytest.raises(ValueError, match="got 'fancy'; expected one of .*plain"):
    stages.make_stages('fancy')


@pytest.mark.parametrize('style', ['instruc', '../plain', 'plain.os', '', None])
def test_a_style_is_a_module_of_its_folder(style):
  with pytest.raises(ValueError, match=r'prompts: .*styles: got .*expected'):
    stages.make_stages(style)
