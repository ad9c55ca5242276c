"""Splits are named, given and read, or refused before a file is opened."""

import dataclasses
import re
import types

import pytest
from helpers import PROBLEM, make_record
from ml_collections import ConfigDict

from configs import common
from critic_jax.tasks import functions
from critic_jax.training import data_sections
from critic_jax.types import Comparison, Recipe, Sampled


def config(paths=None, order=('rl',), evals=None):
  """A config with files of its own, and evaluations: (split, paths)."""
  config = common.base()
  config.data = common.files()
  config.data.paths = paths or {}
  config.order = order
  config.evals = {
    name: ConfigDict(dict(split=split, data=data and common.files(**data)))
    for name, (split, data) in (evals or {}).items()
  }
  return config


@pytest.mark.parametrize('section', ['paths', 'fractions'])
def test_a_misspelt_split_is_refused_with_the_nearest(section):
  data = common.files(train='a.csv') | {section: {'trian': ''}}
  message = f"split of {section}: got 'trian'; .*did you mean 'train'"
  with pytest.raises(ValueError, match=message):
    data_sections.check_section(data)


@pytest.mark.parametrize(
  'right',
  [
    config({'train': 'a.csv', 'dev': ''}),
    # A split without a path is a share of train.
    config({'train': 'a.csv'}, evals={'x': ('test', {})}),
    config({'train': 'a.csv', 'dev': 'b'}, evals={'x': ('dev', {})}),
    config({'test': 'a.csv'}, order=(), evals={'x': ('test', {})}),
    config({'train': 'a.csv'}, order=(), evals={'x': ('test', {})}),
    config({'train': 'a'}, evals={'x': ('test', dict(test='b'))}),
    # Equal data is read once, for all that name it.
    config(
      {'train': 'a'},
      evals={
        'x': ('test', dict(train='b', test='c')),
        'y': ('train', dict(train='b', test='c')),
      },
    ),
  ],
)
def test_splits_that_are_given_and_read_pass(right):
  data_sections.check_splits(right)


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    (
      config({'train': 'a.csv', 'dev': 'b.csv'}, evals={'x': ('test', {})}),
      "data.paths.dev: got 'b.csv', which nothing reads; expected paths of "
      r"\['test', 'train'\]; .*--config.evals.NAME.split=dev",
    ),
    (
      config({'train': 'a', 'test': 'b'}, order=(), evals={'x': ('test', {})}),
      "data.paths.train: got 'a', which nothing reads",
    ),
    (
      config({'test': 'b'}, evals={'x': ('test', {})}),
      "data.paths: got {'test': 'b'}; expected 'train', too, which training "
      'reads; write --config.data.paths.train=FILE',
    ),
    (
      config({'train': 'a'}, evals={'x': ('dev', dict(test='b'))}),
      "evals.x.data.paths: got {'test': 'b'}; expected 'dev', too, which "
      'evals.x reads; write --config.evals.x.data.paths.dev=FILE',
    ),
    (config(), 'data.paths: got none'),
    (
      config({'train': 'a'}, evals={'x': ('tets', {})}),
      "evals.x: split: got 'tets'; .*did you mean 'test'",
    ),
  ],
)
def test_splits_that_are_not_given_or_not_read_are_refused(wrong, message):
  with pytest.raises(ValueError) as refused:
    data_sections.check_splits(wrong)
  text = str(refused.value)
  assert re.search(message, text) and '\n' not in text


# ------------------------------------------------- what phases are given

GIVEN = make_record(text='7', parsed=dict(part='a', first_error=0))
GRADED = make_record(text='7', parsed=dict(part='a', correct=True))
PROGRAM = functions.problems('train', 1)[0]


# Labels of steps are paid for, and nobody but the file gives them.
BY_STEPS = dict(
  step_weight=1.0,
  first_error=dict(module='', name=''),
  completions=dict(num=0),
)
# Or a solver completes them, whose answers are graded.
BY_COMPLETIONS = BY_STEPS | dict(completions=dict(num=2))
NO_ANSWER = make_record(
  text='7',
  problem=dataclasses.replace(PROBLEM, answer=''),
  parsed=dict(part='a', correct=True, first_error=-1),
)


# Comparisons: two are ties.
def compared(*scores):
  responses = [
    make_record(text=f'{i}', index=i, scores={'preference': score})
    for i, score in enumerate(scores)
  ]
  return Comparison(PROBLEM, tuple(responses))


