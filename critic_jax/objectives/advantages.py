"""Estimators of advantages: how much better a sample was than expected.

None has a gradient. The estimators over groups take rewards [N, G], G samples
of each of N prompts, and return float32[N, G]; they accept numpy or jax arrays
and return the same kind. The estimators over tokens take arrays [B, T] aligned
with `tokens`, run on a device and return jax arrays; they skip tokens that are
not trained.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from critic_jax.objectives import masked

Array = Any  # numpy or jax


def group_relative(
  rewards: Array, *, normalize: bool = True, where: Array | None = None
) -> Array:
  """Reward relative to the sample's group: GRPO, and Dr. GRPO.

  `(r - mean(group)) / std(group)`, https://arxiv.org/abs/2402.03300, section
  4.1.2; with `normalize=False` only `r - mean(group)`, which is Dr. GRPO's,
  https://arxiv.org/abs/2503.20783, section 3.

  The paper does not say which std; here it is the population's (ddof = 0), and
  no epsilon is added: a group of equal rewards is exactly 0 without one.

  >>> import numpy as np
  >>> group_relative(np.array([[1.0, 0.0], [1.0, 1.0]])).tolist()
  [[1.0, -1.0], [0.0, 0.0]]

  Args:
    rewards: float[N, G].
    normalize: whether to divide by the group's standard deviation.
    where: bool[N, G], False for a reward that could not be determined: its
      group's mean and deviation leave it out, and its advantage is 0.

  Returns:
    float32[N, G].
  """
  where = _all_if_none(rewards, where)
  relative = masked.whiten if normalize else masked.center
  return relative(rewards, where, axis=1)


def leave_one_out(rewards: Array, *, where: Array | None = None) -> Array:
  """Reward minus the mean of the group's other samples: RLOO.

  `r_i - 1/(G-1) sum_{j != i} r_j = G/(G-1) (r_i - mean(group))`,
  https://arxiv.org/abs/2402.14740, section 2.2. A sample that is alone in its
  group has no baseline and gets 0.

  Args:
    rewards: float[N, G].
    where: bool[N, G], False for a reward that could not be determined: no
      baseline includes it, and its advantage is 0.

  Returns:
    float32[N, G].
  """
  where = _all_if_none(rewards, where)
  xp = rewards.__array_namespace__()
  count = xp.sum(where, axis=1, keepdims=True).astype(xp.float32)
  factor = count / xp.maximum(count - 1, 1)
  return masked.center(rewards, where, axis=1) * factor


def gae(
  rewards: Array,
  values: Array,
  mask: Array,
  *,
  discount: float,
  lambda_: float,
  bootstrap: Array | None = None,
) -> tuple[Array, Array]:
  """Generalised advantage estimation over the trained tokens of each row.

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
  """Discounted sum of the rewards from each trained token on.

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


def _all_if_none(rewards: Array, where: Array | None) -> Array:
  if where is not None:
    return where
  return rewards.__array_namespace__().ones_like(rewards, dtype=bool)


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
