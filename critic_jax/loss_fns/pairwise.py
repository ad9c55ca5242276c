"""The preference loss: an objective on the pairs of responses of a batch.

    loss = sum over pairs of weight * objective(chosen, rejected)

The objective is a function of `objectives/preference.py`. Rows 2 i and 2 i + 1
of a batch before it is packed are pair i, the chosen response first;
`batch['responses']` says which tokens are whose, wherever packing moved them,
and nothing parts a pair (critic_jax/data/packing.py). What a pair has is the
sum of what its tokens have: log-probabilities, lengths, and its weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax import lookup
from critic_jax.loss_fns import scoring
from critic_jax.objectives import preference
from critic_jax.sampling.lm import LM
from critic_jax.types import Array, Batch, Roles

METRICS = (
  'loss/preference',
  'preference/accuracy',
  'preference/margin',
  'preference/chosen',
  'preference/rejected',
)


class PairLoss(NamedTuple):
  """A loss of pairs, and what a recipe must know of it.

  Attributes:
    loss: `(trained roles, batch) -> (scalar, (sums, per_row))`. The sum
      'loss/preference' is the loss; nothing is told of each row. Means over
      pairs, by 'mean_weights': 'preference/chosen' and 'preference/rejected',
      the log-ratio to the reference of each response in nats, or, of objectives
      without one, its mean log-probability; 'preference/margin', their
      difference; 'preference/accuracy', the share of pairs in which that is
      above 0.
    add_ref_logprobs: `(batch, roles) -> batch`, with the log-probabilities of
      the reference and the estimate of the KL, if the objective needs them.
    scored: the roles that only read the rows of a batch for it.
    metrics: the names of its metrics.
  """

  loss: Callable[[Roles, Batch], Any]
  add_ref_logprobs: Callable[[Batch, Roles], Batch]
  scored: tuple[str, ...]
  metrics: tuple[str, ...]


def make_pair_loss(
  models: Mapping[str, LM],
  role: str,
  *,
  objective: Mapping,
  num_pairs: int,
  microbatches: int,
) -> PairLoss:
  """Makes the loss of pairs of responses; log-probabilities are untempered.

  Args:
    models: LMs of `role`, and of 'ref' if the objective has a reference.
    role: the trained role.
    objective: a name and keywords of `objectives/preference.py`.
    num_pairs: the largest number of pairs of a batch.
    microbatches: parts of a batch that are read one after another.

  Raises:
    ValueError: a setting is wrong, or the reference is missing.
  """
  objective_fn = lookup.bind(preference, objective, 'objective')
  with lookup.naming('objective'):  # its values are checked when it is called
    jax.eval_shape(objective_fn, *np.zeros((3, 1, 2), np.float32))
  has_reference = objective['name'] in preference.WITH_REFERENCE
  has_kl = objective['name'] in preference.WITH_KL
  if has_reference and 'ref' not in models:
    raise ValueError(
      f"objective.name: got {objective['name']!r} without a model 'ref'; "
      f'expected one in {sorted(models)}; copy a role to it, or name an '
      'objective without a reference, such as simpo'
    )
  for name in (role, 'ref') if has_reference else (role,):
    scoring.check_head(models, name, 'lm')

  def loss(trained: Roles, batch: Batch):
    def of_pairs(name):
      return sums_of_pairs(batch[name], batch['responses'], num_pairs)

    logprobs = scoring.bind(models, trained, role).logprobs(batch)
    logprobs = sums_of_pairs(logprobs, batch['responses'], num_pairs)
    num_tokens = of_pairs('mask')
    ref_logprobs = of_pairs('ref_logprobs') if has_reference else 0 * logprobs
    kl = of_pairs('kl')[:, 0] if has_kl else 0.0
    per_pair = objective_fn(logprobs, ref_logprobs, num_tokens, kl)
    total = jnp.sum(jnp.sum(of_pairs('weights'), axis=1) * per_pair)
    lengths = 1 if has_reference else jnp.maximum(num_tokens, 1)
    scores = jax.lax.stop_gradient((logprobs - ref_logprobs) / lengths)
    margins = scores[:, 0] - scores[:, 1]
    metrics = {
      'preference/accuracy': margins > 0,
      'preference/margin': margins,
      'preference/chosen': scores[:, 0],
      'preference/rejected': scores[:, 1],
    }
    weights = jnp.sum(of_pairs('mean_weights'), axis=1)
    sums = {name: jnp.sum(weights * x) for name, x in metrics.items()}
    return total, ({'loss/preference': total, **sums}, {})

  def add_ref_logprobs(batch: Batch, roles: Roles) -> Batch:
    def logprobs_of(name):
      return scoring.score(
        scoring.Scorer.logprobs,
        scoring.bind(models, roles, name),
        batch,
        microbatches=microbatches,
      )

    if not has_reference:
      return batch
    batch = {**batch, 'ref_logprobs': logprobs_of('ref')}
    if not has_kl:
      return batch
    log_ratios = logprobs_of(role) - batch['ref_logprobs']
    return {**batch, 'kl': spread_kl(log_ratios, batch)}

  return PairLoss(
    loss=loss,
    add_ref_logprobs=add_ref_logprobs,
    scored=('ref',) if has_reference else (),
    metrics=METRICS,
  )


def sums_of_pairs(x: Array, responses: Array, num_pairs: int) -> Array:
  """Sums what the tokens of each response have.

  Args:
    x: a number for each token, [B, T].
    responses: int32[B, T], the numbers of responses from 1; 0 where masked.
    num_pairs: the largest number of pairs; those of others are zeros.

  Returns:
    float32[num_pairs, 2], the chosen response first.
  """
  sums = jax.ops.segment_sum(
    jnp.where(responses > 0, x, 0).astype(jnp.float32).ravel(),
    responses.ravel(),
    num_segments=1 + 2 * num_pairs,
  )
  return sums[1:].reshape(num_pairs, 2)


def spread_kl(log_ratios: np.ndarray, batch: Batch) -> np.ndarray:
  """Estimates the KL to the reference, and spreads it over each response.

  The estimate is the mean log-ratio of the batch's responses, 0 at least:
  unbiased for what the policy writes, before pairs are chosen. It is one number
  for the whole batch, so that micro-batches change nothing.

  Args:
    log_ratios: float32[B, T], of the policy and the reference; numpy.
    batch: with 'mask' and 'responses'.

  Returns:
    float32[B, T], whose sum over a response is the estimate; 0 where masked.
  """
  mask = batch['mask']
  lengths = np.bincount(batch['responses'][mask])
  num_responses = np.count_nonzero(lengths)
  total = np.sum(log_ratios, where=mask, dtype=np.float64)
  kl = max(total / max(num_responses, 1), 0.0)
  spread = np.zeros(mask.shape, np.float32)
  spread[mask] = kl / lengths[batch['responses'][mask]]
  return spread
