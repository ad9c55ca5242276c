"""Reward models: their loss on pairs of responses, and their scores of records.

    loss = sum over pairs of weight * objective(score of chosen, of rejected)

A reward model is a role with a reward head: the score of a response is what it
says at the last token. The objective is a function of `objectives/reward.py`;
rows 2 i and 2 i + 1 of a batch before it is packed are pair i, the chosen one
first. A trained one pays records that it reads (`rewards/preferences.scored`);
several are one by `objectives/ensembles.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax import lookup
from critic_jax.loss_fns import pairwise, scoring
from critic_jax.objectives import ensembles, pair_labels, reward
from critic_jax.sampling.lm import LM, get_models
from critic_jax.types import Array, Batch, Record, Roles

METRICS = (
  'loss/score',
  'score/accuracy',
  'score/margin',
  'score/chosen',
  'score/rejected',
)


def make_score_loss(
  models: Mapping[str, LM], role: str, *, objective: Mapping, num_pairs: int
) -> Callable:
  """Makes the loss by which `role` learns to score chosen responses higher.

  Args:
    models: LMs by role.
    role: the reward model.
    objective: a name and keywords of `objectives/reward.py`.
    num_pairs: the largest number of pairs of a batch.

  Returns:
    `(trained roles, batch) -> (scalar, (sums, per_row))`. The sum 'loss/score'
    is the loss; nothing is told of each row. Means over pairs, by
    'mean_weights': 'score/chosen' and 'score/rejected'; 'score/margin', their
    difference; 'score/accuracy', the share of pairs in which that is above 0.

  Raises:
    ValueError: a setting is wrong, or the role has no reward head.
  """
  scoring.check_head(models, role, 'reward')
  objective_fn = lookup.bind(reward, objective, 'objective')
  with lookup.naming('objective'):  # its values are checked when it is called
    one = np.ones(1, np.float32)
    jax.eval_shape(objective_fn, np.zeros((1, 2), np.float32), one > 0, one)

  def loss(trained: Roles, batch: Batch):
    def of_pairs(x):
      sums = pairwise.sums_of_responses(x, batch['responses'], 2 * num_pairs)
      return sums.reshape(num_pairs, 2)

    scores = scoring.bind(models, trained, role).token_scores(batch)
    scores = at_last_tokens(scores, batch['responses'], num_pairs)
    is_pair = jnp.all(of_pairs(batch['mask']) > 0, axis=1)
    margins = of_pairs(batch['margins'])[:, 0] if 'margins' in batch else 0.0
    per_pair = objective_fn(scores, is_pair, margins)
    total = jnp.sum(jnp.sum(of_pairs(batch['weights']), axis=1) * per_pair)
    scores = jax.lax.stop_gradient(scores)
    margins = scores[:, 0] - scores[:, 1]
    metrics = {
      'score/accuracy': margins > 0,
      'score/margin': margins,
      'score/chosen': scores[:, 0],
      'score/rejected': scores[:, 1],
    }
    weights = jnp.sum(of_pairs(batch['mean_weights']), axis=1)
    sums = {name: jnp.sum(weights * x) for name, x in metrics.items()}
    return total, ({'loss/score': total, **sums}, {})

  return loss


def at_last_tokens(x: Array, responses: Array, num_pairs: int) -> Array:
  """Takes what the last token of each response has.

  Args:
    x: a number for each token, [B, T].
    responses: int32[B, T], the numbers of responses from 1; 0 where masked.
    num_pairs: the largest number of pairs; those of others are zeros.

  Returns:
    float32[num_pairs, 2], the chosen response first.
  """
  places = jax.ops.segment_max(
    jnp.arange(x.size), responses.ravel(), num_segments=1 + 2 * num_pairs
  )[1:]  # below 0 without a token
  last = x.ravel()[jnp.maximum(places, 0)]
  return jnp.where(places < 0, 0, last).reshape(num_pairs, 2)


class Reader(NamedTuple):
  """Reward models that score records.

  Attributes:
    roles: their names; () for none: nothing is to be written then.
    write: `(records, batch of their plain rows, roles) -> records` with
      `parsed['score']`: None where the row is empty.
  """

  roles: tuple[str, ...]
  write: Callable[[Sequence[Record], Batch, Roles], list[Record]]


def make_reader(
  models: Mapping[str, LM],
  settings: Mapping,
  *,
  weight: float = 1.0,
  microbatches: int = 1,
) -> Reader:
  """Makes what scores the records of a step.

  Args:
    models: LMs by role.
    settings: `roles`, the reward models, () for none; and how several are one,
      a name and keywords of `objectives/ensembles.py`.
    weight: that of the score in a reward; 0 asks none of them.
    microbatches: parts of a batch that are read one after another.

  Raises:
    ValueError: a setting is wrong, or a role has no reward head.
  """
  lookup.check_numbers(score_weight=weight)
  with lookup.naming('reward_model'):
    rule = dict(settings)
    lookup.check_has('roles', rule, 'reward model')
    names = rule.pop('roles')
    combine = lookup.bind(ensembles, rule)
    combine(np.zeros((1, 1)))  # its values are checked when it is called
    if weight and not names:
      raise ValueError('roles: got none; expected some, or score_weight=0.0')
    names = _checked(models, names) if weight else ()

  def write(records, batch, roles):
    scores = _scores(models, names, batch, roles, microbatches)
    combined = np.asarray(combine(scores))[: len(records)].tolist()
    is_read = batch['mask'].any(axis=1)[: len(records)]
    return [
      dataclasses.replace(
        record, parsed={**record.parsed, 'score': score if has_row else None}
      )
      for record, score, has_row in zip(records, combined, is_read, strict=True)
    ]

  return Reader(names, write)


def _checked(models, names) -> tuple[str, ...]:
  """Returns the names of reward models; raises ValueError if one is none."""
  if not isinstance(names, list | tuple) or len({*names}) < len(names):
    raise ValueError(f'roles: got {names!r}; expected different roles')
  get_models(models, *names)
  for name in names:
    scoring.check_head(models, name, 'reward')
  return tuple(names)


def _scores(models, names, batch, roles, microbatches) -> np.ndarray:
  """Scores the responses of plain rows, float32[K, B]."""
  scores = [
    scoring.score(
      scoring.Scorer.scores,
      scoring.bind(models, roles, name),
      batch,
      microbatches=microbatches,
    )
    for name in names
  ]
  return np.stack(scores)


class Relabeller(NamedTuple):
  """Reward models that correct the labels of pairs for another one.

  Attributes:
    roles: their names; () for none: nothing is to be corrected then.
    relabel: `(batch of plain rows of pairs, roles) -> batch`.
  """

  roles: tuple[str, ...]
  relabel: Callable[[Batch, Roles], Batch]


def make_relabeller(
  models: Mapping[str, LM], settings: Mapping, *, microbatches: int
) -> Relabeller:
  """Makes what corrects the labels of a step's pairs (`pair_labels.py`).

  Args:
    models: LMs by role.
    settings: `roles`, the reward models, () for none; `share`, of the pairs,
      whose labels are flipped where they are the weakest; and `has_margin`,
      whether a pair's strength is the margin that its scores are to have.
    microbatches: parts of a batch that are read one after another.

  Raises:
    ValueError: a setting is wrong, or a role has no reward head.
  """
  with lookup.naming('relabel'):
    lookup.check_settings(_relabelling, settings, 'relabel')
    names, share, has_margin = _relabelling(**settings)
    names = _checked(models, names)
    pair_labels.flips(np.zeros(1), np.ones(1, bool), share=share)

  def relabel(batch, roles):
    scores = _scores(models, names, batch, roles, microbatches)
    scores = scores.reshape(len(names), -1, 2)  # [M, N, 2]
    is_pair = batch['mask'].any(axis=1).reshape(-1, 2).all(axis=1)
    strengths, _ = pair_labels.preference_strength(scores, is_pair)
    is_wrong = np.asarray(pair_labels.flips(strengths, is_pair, share=share))
    order = np.arange(2 * len(is_wrong)).reshape(-1, 2)
    order[is_wrong] = order[is_wrong, ::-1]
    batch = {name: x[order.ravel()] for name, x in batch.items()}
    mask = batch['mask']
    numbers = np.arange(1, 1 + len(mask), dtype=np.int32)[:, None]
    batch['responses'] = np.where(mask, numbers, 0).astype(np.int32)
    if has_margin:
      # A flipped label has the strength of the other one.
      margins = np.where(is_wrong, -1, 1) * np.asarray(strengths)
      of_rows = np.stack([margins, 0 * margins], axis=1).reshape(-1, 1)
      lengths = np.maximum(mask.sum(axis=1, keepdims=True), 1)
      spread = np.where(mask, of_rows / lengths, 0)
      batch['margins'] = spread.astype(np.float32)
    return batch

  return Relabeller(names, relabel)


def _relabelling(*, roles: Sequence, share: float, has_margin: bool) -> tuple:
  """Returns the settings of `relabel`."""
  if not roles and (share or has_margin):
    raise ValueError(
      f'roles: got none, share={share} and has_margin={has_margin}; expected '
      'reward models, or share=0.0 and has_margin=False'
    )
  return roles, share, has_margin
