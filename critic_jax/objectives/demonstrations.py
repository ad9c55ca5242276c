"""Objectives of given responses: imitation, by what is known of each token.

All have one signature, `(logprobs, mask, ref_logprobs=0.0, feedback=0.0,
values=0.0, *, ...) -> float32[B, T]`:

  logprobs      float[B, T], of the model that is trained
  mask          bool[B, T], True = trained
  ref_logprobs  float[B, T], those of a frozen reference
  feedback      float[B, T], how good the segment of a token is, R; higher is
                better
  values        float[B, T], what R was expected to be

The result is minimised, not reduced, and zero where masked; so is its gradient,
which flows through `logprobs` only. All is computed in float32. A setting out
of its range is a ValueError.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = Any

# Those that read `ref_logprobs`, and `feedback`.
WITH_REFERENCE = ('implicit_reward',)
WITH_FEEDBACK = ('unlikelihood', 'reward_weighted')
DIVERGENCES = ('total_variation', 'chi_squared', 'hellinger')


def likelihood(
  logprobs: Array,
  mask: Array,
  ref_logprobs: Array = 0.0,
  feedback: Array = 0.0,
  values: Array = 0.0,
) -> Array:
  """Computes `-log p`, the maximum likelihood of all tokens."""
  return -_trained(logprobs, mask)


def unlikelihood(
  logprobs: Array,
  mask: Array,
  ref_logprobs: Array = 0.0,
  feedback: Array = 0.0,
  values: Array = 0.0,
  *,
  threshold: float = 0.0,
  coef: float = 1.0,
) -> Array:
  """Computes `-log p` of good tokens and `-coef log(1 - p)` of bad ones.

  https://arxiv.org/abs/1908.04319, with the token's own feedback in the place
  of a list of tokens as in https://arxiv.org/abs/2302.08582, section 2. Good
  is `R >= threshold`. With `coef` 0 bad tokens are not learned from. The
  logarithm of 1 - p is bounded, so that a certain token has no gradient.

  >>> lp = jnp.log(jnp.array([[0.25, 0.25]]))
  >>> loss = unlikelihood(lp, lp < 0, 0.0, jnp.array([[1.0, -1.0]]))
  >>> print(jnp.exp(-loss).round(4))  # 1/4, and 1 - 1/4
  [[0.25 0.75]]

  Args:
    logprobs: as above.
    mask: as above.
    ref_logprobs: not read.
    feedback: as above.
    values: not read.
    threshold: the least R of a good token.
    coef: the weight of bad tokens.
  """
  if not coef >= 0:
    raise ValueError(f'coef: got {coef}; expected >= 0')
  logprobs = _trained(logprobs, mask)
  others = jnp.log(jnp.maximum(-jnp.expm1(logprobs), 1e-20))
  is_good = _constant(feedback) >= threshold
  loss = -jnp.where(is_good, logprobs, coef * others)
  return jnp.where(mask, loss, 0)


def reward_weighted(
  logprobs: Array,
  mask: Array,
  ref_logprobs: Array = 0.0,
  feedback: Array = 0.0,
  values: Array = 0.0,
  *,
  beta: float = 1.0,
  max_weight: float = 1000.0,
) -> Array:
  """Computes `-exp((R - V) / beta) log p`, the weight at most `max_weight`.

  Reward-weighted regression where the values are 0, and advantage-weighted
  regression (https://arxiv.org/abs/1910.00177) where they are learned, token by
  token as in https://arxiv.org/abs/2302.08582, section 2. Towards an infinite
  `beta` it is `likelihood`.

  >>> minus_one = jnp.full((1, 2), -1.0)
  >>> r = jnp.log(jnp.array([[1.0, 3.0]]))
  >>> print(reward_weighted(minus_one, minus_one < 0, 0.0, r).round(4))
  [[1. 3.]]
  """
  if not beta > 0:
    raise ValueError(f'beta: got {beta}; expected more than 0')
  if not max_weight > 0:
    raise ValueError(f'max_weight: got {max_weight}; expected more than 0')
  advantages = _constant(feedback) - _constant(values)
  weights = jnp.minimum(jnp.exp(advantages / beta), max_weight)
  return jnp.where(mask, -weights * _trained(logprobs, mask), 0)


def implicit_reward(
  logprobs: Array,
  mask: Array,
  ref_logprobs: Array = 0.0,
  feedback: Array = 0.0,
  values: Array = 0.0,
  *,
  beta: float = 0.1,
  divergence: str = 'chi_squared',
  floor: float = -0.5,
) -> Array:
  """Computes imitation by an f-divergence, with the KL to a reference kept.

  After "Implicit Reward as the Bridge" (https://arxiv.org/abs/2507.00018):
  imitation matches the distribution of demonstrations by a divergence, and
  pays beta for the KL to the reference, so that `u = beta (log p - log ref)` is
  the reward of a token that the policy implies. The loss is `-g(u) / beta`, and
  a token weighs g'(u) times what it does in `likelihood`:

    total_variation  g = u               1: likelihood, and nothing holds the
                                         model near the reference
    chi_squared      g = u - u^2 / 4     1 - u / 2: nothing more to learn at
                                         log p - log ref = 2 / beta
    hellinger        g = u / (1 + u)     1 / (1 + u)^2

  We derived these from the abstract; which divergences the paper has, and the
  constant that it adds to u (here 0), is unknown to us. Towards a `beta` of 0
  all three are `likelihood`, but for a constant.

  Args:
    logprobs: as above.
    mask: as above.
    ref_logprobs: as above.
    feedback: not read.
    values: not read.
    beta: the price of the KL.
    divergence: one of `DIVERGENCES`.
    floor: u below which 'hellinger' goes on straight, as it has no value at -1.

  Returns:
    float32[B, T].
  """
  if not beta > 0:
    raise ValueError(f'beta: got {beta}; expected more than 0')
  if divergence not in DIVERGENCES:
    raise ValueError(
      f'divergence: got {divergence!r}; expected one of {DIVERGENCES}'
    )
  if not -1 < floor <= 0:
    raise ValueError(f'floor: got {floor}; expected above -1, and 0 at most')
  u = beta * _trained(logprobs - _constant(ref_logprobs), mask)
  if divergence == 'total_variation':
    matched = u
  elif divergence == 'chi_squared':
    matched = u - u**2 / 4
  else:
    bounded = jnp.maximum(u, floor)
    matched = bounded / (1 + bounded) + (u - bounded) / (1 + bounded) ** 2
  return jnp.where(mask, -matched / beta, 0)


def _trained(x: Array, mask: Array) -> Array:
  """Returns float32 with 0 where masked, before anything can be infinite."""
  return jnp.where(mask, jnp.asarray(x).astype(jnp.float32), 0)


def _constant(x: Array) -> Array:
  return jax.lax.stop_gradient(jnp.asarray(x).astype(jnp.float32))
