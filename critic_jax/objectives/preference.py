"""Objectives of preferences: a chosen response and a rejected one to a prompt.

All have one signature, `(logprobs, ref_logprobs, num_tokens, kl=0.0,
margins=0.0, *, ...) -> float32[N]`, for N pairs; the chosen response is first:

  logprobs      float[N, 2], sums over responses, of the policy that is trained
  ref_logprobs  float[N, 2], those of the reference
  num_tokens    float[N, 2], the responses' lengths; 0 for padding
  kl            float[] or [N], an estimate of KL(policy || reference), in nats
                a response
  margins       float[] or [N], how much better the chosen response is by some
                reward

The result is minimised and not reduced. A pair that lacks a token is padding,
but for `kto`: its loss and gradient are 0, whatever its places hold. The
gradient flows through `logprobs` only. All is computed in float32. A setting
out of its range is a ValueError.

Below, `lp` is the sum of a response's log-probabilities, `lr = lp - ref_lp`,
`h = lr[chosen] - lr[rejected]`, and `mean lp = lp / num_tokens`. What other
papers change is in the arrays: a reference that is a mixture (INPO,
https://arxiv.org/abs/2407.00617) is a sum of log-probabilities; a soft target z
(DNO, https://arxiv.org/abs/2404.03715) is the pair with weight z, and swapped
with 1 - z.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from critic_jax.objectives import pair_sums

Array = Any

# Those that read `ref_logprobs`, `kl`, and `margins`.
WITH_REFERENCE = ('dpo', 'ipo', 'slic', 'modpo', 'mmdpo', 'd2o', 'kto')
WITH_KL = ('kto',)
WITH_MARGINS = ('modpo', 'mmdpo')
# Those to which the chosen side is the mean of all that are chosen over a
# response, and those that learn from a response that has no other side.
OF_MEANS = ('d2o',)
OF_SINGLES = ('kto',)

# Above it a mean log-probability is constant in `orpo`: 1 - exp(0) has no
# logarithm.
_MAX_MEAN = -1e-6


def dpo(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  margins: Array = 0.0,
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
    beta: the strength of the KL to the reference.
    label_smoothing: the share of wrong labels, in [0, 0.5).
  """
  del kl, margins
  pair_sums.check_positive(beta=beta)
  if not 0 <= label_smoothing < 0.5:
    raise ValueError(
      f'label_smoothing: got {label_smoothing}; expected >= 0 and < 0.5'
    )
  margin = beta * pair_sums.gap(logprobs, ref_logprobs, num_tokens)
  loss = -(1 - label_smoothing) * jax.nn.log_sigmoid(margin)
  loss -= label_smoothing * jax.nn.log_sigmoid(-margin)
  return pair_sums.of_pairs(loss, num_tokens)


def ipo(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  margins: Array = 0.0,
  *,
  tau: float = 0.1,
  per_token: bool = False,
) -> Array:
  """Computes IPO: `(h - 1 / (2 tau))**2`.

  https://arxiv.org/abs/2310.12036, eq. 17. The margin has a target, where DPO's
  grows without a bound on labels that are certain. With `per_token` h is of
  `lr / num_tokens`, as public code has it, which says that the authors do so.

  Args:
    tau: the strength of the KL to the reference.
    per_token: whether log-ratios are means over tokens instead of sums.
  """
  del kl, margins
  pair_sums.check_positive(tau=tau)
  ratios = pair_sums.log_ratios(logprobs, ref_logprobs, num_tokens)
  if per_token:
    ratios = pair_sums.means(ratios, num_tokens)
  return pair_sums.of_pairs(
    (pair_sums.difference(ratios) - 1 / (2 * tau)) ** 2, num_tokens
  )


