"""Objectives of preferences: a chosen response and a rejected one to a prompt.

All have one signature,
`(logprobs, ref_logprobs, num_tokens, kl=0.0, *, ...) -> float32[N]`, for N
pairs; arrays of pairs are [N, 2], the chosen response first. The result is
minimised and not reduced. A pair that lacks a token is padding: its loss and
gradient are 0, whatever its places hold. The gradient flows through `logprobs`
only. All is computed in float32.

Below, `lp` is the sum of a response's log-probabilities, `lr = lp - ref_lp`,
`h = lr[chosen] - lr[rejected]`, and `mean lp = lp / num_tokens`. What other
papers change is in the arrays: a reference that is a mixture (INPO,
https://arxiv.org/abs/2407.00617) is a sum of log-probabilities; a margin m of
the rewards (MODPO, https://arxiv.org/abs/2310.03708) is `m / beta` added to the
chosen response's `ref_lp`; a soft target z (DNO,
https://arxiv.org/abs/2404.03715) is the pair with weight z, and swapped with
1 - z.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = Any

# Those that read `ref_logprobs`, and those that read `kl`.
WITH_REFERENCE = ('dpo', 'ipo', 'slic', 'kto')
WITH_KL = ('kto',)

# Above it a mean log-probability is constant in `orpo`: 1 - exp(0) has no
# logarithm.
_MAX_MEAN = -1e-6


def dpo(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  *,
  beta: float = 0.1,
  label_smoothing: float = 0.0,
) -> Array:
  """Computes DPO: `-(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h)`.

  https://arxiv.org/abs/2305.18290, eq. 7. A `label_smoothing` e > 0 is its
  conservative form, for labels that are wrong with probability e
  (https://ericmitchell.ai/cdpo.pdf): its least value is at `sigmoid(beta h)` =
  1 - e, at which the gradient is 0. Where h = 0 the loss is log 2.

  >>> pairs = jnp.log(jnp.array([[3.0, 1.0]]))
  >>> print(f'{dpo(pairs, 0 * pairs, pairs < 9, beta=1.0)[0]:.4f}')  # log 4/3
  0.2877

  Args:
    logprobs: float[N, 2], sums over responses, of the policy that is trained.
    ref_logprobs: float[N, 2], those of the reference.
    num_tokens: float[N, 2], the responses' lengths; 0 for padding.
    kl: not used.
    beta: the strength of the KL to the reference.
    label_smoothing: the share of wrong labels, in [0, 0.5).

  Returns:
    float32[N].

  Raises:
    ValueError: a setting is out of its range.
  """
  del kl
  _check_positive(beta=beta)
  if not 0 <= label_smoothing < 0.5:
    raise ValueError(
      f'label_smoothing: got {label_smoothing}; expected >= 0 and < 0.5'
    )
  margin = beta * _difference(_ratios(logprobs, ref_logprobs, num_tokens))
  loss = -(1 - label_smoothing) * jax.nn.log_sigmoid(margin)
  loss -= label_smoothing * jax.nn.log_sigmoid(-margin)
  return _of_pairs(loss, num_tokens)


def ipo(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  *,
  tau: float = 0.1,
  per_token: bool = False,
) -> Array:
  """Computes IPO: `(h - 1 / (2 tau))**2`.

  https://arxiv.org/abs/2310.12036, eq. 17. The margin has a target, where DPO's
  grows without a bound on labels that are certain. With `per_token` h is of
  `lr / num_tokens`, as public code has it, which says that the authors do so.

  Args:
    logprobs: float[N, 2], sums over responses, of the policy that is trained.
    ref_logprobs: float[N, 2], those of the reference.
    num_tokens: float[N, 2], the responses' lengths; 0 for padding.
    kl: not used.
    tau: the strength of the KL to the reference.
    per_token: whether log-ratios are means over tokens instead of sums.

  Returns:
    float32[N].

  Raises:
    ValueError: a `tau` that is not positive.
  """
  del kl
  _check_positive(tau=tau)
  ratios = _ratios(logprobs, ref_logprobs, num_tokens)
  if per_token:
    ratios = _means(ratios, num_tokens)
  return _of_pairs((_difference(ratios) - 1 / (2 * tau)) ** 2, num_tokens)


def slic(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  *,
  beta: float = 1.0,
) -> Array:
  """Computes SLiC's rank loss, with a reference: `max(0, 1 - beta h)`.

  The loss hinge-norm of https://arxiv.org/abs/2309.06657, section 3.2. The
  loss of SLiC-HF, https://arxiv.org/abs/2305.10425, eq. 2, has no reference:
  it is `1 / beta` times this one of zeros. Its cross-entropy is not here. A
  pair with `h > 1 / beta` has no gradient.

  Args:
    logprobs: float[N, 2], sums over responses, of the policy that is trained.
    ref_logprobs: float[N, 2], those of the reference.
    num_tokens: float[N, 2], the responses' lengths; 0 for padding.
    kl: not used.
    beta: the inverse of the margin that is asked for.

  Returns:
    float32[N].

  Raises:
    ValueError: a `beta` that is not positive.
  """
  del kl
  _check_positive(beta=beta)
  margin = _difference(_ratios(logprobs, ref_logprobs, num_tokens))
  return _of_pairs(jax.nn.relu(1 - beta * margin), num_tokens)


def simpo(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  *,
  beta: float = 2.0,
  gamma: float = 1.0,
) -> Array:
  """Computes SimPO: `-log sigmoid(beta (mean lp_c - mean lp_r) - gamma)`.

  https://arxiv.org/abs/2405.14734, eq. 6, c the chosen response and r the
  rejected one. There is no reference; with responses of one token and `gamma`
  0 it is `dpo` with a uniform one.

  Args:
    logprobs: float[N, 2], sums over responses, of the policy that is trained.
    ref_logprobs: not used.
    num_tokens: float[N, 2], the responses' lengths; 0 for padding.
    kl: not used.
    beta: the scale of the mean log-probabilities.
    gamma: the margin that is asked for.

  Returns:
    float32[N].

  Raises:
    ValueError: a `beta` that is not positive.
  """
  del ref_logprobs, kl
  _check_positive(beta=beta)
  means = _means(_sums(logprobs, num_tokens), num_tokens)
  margin = beta * _difference(means) - gamma
  return _of_pairs(-jax.nn.log_sigmoid(margin), num_tokens)


def orpo(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  *,
  lambda_: float = 0.1,
) -> Array:
  """Computes ORPO: `-mean lp_c - lambda log sigmoid(odds_c - odds_r)`.

  https://arxiv.org/abs/2403.07691, eq. 6 and 7: imitation of the chosen
  response c, and the log of the ratio of odds, where odds = log(p / (1 - p)) of
  p = exp(mean lp). There is no reference.

  Args:
    logprobs: float[N, 2], sums over responses, of the policy that is trained.
    ref_logprobs: not used.
    num_tokens: float[N, 2], the responses' lengths; 0 for padding.
    kl: not used.
    lambda_: the weight of the ratio of odds; 0 is imitation.

  Returns:
    float32[N].

  Raises:
    ValueError: a negative `lambda_`.
  """
  del ref_logprobs, kl
  if not lambda_ >= 0:
    raise ValueError(f'lambda_: got {lambda_}; expected >= 0')
  means = _means(_sums(logprobs, num_tokens), num_tokens)
  bounded = jnp.minimum(means, _MAX_MEAN)
  odds = bounded - jnp.log(-jnp.expm1(bounded))
  loss = -means[:, 0] - lambda_ * jax.nn.log_sigmoid(_difference(odds))
  return _of_pairs(loss, num_tokens)


def kto(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  *,
  beta: float = 0.1,
  chosen_weight: float = 1.0,
  rejected_weight: float = 1.0,
) -> Array:
  """Computes KTO: `(w_c sigmoid(-beta (lr_c - kl)) + w_r sigmoid(beta (lr_r -
  kl))) / 2`.

  https://arxiv.org/abs/2402.01306, eq. 7 and 8: each response is compared with
  what the policy writes on average, `kl`, and not with the other one. The half
  makes the mean over pairs that over responses.

  Args:
    logprobs: float[N, 2], sums over responses, of the policy that is trained.
    ref_logprobs: float[N, 2], those of the reference.
    num_tokens: float[N, 2], the responses' lengths; 0 for padding.
    kl: float[] or [N], an estimate of KL(policy || reference), in nats a
      response; a negative one counts as 0. It has no gradient.
    beta: the scale of the log-ratios.
    chosen_weight: the weight of chosen responses.
    rejected_weight: the weight of rejected ones.

  Returns:
    float32[N].

  Raises:
    ValueError: a `beta` that is not positive, or a negative weight.
  """
  _check_positive(beta=beta)
  if not (chosen_weight >= 0 and rejected_weight >= 0):
    raise ValueError(
      f'chosen_weight, rejected_weight: got {chosen_weight}, '
      f'{rejected_weight}; expected both >= 0'
    )
  ratios = _ratios(logprobs, ref_logprobs, num_tokens)
  kl = jax.lax.stop_gradient(jnp.maximum(jnp.asarray(kl, jnp.float32), 0))
  loss = chosen_weight * jax.nn.sigmoid(-beta * (ratios[:, 0] - kl))
  loss += rejected_weight * jax.nn.sigmoid(beta * (ratios[:, 1] - kl))
  return _of_pairs(loss / 2, num_tokens)


def _check_positive(**settings: float) -> None:
  """Raises ValueError for a setting that is not positive."""
  for name, value in settings.items():
    if not value > 0:
      raise ValueError(f'{name}: got {value}; expected > 0')


def _is_pair(num_tokens: Array) -> Array:
  return jnp.all(jnp.asarray(num_tokens) > 0, axis=1)


def _sums(x: Array, num_tokens: Array) -> Array:
  """Returns float32[N, 2], zero where a pair is padding.

  So *before* all else: a `where` at the end would hide a NaN from the value,
  but multiply its gradient by zero.
  """
  is_pair = _is_pair(num_tokens)[:, None]
  return jnp.where(is_pair, jnp.asarray(x).astype(jnp.float32), 0)


def _ratios(logprobs: Array, ref_logprobs: Array, num_tokens: Array) -> Array:
  ref_logprobs = jax.lax.stop_gradient(ref_logprobs)
  return _sums(logprobs, num_tokens) - _sums(ref_logprobs, num_tokens)


def _means(sums: Array, num_tokens: Array) -> Array:
  return sums / jnp.maximum(jnp.asarray(num_tokens).astype(jnp.float32), 1)


def _difference(x: Array) -> Array:
  return x[:, 0] - x[:, 1]


def _of_pairs(loss: Array, num_tokens: Array) -> Array:
  return jnp.where(_is_pair(num_tokens), loss, 0)
