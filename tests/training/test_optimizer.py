import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_trees_close
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec
from loop_helpers import mesh

from critic_jax.models import layer_stack
from critic_jax.runtime import sharding
from critic_jax.training import optimizer, updates
from critic_jax.workdir import checkpoint


def roles():
  return {
    'critic': {
      'block': {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)},
      'final_norm': {'scale': jnp.ones(3)},
      # Layers stacked by a scan: vectors look like matrices.
      'layers': {
        'attention_norm': {'scale': jnp.ones((4, 3))},
        'out': {'kernel': jnp.ones((4, 3, 3)), 'bias': jnp.ones((4, 3))},
      },
    },
    'value': {'head': {'kernel': jnp.ones((3, 1))}},
  }


def first_update(gradients, params, **settings):
  settings = dict(learning_rate=0.1, steps=10) | settings
  tx, _ = optimizer.make_optimizer(**settings)
  update = jax.jit(lambda g, p: tx.update(g, tx.init(p), p)[0])
  return update(gradients, params)


def test_weight_decay_is_of_matrices_only():
  """Whatever the role is called."""
  params = {'normal_critic': roles()['critic'], 'bias': roles()['value']}
  zero = jax.tree.map(jnp.zeros_like, params)
  updates = first_update(zero, params, weight_decay=0.5)
  decayed = {
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, update in jax.tree_util.tree_leaves_with_path(updates)
    if np.any(update)
  }
  assert decayed == {
    'normal_critic/block/kernel',
    'normal_critic/layers/out/kernel',
    'bias/head/kernel',
  }
  # -learning_rate * weight_decay * 1.
  np.testing.assert_allclose(
    updates['bias']['head']['kernel'], -0.1 * 0.5, rtol=1e-6
  )


def test_first_update_by_hand():
  # Adam's first step is -learning_rate * sign(gradient).
  params = {'w': jnp.zeros(2)}
  updates = first_update({'w': jnp.array([0.3, -0.2])}, params)
  np.testing.assert_allclose(updates['w'], [-0.1, 0.1], rtol=1e-5)


def test_the_norm_that_is_clipped_is_of_all_roles():
  # Norm 5 over both roles, clipped to 1: (3, 4) / 5. A large eps makes Adam's
  # first step nearly proportional to the clipped gradient.
  params = {'critic': jnp.zeros(1), 'value': jnp.zeros(1)}
  gradients = {'critic': jnp.array([3.0]), 'value': jnp.array([4.0])}
  updates = first_update(
    gradients, params, learning_rate=1e4, eps=1e4, max_grad_norm=1.0
  )
  np.testing.assert_allclose(updates['critic'], [-0.6], rtol=1e-3)
  np.testing.assert_allclose(updates['value'], [-0.8], rtol=1e-3)
  updates = first_update(
    gradients, params, learning_rate=1e4, eps=1e4, max_grad_norm=math.inf
  )
  np.testing.assert_allclose(updates['value'], [-4.0], rtol=1e-3)


@pytest.mark.parametrize(
  'schedule, middle, end',
  [('constant', 2.0, 2.0), ('linear', 1.1, 0.2), ('cosine', 1.1, 0.2)],
)
def test_schedules(schedule, middle, end):
  _, schedule_fn = optimizer.make_optimizer(
    learning_rate=2.0,
    steps=14,
    warmup_steps=4,
    schedule=schedule,
    end_fraction=0.1,
  )
  rates = np.asarray(jax.jit(jax.vmap(schedule_fn))(np.arange(20)))
  # Warm-up: 2 * (k + 1) / 5; the first update already moves.
  np.testing.assert_allclose(rates[:5], [0.4, 0.8, 1.2, 1.6, 2.0], rtol=1e-6)
  np.testing.assert_allclose(rates[9], middle, rtol=1e-6)
  np.testing.assert_allclose(rates[14:], end, rtol=1e-6)