def slic(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  margins: Array = 0.0,
  *,
  beta: float = 1.0,
) -> Array:
  """Computes SLiC's rank loss, with a reference: `max(0, 1 - beta h)`.

  The loss hinge-norm of https://arxiv.org/abs/2309.06657, section 3.2. The
  loss of SLiC-HF, https://arxiv.org/abs/2305.10425, eq. 2, has no reference:
  it is `1 / beta` times this one of zeros. Its cross-entropy is not here. A
  pair with `h > 1 / beta` has no gradient.

  Args:
    beta: the inverse of the margin that is asked for.
  """
  del kl, margins
  pair_sums.check_positive(beta=beta)
  margin = pair_sums.gap(logprobs, ref_logprobs, num_tokens)
  return pair_sums.of_pairs(jax.nn.relu(1 - beta * margin), num_tokens)


def simpo(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  margins: Array = 0.0,
  *,
  beta: float = 2.0,
  gamma: float = 1.0,
) -> Array:
  """Computes SimPO: `-log sigmoid(beta (mean lp_c - mean lp_r) - gamma)`.

  https://arxiv.org/abs/2405.14734, eq. 6, c the chosen response and r the
  rejected one. There is no reference; with responses of one token and `gamma`
  0 it is `dpo` with a uniform one.

  Args:
    beta: the scale of the mean log-probabilities.
    gamma: the margin that is asked for.
  """
  del ref_logprobs, kl, margins
  pair_sums.check_positive(beta=beta)
  means = pair_sums.means(pair_sums.sums(logprobs, num_tokens), num_tokens)
  margin = beta * pair_sums.difference(means) - gamma
  return pair_sums.of_pairs(-jax.nn.log_sigmoid(margin), num_tokens)


def orpo(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  margins: Array = 0.0,
  *,
  lambda_: float = 0.1,
) -> Array:
  """Computes ORPO: `-mean lp_c - lambda log sigmoid(odds_c - odds_r)`.

  https://arxiv.org/abs/2403.07691, eq. 6 and 7: imitation of the chosen
  response c, and the log of the ratio of odds, where odds = log(p / (1 - p)) of
  p = exp(mean lp). There is no reference.

  Args:
    lambda_: the weight of the ratio of odds; 0 is imitation.
  """
  del ref_logprobs, kl, margins
  if not lambda_ >= 0:
    raise ValueError(f'lambda_: got {lambda_}; expected >= 0')
  means = pair_sums.means(pair_sums.sums(logprobs, num_tokens), num_tokens)
  bounded = jnp.minimum(means, _MAX_MEAN)
  odds = bounded - jnp.log(-jnp.expm1(bounded))
  loss = -means[:, 0] - lambda_ * jax.nn.log_sigmoid(pair_sums.difference(odds))
  return pair_sums.of_pairs(loss, num_tokens)


def modpo(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  margins: Array = 0.0,
  *,
  beta: float = 0.1,
  weight: float = 0.5,
) -> Array:
  """Computes MODPO: `-log sigmoid((beta h - m) / w)`.

  https://arxiv.org/abs/2310.03708, as its released code has it. Pairs are
  labelled by one objective, of weight w; `margins` m are of the rewards of all
  others, each times its own weight. The optimum is `ref exp(sum_i w_i r_i /
  beta)`. With w = 1 and m = 0 it is `dpo`. Below w = 0.1 logits are large.

  Args:
    beta: the strength of the KL to the reference, for the whole sum of rewards.
    weight: w of the objective that labels the pairs, in (0, 1].
  """
  del kl
  pair_sums.check_positive(beta=beta)
  if not 0 < weight <= 1:
    raise ValueError(f'weight: got {weight}; expected > 0 and <= 1')
  margin = beta * pair_sums.gap(logprobs, ref_logprobs, num_tokens)
  margin = (margin - pair_sums.constants(margins, num_tokens)) / weight
  return pair_sums.of_pairs(-jax.nn.log_sigmoid(margin), num_tokens)


