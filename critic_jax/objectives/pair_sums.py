"""Sums over the two responses of a pair, as objectives of pairs read them.

Arrays are [N, 2], the chosen response first; `num_tokens`, the responses'
lengths, says which pairs are padding: those that lack a token. Whatever their
places hold, it becomes 0 *before* all else: a `where` at the end would hide a
NaN from the value, but multiply its gradient by zero. All is in float32.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = Any


def sums(x: Array, num_tokens: Array) -> Array:
  """Returns float32[N, 2], zero where a pair is padding."""
  return float32(x, _is_pair(num_tokens)[:, None])


def constants(x: Array, num_tokens: Array) -> Array:
  """Returns the same without a gradient; x may be [N], or a number."""
  where = _is_pair(num_tokens)
  x = jax.lax.stop_gradient(x)
  return float32(x, where[:, None] if jnp.ndim(x) == 2 else where)


def log_ratios(
  logprobs: Array, ref_logprobs: Array, num_tokens: Array
) -> Array:
  """Returns `logprobs - ref_logprobs`, in which the latter are constant."""
  return sums(logprobs, num_tokens) - constants(ref_logprobs, num_tokens)


def gap(logprobs: Array, ref_logprobs: Array, num_tokens: Array) -> Array:
  """Returns `h`, the difference of the two log-ratios of a pair, [N]."""
  return difference(log_ratios(logprobs, ref_logprobs, num_tokens))


def means(x: Array, num_tokens: Array) -> Array:
  """Returns sums divided by the responses' lengths."""
  return x / jnp.maximum(jnp.asarray(num_tokens).astype(jnp.float32), 1)


def difference(x: Array) -> Array:
  """Returns what the chosen response has above the rejected one, [N]."""
  return x[:, 0] - x[:, 1]


def of_pairs(loss: Array, num_tokens: Array) -> Array:
  """Returns the losses of pairs, [N], zero for padding."""
  return jnp.where(_is_pair(num_tokens), loss, 0)


def float32(x: Array, where: Array) -> Array:
  """Returns x in float32, zero elsewhere than `where`."""
  return jnp.where(where, jnp.asarray(x).astype(jnp.float32), 0)


def check_positive(**settings: float) -> None:
  """Raises ValueError for a setting that is not positive."""
  for name, value in settings.items():
    if not value > 0:
      raise ValueError(f'{name}: got {value}; expected > 0')


def _is_pair(num_tokens: Array) -> Array:
  return jnp.all(jnp.asarray(num_tokens) > 0, axis=1)
