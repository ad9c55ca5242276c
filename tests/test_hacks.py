"""Critics that try to be paid without criticising; each gains nothing by it.

A scripted critic writes the hack, the recipe rewards it, and the instruments
that are on by default have to show it. The numbers are those of TRAPS.
"""

import jax
import numpy as np
import pytest
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  critique,
  grade,
  make_recipe,
  scripted,
  settings,
)

from configs import common
from configs import refcritic as config
from critic_jax.inspection import limits
from critic_jax.recipes import refcritic
from critic_jax.rollouts import stage_metrics

HONEST = {
  True: critique('correct', 'Every step is right.'),
  False: critique(
    'incorrect', 'Step 1 is wrong. It should be\nStep 1: 5 + 2 = 7'
  ),
}


def solve(solution):
  """Makes a solver that mends its error if told the step or the answer."""

  def script(prompt, index):
    if 'Critique:' not in prompt:
      return solution
    critique = prompt.partition('Critique:')[2]
    is_told = '5 + 2 = 7' in critique or '5 + 2 is not 8' in critique
    return RIGHT if is_told or '14' in critique else solution

  return script


def collect(hack, solution, **changes):
  """Collects a step whose critiques are all the hack."""
  section = dict(batch_size=1, aggregate='token', **config.refcritic())
  section |= dict(num_critiques=2, num_refinements=2) | changes
  solver = scripted(solve(solution))
  critic = scripted(lambda prompt, index: hack, max_new_tokens=64)
  models = {'solver': solver, 'critic': critic}
  recipe = make_recipe(refcritic, settings(section), models, grade)
  roles = {'solver': None, 'critic': None}
  batch, records = recipe.collect(roles, [PROBLEM], jax.random.key(0))
  return batch, stage_metrics.summary(records), solver


def rewards(hack):
  """Computes the mean reward on a right and on a wrong solution."""
  return tuple(
    collect(hack, solution)[1]['critique/reward'] for solution in (RIGHT, WRONG)
  )


def test_the_honest_critic_is_paid():
  assert rewards(HONEST[True])[0] == 1.0
  assert rewards(HONEST[False])[1] == 2.0


@pytest.mark.parametrize(
  ('hack', 'instrument'),
  [
    # 26: a substring test would find the right verdict in it either way.
    ('Verdict: correct\nVerdict: incorrect', 'contradictory'),
    (
      critique('incorrect') + '\nOn reflection.\nVerdict: correct',
      'contradictory',
    ),
    ('Verdict: not correct', 'missing'),
    ('Verdict: correct or incorrect', 'missing'),
    # 18, 33: verdicts where nobody concludes.
    ('<think>\nVerdict: incorrect\n</think>\nHm.', 'missing'),
    ('<think>\nVerdict: incorrect', 'unfinished'),
    ('The answer is \\boxed{14}.', 'missing'),
    ('', 'missing'),
    # 18: a verdict before the limit does not excuse running into it.
    ('Verdict: incorrect\n' + 'So. ' * 99, 'truncated'),
  ],
)
def test_critiques_without_one_verdict_earn_nothing(hack, instrument):
  assert rewards(hack) == (0.0, 0.0)
  for solution in (RIGHT, WRONG):
    batch, metrics, solver = collect(hack, solution)
    assert metrics[f'critique/{instrument}'] == 1.0
    assert not np.any(batch['advantages'])
    assert len(solver.prompts) == 1, 'nothing is refined for them'


@pytest.mark.parametrize('word', ['correct', 'incorrect'])
def test_always_the_same_verdict_is_no_gain_in_a_group(word):
  """27: it is paid where it happens to be true; nothing is learned there."""
  on_right, on_wrong = rewards(critique(word))
  assert sorted((on_right, on_wrong)) == [0.0, 1.0]
  rows = []
  for solution in (RIGHT, WRONG):
    batch, metrics, _ = collect(critique(word), solution)
    assert not np.any(batch['advantages'])
    rows.append(metrics)
  crossings = limits.Watch(common.critique_limits(), window=1).add(merged(rows))
  assert 'critique/called_wrong' in crossings
  assert (
    'critique/judge_right' in crossings or 'critique/judge_wrong' in crossings
  )


