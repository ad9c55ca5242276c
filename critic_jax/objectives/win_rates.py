"""How a response does against others of its group: the reward of self-play.

Functions of preferences P [N, G, G] (pair_preferences.py), of G responses to
each of N prompts; `where`, bool[N, G], is False for a response of which nothing
is known: it wins nothing and is nobody's opponent. They accept numpy or jax
arrays and return the same kind, float32. None has a gradient.
"""

from __future__ import annotations

from typing import Any

Array = Any  # numpy or jax


def against(
  preferences: Array, where: Array, opponents: Array | None = None
) -> Array:
  """Averages preferences over the other responses: SPO's reward.

  `r_i = mean_{j != i} P_ij`, https://arxiv.org/abs/2401.04056, which writes
  2 P - 1: the responses of one policy play against each other, so that no
  second policy is needed. Where P is a comparison of scores, it is their rank;
  where all are alike, a half.

  >>> import numpy as np
  >>> wins = np.array([[[0.5, 1.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.0, 0.5]]])
  >>> against(wins, np.ones((1, 3), bool)).tolist()
  [[1.0, 0.5, 0.0]]

  Args:
    preferences: float[N, G, G], P or scores (`skew_scores`).
    where: bool[N, G].
    opponents: float[N, G], how much each response counts as an opponent, such
      as of `of_mixture`; None: all alike.

  Returns:
    float32[N, G]; 0 where masked, or without an opponent.
  """
  xp = preferences.__array_namespace__()
  size = preferences.shape[-1]
  counts = xp.ones_like(where, dtype=xp.float32)
  counts = counts if opponents is None else opponents
  counts = xp.where(where, counts, 0)[:, None, :] * (1 - xp.eye(size))
  counts = xp.where(where[:, :, None], counts, 0)
  total = xp.sum(counts, axis=-1)
  wins = xp.sum(counts * xp.where(counts > 0, preferences, 0), axis=-1)
  return (wins / xp.where(total > 0, total, 1)).astype(xp.float32)


def of_mixture(log_ratios: Array, where: Array, *, share: float) -> Array:
  """Weighs opponents as if a mixture with the reference had sampled them.

  Nash-MD (https://arxiv.org/abs/2312.00886) plays against `pi**(1 - c) ref**c`,
  normalised over whole responses, c the share of the reference. Samples of pi
  are such samples with weights `exp(-c (lp - lp_ref))`, normalised: importance
  sampling, which is exact for many of them, and worse the more c and the KL
  are. With share 0 all count alike.

  Args:
    log_ratios: float[N, G], `lp - lp_ref` of the policy that sampled.
    where: bool[N, G].
    share: c, in [0, 1].

  Returns:
    float32[N, G], of sum 1 over the group, zero where masked.

  Raises:
    ValueError: a share out of its range.
  """
  if not 0 <= share <= 1:
    raise ValueError(f'share: got {share}; expected >= 0 and <= 1')
  xp = log_ratios.__array_namespace__()
  logits = xp.where(where, -share * log_ratios, -xp.inf)
  highest = xp.max(logits, axis=1, keepdims=True)
  weights = xp.exp(logits - xp.where(xp.isfinite(highest), highest, 0))
  total = xp.sum(weights, axis=1, keepdims=True)
  return (weights / xp.where(total > 0, total, 1)).astype(xp.float32)


def nash_md(
  win_rates: Array, log_ratios: Array, where: Array, *, tau: float
) -> Array:
  """Computes Nash-MD's advantage of whole responses: `w - 1/2 - tau lr`.

  https://arxiv.org/abs/2312.00886: w is P(y > y') against the mixture with the
  reference (`of_mixture`), and lr = lp - lp_ref, a constant: REINFORCE with it
  follows the gradient of `P(pi > pi') - tau KL(pi || ref)`, in which the whole
  sum lr pays each token. The half is a baseline, and changes no mean.

  Args:
    win_rates: float[N, G].
    log_ratios: float[N, G], `lp - lp_ref` of the policy that sampled.
    where: bool[N, G].
    tau: the strength of the KL to the reference.

  Returns:
    float32[N, G], zero where masked.

  Raises:
    ValueError: a negative `tau`.
  """
  if not tau >= 0:
    raise ValueError(f'tau: got {tau}; expected >= 0')
  xp = win_rates.__array_namespace__()
  log_ratios = xp.where(where, log_ratios, 0)
  advantages = xp.where(where, win_rates - 0.5 - tau * log_ratios, 0)
  return advantages.astype(xp.float32)


def skew_scores(embeddings: Array, gates: Array | None = None) -> Array:
  """Computes a general preference model's scores of pairs, from embeddings.

  GPM, https://arxiv.org/abs/2410.02197: `s_ij = sum_l g_l (v_i[2l] v_j[2l+1] -
  v_i[2l+1] v_j[2l])`, by which i is preferred to j with probability sigmoid(s /
  temperature). So s_ij = -s_ji. With K = 1 and v = (score, 1) it is the
  difference of scores, that of Bradley and Terry; vectors around a circle
  prefer each the next. The sign is that of its code; its text also has the
  other.

  Args:
    embeddings: float[N, G, 2K], v.
    gates: float[N, K], g of each prompt, at least 0; None: 1.

  Returns:
    float32[N, G, G].
  """
  xp = embeddings.__array_namespace__()
  first, second = embeddings[..., 0::2], embeddings[..., 1::2]
  scaled = first if gates is None else first * gates[:, None, :]
  half = xp.matmul(scaled, xp.swapaxes(second, -1, -2))
  return (half - xp.swapaxes(half, -1, -2)).astype(xp.float32)
