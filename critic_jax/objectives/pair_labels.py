"""Wrong labels of pairs, found by what several reward models say of them.

"Secrets of RLHF, part II" (https://arxiv.org/abs/2401.06080) trains some models
on the same noisy labels, and takes the mean of their differences of scores as
the strength of a pair's preference. It flips the labels of the weakest, and
asks for a margin of the strength (`reward.bradley_terry`). Pairs are [N, 2],
the chosen response first; `where` is bool[N], False for padding.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

Array = Any


def preference_strength(scores: Array, where: Array) -> tuple[Array, Array]:
  """Computes the mean and the deviation of d over several models.

  The paper's section 2.1, where models differ in seed and order of data; d is
  the chosen response's score less the rejected one's. A mean far below 0 tells
  of a wrong label, one near 0 of a pair on which the models do not agree, one
  far above 0 of a clear preference.

  Args:
    scores: float[M, N, 2], of M models.
    where: bool[N].

  Returns:
    float32[N] each, 0 for padding; the deviation is the population's, and 0 for
    one model.
  """
  scores = jnp.asarray(scores).astype(jnp.float32)
  differences = jnp.where(where, scores[..., 0] - scores[..., 1], 0)
  return jnp.mean(differences, axis=0), jnp.std(differences, axis=0)


def flips(strengths: Array, where: Array, *, share: float = 0.2) -> Array:
  """Finds the labels that are taken to be wrong.

  The paper's section 2.2: those of the `share` of pairs with
  the weakest preferences, as far as these are below 0. Ties at the border are
  all in, or all out.

  >>> ones = jnp.ones(4) > 0
  >>> flips(jnp.array([2.0, -1.0, 0.5, -3.0]), ones, share=0.25).tolist()
  [False, False, False, True]

  Args:
    strengths: float[N], of `preference_strength`.
    where: bool[N], False for padding, which does not count.
    share: the greatest share of pairs whose labels are wrong.

  Returns:
    bool[N].

  Raises:
    ValueError: a `share` outside of [0, 1].
  """
  if not 0 <= share <= 1:
    raise ValueError(f'share: got {share}; expected 0 to 1')
  strengths = jnp.where(where, strengths, jnp.inf)
  # Pairs that are at most as strong, each itself among them.
  ranks = jnp.sum(strengths[:, None] >= strengths, axis=1)
  most = jnp.floor(share * jnp.sum(where) + 1e-4)  # 0.29 * 100 is 28.999...
  return (ranks <= most) & (strengths < 0)
