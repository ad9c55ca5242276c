"""Measures a judge of two responses who is asked in both orders.

Label Critic (https://arxiv.org/abs/2411.02753) has a model compare two labels,
shows either first once, and abstains unless both answers name the same one.
Here a slate of two responses (rewards/ratings.py) is critiqued in either order,
several times; a critique names the response with the higher score, and nobody
in a tie or without scores. Over all pairs of two critiques of a problem, one in
each order:

  single        the share of single critiques that name the better response
  coverage      the share of pairs that name the same response; of the others a
                person has to look
  consistent    of these, the share that name the better one
  same_coverage, same_consistent   the control: two critiques in one order. They
                agree on what the place of a response makes them say, too
  first_bias    the share of single critiques that name the response shown
                first, less that of the second; 0 without a liking for a place

All are exact means over pairs, so that more critiques only narrow intervals. A
choice by one order costs one critique, the others two: 'vote@2' of
rating_votes.py, which adds the scores of two, costs as much and never abstains.
A problem that was not shown in both orders is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from critic_jax.evals.statistics import (
  Estimate,
  Statistic,
  Table,
  difference,
  estimate,
  ratio,
)
from critic_jax.rewards import ratings
from critic_jax.types import Record


class Named(NamedTuple):
  """The numbers of critiques in one order that name each response.

  Attributes:
    better: those that name the better response.
    worse: those that name the other one.
    number: all of them; some may name nobody.
  """

  better: int
  worse: int
  number: int


def preferred(critique: Record) -> int | None:
  """Returns the response of two with the higher score, None for nobody.

  The number is that of its true place; a tie prefers nobody, and so does a
  critique without scores.
  """
  scores = ratings.scores(critique)
  if scores is None or scores[0] == scores[1]:
    return None
  return int(scores[1] > scores[0])


def across(one: Named, other: Named) -> tuple[float, float]:
  """Returns the shares of pairs that agree, and that agree on the better.

  A pair has a critique of either order. With shares b, w and b', w' these are
  b b' + w w' and b b'.

  >>> across(Named(1, 0, 1), Named(1, 1, 2))
  (0.5, 0.5)
  """
  pairs = one.number * other.number
  better = one.better * other.better / pairs
  return better + one.worse * other.worse / pairs, better


def within(one: Named) -> tuple[float, float]:
  """Returns the same of pairs of two critiques in one order.

  >>> within(Named(2, 2, 4)) == (2 * 2 * 1 / (4 * 3), 2 * 1 / (4 * 3))
  True
  """
  pairs = one.number * (one.number - 1)
  better = one.better * (one.better - 1) / pairs
  return better + one.worse * (one.worse - 1) / pairs, better


_COLUMNS = (
  'rows', 'single', 'coverage', 'consistent', 'same_rows', 'same_coverage',
  'same_consistent', 'first_bias',
)  # fmt: skip


def table(records: Sequence[Record]) -> Table:
  """Returns a row for each problem whose two responses are shown either way."""
  by_problem: dict[str, list[Record]] = {}
  for record in records:
    if record.stage == 'critique' and ratings.is_slate(record.parent):
      if len(ratings.read(record.parent).responses) == 2:
        by_problem.setdefault(record.problem.id, []).append(record)
  rows = {}
  for name, critiques in by_problem.items():
    by_order = {True: [], False: []}  # whether the better one is shown first
    for critique in critiques:
      slate = ratings.read(critique.parent)
      by_order[slate.best[slate.order[0]]].append(critique)
    if all(by_order.values()):
      rows[name] = _row(*map(_count, by_order.values()))
  columns = {name: [row[name] for row in rows.values()] for name in _COLUMNS}
  return Table([*rows], columns)


def _count(critiques: Sequence[Record]) -> Named:
  names = [preferred(critique) for critique in critiques]
  best = [ratings.read(c.parent).best.index(True) for c in critiques]
  is_better = [
    name == right
    for name, right in zip(names, best, strict=True)
    if name is not None
  ]
  better = sum(is_better)
  return Named(better, len(is_better) - better, len(names))


def _row(first: Named, second: Named) -> dict[str, float]:
  """Returns a problem's row; the better response is shown first, or second."""
  coverage, consistent = across(first, second)
  several = [one for one in (first, second) if one.number > 1]
  same = [within(one) for one in several]
  (first_b, first_w), (second_b, second_w) = (
    (one.better / one.number, one.worse / one.number) for one in (first, second)
  )
  return {
    'rows': 1.0,
    'single': (first_b + second_b) / 2,
    'coverage': coverage,
    'consistent': consistent,
    'same_rows': float(len(same)),
    'same_coverage': sum(agreed for agreed, _ in same),
    'same_consistent': sum(better for _, better in same),
    # The better one is first in the first order, and second in the other.
    'first_bias': (first_b - first_w + second_w - second_b) / 2,
  }


_STATISTICS = {
  'single': Statistic(ratio('single', 'rows'), 'rows'),
  'coverage': Statistic(ratio('coverage', 'rows'), 'rows'),
  'consistent': Statistic(ratio('consistent', 'coverage'), 'rows'),
  'same_coverage': Statistic(ratio('same_coverage', 'same_rows'), 'same_rows'),
  'same_consistent': Statistic(
    ratio('same_consistent', 'same_coverage'), 'same_rows'
  ),
  'first_bias': Statistic(ratio('first_bias', 'rows'), 'rows', share=False),
}


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns the metrics by name, with intervals over problems.

  `consistent` is NaN if no pair of critiques agrees. {} without slates of two.
  """
  return estimate(table(records), _STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on the same problems."""
  return difference(table(before), table(after), _STATISTICS, shared=True)
