"""Objectives of a value function: `values` towards `returns`.

All have one signature,
`(values, old_values, returns, mask, *, ...) -> float[B, T]`. The result is
minimised, not reduced (`masked.loss_weights` does that), and zero where masked,
whatever is there. The gradient flows through `values` only.

PPO (https://arxiv.org/abs/1707.06347, eq. 9) has no factor 1/2; these functions
have it, as PPO's code does, so that the gradient is the error itself.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = Any


def squared(
  values: Array, old_values: Array, returns: Array, mask: Array
) -> Array:
  """Computes the squared error: `(values - returns)**2 / 2`.

  >>> one = jnp.ones((1, 1))
  >>> float(squared(3 * one, one, one, one > 0)[0, 0])  # (3 - 1)**2 / 2
  2.0

  Args:
    values: float[B, T], those of the value function that is trained.
    old_values: float[B, T], those when the batch was sampled; not used.
    returns: float[B, T], the targets.
    mask: bool[B, T], True = trained.

  Returns:
    float[B, T].
  """
  del old_values
  error = jnp.where(mask, values - jax.lax.stop_gradient(returns), 0)
  return error**2 / 2


def clipped(
  values: Array,
  old_values: Array,
  returns: Array,
  mask: Array,
  *,
  clip: float = 0.2,
) -> Array:
  """Computes the larger squared error, with or without a limited step.

  `max((V - R)**2, (clip(V, V_old - clip, V_old + clip) - R)**2) / 2`, from the
  code of PPO: https://arxiv.org/abs/2005.12729, section 3. A value that moved
  towards its target by more than `clip` has no gradient. With `clip` infinite
  it is `squared`.

  Args:
    values: float[B, T], those of the value function that is trained.
    old_values: float[B, T], those when the batch was sampled.
    returns: float[B, T], the targets.
    mask: bool[B, T], True = trained.
    clip: the most that a value may move from its old one, in the units of the
      returns.

  Returns:
    float[B, T].

  Raises:
    ValueError: a negative `clip`.
  """
  if not clip >= 0:
    raise ValueError(f'clip: got {clip}; expected >= 0')
  old_values = jax.lax.stop_gradient(old_values)
  clipped_values = jnp.clip(values, old_values - clip, old_values + clip)
  return jnp.maximum(
    squared(values, old_values, returns, mask),
    squared(clipped_values, old_values, returns, mask),
  )