def test_the_transform_follows_the_schedule():
  tx, schedule_fn = optimizer.make_optimizer(
    learning_rate=1.0, steps=5, schedule='linear'
  )
  params = {'w': np.zeros(1, np.float32)}
  state, update = jax.jit(tx.init)(params), jax.jit(tx.update)
  rates = np.asarray(jax.jit(jax.vmap(schedule_fn))(np.arange(5)))
  for step in range(5):
    updates, state = update({'w': np.ones(1, np.float32)}, state, params)
    # A constant gradient: Adam's step is the learning rate.
    np.testing.assert_allclose(-updates['w'], rates[step], rtol=1e-4)


def test_it_finds_a_minimum():
  target = jnp.array([1.0, -2.0])
  tx, _ = optimizer.make_optimizer(
    learning_rate=0.2, steps=100, warmup_steps=5, schedule='cosine'
  )

  def step(carry, _):
    params, state = carry
    gradients = jax.grad(lambda w: jnp.sum((w - target) ** 2))(params)
    updates, state = tx.update(gradients, state, params)
    return (optax.apply_updates(params, updates), state), None

  @jax.jit
  def minimum(start):
    return jax.lax.scan(step, (start, tx.init(start)), length=100)[0][0]

  params = minimum(jnp.zeros(2))
  np.testing.assert_allclose(params, target, atol=1e-2)


@pytest.mark.parametrize(
  'name, wrong',
  [
    ('name', 'adam'),
    ('schedule', 'cosin'),
    ('warmup_steps', 10),
    ('warmup_steps', -1),
    ('learning_rate', -1.0),
    ('learning_rate', math.nan),
    ('end_fraction', 1.5),
    ('max_grad_norm', 0.0),
    ('adam_fraction', 0.25),  # of AdamW, which has one rate for all
  ],
)
def test_a_wrong_setting_is_named(name, wrong):
  settings = dict(learning_rate=1.0, steps=10) | {name: wrong}
  with pytest.raises(ValueError, match=f'^{name}: got {wrong!r}.*expected'):
    optimizer.make_optimizer(**settings)


# --------------------------------------------------- other optimisers

OTHERS = 'adafactor', 'muon'


def matrices(*shape, scale=1.0):
  """Returns the attention of two layers, an embedding and a norm."""
  random = np.random.default_rng(0)
  d, h, k = shape or (8, 2, 3)

  def draw(*shape):
    return {'kernel': jnp.asarray(scale * random.normal(size=shape), 'float32')}

  return {
    'embed': {'embedding': draw(16, d)['kernel']},
    'final_norm': {'scale': draw(d)['kernel']},
    'lm_head': draw(d, 16),
  } | {
    f'layers_{i}': {'attention': {'q': draw(d, h, k), 'o': draw(h, k, d)}}
    for i in range(2)
  }


@pytest.mark.parametrize('name', OTHERS)
def test_other_optimisers_learn_and_go_on_as_they_were(name, tmp_path):
  """They find a minimum; a state that was saved is the state."""
  tx, _ = optimizer.make_optimizer(
    learning_rate=0.5, steps=60, schedule='linear', name=name
  )
  target, params = {'critic': matrices()}, {'critic': matrices(scale=0.0)}

  @jax.jit
  def loss(params):
    return optax.tree.norm(optax.tree.sub(params, target), squared=True)

  @jax.jit
  def step(state):
    changes, opt_state = tx.update(
      jax.grad(loss)(state.params), state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, changes)
    return updates.TrainState(state.step + 1, params, opt_state)

  state = updates.init_state(tx, params, mesh())
  for _ in range(30):
    state = step(state)
  items = {'roles': state.params, 'opt_state': state.opt_state}
  with checkpoint.make_manager(tmp_path) as manager:
    checkpoint.save(manager, 30, items)
    checkpoint.wait(manager)
    items = checkpoint.restore(manager, 30, items)
  again = updates.TrainState(state.step, items['roles'], items['opt_state'])
  for _ in range(30):
    state, again = step(state), step(again)
  assert_trees_close(again, state, rtol=0)
  assert loss(state.params) < 1e-2 * loss(params)


