"""Recipes whose examples are given solutions: no solver is asked."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  grade,
  make_recipe,
  nano,
  scripted,
  settings,
  solution,
)

from configs import refcritic as config
from critic_jax.recipes import cold_start, refcritic
from critic_jax.rollouts import stage_metrics
from critic_jax.types import Problem

LABELS = dict(module='labels', name='critique', verdict_first=True)
OTHER = Problem('other', 'Ben has 1 pen. How many?', '1')


@functools.cache
def reader():
  return nano(max_new_tokens=64)


def given(text, index=0, problem=PROBLEM, **facts):
  """Makes a solution as data/solutions.py does; `facts` are its file's."""
  record = solution(reader(), text, problem)
  parsed = {'part': 'a', **facts}
  return dataclasses.replace(record, index=index, parsed=parsed)


# As published with a grade, with labelled steps alone, and to be graded by us.
EXAMPLES = [
  given(RIGHT, correct=True, grade='right'),
  given(WRONG, 1, first_error=0, steps=['a'], num_steps=1),
  given(RIGHT, 2, grade='open'),
  given(WRONG, 0, OTHER, grade='open'),
]
TRUTHS = [True, False, True, False]


def say(prompt, index):
  """Calls every second critique's solution wrong, in the trained form."""
  return f'Verdict: {"incorrect" if index % 2 else "correct"}'


def make(module, critic, **changes):
  section = settings(
    {
      'batch_size': 4,
      'aggregate': 'token',
      **(
        dict(num_critiques=1, writer=LABELS)
        if module is cold_start
        else config.refcritic(num_critiques=2, num_refinements=0)
      ),
      'num_solutions': 0,
    },
    **changes,
  )
  return make_recipe(module, section, {'critic': critic}, grade)


def collect(module, examples=EXAMPLES, **changes):
  recipe = make(module, scripted(say, max_new_tokens=64), **changes)
  batch, records = recipe.collect({'critic': None}, examples, jax.random.key(0))
  return recipe, batch, records


def test_labels_are_imitated_by_right_and_wrong_solutions():
  recipe, batch, records = collect(cold_start)
  assert recipe.takes_solutions and not recipe.sampled
  solutions = [r for r in records if r.stage == 'solve']
  critiques = [r for r in records if r.stage == 'critique']
  assert [r.id for r in solutions] == [r.id for r in EXAMPLES]
  assert [c.parsed['verdict'] == 'correct' for c in critiques] == TRUTHS
  assert [c.scores['judge'] for c in critiques] == [1.0] * 4
  assert critiques[1].text == 'Verdict: incorrect\nStep 1 is wrong.'
  assert batch['mask'].any(axis=1).sum() == 4
  metrics = stage_metrics.summary(records)
  assert metrics['solve/correct'] == 0.5
  assert metrics['critique/judge_right'] == metrics['critique/judge_wrong'] == 1
  assert set(metrics) <= recipe.metrics


def test_verdicts_on_given_solutions_are_rewarded():
  recipe, batch, records = collect(refcritic)
  assert recipe.takes_solutions
  [stage] = recipe.sampled
  assert stage == ('critique', 'critic', 4, 2)
  solutions = [r for r in records if r.stage == 'solve']
  critiques = [r for r in records if r.stage == 'critique']
  assert len(records) == len(solutions) + len(critiques) == 4 + 8
  assert [c.scores['judge'] for c in critiques] == [1, 0, 0, 1, 1, 0, 0, 1]
  assert [id(c.parent) for c in critiques[::2]] == [id(s) for s in solutions]
  advantages = [
    row[mask].mean() for row, mask in zip(
      batch['advantages'], batch['mask'], strict=True
    )
  ]  # fmt: skip
  assert (np.sign(advantages) == [1, -1, -1, 1, 1, -1, -1, 1]).all()
  assert set(stage_metrics.summary(records)) <= recipe.metrics


def test_as_many_wrong_solutions_as_right_ones_teach():
  examples = [EXAMPLES[i] for i in (1, 3, 0)]
  _, batch, _ = collect(refcritic, examples, batch_size=3, balanced=True)
  is_read = batch['mask'].any(axis=1)
  np.testing.assert_array_equal(is_read, [1, 1, 0, 0, 1, 1])
  _, batch, _ = collect(refcritic, examples, batch_size=3)
  assert batch['mask'].any(axis=1).all()


@pytest.mark.parametrize('module', [cold_start, refcritic])
def test_a_solution_that_a_step_has_twice_is_critiqued_twice(module):
  _, batch, records = collect(module, [*EXAMPLES[:2]] * 2)
  solutions = [r for r in records if r.stage == 'solve']
  critiques = [r for r in records if r.stage == 'critique']
  assert len({id(s) for s in solutions}) == 4
  each = len(critiques) // 4
  assert [id(c.parent) for c in critiques] == [
    id(s) for s in solutions for _ in range(each)
  ]
  assert batch['mask'].any(axis=1).sum() == len(critiques)


def test_given_solutions_are_refined_where_there_is_a_solver():
  """The verdict's reward, the gate and the controls are as ever."""
  solver = scripted(lambda prompt, index: RIGHT, max_new_tokens=64)
  critic = scripted(say, max_new_tokens=64)
  section = settings(
    {
      'batch_size': 2,
      'aggregate': 'token',
      **config.refcritic(
        num_solutions=0, num_critiques=2, num_refinements=2, num_controls=1
      ),
    }
  )
  models = {'critic': critic, 'solver': solver}
  recipe = make_recipe(refcritic, section, models, grade)
  roles = dict.fromkeys(models)
  examples = [given(WRONG, correct=False, grade='wrong'), EXAMPLES[0]]
  _, records = recipe.collect(roles, examples, jax.random.key(0))
  refined = [r for r in records if r.stage == 'refine']
  assert [r.parent.index for r in refined] == [1, 1]
  [judged] = {id(r.parent): r.parent for r in refined}.values()
  assert judged.scores['reward'] == 2.0
  assert any(r.control_of == 'refine' for r in records)
  with pytest.raises(ValueError, match=r"expected also \['solver'\]"):
    make(refcritic, critic, num_refinements=1)
