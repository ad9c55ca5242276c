"""Objectives of a process reward model: the scores of steps towards targets.

All have one signature, `(scores, targets, mask) -> float[B, T]`. `scores` are
logits: `sigmoid(score)` is the probability that the step is right, or the value
after it. Targets are in [0, 1], hard or soft (rewards/step_values.py). The
result is minimised, not reduced (`masked.loss_weights` does that), and zero
where masked, whatever is there.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = Any


def cross_entropy(scores: Array, targets: Array, mask: Array) -> Array:
  """Computes the cross-entropy of each step's label.

  `-t log(p) - (1 - t) log(1 - p)`, p = sigmoid(score): the loss of "Let's
  verify step by step" (https://arxiv.org/abs/2305.20050) for labels, and of
  Math-Shepherd (https://arxiv.org/abs/2312.08935, eq. 3 and 4) for hard and
  for soft ones. Its minimum is at p = t, where it is the entropy of t, and its
  gradient is p - t.

  >>> one = jnp.ones((1, 1))
  >>> round(float(cross_entropy(0 * one, one, one > 0)[0, 0]), 4)  # log(2)
  0.6931
  """
  scores = jnp.where(mask, scores, 0)
  targets = jnp.where(mask, targets, 0)
  loss = jax.nn.softplus(scores) - targets * scores
  return jnp.where(mask, loss, 0)


def squared(scores: Array, targets: Array, mask: Array) -> Array:
  """Computes the squared error `(p - t)**2 / 2`: the Brier score, halved.

  A soft target is a share of few completions; this loss is bounded where it is
  far off. At a target of 0 or 1 its gradient vanishes where the model is sure,
  and wrong.

  >>> one = jnp.ones((1, 1))
  >>> float(squared(0 * one, one, one > 0)[0, 0])  # (0.5 - 1)**2 / 2
  0.125
  """
  p = jax.nn.sigmoid(jnp.where(mask, scores, 0))
  return jnp.where(mask, (p - jnp.where(mask, targets, 0)) ** 2 / 2, 0)
