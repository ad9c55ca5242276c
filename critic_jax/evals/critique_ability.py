"""Measures critics where it is hard, and a solver that checks itself.

After "Critique Ability of Large Language Models"
(https://arxiv.org/abs/2310.04815), of problems with several solutions and
critiques of each; a pure function of records.

Of problems with a right solution and a wrong one, one of each is chosen, the
wrong one a convincing one (`plausibility.convincing`):

  convincing          balanced accuracy of the verdicts on these two; a missing
                      verdict is false
  convincing_right, convincing_wrong   the accuracy on each of them
  convincing_lenient  the same, where a missing verdict is 'correct', as in the
                      paper: silence is then right half of the time
  unselected          the first, of all solutions of the same problems alike

Self-check: solutions that the critic, mostly the solver, calls wrong are
dropped before the vote, on problems that the solver is not certain of
(`plausibility.certainty` of its solutions); a missing verdict drops nothing,
and where all would be dropped all vote:

  vote                every solution with an answer votes
  self_check_C        the vote, with the check where certainty is below C: 1, 2,
                      or anywhere, 'all'
  random_drop_C       its control: as many votes are dropped, at random

And by certainty, 'uncertain' below 1, 'middle', and 'certain' from 2 on: the
share of problems, `problems_...`, the accuracy of verdicts, `verdicts_...`,
and `vote_...`, `self_check_...`, `random_drop_...` of these problems.

Votes are of all solutions of a problem; ties count in parts (`voting.py`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from critic_jax.evals import critique_metrics, voting
from critic_jax.evals.statistics import (
  Estimate,
  Statistic,
  Table,
  difference,
  divide,
  estimate,
  ratio,
)
from critic_jax.rewards import plausibility
from critic_jax.types import Record

# Kinds of problems, and the certainty that each is below; 1 and 2 are the
# paper's thresholds for different models.
KINDS = {'uncertain': 1.0, 'middle': 2.0, 'certain': math.inf}
# The kinds that are checked, by threshold.
_CHECKED = {
  '1': ('uncertain',), '2': ('uncertain', 'middle'), 'all': tuple(KINDS)
}  # fmt: skip
_RULES = {
  'vote': 'majority', 'self_check': 'filtered', 'random_drop': 'random_filtered'
}  # fmt: skip
_SIDES = {'right': 'correct', 'wrong': 'incorrect'}


def pools(
  records: Sequence[Record],
) -> dict[str, list[tuple[Record, list[Record]]]]:
  """Returns the solutions of each problem with their critiques, by its id.

  Problems with one solution are left out, and so are those of which a solution
  was not criticised, and solutions of files: they are no solver's samples.
  """
  critiques: dict[int, list[Record]] = {}
  for record in records:
    if record.stage == 'critique':
      critiques.setdefault(id(record.parent), []).append(record)
  by_problem: dict[str, list] = {}
  for record in records:
    from_file = 'part' in record.parsed
    if record.stage == 'solve' and 'correct' in record.parsed and not from_file:
      pair = record, critiques.get(id(record), [])
      by_problem.setdefault(record.problem.id, []).append(pair)
  return {
    name: pool
    for name, pool in by_problem.items()
    if len(pool) > 1 and all(own for _, own in pool)
  }


def kind_of(certainty: float) -> str:
  """Returns which of `KINDS` a certainty is.

  >>> kind_of(0.0), kind_of(1.0), kind_of(math.inf)
  ('uncertain', 'middle', 'certain')
  """
  for kind, bound in KINDS.items():
    if certainty < bound:
      return kind
  return kind


def table(records: Sequence[Record]) -> Table:
  """Returns a row for each problem, with the columns of the metrics."""
  by_problem = pools(records)
  rows = [{**_of_pair(pool), **_of_votes(pool)} for pool in by_problem.values()]
  columns = {name: [row.get(name, 0.0) for row in rows] for name in _COLUMNS}
  return Table([*by_problem], columns)


def _of_pair(pool) -> dict[str, float]:
  """Returns the columns of the convincing solutions; {} without a pair."""
  pair = plausibility.convincing([solution for solution, _ in pool])
  if pair is None:
    return {}
  row = {'pairs': 1.0}
  for (side, expected), chosen in zip(_SIDES.items(), pair, strict=True):
    own = next(its for solution, its in pool if solution is chosen)
    alike = [
      critique
      for solution, its in pool
      if critique_metrics.truth(solution) is (side == 'right')
      for critique in its
    ]
    row[f'strict_{side}'] = _share(own, expected)
    row[f'lenient_{side}'] = _share(own, expected, silence='correct')
    row[f'any_{side}'] = _share(alike, expected)
  return row


def _share(critiques, expected: str, silence: str | None = None) -> float:
  """Returns the share of critiques with a verdict; silence may be one, too."""
  verdicts = [critique_metrics.verdict(c) or silence for c in critiques]
  return verdicts.count(expected) / len(verdicts)


def _of_votes(pool) -> dict[str, float]:
  """Returns the columns of the votes, of the kind that the problem is."""
  labels = np.array(plausibility.classes([solution for solution, _ in pool]))
  wrong = np.array([_share(its, 'incorrect') for _, its in pool])
  right = voting.votes(labels, [len(pool)], wrong <= 0.5, 0 * labels)
  kind = kind_of(plausibility.certainty(labels.tolist()))
  known = [
    critique_metrics.is_true(critique) is True
    for solution, its in pool
    if critique_metrics.truth(solution) is not None
    for critique in its
  ]
  row = {'rows': 1.0, f'problems_{kind}': 1.0}
  row |= {f'{rule}_{kind}': right[name][0] for rule, name in _RULES.items()}
  return row | {f'true_{kind}': sum(known), f'judged_{kind}': len(known)}


_COLUMNS = (
  'rows', 'pairs',
  *(f'{how}_{side}' for how in ('strict', 'lenient', 'any') for side in _SIDES),
  *(
    f'{name}_{kind}'
    for name in ('problems', *_RULES, 'true', 'judged')
    for kind in KINDS
  ),
)  # fmt: skip


def _balanced(how, sums):
  halves = sum(sums[f'{how}_{side}'] for side in _SIDES) / 2
  return divide(halves, sums['pairs'])


def _checked(rule, kinds, sums):
  """Returns the accuracy of a rule for some kinds and the vote for others."""
  right = sum(
    sums[f'{rule if kind in kinds else "vote"}_{kind}'] for kind in KINDS
  )
  return divide(right, sums['rows'])


def _statistics() -> dict[str, Statistic]:
  balanced = dict(convincing='strict', convincing_lenient='lenient',
                  unselected='any')  # fmt: skip
  statistics = {
    name: Statistic(functools.partial(_balanced, how), 'pairs')
    for name, how in balanced.items()
  }
  for side in _SIDES:
    statistics[f'convincing_{side}'] = Statistic(
      ratio(f'strict_{side}', 'pairs'), 'pairs'
    )
  statistics['vote'] = Statistic(
    functools.partial(_checked, 'vote', ()), 'rows'
  )
  for rule in ('self_check', 'random_drop'):
    for threshold, kinds in _CHECKED.items():
      statistics[f'{rule}_{threshold}'] = Statistic(
        functools.partial(_checked, rule, kinds), 'rows'
      )
  for kind in KINDS:
    problems = f'problems_{kind}'
    statistics[problems] = Statistic(ratio(problems, 'rows'), 'rows')
    statistics[f'verdicts_{kind}'] = Statistic(
      ratio(f'true_{kind}', f'judged_{kind}'), f'judged_{kind}'
    )
    for rule in _RULES:
      statistics[f'{rule}_{kind}'] = Statistic(
        ratio(f'{rule}_{kind}', problems), problems
      )
  return statistics


_STATISTICS = _statistics()


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns the metrics by name, with intervals over problems.

  Returns:
    Estimates in [0, 1]; NaN where no problem is of the kind. {} unless problems
    have several solutions with critiques.
  """
  return estimate(table(records), _STATISTICS)


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on the same problems.

  A critic is compared on solutions that are the same, by the same key; of two
  solvers the kinds of problems differ.
  """
  return difference(table(before), table(after), _STATISTICS, shared=True)
