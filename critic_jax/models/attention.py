"""Attention: short rows in one product, long rows block by block.

Queries are [B, T, H, Dh], keys and values [B, Hkv, S, Dh]: G = H / Hkv adjacent
query heads share a head of keys. Scores, softmax and sums are float32; products
multiply the dtype of their inputs. The mask is a bool array, or `Causal`, of
which each block makes its own piece: then no array is as large as T times S.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from critic_jax.models.visibility import (
  PADDING_PLACE,
  Causal,
  Labels,
  is_visible,
  prepend,
)
from critic_jax.runtime import sharding

BLOCK = 128  # queries, and keys, whose scores exist at once
SHORT = 256  # tokens of a row up to which its scores are made in one product
# The name of attention's mixtures of values in policies of `jax.checkpoint`.
MIXED = 'mixed'

_MASKED_SCORE = -1e30  # its exponential is 0


def attend(q, *parts) -> jax.Array:
  """Computes grouped-query attention to parts of the context, in float32.

  Adjacent rows may share a part: the responses to one prompt read its keys and
  values where they are, and no row has a copy. The parts are merged exactly, by
  their largest scores and sums of exponentials (2205.14135, section 3.1).
  Queries that read the same keys are folded into one product, and the mixture
  is divided by the sum, not each weight: on CPUs this is several times faster.

  Args:
    q: [B, T, H, Dh].
    *parts: `(k, v, mask)` each. k and v are [B / n, Hkv, S, Dh], for n adjacent
      rows; mask is bool, broadcastable to [B / n, n * T, S], True where t may
      look at s. Each t has at least one s in the first part. The mask of the
      first may be `Causal`, with S equal to T: then attention is computed
      block by block.

  Returns:
    [B, T, H, Dh].
  """
  if isinstance(parts[0][2], Causal):
    return _attend_in_blocks(q, *parts)
  mixed, total, largest = _attend_part(q, *parts[0])
  for part in parts[1:]:
    other_mixed, other_total, other_largest = _attend_part(q, *part)
    merged = jnp.maximum(largest, other_largest)
    scale, other_scale = (
      jnp.exp(largest - merged),
      jnp.exp(other_largest - merged),
    )
    mixed = mixed * scale + other_mixed * other_scale
    total = total * scale + other_total * other_scale
    largest = merged
  return (mixed / total).astype(parts[0][1].dtype)


def _attend_part(q, k, v, mask):
  """Attends to one part, without division by the sum of its weights.

  Returns:
    The weighted sum of values [B, T, H, Dh], the sum of weights [B, T, H, 1]
    and the largest score [B, T, H, 1], float32.
  """
  batch, length, num_heads, head_dim = q.shape
  rows, num_kv_heads = k.shape[:2]
  queries = batch // rows * length  # n * T
  q = _group_heads(q.reshape(rows, queries, num_heads, head_dim), num_kv_heads)
  mask = jnp.broadcast_to(mask, (*mask.shape[:-2], queries, mask.shape[-1]))
  scores = _scores(q, k, mask)
  largest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
  weights = jnp.exp(scores - largest)
  factors = weights.astype(v.dtype)
  if v.dtype != jnp.float32:
    # One reading of the scores gives these and their sum. Left alone, XLA on
    # TPUs makes them again in the product, and reads the scores once more.
    factors = jax.lax.optimization_barrier(factors)
  mixed = checkpoint_name(_product('bhqs,bhsd->bhqd', factors, v), MIXED)

  def unfold(x):  # [B / n, Hkv, G * n * T, D] -> [B, T, H, D]
    x = _ungroup_heads(x, queries)
    return x.reshape(batch, length, num_heads, -1)

  total = jnp.sum(weights, axis=-1, keepdims=True)
  return unfold(mixed), unfold(total), unfold(largest)


def _group_heads(x, num_kv_heads):
  """Puts queries of the same keys together.

  [..., T, H, D] -> [..., Hkv, G * T, D]; `_ungroup_heads` is the inverse.
  """
  *leading, _, _, size = x.shape
  x = x.reshape(*x.shape[:-2], num_kv_heads, -1, size)  # [..., T, Hkv, G, D]
  x = jnp.moveaxis(x, -4, -2)  # [..., Hkv, G, T, D]
  return x.reshape(*leading, num_kv_heads, -1, size)


def _ungroup_heads(x, length):
  """Undoes `_group_heads`: [..., Hkv, G * T, D] -> [..., T, H, D]."""
  *leading, num_kv_heads, _, size = x.shape
  x = x.reshape(*leading, num_kv_heads, -1, length, size)  # [..., G, T, D]
  x = jnp.moveaxis(x, -2, -4)  # [..., T, Hkv, G, D]
  return x.reshape(*leading, length, -1, size)


def _scores(q, k, mask):
  """Computes scores of [B, Hkv, G * T, Dh], masked by bool[B or 1, T, S]."""
  group = q.shape[2] // mask.shape[1]
  bias = jnp.where(jnp.tile(mask, (1, group, 1)), 0.0, _MASKED_SCORE)[:, None]
  scores = _product('bhqd,bhsd->bhqs', q, k)
  return scores / math.sqrt(q.shape[-1]) + bias


def _product(axes, x, y):
  """Computes a product in float32; its gradients multiply the inputs' dtype."""
  if x.dtype == jnp.float32:
    return _sum_of_products(axes, x, y)
  return _narrow_product(axes, x, y)


