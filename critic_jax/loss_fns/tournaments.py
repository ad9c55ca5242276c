"""Self-play: records of one parent play against each other, and wins are paid.

The reward of a record becomes its win rate: the mean probability that it is
preferred to a sibling, by a rule of `objectives/pair_preferences.py` on what
criteria say of both (https://arxiv.org/abs/2401.04056, SPO). No sum of the same
criteria need say the same.

With a reference siblings may count as if a geometric mixture of the policy and
the reference had written them, and a record pays for its log-ratio to the
reference (https://arxiv.org/abs/2312.00886, Nash-MD). There the mixture is
sampled, token by token; here records of the policy are weighed, whole ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from critic_jax import lookup
from critic_jax.loss_fns import scoring
from critic_jax.objectives import pair_preferences, win_rates
from critic_jax.sampling.lm import LM, get_models
from critic_jax.types import Record

# Opponents are the policy's own, and nothing is paid to a reference.
NOBODY_ELSE = {'share': 0.0, 'tau': 0.0}


class Tournament(NamedTuple):
  """What pays records for wins.

  Attributes:
    play: `(scored records, records -> batch of plain rows, roles) -> records`,
      siblings adjacent. A record without a reward, tokens, or an opponent has
      no reward. Only where `scored` has roles are the last two read.
    scores: the names of what it adds to the records' scores.
    scored: the roles that read the rows of a batch for it.
  """

  play: Callable[..., list[Record]]
  scores: tuple[str, ...]
  scored: tuple[str, ...]


def make_tournament(
  models: Mapping[str, LM],
  role: str,
  preference: Mapping,
  *,
  weights: Mapping[str, float],
  num_siblings: int,
  self_play: Mapping = NOBODY_ELSE,
  microbatches: int = 1,
) -> Tournament:
  """Makes a tournament.

  Args:
    models: LMs of `role`, and of 'ref' if it is read.
    role: the role that writes the records.
    preference: a name and keywords of `objectives/pair_preferences.py`; {}: no
      tournament, and rewards stay what they are.
    weights: of the scores that are its criteria.
    num_siblings: records of one parent.
    self_play: `share` of the reference in the mixture that opponents are of,
      in [0, 1], and `tau`, the price of a log-ratio to it.
    microbatches: parts of a batch that are read one after another.

  Raises:
    ValueError: a setting is wrong, or the reference is missing.
  """
  with lookup.naming('self_play'):
    lookup.check_settings(_is_read, self_play, 'self_play')
    scored = (role, 'ref') if _is_read(**self_play) else ()
  if not preference:
    if scored:
      raise ValueError(
        f'self_play: got {dict(self_play)} without a preference; expected 0; '
        'set preference'
      )
    return Tournament(lambda records, *_: list(records), (), ())
  weights = {name: weight for name, weight in weights.items() if weight}
  rates_of, tau = _win_rates(preference, weights, **self_play), self_play['tau']
  get_models(models, *scored)

  def log_ratios(batch, roles):
    ours, refs = (
      scoring.logprobs_of(name, models, roles, batch, microbatches=microbatches)
      for name in scored
    )
    return np.sum(np.where(batch['mask'], ours - refs, 0), axis=1)

  def play(records, to_rows=None, roles=None):
    known = [r for r in records if 'reward' in r.scores and len(r.tokens)]
    where = np.isin([*map(id, records)], [*map(id, known)])
    where = where.reshape(-1, num_siblings)
    values = np.zeros((*where.shape, len(weights)))
    values[where] = np.array(
      [[record.scores[name] for name in weights] for record in known]
    ).reshape(-1, len(weights))
    ratios = np.zeros(where.shape)
    if scored:
      whole = log_ratios(to_rows(records), roles)
      ratios = whole[: len(records)].reshape(where.shape)
    rates = rates_of(values, where, ratios)
    where &= np.sum(where, axis=1, keepdims=True) > 1
    rewards = 0.5 + win_rates.nash_md(rates, ratios, where, tau=tau)
    scores = {'win_rate': rates, 'reward': rewards}
    scores |= {'log_ratio': ratios} if scored else {}
    return [
      _paid(record, is_known, dict(zip(scores, numbers, strict=True)))
      for record, is_known, *numbers in zip(
        records,
        where.ravel(),
        *(x.ravel().tolist() for x in scores.values()),
        strict=True,
      )
    ]

  names = ('win_rate', *['log_ratio'] * bool(scored))
  return Tournament(play, names, scored)


def _is_read(*, share: float, tau: float) -> bool:
  """Returns whether the reference is; the settings of `self_play`."""
  where = np.ones((1, 2), bool)
  win_rates.of_mixture(np.zeros((1, 2)), where, share=share)
  win_rates.nash_md(np.zeros((1, 2)), np.zeros((1, 2)), where, tau=tau)
  return bool(share or tau)


def _win_rates(preference, weights, *, share, tau) -> Callable:
  """Returns `(values, where, log_ratios) -> win rates`."""
  del tau
  prefer = lookup.bind(pair_preferences, preference, 'preference')
  factors = np.array([*weights.values()])
  with lookup.naming('preference'):  # values are checked when it is called
    prefer(np.zeros((1, 2, len(factors))), factors)

  def rates_of(values, where, ratios):
    opponents = win_rates.of_mixture(ratios, where, share=share)
    return win_rates.against(prefer(values, factors), where, opponents)

  return rates_of


def _paid(record, is_known, scores) -> Record:
  """Returns a record with these scores, or, if it is not known, no reward."""
  others = {k: v for k, v in record.scores.items() if k != 'reward'}
  scores = others | scores if is_known else others
  return dataclasses.replace(record, scores=scores)