@pytest.mark.parametrize('name', OTHERS)
def test_changes_are_as_large_as_the_learning_rate(name):
  params = matrices(256, 2, 128)
  changes = first_update(params, params, name=name, max_grad_norm=math.inf)
  for path, x in jax.tree_util.tree_leaves_with_path(changes):
    size = np.sqrt(np.mean(np.square(x)))
    low = 0.01 if name == 'muon' and path[-1].key == 'kernel' else 0.09
    assert low < size < (0.15 if name == 'muon' else 0.11), path


def test_muons_changes_are_orthogonal_matrices_of_each_layer():
  params = matrices()
  changes = first_update(params, params, name='muon')
  q = changes['layers_1']['attention']['q']['kernel'].reshape(8, 6)
  o = changes['layers_0']['attention']['o']['kernel'].reshape(6, 8)
  for matrix in (q, o):
    values = np.linalg.svd(matrix, compute_uv=False)
    assert values.max() / values.min() < 1.8  # the others' is over 3
  for name in ('q', 'o'):
    kernel = params['layers_0']['attention'][name]['kernel']
    values = np.linalg.svd(kernel.reshape(8, 6), compute_uv=False)
    assert values.max() / values.min() > 2
  # Embeddings and heads are Adam's: the sign, times a number.
  for part in (changes['embed']['embedding'], changes['lm_head']['kernel']):
    np.testing.assert_allclose(np.abs(part), 0.1474, rtol=1e-3)
  stacked = layer_stack.stack(params)
  assert_trees_close(
    layer_stack.unstack(first_update(stacked, stacked, name='muon')),
    changes, atol=1e-5,
  )  # fmt: skip


def test_muon_leaves_to_adam_what_learns_at_a_rate_of_its_own():
  """In each step of the schedule, and matrices are as they were."""
  params = matrices()

  def changes(**settings):
    tx, _ = optimizer.make_optimizer(
      learning_rate=0.1, steps=10, schedule='linear', name='muon', **settings
    )
    update = jax.jit(tx.update)
    _, state = update(params, tx.init(params), params)
    return update(params, state, params)[0]

  for path, ratio in jax.tree_util.tree_leaves_with_path(
    jax.tree.map(np.divide, changes(adam_fraction=0.25), changes())
  ):
    is_muons = path[0].key.startswith('layers')
    np.testing.assert_allclose(ratio, 1 if is_muons else 0.25, rtol=1e-5)


def test_adafactor_knows_squares_by_rows_and_columns():
  """Exactly those of a product of both: the change is the sign."""
  rows, columns = np.random.default_rng(0).normal(size=(2, 128))
  params = {'kernel': jnp.zeros((128, 128))}
  gradient = {'kernel': jnp.asarray(np.outer(rows, columns), 'float32')}
  change = first_update(gradient, params, name='adafactor')['kernel']
  np.testing.assert_allclose(change, -0.1 * np.sign(gradient['kernel']), 1e-3)


@pytest.mark.parametrize('name', OTHERS)
def test_states_are_sharded_as_their_parameters(name):
  devices = AbstractMesh((1, 2, 4, 1), sharding.AXES)
  tx, _ = optimizer.make_optimizer(
    learning_rate=0.1, steps=9, name=name, b1=0.0
  )
  kernel = jax.ShapeDtypeStruct(
    (3, 128, 4, 160), jnp.float32,
    sharding=NamedSharding(devices, PartitionSpec(None, 'fsdp', 'tensor')),
  )  # fmt: skip
  params = {'critic': {'layers': {'attention': {'q': {'kernel': kernel}}}}}
  state = updates.abstract_state(tx, params, devices)
  specs = {
    x.shape: tuple(x.sharding.spec)
    for x in jax.tree.leaves(state.opt_state)
    if x.ndim > 1
  }
  assert specs == (
    {kernel.shape: (None, 'fsdp', 'tensor')}
    if name == 'muon'
    else {(3, 128, 4): (None, 'fsdp', 'tensor'), (3, 4, 160): (None, 'tensor')}
  )
