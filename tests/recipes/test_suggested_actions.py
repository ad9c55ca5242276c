"""S-GRPO in RefCritic's recipe: critics of given actions, by three rules."""

import functools

import jax
import numpy as np
import pytest
from loop_helpers import grade, make_recipe, nano, scripted, settings

from configs import gui_critic
from critic_jax.data import sources
from critic_jax.recipes import cold_start, refcritic
from critic_jax.rewards import suggestions

WRITER = dict(module='screens_critiques', name='critique', check_share=1.0)


@functools.cache
def actions():
  """Returns a right action, and a wrong one that has two working ones."""
  examples = sources.screens(num_train=60, num_test=1)['train']
  [wrong, *_] = [
    e
    for e in examples
    if not e.parsed['correct'] and len(e.parsed['suggestions']['working']) > 1
  ]
  return examples[0], wrong


def script(prompt, index):
  """Of four critiques of the wrong action the verdicts are right, right, ..."""
  right, wrong = actions()
  if right.text in prompt:
    return 'Hint: none\nVerdict: correct'
  known = suggestions.read(wrong)
  other = next(a for a in known.working if a != known.reference)
  hint, verdict = [
    (known.reference, 'incorrect'),
    (other, 'incorrect'),
    (f'{known.reference} or {other}', 'incorrect'),
    (known.reference, 'correct'),
  ][index]
  return f'Hint: {hint}\nVerdict: {verdict}'


def collect(name):
  critic = scripted(script, lengths=(256,), max_new_tokens=64)
  section = gui_critic.rl(gui_critic.rewards()[name]) | dict(
    num_critiques=4, batch_size=2, row_shapes=()
  )
  recipe = make_recipe(refcritic, settings(section), {'critic': critic}, grade)
  batch, records = recipe.collect(
    {'critic': None}, actions(), jax.random.key(0)
  )
  rewards = [r.scores['reward'] for r in records if r.stage == 'critique']
  advantages = [
    float(a[m][0]) if m.any() else 0.0
    for a, m in zip(batch['advantages'], batch['mask'], strict=True)
  ]
  return rewards, advantages, recipe


@pytest.mark.parametrize(
  ('name', 'expected'),
  [  # form + verdict, + suggestion; of the right action all are alike
    ('verdict', [2, 2, 2, 1]),
    ('reference', [3, 2, 2, 2]),
    ('works', [3, 3, 2, 2]),
  ],
)
def test_each_arm_pays_its_rules(name, expected):
  rewards, advantages, recipe = collect(name)
  of_right = 2 if name == 'verdict' else 3
  assert rewards == [of_right] * 4 + expected
  assert advantages[:4] == [0] * 4
  expected = np.array(expected, float)
  normal = (expected - expected.mean()) / expected.std()
  np.testing.assert_allclose(advantages[4:], normal, atol=1e-3)
  assert recipe.takes_solutions and recipe.trained == ('critic',)
  # Each rule is logged by its name.
  rules = {'form', 'judge', *gui_critic.rewards()[name]}
  assert {f'critique/{rule}' for rule in rules} <= recipe.metrics


def test_a_cold_start_imitates_the_teacher():
  section = gui_critic.imitation(1.0, steps=1, learning_rate=1.0) | dict(
    batch_size=2, row_shapes=(), writer=WRITER
  )
  critic = nano(lengths=(256,), max_new_tokens=200)
  recipe = make_recipe(cold_start, settings(section), {'critic': critic}, grade)
  batch, records = recipe.collect(
    {'critic': None}, actions(), jax.random.key(0)
  )
  texts = {
    critic.tokenizer.decode(tokens[mask][:-1])
    for tokens, mask in zip(batch['tokens'], batch['mask'], strict=True)
    if mask.any()
  }
  assert texts == {r.text for r in records if r.stage == 'critique'}
  assert any('Verdict: incorrect' in text for text in texts) and len(texts) == 2