def _sum_of_products(axes, x, y):
  return jnp.einsum(axes, x, y, preferred_element_type=jnp.float32)


# JAX's own rule would multiply the float32 cotangent with an input.
_narrow_product = jax.custom_vjp(_sum_of_products, nondiff_argnums=(0,))


def _narrow_forward(axes, x, y):
  return _sum_of_products(axes, x, y), (x, y)


def _narrow_backward(axes, inputs, dz):
  x, y = inputs
  operands, z_axes = axes.split('->')
  x_axes, y_axes = operands.split(',')
  dz = dz.astype(x.dtype)
  dx = _sum_of_products(f'{z_axes},{y_axes}->{x_axes}', dz, y)
  dy = _sum_of_products(f'{z_axes},{x_axes}->{y_axes}', dz, x)
  return dx.astype(x.dtype), dy.astype(y.dtype)


_narrow_product.defvjp(_narrow_forward, _narrow_backward)


# ------------------------------------------------------------ block by block


def _attend_in_blocks(q, causal_part, prefix=None):
  """Does `attend` where the first part is `Causal`; a second one precedes it.

  Where a mesh splits columns, each device's columns become rows of their own.
  So each device makes blocks of its columns, and the gradients of keys, which
  all devices have whole, are summed over devices once.
  """
  k, v, causal = causal_part
  batch, length = q.shape[:2]
  parts = sharding.num_parts('columns', length)
  queries = keys = Labels(jnp.arange(length)[None], *causal)
  if prefix is not None:
    k, v, keys = prepend(*prefix, k, v, keys)
  # Give each device's columns rows of their own.
  if parts > 1:
    queries, keys = jax.tree.map(
      lambda x: jnp.broadcast_to(x, (batch, x.shape[1])), (queries, keys)
    )
    queries = jax.tree.map(lambda x: _columns_to_rows(x, parts), queries)
    k, v, keys = jax.tree.map(
      lambda x: jnp.tile(x, (parts, *[1] * (x.ndim - 1))), (k, v, keys)
    )

  # Attend block by block, and undo both splits.
  q = _split(_columns_to_rows(q, parts), 1)  # [N, parts * B, b, H, Dh]
  block_size = q.shape[2]
  output = _in_blocks(
    _group_heads(q, k.shape[1]), _split(k, 2), _split(v, 2),
    jax.tree.map(lambda x: _split(x, 1, PADDING_PLACE), queries),
    jax.tree.map(lambda x: _split(x, 1, PADDING_PLACE), keys),
  )  # fmt: skip
  output = _ungroup_heads(output, block_size)  # [N, parts * B, b, H, Dh]
  output = _join_blocks(output, length // parts)
  return _rows_to_columns(output, parts)


def _columns_to_rows(x, parts):
  """Turns columns into rows: [B, T, ...] -> [parts * B, T / parts, ...]."""
  x = x.reshape(len(x), parts, -1, *x.shape[2:])
  return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])


def _rows_to_columns(x, parts):
  """Undoes `_columns_to_rows`: [parts * B, T / parts, ...] -> [B, T, ...]."""
  x = x.reshape(parts, -1, *x.shape[1:])
  x = jnp.swapaxes(x, 0, 1)  # [B, parts, T / parts, ...]
  return x.reshape(len(x), -1, *x.shape[3:])


