"""What critiques are worth to the solver: answers before and after.

`metrics` is pure over records. Each critique of each solution is one trial. If
its verdict is 'incorrect' the solver refines, and the answer after it is the
refinement's (a mean over several); if not, the solution's own answer stands. So
refining solutions that were right can only be harmful, and leaving wrong ones
unrefined earns nothing. A critique that calls for refinements of which none is
recorded (its prompt was too long) leaves the answer as it was.

Two metrics ask whether a gain is the critique's: `answer_leak`, how often the
conclusion of a critique of a wrong solution names the reference answer, and
`refinement_accuracy_unleaked`, the accuracy over those that do not.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence

import numpy as np

from critic_jax.evals import critique as critique_metrics
from critic_jax.evals.statistics import (
  Estimate,
  Statistic,
  Table,
  difference,
  estimate,
  ratio,
)
from critic_jax.types import Record


def leaks(critique: Record) -> bool:
  """Whether the conclusion has the reference answer as a token of its own.

  '12' is in 'so x = 12.' but in none of '112', '12.5', '1,120', '-12', '5/12'.
  Commas that group thousands are left out on both sides.
  """
  answer = _ungrouped(critique.problem.answer.strip())
  conclusion = _ungrouped(critique.parsed.get('conclusion') or '')
  pattern = rf'(?<![\w/-])(?<!\d[.,]){re.escape(answer)}(?!\w|[.,/]\d)'
  return bool(answer) and re.search(pattern, conclusion) is not None


def _ungrouped(text: str) -> str:
  return re.sub(r'(?<=\d),(?=\d{3}(?!\d))', '', text)


def table(records: Sequence[Record]) -> Table:
  """A row for each critique, with what the metrics count."""
  refinements = collections.defaultdict(list)
  for record in records:
    if record.stage == 'refine':
      refinements[id(record.parent)].append(record)
  critiques = critique_metrics.judged(records)
  rows = [_row(critique, refinements[id(critique)]) for critique in critiques]
  columns = {name: [row[name] for row in rows] for name in _COLUMNS}
  return Table([critique.problem.id for critique in critiques], columns)


_COLUMNS = (
  'one', 'before', 'after', 'wrong', 'right_to_right', 'right_to_wrong',
  'wrong_to_right', 'wrong_to_wrong', 'changed', 'leaked', 'unleaked',
  'unleaked_to_right',
)  # fmt: skip


def _row(critique: Record, refinements: Sequence[Record]) -> dict[str, float]:
  solution = critique.parent
  before = bool(solution.parsed['correct'])
  refined = refinements
  if critique_metrics.verdict(critique) != 'incorrect' or not refinements:
    refined = [solution]
  after = float(np.mean([bool(r.parsed['correct']) for r in refined]))
  leaked = not before and leaks(critique)
  unleaked = not before and not leaked
  return {
    'one': 1,
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
  }


def _differs(solution: Record, refinement: Record) -> bool:
  """Whether the answer changed; two right answers are the same answer."""
  both_right = solution.parsed['correct'] and refinement.parsed['correct']
  same = solution.parsed['answer'] == refinement.parsed['answer']
  return not (both_right or same)


STATISTICS = {
  'accuracy_before': Statistic(ratio('before', 'one'), 'one'),
  'accuracy_after': Statistic(ratio('after', 'one'), 'one'),
  'refinement_accuracy_wrong': Statistic(
    ratio('wrong_to_right', 'wrong'), 'wrong'
  ),
  'refinement_accuracy_unleaked': Statistic(
    ratio('unleaked_to_right', 'unleaked'), 'unleaked'
  ),
  'right_to_right': Statistic(ratio('right_to_right', 'one'), 'one'),
  'right_to_wrong': Statistic(ratio('right_to_wrong', 'one'), 'one'),
  'wrong_to_right': Statistic(ratio('wrong_to_right', 'one'), 'one'),
  'wrong_to_wrong': Statistic(ratio('wrong_to_wrong', 'one'), 'one'),
  'changed': Statistic(ratio('changed', 'one'), 'one'),
  'answer_leak': Statistic(ratio('leaked', 'wrong'), 'wrong'),
}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """The metrics of `STATISTICS`, with intervals over problems.

  Args:
    records: solutions, their critiques and the refinements, in any order.

  Returns:
    Estimates by name, all shares in [0, 1]: accuracies, the four transitions
    (they add up to 1), 'changed' (another answer than the solution's), and
    'answer_leak'. A metric of solutions of which there are none is NaN.
  """
  return estimate(table(records), STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """The metrics of `after` less those of `before`, on the same problems."""
  return difference(table(before), table(after), STATISTICS)
