import dataclasses
import itertools

import jax
import numpy as np
import pytest
from helpers import assert_trees_close
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  grade,
  init,
  make_recipe,
  nano,
  scripted,
  settings,
)

from configs import ppo as config
from critic_jax.loss_fns import actor_critic
from critic_jax.models import forward
from critic_jax.recipes import ppo
from critic_jax.training import alarms
from critic_jax.types import Problem

# Two problems with two solutions each; the last is cut off.
TEXTS = {'Ada': [RIGHT, WRONG], 'Ben': ['Hm.', 'So ' * 1000]}
PROBLEMS = [PROBLEM, Problem('other', 'Ben has 1 pen.', '1')]


def section(**changes):
  phase = config.get_config('tiny').phases.rl.to_dict()
  plain = {'batch_size': 2, 'num_solutions': 2, 'row_shapes': ()}
  plain['segment_rewards'] = {}
  return settings(phase, **{**plain, **changes})


@pytest.fixture(scope='module')
def models():
  solver = scripted(
    lambda prompt, i: TEXTS['Ben' if 'Ben' in prompt else 'Ada'][i]
  )
  return {'solver': solver, 'value': nano(head='value')}


@pytest.fixture(scope='module')
def ppo_case(models):
  """Makes the recipe, its roles, and a batch with its records."""
  roles = init(**models)
  recipe = make_recipe(ppo, section(), models, grade)
  batch, records = recipe.collect(roles, PROBLEMS, jax.random.key(0))
  return recipe, roles, batch, records


def test_the_batch(ppo_case):
  _, roles, batch, records = ppo_case
  assert [r.scores['reward'] for r in records] == [1, 0, 0, 0]
  assert [r.truncated for r in records] == [False, False, False, True]
  for name in ('values', 'returns', 'advantages'):
    assert batch[name].shape == batch['tokens'].shape
    assert np.isfinite(batch[name]).all()
  values = jax.jit(forward.token_values, static_argnums=0)(
    nano(head='value').model, roles['value'], batch['tokens']
  )
  np.testing.assert_allclose(batch['values'], values, rtol=1e-4, atol=1e-5)
  # Whitened over the batch's trained tokens, zero elsewhere.
  trained = batch['advantages'][batch['mask']]
  np.testing.assert_allclose([trained.mean(), trained.std()], [0, 1], atol=1e-5)
  assert not batch['advantages'][~batch['mask']].any()


@pytest.mark.parametrize('bootstrap_cut', [False, True])
def test_returns_against_a_loop(models, ppo_case, bootstrap_cut):
  """discount 1: the advantage is the sum of lambda^k delta."""
  _, roles, batch, records = ppo_case
  lambda_ = section().lambda_
  if bootstrap_cut:
    changed = section(bootstrap_cut=True)
    recipe = make_recipe(ppo, changed, models, grade)
    batch, _ = recipe.collect(roles, PROBLEMS, jax.random.key(0))
  final = jax.jit(forward.response_scores, static_argnums=0)(
    nano(head='value').model, roles['value'], batch['tokens'], batch['mask']
  )
  for row, record in enumerate(records):
    places = np.flatnonzero(batch['mask'][row])
    # After an end comes nothing; after a cut the value itself, if it is asked
    # for.
    is_open = record.truncated and bootstrap_cut
    after = float(final[row]) if is_open else 0.0
    advantage, expected = 0.0, {}
    for place in reversed(places):
      reward = record.scores['reward'] if place == places[-1] else 0.0
      value = float(batch['values'][row, place])
      advantage = reward + after - value + lambda_ * advantage
      expected[place] = advantage + value
      after = value
    np.testing.assert_allclose(
      batch['returns'][row][places],
      [expected[place] for place in places],
      rtol=1e-4,
      atol=1e-5,
    )


def test_a_cut_solution_is_worth_what_a_finished_wrong_one_is(models, ppo_case):
  """The default of the config; nobody is paid for not coming to an end."""
  _, roles, _, _ = ppo_case
  # lambda_ = 1: the return is the sum of the rewards to come.
  changed = section(lambda_=1.0)
  recipe = make_recipe(ppo, changed, models, grade)
  batch, records = recipe.collect(roles, PROBLEMS, jax.random.key(0))
  assert [r.finish for r in records] == ['stop', 'stop', 'stop', 'length']
  returns = [
    row[mask] for row, mask in zip(batch['returns'], batch['mask'], strict=True)
  ]
  for row, expected in zip(returns, [1, 0, 0, 0], strict=True):
    np.testing.assert_allclose(row, expected, atol=1e-5)


def test_lines_are_paid_where_they_end(models, ppo_case):
  """Returns are the rewards still to come; the right solution's: 1 + 4 / 2."""
  _, roles, _, _ = ppo_case
  paid = dict(module='arithmetic_labels', name='rewarded_results', weight=0.5)
  changed = section(lambda_=1.0, segment_rewards=dict(results=paid))
  recipe = make_recipe(ppo, changed, models, grade)
  problems = [PROBLEM, dataclasses.replace(PROBLEMS[1], solution=RIGHT)]
  batch, records = recipe.collect(roles, problems, jax.random.key(0))
  assert [r.scores['results'] for r in records] == [2, 0, 0, 0]
  assert [r.scores['reward'] for r in records] == [2, 0, 0, 0]
  to_come = []
  for row, mask in zip(batch['returns'], batch['mask'], strict=True):
    rounded = np.round(row[mask], 4).tolist()
    to_come.append([x for x, _ in itertools.groupby(rounded)])
  # 0.5 a line and 1 for the answer; -0.5 and 0.5 for a false line and a true.
  assert to_come == [[2, 1.5, 1], [0, 0.5, 0], [0], [0]]
  assert 'solve/results' in recipe.metrics


