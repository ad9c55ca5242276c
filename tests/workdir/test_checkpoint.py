import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_params, tiny_config

from critic_jax.models import layer_stack
from critic_jax.models.transformer import Transformer
from critic_jax.training.optimizer import make_optimizer
from critic_jax.workdir import checkpoint


def make_state(optimizer=None):
  """Makes what a run saves: two roles, one of them trained in bfloat16."""
  tx = optimizer or optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(1e-3)
  )
  critic, solver = (
    random_params(
      Transformer(tiny_config(num_layers=1, param_dtype=dtype)), seed
    )
    for seed, dtype in enumerate(('bfloat16', 'float32'))
  )
  opt_state = tx.init({'critic': critic})
  # No moment is 0, so that nothing can be mistaken for a fresh state.
  opt_state = jax.tree.map(lambda x: (x + 1.7).astype(x.dtype), opt_state)
  return {'roles': {'critic': critic, 'solver': solver}, 'opt_state': opt_state}


@pytest.fixture
def folder(tmp_path):
  with checkpoint.make_manager(tmp_path, keep=2) as manager:
    checkpoint.save(manager, 3, make_state())
  return tmp_path


def open_manager(folder):
  """Opens a manager that has saved nothing, as a new process would."""
  return checkpoint.make_manager(folder, keep=2)


def test_restored_bit_for_bit(folder):
  state = make_state()
  blank = jax.tree.map(jnp.zeros_like, state)
  with open_manager(folder) as manager:
    assert manager.latest_step() == 3
    restored = checkpoint.restore(manager, 3, blank)
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  for x, y in zip(
    jax.tree.leaves(restored), jax.tree.leaves(state), strict=True
  ):
    assert x.dtype == y.dtype and x.sharding == y.sharding
    np.testing.assert_array_equal(x, y)
  assert {str(x.dtype) for x in jax.tree.leaves(restored)} == {
    'bfloat16', 'float32', 'int32',
  }  # fmt: skip


def test_the_newest_and_the_named_are_kept(tmp_path):
  with checkpoint.make_manager(tmp_path, keep=2, always=(1,)) as manager:
    for step in (1, 2, 3, 4):
      checkpoint.save(manager, step, {'roles': {'x': jnp.full(2, step)}})
    assert sorted(manager.all_steps()) == [1, 3, 4]
    restored = checkpoint.restore(
      manager, 3, {'roles': {'x': jnp.zeros(2, int)}}
    )
    np.testing.assert_array_equal(restored['roles']['x'], [3, 3])


def test_roles_are_restored_alone(folder):
  roles = make_state()['roles']
  with open_manager(folder) as manager:
    restored = checkpoint.restore(manager, 3, {'roles': roles})
  assert list(restored) == ['roles']
  jax.tree.map(np.testing.assert_array_equal, restored['roles'], roles)


@pytest.mark.parametrize('saved', [layer_stack.unstack, layer_stack.stack])
def test_either_form_of_layers_is_read_as_the_other(tmp_path, saved):
  wanted = {layer_stack.unstack: layer_stack.stack}.get(
    saved, layer_stack.unstack
  )
  tx, _ = make_optimizer(
    learning_rate=1e-3, steps=3
  )  # has nodes without leaves
  state = make_state(tx)
  state['before'] = {'critic': state['roles'].pop('solver')}
  state['opt_state'] = tx.init(state['before'])
  with checkpoint.make_manager(tmp_path) as manager:
    checkpoint.save(manager, 1, saved(state))
  expected = wanted(state)
  with open_manager(tmp_path) as manager:
    restored = checkpoint.restore(
      manager, 1, jax.tree.map(jnp.zeros_like, expected)
    )
  assert jax.tree.structure(restored) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, restored, expected)


def other_shape(state):
  kernel = state['roles']['critic']['layers_0']['mlp']['up']
  kernel['kernel'] = jnp.zeros((32, 96), jnp.bfloat16)
  return state


def other_dtype(state):
  norm = state['roles']['solver']['final_norm']
  norm['scale'] = norm['scale'].astype(jnp.bfloat16)
  return state


def other_role(state):
  state['roles']['value'] = state['roles'].pop('solver')
  return state


def other_optimizer(state):
  return make_state(optax.sgd(1e-3, momentum=0.9))


@pytest.mark.parametrize(
  ('change', 'difference'),
  [
    (
      other_shape,
      'roles/critic/layers_0/mlp/up/kernel is bfloat16[32, 64], not '
      'bfloat16[32, 96]',
    ),
    (
      other_dtype,
      'roles/solver/final_norm/scale is float32[32], not bfloat16[32]',
    ),
    (
      other_role,
      'roles/solver/embed/embedding is float32[64, 32], not nothing',
    ),
    (other_optimizer, 'opt_state/'),
  ],
)
def test_another_form_is_one_clear_error(folder, change, difference, capfd):
  with open_manager(folder) as manager:
    with pytest.raises(ValueError, match=re.escape(difference)) as error:
      checkpoint.restore(manager, 3, change(make_state()))
  message = str(error.value)
  assert message.startswith(f'{folder}/3: got a checkpoint that does not fit')
  assert message.endswith(
    'expected one of this config; start in another workdir'
  )
  assert '\n' not in message
  assert 'Traceback' not in capfd.readouterr().err


def test_a_step_without_a_checkpoint(folder):
  with open_manager(folder) as manager:
    with pytest.raises(
      ValueError, match='/4: got no checkpoint; expected one of .3.'
    ):
      checkpoint.restore(manager, 4, make_state())
