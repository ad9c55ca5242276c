"""Prompts computed, and their keys and values written into lanes.

Keys and values of prompts, or of shared prefixes and of what follows them, come
from the model by layers; they are laid out in P columns when they are written.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from critic_jax.models.transformer import Cache
from critic_jax.runtime import sharding


def compute(model, params, prompts, length, shared_prefixes, columns):
  """Computes prompts.

  Returns:
    Logits after them, [F, V]; their keys and values, or those of prefixes and
    of the rest; and the function that makes them, or those of a layer, keys and
    values of P columns.
  """
  if shared_prefixes is None:
    hidden, cache = model.apply({'params': params}, prompts)
    padding = (0, 0), (0, columns - prompts.shape[1]), (0, 0)

    def lay_out(cache):
      return jax.tree.map(
        lambda x: jnp.pad(x, ((0, 0),) * (x.ndim - 3) + padding), cache
      )

    index = length - 1
  else:
    prefix_length = shared_prefixes.length[shared_prefixes.index]
    hidden, *cache = _after_prefixes(
      model, params, prompts, shared_prefixes, prefix_length
    )

    def lay_out(caches):
      return _join(*caches, prefix_length, columns)

    index = length - 1 - prefix_length
  index = jnp.maximum(index, 0)[:, None, None]  # the last token
  hidden = jnp.take_along_axis(hidden, index, axis=1)[:, 0]
  return logits_of(model, params, hidden), cache, lay_out


def put(lane_index, old: Cache, new, lay_out) -> Cache:
  """Writes keys and values of prompts into lanes.

  On a mesh every device needs those of all prompts, since any of its lanes may
  be free. Those of stacked layers are laid out and sent a layer at a time.

  Args:
    lane_index: int32[F].
    old: the lanes' keys and values.
    new: those of `compute`.
    lay_out: maps `new`, or a layer of it, to keys and values of P columns.
  """
  if old[0][0].ndim == 4:
    return jax.tree.map(
      lambda a, b: a.at[lane_index].set(b, mode='drop'), old, lay_out(new)
    )

  def put_layer(i, old):
    layer = lay_out(jax.tree.map(lambda x: x[i], new))
    return jax.tree.map(
      lambda a, b: a.at[i, lane_index].set(b, mode='drop'), old, layer
    )

  return jax.lax.fori_loop(0, len(old[0][0]), put_layer, old)


def logits_of(model, params, hidden):
  """Computes logits [F, V], whose rows and tokens a mesh splits."""
  logits = model.apply({'params': params}, hidden, method='logits')
  return sharding.constrain(logits, 'rows', 'vocab')


def _after_prefixes(model, params, suffixes, shared_prefixes, prefix_length):
  """Computes shared prefixes, and after them the suffix of each prompt.

  Returns:
    The hidden states of the suffixes, [F, T, D], and the keys and values of
    the prefixes and of the suffixes.
  """
  _, cache = model.apply({'params': params}, shared_prefixes.tokens)
  cache = jax.tree.map(
    functools.partial(_of_prompts, shared_prefixes.index), cache
  )
  is_prefix = (
    jnp.arange(shared_prefixes.tokens.shape[1]) < prefix_length[:, None]
  )
  hidden, suffix_cache = model.apply(
    {'params': params},
    suffixes,
    positions=prefix_length[:, None] + jnp.arange(suffixes.shape[1]),
    prefix=(cache, is_prefix),
  )
  return hidden, cache, suffix_cache


def _of_prompts(index, x):
  """Copies keys or values of prefixes for each prompt, a layer at a time."""
  if x.ndim == 4:
    return x[index]
  return jax.lax.map(lambda layer: layer[index], x)


def _join(prefix: Cache, suffix: Cache, prefix_length, columns) -> Cache:
  """Joins keys and values of a prefix and a suffix without a gap."""
  width, slots = prefix[0][0].shape[-2], jnp.arange(columns)
  end = width + suffix[0][0].shape[-2] - 1
  suffix_slots = jnp.minimum(width + slots - prefix_length[:, None], end)
  source = jnp.where(slots < prefix_length[:, None], slots, suffix_slots)
  source = source[:, None, :, None]

  def join(x, y):  # [F, Hkv, width, Dh] and a suffix -> [F, Hkv, P, Dh]
    joined = jnp.concatenate([x, y], axis=-2)
    index = source.reshape((1,) * (x.ndim - source.ndim) + source.shape)
    return jnp.take_along_axis(joined, index, axis=-2)

  return jax.tree.map(join, prefix, suffix)
