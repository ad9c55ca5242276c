"""The policy-gradient loss that recipes share: a surrogate, and a KL penalty.

    loss = sum(weights * (surrogate + kl_coef * KL(policy || ref)))

The surrogate is a function of `objectives/policy.py`, the KL estimator one of
k1, k2, k3 there. Without a coefficient no reference is computed or needed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from critic_jax import lookup
from critic_jax.models import forward
from critic_jax.objectives import policy
from critic_jax.runtime import sharding
from critic_jax.sampling.lm import LM
from critic_jax.types import Batch, Roles


def make_policy_loss(lm: LM, role: str, settings: Mapping) -> Callable:
  """The loss of `role`'s responses in a batch.

  Args:
    lm: the role's model; log-probabilities are under its sampling distribution.
    role: the trained role.
    settings: `objective`, a name and keywords of `objectives/policy.py`, and
      `kl`, with `name` ('k1', 'k2', 'k3') and `coef`.

  Returns:
    `(trained roles, batch) -> (scalar, (sums, per_row))`. The sums, like the
    loss, are over tokens by weight: 'loss/policy', 'loss/kl', 'policy/entropy'
    in nats, 'policy/kl_old' = mean of log(old / new), 'policy/clipped' = tokens
    with an advantage that does not move them, 'policy/ratio_error' = the mean
    of |ratio - 1|. Each row has 'policy/max_ratio_error', its largest
    |ratio - 1|, float32[B]: a matter of rounding where the same parameters
    wrote the batch.
  """
  surrogate = lookup.bind(policy, settings['objective'])
  kl = lookup.function(policy, settings['kl']['name'])
  kl_coef = float(settings['kl']['coef'])

  def loss(trained: Roles, batch: Batch):
    mask, weights = batch['mask'], batch['weights']
    logprobs, entropy = forward.token_statistics(
      lm.model,
      trained[role],
      batch['tokens'],
      sampling_params=lm.sampling_params,
      layout=forward.layout(batch),
    )
    per_token, pull = jax.vjp(
      lambda logprobs: surrogate(
        logprobs,
        batch['logprobs'],
        batch['advantages'],
        mask,
        batch.get('segments'),
      ),
      logprobs,
    )
    is_still = jax.lax.stop_gradient(pull(jnp.ones_like(per_token))[0]) == 0
    log_ratio = jnp.where(
      mask, jax.lax.stop_gradient(logprobs) - batch['logprobs'], 0.0
    )
    per_token_metrics = {
      'loss/policy': per_token,
      'policy/entropy': entropy,
      'policy/kl_old': -log_ratio,
      'policy/clipped': is_still & (batch['advantages'] != 0),
      'policy/ratio_error': jnp.abs(jnp.expm1(log_ratio)),
    }
    if kl_coef:
      to_ref = kl(logprobs, batch['ref_logprobs'], mask)
      per_token = per_token + kl_coef * to_ref
      per_token_metrics['loss/kl'] = to_ref
    largest_errors = jnp.max(per_token_metrics['policy/ratio_error'], axis=1)
    sums = {k: jnp.sum(weights * x) for k, x in per_token_metrics.items()}
    per_row = {'policy/max_ratio_error': largest_errors}
    return jnp.sum(weights * per_token), (sums, per_row)

  return loss


def add_ref_logprobs(batch: Batch, lm: LM, roles: Roles, settings) -> Batch:
  """The batch with the reference's log-probabilities, if the KL needs them."""
  if not settings['kl']['coef']:
    return batch
  if 'ref' not in roles:
    raise ValueError(
      f"roles: got {sorted(roles)}; expected a 'ref' for kl.coef="
      f"{settings['kl']['coef']}; name the copied role in the phase's `copy`"
    )
  with sharding.on_mesh_of(roles['ref']):
    logprobs = _logprobs(
      lm.model,
      roles['ref'],
      batch['tokens'],
      lm.sampling_params,
      forward.layout(batch),
    )
  return {**batch, 'ref_logprobs': jax.device_get(logprobs)}


@functools.partial(jax.jit, static_argnames='model')
def _logprobs(model, params, tokens, sampling_params, layout):
  return forward.token_logprobs(
    model, params, tokens, sampling_params=sampling_params, layout=layout
  )
