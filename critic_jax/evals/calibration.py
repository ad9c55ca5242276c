"""What the votes of several critiques of one solution are worth.

With k critiques, the share that calls a solution wrong is a forecast of its
being wrong, and the majority is a verdict. `metrics` is pure over records;
solutions with two critiques or more and known correctness are taken, a row
each.

A critique without a single verdict is half a vote for each side in the share,
so that silence claims nothing (all silent: Brier score 1/4), and none in the
majority. The first verdict wins a tie; no verdict at all is wrong. Both follow
evals/critique.py and evals/processbench.py.
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
  """The solutions with a share of votes in (low, high]; the first has 0 too.

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
  """The solutions with two critiques or more: the critiques, by index."""
  critiques = collections.defaultdict(list)
  for critique in critique_metrics.judged(records):
    critiques[critique.parent].append(critique)
  return {
    solution: sorted(found, key=lambda c: c.index)
    for solution, found in critiques.items()
    if len(found) > 1
  }


_HALF = {'incorrect': 1.0, None: 0.5, 'correct': 0.0}


def called_wrong(critiques: Sequence[Record]) -> float:
  """The share of votes that call the solution wrong, in [0, 1]."""
  votes = [_HALF[critique_metrics.verdict(c)] for c in critiques]
  return sum(votes) / len(votes)


def majority(critiques: Sequence[Record]) -> str | None:
  """The verdict of most critiques; the first of two as many, None of none."""
  verdicts = [critique_metrics.verdict(c) for c in critiques]
  counts = collections.Counter(v for v in verdicts if v)
  return counts.most_common(1)[0][0] if counts else None


def table(records: Sequence[Record]) -> Table:
  """A row for each solution; of each bin what its sums need."""
  solutions = voted(records)
  rows = [_row(solution, found) for solution, found in solutions.items()]
  names = [*_COLUMNS, *(f'{n}/{b}' for n in _BINNED for b in range(NUM_BINS))]
  columns = {name: [row.get(name, 0.0) for row in rows] for name in names}
  return Table([solution.problem.id for solution in solutions], columns)


_COLUMNS = ('one', 'right', 'wrong', 'right_ok', 'wrong_ok', 'squared')
_BINNED = ('one', 'called', 'wrong')


def _row(solution: Record, critiques: Sequence[Record]) -> dict[str, float]:
  wrong = not critique_metrics.truth(solution)
  share, said = called_wrong(critiques), majority(critiques)
  # Rounded, as 0.1 * 3 is more than 0.3.
  inside = max(0, math.ceil(round(share * NUM_BINS, 9)) - 1)
  return {
    'one': 1,
    'right': not wrong,
    'wrong': wrong,
    'right_ok': not wrong and said == 'correct',
    'wrong_ok': wrong and said == 'incorrect',
    'squared': (share - wrong) ** 2,
    f'one/{inside}': 1,
    f'called/{inside}': share,
    f'wrong/{inside}': wrong,
  }


def _brier_constant(sums):
  rate = divide(sums['wrong'], sums['one'])
  return rate * (1 - rate)


def _expected_calibration_error(sums):
  gaps = [
    np.abs(sums[f'called/{b}'] - sums[f'wrong/{b}']) for b in range(NUM_BINS)
  ]
  return divide(sum(gaps), sums['one'])


def _balanced(sums):
  on_right = divide(sums['right_ok'], sums['right'])
  on_wrong = divide(sums['wrong_ok'], sums['wrong'])
  return (on_right + on_wrong) / 2


STATISTICS = {
  'vote_accuracy_right': Statistic(ratio('right_ok', 'right'), 'right'),
  'vote_accuracy_wrong': Statistic(ratio('wrong_ok', 'wrong'), 'wrong'),
  'vote_balanced_accuracy': Statistic(_balanced, 'one'),
  'brier': Statistic(ratio('squared', 'one'), 'one', share=False),
  'brier_constant': Statistic(_brier_constant, 'one', share=False),
  'calibration_error': Statistic(
    _expected_calibration_error, 'one', share=False
  ),
}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """The metrics of `STATISTICS`, with intervals over problems.

  Returns:
    Estimates by name. `vote_...` are accuracies of the majority's verdict.
    `brier` is the mean of (share - wrong)^2, 0 at best (Brier, 1950);
    `brier_constant` is what the share of wrong solutions would get as a
    forecast for each, the value to be below. `calibration_error` is the mean
    over solutions of the gap between share and outcomes in their bin, of ten
    (ECE; Guo et al., https://arxiv.org/abs/1706.04599, section 2); small
    samples and resamples widen gaps, so that its interval leans upward. {} if
    no solution of known correctness has two critiques.
  """
  return estimate(table(records), STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """The metrics of `after` less those of `before`, on the same problems."""
  return difference(table(before), table(after), STATISTICS)


def reliability(records: Sequence[Record]) -> list[Bin]:
  """The points of a reliability diagram: bins that hold solutions, by share.

  A calibrated critic has `wrong` near `called` in each of them.
  """
  rows = table(records)
  filled = [b for b in range(NUM_BINS) if np.any(rows.columns[f'one/{b}'])]
  outcomes: Mapping[str, Estimate] = estimate(
    rows,
    {
      str(b): Statistic(ratio(f'wrong/{b}', f'one/{b}'), f'one/{b}')
      for b in filled
    },
  )
  return [
    Bin(
      b / NUM_BINS,
      (b + 1) / NUM_BINS,
      sum(rows.columns[f'called/{b}']) / sum(rows.columns[f'one/{b}']),
      outcomes[str(b)],
    )
    for b in filled
  ]
