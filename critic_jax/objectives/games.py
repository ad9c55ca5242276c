"""Objectives of pairs that play a preference game against the policy itself.

No reward says which response is better, but a preference of one over another,
P(y > y') = 1 - P(y' > y), which need not be transitive. A policy that no other
beats is the game's Nash equilibrium; these losses step to it, each from the
policy that sampled the pair. All have one signature, `(logprobs, ref_logprobs,
old_logprobs, num_tokens, win_rates, *, ...) -> float32[N]`, for N pairs; the
chosen response is first:

  logprobs      float[N, 2], sums over responses, of the policy that is trained
  ref_logprobs  float[N, 2], those of the reference that it stays near
  old_logprobs  float[N, 2], those of the policy that sampled them, pi_t
  num_tokens    float[N, 2], the responses' lengths; 0 for padding
  win_rates     float[N, 2], P(y > pi_t), the mean preference of each response
                over others of pi_t (win_rates.py)

As in preference.py: the result is minimised and not reduced, the gradient flows
through `logprobs` only, a pair that lacks a token is padding, and a setting out
of its range is a ValueError. Below, `w` is a win rate, c the chosen response, r
the rejected one, `lr = lp - lp_ref`, `lr_t = lp - lp_t`, and h is the log-ratio
of c less that of r.

Each is also an objective of preference.py whose arrays are others: `inpo` is
`ipo` with a mixture as the reference, and `dno` is `dpo` with soft labels. So
DNO-Prct, which has hard ones, is `dpo` with pi_t as the reference.
"""

from __future__ import annotations

from typing import Any

import jax

from critic_jax.objectives import pair_sums, preference

Array = Any

# Those that read `ref_logprobs`, and `old_logprobs`.
WITH_REFERENCE = ('inpo', 'online_ipo')
WITH_OLD = ('inpo', 'dno', 'sppo')


def inpo(
  logprobs: Array,
  ref_logprobs: Array,
  old_logprobs: Array,
  num_tokens: Array,
  win_rates: Array,
  *,
  eta: float = 0.0075,
  tau: float = 0.0025,
) -> Array:
  """Computes INPO: `(h - 1 / (2 eta))**2`, with a mixture as the reference.

  https://arxiv.org/abs/2407.00617: the reference of h is `(tau / eta) lp_ref +
  (1 - tau / eta) lp_t`. Over pairs of samples of pi_t, labelled by the
  preference between the two, its optimum is `pi_t**(1 - tau / eta) ref**(tau /
  eta) exp(P(y > pi_t) / eta)`, a step of online mirror descent. With eta = tau
  it is `ipo`.

  Args:
    eta: the inverse of the step; the default is that of public code.
    tau: the strength of the KL to the reference, in (0, eta]; a third of eta
      in public code.
  """
  del win_rates
  pair_sums.check_positive(eta=eta)
  if not 0 < tau <= eta:
    raise ValueError(f'tau: got {tau}; expected > 0 and <= eta, which is {eta}')
  share = tau / eta
  # A mixture of padding is padding, whatever its places hold.
  ref_logprobs = pair_sums.constants(ref_logprobs, num_tokens)
  old_logprobs = pair_sums.constants(old_logprobs, num_tokens)
  mixed = share * ref_logprobs + (1 - share) * old_logprobs
  return preference.ipo(logprobs, mixed, num_tokens, tau=eta)


def online_ipo(
  logprobs: Array,
  ref_logprobs: Array,
  old_logprobs: Array,
  num_tokens: Array,
  win_rates: Array,
  *,
  beta: float = 0.1,
) -> Array:
  """Computes online IPO, generalised: `(h - (w_c - w_r) / beta)**2`.

  The loss of EGPO, https://arxiv.org/abs/2503.08942, whose win rates are
  against the policy of a half step; h is of `lr`. Its optimum is `ref exp(w /
  beta)`: where w is the optimum's own, that is the equilibrium of the game with
  a KL to the reference. With a gap of a half it is `ipo`.

  Args:
    beta: the strength of the KL to the reference.
  """
  del old_logprobs
  pair_sums.check_positive(beta=beta)
  target = _gap_of_wins(win_rates, num_tokens) / beta
  distance = pair_sums.gap(logprobs, ref_logprobs, num_tokens) - target
  return pair_sums.of_pairs(distance**2, num_tokens)


def dno(
  logprobs: Array,
  ref_logprobs: Array,
  old_logprobs: Array,
  num_tokens: Array,
  win_rates: Array,
  *,
  eta: float = 0.1,
) -> Array:
  """Computes DNO: `-z log sigmoid(eta h) - (1 - z) log sigmoid(-eta h)`.

  https://arxiv.org/abs/2404.03715, algorithm 1: the label z = sigmoid(w_c -
  w_r) is as certain as the win rates are apart, and h is of `lr_t`. Its optimum
  is `pi_t exp(w / eta)`; nothing holds it near the reference. It is the same
  whichever response is called chosen.

  Args:
    eta: the scale of log-ratios, the inverse of the step.
  """
  del ref_logprobs
  label = jax.nn.sigmoid(_gap_of_wins(win_rates, num_tokens))
  old_logprobs = pair_sums.constants(old_logprobs, num_tokens)
  both = [
    preference.dpo(
      logprobs[:, order], old_logprobs[:, order], num_tokens, beta=eta
    )
    for order in (slice(None), slice(None, None, -1))
  ]
  return label * both[0] + (1 - label) * both[1]


def sppo(
  logprobs: Array,
  ref_logprobs: Array,
  old_logprobs: Array,
  num_tokens: Array,
  win_rates: Array,
  *,
  eta: float = 1000.0,
  even: float = 0.5,
) -> Array:
  """Computes SPPO: the mean over both of `(lr_t - eta (w - 1/2))**2`.

  https://arxiv.org/abs/2405.00675: each response has a target of its own, so
  that the losses of a pair are those of two responses; the constant of the
  exact step, `pi_t exp(eta w) / Z`, is taken to be `exp(eta / 2)`. GPO,
  https://arxiv.org/abs/2410.02197, has in the place of win rates the mean
  scores of a general preference model, of which an even game has 0.

  Args:
    eta: the step.
    even: the win rate that is no reason to change.
  """
  del ref_logprobs
  pair_sums.check_positive(eta=eta)
  target = eta * (pair_sums.constants(win_rates, num_tokens) - even)
  distance = pair_sums.log_ratios(logprobs, old_logprobs, num_tokens) - target
  return pair_sums.of_pairs((distance**2).mean(axis=1), num_tokens)


def _gap_of_wins(win_rates: Array, num_tokens: Array) -> Array:
  return pair_sums.difference(pair_sums.constants(win_rates, num_tokens))
