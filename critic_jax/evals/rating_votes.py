"""Measures the choice among responses that a critic scores, by votes.

A slate is shown in K orders, or scored K times, and each critique is a vote:
its scores, put back into the true order, are added, and the response with the
greatest sum is chosen (SPCT, https://arxiv.org/abs/2504.02495). A critique
without scores (`rewards/ratings.py`) adds nothing. From k of the K votes:

  vote       all k votes count
  filtered   the k_meta votes count that a meta-judge scores highest, which has
             read them: `scores['score']` of a critique
  certain    those whose tokens have the highest mean log-probability, a filter
             that costs nothing

k_meta is half of k, at least 1, as in the paper; `filtered_2@8` keeps 2 of 8,
and so on for powers of two. The control of a filter, as many votes at random,
is `vote` at k_meta: a random part of a random subset.

Each is an expectation over subsets of votes, of all if they are few, else of
`NUM_DRAWS`, averaged over problems. `x@k` asks that one of the best responses
is chosen and tied with no other; in `x_ties_shared@k` a tie of s responses
counts the share of the best ones among them. Without any scores the choice is
wrong, in both. `chance` is that of a random response. Slates of one response
are left out of these, as nothing is chosen.

Of all slates `right` is the share of critiques whose scores are right by the
rule of the reward, and `missing` that of critiques without scores.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from critic_jax.evals.statistics import (
  Estimate,
  Statistic,
  Table,
  difference,
  estimate,
  ratio,
)
from critic_jax.rewards import ratings
from critic_jax.types import Record

MAX_SUBSETS, NUM_DRAWS = 2000, 500


class Votes(NamedTuple):
  """The votes on a problem's responses.

  Attributes:
    scores: float[K, N], in the true order; a row of NaN has no scores.
    best: bool[N], which responses are best.
    merits: by method, float[K]: how good each vote is taken to be; -inf where
      that is not known.
  """

  scores: np.ndarray
  best: np.ndarray
  merits: Mapping[str, np.ndarray]


def accuracy(
  votes: Votes, k: int, *, method: str = 'vote', k_meta: int = 0
) -> tuple[float, float]:
  """Returns the accuracy of the choice from k votes, without and with ties.

  Args:
    votes: the votes.
    k: votes of a subset.
    method: 'vote', or whose merits filter the votes.
    k_meta: votes of the k that are kept; 0 is half of them, at least 1.

  Raises:
    ValueError: k is above the number of votes, or k_meta above k.
  """
  number = len(votes.scores)
  if not 1 <= k <= number:
    raise ValueError(f'k: got {k}; expected 1 to {number}, the votes there are')
  if not 0 <= k_meta <= k:
    raise ValueError(
      f'k_meta: got {k_meta}; expected 1 to k={k}, or 0 for half of them'
    )
  chosen = _subsets(number, k)
  if method != 'vote':
    merits = votes.merits[method][chosen]  # [subsets, k]
    # Stable, so that equal merits keep their order.
    ranked = np.argsort(-merits, axis=1, kind='stable')
    kept = ranked[:, : k_meta or max(1, k // 2)]
    chosen = np.take_along_axis(chosen, kept, axis=1)
  has_scores = ~np.isnan(votes.scores[:, 0])
  sums = np.nan_to_num(votes.scores)[chosen].sum(1)  # [subsets, N]
  is_top = sums == sums.max(1, keepdims=True)
  share = (is_top & votes.best).sum(1) / is_top.sum(1)
  share = np.where(has_scores[chosen].any(1), share, 0.0)
  strict = np.where(is_top.sum(1) == 1, share, 0.0)
  return float(strict.mean()), float(share.mean())


def _subsets(number: int, k: int) -> np.ndarray:
  """Returns subsets of k of the votes, int[subsets, k], each in order."""
  if math.comb(number, k) <= MAX_SUBSETS:
    return np.array([*itertools.combinations(range(number), k)])
  noise = np.random.default_rng(0).random((NUM_DRAWS, number))
  return np.sort(noise.argsort(1)[:, :k], axis=1)


def votes_of(records: Sequence[Record]) -> dict[str, Votes]:
  """Returns the votes on each problem's responses, by its id.

  Raises:
    ValueError: a slate is wrong, or those of one problem are not of the same
      responses.
  """
  by_problem: dict[str, list[Record]] = {}
  for record in _of_slates(records):
    if len(ratings.read(record.parent).responses) > 1:
      by_problem.setdefault(record.problem.id, []).append(record)
  return {name: _votes(own) for name, own in by_problem.items()}


def _of_slates(records: Sequence[Record]) -> list[Record]:
  return [
    record
    for record in records
    if record.stage == 'critique' and ratings.is_slate(record.parent)
  ]


def _votes(critiques: Sequence[Record]) -> Votes:
  slates = [ratings.read(critique.parent) for critique in critiques]
  first = slates[0]
  for slate, critique in zip(slates, critiques, strict=True):
    if [*slate.responses] != [*first.responses] or slate.best != first.best:
      raise ValueError(
        f'slate of {critique.parent.id}: got other responses than '
        f'{critiques[0].parent.id} has; expected the same, in any order; give '
        'other slates a problem of another id'
      )
  missing = [math.nan] * len(first.responses)
  merits = {}
  if any('score' in critique.scores for critique in critiques):
    merits['filtered'] = [c.scores.get('score', math.nan) for c in critiques]
  if all(len(critique.logprobs) for critique in critiques):
    merits['certain'] = [float(np.mean(c.logprobs)) for c in critiques]
  return Votes(
    np.array([ratings.scores(c) or missing for c in critiques], np.float64),
    np.array(first.best),
    {
      name: np.nan_to_num(values, nan=-math.inf)
      for name, values in merits.items()
    },
  )


def single_table(records: Sequence[Record]) -> Table:
  """Returns a row for each critique of a slate: is it right, is it missing."""
  critiques = _of_slates(records)
  columns = {
    'rows': [1.0] * len(critiques),
    'right': [float(ratings.is_true(c)) for c in critiques],
    'missing': [float(ratings.scores(c) is None) for c in critiques],
  }
  return Table([critique.problem.id for critique in critiques], columns)


def table(records: Sequence[Record]) -> Table:
  """Returns a row for each problem, with the columns of choices by votes.

  Numbers of votes are the powers of two, up to the least of a problem.
  """
  by_problem = votes_of(records)
  rows = []
  most = min((len(v.scores) for v in by_problem.values()), default=0)
  ks = [2**i for i in range(most.bit_length())]
  shared = [{*votes.merits} for votes in by_problem.values()]
  methods = ['vote', *sorted(set.intersection(*shared) if shared else ())]
  for votes in by_problem.values():
    row = {'rows': 1.0, 'chance': votes.best.mean()}
    for method, k in itertools.product(methods, ks):
      for k_meta in [0, *(x for x in ks if 2 * x < k and method != 'vote')]:
        strict, share = accuracy(votes, k, method=method, k_meta=k_meta)
        name = f'{method}_{k_meta}' if k_meta else method
        row |= {f'{name}@{k}': strict, f'{name}_ties_shared@{k}': share}
    rows.append(row)
  columns = {name: [row[name] for row in rows] for name in (rows or [{}])[0]}
  return Table([*by_problem], columns)


def _statistics(columns) -> dict[str, Statistic]:
  return {
    name: Statistic(ratio(name, 'rows'), 'rows', share=name != 'chance')
    for name in columns
    if name != 'rows'
  }


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns accuracies of scores and of votes, with intervals over problems.

  Returns:
    Estimates in [0, 1] by name ('vote@4'); {} without critiques of slates.
  """
  tables = single_table(records), table(records)
  single, voted = (estimate(t, _statistics(t.columns)) for t in tables)
  return single | voted


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for what both have, on the same problems."""
  changes = {}
  for make in (single_table, table):
    old, new = make(before), make(after)
    names = [name for name in new.columns if name in old.columns]
    both = [
      Table(t.clusters, {name: t.columns[name] for name in names})
      for t in (old, new)
    ]
    if new.clusters and old.clusters:
      changes |= difference(*both, _statistics(names))
  return changes