def _split(x, axis, fill=0):
  """Splits an axis into padded blocks: [..., T, ...] -> [N, ..., b, ...]."""
  length = x.shape[axis]
  number = -(-length // BLOCK)
  size = -(-length // number)
  padding = [(0, 0)] * x.ndim
  padding[axis] = 0, number * size - length
  x = jnp.pad(x, padding, constant_values=fill)
  x = x.reshape(*x.shape[:axis], number, size, *x.shape[axis + 1 :])
  return jnp.moveaxis(x, axis, 0)


def _join_blocks(x, length):
  """Undoes `_split` of axis 1: [N, B, b, ...] -> [B, length, ...]."""
  x = jnp.moveaxis(x, 0, 1)  # [B, N, b, ...]
  return x.reshape(len(x), -1, *x.shape[3:])[:, :length]


@jax.custom_vjp
def _in_blocks(q, k, v, queries, keys):
  """Attends from N blocks of queries to M blocks of keys (2205.14135).

  Each block of queries goes over the blocks of keys from the first to the last
  that one of its queries may look at. The backward pass computes the weights
  again, from the scores and the log-normaliser of each query.

  Args:
    q: [N, B, Hkv, G * b, Dh].
    k: [M, B, Hkv, c, Dh].
    v: [M, B, Hkv, c, Dh].
    queries: labels [N, B or 1, b].
    keys: labels [M, B or 1, c].

  Returns:
    [N, B, Hkv, G * b, Dh], in the dtype of `v`.
  """
  return _forward(q, k, v, queries, keys)[0]


def _forward(q, k, v, queries, keys):
  def one_block(block):
    q, labels, start, stop = block

    def add(j, state):
      mixed, total, largest = state
      k_j, v_j, labels_j = _block((k, v, keys), j)
      scores = _scores(q, k_j, is_visible(labels, labels_j))
      merged = jnp.maximum(largest, jnp.max(scores, axis=-1, keepdims=True))
      weights, scale = jnp.exp(scores - merged), jnp.exp(largest - merged)
      mixed_j = _product('bhqs,bhsd->bhqd', weights.astype(v.dtype), v_j)
      total = total * scale + jnp.sum(weights, axis=-1, keepdims=True)
      return mixed * scale + mixed_j, total, merged

    zeros = jnp.zeros(q.shape, jnp.float32)
    state = zeros, zeros[..., :1], jnp.full_like(zeros[..., :1], _MASKED_SCORE)
    mixed, total, largest = jax.lax.fori_loop(start, stop, add, state)
    return (mixed / total).astype(v.dtype), largest + jnp.log(total)

  output, normalizer = checkpoint_name(
    jax.lax.map(one_block, (q, queries, *_spans(queries, keys))), MIXED
  )
  return output, (q, k, v, queries, keys, output, normalizer)


def _backward(residuals, doutput):
  q, k, v, queries, keys, output, normalizer = residuals
  scale = 1 / math.sqrt(q.shape[-1])

  def one_block(sums, block):
    q, labels, start, stop, normalizer, doutput, output = block
    # The normaliser's part of the gradient: D in 2205.14135, appendix B.
    dtotal = jnp.sum(
      doutput.astype(jnp.float32) * output, axis=-1, keepdims=True
    )

    def add(j, state):
      dq, dk, dv = state
      k_j, v_j, labels_j = _block((k, v, keys), j)
      scores = _scores(q, k_j, is_visible(labels, labels_j))
      weights = jnp.exp(scores - normalizer)
      dweights = _product('bhqd,bhsd->bhqs', doutput, v_j)
      dscores = (weights * (dweights - dtotal) * scale).astype(q.dtype)
      dk_j = _product('bhqs,bhqd->bhsd', dscores, q)
      dv_j = _product('bhqs,bhqd->bhsd', weights.astype(v.dtype), doutput)
      dq = dq + _product('bhqs,bhsd->bhqd', dscores, k_j)
      return dq, dk.at[j].add(dk_j), dv.at[j].add(dv_j)

    zeros = jnp.zeros(q.shape, jnp.float32)
    dq, *sums = jax.lax.fori_loop(start, stop, add, (zeros, *sums))
    return tuple(sums), dq.astype(q.dtype)

  zeros = jnp.zeros(k.shape, jnp.float32)
  spans = _spans(queries, keys)
  blocks = q, queries, *spans, normalizer, doutput, output
  (dk, dv), dq = jax.lax.scan(one_block, (zeros, zeros), blocks)
  return dq, dk.astype(k.dtype), dv.astype(v.dtype), None, None


_in_blocks.defvjp(_forward, _backward)


def _block(arrays, j):
  return jax.tree.map(lambda x: x[j], arrays)


def _spans(queries: Labels, keys: Labels) -> tuple[jax.Array, jax.Array]:
  """Returns the key blocks of each query block: the first, and the end.

  Returns:
    int32[N] each; blocks outside of them have no key that is visible.
  """
  last_place = jnp.max(queries.places, axis=(1, 2))
  first_place = jnp.min(keys.places, axis=(1, 2))
  is_needed = first_place <= last_place[:, None]  # [N, M]
  number = jnp.arange(len(first_place))
  stops = jnp.max(jnp.where(is_needed, number + 1, 0), axis=1)
  if queries.earliest is None:
    return jnp.zeros_like(stops), stops
  earliest = jnp.min(queries.earliest, axis=(1, 2))
  is_near = jnp.max(keys.positions, axis=(1, 2)) >= earliest[:, None]
  return jnp.argmax(is_near, axis=1).astype(stops.dtype), stops
