"""Scores of several reward models -> one: what their disagreement costs.

"Reward Model Ensembles" (https://arxiv.org/abs/2310.02743): who optimises a
score finds where it is too high by mistake, and models that differ only in
their head's seed and their order of data make other mistakes. All functions
have one signature, `(scores, *, ...) -> float32[...]`, of scores [K, ...] of K
models. Models whose scores have other scales are not comparable: `average` is
then that of the widest. One model's score is its own by all of them.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

Array = Any


def average(scores: Array) -> Array:
  """Returns the mean over models.

  Args:
    scores: float[K, ...].
  """
  return jnp.mean(_float32(scores), axis=0)


def worst_case(scores: Array) -> Array:
  """Returns the lowest score: the paper's worst-case optimisation, section 4.

  Args:
    scores: float[K, ...].
  """
  return jnp.min(_float32(scores), axis=0)


def uncertainty_weighted(scores: Array, *, coef: float = 0.5) -> Array:
  """Returns the mean less `coef` times the variance over models.

  The paper's uncertainty-weighted optimisation, section 4. It is the variance
  and not the deviation, so that `coef` is in units of 1 / score; it is the
  population's, as in the paper's code for best-of-n, whose default of 0.5 it
  is. With `coef` 0 it is `average`.

  >>> print(uncertainty_weighted(jnp.array([1.0, 3.0]), coef=0.5))  # 2 - 1 / 2
  1.5

  Args:
    scores: float[K, ...].
    coef: the price of the variance.

  Raises:
    ValueError: a negative `coef`, which would pay for disagreement.
  """
  if not coef >= 0:
    raise ValueError(f'coef: got {coef}; expected >= 0')
  return average(scores) - coef * jnp.var(_float32(scores), axis=0)


def _float32(scores: Array) -> Array:
  return jnp.asarray(scores).astype(jnp.float32)
