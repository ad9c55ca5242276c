"""Runs in bfloat16: what they learn is kept, in the run and in its folder."""

import jax
import numpy as np
import pytest
from loop_helpers import mesh
from run_helpers import assert_same, last_checkpoint, run

from configs import refcritic
from critic_jax.training import roles


def bfloat16_config(steps=30, how='masters'):
  """Configures imitation in bfloat16 at a learning rate of 1e-6."""
  config = refcritic.get_config('tiny')
  config.order, config.evals = ('solver',), {}
  config.phases = {'solver': config.phases.solver}
  config.models = {'solver': config.models.solver}
  config.models.solver.update(dict(dtype='bfloat16', param_dtype='bfloat16'))
  section = config.phases.solver
  section.steps, section.checkpoint_every = steps, steps
  section.records_every = 1
  section.optimizer.update(
    dict(learning_rate=1e-6, schedule='constant', bfloat16=how)
  )
  return config


def start(config):
  """Returns the parameters that a run of the config begins with."""
  lms = roles.make_lms(config.models)
  key = jax.random.fold_in(jax.random.key(config.seed), 0)
  return roles.init_params(lms, {}, mesh(), key)


def share_moved(tree, before):
  """Returns the share of numbers that differ, in float32."""
  pairs = zip(*map(jax.tree.leaves, (tree, before)), strict=True)
  moved = [np.ravel(np.float32(x) != np.float32(y)) for x, y in pairs]
  return np.mean(np.concatenate(moved))


def test_thirty_steps_at_a_small_rate_move_nearly_all_parameters(tmp_path):
  """The parameters that are trained; their copy in bfloat16 moves less."""
  config = bfloat16_config()
  run(config, tmp_path)
  step, saved = last_checkpoint(tmp_path)
  assert step == 30
  masters = saved['opt_state']['masters']
  assert share_moved(masters, start(config)) > 0.99
  for x, master in zip(
    *map(jax.tree.leaves, (saved['roles'], masters)), strict=True
  ):
    assert x.dtype == 'bfloat16' and master.dtype == 'float32'
    np.testing.assert_array_equal(x, master.astype(x.dtype))


@pytest.mark.slow
@pytest.mark.parametrize('how', ['masters', 'stochastic'])
def test_a_run_in_bfloat16_goes_on_as_if_it_had_not_been_stopped(how, tmp_path):
  run(bfloat16_config(6, how), tmp_path / 'whole')
  run(bfloat16_config(3, how), tmp_path / 'stopped')
  run(bfloat16_config(6, how), tmp_path / 'stopped')
  assert_same(tmp_path / 'whole', tmp_path / 'stopped')
  _, saved = last_checkpoint(tmp_path / 'whole')
  assert share_moved(saved['roles'], start(bfloat16_config())) > 0.005
