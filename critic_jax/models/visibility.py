"""The keys that each token may look at: earlier ones, its own, near ones.

Attention of long rows makes the mask of a block when it needs it, from labels
of queries and keys; short rows, and a token after a cache, have a mask. A layer
with a sliding window looks at the last W positions of a token's own sequence,
which in a packed row, and in a ring of slots, are not the last W columns.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

PADDING_PLACE = 2**30  # after all other places
_ANY_SEGMENT = -(2**30)  # the segment of keys that every query may look at


class Causal(NamedTuple):
  """Each token looks at those before it in its row, and at itself.

  In a packed row it looks only at its own segment and at the one that its
  segment follows; in a layer with a window at near positions only.

  Attributes:
    segments: int32[B, T], the segment that a token belongs to; None if all of
      a row is one.
    prefixes: int32[B, T], the segment that its segment follows.
    positions: int32[B or 1, T], in its sequence; None without a window.
    earliest: int32[B or 1, T], the first position that it looks at.
  """

  segments: jax.Array | None = None
  prefixes: jax.Array | None = None
  positions: jax.Array | None = None
  earliest: jax.Array | None = None

  def mask(self, length: int) -> jax.Array:
    """Returns the mask of rows of `length` tokens, bool[B or 1, T, T]."""
    labels = Labels(jnp.arange(length)[None], *self)
    return is_visible(labels, labels)


class Labels(NamedTuple):
  """The labels by which a query finds its keys; int32[B or 1, T] each.

  Attributes:
    places: the place in the row; a query looks at keys up to its own.
    segments: the segment of each token; keys of `_ANY_SEGMENT` belong to all.
    prefixes: the segment that its segment follows; keys need none.
    positions: the position of each token; only keys need one.
    earliest: the first position that it looks at; keys need none.
  """

  places: jax.Array
  segments: jax.Array | None = None
  prefixes: jax.Array | None = None
  positions: jax.Array | None = None
  earliest: jax.Array | None = None


def is_visible(queries: Labels, keys: Labels) -> jax.Array:
  """Tells whether query t may look at key s: bool[B or 1, T, S]."""
  is_seen = queries.places[..., None] >= keys.places[..., None, :]
  if queries.earliest is not None:
    is_seen &= queries.earliest[..., None] <= keys.positions[..., None, :]
  if queries.segments is None:
    return is_seen
  segments = keys.segments[..., None, :]
  return is_seen & (
    (queries.segments[..., None] == segments)
    | (queries.prefixes[..., None] == segments)
    | (segments == _ANY_SEGMENT)
  )


def prepend(prefix_k, prefix_v, mask, k, v, keys: Labels):
  """Puts keys and values behind those of a prefix, and labels both."""
  copies = len(k) // len(prefix_k)

  def join(prefix, row):
    prefix = jnp.repeat(prefix, copies, 0)
    row = jnp.broadcast_to(row, (len(prefix), *row.shape[1:]))
    return jnp.concatenate([prefix, row], axis=-1 if row.ndim == 2 else 2)

  is_prefix = mask[:, 0]
  any_segment = jnp.full(is_prefix.shape, _ANY_SEGMENT)
  columns = jnp.broadcast_to(jnp.arange(mask.shape[-1]), is_prefix.shape)
  labels = Labels(
    join(jnp.where(is_prefix, 0, PADDING_PLACE), keys.places),
    None if keys.segments is None else join(any_segment, keys.segments),
    positions=None if keys.positions is None else join(columns, keys.positions),
  )
  return join(prefix_k, k), join(prefix_v, v), labels
