"""Small updates of parameters in bfloat16: none is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_trees_close, log_compilations
from loop_helpers import mesh

from critic_jax.runtime import sharding
from critic_jax.training import bfloat16_updates, optimizer, updates

HOW = 'masters', 'stochastic'
SIZE = 20_000


def draw(dtype='bfloat16'):
  """Draws parameters of a role as large as a model's, and its gradient."""
  random = np.random.default_rng(0)
  params = jnp.asarray(random.normal(0.0, 0.05, SIZE), 'bfloat16')
  return params.astype(dtype), random.normal(size=SIZE).astype(np.float32)


def train(tx, params, gradient, steps=30):
  """Returns parameters and optimiser after steps along one gradient."""

  def step(carry, _):
    params, state = carry
    changes, state = tx.update({'w': gradient}, state, params)
    return (optax.apply_updates(params, changes), state), None

  def run(params):
    return jax.lax.scan(step, (params, tx.init(params)), length=steps)[0]

  params, state = jax.jit(run)({'w': params})
  return params['w'], state


def adamw(how='masters', **settings):
  settings = dict(learning_rate=1e-6, steps=30, bfloat16=how) | settings
  return optimizer.make_optimizer(**settings)[0]


def share_moved(new, old):
  return float(np.mean(np.asarray(new, np.float32) != np.float32(old)))


def test_plain_adamw_in_bfloat16_moves_nearly_nothing():
  """The fault that the transforms are for, as tests here would see it."""
  params, gradient = draw()
  gradient = jnp.asarray(gradient, jnp.bfloat16)
  moved, _ = train(optax.adamw(1e-6), params, gradient)
  assert share_moved(moved, params) < 0.02


def test_masters_are_what_float32_would_be():
  params, gradient = draw()
  expected, _ = train(adamw(), params.astype(jnp.float32), gradient)
  moved, state = train(adamw(), params, gradient)
  np.testing.assert_array_equal(state.masters['w'], expected)
  np.testing.assert_array_equal(moved, expected.astype(jnp.bfloat16))
  assert share_moved(state.masters['w'], params) > 0.99
  assert share_moved(moved, params) > 0.05  # those that crossed a boundary
  moments = jax.tree.leaves(state.inner)
  assert all(x.dtype in (jnp.float32, jnp.int32) for x in moments)


def test_stochastic_rounding_moves_as_much_on_average():
  params, gradient = draw()
  exact, _ = train(adamw(), params.astype(jnp.float32), gradient)
  moved, _ = train(adamw('stochastic'), params, gradient)
  assert moved.dtype == jnp.bfloat16
  change = np.float32(moved) - np.float32(params)
  # Along the sign of the gradient: all moved one way by about 3e-5.
  along = -np.sign(gradient) * change
  error = 4 * np.std(along) / SIZE**0.5
  expected = -np.sign(gradient) * (exact - np.float32(params))
  assert abs(np.mean(along) - np.mean(expected)) < error < 5e-6
  assert 0.05 < share_moved(moved, params) < 1


@pytest.mark.parametrize('how', HOW)
def test_float32_is_updated_as_without_and_has_no_copy(how):
  params, gradient = draw('float32')
  plain = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(optax.constant_schedule(1e-6), 0.9, 0.95, weight_decay=0),
  )
  expected, plain_state = train(plain, params, gradient)
  moved, state = train(adamw(how), params, gradient)
  np.testing.assert_array_equal(moved, expected)
  num_extra = len(jax.tree.leaves(state)) - len(jax.tree.leaves(plain_state))
  assert num_extra == (how == 'stochastic')  # its count


def test_rounding_is_without_bias_and_exact_where_it_can_be():
  neighbours = np.float32([1.0, 1.0078125])  # 1 and 1 + 1/128
  x = np.repeat(np.float32([1, 1.001953125, -1.005859375]), SIZE)
  rounded = bfloat16_updates.round_stochastically(x, jax.random.key(0))
  rounded = np.asarray(rounded, np.float32).reshape(3, SIZE)
  assert np.all(rounded[0] == 1)
  assert set(np.unique(rounded[1])) == set(neighbours)
  assert set(np.unique(rounded[2])) == set(-neighbours)
  # A quarter and three quarters of the way; 4 standard errors.
  for row, share in ((rounded[1], 0.25), (rounded[2], 0.75)):
    assert np.mean(np.abs(row) > 1) == pytest.approx(share, abs=0.013)


def test_rounding_of_extremes():
  x = np.float32([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-45, 3.4e38])
  for seed in range(3):
    rounded = bfloat16_updates.round_stochastically(x, jax.random.key(seed))
    rounded = np.asarray(rounded, np.float32)
    np.testing.assert_array_equal(rounded[:5], x[:5])
    assert rounded[5] in (0.0, 2.0**-133)
    assert rounded[6] > 3.3e38


def toy_loss(params, batch):
  """Has the gradient `sum(x)` for each parameter."""
  total = sum(jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(params))
  return jnp.sum(batch['x']) * total, ({}, {})


def roles():
  return {
    'solver': {'w': jnp.full((4, 2), 0.05, jnp.bfloat16)},
    'value': {'w': jnp.full((2,), 0.05, jnp.float32)},
  }


@pytest.mark.parametrize('how', HOW)
def test_roles_of_both_dtypes_on_a_mesh(how):
  """One program, donated; the same updates however often it is stopped."""
  tx = adamw(how)
  params = jax.device_put(roles(), sharding.replicated(mesh()))
  state = updates.init_state(tx, params, mesh())
  for leaf in jax.tree.leaves(state):
    assert leaf.sharding.mesh == mesh()
  batch = {'tokens': np.zeros((2, 1)), 'x': np.ones((2, 1), np.float32)}
  for step in range(3):
    given = state
    with log_compilations() as compiled:
      state, (metrics, _) = updates.update(toy_loss, tx, given, batch)
    assert bool(compiled) == (step == 0) and not metrics['update/skipped']
    assert all(x.is_deleted() for x in jax.tree.leaves(given))
  saved = jax.device_get(state)
  state, _ = updates.update(toy_loss, tx, state, batch)
  put = jax.tree.map(lambda x, y: jax.device_put(x, y.sharding), saved, state)
  again, _ = updates.update(toy_loss, tx, put, batch)
  assert_trees_close(again, state, rtol=0)
  # A number that is not finite changes neither masters nor random bits.
  before = jax.device_get(state)
  batch['x'] = np.float32([[np.nan], [1]])
  state, (metrics, _) = updates.update(toy_loss, tx, state, batch)
  assert metrics['update/skipped']
  assert_trees_close(state._replace(step=0), before._replace(step=0), rtol=0)


def test_gradients_of_micro_batches_are_summed_in_float32():
  params = {'w': jnp.ones(1, jnp.bfloat16)}
  tx = adamw()
  state = updates.TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
  # In bfloat16 256 + 1 is 256.
  batch = {'tokens': np.zeros((8, 1)), 'x': np.ones((8, 1), np.float32)}
  batch['x'][0] = 256
  _, (metrics, _) = updates.update(toy_loss, tx, state, batch, microbatches=8)
  assert float(metrics['grad_norm']) == 263
