"""Rotary positions (RoFormer, 2104.09864), and their stretching.

Pair i of a head's Dh / 2 pairs of numbers turns by `theta ** (-2 i / Dh)` for
each position. A model that was trained on short rows reads longer ones if slow
pairs turn slower: `models/config.py` has the three ways of it.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from critic_jax.models.config import (
  LinearScaling,
  RopeScaling,
  TransformerConfig,
  YarnScaling,
)


def frequencies(
  config: TransformerConfig, *, is_local: bool = False
) -> jax.Array:
  """Returns angles per position, float32[Dh / 2] (2104.09864, eq. 15).

  Args:
    config: the model's.
    is_local: whether those of layers with a window are asked for, which may
      have a base of their own; that is never stretched.
  """
  exponent = jnp.arange(0, config.head_dim, 2) / config.head_dim
  if is_local and config.local_rope_theta is not None:
    return config.local_rope_theta ** -exponent.astype(jnp.float32)
  frequencies = config.rope_theta ** -exponent.astype(jnp.float32)
  scaling = config.rope_scaling
  if scaling is None:
    return frequencies
  if isinstance(scaling, LinearScaling):
    return frequencies / scaling.factor
  keep = (
    _kept_by_yarn(scaling, config)
    if isinstance(scaling, YarnScaling)
    else _kept_by_llama(scaling, frequencies)
  )
  return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def query_factor(config: TransformerConfig, *, is_local: bool = False) -> float:
  """Returns the factor of queries beside attention's own 1 / sqrt(Dh).

  YaRN's amplitude, which is that of queries and of keys, is in it, squared.
  """
  factor = 1.0
  if config.query_scale is not None:
    factor = config.query_scale * math.sqrt(config.head_dim)
  is_stretched = not is_local or config.local_rope_theta is None
  if isinstance(config.rope_scaling, YarnScaling) and is_stretched:
    factor *= config.rope_scaling.amplitude**2
  return factor


def _kept_by_llama(scaling: RopeScaling, frequencies) -> jax.Array:
  """Returns 0 where the wavelength is long (stretch), 1 where it is short."""
  wavelength = 2 * math.pi / frequencies
  keep = (scaling.original_max_len / wavelength - scaling.low_freq_factor) / (
    scaling.high_freq_factor - scaling.low_freq_factor
  )
  return jnp.clip(keep, 0.0, 1.0)


def _kept_by_yarn(scaling: YarnScaling, config) -> jax.Array:
  """Returns 1 for pairs that turn often, 0 for slow ones (2309.00071, eq. 23).

  The bounds are the numbers of the pairs that turn `beta_fast` and `beta_slow`
  times in the context of the first training.
  """
  pairs = config.head_dim // 2

  def pair_of(turns):
    length = scaling.original_max_len / (turns * 2 * math.pi)
    return pairs * math.log(length) / math.log(config.rope_theta)

  first, last = pair_of(scaling.beta_fast), pair_of(scaling.beta_slow)
  if scaling.truncate:
    first, last = math.floor(first), math.ceil(last)
  first, last = max(first, 0), min(last, config.head_dim - 1)
  last += 0.001 if first == last else 0  # as transformers has it
  ramp = (jnp.arange(pairs, dtype=jnp.float32) - first) / (last - first)
  return 1 - jnp.clip(ramp, 0.0, 1.0)


def rotate(x: jax.Array, angles: jax.Array, dtype=None) -> jax.Array:
  """Rotates `x[B, T, H, Dh]` by `angles[B, T, Dh / 2]`, half-split order.

  Args:
    x: of any float dtype.
    angles: float32.
    dtype: the result's; None: that of `x`.
  """
  x_1, x_2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]
  rotated = (x_1 * cos - x_2 * sin, x_2 * cos + x_1 * sin)
  return jnp.concatenate(rotated, axis=-1).astype(dtype or x.dtype)