def mmdpo(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  margins: Array = 0.0,
  *,
  beta: float = 0.1,
  scale: float = 0.5,
  rate: float = 0.5,
) -> Array:
  """Computes MM-DPO: `-log sigmoid(b h)`, `b = beta (1 + w (1 - exp(-k m)))`.

  Dynamic reward scaling, https://arxiv.org/abs/2502.10391, from memory: pairs
  that a reward tells far apart are followed further. With m = 0 or w = 0 it is
  `dpo`, and with equal margins `dpo` of another beta, in [beta, (1 + w) beta].
  A negative margin, of a reward that disagrees with the label, counts as 0,
  which is ours.

  Args:
    beta: the strength of the KL to the reference where the margin is 0.
    scale: w, how much b grows at most, over beta.
    rate: k, how fast it grows.
  """
  del kl
  pair_sums.check_positive(beta=beta, rate=rate)
  if not scale >= 0:
    raise ValueError(f'scale: got {scale}; expected >= 0')
  gap = jax.nn.relu(pair_sums.constants(margins, num_tokens))
  betas = beta * (1 - scale * jnp.expm1(-rate * gap))
  margin = betas * pair_sums.gap(logprobs, ref_logprobs, num_tokens)
  return pair_sums.of_pairs(-jax.nn.log_sigmoid(margin), num_tokens)


def d2o(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  margins: Array = 0.0,
  *,
  beta: float = 0.1,
  alpha: float = 0.1,
) -> Array:
  """Computes D2O: `-log sigmoid(beta mean_k lr_k - alpha lr_r)`.

  https://arxiv.org/abs/2403.03419, from memory: a rejected response r against
  the mean of K others (`OF_MEANS`), which the paper has the policy write. The
  arrays of the chosen side are these means. One reference serves both sides,
  where the paper may have two. With K = 1 and alpha = beta it is `dpo`.

  Args:
    beta: the scale of the mean of log-ratios.
    alpha: that of the rejected response's.
  """
  del kl, margins
  pair_sums.check_positive(beta=beta, alpha=alpha)
  ratios = pair_sums.log_ratios(logprobs, ref_logprobs, num_tokens)
  margin = beta * ratios[:, 0] - alpha * ratios[:, 1]
  return pair_sums.of_pairs(-jax.nn.log_sigmoid(margin), num_tokens)


def kto(
  logprobs: Array,
  ref_logprobs: Array,
  num_tokens: Array,
  kl: Array = 0.0,
  margins: Array = 0.0,
  *,
  beta: float = 0.1,
  chosen_weight: float = 1.0,
  rejected_weight: float = 1.0,
) -> Array:
  """Computes KTO: the mean of `w_c sigmoid(-beta (lr_c - kl))` and `w_r
  sigmoid(beta (lr_r - kl))`.

  https://arxiv.org/abs/2402.01306, eq. 7 and 8: each response is compared with
  what the policy writes on average, `kl`, and not with the other one. So a pair
  may lack a side, and the loss is the other's alone. The mean makes that over
  pairs the one over responses. A negative `kl` counts as 0; it has no gradient.

  Args:
    beta: the scale of the log-ratios.
    chosen_weight: the weight of chosen responses.
    rejected_weight: the weight of rejected ones.
  """
  del margins
  pair_sums.check_positive(beta=beta)
  if not (chosen_weight >= 0 and rejected_weight >= 0):
    raise ValueError(
      f'chosen_weight, rejected_weight: got {chosen_weight}, '
      f'{rejected_weight}; expected both >= 0'
    )
  is_there = jnp.asarray(num_tokens) > 0
  ratios = pair_sums.float32(logprobs, is_there)
  ratios -= pair_sums.float32(jax.lax.stop_gradient(ref_logprobs), is_there)
  kl = jax.lax.stop_gradient(jnp.maximum(jnp.asarray(kl, jnp.float32), 0))
  chosen = chosen_weight * jax.nn.sigmoid(-beta * (ratios[:, 0] - kl))
  rejected = rejected_weight * jax.nn.sigmoid(beta * (ratios[:, 1] - kl))
  losses = pair_sums.float32(jnp.stack([chosen, rejected], axis=1), is_there)
  return jnp.sum(losses, axis=1) / jnp.maximum(jnp.sum(is_there, axis=1), 1)
