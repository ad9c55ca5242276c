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

from critic_jax.models import transformer
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.plan import hlo, topology
from critic_jax.runtime import sharding
from critic_jax.sampling import decode
from critic_jax.sampling.lanes import empty_lanes
from critic_jax.training import roles

pytestmark = pytest.mark.libtpu
NUM_LANES, NUM_ROWS, COLUMNS, MAX_NEW_TOKENS = 8, 2, 128, 64


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


def compiled_decode(model, mesh, num_samples):
  """Compiles decoding; returns what is sent in its loops."""
  params = roles.as_sampled(
    model.config,
    sharding.param_forms(transformer.abstract_params(model), mesh),
  )
  with jax.set_mesh(mesh):
    lowered = empty_lanes.lower(
      model, NUM_LANES, NUM_ROWS, num_samples, COLUMNS, MAX_NEW_TOKENS
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
  width = model.config.embed_dim
  matrices = [x for x in jax.tree.leaves(params) if width in x.shape[:-1]]
  smallest_matrix = min(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in matrices
  )
  collectives = hlo.read(program.as_text()).collectives
  return smallest_matrix, [c for c in collectives if c.loops]


def activation_bytes(model, mesh):
  """Returns the bytes of a residual stream of a device's rows."""
  rows = NUM_LANES * NUM_ROWS // sharding.num_shards(mesh, 'rows')
  return rows * model.config.embed_dim * 2


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
  smallest_matrix, sent = compiled_decode(transformer, mesh, num_samples)
  limit = activation_bytes(transformer, mesh)
  assert limit < smallest_matrix
  assert sent  # sums over heads and the MLP
  assert [c for c in sent if c.num_bytes > limit] == []


def test_parameters_split_by_fsdp_are_gathered_for_each_token():
  """The layout of training, which the default of `sample_mesh` replaces."""
  transformer = model()
  mesh = topology.make_mesh('v5e', dict(fsdp=4, tensor=2))
  smallest_matrix, sent = compiled_decode(transformer, mesh, NUM_ROWS)
  assert max(c.num_bytes for c in sent) > smallest_matrix
