"""Products of a model in bfloat16 have no operand in float32.

What is read is the program before a compiler sees it, so that the test holds
for every platform; tests/plan has the like of what compilers for chips make.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import FAMILIES, tiny_config

from critic_jax.models import forward, transformer
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.runtime import sharding
from critic_jax.sampling import scheduler
from critic_jax.training import optimizer, updates

PRODUCT = re.compile(
  r'stablehlo\.(?:dot_general|dot|convolution)\b.*'
  r': \(tensor<([^>]*)>, tensor<([^>]*)>\)'
)
PARAM_DTYPES = pytest.mark.parametrize('param_dtype', ['float32', 'bfloat16'])


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


def shapes_of(model, mesh):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=sharding.replicated(mesh)
    ),
    jax.eval_shape(lambda key: transformer.init_params(model, key),
                   jax.random.key(0)),
  )  # fmt: skip


def lowered_update(models, length, packed):
  """Lowers an update of a policy, and of values where a model has them."""
  mesh = sharding.make_mesh({'data': 1}, jax.devices()[:1])
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
  return updates.update.lower(loss, tx, state, batch)


@pytest.mark.parametrize('family', FAMILIES)
@PARAM_DTYPES
@pytest.mark.parametrize(
  ('length', 'packed'), [(16, False), (16, True), (512, True)]
)
def test_an_update_multiplies_bfloat16(family, param_dtype, length, packed):
  models = {
    'critic': in_bfloat16(family, param_dtype, tie_embeddings=length == 16),
    'value': in_bfloat16(family, param_dtype, head='value'),
  }
  operands = products(lowered_update(models, length, packed))
  assert len(operands) > 40
  assert set(operands) == {('bf16', 'bf16')}


@pytest.mark.parametrize('family', FAMILIES)
@PARAM_DTYPES
def test_sampling_multiplies_bfloat16(monkeypatch, family, param_dtype):
  texts = []

  def lower(function, *args, **kwargs):
    lowered = function.lower(*args, **kwargs)
    texts.append(products(lowered))
    return lowered.out_info

  monkeypatch.setattr(scheduler, '_compile', lower)
  mesh = sharding.make_mesh({'data': 1}, jax.devices()[:1])
  model = in_bfloat16(family, param_dtype, tie_embeddings=family != 'llama')
  scheduler.compile_one(
    model,
    shapes_of(model, mesh),
    jax.random.split(jax.random.key(0), 16),
    512,
    eos=np.array([1], np.int32),
    sampling_params=SamplingParams(top_p=0.9),
    num_samples=2,
    max_new_tokens=8,
    num_lanes=16,
    num_rows=2,
  )
  lanes, *programs = texts
  assert not lanes and len(programs) == 3
  for operands in programs:
    assert len(operands) >= 10
    assert set(operands) == {('bf16', 'bf16')}


def test_a_product_in_float32_is_seen():
  def mixed(x, y):
    return jnp.sum(jnp.dot(x, y, preferred_element_type=jnp.float32))

  x = jnp.ones((2, 2), jnp.bfloat16)
  lowered = jax.jit(jax.grad(mixed)).lower(x, x)
  assert ('f32', 'bf16') in products(lowered) or (
    ('bf16', 'f32') in products(lowered)
  )