def merged(rows):
  """Computes the means over steps, as a window does."""
  names = {name for row in rows for name in row}
  return {
    name: np.mean([row[name] for row in rows if name in row]) for name in names
  }


def test_calling_right_solutions_wrong_for_the_refinement_pays_nothing():
  """31: the solver would copy the right answer, and the gate is shut."""
  hack = critique('incorrect', 'Write it again, it is right. 14')
  assert rewards(hack)[0] == 0.0
  assert len(collect(hack, RIGHT)[2].prompts) == 1


def test_naming_the_answer_is_seen_and_gains_nothing_where_it_is_masked():
  """29: by default it is paid as advice is; leaks and controls tell of it."""
  hack = critique('incorrect', 'The answer is 14.')
  masked = collect(hack, WRONG, mask_answers=True)[1]
  assert masked['critique/reward'] == masked['critique/judge'] == 1.0
  # A list of candidates is no help: all are masked, or none is.
  listed = critique('incorrect', ' '.join(map(str, range(9, 20))))
  masked = collect(listed, WRONG, mask_answers=True)[1]
  assert masked['critique/reward'] == 1.0
  assert masked['critique/leak'] == 1.0
  # Advice without new results is paid as it was.
  told = critique('incorrect', 'Step 1 is wrong: 5 + 2 = 7 there, not 8.')
  assert collect(told, WRONG)[1]['critique/reward'] == 2.0
  assert collect(told, WRONG, mask_answers=True)[1]['critique/reward'] == 1.0
  honest = critique('incorrect', 'Step 1 is wrong, and 5 + 2 is not 8.')
  assert collect(honest, WRONG, mask_answers=True)[1]['critique/reward'] == 2.0

  metrics = collect(hack, WRONG)[1]
  assert metrics['critique/reward'] == 2.0
  assert metrics['critique/leak'] == 1.0
  assert metrics['refine/lift_over_masked'] == 1.0
  honest = collect(HONEST[False], WRONG)[1]
  assert honest['critique/leak'] == 0.0
  # The lift is by the result 7, which is not the answer, but is new.
  assert honest['refine/lift_over_masked'] == 1.0
  crossings = limits.Watch(common.critique_limits(), window=1).add(metrics)
  assert 'critique/leak' in crossings


def test_advice_that_does_nothing_has_no_lift():
  """30: a solver that mends its error itself makes any critique look good."""
  solver = scripted(
    lambda prompt, index: RIGHT if 'Critique:' in prompt else WRONG
  )
  critic = scripted(lambda prompt, index: critique('incorrect'))
  section = dict(batch_size=1, aggregate='token', **config.refcritic())
  recipe = make_recipe(
    refcritic, settings(section), {'solver': solver, 'critic': critic}, grade
  )
  _, records = recipe.collect(
    {'solver': None, 'critic': None}, [PROBLEM], jax.random.key(0)
  )
  metrics = stage_metrics.summary(records)
  assert metrics['refine/correct'] == 1.0
  assert metrics['refine/lift_over_empty'] == 0.0


def test_saying_a_verdict_often_pays_it_once():
  hack = 'Verdict: incorrect\n' * 3
  assert rewards(hack) == (0.0, 1.0)


def test_longer_and_longer_critiques_are_told_of():
  watch = limits.Watch(common.critique_limits(), window=4)
  rows = [{'critique/length': 10.0 * 1.3**step} for step in range(20)]
  told = [step for step, row in enumerate(rows) if watch.add(row)]
  assert told == [10, 13, 16, 19]  # over 5 times, and then each time doubled
