"""Measures episodes: an agent acts, and a critic judges before it is done.

`metrics` is a pure function of records. An action of an episode has
`parsed['episode']`: the number of its `turn`, the turns that are `left`, 0 at
the end, whether the goal `is_reached` there, and whether the agent would reach
it `alone`, with the same noise and each of its actions executed. A critique of
a first action is one trial, which ends with a record of no turns left.

  reached    trials that reach the goal with the critic
  alone      trials whose agent reaches it without
  gain       the first less the second
  rescued    trials that reach it with the critic only
  harmed     trials that reach it without the critic only
  length     turns of a trial
"""

from __future__ import annotations

from collections.abc import Sequence

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
  """Returns a row for each episode that has ended."""
  ended = ends(records)
  rows = [_row(record.parsed['episode']) for record in ended]
  columns = {name: [row[name] for row in rows] for name in ('rows', *_NAMES)}
  return Table([record.problem.id for record in ended], columns)


def ends(records: Sequence[Record]) -> list[Record]:
  """Returns the records with which episodes end."""
  return [
    record
    for record in records
    if record.parsed.get('episode', {}).get('left') == 0
  ]


def _row(episode) -> dict[str, float]:
  reached, alone = bool(episode['is_reached']), bool(episode['alone'])
  return {
    'rows': 1.0,
    'reached': reached,
    'alone': alone,
    'gain': float(reached) - alone,
    'rescued': reached and not alone,
    'harmed': alone and not reached,
    'length': episode['turn'] - 1,  # the end is no turn
  }


_NAMES = 'reached', 'alone', 'gain', 'rescued', 'harmed', 'length'
_STATISTICS = {
  name: Statistic(
    ratio(name, 'rows'), 'rows', share=name not in ('gain', 'length')
  )
  for name in _NAMES
}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns metrics by name, with intervals over problems; {} without ends."""
  return estimate(table(records), _STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on the same problems."""
  return difference(table(before), table(after), _STATISTICS)
