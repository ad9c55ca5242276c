"""Measures which claims critiques make, as a checker of a world reports them.

`critique.parsed['says']` holds a bool by name, e.g. 'computes'. A metric is the
share of critiques for which it is True; with '_wrong', the share among
critiques of wrong solutions, which contain an error to name.
"""

from __future__ import annotations

from collections.abc import Sequence

from critic_jax.evals import critique_metrics
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
  """Returns a row for each critique with 'says'."""
  critiques = [
    critique
    for critique in critique_metrics.judged(records)
    if 'says' in critique.parsed
  ]
  names = sorted({name for c in critiques for name in c.parsed['says']})
  columns = {
    'rows': [1.0] * len(critiques),
    'wrong': [not critique_metrics.truth(c.parent) for c in critiques],
  }
  for name in names:
    claims = [bool(c.parsed['says'].get(name)) for c in critiques]
    columns[f'says/{name}'] = claims
    columns[f'says/{name}_wrong'] = [
      a and b for a, b in zip(claims, columns['wrong'], strict=True)
    ]
  return Table([critique.problem.id for critique in critiques], columns)


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns shares in [0, 1] by name; {} if no critique has 'says'."""
  rows = table(records)
  return estimate(rows, _statistics(rows))


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on the same problems."""
  old, new = table(before), table(after)
  return difference(old, new, _statistics(old))


def _statistics(rows: Table) -> dict[str, Statistic]:
  return {
    column.removeprefix('says/'): _share(column)
    for column in rows.columns
    if column.startswith('says/')
  }


def _share(column: str) -> Statistic:
  total = 'wrong' if column.endswith('_wrong') else 'rows'
  return Statistic(ratio(column, total), total)
