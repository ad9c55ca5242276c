"""A critic and its solver in one batch: who is paid for what, and learns it."""

import functools

import jax
import numpy as np
import pytest
from helpers import make_record
from loop_helpers import (
  ADVICE,
  PROBLEM,
  RIGHT,
  WRONG,
  critique,
  grade,
  init,
  make_recipe,
  nano,
  scripted,
  settings,
)

from configs import echo
from critic_jax.recipes import co_evolution
from critic_jax.rewards import refinement

COUNTS = dict(num_solutions=2, num_critiques=2, num_refinements=2)
KL = dict(name='k2', coef=0.5)


def solve(prompt, index):
  """Right and wrong in turn; with advice right, without it as before."""
  return RIGHT if index == 0 or ADVICE in prompt else WRONG


def criticise(prompt, index):
  return critique('incorrect', (ADVICE, 'There is a mistake.')[index])


def make(**changes):
  models = dict(
    solver=scripted(solve, max_new_tokens=64),
    critic=scripted(criticise, max_new_tokens=64),
    ref=nano(max_new_tokens=64),
  )
  section = settings(
    echo.co_evolution(**COUNTS, refine_settings={})
    | dict(batch_size=1, aggregate='token'),
    **changes,
  )
  return make_recipe(co_evolution, section, models, grade), models


@functools.cache
def params():
  return init(**make()[1])


def collect(**changes):
  recipe, _ = make(**changes)
  return recipe, *recipe.collect(params(), [PROBLEM], jax.random.key(0))


def rewards(records, stage):
  return [r.scores['reward'] for r in records if r.stage == stage]


def gradient(recipe, batch):
  trained = {role: params()[role] for role in recipe.trained}
  return jax.grad(lambda x: recipe.loss(x, batch)[0])(trained)


def test_the_flow_by_hand():
  _, batch, records = collect()
  assert rewards(records, 'solve') == [1, 0]
  # Refinements of the right solution, by each critique, and of the wrong one.
  assert rewards(records, 'refine') == [1, 1, 1, 0, 1, 1, 1, 0]
  # Nothing and a half is lost of the right one; 1 and 1/2 is gained.
  np.testing.assert_allclose(rewards(records, 'critique'), [0, -0.5, 1, 0.5])
  advantages = [
    row[mask][0]
    for row, mask in zip(batch['advantages'], batch['mask'], strict=True)
  ]
  of_solver = [1, -1, 0, 0, 1, -1, 0, 0, 1, -1]
  np.testing.assert_allclose(advantages, [*of_solver, 1, -1, 1, -1], rtol=1e-6)
  assert batch['writers'].max(axis=1).tolist() == [1] * 10 + [2] * 4
  # Each role's loss is a mean over its own tokens; metrics are over all.
  for number in (1, 2):
    own = batch['weights'][batch['writers'] == number]
    np.testing.assert_allclose(own.sum(), 1, rtol=1e-5)
  np.testing.assert_allclose(batch['mean_weights'].sum(), 1, rtol=1e-5)


def test_a_gain_near_saturation_pays_more():
  """From a half to all, beside from nothing to a half, at eps = 0.1."""
  solved = make_record('solve', text='0', parsed={'correct': False})
  written = make_record(
    'critique', parent=solved, parsed=dict(status='ok', verdict='incorrect')
  )
  half, whole = (
    make_record(
      'refine', parent=written, text=text, parsed={'correct': text == '1'}
    )
    for text in ('0.5', '1')
  )
  gain = functools.partial(
    refinement.gain, measure=lambda problem, text: float(text), eps=0.1
  )
  first = gain(written, [half])
  np.testing.assert_allclose(first, np.log(1.1 / 0.6) / np.log(11))
  np.testing.assert_allclose(gain(written, [whole]), 1)
  assert 1 - first > 2.9 * first


def test_each_role_learns_of_its_own_rows_only():
  recipe, batch, _ = collect(kl=KL)
  both = gradient(recipe, batch)
  assert set(both) == {'solver', 'critic'}  # and no reference
  for number, role in enumerate(recipe.trained, 1):
    norms = [np.abs(x).max() for x in jax.tree.leaves(both[role])]
    assert max(norms) > 1e-4
    only = batch['mask'] & (batch['writers'] == number)
    alone = gradient(recipe, {**batch, 'mask': only})
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
      alone[role],
      both[role],
    )
    other = next(r for r in recipe.trained if r != role)
    assert not any(np.any(x) for x in jax.tree.leaves(alone[other]))


def test_the_loss_does_not_depend_on_packing_or_order():
  recipe, batch, _ = collect(kl=KL)
  trained = {role: params()[role] for role in recipe.trained}
  loss, (sums, _) = recipe.loss(trained, batch)
  _, packed, _ = collect(kl=KL, row_shapes=((12, 512),))
  assert 'segments' in packed
  turned = {name: x[::-1] for name, x in batch.items()}
  for other in (packed, turned):
    value, (its_sums, _) = recipe.loss(trained, other)
    np.testing.assert_allclose(value, loss, rtol=1e-4)
    for name, x in sums.items():
      np.testing.assert_allclose(its_sums[name], x, rtol=1e-3, atol=1e-5)
  halves = [
    recipe.loss(trained, {name: x[i::2] for name, x in batch.items()})[0]
    for i in range(2)
  ]
  np.testing.assert_allclose(sum(halves), loss, rtol=1e-4)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(num_solutions=1), 'num_solutions: got 1'),
    (dict(num_critiques=1), 'num_critiques: got 1'),
    (dict(num_refinements=1), 'num_refinements: got 1'),
    (dict(refine_reward='gains'), "got 'gains'"),
  ],
)
def test_wrong_settings(changes, message):
  with pytest.raises(ValueError, match=message):
    make(**changes)
