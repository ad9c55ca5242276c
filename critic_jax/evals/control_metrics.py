"""Compares refinements with those of the controls (`rollouts/controls.py`).

A control refines the same solution with another text in place of the critique,
so the metrics tell whether the critique made the difference. They are over
critiques that rightly call a wrong solution wrong and have both refinements and
a control's. 'lift_over_x' is the gain in accuracy over the control x.
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
  divide,
  estimate,
)
from critic_jax.types import Record

STAGES = {
  'empty': 'refine_empty',
  'swapped': 'refine_swapped',
  'masked': 'refine_masked',
}


def table(records: Sequence[Record]) -> Table:
  """Returns a row per critique: its shares of right refinements."""
  responses = collections.defaultdict(list)
  for record in records:
    # A grader's timeout is not a wrong answer.
    if record.parent is not None and critique_metrics.truth(record) is not None:
      responses[id(record.parent), record.stage].append(record)
  clusters = []
  columns = collections.defaultdict(list)
  for critique in critique_metrics.judged(records):
    # Critiques that rightly call a wrong solution wrong: there is help to give.
    if critique_metrics.truth(critique.parent):
      continue
    if critique_metrics.verdict(critique) != 'incorrect':
      continue
    refined = responses[id(critique), 'refine']
    for name, stage in STAGES.items():
      control = responses[id(critique), stage]
      # Both or neither, so that a lift compares the same critiques.
      has_both = bool(refined and control)
      columns[name].append(has_both)
      columns[f'{name}_with'].append(_accuracy(refined) if has_both else 0.0)
      columns[f'{name}_without'].append(_accuracy(control) if has_both else 0.0)
    clusters.append(critique.problem.id)
  return Table(clusters, columns)


def _accuracy(refinements: Sequence[Record]) -> float:
  return float(np.mean([r.parsed['correct'] for r in refinements]))


def _share(name: str, side: str):
  return lambda sums: divide(sums[f'{name}_{side}'], sums[name])


def _lift(name: str):
  with_critique, without = _share(name, 'with'), _share(name, 'without')
  return lambda sums: with_critique(sums) - without(sums)


STATISTICS = {
  'with_critique': Statistic(_share('empty', 'with'), 'empty'),
  **{name: Statistic(_share(name, 'without'), name) for name in STAGES},
  **{
    f'lift_over_{name}': Statistic(_lift(name), name, share=False)
    for name in STAGES
  },
}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns shares of right refinements, and lifts; {} without controls."""
  return estimate(table(records), STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on shared problems."""
  return difference(table(before), table(after), STATISTICS, shared=True)
