"""Measures whether a scorer ranks a right solution above all wrong ones.

RewardMATH (https://arxiv.org/abs/2410.01729) ranks one right solution among
many wrong ones of the same problem, since a comparison with a single wrong one
is too easy and too noisy to predict how a reward model does in best-of-n.
`metrics` is a pure function of records; its rows are the problems with right
and with wrong solutions. If a problem has several right solutions, each is
ranked among the wrong ones, and the problem gets their mean.

A scorer is a function `(solution, critiques) -> float`, NaN for no score. A
problem is left out if one of its solutions has no score or no known
correctness: dropping just that solution would make the problem easier.

The metrics of a right solution, with g wrong ones above it and t tied with it:
whether it is strictly first (g = t = 0), as RewardMATH counts; whether it is
first when ties are broken at random, [g = 0] / (t + 1); and the mean of
1 / rank over the breakings of ties, where RewardMATH puts the right one last.
With k critiques a vote has k + 1 values, so ties are common.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from critic_jax.evals import critique_metrics
from critic_jax.evals.statistics import (
  Estimate,
  Statistic,
  Table,
  difference,
  estimate,
  ratio,
)
from critic_jax.types import Record

Score = Callable[[Record, Sequence[Record]], float]


def score(solution: Record, critiques: Sequence[Record]) -> float:
  """Returns a reward model's `scores['score']`, else the critiques' approval.

  Approval is the share of critiques that call the solution right; a critique
  without a verdict does not. NaN without a score and without critiques.
  """
  if 'score' in solution.scores:
    return float(solution.scores['score'])
  verdicts = [critique_metrics.verdict(critique) for critique in critiques]
  return verdicts.count('correct') / len(verdicts) if verdicts else math.nan


def table(records: Sequence[Record], score: Score = score) -> Table:
  """Returns a row for each problem, with the columns of the metrics."""
  ids, rows = [], []
  for problem, solutions in _solutions(records).items():
    truths = [_truth(solution) for solution in solutions]
    scores = [score(*item) for item in solutions.items()]
    if None in truths or np.isnan(scores).any():
      continue
    right = [s for s, truth in zip(scores, truths, strict=True) if truth]
    wrong = [s for s, truth in zip(scores, truths, strict=True) if not truth]
    if right and wrong:
      ids.append(problem)
      rows.append(np.mean([_row(s, wrong) for s in right], axis=0))
  values = np.array(rows).reshape(-1, len(_COLUMNS))
  return Table(ids, dict(zip(_COLUMNS, values.T, strict=True)))


_COLUMNS = (
  'rows', 'first', 'shared', 'reciprocal', 'chance', 'chance_reciprocal'
)  # fmt: skip


def _solutions(
  records: Sequence[Record],
) -> Mapping[str, Mapping[Record, list[Record]]]:
  """Returns the critiques by problem and solution."""
  problems = collections.defaultdict(dict)
  for record in records:
    if record.stage == 'solve':
      problems[record.problem.id].setdefault(record, [])
    elif record.stage == 'critique':
      solutions = problems[record.problem.id]
      solutions.setdefault(record.parent, []).append(record)
  return problems


def _truth(solution: Record) -> bool | None:
  return None if solution.undetermined else solution.parsed.get('correct')


def _row(right: float, wrong: Sequence[float]) -> tuple[float, ...]:
  """Returns the values of `_COLUMNS` for a right solution's score."""
  num_above = sum(score > right for score in wrong)
  num_tied = sum(score == right for score in wrong)
  return (
    1,
    num_above + num_tied == 0,
    (num_above == 0) / (num_tied + 1),
    _mean_reciprocal(num_above + 1, num_above + num_tied + 1),
    1 / (len(wrong) + 1),
    _mean_reciprocal(1, len(wrong) + 1),
  )


def _mean_reciprocal(first: int, last: int) -> float:
  """Returns the mean of 1 / rank over the ranks from first to last."""
  return float(np.mean(1 / np.arange(first, last + 1)))


STATISTICS = {
  'accuracy': Statistic(ratio('first', 'rows'), 'rows'),
  'accuracy_ties_shared': Statistic(ratio('shared', 'rows'), 'rows'),
  # Depends on the numbers of solutions only, so its interval may be a point.
  'accuracy_chance': Statistic(ratio('chance', 'rows'), 'rows', share=False),
  'reciprocal_rank': Statistic(ratio('reciprocal', 'rows'), 'rows'),
  'reciprocal_rank_chance': Statistic(
    ratio('chance_reciprocal', 'rows'), 'rows', share=False
  ),
}


def metrics(
  records: Sequence[Record], score: Score = score
) -> dict[str, Estimate]:
  """Returns the metrics of `STATISTICS`, with intervals over problems.

  Args:
    records: solutions, and their critiques if the scorer reads them.
    score: the scorer.

  Returns:
    Estimates by name in [0, 1], and those of random scores (`_chance`). `n`
    counts problems. {} if no problem has right and wrong solutions, all scored.
  """
  return estimate(table(records, score), STATISTICS)


def compare(
  before: Sequence[Record],
  after: Sequence[Record],
  score: Score = score,
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on shared problems.

  Another solver may leave other problems with right and wrong solutions. Only
  the problems that both sides can rank are compared.
  """
  old, new = table(before, score), table(after, score)
  return difference(old, new, STATISTICS, shared=True)
