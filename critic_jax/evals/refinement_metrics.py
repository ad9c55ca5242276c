"""Measures how critiques help the solver: its answers before and after.

`metrics` is a pure function of records. Each critique of a solution is one
trial. If its verdict is 'incorrect', the solver refines, and the answer after
it is the refinement's (the mean over several); if not, the solution's own
answer stands. So refining a right solution can only do harm, and leaving a
wrong one unrefined gains nothing. A critique that calls for refinements but has
none on record (its prompt was too long) leaves the answer as it was. A
refinement whose grader timed out is left out: it is no wrong answer.

Two metrics tell whether the critique gave the answer away: `answer_leak` is how
often the conclusion of a critique of a wrong solution contains the reference
answer, and `refinement_accuracy_unleaked` is the accuracy over the others.

`correction_accuracy` is over all refinements on record. If every critique was
refined, whatever its verdict, this is CriticBench's third measure, beside
`accuracy_before` (generate) and the `f1` of `critique_metrics` (critique)
(https://arxiv.org/abs/2402.14809).
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

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
from critic_jax.rewards.leaks import leaks
from critic_jax.types import Record


def table(records: Sequence[Record]) -> Table:
  """Returns a row for each critique, with the columns of the metrics."""
  refinements = collections.defaultdict(list)
  for record in records:
    is_known = critique_metrics.truth(record) is not None
    if record.stage == 'refine' and is_known:
      refinements[id(record.parent)].append(record)
  critiques = critique_metrics.judged(records)
  rows = [_row(critique, refinements[id(critique)]) for critique in critiques]
  columns = {name: [row[name] for row in rows] for name in _COLUMNS}
  return Table([critique.problem.id for critique in critiques], columns)


_COLUMNS = (
  'rows', 'before', 'after', 'wrong', 'right_to_right', 'right_to_wrong',
  'wrong_to_right', 'wrong_to_wrong', 'changed', 'leaked', 'unleaked',
  'unleaked_to_right', 'corrections', 'corrected',
)  # fmt: skip


def _row(critique: Record, refinements: Sequence[Record]) -> dict[str, float]:
  solution = critique.parent
  before = critique_metrics.truth(solution)
  # The answers after the critique: the solution's own if it was not refined.
  refined = refinements
  if critique_metrics.verdict(critique) != 'incorrect' or not refinements:
    refined = [solution]
  after = float(np.mean([bool(critique_metrics.truth(r)) for r in refined]))
  leaked = not before and leaks(critique)
  unleaked = not before and not leaked
  return {
    'rows': 1,
    'before': before,
    'after': after,
    'wrong': not before,
    'right_to_right': before * after,
    'right_to_wrong': before * (1 - after),
    'wrong_to_right': (not before) * after,
    'wrong_to_wrong': (not before) * (1 - after),
    'changed': float(np.mean([_differs(solution, r) for r in refined])),
    'leaked': leaked,
    'unleaked': unleaked,
    'unleaked_to_right': unleaked * after,
    'corrections': len(refinements),
    'corrected': sum(bool(r.parsed['correct']) for r in refinements),
  }


def _differs(solution: Record, refinement: Record) -> bool:
  """Returns whether the answer changed; all right answers are the same."""
  both_right = all(map(critique_metrics.truth, (solution, refinement)))
  is_equal = solution.parsed.get('answer') == refinement.parsed.get('answer')
  return not (both_right or is_equal)


STATISTICS = {
  'accuracy_before': Statistic(ratio('before', 'rows'), 'rows'),
  'accuracy_after': Statistic(ratio('after', 'rows'), 'rows'),
  'refinement_accuracy_wrong': Statistic(
    ratio('wrong_to_right', 'wrong'), 'wrong'
  ),
  'refinement_accuracy_unleaked': Statistic(
    ratio('unleaked_to_right', 'unleaked'), 'unleaked'
  ),
  'right_to_right': Statistic(ratio('right_to_right', 'rows'), 'rows'),
  'right_to_wrong': Statistic(ratio('right_to_wrong', 'rows'), 'rows'),
  'wrong_to_right': Statistic(ratio('wrong_to_right', 'rows'), 'rows'),
  'wrong_to_wrong': Statistic(ratio('wrong_to_wrong', 'rows'), 'rows'),
  'changed': Statistic(ratio('changed', 'rows'), 'rows'),
  'answer_leak': Statistic(ratio('leaked', 'wrong'), 'wrong'),
  'correction_accuracy': Statistic(
    ratio('corrected', 'corrections'), 'corrections'
  ),
}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns the metrics of `STATISTICS`, with intervals over problems.

  Args:
    records: solutions, their critiques and the refinements, in any order.

  Returns:
    Estimates by name, all shares in [0, 1]: accuracies, the four transitions
    (they add up to 1), 'changed' (another answer than the solution's), and
    'answer_leak'. A metric without observations is NaN. {} if refinements were
    called for and none was made.
  """
  return estimate(table(records), STATISTICS) if _refined(records) else {}


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on the same problems."""
  if not (_refined(before) and _refined(after)):
    return {}
  return difference(table(before), table(after), STATISTICS)


def _refined(records: Sequence[Record]) -> bool:
  """Returns whether the solver refined when critiques called for it."""
  critiques = critique_metrics.judged(records)
  has_calls = any(critique_metrics.verdict(c) == 'incorrect' for c in critiques)
  has_refinements = any(record.stage == 'refine' for record in records)
  return bool(critiques) and (has_refinements or not has_calls)
