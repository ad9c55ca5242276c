"""A run without its arrays: models, parameters and batches as shapes.

The models are those of the run, made by the same functions; only tokenizers
and weights are not read, and a served model has none. `on_one_device` gives the
model that one device sees, with the heads, the MLP and the vocabulary of its
shards of the matrices.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os

import flax.linen as nn
import jax
import jax.numpy as jnp

from critic_jax import lookup
from critic_jax.models import forward, layer_stack, lora, sizes, transformer
from critic_jax.models.config import TransformerConfig
from critic_jax.models.transformer import Transformer
from critic_jax.pretrained import hf_weights
from critic_jax.runtime import sharding
from critic_jax.sampling.lm import LM
from critic_jax.sampling.served import Served
from critic_jax.text.tokenizer import Tokenizer
from critic_jax.training import model_sources, phases, roles, served_roles

# The keys of critic_jax/data/batching.py.
_KEYS = {
  'tokens': jnp.int32,
  'mask': jnp.bool_,
  'weights': jnp.float32,
  'mean_weights': jnp.float32,
  'logprobs': jnp.float32,
  'advantages': jnp.float32,
  'ref_logprobs': jnp.float32,
  'values': jnp.float32,
  'returns': jnp.float32,
  'off_policy': jnp.bool_,
  'responses': jnp.int32,
  'kl': jnp.float32,
  'pairs': jnp.int32,
  'rewards': jnp.float32,
  'margins': jnp.float32,
}


def make_lms(
  config, platform: str = 'cpu', processes: int = 1
) -> dict[str, LM]:
  """Makes the LMs of a run by role, without weights.

  The section's `size` stands for a source that is not on this machine; the
  tokenizer of a source is not read.

  Args:
    config: the config of a run.
    platform: the chip's.
    processes: number of processes that sample.

  Raises:
    ValueError: a setting is wrong, or a missing source has no size.
  """
  lms, compile_ahead = {}, config.compile_ahead
  for role, section in config.models.items():
    with lookup.naming(f'models.{role}'):
      lookup.check_settings(roles.check_section, section, 'a model')
    if not section['source'] or served_roles.is_url(section['source']):
      lms |= roles.make_lms(
        {role: section}, compile_ahead, platform=platform, processes=processes
      )
      continue
    with lookup.naming(f'models.{role}'):
      roles.check_section(**section)
      fields = sizes.SIZES.get(section['size'])
      origin = model_sources.find(section['source'], role)
      if not isinstance(origin, str):
        model_config = model_sources.load_config_and_tokenizer(origin)[0]
      elif fields and 'vocab_size' in fields and not os.path.exists(origin):
        model_config = TransformerConfig(**fields)
      else:
        model_config = hf_weights.load_config(origin)
      lm = roles.make_lm(model_config, _no_tokenizer(), section, platform)
      lms[role] = dataclasses.replace(
        lm, compile_ahead=compile_ahead, processes=processes
      )
  return lms


def _no_tokenizer() -> Tokenizer:
  """Makes a tokenizer for LMs that read no text."""
  return Tokenizer(
    vocab_size=1, eos=(0,), pad=0, bos=None, unknown=None, special={},
    chat_template=None, adds_bos=False, files={}, encode_fn=None,
    decode_fn=None,
  )  # fmt: skip


def phase(config, lms, name: str):
  """Makes the phase of a config with these LMs.

  Raises:
    ValueError: a setting is wrong.
  """
  return next(
    p for p in phases.make_phases(config, lms, None) if p.name == name
  )


def shapes(model: Transformer):
  """Returns the parameters of a model as shapes."""
  return nn.meta.unbox(_named_shapes(model))


# Many layers take a second to trace.
_named_shapes = functools.cache(transformer.abstract_params)


def params(lm: LM, mesh):
  """Returns the parameters of an LM: shapes with their shardings.

  Raises:
    ValueError: a rule of `sharding.py` does not fit.
  """
  return {} if isinstance(lm, Served) else _params(lm.model, mesh)


@functools.cache
def _params(model, mesh):
  return sharding.param_forms(_named_shapes(model), mesh)


def sampled_params(lm: LM, mesh):
  """Returns the parameters of an LM in a layout of sampling: `params`, cast."""
  if isinstance(lm, Served):
    return {}
  return roles.as_sampled(lm.model.config, params(lm, mesh))


def as_sampled(lm: LM) -> LM:
  """Returns the LM with its matrices in the dtype that they are sampled in."""
  config = lm.model.config
  kernel = {'kernel': jax.ShapeDtypeStruct((), config.param_dtype)}
  return changed(
    lm, param_dtype=roles.as_sampled(config, kernel)['kernel'].dtype.name
  )


def trained_part(role: str, tree):
  """Returns what a phase trains of a role's parameters: adapters, or all."""
  del role
  return lora.split(tree)[0]


