"""The view of a layer: its positions, and the keys that its tokens look at.

Layers differ in nothing else. Where they are a loop, one body computes those
with a window and those without, and a bool tells it which one it is at.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from critic_jax.models import attention, rotary
from critic_jax.models.config import TransformerConfig
from critic_jax.models.visibility import Causal

_NO_WINDOW = 2**30  # positions


class View(NamedTuple):
  """The positions and the keys that a layer's tokens look at.

  Attributes:
    angles: float32[B or 1, T, Dh / 2], of the rotary positions.
    factor: the factor of queries (`rotary.query_factor`); None for 1.
    mask: as `Transformer` takes it, of this layer.
    prefix: bool[B / n, 1 or n * T, P], the keys of a prefix that are visible;
      None without one.
  """

  angles: jax.Array
  factor: jax.Array | float | None
  mask: jax.Array | Causal
  prefix: jax.Array | None


def of_layer(
  config: TransformerConfig,
  is_local: bool | jax.Array,
  positions: jax.Array,
  mask: jax.Array | Causal,
  key_positions: jax.Array,
  prefix: jax.Array | None,
  rows: int,
) -> View:
  """Returns the view of a layer.

  Args:
    config: the model's.
    is_local: whether the layer has a window; bool[] inside a loop over layers.
    positions: int32[B or 1, T].
    mask: as `Transformer` takes it.
    key_positions: int32[B or 1, S] of the mask's keys.
    prefix: bool[B / n, P], True at keys of the prefix; None without one. The
      key of column p has position p.
    rows: B.
  """
  is_known = isinstance(is_local, bool)

  def choose(of_kind):
    if is_known:
      return of_kind(config, is_local=is_local)
    kinds = (of_kind(config, is_local=x) for x in (True, False))
    return jnp.where(is_local, *kinds)

  angles = positions[..., None].astype(jnp.float32) * choose(rotary.frequencies)
  factor = choose(rotary.query_factor)
  if is_known and factor == 1:
    factor = None
  prefix = None if prefix is None else prefix[:, None]
  length = positions.shape[1]
  is_long = isinstance(mask, Causal) and length > attention.SHORT
  if is_known and not is_local:
    if isinstance(mask, Causal) and not is_long:
      mask = mask.mask(length)
    return View(angles, factor, mask, prefix)
  window = config.sliding_window
  window = window if is_known else jnp.where(is_local, window, _NO_WINDOW)
  earliest = positions - (window - 1)
  if not isinstance(mask, Causal):
    mask = mask & (earliest[..., None] <= key_positions[:, None])
  else:
    mask = mask._replace(positions=positions, earliest=earliest)
    mask = mask if is_long else mask.mask(length)
  if prefix is not None and not is_long:  # else it is labelled: `prepend`
    of_rows = jnp.broadcast_to(earliest, (rows, length))
    of_rows = of_rows.reshape(len(prefix), -1, 1)
    prefix = prefix & (of_rows <= jnp.arange(prefix.shape[-1]))
  return View(angles, factor, mask, prefix)
