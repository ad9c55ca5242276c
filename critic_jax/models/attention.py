"""Attention: short rows in one product, long rows block by block.

Queries are [B, T, H, Dh], keys and values [B, Hkv, S, Dh]: adjacent query heads
share those of one. Scores, softmax and sums are computed in float32, products
of what is given. What a query may look at is a bool mask, or `Causal` labels,
of which each block makes its own piece: nothing is as large as T times S.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from critic_jax.runtime import sharding

BLOCK = 128  # queries, and keys, whose scores exist at once
SHORT = 256  # tokens of a row up to which its scores are made in one product
# What a policy of `jax.checkpoint` calls what attention makes of the values.
MIXED = 'mixed'

_UNSEEN = -1e30  # what a masked score is; its exponential is 0
_LAST = 2**30  # the place of padding: after all else
_ANY = -(2**30)  # the segment of keys that all look at


class Causal(NamedTuple):
  """Each token looks at those before it in its row, and at itself.

  In a packed row it looks only at its own segment and at the one that its
  segment follows.

  Attributes:
    segments: int32[B, T], the segment that a token belongs to; None if all of
      a row is one.
    prefixes: int32[B, T], the segment that its segment follows.
  """

  segments: jax.Array | None = None
  prefixes: jax.Array | None = None

  def mask(self, length: int) -> jax.Array:
    """The same as bool[B or 1, T, T]."""
    places = jnp.arange(length)[None]
    return _sees(
      _Labels(places, self.segments, self.prefixes),
      _Labels(places, self.segments, self.prefixes),
    )


def attend(q, *parts) -> jax.Array:
  """Grouped-query attention over parts of the context, softmax in float32.

  A part may be shared by adjacent rows: the responses to one prompt read its
  keys and values where they are, and no row has a copy. The parts are merged
  exactly, by their largest scores and sums of exponentials (2205.14135, section
  3.1). Queries that read the same keys are folded into one product and the sum
  divides the mixture, not each weight: on CPUs several times faster.

  Args:
    q: [B, T, H, Dh].
    *parts: `(k, v, mask)` each. k and v are [B / n, Hkv, S, Dh], for n adjacent
      rows; mask is bool, broadcastable to [B / n, n * T, S], True where t may
      look at s. Each t has at least one s in the first part. The mask of the
      first may be `Causal`, with S equal to T: then it goes block by block.

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
  """The mixture times its sum, the sum and the largest score, by head.

  Returns:
    [B, T, H, Dh], [B, T, H, 1] and [B, T, H, 1], float32.
  """
  batch, length, num_heads, head_dim = q.shape
  rows, num_kv_heads = k.shape[:2]
  group = num_heads // num_kv_heads
  q = q.reshape(rows, -1, num_kv_heads, group, head_dim)  # n * T on axis 1
  q = jnp.moveaxis(q, 1, 3).reshape(rows, num_kv_heads, -1, head_dim)
  queries = batch // rows * length
  mask = jnp.broadcast_to(mask, (*mask.shape[:-2], queries, mask.shape[-1]))
  scores = _scores(q, k, mask)
  largest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
  weights = jnp.exp(scores - largest)
  mixed = checkpoint_name(
    _product('bhqs,bhsd->bhqd', weights.astype(v.dtype), v), MIXED
  )

  def unfold(x):
    x = x.reshape(rows, num_kv_heads, group, queries, -1)
    return jnp.moveaxis(x, 3, 1).reshape(batch, length, num_heads, -1)

  total = jnp.sum(weights, axis=-1, keepdims=True)
  return unfold(mixed), unfold(total), unfold(largest)


def _scores(q, k, mask):
  """Scores of queries [B, Hkv, G * T, Dh], masked by bool[B or 1, T, S]."""
  group = q.shape[2] // mask.shape[1]
  bias = jnp.where(jnp.tile(mask, (1, group, 1)), 0.0, _UNSEEN)[:, None]
  scores = _product('bhqd,bhsd->bhqs', q, k)
  return scores / math.sqrt(q.shape[-1]) + bias


def _product(axes, x, y):
  return jnp.einsum(axes, x, y, preferred_element_type=jnp.float32)


# ------------------------------------------------------------ block by block


