"""Measures how well a critic helps to choose among several solutions.

Each problem has n sampled solutions, each with some critiques. A method chooses
an answer from k of the solutions, drawn without replacement. Its accuracy is
the expectation over subsets and over ties, which `voting` computes exactly,
averaged over problems:

  pass             one of the k is right: the ceiling (Chen et al. 2021)
  majority         the most frequent answer
  filtered         the most frequent answer of the solutions that the critic
                   accepts; of all k if it accepts none
  random_filtered  the control of 'filtered': keeps as many votes in each
                   subset, but at random
  weighted         a vote counts the share of the solution's critiques that
                   accept it; 1 each if that is 0 for all k
  best_of          the solution with the highest score

'filtered' is RefCritic's test of a critic (https://arxiv.org/abs/2507.15024).
The self-check baseline needs no code of its own: it is 'filtered' with the
solver as the critic.

Conventions. A solution is accepted if more than half of its critiques say
'correct'; a missing or contradictory verdict does not count. A solution without
an answer does not vote: no filter keeps it, and the control does not drop it.
All right answers are one answer. Wrong answers are the same if
`final_answers.exact` says so; spellings that it cannot decide on are
different answers. A solution on which the grader timed out is not right, nor is
one whose prompt did not fit: accuracies are over all problems of a data set.
Solutions from files are left out, as they are not samples of one solver. A
solution's score is `scores['score']` if any solution has one (those without
come last), else the share of its critiques that accept it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import multimode
from typing import NamedTuple

import numpy as np

from critic_jax.evals import critique_metrics, voting
from critic_jax.evals.statistics import (
  Estimate,
  Statistic,
  Table,
  difference,
  estimate,
  ratio,
)
from critic_jax.rewards import plausibility
from critic_jax.types import Record

METHODS = (
  'pass', 'majority', 'filtered', 'random_filtered', 'weighted', 'best_of'
)  # fmt: skip


def curves(
  records: Sequence[Record], ks: Sequence[int] | None = None
) -> dict[str, dict[int, Estimate]]:
  """Returns each method's accuracy over k, with intervals over problems.

  All solutions of a problem's id are one pool. Problems with fewer solutions
  than the largest k are left out at every k, so that a curve is about the same
  problems from end to end.

  Args:
    records: solutions and their critiques, in any order.
    ks: numbers of solutions; by default the powers of two up to n, and n, the
      most frequent number of solutions among problems with several.

  Returns:
    Estimates in [0, 1] by method and k, for the `METHODS` whose critiques or
    scores exist. {} without `ks` if no problem has several solutions.

  Raises:
    ValueError: a k is below 1, or above every problem's number of solutions.
  """
  pools = _pools(records)
  ks = _default_ks(pools) if ks is None else _checked(ks, pools)
  table = _table(pools, ks)
  points = estimate(table, _statistics(table))
  methods = [m for m in METHODS if any(_name(m, k) in points for k in ks)]
  return {m: {k: points[_name(m, k)] for k in ks} for m in methods}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns the points of `curves` by name, e.g. 'majority@8'."""
  return {
    _name(method, k): value
    for method, curve in curves(records).items()
    for k, value in curve.items()
  }


