"""Whether a scorer ranks a right solution above all of the wrong ones.

RewardMATH (https://arxiv.org/abs/2410.01729): one right solution against many
wrong ones of the same problem, as a comparison with a single wrong one is too
easy and too noisy to say how a reward model does in best-of-n. `metrics` is
pure over records; problems with right and with wrong solutions are taken. Where
a problem has several right solutions, each is ranked among the wrong ones, and
their mean is the problem's.

A scorer is a function `(solution, critiques) -> float`, NaN for no score. A
problem is left out if one of its solutions has no score or no known
correctness: to leave out the solution only would make the problem easier.

The metrics, for a right solution with g wrong ones above it and t tied with it:
strictly first (g = t = 0), as RewardMATH counts; first under random breaking of
ties, [g = 0] / (t + 1); and 1 / rank in the mean over the breakings of ties,
where RewardMATH puts the right one last. With k critiques a vote has k + 1
values, so ties are the rule rather than the exception.
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
  """A reward model's `solution.scores['score']`, else the critiques' approval.

  That is the share of the critiques that call the solution right; one without
  a verdict does not. Neither a score nor a critique: NaN.
  """
  if 'score' in solution.scores:
    return float(solution.scores['score'])
  said = [critique_metrics.verdict(critique) for critique in critiques]
  return said.count('correct') / len(said) if said else math.nan


def table(records: Sequence[Record], score: Score = score) -> Table:
  """A row for each problem, with what the metrics count."""
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
      rows.append(np.mean([_places(s, wrong) for s in right], axis=0))
  values = np.array(rows).reshape(-1, len(_COLUMNS))
  return Table(ids, dict(zip(_COLUMNS, values.T, strict=True)))


_COLUMNS = (
  'one', 'first', 'shared', 'reciprocal', 'chance', 'chance_reciprocal'
)  # fmt: skip


def _solutions(
  records: Sequence[Record],
) -> Mapping[str, Mapping[Record, list[Record]]]:
  """The critiques of each solution, by problem and solution."""
  problems = collections.defaultdict(dict)
  for record in records:
    if record.stage == 'solve':
      problems[record.problem.id].setdefault(record, [])
    elif record.stage == 'critique':
      solutions = problems[record.problem.id]
      solutions.setdefault(record.parent, []).append(record)
  return problems


def _truth(solution: Record) -> bool | None:
  timeout = solution.parsed.get('grade') == 'timeout'
  return None if timeout else solution.parsed.get('correct')


def _places(own: float, wrong: Sequence[float]) -> tuple[float, ...]:
  """What `_COLUMNS` hold, for a right solution's score among the wrong ones."""
  above = sum(other > own for other in wrong)
  tied = sum(other == own for other in wrong)
  return (
    1,
    above + tied == 0,
    (above == 0) / (tied + 1),
    _mean_reciprocal(above + 1, above + tied + 1),
    1 / (len(wrong) + 1),
    _mean_reciprocal(1, len(wrong) + 1),
  )


def _mean_reciprocal(first: int, last: int) -> float:
  """The mean of 1 / rank over the ranks from first to last."""
  return float(np.mean(1 / np.arange(first, last + 1)))


STATISTICS = {
  'accuracy': Statistic(ratio('first', 'one'), 'one'),
  'accuracy_ties_shared': Statistic(ratio('shared', 'one'), 'one'),
  # A fact of how many solutions there are: no doubt where all have as many.
  'accuracy_chance': Statistic(ratio('chance', 'one'), 'one', share=False),
  'reciprocal_rank': Statistic(ratio('reciprocal', 'one'), 'one'),
  'reciprocal_rank_chance': Statistic(
    ratio('chance_reciprocal', 'one'), 'one', share=False
  ),
}


def metrics(
  records: Sequence[Record], score: Score = score
) -> dict[str, Estimate]:
  """The metrics of `STATISTICS`, with intervals over problems.

  Args:
    records: solutions, and their critiques if the scorer reads them.
    score: the scorer.

  Returns:
    Estimates by name in [0, 1], with what random scores would get (`_chance`);
    `n` counts problems. {} if no problem has right and wrong solutions, all of
    them scored.
  """
  return estimate(table(records, score), STATISTICS)


def compare(
  before: Sequence[Record],
  after: Sequence[Record],
  score: Score = score,
) -> dict[str, Estimate]:
  """The metrics of `after` less those of `before`, on the problems of both.

  Another solver may leave other problems with right and wrong solutions; only
  what both sides can rank is compared.
  """
  old, new = table(before, score), table(after, score)
  return difference(old, new, STATISTICS, shared=True)
