"""Is it the critique? Refinements beside those of `rollouts/controls.py`.

All metrics are over critiques that rightly call a wrong solution wrong and have
both refinements and a control's: the same solutions, another critique in place
of theirs. 'lift_over_x' is what the critique adds to the control x.
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
  """A row for each critique with controls: shares of right refinements."""
  responses = collections.defaultdict(list)
  for record in records:
    if record.parent is not None:
      responses[id(record.parent), record.stage].append(record)
  clusters = []
  columns = collections.defaultdict(list)
  for critique in critique_metrics.judged(records):
    if critique_metrics.truth(critique.parent):
      continue
    if critique_metrics.verdict(critique) != 'incorrect':
      continue
    refined = responses[id(critique), 'refine']
    for name, stage in STAGES.items():
      control = responses[id(critique), stage]
      both = bool(refined and control)
      columns[name].append(both)
      columns[f'{name}_with'].append(_right(refined) if both else 0.0)
      columns[f'{name}_without'].append(_right(control) if both else 0.0)
    clusters.append(critique.problem.id)
  return Table(clusters, columns)


def _right(refinements: Sequence[Record]) -> float:
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
  """Shares of right refinements, and lifts; {} where no control was run."""
  return estimate(table(records), STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """The metrics of `after` less those of `before`, on problems of both."""
  return difference(table(before), table(after), STATISTICS, shared=True)
