"""How well critiques judge solutions.

`metrics` is pure over records: the critiques among them are judged against
`parent.parsed['correct']`, what the answer's grader said of the solution. A
verdict that is missing, contradictory or unfinished counts as wrong: a critic
must not gain by keeping silent. Critiques of solutions on which the grader
timed out have no truth and are left out.

The positive class of precision, recall and F1 is the wrong solution, as a
critic's work is to find it. Balanced accuracy is the mean of the accuracies on
right and on wrong solutions, so a critic that always says the same gets 0.5
whatever the mixture.
"""

from __future__ import annotations

from collections.abc import Sequence

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

STATUSES = ('missing', 'contradictory', 'unfinished')


def verdict(critique: Record) -> str | None:
  """'correct' or 'incorrect', None if the critique has no single verdict."""
  usable = critique.parsed.get('status', 'ok') == 'ok'
  return critique.parsed['verdict'] if usable else None


def judged(records: Sequence[Record]) -> list[Record]:
  """The critiques of solutions whose correctness is known."""
  return [
    record
    for record in records
    if record.stage == 'critique'
    and record.parent.parsed.get('grade', 'timeout') != 'timeout'
  ]


def table(records: Sequence[Record]) -> Table:
  """A row for each critique, with what the metrics count."""
  critiques = judged(records)
  rows = [_row(critique) for critique in critiques]
  names = _COLUMNS + STATUSES
  columns = {name: [row[name] for row in rows] for name in names}
  return Table([critique.problem.id for critique in critiques], columns)


_COLUMNS = (
  'one', 'right', 'wrong', 'right_ok', 'wrong_ok', 'called', 'cut', 'length'
)  # fmt: skip


def _row(critique: Record) -> dict[str, float]:
  said, right = verdict(critique), bool(critique.parent.parsed['correct'])
  status = critique.parsed.get('status', 'ok')
  return {
    'one': 1,
    'right': right,
    'wrong': not right,
    'right_ok': right and said == 'correct',
    'wrong_ok': not right and said == 'incorrect',
    'called': said == 'incorrect',
    'cut': critique.truncated,
    'length': len(critique.tokens),
    **{name: status == name for name in STATUSES},
  }


def _balanced(sums):
  on_right = divide(sums['right_ok'], sums['right'])
  on_wrong = divide(sums['wrong_ok'], sums['wrong'])
  return (on_right + on_wrong) / 2


def _f1(sums):
  # 2 tp / (2 tp + fp + fn), of which called = tp + fp and wrong = tp + fn.
  return divide(2 * sums['wrong_ok'], sums['called'] + sums['wrong'], empty=0)


STATISTICS = {
  'accuracy_right': Statistic(ratio('right_ok', 'right'), 'right'),
  'accuracy_wrong': Statistic(ratio('wrong_ok', 'wrong'), 'wrong'),
  'balanced_accuracy': Statistic(_balanced, 'one'),
  'called_wrong': Statistic(ratio('called', 'one'), 'one'),
  'precision': Statistic(ratio('wrong_ok', 'called', empty=0), 'called'),
  'recall': Statistic(ratio('wrong_ok', 'wrong'), 'wrong'),
  'f1': Statistic(_f1, 'one'),
  'missing': Statistic(ratio('missing', 'one'), 'one'),
  'contradictory': Statistic(ratio('contradictory', 'one'), 'one'),
  'unfinished': Statistic(ratio('unfinished', 'one'), 'one'),
  'truncated': Statistic(ratio('cut', 'one'), 'one'),
  'length': Statistic(ratio('length', 'one'), 'one', share=False),
}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """The metrics of `STATISTICS`, with intervals over problems.

  Args:
    records: any; critiques are taken, with their parents.

  Returns:
    Estimates by name; shares in [0, 1], 'length' in tokens. A metric of
    solutions of which there are none is NaN.
  """
  return estimate(table(records), STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """The metrics of `after` less those of `before`, on the same problems."""
  return difference(table(before), table(after), STATISTICS)
