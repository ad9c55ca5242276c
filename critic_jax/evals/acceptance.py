"""Measures what a gate accepts: trials of a formaliser, checked and criticised.

Trials are episodes (`episode_metrics`): 'reached' is the share of trials
whose result is faithful and 'alone' the same by the checker alone. What is
accepted may be unfaithful, and nothing may be accepted; `metrics`, a pure
function of records, tells these apart:

  single             trials whose first draft is faithful
  accepted           trials in which the checker and the critic accept one
  accepted_alone     in which the checker does
  precision          of those accepted by both, the share that is faithful
  precision_alone    of those accepted by the checker
"""

from __future__ import annotations

from collections.abc import Sequence

from critic_jax.evals import episode_metrics
from critic_jax.evals.statistics import (
  Estimate,
  Statistic,
  Table,
  difference,
  estimate,
  ratio,
)
from critic_jax.types import Record


def table(records: Sequence[Record]) -> Table:
  """Returns a row for each trial that has ended."""
  ended = [
    record
    for record in episode_metrics.ends(records)
    if 'accepted' in record.parsed['episode']
  ]
  rows = [_row(record.parsed['episode']) for record in ended]
  columns = {name: [row[name] for row in rows] for name in _COLUMNS}
  return Table([record.problem.id for record in ended], columns)


_COLUMNS = 'rows', 'single', 'accepted', 'reached', 'accepted_alone', 'alone'


def _row(episode) -> dict[str, float]:
  return {
    'rows': 1.0,
    'single': episode['single'],
    'accepted': episode['accepted'],
    'reached': episode['is_reached'],
    'accepted_alone': episode['alone_accepted'],
    'alone': episode['alone'],
  }


_STATISTICS = {
  'single': Statistic(ratio('single', 'rows'), 'rows'),
  'accepted': Statistic(ratio('accepted', 'rows'), 'rows'),
  'accepted_alone': Statistic(ratio('accepted_alone', 'rows'), 'rows'),
  'precision': Statistic(ratio('reached', 'accepted'), 'accepted'),
  'precision_alone': Statistic(
    ratio('alone', 'accepted_alone'), 'accepted_alone'
  ),
}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns metrics by name, with intervals over problems; {} without trials.

  A precision is NaN if nothing was accepted.
  """
  return estimate(table(records), _STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on the same problems."""
  return difference(table(before), table(after), _STATISTICS)
