"""Losses of quantiles: a value's or a score's distribution, at some levels.

Predictions are [N, M], at M ascending levels in (0, 1); `where` is bool[N],
False for padding. Losses are minimised, not reduced, float32[N], and zero where
`where` is False; so is their gradient. All is computed in float32.
https://arxiv.org/abs/2103.00083 has both parts, and a weight for the second.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = Any


def pinball(
  quantiles: Array,
  targets: Array,
  levels: Array,
  where: Array,
  *,
  delta: float = 0.0,
) -> Array:
  """Computes the mean over levels of `max(tau e, (tau - 1) e)`.

  e = target - quantile: Koenker and Bassett (1978). The least mean loss over
  targets is at their quantile of level tau; at level 1/2 it is half the
  absolute error. With `delta` > 0 the error is Huber's, over delta,
  `|tau - [e < 0]| h(e) / delta`, as in https://arxiv.org/abs/1710.10044,
  eq. 10; small `delta` give the plain loss.

  >>> one = jnp.ones((1, 1))
  >>> loss = pinball(one, jnp.array([3.0]), jnp.array([0.25]), jnp.ones(1) > 0)
  >>> print(loss[0])  # 1/4 of 3 - 1
  0.5

  Args:
    quantiles: float[N, M], the predictions.
    targets: float[N], without gradient.
    levels: float[M], in (0, 1).
    where: bool[N].
    delta: the error up to which the loss is a square.

  Returns:
    float32[N].

  Raises:
    ValueError: a negative `delta`.
  """
  if not delta >= 0:
    raise ValueError(f'delta: got {delta}; expected >= 0')
  targets = jax.lax.stop_gradient(jnp.asarray(targets, jnp.float32))
  error = jnp.where(
    jnp.asarray(where)[:, None], targets[:, None] - quantiles, 0
  )
  error = error.astype(jnp.float32)
  slopes = jnp.where(error < 0, 1 - jnp.asarray(levels), jnp.asarray(levels))
  size = jnp.abs(error)
  if delta:
    bounded = jnp.minimum(size, delta)
    size = bounded * (size - bounded / 2) / delta
  return jnp.mean(slopes * size, axis=1)


def crossing(
  quantiles: Array, levels: Array, where: Array, *, margin: float = 0.0
) -> Array:
  """Computes by how much quantiles of higher levels are too low.

  The mean over pairs of levels i > j of
  `max(0, q_j - q_i + margin (tau_i - tau_j))`; it is 0 for one level.

  Args:
    quantiles: float[N, M], the predictions.
    levels: float[M], in (0, 1), ascending.
    where: bool[N].
    margin: the least slope that is asked of quantiles.

  Returns:
    float32[N].

  Raises:
    ValueError: a negative `margin`.
  """
  if not margin >= 0:
    raise ValueError(f'margin: got {margin}; expected >= 0')
  num_levels = len(levels)
  high, low = jnp.tril_indices(num_levels, -1)
  q = jnp.where(jnp.asarray(where)[:, None], quantiles, 0).astype(jnp.float32)
  levels = jnp.asarray(levels, jnp.float32)
  gaps = q[:, low] - q[:, high] + margin * (levels[high] - levels[low])
  gaps = jnp.where(jnp.asarray(where)[:, None], jax.nn.relu(gaps), 0)
  return jnp.sum(gaps, axis=1) / max(len(high), 1)