class _Labels(NamedTuple):
  """What tells which keys a query looks at; int32[B or 1, T] each.

  Attributes:
    places: in the row; a query looks at keys up to its own.
    segments: see `Causal`; keys of `_ANY` are of all segments.
    prefixes: see `Causal`; of queries only.
  """

  places: jax.Array
  segments: jax.Array | None = None
  prefixes: jax.Array | None = None


def _sees(queries: _Labels, keys: _Labels) -> jax.Array:
  """bool[B or 1, T, S], True where query t looks at key s."""
  sees = queries.places[..., None] >= keys.places[..., None, :]
  if queries.segments is None:
    return sees
  segments = keys.segments[..., None, :]
  return sees & (
    (queries.segments[..., None] == segments)
    | (queries.prefixes[..., None] == segments)
    | (segments == _ANY)
  )


def _attend_in_blocks(q, own, prefix=None):
  """`attend` where the first part is `Causal`; a second one precedes it.

  Where a mesh splits columns, each device's columns are rows of their own: so a
  device makes blocks of what it has, and the gradients of keys, which all
  devices have whole, are summed over devices once.
  """
  k, v, causal = own
  batch, length, num_heads, head_dim = q.shape
  num_kv_heads, parts = k.shape[1], sharding.num_parts('columns', length)

  def fold(x):  # [B, T, ...] -> [parts * B, T / parts, ...]
    x = x.reshape(batch, parts, length // parts, *x.shape[2:])
    return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])

  queries = keys = _Labels(jnp.arange(length)[None], *causal)
  if prefix is not None:
    k, v, keys = _behind(*prefix, k, v, keys)
  if parts > 1:
    queries, keys = jax.tree.map(
      lambda x: jnp.broadcast_to(x, (batch, x.shape[1])), (queries, keys)
    )
    queries = jax.tree.map(fold, queries)
    k, v, keys = jax.tree.map(
      lambda x: jnp.tile(x, (parts, *[1] * (x.ndim - 1))), (k, v, keys)
    )
  q = _split(fold(q), 1)  # [N, B, b, H, Dh]
  folded = q.shape
  q = jnp.moveaxis(q.reshape(*q.shape[:3], num_kv_heads, -1, head_dim), 2, 4)
  grouped = q.shape  # [N, B, Hkv, G, b, Dh]
  found = _in_blocks(
    q.reshape(*q.shape[:3], -1, head_dim), _split(k, 2), _split(v, 2),
    jax.tree.map(lambda x: _split(x, 1, _LAST), queries),
    jax.tree.map(lambda x: _split(x, 1, _LAST), keys),
  )  # fmt: skip
  found = jnp.moveaxis(found.reshape(grouped), 4, 2).reshape(folded)
  found = jnp.moveaxis(found, 0, 1).reshape(parts, batch, -1, *folded[3:])
  found = jnp.swapaxes(found[:, :, : length // parts], 0, 1)
  return found.reshape(batch, length, num_heads, head_dim)


def _behind(prefix_k, prefix_v, mask, k, v, keys: _Labels):
  """Keys and values with those of a prefix before them, and their labels."""
  copies = len(k) // len(prefix_k)

  def join(before, after):
    before = jnp.repeat(before, copies, 0)
    after = jnp.broadcast_to(after, (len(before), *after.shape[1:]))
    return jnp.concatenate([before, after], axis=-1 if after.ndim == 2 else 2)

  seen = mask[:, 0]
  any_segment = jnp.full(seen.shape, _ANY)
  labels = _Labels(
    join(jnp.where(seen, 0, _LAST), keys.places),
    None if keys.segments is None else join(any_segment, keys.segments),
  )
  return join(prefix_k, k), join(prefix_v, v), labels


def _split(x, axis, fill=0):
  """Cuts an axis into blocks of one size: [N, ..., size, ...]."""
  length = x.shape[axis]
  number = -(-length // BLOCK)
  size = -(-length // number)
  pad = [(0, 0)] * x.ndim
  pad[axis] = 0, number * size - length
  x = jnp.pad(x, pad, constant_values=fill)
  x = x.reshape(*x.shape[:axis], number, size, *x.shape[axis + 1 :])
  return jnp.moveaxis(x, axis, 0)


@jax.custom_vjp
def _in_blocks(q, k, v, queries, keys):
  """Attention of N blocks of queries to M blocks of keys (2205.14135).

  A block of queries goes over the blocks of keys up to the last that any of it
  looks at. The backward pass computes the weights again, from the scores and
  the normaliser of each query.

  Args:
    q: [N, B, Hkv, G * b, Dh].
    k: [M, B, Hkv, c, Dh].
    v: as `k`.
    queries: labels [N, B or 1, b].
    keys: labels [M, B or 1, c].

  Returns:
    As `q`.
  """
  return _forward(q, k, v, queries, keys)[0]


def _forward(q, k, v, queries, keys):
  def one_block(block):
    q, labels, stop = block

    def add(j, state):
      mixed, total, largest = state
      k_j, v_j, labels_j = _at((k, v, keys), j)
      scores = _scores(q, k_j, _sees(labels, labels_j))
      merged = jnp.maximum(largest, jnp.max(scores, axis=-1, keepdims=True))
      weights, scale = jnp.exp(scores - merged), jnp.exp(largest - merged)
      more = _product('bhqs,bhsd->bhqd', weights.astype(v.dtype), v_j)
      total = total * scale + jnp.sum(weights, axis=-1, keepdims=True)
      return mixed * scale + more, total, merged

    zeros = jnp.zeros(q.shape, jnp.float32)
    state = zeros, zeros[..., :1], jnp.full_like(zeros[..., :1], _UNSEEN)
    mixed, total, largest = jax.lax.fori_loop(0, stop, add, state)
    return (mixed / total).astype(v.dtype), largest + jnp.log(total)

  stops = _stops(queries, keys)
  found, normalizer = checkpoint_name(
    jax.lax.map(one_block, (q, queries, stops)), MIXED
  )
  return found, (q, k, v, queries, keys, found, normalizer)


def _backward(saved, to_found):
  q, k, v, queries, keys, found, normalizer = saved
  scale = 1 / math.sqrt(q.shape[-1])

  def one_block(sums, block):
    q, labels, stop, normalizer, to_found, found = block
    to_total = jnp.sum(
      to_found.astype(jnp.float32) * found, axis=-1, keepdims=True
    )

    def add(j, state):
      to_q, to_k, to_v = state
      k_j, v_j, labels_j = _at((k, v, keys), j)
      scores = _scores(q, k_j, _sees(labels, labels_j))
      weights = jnp.exp(scores - normalizer)
      to_weights = _product('bhqd,bhsd->bhqs', to_found, v_j)
      to_scores = (weights * (to_weights - to_total) * scale).astype(q.dtype)
      more_k = _product('bhqs,bhqd->bhsd', to_scores, q)
      more_v = _product('bhqs,bhqd->bhsd', weights.astype(v.dtype), to_found)
      to_q = to_q + _product('bhqs,bhsd->bhqd', to_scores, k_j)
      return to_q, to_k.at[j].add(more_k), to_v.at[j].add(more_v)

    zeros = jnp.zeros(q.shape, jnp.float32)
    to_q, *sums = jax.lax.fori_loop(0, stop, add, (zeros, *sums))
    return tuple(sums), to_q.astype(q.dtype)

  zeros = jnp.zeros(k.shape, jnp.float32)
  blocks = q, queries, _stops(queries, keys), normalizer, to_found, found
  (to_k, to_v), to_q = jax.lax.scan(one_block, (zeros, zeros), blocks)
  return to_q, to_k.astype(k.dtype), to_v.astype(v.dtype), None, None


_in_blocks.defvjp(_forward, _backward)


def _at(blocks, j):
  return jax.tree.map(lambda x: x[j], blocks)


def _stops(queries: _Labels, keys: _Labels) -> jax.Array:
  """int32[N], how many blocks of keys a block of queries has to go over."""
  last = jnp.max(queries.places, axis=(1, 2))
  first = jnp.min(keys.places, axis=(1, 2))
  is_seen = first <= last[:, None]  # [N, M]
  return jnp.max(jnp.where(is_seen, jnp.arange(len(first)) + 1, 0), axis=1)
