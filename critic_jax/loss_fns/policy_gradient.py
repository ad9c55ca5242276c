"""The policy-gradient loss that recipes share: a surrogate, and a KL penalty.

    loss = sum(weights * (surrogate + kl_coef * KL(policy || ref)))

The surrogate is a function of `objectives/policy.py`, the estimator of the KL
one of `objectives/kl.py`. Without a coefficient no reference is computed or
needed.

Tokens of `batch['off_policy']` have a surrogate of their own: the policy did
not write them as an answer to the row's prompt. Their `batch['logprobs']` are
those of whoever wrote them, under the prompt that was read then, or 0 for a
text that nobody sampled; so a surrogate with a ratio weighs by importance, and
the ratio says nothing of how far sampler and trainer are apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax import lookup
from critic_jax.loss_fns import scoring
from critic_jax.objectives import clipping, policy
from critic_jax.objectives import kl as kl_estimators
from critic_jax.sampling.lm import LM
from critic_jax.types import Batch, Roles

_METRICS = (
  'loss/policy',
  'policy/entropy',
  'policy/kl_old',
  'policy/clipped',
  'policy/ratio_error',
  'policy/max_ratio_error',
)
_KL_METRICS = ('loss/kl', 'policy/kl_ref')
_OFF_POLICY_METRICS = ('policy/off_policy', 'policy/off_policy_gap')


class PolicyLoss(NamedTuple):
  """A policy-gradient loss, and what a recipe must know of it.

  Attributes:
    loss: `(trained roles, batch) -> (scalar, (sums, per_row))`. Parts of the
      loss, by its weights: 'loss/policy', 'loss/kl'. Means over the trained
      tokens, whatever the weights are: 'policy/entropy' in nats,
      'policy/kl_old' = log(old / new), 'policy/kl_ref' = the estimate of
      'loss/kl', 'policy/clipped' = tokens with an advantage that does not move
      them, 'policy/ratio_error' = |ratio - 1|. Tokens that are off-policy count
      as 0 in 'policy/kl_old', in the ratio's errors and in the KL, which is
      estimated by the policy's own samples; their share is 'policy/off_policy',
      and 'policy/off_policy_gap' sums log(old / new) over them: over their
      share it is what the other prompt was worth, in nats a token. A value for
      each row, [B]:
      'policy/max_ratio_error', the largest; a matter of rounding where the same
      parameters wrote the batch.
    add_ref_logprobs: `(batch, roles) -> batch`, with the reference's
      log-probabilities if the KL needs them.
    scored: the roles that read the rows of a batch for it.
    metrics: the names of its metrics.
    corrects_staleness: whether it corrects for batches that older parameters
      sampled.
  """

  loss: Callable[[Roles, Batch], Any]
  add_ref_logprobs: Callable[[Batch, Roles], Batch]
  scored: tuple[str, ...]
  metrics: tuple[str, ...]
  corrects_staleness: bool


def make_policy_loss(
  models: Mapping[str, LM],
  role: str,
  *,
  objective: Mapping,
  kl: Mapping,
  microbatches: int,
  off_policy: Mapping | None = None,
) -> PolicyLoss:
  """Makes the loss of `role`'s responses in a batch.

  Args:
    models: LMs of `role`, and of 'ref' if the KL has a coefficient. The
      log-probabilities of both are under the sampling distribution of `role`.
    role: the trained role.
    objective: a name and keywords of `objectives/policy.py`.
    kl: `name`, of a function of `objectives/kl.py`, and `coef`.
    microbatches: parts of a batch that the reference reads one after another.
    off_policy: a name and keywords like `objective`'s, for the tokens of
      `batch['off_policy']`; None: batches need not have it.

  Raises:
    ValueError: a setting is wrong, the reference is missing, or the role
      samples greedily.
  """
  sampling_params = models[role].sampling_params
  if sampling_params.leaves_one_token(scoring.vocab_size(models, role)):
    raise ValueError(
      f'models.{role}: got temperature={sampling_params.temperature}, '
      f'top_k={sampling_params.top_k} and top_p={sampling_params.top_p}, which '
      'leave one token to sample; expected several, so that there is something '
      'to learn from; give it temperature=1.0, top_k=0 and top_p=1.0, or less '
      'extreme ones'
    )
  surrogate = other = _bind_surrogate(objective, 'objective')
  if off_policy is not None:
    other = _bind_surrogate(off_policy, 'off_policy')
  with lookup.naming('kl'):
    lookup.check_settings(_kl_penalty, kl, 'kl')
    kl_estimator, kl_coef = _kl_penalty(**kl)
  if kl_coef and 'ref' not in models:
    raise ValueError(
      f"kl.coef: got {kl_coef} without a model 'ref'; expected one in "
      f'{sorted(models)}; copy a role to it, or set kl.coef to 0'
    )

  for name in (role, 'ref') if kl_coef else (role,):
    scoring.check_head(models, name, 'lm')

  def loss(trained: Roles, batch: Batch):
    mask = batch['mask']
    scorer = scoring.bind(models, trained, role, sampling_params)
    logprobs, entropy = scorer.logprobs_and_entropies(batch)
    sampled, objective_fn = mask, surrogate
    if off_policy is not None:
      sampled = mask & ~batch['off_policy']
      objective_fn = _mixed(surrogate, other, sampled)
    per_token, is_clipped = clipping.value_and_clipped(
      objective_fn,
      logprobs,
      batch['logprobs'],
      batch['advantages'],
      mask,
      batch.get('segments'),
    )
    difference = jax.lax.stop_gradient(logprobs) - batch['logprobs']
    log_ratio = jnp.where(sampled, difference, 0.0)
    bounded = jnp.minimum(log_ratio, policy.MAX_LOG_RATIO)
    ratio_error = jnp.abs(jnp.expm1(bounded))
    losses = {'loss/policy': per_token}
    metrics = {
      'policy/entropy': entropy,
      'policy/kl_old': -log_ratio,
      'policy/clipped': is_clipped,
      'policy/ratio_error': ratio_error,
    }
    if off_policy is not None:
      others = mask & ~sampled
      metrics['policy/off_policy'] = others
      metrics['policy/off_policy_gap'] = jnp.where(others, -difference, 0.0)
    if kl_coef:
      kl_to_ref = kl_estimator(logprobs, batch['ref_logprobs'], sampled)
      per_token = per_token + kl_coef * kl_to_ref
      losses['loss/kl'] = metrics['policy/kl_ref'] = kl_to_ref
    weights, mean_weights = batch['weights'], batch['mean_weights']
    sums = {name: jnp.sum(weights * x) for name, x in losses.items()}
    sums |= {name: jnp.sum(mean_weights * x) for name, x in metrics.items()}
    per_row = {'policy/max_ratio_error': jnp.max(ratio_error, axis=1)}
    return jnp.sum(weights * per_token), (sums, per_row)

  def add_ref_logprobs(batch: Batch, roles: Roles) -> Batch:
    if not kl_coef:
      return batch
    logprobs = scoring.logprobs_of(
      'ref', models, roles, batch, microbatches=microbatches,
      sampling_params=sampling_params,
    )  # fmt: skip
    return {**batch, 'ref_logprobs': logprobs}

  names = _METRICS if off_policy is None else _METRICS + _OFF_POLICY_METRICS
  return PolicyLoss(
    loss=loss,
    add_ref_logprobs=add_ref_logprobs,
    scored=('ref',) if kl_coef else (),
    metrics=(*names, *(_KL_METRICS if kl_coef else ())),
    corrects_staleness=objective['name'] in policy.OFF_POLICY,
  )


def _bind_surrogate(settings: Mapping, setting: str) -> Callable:
  """Binds a function of `objectives/policy.py`, and checks its settings."""
  surrogate = lookup.bind(policy, settings, setting)
  with lookup.naming(setting):  # its values are checked when it is called
    jax.eval_shape(
      surrogate, *np.zeros((3, 1, 1), np.float32), np.ones((1, 1), bool)
    )
  return surrogate


def _mixed(surrogate: Callable, other: Callable, sampled) -> Callable:
  """Returns the surrogate with another one where tokens are not `sampled`."""

  def objective(logprobs, old_logprobs, advantages, mask, segments):
    arrays = logprobs, old_logprobs, advantages
    own = surrogate(*arrays, mask & sampled, segments)
    return own + other(*arrays, mask & ~sampled, segments)

  return objective


def _kl_penalty(*, name: str, coef: float) -> tuple[Callable, float]:
  """Returns the estimator and the coefficient; the settings of `kl`."""
  lookup.check_numbers(0, coef=coef)
  return lookup.function(kl_estimators, name), float(coef)
