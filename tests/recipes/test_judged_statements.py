"""CriticLean in RefCritic's recipe: critics of given statements."""

import jax
import numpy as np
from loop_helpers import grade, make_recipe, nano, scripted, settings

from configs import critic_lean
from critic_jax.data import sources
from critic_jax.recipes import cold_start, refcritic


def examples():
  """Returns a faithful statement, and one that is not."""
  return sources.statements(num_train=2, num_test=1)['train']


def script(prompt, index):
  """Of four critiques one has no form, one no verdict, one the other."""
  form = '<think>\nHm.\n</think>\nSo.\n'
  said = 'correct' if examples()[0].text in prompt else 'incorrect'
  other = 'incorrect' if said == 'correct' else 'correct'
  return [
    f'{form}Verdict: {said}',
    f'Verdict: {said}',
    form,
    f'{form}Verdict: {other}',
  ][index]


def test_it_pays_the_lesser_of_verdict_and_form():
  critic = scripted(script, lengths=(256,), max_new_tokens=64)
  section = critic_lean.rl() | dict(
    num_critiques=4, batch_size=2, row_shapes=()
  )
  recipe = make_recipe(refcritic, settings(section), {'critic': critic}, grade)
  batch, records = recipe.collect(
    {'critic': None}, examples(), jax.random.key(0)
  )
  critiques = [r for r in records if r.stage == 'critique']
  # Verdict: 1, 1, 0, 0. Form: 1, 0, 0, 1.
  assert [r.scores['judge'] for r in critiques] == [1, 1, 0, 0] * 2
  assert [r.scores['reward'] for r in critiques] == [1, 0, 0, 0] * 2
  advantages = [
    float(a[m][0])
    for a, m in zip(batch['advantages'], batch['mask'], strict=True)
  ]
  # (1 - 1/4) / sqrt(3/16) = sqrt(3), and (0 - 1/4) / sqrt(3/16).
  expected = [3**0.5] + [-(3**-0.5)] * 3
  np.testing.assert_allclose(advantages, expected * 2, atol=1e-3)
  assert recipe.takes_solutions and recipe.trained == ('critic',)
  assert 'critique/judged_in_form' in recipe.metrics


def test_a_cold_start_imitates_the_teacher():
  section = critic_lean.imitation(1.0, steps=1, learning_rate=1.0) | dict(
    batch_size=2, row_shapes=()
  )
  critic = nano(lengths=(256,), max_new_tokens=200)
  recipe = make_recipe(cold_start, settings(section), {'critic': critic}, grade)
  batch, records = recipe.collect(
    {'critic': None}, examples(), jax.random.key(0)
  )
  texts = {
    critic.tokenizer.decode(tokens[mask][:-1])
    for tokens, mask in zip(batch['tokens'], batch['mask'], strict=True)
    if mask.any()
  }
  assert texts == {r.text for r in records if r.stage == 'critique'}
  assert any('Verdict: incorrect' in text for text in texts) and len(texts) == 2
