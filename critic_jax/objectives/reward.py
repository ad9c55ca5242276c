"""Objectives of reward models: the scores of a chosen and a rejected response.

Scores of pairs are [N, 2], of the chosen response first and of the rejected one
to the same prompt; `where` is bool[N], False for padding. Losses are minimised,
not reduced, float32[N], and zero where `where` is False, whatever is there; so
is their gradient. All is computed in float32.

Below, `d = score[chosen] - score[rejected]`, the logit of the label's
probability by Bradley and Terry.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = Any


def bradley_terry(
  scores: Array,
  where: Array,
  margins: Array = 0.0,
  *,
  label_smoothing: float = 0.0,
  center_coef: float = 0.0,
) -> Array:
  """Computes `-(1 - e) log sigmoid(d - m) - e log sigmoid(m - d) + c s**2`.

  The likelihood of labels of Bradley and Terry (1952), as in
  https://arxiv.org/abs/2203.02155, eq. 1. The margin m is that of
  https://arxiv.org/abs/2307.09288, eq. 2, and of "Secrets of RLHF, part II"
  (https://arxiv.org/abs/2401.06080), which prints it outside of the logarithm,
  where it would have no gradient: here it is inside. A `label_smoothing` e > 0
  is for labels that are wrong with probability e: the loss is then least at
  `sigmoid(d - m)` = 1 - e.

  With `center_coef` c > 0 the sum s of both scores is drawn to 0, as in
  https://arxiv.org/abs/2312.09244; without it a constant added to all scores
  changes nothing, and nothing holds them.

  >>> print(f'{bradley_terry(jnp.array([[2.0, 2.0]]), jnp.ones(1) > 0)[0]:.4f}')
  0.6931

  Args:
    scores: float[N, 2], the chosen response first.
    where: bool[N], False for padding.
    margins: float[] or [N], the margins m; without gradient.
    label_smoothing: the probability e that a label is wrong.
    center_coef: the weight c of the squared sum.

  Returns:
    float32[N].

  Raises:
    ValueError: `label_smoothing` outside of [0, 0.5), or a negative
      `center_coef`.
  """
  if not 0 <= label_smoothing < 0.5:
    raise ValueError(
      f'label_smoothing: got {label_smoothing}; expected at least 0, and less '
      'than 0.5, at which a label says nothing'
    )
  if not center_coef >= 0:
    raise ValueError(f'center_coef: got {center_coef}; expected >= 0')
  scores = _masked(scores, jnp.asarray(where)[:, None])
  margins = jax.lax.stop_gradient(jnp.asarray(margins, jnp.float32))
  logits = scores[:, 0] - scores[:, 1] - _masked(margins, where)
  loss = -(1 - label_smoothing) * jax.nn.log_sigmoid(logits)
  loss -= label_smoothing * jax.nn.log_sigmoid(-logits)
  if center_coef:
    loss += center_coef * jnp.sum(scores, axis=1) ** 2
  return jnp.where(where, loss, 0)


def _masked(x: Array, where: Array) -> Array:
  """Returns float32, zero where a pair is padding.

  So *before* all else: a `where` at the end would hide a NaN from the value,
  but multiply its gradient by zero.
  """
  return jnp.where(where, jnp.asarray(x).astype(jnp.float32), 0)
