"""Measures several rounds of critique and refine: the answers after each.

`metrics` is a pure function of records. A critique of a solution is one trial,
and each of its refinements a chain that the later rounds go on with
(rollouts/revisions.py). The answer after a round is the refinement, where the
evaluation's gate had one made, and else what it was before; a trial's is the
mean over its chains. So the answer after round 1 is that of
refinement_metrics.py where the gate asks for the verdict 'incorrect'.

A refinement whose grader timed out ends its chain with the answer before it.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Mapping, Sequence

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
from critic_jax.rollouts import revisions
from critic_jax.types import Record


def table(records: Sequence[Record], num_rounds: int) -> Table:
  """Returns a row for each critique of a solution, with columns by round.

  Args:
    records: solutions, critiques and refinements of all rounds.
    num_rounds: rounds in the table; a chain that has fewer stays as it ended.
  """
  responses = collections.defaultdict(list)
  for record in records:
    responses[id(record.parent), record.stage].append(record)
  critiques = critique_metrics.judged(records)
  rows = [_row(critique, responses, num_rounds) for critique in critiques]
  columns = {name: [row[name] for row in rows] for name in _names(num_rounds)}
  return Table([critique.problem.id for critique in critiques], columns)


def _names(num_rounds):
  by_round = (
    f'{change}_{i}'
    for change in ('wrong_to_right', 'right_to_wrong', 'refined')
    for i in range(1, num_rounds + 1)
  )
  answers = (f'accuracy_{i}' for i in range(num_rounds + 1))
  return ['rows', *answers, *by_round]


def _row(critique, responses, num_rounds) -> dict[str, float]:
  chains = _chains(critique, critique.parent, responses, 1)
  # A chain that ended earlier keeps its answer.
  whole = [
    [*chain, *itertools.repeat(chain[-1], num_rounds + 1 - len(chain))]
    for chain in chains
  ]
  right = np.array(whole, float)  # [chains, num_rounds + 1]
  row = {'rows': 1}
  for i in range(num_rounds + 1):
    row[f'accuracy_{i}'] = right[:, i].mean()
  for i in range(1, num_rounds + 1):
    before, after = right[:, i - 1], right[:, i]
    row[f'wrong_to_right_{i}'] = ((1 - before) * after).mean()
    row[f'right_to_wrong_{i}'] = (before * (1 - after)).mean()
    row[f'refined_{i}'] = np.mean([len(chain) > i for chain in chains])
  return row


def _chains(critique, answer, responses, number) -> list[list[bool]]:
  """Returns whether the answers of each chain are right, the first `answer`."""
  right = bool(critique_metrics.truth(answer))
  refinements = [
    record
    for record in responses[id(critique), revisions.name('refine', number)]
    if critique_metrics.truth(record) is not None
  ]
  chains = []
  for refinement in refinements:
    stage = revisions.name('critique', number + 1)
    later = responses[id(refinement), stage]
    if later:
      chains += _chains(later[0], refinement, responses, number + 1)
    else:
      chains.append([bool(critique_metrics.truth(refinement))])
  return [[right, *chain] for chain in chains] or [[right]]


def _statistics(num_rounds: int) -> Mapping[str, Statistic]:
  names = _names(num_rounds)[1:]
  return {name: Statistic(ratio(name, 'rows'), 'rows') for name in names}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns metrics by round, with intervals over problems.

  Args:
    records: solutions, critiques and refinements of all rounds, in any order.

  Returns:
    Shares of trials: 'accuracy_0' before the first round and 'accuracy_i'
    after round i; of round i also 'wrong_to_right_i', 'right_to_wrong_i' and
    'refined_i', which the gate admitted. {} if nothing was refined twice.
  """
  number = _num_rounds(records)
  if number < 2:
    return {}
  return estimate(table(records, number), _statistics(number))


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on the same problems."""
  numbers = [_num_rounds(records) for records in (before, after)]
  if min(numbers) < 2:
    return {}
  tables = [table(records, max(numbers)) for records in (before, after)]
  return difference(*tables, _statistics(max(numbers)))


def _num_rounds(records: Sequence[Record]) -> int:
  """Returns the last round in which there is a critique; 1 if none is later."""
  stages = {record.stage for record in records}
  number = 1
  while revisions.name('critique', number + 1) in stages:
    number += 1
  return number
