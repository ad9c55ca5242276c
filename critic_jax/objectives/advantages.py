"""Estimators of advantages over groups: how much better a sample was.

A config names them. None has a gradient. They take rewards [N, G], G samples of
each of N prompts, and return float32[N, G]; they accept numpy or jax arrays and
return the same kind.
"""

from __future__ import annotations

from typing import Any

from critic_jax.objectives import masked

Array = Any  # numpy or jax


def group_relative(
  rewards: Array, where: Array | None = None, *, normalize: bool = True
) -> Array:
  """Computes rewards relative to their group's: GRPO, and Dr. GRPO.

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


def leave_one_out(rewards: Array, where: Array | None = None) -> Array:
  """Subtracts from a reward the mean of its group's others: RLOO.

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


def _all_if_none(rewards: Array, where: Array | None) -> Array:
  if where is not None:
    return where
  return rewards.__array_namespace__().ones_like(rewards, dtype=bool)
