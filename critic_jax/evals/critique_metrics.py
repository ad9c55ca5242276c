"""How well critiques judge solutions.

`metrics` is pure over records: the critiques among them are judged against
`truth(parent)`, what the answer's grader said of the solution. A verdict that
is missing, contradictory or unfinished counts as wrong: a critic must not gain
by keeping silent. Critiques of solutions whose truth is not known (nobody
graded them, the grader timed out) are left out.

The positive class of precision, recall and F1 is the wrong solution, as a
critic's work is to find it. Balanced accuracy is the mean of the accuracies on
right and on wrong solutions, so a critic that always says the same gets 0.5
whatever the mixture.

`by` gives metrics for groups of critiques, by the functions of `KEYS`.
"""

from __future__ import annotations

import bisect
import collections
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

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
  return critique.parsed.get('verdict') if usable else None


def judged(records: Sequence[Record]) -> list[Record]:
  """The critiques of solutions whose correctness is known."""
  return [
    record
    for record in records
    if record.stage == 'critique' and truth(record.parent) is not None
  ]


def truth(solution: Record) -> bool | None:
  """Whether a solution is right, None if nobody knows.

  Its final answer decides where it was graded; where a file says only which
  step is the first wrong one, there must be none.
  """
  if solution.parsed.get('grade') == 'timeout':
    return None
  if solution.parsed.get('correct') is not None:
    return bool(solution.parsed['correct'])
  if solution.parsed.get('first_error') is not None:
    return solution.parsed['first_error'] == -1
  return None


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
  said, right = verdict(critique), truth(critique.parent)
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
    solutions of which there are none is NaN. {} if there are no critiques of
    solutions whose correctness is known.
  """
  return estimate(table(records), STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """The metrics of `after` less those of `before`, on the same problems."""
  return difference(table(before), table(after), STATISTICS)


def by(
  records: Sequence[Record],
  key: Callable[[Record], Hashable],
  metrics_fn: Callable[[Sequence[Record]], Mapping[str, Estimate]] = metrics,
) -> dict[str, Mapping[str, Estimate]]:
  """Metrics for each group of critiques, e.g. `by(records, KEYS['steps'])`.

  Args:
    records: critiques, each taken with the records below it; those that are
      below no critique are left out (metrics reach solutions through parents).
    key: a critique -> its group, None for none of them. Groups sort.
    metrics_fn: the metrics of a group; those of any protocol.

  Returns:
    The metrics by the group's name, in the order of the groups; groups for
    which there are none (their correctness is unknown) are left out.
  """
  groups = collections.defaultdict(list)
  for record in records:
    critique = next((r for r in record.chain if r.stage == 'critique'), None)
    if critique is not None and (group := key(critique)) is not None:
      groups[group].append(record)
  found = {str(group): metrics_fn(groups[group]) for group in sorted(groups)}
  return {group: values for group, values in found.items() if values}


class Range(NamedTuple):
  """The whole numbers from `low` to `high`, both included."""

  low: int
  high: float  # math.inf without an end

  def __str__(self) -> str:
    if self.high == math.inf:
      return f'{self.low}+'
    return str(self.low) if self.low == self.high else f'{self.low}-{self.high}'


def ranges(
  value: Callable[[Record], int | None], starts: Sequence[int]
) -> Callable[[Record], Range | None]:
  """A key for `by`: the range that a number falls into.

  Args:
    value: a critique -> a number, None if nobody knows.
    starts: where the ranges begin, increasing; each ends before the next, the
      last has no end. Numbers below the first are in no range.
  """
  ends = [*(start - 1 for start in starts[1:]), math.inf]
  spans = [Range(*pair) for pair in zip(starts, ends, strict=True)]

  def key(critique):
    number = value(critique)
    inside = 0 if number is None else bisect.bisect_right(starts, number)
    return spans[inside - 1] if inside else None

  return key


_POWERS = (0, *(2**i for i in range(4, 16)))  # 0-15, 16-31, ..., 32768+
# What `by` groups critiques by: who wrote the solution, its number of steps and
# its length in characters (solutions from files have no tokens), and the
# critique's length in tokens.
KEYS = {
  'generator': lambda critique: critique.parent.parsed.get('generator') or None,
  'steps': ranges(
    lambda critique: critique.parent.parsed.get('num_steps'),
    (1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 21),
  ),
  'solution_length': ranges(
    lambda critique: len(critique.parent.text), _POWERS
  ),
  'critique_length': ranges(lambda critique: len(critique.tokens), _POWERS),
}
