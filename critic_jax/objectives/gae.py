"""Advantages and returns over tokens, with a value function or without.

They have no gradient, take arrays [B, T] aligned with `tokens`, run on a device
and return jax arrays; they skip tokens that are not trained.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

Array = Any  # numpy or jax


def gae(
  rewards: Array,
  values: Array,
  mask: Array,
  *,
  discount: float,
  lambda_: float,
  bootstrap: Array | None = None,
) -> tuple[Array, Array]:
  """Estimates advantages over the trained tokens of each row (GAE).

  With t' the next trained token after t,
  `delta_t = r_t + discount * V_t' - V_t` and
  `A_t = delta_t + discount * lambda_ * A_t'`,
  https://arxiv.org/abs/1506.02438, eq. 16. Beyond the last trained token
  `A = 0` and `V = bootstrap`. `lambda_=0` is the one-step error, `lambda_=1`
  the discounted return minus the value.

  Args:
    rewards: float[B, T]; a reward at a token that is not trained is ignored.
    values: float[B, T], the value before each token.
    mask: bool[B, T], True = trained.
    discount: a python float in [0, 1].
    lambda_: a python float in [0, 1].
    bootstrap: float[B], the value after the last trained token: 0 where the
      response ended itself, the value function's estimate where it was cut at
      the limit. None: 0 for all rows.

  Returns:
    advantages float32[B, T] and returns = advantages + values, float32[B, T];
    both zero where masked.
  """
  # An explicit transfer, if these are arrays of the host.
  rewards, values, mask, bootstrap = jax.device_put(
    (rewards, values, mask, bootstrap)
  )
  return _gae(rewards, values, mask, bootstrap, discount, lambda_)


def discounted(rewards: Array, mask: Array, *, discount: float) -> Array:
  """Sums the discounted rewards from each trained token on.

  `R_t = r_t + discount * R_t'` with t' the next trained token after t: `gae`
  at `lambda_=1` without values.

  Args:
    rewards: float[B, T]; a reward at a token that is not trained is ignored.
    mask: bool[B, T], True = trained.
    discount: a python float in [0, 1].

  Returns:
    float32[B, T], zero where masked.
  """
  rewards, mask = jax.device_put((rewards, mask))
  return _gae(rewards, None, mask, None, discount, 1.0)[0]


# Jitted, so that no constant travels to the device outside a compiled function;
# discount and lambda_ are static for the same reason.
@functools.partial(jax.jit, static_argnums=(4, 5))
def _gae(rewards, values, mask, bootstrap, discount, lambda_):
  rewards = rewards.astype(jnp.float32)
  if values is None:
    values = jnp.zeros_like(rewards)
  values = jnp.where(mask, values, 0).astype(jnp.float32)
  if bootstrap is None:
    bootstrap = jnp.zeros_like(rewards[:, 0])
  bootstrap = bootstrap.astype(jnp.float32)

  # Go backward over the tokens; a masked one hands the carry on.
  def step(carry, token):
    next_advantage, next_value = carry  # [B], of the next trained token
    reward, value, is_trained = token
    delta = reward + discount * next_value - value
    advantage = delta + discount * lambda_ * next_advantage
    carry = (
      jnp.where(is_trained, advantage, next_advantage),
      jnp.where(is_trained, value, next_value),
    )
    return carry, jnp.where(is_trained, advantage, 0)

  init = jnp.zeros_like(bootstrap), bootstrap
  tokens = rewards.T, values.T, mask.T  # [T, B]
  _, advantages = jax.lax.scan(step, init, tokens, reverse=True)
  advantages = advantages.T
  return jax.lax.stop_gradient((advantages, advantages + values))
