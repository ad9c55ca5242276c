"""The preference loss: an objective on the pairs of responses of a batch.

    loss = sum over pairs of weight * objective(chosen, rejected)
           + keep_coef * sum over responses to keep of weight * -log p

The objective is a function of `objectives/preference.py`, or, of win rates and
of the policy that sampled, of `objectives/games.py`. A batch has each
response once, in groups of adjacent rows before it is packed;
`batch['responses']` says which tokens are whose, wherever packing moved them,
`batch['pairs']` which are chosen over which (critic_jax/data/pair_rows.py), and
nothing parts a group. What a response has is the sum of what its tokens have:
log-probabilities, length, reward, and its share in the weight of each pair.

The second term is C3PO's (https://arxiv.org/abs/2402.10893, as its code is set
by default): prompts to which a preference should not apply come with a response
that stays as likely as it is, by imitation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax import lookup
from critic_jax.loss_fns import scoring
from critic_jax.objectives import games, preference
from critic_jax.sampling.lm import LM
from critic_jax.types import Array, Batch, Roles

METRICS = (
  'loss/preference',
  'preference/accuracy',
  'preference/margin',
  'preference/chosen',
  'preference/rejected',
)
_KEPT = 'loss/kept'
_GAMES = {*games.WITH_REFERENCE, *games.WITH_OLD}
_WITH_REFERENCE = {*preference.WITH_REFERENCE, *games.WITH_REFERENCE}


class PairLoss(NamedTuple):
  """A loss of pairs, and what a recipe must know of it.

  Attributes:
    loss: `(trained roles, batch) -> (scalar, (sums, per_row))`. The sums
      'loss/preference' and, if asked for, 'loss/kept' are its parts; nothing is
      told of each row. Means over pairs, by 'mean_weights': 'preference/chosen'
      and 'preference/rejected', the log-ratio to the reference of each response
      in nats, or, of games without one, to the policy that sampled, or, of
      other objectives without one, its mean log-probability;
      'preference/margin', their difference; 'preference/accuracy', the share of
      pairs in which that is above 0. Where responses have no other side, these
      are means over the chosen and over the rejected ones, and the accuracy is
      the mean of the shares above 0 and below 0.
    add_ref_logprobs: `(batch, roles) -> batch`, with the log-probabilities of
      the reference, those of the policy now, and the estimate of the KL, if the
      objective needs them.
    scored: the roles that read the rows of a batch for it.
    metrics: the names of its metrics.
    reads_singles: whether responses without another side are learned from.
  """

  loss: Callable[[Roles, Batch], Any]
  add_ref_logprobs: Callable[[Batch, Roles], Batch]
  scored: tuple[str, ...]
  metrics: tuple[str, ...]
  reads_singles: bool


def make_pair_loss(
  models: Mapping[str, LM],
  role: str,
  *,
  objective: Mapping,
  num_groups: int,
  rows_per_group: int,
  microbatches: int,
  keep_coef: float = 0.0,
  is_played: bool = False,
) -> PairLoss:
  """Makes the loss of pairs of responses; log-probabilities are untempered.

  Args:
    models: LMs of `role`, and of 'ref' if the objective has a reference.
    role: the trained role.
    objective: a name and keywords of `objectives/preference.py` or
      `objectives/games.py`.
    num_groups: the largest number of prompts of a batch.
    rows_per_group: the rows of each before packing.
    microbatches: parts of a batch that are read one after another.
    keep_coef: of the imitation of chosen responses without another side.
    is_played: whether rewards are win rates against the policy that samples, as
      the objectives of games need them.

  Raises:
    ValueError: a setting is wrong, or the reference is missing.
  """
  objective_fn = _bind_objective(models, role, objective, is_played)
  lookup.check_numbers(0, keep_coef=keep_coef)
  name = objective['name']
  has_reference = name in _WITH_REFERENCE
  has_kl = name in preference.WITH_KL
  has_old = name in games.WITH_OLD
  if keep_coef and name in preference.OF_SINGLES:
    raise ValueError(
      f'keep_coef: got {keep_coef} with objective.name={name!r}, which learns '
      'from single responses itself; expected 0'
    )

  def loss(trained: Roles, batch: Batch):
    logprobs = scoring.bind(models, trained, role).logprobs(batch)
    groups = Groups(batch, num_groups, rows_per_group)
    pool = name in preference.OF_MEANS
    sums = groups.sides(logprobs, pool)
    num_tokens = groups.sides(batch['mask'], pool)
    ref_sums = (
      groups.sides(batch['ref_logprobs'], pool) if has_reference else 0 * sums
    )
    rewards = groups.sides(batch['rewards'])
    old_sums = groups.sides(batch['old_logprobs']) if has_old else 0 * sums
    kl = jnp.max(groups.sides(batch['kl']), axis=1) if has_kl else 0.0
    if name in _GAMES:
      per_pair = objective_fn(sums, ref_sums, old_sums, num_tokens, rewards)
    else:
      margins = rewards[:, 0] - rewards[:, 1]
      per_pair = objective_fn(sums, ref_sums, num_tokens, kl, margins)
    total = jnp.sum(jnp.sum(groups.sides(batch['weights']), axis=1) * per_pair)
    parts = {'loss/preference': total}
    if keep_coef:
      kept = batch['weights'] * (batch['pairs'] >> rows_per_group & 1)
      parts[_KEPT] = keep_coef * jnp.sum(kept * -logprobs)
    anchor_sums = ref_sums if has_reference else old_sums
    has_anchor = has_reference or has_old
    lengths = 1 if has_anchor else jnp.maximum(num_tokens, 1)
    metrics = groups.means(batch, (sums - anchor_sums) / lengths)
    return sum(parts.values()), (parts | metrics, {})

  def add_ref_logprobs(batch: Batch, roles: Roles) -> Batch:
    def logprobs_of(name):
      return scoring.logprobs_of(
        name, models, roles, batch, microbatches=microbatches
      )

    if has_old:
      batch = {**batch, 'old_logprobs': logprobs_of(role)}
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
    scored=(*['ref'] * has_reference, *[role] * (has_kl or has_old)),
    metrics=(*METRICS, *[_KEPT] * bool(keep_coef)),
    reads_singles=name in preference.OF_SINGLES or bool(keep_coef),
  )


def _bind_objective(models, role, objective, is_played) -> Callable:
  """Returns the objective; its settings and its models are checked."""
  name = objective.get('name') if hasattr(objective, 'get') else None
  is_game = name in _GAMES
  module = games if is_game else preference
  objective_fn = lookup.bind(module, objective, 'objective')
  with lookup.naming('objective'):  # its values are checked when it is called
    arrays = np.zeros((5 if is_game else 3, 1, 2), np.float32)
    jax.eval_shape(objective_fn, *arrays)
  if is_game and not is_played:
    raise ValueError(
      f'objective.name: got {name!r}, a game against the policy that samples, '
      'without win rates; expected them; set the preference of the recipe '
      "online_preference, such as dict(name='raters')"
    )
  has_reference = name in _WITH_REFERENCE
  if has_reference and 'ref' not in models:
    raise ValueError(
      f"objective.name: got {name!r} without a model 'ref'; "
      f'expected one in {sorted(models)}; copy a role to it, or name an '
      'objective without a reference, such as simpo'
    )
  for name in (role, 'ref') if has_reference else (role,):
    scoring.check_head(models, name, 'lm')
  return objective_fn


class Groups:
  """The pairs of a batch, as arrays of all (chosen, rejected) of each group.

  Of a group of G rows these are (G + 1)**2: a side may be nobody, the last.
  What is no pair has zeros, lengths among them, and so is padding.
  """

  def __init__(self, batch: Batch, num_groups: int, rows_per_group: int):
    self._responses = batch['responses']
    self._shape = num_groups, rows_per_group
    bits = jax.ops.segment_max(
      jnp.where(self._responses > 0, batch['pairs'], 0).ravel(),
      self._responses.ravel(),
      num_segments=1 + num_groups * rows_per_group,
    )
    # Of no token, the maximum is the least integer.
    bits = jnp.maximum(bits[1:], 0).reshape(self._shape)
    places = jnp.arange(rows_per_group + 2)
    bits = (bits[:, :, None] >> places) & 1  # [N, G, G + 2]
    of_nobody = jnp.pad(bits[:, :, -1], ((0, 0), (0, 1)))  # [N, G + 1]
    # bool[N, G + 1, G + 1]: whether row i is chosen over row j.
    self.is_pair = (
      jnp.concatenate([bits[:, :, :-1], of_nobody[:, None]], axis=1) > 0
    )

  def sides(self, x: Array, pool: bool = False) -> Array:
    """Sums what the tokens of each response have, for both sides of a pair.

    Args:
      x: a number for each token, [B, T].
      pool: whether the chosen side is the mean over all that are chosen over
        the rejected one.

    Returns:
      float32[N (G + 1)**2, 2], the chosen side first.
    """
    num_groups, rows_per_group = self._shape
    sums = sums_of_responses(x, self._responses, num_groups * rows_per_group)
    sums = jnp.pad(sums.reshape(self._shape), ((0, 0), (0, 1)))
    chosen = jnp.where(self.is_pair, sums[:, :, None], 0)
    if pool:
      count = jnp.sum(self.is_pair, axis=1, keepdims=True)
      chosen = jnp.sum(chosen, axis=1, keepdims=True) / jnp.maximum(count, 1)
    rejected = jnp.where(self.is_pair, sums[:, None, :], 0)
    chosen = jnp.where(self.is_pair, chosen, 0)
    return jnp.stack([chosen, rejected], axis=-1).reshape(-1, 2)

  def means(self, batch: Batch, scores: Array) -> dict[str, Array]:
    """Computes the metrics of a score of each side."""
    scores = jax.lax.stop_gradient(scores)
    weights = self.sides(batch['mean_weights'])
    margins = scores[:, 0] - scores[:, 1]
    # A pair's share is twice that of a side, so that both kinds sum to 1.
    has_sides = self.sides(batch['mask']) > 0
    halves = jnp.where(jnp.all(has_sides, axis=1), 1.0, 0.5)
    weights = jnp.sum(weights, axis=1)
    metrics = {
      'preference/accuracy': halves * (margins > 0),
      'preference/margin': margins,
      'preference/chosen': scores[:, 0],
      'preference/rejected': scores[:, 1],
    }
    return {name: jnp.sum(weights * x) for name, x in metrics.items()}


def sums_of_responses(x: Array, responses: Array, num_responses: int) -> Array:
  """Sums what the tokens of each response have.

  Args:
    x: a number for each token, [B, T].
    responses: int32[B, T], the numbers of responses from 1; 0 where masked.
    num_responses: the largest number of responses; others have zeros.

  Returns:
    float32[num_responses].
  """
  return jax.ops.segment_sum(
    jnp.where(responses > 0, x, 0).astype(jnp.float32).ravel(),
    responses.ravel(),
    num_segments=1 + num_responses,
  )[1:]


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
