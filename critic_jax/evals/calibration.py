"""Measures the votes of several critiques of the same solution.

With k critiques, the share that calls a solution wrong is a forecast that it is
wrong, and the majority is a verdict. `metrics` is a pure function of records.
Its rows are the solutions of known correctness with at least two critiques.

A critique without a single verdict counts as half a vote for each side in the
share, so that silence claims nothing (if all are silent, the Brier score is
1/4), and as no vote in the majority. The first verdict wins a tie; no verdict
at all is wrong. Both follow `critique_metrics` and `processbench`.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from critic_jax.evals import critique_metrics
from critic_jax.evals.statistics import (
  Estimate,
  Statistic,
  Table,
  difference,
  divide,
  estimate,
  ratio,
)
from critic_jax.types import Record

NUM_BINS = 10


class Bin(NamedTuple):
  """The solutions whose share of votes is in (low, high], or [0, high].

  Attributes:
    low: the lower end, in [0, 1].
    high: the upper end.
    called: the mean share of votes that call the solution wrong.
    wrong: the share of the solutions that are wrong, with its interval over
      problems; `n` counts solutions.
  """

  low: float
  high: float
  called: float
  wrong: Estimate


def voted(records: Sequence[Record]) -> dict[Record, list[Record]]:
  """Returns the critiques, by index, of solutions that have at least two."""
  critiques = collections.defaultdict(list)
  for critique in critique_metrics.judged(records):
    critiques[critique.parent].append(critique)
  return {
    solution: sorted(votes, key=lambda c: c.index)
    for solution, votes in critiques.items()
    if len(votes) > 1
  }


_VOTES = {'incorrect': 1.0, None: 0.5, 'correct': 0.0}


def called_wrong(critiques: Sequence[Record]) -> float:
  """Returns the share of votes that call the solution wrong, in [0, 1]."""
  votes = [_VOTES[critique_metrics.verdict(c)] for c in critiques]
  return sum(votes) / len(votes)


def majority(critiques: Sequence[Record]) -> str | None:
  """Returns the most frequent verdict, the first of a tie; None without any."""
  verdicts = [critique_metrics.verdict(c) for c in critiques]
  counts = collections.Counter(v for v in verdicts if v)
  return counts.most_common(1)[0][0] if counts else None


def table(records: Sequence[Record]) -> Table:
  """Returns a row for each solution, with columns for each bin's sums."""
  solutions = voted(records)
  # A solution fills the columns of its own bin; the other bins get 0.
  rows = [_row(*item) for item in solutions.items()]
  names = [*_COLUMNS, *(f'{n}/{b}' for n in _BINNED for b in range(NUM_BINS))]
  columns = {name: [row.get(name, 0.0) for row in rows] for name in names}
  return Table([solution.problem.id for solution in solutions], columns)


_COLUMNS = ('rows', 'right', 'wrong', 'right_ok', 'wrong_ok', 'squared')
_BINNED = ('rows', 'called', 'wrong')


def _row(solution: Record, critiques: Sequence[Record]) -> dict[str, float]:
  wrong = not critique_metrics.truth(solution)
  share, vote = called_wrong(critiques), majority(critiques)
  # Rounded, as 0.1 * 3 is more than 0.3.
  bin_index = max(0, math.ceil(round(share * NUM_BINS, 9)) - 1)
  return {
    'rows': 1,
    'right': not wrong,
    'wrong': wrong,
    'right_ok': not wrong and vote == 'correct',
    'wrong_ok': wrong and vote == 'incorrect',
    'squared': (share - wrong) ** 2,
    f'rows/{bin_index}': 1,
    f'called/{bin_index}': share,
    f'wrong/{bin_index}': wrong,
  }


def _brier_constant(sums):
  rate = divide(sums['wrong'], sums['rows'])
  return rate * (1 - rate)


def _expected_calibration_error(sums):
  gaps = [
    np.abs(sums[f'called/{b}'] - sums[f'wrong/{b}']) for b in range(NUM_BINS)
  ]
  return divide(sum(gaps), sums['rows'])


STATISTICS = {
  'vote_accuracy_right': Statistic(ratio('right_ok', 'right'), 'right'),
  'vote_accuracy_wrong': Statistic(ratio('wrong_ok', 'wrong'), 'wrong'),
  'vote_balanced_accuracy': Statistic(
    critique_metrics.balanced_accuracy, 'rows'
  ),
  'brier': Statistic(ratio('squared', 'rows'), 'rows', share=False),
  'brier_constant': Statistic(_brier_constant, 'rows', share=False),
  'calibration_error': Statistic(
    _expected_calibration_error, 'rows', share=False
  ),
}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns the metrics of `STATISTICS`, with intervals over problems.

  Returns:
    Estimates by name. `vote_...` are accuracies of the majority's verdict.
    `brier` is the mean of (share - wrong)^2, 0 at best (Brier, 1950);
    `brier_constant` is the score of a constant forecast, the share of wrong
    solutions: a useful critic is below it. `calibration_error` is the mean gap
    between share and outcome in a solution's bin, with ten bins (ECE; Guo et
    al., https://arxiv.org/abs/1706.04599, section 2). Small samples and
    resamples widen the gaps, so its interval is biased upward. {} if no
    solution of known correctness has two critiques.
  """
  return estimate(table(records), STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on the same problems."""
  return difference(table(before), table(after), STATISTICS)


def reliability(records: Sequence[Record]) -> list[Bin]:
  """Returns the points of a reliability diagram: the bins with solutions.

  A calibrated critic has `wrong` near `called` in every bin.
  """
  rows = table(records)
  filled = [b for b in range(NUM_BINS) if np.any(rows.columns[f'rows/{b}'])]
  outcomes: Mapping[str, Estimate] = estimate(
    rows,
    {
      str(b): Statistic(ratio(f'wrong/{b}', f'rows/{b}'), f'rows/{b}')
      for b in filled
    },
  )
  return [
    Bin(
      b / NUM_BINS,
      (b + 1) / NUM_BINS,
      sum(rows.columns[f'called/{b}']) / sum(rows.columns[f'rows/{b}']),
      outcomes[str(b)],
    )
    for b in filled
  ]