def curves_of(
  estimates: Mapping[str, Estimate],
) -> dict[str, dict[int, Estimate]]:
  """Returns `curves` again from all protocols' metrics ('selection/pass@8')."""
  by_method = {}
  for name, value in estimates.items():
    if match := re.fullmatch(r'selection/(\w+)@(\d+)', name):
      by_method.setdefault(match[1], {})[int(match[2])] = value
  return by_method


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on the same problems.

  Only the methods and the k that both sides have are compared.
  """
  old, new = _pools(before), _pools(after)
  ks = [k for k in _default_ks(old) if k in _default_ks(new)]
  old, new = _table(old, ks), _table(new, ks)
  statistics = {
    name: statistic
    for name, statistic in _statistics(old).items()
    if name in new.columns
  }
  names = ['rows', *statistics]
  return difference(_only(old, names), _only(new, names), statistics)


def _only(table: Table, names: Sequence[str]) -> Table:
  return Table(table.clusters, {name: table.columns[name] for name in names})


def _name(method: str, k: int) -> str:
  return f'{method}@{k}'


class _Solution(NamedTuple):
  record: Record
  accepts: int  # critiques that say 'correct'
  critiques: int


def _pools(records: Sequence[Record]) -> dict[str, list[_Solution]]:
  """Returns the graded solutions of each problem's id."""
  verdicts = {}
  for record in records:
    if record.stage == 'critique':
      is_accepted = critique_metrics.verdict(record) == 'correct'
      verdicts.setdefault(id(record.parent), []).append(is_accepted)
  pools = {}
  for record in records:
    from_file = 'part' in record.parsed  # not a sample of one solver
    if record.stage == 'solve' and 'correct' in record.parsed and not from_file:
      votes = verdicts.get(id(record), [])
      solution = _Solution(record, sum(votes), len(votes))
      pools.setdefault(record.problem.id, []).append(solution)
  return pools


def _default_ks(pools: Mapping[str, Sequence]) -> list[int]:
  sizes = [len(pool) for pool in pools.values() if len(pool) > 1]
  if not sizes:
    return []
  n = max(multimode(sizes))
  return [2**i for i in range(n.bit_length()) if 2**i < n] + [n]


def _checked(ks: Sequence[int], pools: Mapping[str, Sequence]) -> list[int]:
  max_k = max(map(len, pools.values()), default=0)
  if invalid := [k for k in ks if not 1 <= k <= max_k]:
    raise ValueError(
      f'ks: got {invalid}; expected 1..{max_k}, as no problem has more '
      'solutions; sample more or ask for fewer'
    )
  return sorted(set(ks))


def _table(
  pools: Mapping[str, Sequence[_Solution]], ks: Sequence[int]
) -> Table:
  """Returns a row for each problem: the accuracy of each method at each k.

  'rows' is 1 for problems with enough solutions; the rows of the others are 0.
  """
  all_solutions = [solution for pool in pools.values() for solution in pool]
  judged = any(solution.critiques for solution in all_solutions)
  scored = any('score' in solution.record.scores for solution in all_solutions)
  rows = []
  for pool in pools.values():
    is_large = bool(ks) and len(pool) >= max(ks)
    accuracies = _accuracies(pool, ks, judged, scored) if is_large else {}
    points = {
      _name(method, k): value
      for method, values in accuracies.items()
      for k, value in zip(ks, values, strict=True)
    }
    rows.append({'rows': float(is_large), **points})
  names = ['rows', *dict.fromkeys(name for row in rows for name in row)]
  columns = {name: [row.get(name, 0.0) for row in rows] for name in names}
  return Table(list(pools), columns)


def _statistics(table: Table) -> dict[str, Statistic]:
  return {
    name: Statistic(ratio(name, 'rows'), 'rows')
    for name in table.columns
    if name != 'rows'
  }


def _accuracies(
  pool: Sequence[_Solution], ks: Sequence[int], judged: bool, scored: bool
) -> dict[str, np.ndarray]:
  """Returns the expected accuracies on a problem: float[K] by method."""
  right = np.array([bool(s.record.parsed['correct']) for s in pool])
  accuracies = {'pass': voting.pass_at(right, ks)}
  labels = np.array(plausibility.classes([s.record for s in pool]))
  if not judged:
    accuracies |= voting.votes(labels, ks)
  else:
    accepts = np.array([s.accepts for s in pool])
    critiques = np.maximum(1, [s.critiques for s in pool])
    # Shares as integers over a common denominator: equal sums are then equal.
    weights = accepts * (math.lcm(*critiques.tolist()) // critiques)
    accuracies |= voting.votes(labels, ks, 2 * accepts > critiques, weights)
  if scored:
    scores = [s.record.scores.get('score', math.nan) for s in pool]
    scores = np.where(np.isnan(scores), -math.inf, scores)
    accuracies['best_of'] = voting.best_of(scores, right, ks)
  elif judged:
    accuracies['best_of'] = voting.best_of(weights, right, ks)
  return accuracies