def frozen_part(role: str, tree, lms, train=(), lenders=None):
  """Returns what a phase does not train of a role's parameters.

  Args:
    role: a role.
    tree: its parameters.
    lms: LMs by role.
    train: the roles that the phase trains.
    lenders: by role another one, whose arrays it has (`adapters.lenders`).
  """
  part, base = lora.split(tree)
  if role in train:
    part = {}
  elif not base:
    part, base = {}, part
  if lender := (lenders or {}).get(role):
    lent = frozen_part(lender, shapes(lms[lender].model), lms)
    base = {name: x for name, x in base.items() if name not in lent}
  return lora.join(base, part)


def layer(lm: LM, mesh):
  """Returns the parameters of a layer, as `params` does."""
  return _layer(lm.model, mesh)


@functools.cache
def _layer(model, mesh):
  return layer_stack.unstack(_params(model, mesh))[layer_stack.name_of(0)]


def changed(lm: LM, **fields) -> LM:
  """Returns the LM with other fields of its model's config, no tokenizer."""
  if isinstance(lm, Served):
    return lm
  config = dataclasses.replace(lm.model.config, **fields)
  return dataclasses.replace(
    lm, model=Transformer(config), tokenizer=_no_tokenizer()
  )


def on_one_device(lm: LM, mesh) -> LM:
  """Returns the LM with the heads, MLP and vocabulary of one device.

  cuDNN, which is traced only where it is installed, becomes our blocks: both
  keep the output and a normaliser.
  """
  return lm if isinstance(lm, Served) else changed(lm, **_local(lm.model, mesh))


@functools.cache
def _local(model, mesh) -> dict:
  """Returns the fields of a model's config that one device sees otherwise."""
  first, config = _layer(model, mesh), model.config
  attention, fields = config.attention, {}

  def size(axis, leaf):
    return leaf.sharding.shard_shape(leaf.shape)[axis]

  num_heads, num_kv_heads = (
    size(1, first['attention'][part]['kernel']) for part in ('q', 'k')
  )
  if config.num_experts:  # a token may go through those of one device only
    number = size(0, first['mlp']['expert_up']['kernel'])
    fields['num_experts'] = number
    fields['experts_per_token'] = min(number, config.experts_per_token)
  else:
    fields['mlp_dim'] = size(1, first['mlp']['up']['kernel'])
  return dict(
    fields,
    vocab_size=size(0, _params(model, mesh)['embed']['embedding']),
    # Heads of keys that are held whole may be more than a device's queries.
    num_heads=-(-num_heads // num_kv_heads) * num_kv_heads,
    num_kv_heads=num_kv_heads,
    attention='xla' if attention == 'cudnn' else attention,
  )


def num_shards_of(mesh, name: str, size: int) -> int:
  """Returns the number of shards of an axis of this name and size."""
  num_shards = sharding.num_shards(mesh, name)
  return num_shards if size % num_shards == 0 else 1


def batch(rows: int, columns: int, packed: bool, mesh=None):
  """Returns a batch of all keys: shapes, with shardings on a mesh."""
  dtypes = dict(_KEYS)
  if packed:
    dtypes |= dict.fromkeys(forward.Layout._fields, jnp.int32)
  layout = None
  if mesh is not None:
    layout = sharding.batch_sharding((rows, columns), mesh)
  return {
    name: jax.ShapeDtypeStruct((rows, columns), dtype, sharding=layout)
    for name, dtype in dtypes.items()
  }


def num_batch_shards(mesh, rows: int, columns: int) -> int:
  """Returns the number of shards of a batch's tokens."""
  row_shards = num_shards_of(mesh, 'rows', rows)
  return row_shards * num_shards_of(mesh, 'columns', columns)


def device_bytes(tree) -> int:
  """Returns the bytes that one device holds of shapes with shardings."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
  )


def all_bytes(tree) -> int:
  """Returns the bytes of shapes."""
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
