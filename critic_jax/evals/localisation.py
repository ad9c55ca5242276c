"""Whether critiques find the first wrong step, as ProcessBench measures it.

ProcessBench (https://arxiv.org/abs/2412.06559, section 4.1): a solution's label
is the index of its first wrong step, counted from 0, or -1 if there is none.
The critic's prediction is right if it is the label. The score is the F1, the
harmonic mean of the accuracies on erroneous (label >= 0) and on correct
(label -1) solutions; both 0 give 0.

Labels are `solution.parsed['first_error']`. The prediction is -1 for the
verdict 'correct' and `critique.parsed['step']` for 'incorrect'; no verdict or
no step is a wrong prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

from critic_jax.evals import critique as critique_metrics
from critic_jax.evals.statistics import (
  Estimate,
  Statistic,
  Table,
  difference,
  divide,
  estimate,
  harmonic,
  ratio,
)
from critic_jax.types import Record


def prediction(critique: Record) -> int | None:
  """The first wrong step according to the critique, -1 for none of them."""
  said = critique_metrics.verdict(critique)
  if said == 'correct':
    return -1
  step = critique.parsed.get('step') if said == 'incorrect' else None
  return None if step is None or step < 0 else step  # "incorrect, at -1"


def table(records: Sequence[Record]) -> Table:
  """A row for each critique of a solution with a label."""
  critiques = [
    record
    for record in records
    if record.stage == 'critique'
    and record.parent.parsed.get('first_error') is not None
  ]
  names = ('one', 'erroneous', 'correct', 'found', 'passed')
  columns = {name: [] for name in names}
  for critique in critiques:
    label = critique.parent.parsed['first_error']
    hit = prediction(critique) == label
    columns['one'].append(1)
    columns['erroneous'].append(label >= 0)
    columns['correct'].append(label < 0)
    columns['found'].append(label >= 0 and hit)
    columns['passed'].append(label < 0 and hit)
  return Table([critique.problem.id for critique in critiques], columns)


def _f1(sums):
  return harmonic(
    divide(sums['found'], sums['erroneous']),
    divide(sums['passed'], sums['correct']),
  )


STATISTICS = {
  'accuracy_erroneous': Statistic(ratio('found', 'erroneous'), 'erroneous'),
  'accuracy_correct': Statistic(ratio('passed', 'correct'), 'correct'),
  'f1': Statistic(_f1, 'one'),
}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """First-error accuracies and F1, with intervals over problems.

  Returns:
    Estimates by name, in [0, 1]; {} if no solution has a label.
  """
  rows = table(records)
  return estimate(rows, STATISTICS) if rows.clusters else {}


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """The metrics of `after` less those of `before`, on the same problems."""
  old, new = table(before), table(after)
  return difference(old, new, STATISTICS) if old.clusters else {}
