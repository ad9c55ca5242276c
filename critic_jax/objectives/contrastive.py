"""A contrastive loss of responses: each is to be told from all others.

"Secrets of RLHF, part II" (https://arxiv.org/abs/2401.06080) adds it to a
reward model's loss, of features of the chosen and of the rejected response.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = Any


def simcse(
  features: Array, others: Array, where: Array, *, temperature: float = 0.05
) -> Array:
  """Computes `-log softmax(cos(f_i, g) / temperature)[i]`, SimCSE's loss.

  https://arxiv.org/abs/2104.08821, eq. 1: f and g are two views of the same
  responses, such as two passes with dropout. If all views are alike the loss is
  log N; lengths of vectors do not matter.

  Args:
    features: float[N, D], the first view of each response.
    others: float[N, D], the second one.
    where: bool[N], False for padding, which no response is compared with.
    temperature: cosines are divided by it.

  Returns:
    float32[N].

  Raises:
    ValueError: a `temperature` that is not positive.
  """
  if not temperature > 0:
    raise ValueError(f'temperature: got {temperature}; expected > 0')
  features, others = (
    _unit(_masked(x, jnp.asarray(where)[:, None])) for x in (features, others)
  )
  logits = features @ others.T / temperature
  of_batch = jnp.where(where, logits, -jnp.inf)
  # A row of padding has a sum of its own: it may be all there is.
  total = jax.nn.logsumexp(
    jnp.where(jnp.asarray(where)[:, None], of_batch, 0), axis=1
  )
  return jnp.where(where, total - jnp.diagonal(logits), 0)


def _masked(x: Array, where: Array) -> Array:
  """Returns float32, zero where a row is padding.

  So *before* all else: a `where` at the end would hide a NaN from the value,
  but multiply its gradient by zero.
  """
  return jnp.where(where, jnp.asarray(x).astype(jnp.float32), 0)


def _unit(x: Array) -> Array:
  """Scales vectors to length 1; zeros stay zeros."""
  squares = jnp.sum(x**2, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(squares, jnp.finfo(x.dtype).tiny))
