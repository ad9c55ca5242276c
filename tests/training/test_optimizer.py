import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from critic_jax.training import optimizer


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
  rates = [float(schedule_fn(step)) for step in range(20)]
  # Warm-up: 2 * (k + 1) / 5; the first update already moves.
  np.testing.assert_allclose(rates[:5], [0.4, 0.8, 1.2, 1.6, 2.0], rtol=1e-6)
  np.testing.assert_allclose(rates[9], middle, rtol=1e-6)
  np.testing.assert_allclose(rates[14:], end, rtol=1e-6)


def test_the_transform_follows_the_schedule():
  tx, schedule_fn = optimizer.make_optimizer(
    learning_rate=1.0, steps=5, schedule='linear'
  )
  params = {'w': jnp.zeros(1)}
  state = tx.init(params)
  for step in range(5):
    updates, state = tx.update({'w': jnp.ones(1)}, state, params)
    # A constant gradient: Adam's step is the learning rate.
    np.testing.assert_allclose(-updates['w'], schedule_fn(step), rtol=1e-4)


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

  start = jnp.zeros(2)
  (params, _), _ = jax.lax.scan(step, (start, tx.init(start)), length=100)
  np.testing.assert_allclose(params, target, atol=1e-2)


@pytest.mark.parametrize(
  'name, wrong',
  [
    ('schedule', 'cosin'),
    ('warmup_steps', 10),
    ('warmup_steps', -1),
    ('learning_rate', -1.0),
    ('learning_rate', math.nan),
    ('end_fraction', 1.5),
    ('max_grad_norm', 0.0),
  ],
)
def test_a_wrong_setting_is_named(name, wrong):
  settings = dict(learning_rate=1.0, steps=10) | {name: wrong}
  with pytest.raises(ValueError, match=f'^{name}: got {wrong!r}.*expected'):
    optimizer.make_optimizer(**settings)
