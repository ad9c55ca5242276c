"""Estimators of KL(policy || reference) at the tokens of a batch.

All have one signature, `(logprobs, ref_logprobs, mask) -> float[B, T]`, zero
where masked. The gradient flows through `logprobs` only.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from critic_jax.objectives import policy

Array = Any


def k1(logprobs: Array, ref_logprobs: Array, mask: Array) -> Array:
  """Estimates the KL by `log_ratio = logprobs - ref_logprobs`.

  http://joschu.net/blog/kl-approx.html. Unbiased for KL(policy || ref) when the
  tokens are the policy's. Do not minimise it: its on-policy gradient is
  `grad logprobs`, 0 in expectation, and so pulls nowhere. It belongs in the
  reward, without gradient.

  Args:
    logprobs: float[B, T], those of the policy that is trained.
    ref_logprobs: float[B, T], those of the reference.
    mask: bool[B, T], True = trained.

  Returns:
    float[B, T], zero where masked; of either sign.
  """
  return jnp.where(mask, logprobs - jax.lax.stop_gradient(ref_logprobs), 0)


def k2(logprobs: Array, ref_logprobs: Array, mask: Array) -> Array:
  """Estimates the KL by `log_ratio**2 / 2`.

  http://joschu.net/blog/kl-approx.html. Its value is biased, but its on-policy
  gradient, `log_ratio * grad logprobs`, is in expectation the gradient of
  KL(policy || ref): the one to minimise.

  Args:
    logprobs: float[B, T], those of the policy that is trained.
    ref_logprobs: float[B, T], those of the reference.
    mask: bool[B, T], True = trained.

  Returns:
    float[B, T] >= 0, zero where masked.
  """
  return k1(logprobs, ref_logprobs, mask) ** 2 / 2


def k3(logprobs: Array, ref_logprobs: Array, mask: Array) -> Array:
  """Estimates the KL by `exp(-log_ratio) - 1 + log_ratio`.

  http://joschu.net/blog/kl-approx.html; GRPO's penalty,
  https://arxiv.org/abs/2402.03300, eq. 4. Its value is unbiased for
  KL(policy || ref) and varies less than `k1`'s: the one to report. Minimised,
  its on-policy gradient is in expectation that of KL(ref || policy), the other
  direction, and agrees with `k2`'s to first order only. Where the reference is
  `exp(policy.MAX_LOG_RATIO)` times as likely as the policy, or more, the value
  is constant and the gradient 0: neither becomes infinite.

  Args:
    logprobs: float[B, T], those of the policy that is trained.
    ref_logprobs: float[B, T], those of the reference.
    mask: bool[B, T], True = trained.

  Returns:
    float[B, T] >= 0, zero where masked.
  """
  log_ratio = jnp.maximum(
    k1(logprobs, ref_logprobs, mask), -policy.MAX_LOG_RATIO
  )
  return jnp.expm1(-log_ratio) + log_ratio
