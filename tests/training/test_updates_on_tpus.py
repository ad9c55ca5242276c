"""Updates as libtpu compiles them: size, memory and seconds, by depth."""

import functools
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from helpers import tiny_config

from configs import refcritic
from critic_jax.models import forward, transformer
from critic_jax.models.transformer import Transformer
from critic_jax.plan import abstract, compiled, topology
from critic_jax.runtime import compilation, sharding
from critic_jax.training import optimizer, updates

pytestmark = [pytest.mark.libtpu, pytest.mark.slow]
ROWS, COLUMNS, MICROBATCHES = 2, 256, 2  # rows of a device and micro-batch
SHARDS = dict(fsdp=4, tensor=2)


@functools.cache
def small_update(num_layers, layers='scanned'):
  """Compiles the update of a model whose layers are more than its rest."""
  mesh = topology.make_mesh('v5e', SHARDS)
  config = tiny_config(
    'qwen2', embed_dim=512, mlp_dim=1024, num_heads=4, head_dim=128,
    num_layers=num_layers, dtype='bfloat16', remat='full', layers=layers,
    max_len=COLUMNS,
  )  # fmt: skip
  model = Transformer(config)
  tx, _ = optimizer.make_optimizer(learning_rate=1e-3, steps=10)
  boxed = transformer.abstract_params(model)
  params = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    nn.meta.unbox(boxed),
    sharding.param_shardings(boxed, mesh),
  )
  state = updates.abstract_state(tx, params, mesh)
  rows = ROWS * SHARDS['fsdp'] * MICROBATCHES
  layout = sharding.batch_sharding((rows, COLUMNS), mesh)
  batch = {
    name: jax.ShapeDtypeStruct((rows, COLUMNS), dtype, sharding=layout)
    for name, dtype in (('tokens', jnp.int32), ('weights', jnp.float32))
  }

  def loss(params, batch):
    logprobs = forward.token_logprobs(model, params, batch['tokens'])
    return -jnp.sum(logprobs * batch['weights']), ({}, {})

  with sharding.on_mesh_of(params):
    program = updates.update.lower(
      loss, tx, state, batch, microbatches=MICROBATCHES,
      layout=tuple(x.sharding for x in jax.tree.leaves(state)),
    ).compile()  # fmt: skip
  return program, abstract.device_bytes(params['layers'])


def test_the_program_does_not_grow_with_depth():
  shallow, deep = (small_update(n)[0].as_text() for n in (2, 6))
  assert len(deep.splitlines()) < 1.1 * len(shallow.splitlines())


def test_a_layer_keeps_its_input_and_its_gradients():
  (shallow, few), (deep, many) = small_update(2), small_update(6)
  temporaries = [
    x.memory_analysis().temp_size_in_bytes for x in (shallow, deep)
  ]
  residual = ROWS * COLUMNS * 512 * 2
  weights = (many - few) // 4
  # The sum of gradients in float32; in bfloat16 those of a micro-batch, and the
  # shards of weights. All layers' gathered weights would be 4 times these.
  expected = residual + weights + weights // 2 + weights // 2
  assert (temporaries[1] - temporaries[0]) / 4 < 1.1 * expected


def large_update(num_layers):
  """Compiles the longest update of the 14B model on v5p, with fewer layers.

  Returns:
    Seconds of one core, and GiB of a device's temporaries.
  """
  config = refcritic.get_config('qwen2.5-14b-v5p')
  mesh = topology.make_mesh('v5p', dict(fsdp=16, tensor=4))
  lms = {
    role: abstract.changed(lm, num_layers=num_layers)
    for role, lm in abstract.make_lms(config, 'tpu').items()
  }
  [*_, program] = (
    program
    for program in compiled.programs(
      'rl', config, lms, mesh, sample_sizes=dict(mesh.shape)
    )
    if program.kind == 'update'
  )
  start = time.process_time()
  with compilation.without_cache():
    memory = program.lower(lms).compile().memory_analysis()
  return time.process_time() - start, memory.temp_size_in_bytes / 2**30


def test_the_14b_model_compiles_as_fast_with_48_layers_as_with_4():
  (shallow_s, shallow), (deep_s, deep) = map(large_update, (4, 48))
  assert deep_s < 180 and deep_s < 1.3 * shallow_s
  # 0.2 of these are the residual stream.
  assert (deep - shallow) / 44 < 0.3
