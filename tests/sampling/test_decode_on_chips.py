"""The decode that a TPU runs, read in the program that its compiler made.

Nothing here needs a device. Sizes are small, but each matrix of a device is
larger than the activations, and a device's part of the vocabulary is no
multiple of a block: all that must not be sent for each token is larger than
what may be.
"""

import math

import jax
import numpy as np
import pytest
from helpers import tiny_config

from critic_jax.bench import traffic
from critic_jax.models import transformer
from critic_jax.models.config import TransformerConfig
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.sizes import SIZES
from critic_jax.models.transformer import Transformer, abstract_params
from critic_jax.plan import hlo, topology
from critic_jax.runtime import sharding
from critic_jax.sampling import decode, scheduler
from critic_jax.sampling.lanes import empty_lanes
from critic_jax.training import roles

pytestmark = pytest.mark.libtpu
# Lanes, rows of each, columns of a prompt, tokens of a response.
SMALL = 8, 2, 128, 64


def model(**changes):
  """Makes a model of one layer whose vocabulary has no power of two."""
  sizes = dict(
    vocab_size=8 * 1188, embed_dim=512, mlp_dim=2048, num_layers=1,
    num_heads=8, num_kv_heads=8, head_dim=64, tie_embeddings=False,
  )  # fmt: skip
  settings = dict(dtype='bfloat16', max_len=1024)
  return Transformer(tiny_config('qwen2', **sizes | settings | changes))


def sampling_mesh(chip, **training):
  """Makes the mesh of a chip that a run with this mesh samples on."""
  mesh = topology.make_mesh(chip, training)
  shape = sharding.sampling_shape({}, mesh)
  if shape is None:
    return mesh
  return topology.make_mesh(chip, dict(zip(sharding.AXES, shape, strict=True)))


def compiled_decode(model, mesh, shape, num_samples):
  """Compiles decoding; returns its parameters, its lanes, and its text."""
  params = roles.as_sampled(
    model.config,
    sharding.param_forms(transformer.abstract_params(model), mesh),
  )
  num_lanes, num_rows, columns, max_new_tokens = shape
  with jax.set_mesh(mesh):
    lowered = empty_lanes.lower(
      model, num_lanes, num_rows, num_samples, columns, max_new_tokens
    )
    lanes = jax.tree.map(
      lambda x, layout: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout),
      lowered.out_info,
      lowered.compile().output_shardings,
    )
    program = decode.decode.lower(
      model, params, lanes, 2, eos=np.array([1], np.int32),
      sampling_params=SamplingParams(0.7, 20, 0.95),
    ).compile()  # fmt: skip
  return params, lanes, program.as_text()


def device_bytes(tree):
  """Returns the bytes of a device of shapes with shardings."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
  )


def smallest_matrix(model, params):
  """Returns the bytes of the smallest matrix of a device."""
  width = model.config.embed_dim
  leaves = jax.tree.leaves(params)
  return min(device_bytes(x) for x in leaves if width in x.shape[:-1])


def sent_for_each_token(text):
  return [c for c in hlo.read(text).collectives if c.loops]


def copies_for_each_token(text):
  computations, entry = hlo.parse(text)
  return [
    hlo.result_bytes(line.result)
    for line, loops, _ in hlo._walk(computations, entry, ())
    if loops and line.opcode == 'copy'
  ]


@pytest.mark.parametrize(
  ('chip', 'training', 'num_kv_heads', 'num_samples'),
  [
    ('v5p', dict(fsdp=4, tensor=2), 8, 2),
    # Lanes of fewer rows than samples keep the logits after their prompts.
    ('v5e', dict(fsdp=2, tensor=4), 8, 5),
    # All devices hold the heads of keys and values, which they do not divide.
    ('v6e', dict(tensor=8), 2, 2),
  ],
)
def test_a_token_sends_activations_at_most(
  chip, training, num_kv_heads, num_samples
):
  transformer = model(num_kv_heads=num_kv_heads)
  mesh = sampling_mesh(chip, **training)
  params, lanes, text = compiled_decode(transformer, mesh, SMALL, num_samples)
  num_lanes, num_rows, _, _ = SMALL
  rows = num_lanes * num_rows // sharding.num_shards(mesh, 'rows')
  limit = rows * transformer.config.embed_dim * 2  # of the residual stream
  assert limit < smallest_matrix(transformer, params)
  sent = sent_for_each_token(text)
  assert sent  # sums over heads and the MLP
  assert [c for c in sent if c.num_bytes > limit] == []
  # Keys and values are written where they are.
  cache = device_bytes(lanes.responses[0][0])
  assert max(copies_for_each_token(text), default=0) < cache


def test_parameters_split_by_fsdp_are_gathered_for_each_token():
  """The layout of training, which the default of `sample_mesh` replaces."""
  transformer = model()
  mesh = topology.make_mesh('v5e', dict(fsdp=4, tensor=2))
  params, _, text = compiled_decode(transformer, mesh, SMALL, SMALL[1])
  largest = max(c.num_bytes for c in sent_for_each_token(text))
  assert largest > smallest_matrix(transformer, params)


@pytest.mark.slow
def test_a_token_reads_weights_keys_and_values_once():
  """A device's part of refining with `refcritic.py:qwen2.5-14b-v5p`.

  All else is a sixth of what has to be read: the scores in float32, which XLA
  writes and reads once, and the search for top-k and top-p among the logits.
  With twice the devices for each matrix it is 0.23.
  """
  sizes = SIZES['qwen2.5-14b'] | dict(layers='scanned')
  transformer = Transformer(
    TransformerConfig(**sizes, dtype='bfloat16', param_dtype='bfloat16')
  )
  mesh = sampling_mesh('v5p', fsdp=2, tensor=4)
  shape = 32, 4, 5120, 2048  # of 1,024 rows in all, 64 a device
  params, lanes, text = compiled_decode(transformer, mesh, shape, 4)
  num_bytes = device_bytes({k: x for k, x in params.items() if k != 'embed'})
  num_bytes += device_bytes((lanes.prompts, lanes.responses))
  assert traffic.count_turn(text) <= 1.2 * num_bytes
  residual_stream = 64 * transformer.config.embed_dim * 2
  sent = sent_for_each_token(text)
  assert sent and max(c.num_bytes for c in sent) <= residual_stream


def test_prompts_are_sent_to_their_lanes_a_layer_at_a_time():
  """Any device's lane may be free: each gets the keys of all prompts."""
  transformer = model(num_layers=4, layers='scanned')
  mesh = sampling_mesh('v5e', fsdp=4, tensor=2)
  params = roles.as_sampled(
    transformer.config,
    sharding.param_forms(abstract_params(transformer), mesh),
  )
  num_lanes, num_rows, columns, max_new_tokens = SMALL
  size = scheduler.num_inserted(num_lanes, sharding.num_shards(mesh, 'rows'))
  program = scheduler.lowered(
    transformer, params,
    jax.ShapeDtypeStruct((size * num_rows,), jax.random.key(0).dtype), columns,
    eos=np.array([1], np.int32), sampling_params=SamplingParams(0.7, 20, 0.95),
    num_samples=num_rows, max_new_tokens=max_new_tokens, num_lanes=num_lanes,
    num_rows=num_rows,
  )['insert']  # fmt: skip
  sent = hlo.read(program.compile().as_text()).collectives
  local_heads = transformer.config.num_kv_heads // 2
  keys = size * local_heads * columns * transformer.config.head_dim * 2
  assert max(c.num_bytes for c in sent) == keys
