"""The tokens that an objective leaves alone, read off its own gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = Any


def value_and_clipped(
  objective: Callable[..., Array],
  logprobs: Array,
  old_logprobs: Array,
  advantages: Array,
  mask: Array,
  segments: Array | None = None,
) -> tuple[Array, Array]:
  """Computes an objective, and the tokens whose advantage does not move them.

  A token is clipped if the gradient of the summed objective with respect to its
  log-probability is exactly 0 and its advantage is not, whatever the formula.

  Args:
    objective: a function of `objectives/policy.py`, its settings bound.
    logprobs: float[B, T], those of the policy that is trained.
    old_logprobs: float[B, T], those of the policy that sampled.
    advantages: float[B, T] or [B, 1].
    mask: bool[B, T], True = trained.
    segments: int32[B, T], the responses of a row; None: a row is one.

  Returns:
    float[B, T], differentiable as the objective is, and bool[B, T].
  """

  def value(logprobs):
    return objective(logprobs, old_logprobs, advantages, mask, segments)

  # The gradient of the sum shows the clip of any formula, known or new.
  per_token, vjp = jax.vjp(value, logprobs)
  slope = jax.lax.stop_gradient(vjp(jnp.ones_like(per_token))[0])
  return per_token, (slope == 0) & (advantages != 0)
