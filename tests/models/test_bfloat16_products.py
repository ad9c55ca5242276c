"""Products of a model in bfloat16 have no operand in float32.

Most tests read the program before a compiler sees it, and so hold for every
platform; the last ones read what the compiler of TPUs makes of it.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_config

from critic_jax.models import forward, transformer
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.plan import hlo, topology
from critic_jax.runtime import sharding
from critic_jax.sampling import scheduler
from critic_jax.training import optimizer, updates

PRODUCT = re.compile(
  r'stablehlo\.(?:dot_general|dot|convolution)\b.*'
  r': \(tensor<([^>]*)>, tensor<([^>]*)>\)'
)


def products(lowered) -> list[tuple[str, str]]:
  """Returns the dtypes of the operands of each product."""
  return [
    tuple(shape.rpartition('x')[2] for shape in match.groups())
    for match in PRODUCT.finditer(lowered.as_text())
  ]


def in_bfloat16(family, param_dtype, **changes):
  return Transformer(
    tiny_config(
      family,
      dtype='bfloat16',
      param_dtype=param_dtype,
      num_layers=1,
      max_len=1024,
      **changes,
    )
  )


def on_one_device():
  return sharding.make_mesh({'data': 1}, jax.devices()[:1])


def shapes_of(model, mesh):
  return sharding.param_forms(transformer.abstract_params(model), mesh)


def lowered_update(models, length, packed, mesh):
  """Lowers an update of a policy, and of values where a model has them."""
  params = {role: shapes_of(model, mesh) for role, model in models.items()}
  batch = {
    name: jax.ShapeDtypeStruct((2, length), jnp.int32)
    for name in ('tokens', *(forward.Layout._fields if packed else ()))
  }

  def loss(params, batch):
    layout = forward.layout(batch)
    tokens = batch['tokens']
    total = sum(
      jnp.sum(
        forward.token_values(models[role], params[role], tokens, layout=layout)
        if role == 'value'
        else forward.token_logprobs(
          models[role], params[role], tokens, layout=layout
        )
      )
      for role in models
    )
    return total, ({}, {})

  tx, _ = optimizer.make_optimizer(learning_rate=1.0, steps=1)
  state = updates.abstract_state(tx, params, mesh)
  with sharding.on_mesh_of(params):
    return updates.update.lower(loss, tx, state, batch)


@pytest.mark.parametrize(
  ('family', 'param_dtype', 'length', 'packed'),
  [
    ('llama', 'float32', 16, False),
    ('qwen2', 'bfloat16', 16, True),
    ('qwen3', 'float32', 512, True),
  ],
)
def test_an_update_multiplies_bfloat16(family, param_dtype, length, packed):
  models = {
    'critic': in_bfloat16(family, param_dtype, tie_embeddings=length == 16),
    'value': in_bfloat16(family, param_dtype, head='value'),
  }
  lowered = lowered_update(models, length, packed, on_one_device())
  operands = products(lowered)
  assert len(operands) > 40
  assert set(operands) == {('bf16', 'bf16')}


@pytest.mark.parametrize(
  ('family', 'param_dtype'), [('llama', 'float32'), ('qwen2', 'bfloat16')]
)
def test_sampling_multiplies_bfloat16(family, param_dtype):
  model = in_bfloat16(family, param_dtype, tie_embeddings=family != 'llama')
  programs = scheduler.lowered(
    model,
    shapes_of(model, on_one_device()),
    jax.random.split(jax.random.key(0), 8),
    512,
    eos=np.array([1], np.int32),
    sampling_params=SamplingParams(top_p=0.9),
    num_samples=2,
    max_new_tokens=8,
    num_lanes=16,
    num_rows=2,
  )
  assert set(programs) == {'insert', 'insert behind prefixes', 'decode'}
  for program in programs.values():
    operands = products(program)
    assert len(operands) >= 10
    assert set(operands) == {('bf16', 'bf16')}


def test_a_product_in_float32_is_seen():
  def mixed(x, y):
    return jnp.sum(jnp.dot(x, y, preferred_element_type=jnp.float32))

  x = jnp.ones((2, 2), jnp.bfloat16)
  [operands] = products(jax.jit(jax.grad(mixed)).lower(x, x))
  assert 'f32' in operands


@pytest.mark.libtpu
@pytest.mark.parametrize(
  'family',
  [
    'qwen3',
    pytest.param('qwen2', marks=pytest.mark.slow),
    pytest.param('llama', marks=pytest.mark.slow),
  ],
)
def test_a_tpu_multiplies_bfloat16_in_an_update(family):
  mesh = topology.make_mesh('v5e', {'fsdp': 4, 'tensor': 2})
  models = {
    'critic': in_bfloat16(family, 'float32', tie_embeddings=family != 'llama'),
    'value': in_bfloat16(family, 'float32', head='value'),
  }
  lowered = lowered_update(models, 256, True, mesh)
  compiled = hlo.read(lowered.compile().as_text())
  assert len(compiled.products) > 20
  assert not [x for x in compiled.products if x.operands != ('bf16', 'bf16')]


@pytest.mark.libtpu
def test_a_tpu_multiplies_bfloat16_in_decoding():
  mesh = topology.make_mesh('v5e', {'data': 2, 'tensor': 2})
  model = in_bfloat16('qwen3', 'float32')
  params = shapes_of(model, mesh)
  lowered = scheduler.lowered(
    model, params, jax.random.split(jax.random.key(0), 4), 128,
    eos=np.array([1], np.int32), sampling_params=SamplingParams(),
    num_samples=2, max_new_tokens=8, num_lanes=4, num_rows=2,
  )['decode']  # fmt: skip
  compiled = hlo.read(lowered.compile().as_text())
  assert len(compiled.products) >= 8
  assert not [x for x in compiled.products if x.operands != ('bf16', 'bf16')]
