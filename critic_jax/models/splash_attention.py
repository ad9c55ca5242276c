"""Splash attention: the kernel of TPUs, for training and for prompts.

The kernel is jax's (`jax.experimental.pallas.ops.tpu.splash_attention`). It
computes attention block by block in fast memory, so that no score is written
out, and leaves out blocks without a visible key. It knows two masks: a function
of one number of each query and the key's column, and labels that must be equal.
Neither says 'my segment, or the one that it follows'. So the keys of a packed
row are there twice: as its own, of which a query sees the columns from `first`
to `last`, and as those of prefixes, which must have its label. Keys and values
that precede a row, as in sampling, are in the second place, too.

On a mesh each device has its rows, its heads, and its columns of queries, which
look at the keys of all columns.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_kernel as kernels,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_mask_info as mask_infos,
)

from critic_jax.models import kernel_shards
from critic_jax.models.attention import MIXED
from critic_jax.models.config import MAX_SPLASH_COLUMNS
from critic_jax.models.visibility import Causal

BLOCK = 512  # the most queries, and keys, whose scores exist at once
LANES = 128  # a block is a multiple of these

_BITS = 16  # of a column's number; two columns share 32
_NO_LABEL = -(2**30)


class _Queries(NamedTuple):
  """The keys that each query looks at; int32[B or 1, T] each.

  Attributes:
    last: the last column of its own row.
    first: the first one; None if it is 0.
    label: the label of other keys; None if there are none.
  """

  last: jax.Array
  first: jax.Array | None = None
  label: jax.Array | None = None


class _Keys(NamedTuple):
  """The labels that keys have; int32[B or 1, S] each.

  Attributes:
    own: of the row's own keys: the label of queries of the same segment.
    other: of the keys of prefixes; `_NO_LABEL` if nothing looks at one.
  """

  own: jax.Array | None = None
  other: jax.Array | None = None


def attend(q, causal_part, prefix=None, *, interpret=False):
  """Does `attention.attend` where the first part is `Causal`.

  Args:
    q: [B, T, H, Dh], in the dtype of keys or in float32: they are scaled, and
      then rounded.
    causal_part: `(k, v, causal)`; no segment has a gap, and one that is
      followed is before those that follow it.
    prefix: a part before rows that are not packed, or None.
    interpret: whether the kernel is interpreted, as CPUs need it.

  Returns:
    [B, T, H, Dh], in the dtype of keys.
  """
  k, v, causal = causal_part
  queries, keys = _labels(q.shape[1], causal)
  others = None if keys.other is None else (k, v)
  if prefix is not None:
    *others, is_valid = (
      jnp.repeat(x, len(q) // len(x), axis=0) for x in prefix
    )
    if causal.segments is not None:
      raise ValueError('causal: got packed rows after a prefix; expected plain')
    queries = queries._replace(label=jnp.zeros_like(queries.last))
    keys = _Keys(
      jnp.zeros_like(queries.last), jnp.where(is_valid[:, 0], 0, _NO_LABEL)
    )
  scale = 1 / math.sqrt(q.shape[-1])
  q = (q.astype(jnp.float32) * scale).astype(k.dtype)
  heads = jnp.arange(q.shape[2])
  group = q.shape[2] // k.shape[1]

  def attend_locally(q, heads, k, v, others, queries, keys):
    k, v, others = jax.tree.map(
      lambda x: kernel_shards.heads_read(x, heads, group), (k, v, others)
    )
    # Labels that rows share are not copied, and no loop over rows is needed.
    rows_of = jax.tree.map(lambda x: 0 if len(x) > 1 else None, (queries, keys))
    queries, keys = jax.tree.map(
      lambda x: x if len(x) > 1 else x[0], (queries, keys)
    )
    row = functools.partial(_attend_row, interpret=interpret)
    rows = jax.vmap(row, (0, 0, 0, 0, *rows_of))
    return rows(q, k, v, others, queries, keys)

  kv_names = 'rows', 'kv_heads'
  return kernel_shards.map_shards(
    attend_locally,
    (q, ('rows', 'columns', 'heads')),
    (heads, ('heads',)),
    (k, kv_names), (v, kv_names), (others, kv_names),
    (queries, ('rows', 'columns')),
    (keys, ('rows',)),
  )  # fmt: skip


def _labels(length, causal: Causal) -> tuple[_Queries, _Keys]:
  """Labels the queries and keys of rows.

  A segment that follows another has its number for a label; one that follows
  none has a negative number, which no prefix has.

  Raises:
    ValueError: a packed row has too many columns to be numbered.
  """
  columns = jnp.arange(length, dtype=jnp.int32)[None]
  if causal.segments is None:
    return _Queries(columns), _Keys()
  if length > MAX_SPLASH_COLUMNS:  # their numbers have `_BITS` bits
    raise ValueError(
      f'row_shapes: got packed rows of {length} columns; expected '
      f"{MAX_SPLASH_COLUMNS} at most; lower them, or set attention='xla'"
    )
  segments, prefixes = causal.segments, causal.prefixes
  is_first = jnp.diff(segments, axis=1, prepend=_NO_LABEL) != 0
  first = jax.lax.cummax(jnp.where(is_first, columns, 0), axis=1)
  labels = jnp.where(segments == prefixes, -1 - prefixes, prefixes)
  last = jnp.broadcast_to(columns, segments.shape)
  return _Queries(last, first, labels), _Keys(labels, segments)


def _attend_row(q, k, v, others, queries, keys, *, interpret):
  """Attends in a row: [T, H, Dh] to [Hkv, S, Dh], with labels without B."""
  length = len(q)
  q_block, k_block = _block_size(length), _block_size(k.shape[1])
  q = _pad(jnp.swapaxes(q, 0, 1), q_block)
  queries = jax.tree.map(
    lambda x: _pad(x[None], q_block, mode='edge')[0], queries
  )
  k, v = _pad(k, k_block), _pad(v, k_block)
  num_own = k.shape[1]
  is_needed, segment_ids = _needs_own(queries, q_block, k_block, num_own), None
  if others is not None:
    own, other = (
      _pad(x[None], k_block, constant_values=_NO_LABEL)[0] for x in keys
    )
    is_needed = jnp.concatenate(
      [is_needed, _needs_others(queries.label, other, q_block, k_block)], axis=1
    )
    k, v = (
      jnp.concatenate([x, _pad(y, k_block)], axis=1)
      for x, y in zip((k, v), others, strict=True)
    )
    labels = jnp.concatenate([own, other])
    segment_ids = kernels.SegmentIds(queries.label, labels)
  last, first = queries.last, queries.first
  by_query, by_key = (
    mask_infos.MaskInfo(
      data_next=_next_block(is_needed, axis)[None],
      mask_next=None,
      block_mask=is_needed.astype(jnp.int32)[None],
      partial_mask_blocks=None,
      q_sequence=last if first is None else (first << _BITS) + last,
    )
    for axis in (1, 0)
  )
  kernel = kernels.SplashAttentionKernel(
    by_query,
    by_query,
    by_key,
    block_sizes=kernels.BlockSizes(
      block_q=q_block, block_kv=k_block,
      block_q_dkv=q_block, block_kv_dkv=k_block,
      block_q_dq=q_block, block_kv_dq=k_block,
    ),
    is_mqa=False,
    save_residuals=False,
    mask_value=kernels.DEFAULT_MASK_VALUE,
    attn_logits_soft_cap=None,
    residual_checkpoint_name=MIXED,
    mask_function=_Mask(num_own, first is not None),
    interpret=interpret,
  )  # fmt: skip
  return jnp.swapaxes(kernel(q, k, v, segment_ids)[:, :length], 0, 1)


@dataclasses.dataclass(frozen=True)
class _Mask:
  """Tells inside of the kernel whether a query sees a key, but for labels.

  Attributes:
    num_own: the keys of the row; those behind them are known by their labels.
    has_first: whether a query's number has its first column.
  """

  num_own: int
  has_first: bool

  def __call__(self, number, column):
    """Returns bool[T, S] for int32[T, S] each."""
    if not self.has_first:
      is_visible = column <= number
    else:
      first = jax.lax.shift_right_logical(number, _BITS)
      last = number & (2**_BITS - 1)
      is_visible = (first <= column) & (column <= last)
    return is_visible | (column >= self.num_own)


def _block_size(length):
  """Returns the size of equal blocks, the largest of at most `BLOCK`."""
  size = -(-length // -(-length // BLOCK))
  return -(-size // LANES) * LANES


def _pad(x, block, **how):
  """Pads axis 1 of [N, T, ...] to blocks."""
  padding = [(0, 0)] * x.ndim
  padding[1] = 0, -x.shape[1] % block
  return jnp.pad(x, padding, **how)


def _needs_own(queries: _Queries, q_block, k_block, num_own) -> jax.Array:
  """Tells which blocks of queries see one of the row's own keys: bool[N, M]."""
  starts = jnp.arange(0, num_own, k_block)
  is_seen = starts <= queries.last[:, None]
  if queries.first is not None:
    is_seen &= starts + k_block > queries.first[:, None]
  return jnp.any(is_seen.reshape(-1, q_block, len(starts)), axis=1)


def _needs_others(label, labels, q_block, k_block) -> jax.Array:
  """Tells which blocks of queries may see one of other keys: bool[N, M]."""
  labels = labels.reshape(-1, k_block)
  least = jnp.min(jnp.where(labels == _NO_LABEL, -_NO_LABEL, labels), axis=1)
  is_seen = (label[:, None] >= least) & (label[:, None] <= labels.max(axis=1))
  return jnp.any(is_seen.reshape(-1, q_block, len(labels)), axis=1)


def _next_block(is_needed, axis) -> jax.Array:
  """Names the block that is in fast memory at each step along an axis.

  It is the next that is needed; behind the last one, that.
  """
  number = is_needed.shape[axis]
  index = jax.lax.broadcasted_iota(jnp.int32, is_needed.shape, axis)
  following = jax.lax.cummin(
    jnp.where(is_needed, index, number), axis=axis, reverse=True
  )
  last = jnp.max(jnp.where(is_needed, index, 0), axis=axis, keepdims=True)
  return jnp.minimum(following, last)
