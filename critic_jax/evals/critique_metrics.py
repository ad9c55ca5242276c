"""Measures how well critiques judge solutions.

`metrics` is a pure function of records. It compares each critique's verdict
with `truth(parent)`, the grade of the solution's answer. A verdict that is
missing, contradictory or unfinished counts as wrong: a critic must not gain by
keeping silent. So does that of a critique whose prompt did not fit; 'refused'
is the share of these. Critiques of solutions whose correctness is unknown
(ungraded, never sampled, or the grader timed out) are left out.

The positive class of precision, recall and F1 is the wrong solution, as a
critic's task is to detect it. Balanced accuracy is the mean of the accuracies
on right and on wrong solutions, so a constant verdict gets 0.5 for any mixture.

`by` computes metrics for groups of critiques, by the functions of `KEYS`.
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
  """Returns 'correct', 'incorrect', or None without a single verdict."""
  usable = critique.parsed.get('status', 'ok') == 'ok'
  return critique.parsed.get('verdict') if usable else None


def judged(records: Sequence[Record]) -> list[Record]:
  """Returns the critiques of solutions whose correctness is known."""
  return [
    record
    for record in records
    if record.stage == 'critique' and truth(record.parent) is not None
  ]


def truth(solution: Record) -> bool | None:
  """Returns whether a solution is right, None if that is unknown.

  The grade of its final answer decides, but one that was cut off is not right,
  also where the grader timed out. For ungraded solutions with labelled steps,
  no step may be wrong. The reward for a verdict has the same rule
  (`refinement.is_right`).
  """
  if solution.undetermined:
    return None
  if solution.parsed.get('correct') is not None:
    return bool(solution.parsed['correct'])
  if solution.parsed.get('first_error') is not None:
    return solution.parsed['first_error'] == -1
  return None


def is_true(critique: Record) -> bool | None:
  """Returns whether a verdict is true; None without a verdict or the truth."""
  claim, right = verdict(critique), truth(critique.parent)
  return None if None in (claim, right) else (claim == 'correct') == right


def table(records: Sequence[Record]) -> Table:
  """Returns a row for each critique, with the columns of the metrics."""
  critiques = judged(records)
  rows = [_row(critique) for critique in critiques]
  names = _COLUMNS + STATUSES
  columns = {name: [row[name] for row in rows] for name in names}
  return Table([critique.problem.id for critique in critiques], columns)


_COLUMNS = (
  'rows', 'right', 'wrong', 'right_ok', 'wrong_ok', 'called', 'cut', 'refused',
  'length',
)  # fmt: skip


def _row(critique: Record) -> dict[str, float]:
  claim, right = verdict(critique), truth(critique.parent)
  status = critique.parsed.get('status', 'ok')
  return {
    'rows': 1,
    'right': right,
    'wrong': not right,
    'right_ok': right and claim == 'correct',
    'wrong_ok': not right and claim == 'incorrect',
    'called': claim == 'incorrect',
    'cut': critique.truncated,
    'refused': critique.refused,
    'length': len(critique.tokens),
    **{name: status == name for name in STATUSES},
  }


def balanced_accuracy(sums):
  """Returns the mean of the accuracies on right and on wrong solutions.

  Args:
    sums: the sums of the columns 'right', 'wrong', 'right_ok' and 'wrong_ok'.
  """
  on_right = divide(sums['right_ok'], sums['right'])
  on_wrong = divide(sums['wrong_ok'], sums['wrong'])
  return (on_right + on_wrong) / 2


def _f1(sums):
  # 2 tp / (2 tp + fp + fn), of which called = tp + fp and wrong = tp + fn.
  return divide(2 * sums['wrong_ok'], sums['called'] + sums['wrong'], empty=0)


STATISTICS = {
  'accuracy_right': Statistic(ratio('right_ok', 'right'), 'right'),
  'accuracy_wrong': Statistic(ratio('wrong_ok', 'wrong'), 'wrong'),
  'balanced_accuracy': Statistic(balanced_accuracy, 'rows'),
  'called_wrong': Statistic(ratio('called', 'rows'), 'rows'),
  'precision': Statistic(ratio('wrong_ok', 'called', empty=0), 'called'),
  'recall': Statistic(ratio('wrong_ok', 'wrong'), 'wrong'),
  'f1': Statistic(_f1, 'rows'),
  'missing': Statistic(ratio('missing', 'rows'), 'rows'),
  'contradictory': Statistic(ratio('contradictory', 'rows'), 'rows'),
  'unfinished': Statistic(ratio('unfinished', 'rows'), 'rows'),
  'truncated': Statistic(ratio('cut', 'rows'), 'rows'),
  'refused': Statistic(ratio('refused', 'rows'), 'rows'),
  'length': Statistic(ratio('length', 'rows'), 'rows', share=False),
}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns the metrics of `STATISTICS`, with intervals over problems.

  Args:
    records: records of all stages; only critiques count.

  Returns:
    Estimates by name; shares in [0, 1], 'length' in tokens. A metric without
    observations is NaN. {} if there are no critiques of solutions whose
    correctness is known.
  """
  return estimate(table(records), STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on the same problems."""
  return difference(table(before), table(after), STATISTICS)


def by(
  records: Sequence[Record],
  key: Callable[[Record], Hashable],
  metrics_fn: Callable[[Sequence[Record]], Mapping[str, Estimate]] = metrics,
) -> dict[str, Mapping[str, Estimate]]:
  """Returns metrics by group of critiques, e.g. `by(records, KEYS['steps'])`.

  Args:
    records: critiques and the records below them; other records are ignored
      (metrics reach solutions through parents).
    key: maps a critique to its group, or to None to leave it out. Groups must
      be sortable.
    metrics_fn: computes the metrics of a group; those of any protocol.

  Returns:
    The metrics by the group's name, in the order of the groups. Groups without
    metrics (their correctness is unknown) are left out.
  """
  groups = collections.defaultdict(list)
  for record in records:
    critique = next((r for r in record.chain if r.stage == 'critique'), None)
    if critique is not None and (group := key(critique)) is not None:
      groups[group].append(record)
  by_group = {str(name): metrics_fn(groups[name]) for name in sorted(groups)}
  return {name: values for name, values in by_group.items() if values}


class Range(NamedTuple):
  """The whole numbers from `low` to `high`, both included."""

  low: int
  high: float  # math.inf if unbounded

  def __str__(self) -> str:
    if self.high == math.inf:
      return f'{self.low}+'
    return str(self.low) if self.low == self.high else f'{self.low}-{self.high}'


def ranges(
  value: Callable[[Record], int | None], starts: Sequence[int]
) -> Callable[[Record], Range | None]:
  """Returns a key for `by`: the range that contains a number.

  Args:
    value: maps a critique to a number, or to None if it is unknown.
    starts: increasing lower ends. Each range ends before the next start; the
      last is unbounded. Numbers below the first start are in no range.
  """
  ends = [*(start - 1 for start in starts[1:]), math.inf]
  spans = [Range(*pair) for pair in zip(starts, ends, strict=True)]

  def key(critique):
    number = value(critique)
    rank = 0 if number is None else bisect.bisect_right(starts, number)
    return spans[rank - 1] if rank else None

  return key


_POWERS = (0, *(2**i for i in range(4, 16)))  # 0-15, 16-31, ..., 32768+
# Keys for `by`: the model that wrote the solution, its number of steps and its
# length in characters (solutions from files have no tokens), and the critique's
# length in tokens.
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