PAIRS = dict(
  takes_comparisons=True, score=dict(preference=1.0), margin={},
  max_responses=2, objective=dict(name='dpo'),
)  # fmt: skip


SCORED = dict(
  takes_comparisons=True, objective=dict(name='bradley_terry'),
  comparisons=dict(max_responses=2, score=dict(preference=1.0)),
)  # fmt: skip


def phase(
  recipe, takes_solutions, num_refinements=0, takes_comparisons=False,
  **settings,
):  # fmt: skip
  stages = [Sampled('refine', 'solver', 1, 1)] if num_refinements else []
  made = Recipe(
    None, None, sampled=tuple(stages), takes_solutions=takes_solutions,
    takes_comparisons=takes_comparisons,
  )  # fmt: skip
  settings |= dict(recipe=recipe, num_refinements=num_refinements)
  section = ConfigDict(settings)
  return types.SimpleNamespace(name='rl', config=section, recipe=made)


@pytest.mark.parametrize(
  ('phases', 'examples'),
  [
    ([phase('sft', False), phase('refcritic', False, 2)], [PROBLEM]),
    ([phase('cold_start', True), phase('refcritic', True)], [GIVEN, GRADED]),
    ([phase('refcritic', True, 2)], [GRADED]),
    ([phase('refcritic', True, **BY_STEPS)], [GIVEN]),
    ([phase('refcritic', True, **BY_COMPLETIONS)], [GRADED]),
    ([phase('refcritic', False, 1, refine_reward='passed')], [PROGRAM]),
    ([phase('refcritic', False, refine_reward='passed')], [PROBLEM]),
    ([phase('x', False, **PAIRS)], [compared(1, 1), compared(0, 1)]),
  ],
)
def test_phases_that_take_what_the_data_has_pass(phases, examples):
  data_sections.check_examples(phases, examples)


@pytest.mark.parametrize(
  ('phases', 'examples', 'message'),
  [
    (
      [phase('refcritic', False, 1, refine_reward='passed')],
      [PROBLEM],
      "phases.rl: refine_reward: got 'passed' for the answer of .*, '.*'; "
      'expected unit tests',
    ),
    (
      [phase('cold_start', True), phase('grpo', False)],
      [GRADED],
      "phases.rl: recipe: got 'grpo', which solves problems, and data of given "
      'solutions; expected .* --config.phases.rl.num_solutions=0',
    ),
    (
      [phase('refcritic', True)],
      [PROBLEM],
      'phases.rl: num_solutions: got 0, and data of problems .*; expected >= 1:'
      ' --config.phases.rl.num_solutions=1',
    ),
    (
      [phase('refcritic', True, 2)],
      [GRADED, GIVEN],
      'phases.rl: num_refinements: got 2, but 1 solutions .*; expected 0',
    ),
    (
      [phase('refcritic', True, **BY_STEPS)],
      [GIVEN, GRADED],
      'phases.rl: step_weight: got 1.0, but 1 solutions .* a label of their '
      'steps; expected 0',
    ),
    (
      [phase('refcritic', True, **BY_COMPLETIONS)],
      [GRADED, NO_ANSWER],
      'step_weight: got 1.0, but 1 solutions .* an answer to grade by',
    ),
    (
      [phase('sft', False)],
      [compared(0, 1)],
      "phases.rl: recipe: got 'sft', which takes other examples, and data of "
      "comparisons; .* data.name='preferences'",
    ),
    (
      [phase('reward_model', False, **SCORED)],
      [compared(0, 1, 2)],
      'phases.rl: max_responses: got 2, but .* has 3',
    ),
    (
      [phase('offline_preference', False, **PAIRS)],
      [PROBLEM],
      "recipe: got 'offline_preference', which takes comparisons, and data of "
      'other examples',
    ),
    (
      [phase('x', False, **PAIRS)],
      [compared(1, 1), compared(0, 0)],
      'phases.rl: data: got 2 prompts, at none of which',
    ),
    (
      [phase('x', False, **PAIRS)],
      [compared(1, 1, 0)],
      'phases.rl: max_responses: got 2, but .* has 3 responses',
    ),
  ],
)
def test_data_that_a_phase_does_not_take_is_refused(phases, examples, message):
  with pytest.raises(ValueError) as refused:
    data_sections.check_examples(phases, examples)
  text = str(refused.value)
  assert re.search(message, text) and '\n' not in text