def updates_until_good(num_segments, is_fine, seed):
  """Counts updates until segments are good with probability 0.9 on average.

  Each of a response is good or bad by a probability of its own, and is paid 1
  if it is good: at its end, or all of them at the last one's.
  """
  random, shape = np.random.default_rng(seed), (16, num_segments)
  logits, values, mask = np.zeros(shape[1]), np.zeros(shape[1]), np.ones(shape)
  for num_updates in range(1000):
    shares = 1 / (1 + np.exp(-logits))
    if shares.mean() >= 0.9:
      return num_updates
    is_good = (random.random(shape) < shares).astype(np.float32)
    at_end = np.zeros_like(is_good)
    at_end[:, -1] = is_good.sum(axis=1)
    estimates = actor_critic.estimate(
      is_good if is_fine else at_end,
      np.broadcast_to(values, shape).astype(np.float32),
      mask.astype(bool), np.zeros(16, np.float32), discount=1.0, lambda_=0.95,
    )  # fmt: skip
    advantages, returns = map(
      np.asarray, (estimates['advantages'], estimates['returns'])
    )
    values = values + 0.2 * (returns.mean(0) - values)
    logits = logits + 0.3 * ((is_good - shares) * advantages).mean(0)


def test_rewards_of_segments_need_fewer_updates():
  """And the more so the more segments there are; the claim of 2306.01693."""
  ratios = []
  for num_segments in (3, 12):
    plain, fine = (
      np.mean([updates_until_good(num_segments, x, seed) for seed in range(3)])
      for x in (False, True)
    )
    ratios.append(plain / fine)
  assert 1.1 < ratios[0] < 1.45 < ratios[1] < 2


def test_cut_rows():
  class Scored:
    def __init__(self, truncated):
      self.truncated = truncated

  mask = np.ones((3, 1), bool)
  np.testing.assert_array_equal(
    ppo.was_cut([Scored(True), Scored(False)], mask), [True, False, False]
  )


def test_the_loss_trains_both_roles(ppo_case):
  recipe, roles, batch, _ = ppo_case
  grad = jax.jit(jax.value_and_grad(recipe.loss, has_aux=True))
  (total, (metrics, _)), gradient = grad(dict(roles), batch)
  assert float(total) == pytest.approx(
    float(metrics['loss/policy'] + 0.5 * metrics['loss/value']), rel=1e-5
  )
  # At the values that it was made with the clip does nothing: squares / 2.
  squares = (batch['values'] - batch['returns']) ** 2 / 2
  np.testing.assert_allclose(
    metrics['loss/value'], (batch['weights'] * squares).sum(), rtol=1e-4
  )
  for role in ('solver', 'value'):
    assert any(np.any(g) for g in jax.tree.leaves(gradient[role])), role
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_packed_rows_give_the_same_loss(models, ppo_case):
  recipe, roles, batch, records = ppo_case
  # Two problems with two solutions each; 176 columns hold any of them.
  other = make_recipe(ppo, section(row_shapes=((2, 176),)), models, grade)
  packed, _ = other.collect(roles, PROBLEMS, jax.random.key(0))
  assert packed['tokens'].shape == (2, 176)
  assert packed['mask'].sum() == batch['mask'].sum()
  plain, expected = jax.jit(jax.value_and_grad(recipe.loss, has_aux=True))(
    dict(roles), batch
  )
  total, actual = jax.jit(jax.value_and_grad(other.loss, has_aux=True))(
    dict(roles), packed
  )
  # One number for each row; the rows differ.
  largest = [x[1][1].pop('policy/max_ratio_error') for x in (total, plain)]
  np.testing.assert_allclose(*map(np.max, largest), atol=1e-5)
  assert_trees_close(total, plain, atol=1e-5)
  assert_trees_close(actual, expected, atol=1e-5)


def test_the_value_model_needs_its_head():
  models = {'solver': nano(), 'value': nano()}
  with pytest.raises(ValueError, match="models.value: got head='lm'"):
    make_recipe(ppo, section(), models, grade)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(value_loss=dict(name='clip')), "mean 'clipped'"),
    (dict(value_loss=dict(name='clipped', clp=0.1)), "mean 'clip'"),
    (dict(discount=1.5), 'discount: got 1.5; expected at most 1'),
    (dict(lambda_=-0.1), 'lambda_: got -0.1'),
    (dict(value_coef=-1.0), 'value_coef: got -1.0'),
    (dict(objective=dict(name='ppo')), "got 'ppo'"),
    (dict(segment_rewards=dict(x=dict(name='y'))), "rewards.x: .*'weight'"),
  ],
)
def test_wrong_settings_fail_when_the_recipe_is_made(changes, message):
  models = {'solver': nano(), 'value': nano(head='value')}
  with pytest.raises(ValueError, match=message):
    make_recipe(ppo, section(**changes), models, grade)


def test_rewards_that_are_all_equal_are_no_signal(models, ppo_case):
  """A value function finds advantages even where every response was cut."""
  recipe, roles, batch, records = ppo_case
  metrics = {name: 0.1 for name in {*recipe.metrics, 'grad_norm'}}
  assert not alarms.missing_signal(batch, records, metrics)
  solver = scripted(lambda prompt, i: 'So ' * 1000)
  recipe = make_recipe(ppo, section(), {**models, 'solver': solver}, grade)
  batch, records = recipe.collect(roles, PROBLEMS, jax.random.key(0))
  assert batch['advantages'].any() and all(r.truncated for r in records)
  reason = alarms.missing_signal(batch, records, metrics)
  assert reason.startswith('the rewards of each group are equal')
