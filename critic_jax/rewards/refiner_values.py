"""Values of critiques: how several refiners do with them.

After MultiCritique (https://arxiv.org/abs/2410.15287): each critique is given
to several models that refine the solution, and their mean result says which of
two critiques is better. One refiner has errors of its own, so that a good
critique may fail, or a bad one succeed, by who refines.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from critic_jax import lookup
from critic_jax.rewards import refinement
from critic_jax.types import Record

COMPARED = ('tied', 'ordered')  # scores of `compare`
# Others would leave a right solution as it is that is called wrong.
_GATES = ('always', 'called_wrong')


def mean_over_refiners(
  grades: Sequence[Sequence[bool | None]],
) -> float | None:
  """Returns the mean over refiners of their shares of right refinements.

  Each refiner counts alike, however often it refined: of E refiners one moves
  the value by 1 / E at most. Of one refiner it is the share.

  >>> mean_over_refiners([[True, True, True, True], [False]])
  0.5

  Args:
    grades: of each refiner, one at least, whether its refinements are right,
      one at least; None where that is not known.

  Returns:
    None if any is not known.
  """
  if any(None in own for own in grades):
    return None
  return math.fsum(sum(own) / len(own) for own in grades) / len(grades)


def value(critique: Record, refinements: Sequence[Record]) -> float | None:
  """Returns what refiners make of a solution with a critique, in [0, 1].

  It is the mean over refiners, `parsed['refiner']`. A critique that nobody
  refines by leaves the solution as it is, and has its grade. One without a
  verdict is worth nothing.
  """
  if not refinement.has_verdict(critique):
    return 0.0
  by_refiner: dict[str, list[bool | None]] = {}
  for record in refinements:
    own = by_refiner.setdefault(record.parsed['refiner'], [])
    own.append(refinement.is_right(record))
  if not by_refiner:
    right = refinement.is_right(critique.parent, critique=critique)
    return None if right is None else float(right)
  return mean_over_refiners([*by_refiner.values()])


def compare(
  siblings: Sequence[Record], margin: float, gold: str = ''
) -> list[Record]:
  """Returns critiques of a solution, scored by how they compare to the others.

  Args:
    siblings: with scores 'value', where it is known.
    margin: what two values must differ by, and more, to make a pair.
    gold: a score that knows which of two is better; '' for none.

  Returns:
    The critiques with the scores 'tied', the share of the others that are too
    close, and 'ordered', the share of those further off, and of another gold,
    that the value puts on the side on which the gold has them. They are left
    out where there are no such others.
  """
  values = [record.scores.get('value') for record in siblings]
  golds = [record.scores.get(gold) for record in siblings]
  shares = zip(
    siblings, tied(values, margin), ordered(values, golds, margin), strict=True
  )
  return [
    dataclasses.replace(
      record,
      scores={**record.scores}
      | ({} if ties is None else {'tied': ties})
      | ({} if order is None else {'ordered': order}),
    )
    for record, ties, order in shares
  ]


def tied(values: Sequence[float | None], margin: float) -> list[float | None]:
  """Returns for each value the share of the others that it makes no pair with.

  >>> tied([0.0, 0.25, 1.0], 0.25)
  [0.5, 0.5, 0.0]
  """
  return [
    _mean([abs(x - y) <= margin for y in others])
    for x, others in _beside(values)
  ]


def ordered(
  values: Sequence[float | None],
  golds: Sequence[float | None],
  margin: float,
) -> list[float | None]:
  """Returns for each value the share of its pairs in which the gold agrees.

  Pairs are those of `tied`; where the gold has both alike, or does not know, it
  is not asked.

  >>> ordered([0.0, 0.5, 1.0], [0.0, 1.0, 0.0], 0.0)
  [1.0, 0.5, 0.0]
  """
  pairs = [
    None if None in pair else pair
    for pair in zip(values, golds, strict=True)
  ]  # fmt: skip
  return [
    _mean(
      [
        (one[0] > other[0]) == (one[1] > other[1])
        for other in others
        if abs(one[0] - other[0]) > margin and one[1] != other[1]
      ]
    )
    for one, others in _beside(pairs)
  ]


def _beside(items):
  """Yields each item with the others, without those that are None."""
  for i, item in enumerate(items):
    others = items[:i] + items[i + 1 :]
    yield item, [] if item is None else [x for x in others if x is not None]


def _mean(truths) -> float | None:
  return sum(truths) / len(truths) if truths else None


def check(refiners: Sequence[str], gate: str, margin: float) -> None:
  """Raises ValueError unless there are refiners, each of them once, and so on.

  Args:
    refiners: roles.
    gate: which critiques are refined, `refinement.admits`; one that does not
      know whether the solution is wrong, as `value` does not ask for that.
    margin: of values, in [0, 1), or no two would make a pair.
  """
  names = tuple(refiners)
  if isinstance(refiners, str) or not names or len({*names}) < len(names):
    raise ValueError(
      f'refiners: got {refiners!r}; expected roles, each of them once; list '
      'them'
    )
  lookup.check_name('gate', gate, _GATES)
  lookup.check_numbers(0, margin=margin)
  if not margin < 1:
    raise ValueError(
      f'margin: got {margin}; expected less than 1, as values are shares; '
      'lower it'
    )
