"""Policy-gradient objectives.

All objectives have one signature,
`(logprobs, old_logprobs, advantages, mask, segments=None, *, ...)
-> float[B, T]`. The result is minimised, not reduced (`masked.loss_weights`
does that), and zero where masked. Masked places may hold NaN and infinity:
neither reaches the value or the gradient. `advantages` is [B, T], or [B, 1]
for one a row. The gradient flows through `logprobs` only. `segments`, int32
[B, T] < T + 1, number the responses of rows that hold several
(critic_jax/data/packing.py); by default a row is one. Most have no use for it.

Below, `ratio = exp(logprobs - old_logprobs)` and `A` are the advantages.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from critic_jax.objectives import masked

Array = Any

# exp(20) = 4.9e8: above it every ratio is constant, also those of `kl.py` and
# of metrics, so that it cannot become infinite and turn a zero advantage into
# NaN. It is far outside every clip.
MAX_LOG_RATIO = 20.0

# Those with a ratio, which corrects for batches that older parameters sampled.
OFF_POLICY = ('ppo_clip', 'gspo', 'cispo')


def reinforce(
  logprobs: Array,
  old_logprobs: Array,
  advantages: Array,
  mask: Array,
  segments: Array | None = None,
) -> Array:
  """Computes REINFORCE: `-A * logprobs`, on-policy.

  Williams (1992), https://doi.org/10.1007/BF00992696, eq. 11. There is no
  correction for off-policy samples: `old_logprobs` is not used.

  Args:
    logprobs: float[B, T], those of the policy that is trained.
    old_logprobs: float[B, T], those of the policy that sampled.
    advantages: float[B, T] or [B, 1].
    mask: bool[B, T], True = trained.
    segments: not used.

  Returns:
    float[B, T].
  """
  del old_logprobs, segments
  return -_trained(advantages, mask) * _trained(logprobs, mask)


def ppo_clip(
  logprobs: Array,
  old_logprobs: Array,
  advantages: Array,
  mask: Array,
  segments: Array | None = None,
  *,
  clip_low: float = 0.2,
  clip_high: float = 0.2,
  dual_clip: float | None = None,
) -> Array:
  """Computes PPO's clipped surrogate, with the variants of its clip.

  `-min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A)`,
  https://arxiv.org/abs/1707.06347, eq. 7. With `clip_high > clip_low` it is
  DAPO's clip-higher, https://arxiv.org/abs/2503.14476, eq. 8. With `dual_clip`
  = c it is at most `-c A` where A < 0, https://arxiv.org/abs/1912.09729, eq. 5.
  On-policy its gradient is that of `reinforce`.

  >>> one = jnp.ones((1, 1))
  >>> loss = ppo_clip(jnp.log(2 * one), 0 * one, one, one > 0, clip_high=0.28)
  >>> print(f'{loss[0, 0]:.2f}')
  -1.28

  Args:
    logprobs: float[B, T], those of the policy that is trained.
    old_logprobs: float[B, T], those of the policy that sampled.
    advantages: float[B, T] or [B, 1].
    mask: bool[B, T], True = trained.
    segments: not used.
    clip_low: distance below 1 to which the ratio is followed.
    clip_high: distance above 1 to which the ratio is followed.
    dual_clip: the largest ratio followed where the advantage is negative,
      above `1 + clip_high`; None: no limit.

  Returns:
    float[B, T].
  """
  del segments
  ratio = jnp.exp(_log_ratio(logprobs, old_logprobs, mask))
  advantages = _trained(advantages, mask)
  loss = _clipped_surrogate(ratio, advantages, clip_low, clip_high)
  if dual_clip is not None:
    bounded = jnp.minimum(loss, -dual_clip * advantages)
    loss = jnp.where(advantages < 0, bounded, loss)
  return loss


def gspo(
  logprobs: Array,
  old_logprobs: Array,
  advantages: Array,
  mask: Array,
  segments: Array | None = None,
  *,
  clip_low: float = 3e-4,
  clip_high: float = 4e-4,
) -> Array:
  """Computes GSPO: PPO with one length-normalised ratio a response.

  `-min(s A, clip(s, 1 - clip_low, 1 + clip_high) A)` with
  `s = exp(mean over trained tokens of (logprobs - old_logprobs))`,
  https://arxiv.org/abs/2507.18071, eq. 5-7. Every trained token of a
  response has the response's value, so that the paper's loss is the 'sequence'
  reduction. For responses of one token it is `ppo_clip`.

  Args:
    logprobs: float[B, T], those of the policy that is trained.
    old_logprobs: float[B, T], those of the policy that sampled.
    advantages: float[B, 1], or [B, T] with equal values in a response.
    mask: bool[B, T], True = trained.
    segments: int32[B, T], the responses of a row; None: a row is one.
    clip_low: distance below 1 to which the ratio is followed; the defaults of
      both are the paper's.
    clip_high: distance above 1 to which the ratio is followed.

  Returns:
    float[B, T].
  """
  log_ratio = _trained(logprobs - jax.lax.stop_gradient(old_logprobs), mask)
  mean_log_ratio = _response_mean(log_ratio, mask, segments)
  ratio = jnp.exp(jnp.minimum(mean_log_ratio, MAX_LOG_RATIO))
  advantages = _trained(advantages, mask)
  return _clipped_surrogate(ratio, advantages, clip_low, clip_high)


def cispo(
  logprobs: Array,
  old_logprobs: Array,
  advantages: Array,
  mask: Array,
  segments: Array | None = None,
  *,
  clip_low: float = 1.0,
  clip_high: float = 4.0,
) -> Array:
  """Computes CISPO: REINFORCE weighted by a clipped ratio without gradient.

  `-stop_gradient(clip(ratio, 1 - clip_low, 1 + clip_high)) A logprobs`,
  https://arxiv.org/abs/2506.13585, eq. 4-5. No token loses its gradient, as
  tokens outside PPO's clip do. Both clips at 0 give `reinforce`.

  The paper tunes `clip_high` and sets no lower limit. The default here lets
  weights go up to 5, as some implementations do; it is not the paper's.

  Args:
    logprobs: float[B, T], those of the policy that is trained.
    old_logprobs: float[B, T], those of the policy that sampled.
    advantages: float[B, T] or [B, 1].
    mask: bool[B, T], True = trained.
    segments: not used.
    clip_low: how far below 1 a weight may be; 1: no limit, as in the paper.
    clip_high: how far above 1 a weight may be.

  Returns:
    float[B, T].
  """
  del segments
  _check_clips(clip_low, clip_high)
  ratio = jnp.exp(_log_ratio(logprobs, old_logprobs, mask))
  weight = jax.lax.stop_gradient(jnp.clip(ratio, 1 - clip_low, 1 + clip_high))
  advantages = _trained(advantages, mask)
  return -weight * advantages * _trained(logprobs, mask)


def shaped(
  logprobs: Array,
  old_logprobs: Array,
  advantages: Array,
  mask: Array,
  segments: Array | None = None,
  *,
  gamma: float = 0.1,
) -> Array:
  """Computes a surrogate of tokens that the policy was led to, or given.

  `-A f(p)` with `f(p) = p / (p + gamma)` and `p = exp(logprobs)`: the policy
  shaping of LUFFY, https://arxiv.org/abs/2504.14945, which Critique-GRPO,
  https://arxiv.org/abs/2506.03106, takes for refinements. There is no ratio:
  whoever wrote the tokens read another prompt, and `old_logprobs` is not used.

  Its slope in a log-probability is `-A f (1 - f)`: a quarter of A at most,
  where p is gamma, and less where the policy is sure of a token, or would
  hardly write it at all. A large gamma gives `-A p / gamma`, which follows what
  is likely already; a small one the constant `-A`, which follows nothing.

  >>> tenth = jnp.log(jnp.full((1, 1), 0.1))
  >>> print(f'{shaped(tenth, tenth, jnp.ones((1, 1)), tenth < 0)[0, 0]:.2f}')
  -0.50

  Args:
    logprobs: float[B, T], those of the policy that is trained.
    old_logprobs: not used.
    advantages: float[B, T] or [B, 1].
    mask: bool[B, T], True = trained.
    segments: not used.
    gamma: the probability whose weight is a half; the default is that of both
      papers' code.

  Returns:
    float[B, T].
  """
  del old_logprobs, segments
  if not 0 < gamma < math.inf:
    raise ValueError(f'gamma: got {gamma}; expected a finite number above 0')
  # p / (p + gamma) is the sigmoid of log p - log gamma: finite for any p.
  weight = jax.nn.sigmoid(_trained(logprobs, mask) - math.log(gamma))
  return -_trained(advantages, mask) * weight


def _trained(x: Array, mask: Array) -> Array:
  return jnp.where(mask, x, 0)


def _response_mean(x: Array, mask: Array, segments: Array | None) -> Array:
  """Averages over responses: [B, T], or [B, 1] where a row is a response.

  Args:
    x: float[B, T], zero where masked.
    mask: bool[B, T].
    segments: int32[B, T] or None.
  """
  if segments is None:
    return masked.mean(x, mask, axis=1)[:, None]

  def total(x, segments):  # one row
    sums = jax.ops.segment_sum(x, segments, num_segments=len(segments) + 1)
    return sums[segments]

  total = jax.vmap(total)
  count = total(mask.astype(x.dtype), segments)
  return total(x, segments) / jnp.maximum(count, 1)


def _log_ratio(logprobs: Array, old_logprobs: Array, mask: Array) -> Array:
  # Zero where masked *before* exp: a later `where` would hide an infinite ratio
  # from the value, but multiply its gradient by zero, which is NaN.
  log_ratio = _trained(logprobs - jax.lax.stop_gradient(old_logprobs), mask)
  return jnp.minimum(log_ratio, MAX_LOG_RATIO)


def _clipped_surrogate(
  ratio: Array, advantages: Array, clip_low: float, clip_high: float
) -> Array:
  _check_clips(clip_low, clip_high)
  clipped = jnp.clip(ratio, 1 - clip_low, 1 + clip_high)
  return -jnp.minimum(ratio * advantages, clipped * advantages)


def _check_clips(clip_low: float, clip_high: float) -> None:
  """Raises ValueError for clips that leave nothing of a ratio of 1."""
  if not (clip_low >= 0 and clip_high >= 0):
    raise ValueError(
      f'clip_low, clip_high: got {clip_low}, {clip_high}; expected both >= 0'
    )
