"""The worker of critic_jax itself, as worker.py describes it."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.models import forward, transformer
from critic_jax.models.config import (
  AUTO,
  TransformerConfig,
  attention_program,
  concrete,
)
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.plan import topology
from critic_jax.runtime import compilation, sharding
from critic_jax.sampling import scheduler
from critic_jax.training import optimizer, updates

MAX_ROWS = 128  # rows that decode together


def generate(
  model: Transformer,
  params,
  prompts: list[list[int]],
  num_samples: int,
  max_new_tokens: int,
  key: jax.Array,
) -> list[list[int]]:
  """Samples at temperature 1 from the whole vocabulary, without an end.

  Args:
    model: a transformer.
    params: its parameters.
    prompts: token lists of one length.
    num_samples: responses to each prompt.
    max_new_tokens: tokens of each response.
    key: consumed.

  Returns:
    len(prompts) * num_samples token lists, those of a prompt adjacent.
  """
  size = 1 << (len(prompts) - 1).bit_length()
  num_lanes = min(size, 2 ** int(math.log2(max(1, MAX_ROWS // num_samples))))
  sampled = scheduler.run(
    model,
    params,
    dict(enumerate(prompts)),
    jax.random.split(key, size),
    eos=np.array([-1], np.int32),  # no token is -1: nothing ends a response
    sampling_params=SamplingParams(),
    num_samples=num_samples,
    max_new_tokens=max_new_tokens,
    columns=-(-max(map(len, prompts)) // 64) * 64,
    num_lanes=num_lanes,
    num_rows=num_samples,
  )
  return [
    row.tolist() for i in range(len(prompts)) for row in sampled[i].tokens
  ]


def cross_entropy(model: Transformer, params, batch):
  """Returns the weighted cross-entropy of a batch's tokens, without metrics."""
  logprobs = forward.token_logprobs(model, params, batch['tokens'])
  return -jnp.sum(logprobs * batch['weights']), ({}, {})


def make_update(model: Transformer, params):
  """Makes a step of AdamW on the cross-entropy of all tokens.

  Args:
    model: a transformer.
    params: its parameters; given up.

  Returns:
    `update(rows) -> loss`, and `facts() -> {'compiled_bytes': ...}`.
  """
  tx, _ = optimizer.make_optimizer(
    learning_rate=1e-5, steps=1000, max_grad_norm=float('inf')
  )
  loss = functools.partial(cross_entropy, model)
  mesh = sharding.make_mesh({'data': 1})
  params = jax.device_put(params, sharding.replicated(mesh))
  state = updates.init_state(tx, params, mesh)
  compiled = None

  def update(rows: list[list[int]]) -> float:
    nonlocal state, compiled
    tokens = np.asarray(rows, np.int32)
    weights = np.full(tokens.shape, 1 / tokens[:, 1:].size, np.float32)
    batch = sharding.put_batch({'tokens': tokens, 'weights': weights}, mesh)
    if compiled is None:
      compiled = updates.update.lower(loss, tx, state, batch).compile()
    state, (sums, _) = compiled(state, batch)
    jax.block_until_ready(state)
    return float(sums['loss/total'])

  return update, lambda: {'compiled_bytes': compiled_bytes(compiled)}


def compiled_bytes(compiled) -> int:
  """Returns the bytes of a program: inputs, results and temporaries."""
  memory = compiled.memory_analysis()
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
  )


def prepare(setup, by_stages):
  """Makes the functions of a worker, as worker.py describes them."""
  work, dtype = setup['work'], setup['dtype']
  param_dtype = dtype if work['stages'] else 'float32'
  config = TransformerConfig(
    **{**setup['model'], 'dtype': dtype, 'param_dtype': param_dtype}
  )
  model, key = Transformer(config), jax.random.key(setup['seed'])
  init = jax.jit(functools.partial(transformer.init_params, model))
  worker = {'versions': {'jax': jax.__version__}}
  if not work['stages']:
    update, facts = make_update(model, init(key))
    return {**worker, 'update': update, 'facts': facts}
  roles = sorted({stage['role'] for stage in work['stages']})
  params = {
    role: init(jax.random.fold_in(key, number))
    for number, role in enumerate(roles)
  }

  def one_stage(role, prompts, samples, new, seed):
    key = jax.random.key(seed)
    return generate(model, params[role], prompts, samples, new, key)

  def sample_tree(prompts, seed):
    return by_stages(work, prompts, one_stage, seed)

  return {**worker, 'sample': sample_tree}


def lower(setup):
  """Lowers an update for a topology, as worker.py describes it.

  Gradients are clipped, as MaxText's are; Tunix's are not.
  """
  chip, sides = setup['topology'].split(':')
  mesh = topology.make_mesh(chip, setup['mesh'], sides)
  platform = compilation.platform(mesh)
  settings = concrete(dict.fromkeys(AUTO, 'auto'), platform)
  config = TransformerConfig(
    **{**setup['model'], 'dtype': setup['dtype'], 'remat': 'full', **settings}
  )
  program, _ = attention_program('auto', platform, config)
  config = dataclasses.replace(config, attention=program)
  model = Transformer(config)
  params = sharding.param_forms(transformer.abstract_params(model), mesh)
  tx, _ = optimizer.make_optimizer(learning_rate=1e-5, steps=1000)
  state = updates.abstract_state(tx, params, mesh)
  shape = setup['work']['rows'], setup['work']['prompt']
  layout = sharding.batch_sharding(shape, mesh)
  batch = {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=layout)
    for name, dtype in (('tokens', jnp.int32), ('weights', jnp.float32))
  }
  loss = functools.partial(cross_entropy, model)
  shardings = tuple(x.sharding for x in jax.tree.leaves(state))
  with sharding.on_mesh_of(params):
    call = functools.partial(updates.update.__wrapped__, loss, tx)
    return {
      'versions': {'jax': jax.__version__},
      'jaxpr': jax.make_jaxpr(call)(state, batch),
      'lowered': updates.update.lower(loss, tx, state, batch, layout=shardings),
    }
