"""A process reward model's flow of data: solutions, completions, targets."""

import dataclasses

import jax
import numpy as np
import pytest
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  finish,
  grade,
  init,
  make_recipe,
  nano,
  scripted,
  settings,
  solution,
)

from configs import process_reward as config
from critic_jax.recipes import process_reward
from critic_jax.rollouts import stage_metrics

SECOND_WRONG = WRONG.replace('= 8', '= 7').replace('8 * 2', '7 * 2')
CHECKER = dict(module='arithmetic', name='first_error')
NOBODY = dict(module='', name='')


def hard(num=2, max_steps=3, name='hard', **keywords):
  labels = dict(name=name, **keywords)
  return dict(num=num, max_steps=max_steps, labels=labels)


def script(prompt, index):
  """Errs in a step of its own, and goes on rightly with what is begun."""
  if prompt.endswith('Solution:'):
    return (RIGHT, WRONG, SECOND_WRONG)[index]
  return finish(prompt, index)


def reader():
  return nano(max_new_tokens=64, head='reward')


def make(**changes):
  section = settings(
    config.process_reward(completions=hard(), num_solutions=3)
    | dict(batch_size=1, aggregate='token'),
    **changes,
  )
  models = {'steps': reader(), 'solver': scripted(script)}
  return make_recipe(process_reward, section, models, grade), models


def collect(examples=(PROBLEM,), **changes):
  recipe, models = make(**changes)
  roles = {'steps': None, 'solver': None}
  batch, records = recipe.collect(roles, examples, jax.random.key(0))
  solutions = [r for r in records if r.stage == 'solve']
  return recipe, models, batch, solutions, records


def at_steps(batch):
  return [
    x[mask].tolist()
    for x, mask in zip(batch['targets'], batch['mask'], strict=True)
  ]


def test_targets_are_of_completions_and_of_the_grade():
  _, models, batch, solutions, records = collect()
  assert [s.parsed['values'] for s in solutions] == [
    [0.5, 1.0, 1.0, 1.0],  # RIGHT is the first of two solutions, WRONG not
    [0.5, 0.0, 0.0, 0.0],
    [0.5, 1.0, 0.0, 0.0],
  ]
  assert at_steps(batch) == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
  completed = [r for r in records if r.stage == 'complete']
  assert len(completed) == 3 * 3 * 2
  assert {id(r.parent.parent) for r in completed} == {*map(id, solutions)}
  # The tokens are the last of each step, in the reward model's text.
  lm = models['steps']
  for s, tokens, mask in zip(
    solutions, batch['tokens'], batch['mask'], strict=True
  ):
    prompt = lm.encode_prompt(lm.stages.solve.prompt(PROBLEM))
    texts = [
      lm.decode_response(tokens[len(prompt) : place + 1].tolist())
      for place in np.flatnonzero(mask)
    ]
    lines = s.text.split('\n')
    assert texts == ['\n'.join(lines[: i + 1]) for i in range(3)]


def test_labels_are_compared_with_the_truth():
  recipe, _, _, solutions, records = collect()
  assert [s.parsed['first_error'] for s in solutions] == [-1, 0, 1]
  metrics = stage_metrics.summary(records)
  assert metrics['solve/label_right'] == 1.0
  assert set(metrics) <= recipe.metrics
  # An impossible threshold calls all steps wrong: right ones, too.
  *_, records = collect(completions=hard(name='ratio', threshold=9.0))
  metrics = stage_metrics.summary(records)
  assert metrics['solve/label_right'] == pytest.approx(1 / 3)
  assert metrics['solve/label_early'] == pytest.approx(2 / 3)
  # Nobody knows it: nothing is compared.
  *_, records = collect(first_error=NOBODY)
  assert 'solve/label_right' not in stage_metrics.summary(records)


def test_soft_targets_are_shares():
  _, _, batch, _, _ = collect(completions=hard(name='penalised'))
  assert at_steps(batch) == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
  _, _, batch, _, _ = collect(completions=hard(name='soft', max_steps=2))
  assert at_steps(batch) == [[], [], []]  # they have three steps


def test_a_known_first_error_labels_steps_up_to_it():
  recipe, _, batch, solutions, records = collect(completions=hard(num=0))
  assert at_steps(batch) == [[1, 1, 1], [0], [1, 0]]
  assert {r.stage for r in records} == {'solve'}
  assert [s.stage for s in recipe.sampled] == ['solve']
  assert [s.parsed['targets'] for s in solutions][1:] == [
    [0.0, None, None], [1.0, 0.0, None],
  ]  # fmt: skip


def test_given_solutions_have_the_labels_of_their_file():
  lm = scripted(script)
  given = [
    solution(lm, WRONG, first_error=0, part='a'),
    solution(lm, RIGHT, first_error=-1, part='a', steps=RIGHT.split('\n')),
    solution(lm, WRONG, part='a'),  # without a label
    # PRM800K's end at the first wrong step, and say nothing of the answer.
    dataclasses.replace(
      solution(lm, RIGHT.split('\n')[0]),
      parsed={'part': 'a', 'first_error': 0, 'grade': 'open'},
    ),
  ]
  changes = dict(num_solutions=0, first_error=NOBODY, batch_size=4)
  recipe, _, batch, _, _ = collect(given, completions=hard(num=0), **changes)
  assert at_steps(batch) == [[0], [1, 1, 1], [], [0]]
  assert recipe.takes_solutions and not recipe.sampled
  # Or the solver completes them, who needs no label.
  recipe, _, batch, _, _ = collect(given[:3], completions=hard(), **changes)
  assert at_steps(batch) == [[0, 0, 0], [1, 1, 1], [0, 0, 0], []]
  assert [s.stage for s in recipe.sampled] == ['complete']


def test_the_loss_begins_at_the_entropy_of_a_coin():
  recipe, models, batch, _, _ = collect(row_shapes=((2, 256),))
  assert 'segments' in batch and batch['targets'].shape == batch['mask'].shape
  params = init(steps=models['steps'])
  total, (sums, _) = jax.jit(recipe.loss)(params, batch)
  assert 0.3 < total < 1.2 and set(sums) <= recipe.metrics
  assert recipe.trained == ('steps',) and recipe.num_rows == 3
  assert recipe.corrects_staleness and not recipe.scored


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(first_error=NOBODY, completions=hard(num=0)),
     'completions.num: got 0 without labels'),
    (dict(completions=hard(name='hart')), "completions: labels: .*'hard'"),
    (dict(completions=dict(num=2, max_steps=3)), 'labels'),
    (dict(role='solver'), "models.solver: got head='lm'"),
    (dict(role='step'), "models: got .*'step'"),
    (dict(objective=dict(name='squares')), "mean 'squared'"),
  ],
)  # fmt: skip
def test_wrong_settings(changes, message):
  with pytest.raises(ValueError, match=message):
    make(**changes)
