"""Measures where verdicts lie beside a curve of thresholds (ROC).

A critic that says of some solutions 'correct' has two rates: the share of right
solutions that it passes, and the share of wrong ones. A score of suspicion has
a curve of them, one point for each threshold. Training may move the point along
the curve that the base model had, which changing a threshold would have done
as well, or off it, which is news. CriticLean's RL
(https://arxiv.org/abs/2507.06181) is in doubt: it passes fewer right statements
and fewer wrong ones than its base.

  area         under the curve: the probability that a wrong solution is more
               suspect than a right one, ties counted half
  height       above a curve: how many more right solutions are passed than at
               the best threshold that passes as many wrong ones

Mixing two thresholds at random is one, too, so a height is above the curve's
concave hull. Here the suspicion of a solution is the share of its critiques
that call it wrong (`calibration.called_wrong`). The base is given two curves:

  chord   one critique's verdicts, some of them turned round at random
  votes   thresholds of the share of all k critiques, k times the work

A critique without a verdict passes no right solution and each wrong one, as
`critique_metrics` counts it. `metrics` and `compare` are functions of records.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from critic_jax.evals import calibration, critique_metrics
from critic_jax.evals.statistics import (
  Estimate,
  Statistic,
  Sums,
  Table,
  divide,
  estimate,
)
from critic_jax.types import Record


class Curve(NamedTuple):
  """The rates of all thresholds, from none passed to all passed.

  Attributes:
    wrong: float[..., K], the share of wrong solutions that pass.
    right: float[..., K], the share of right ones.
  """

  wrong: np.ndarray
  right: np.ndarray


def curve(suspicion: Sequence[float], is_right: Sequence[bool]) -> Curve:
  """Returns the curve of a score of suspicion, from (0, 0) to (1, 1).

  >>> curve([0.1, 0.1, 0.7], [True, False, False])
  Curve(wrong=array([0. , 0.5, 1. ]), right=array([0., 1., 1.]))

  Args:
    suspicion: float[N], finite; a threshold passes what is not above it.
    is_right: bool[N], both kinds.

  Raises:
    ValueError: a score is not finite, or a kind is not there.
  """
  scores, right = np.asarray(suspicion, float), np.asarray(is_right, bool)
  if not np.isfinite(scores).all() or not 0 < right.sum() < len(right):
    raise ValueError(
      f'suspicion: got {len(scores)} scores of {right.sum()} right and '
      f'{len(right) - right.sum()} wrong solutions; expected finite ones of '
      'both kinds'
    )
  levels, places = np.unique(scores, return_inverse=True)
  counts = [
    np.bincount(places[mask], minlength=len(levels)).astype(float)
    for mask in (~right, right)
  ]
  return of_counts(*counts)


def of_counts(wrong: np.ndarray, right: np.ndarray) -> Curve:
  """Returns the curve of counts by rising suspicion, float[..., L] each."""
  rates = []
  for counts in (wrong, right):
    passed = np.cumsum(counts, -1)
    none = np.zeros_like(passed[..., :1])
    rates.append(divide(np.concatenate([none, passed], -1), passed[..., -1:]))
  return Curve(*rates)


def area(curve: Curve) -> np.ndarray:
  """Returns the area under a curve, float[...], by trapezoids.

  It is Mann and Whitney's statistic over the number of pairs: P(a wrong
  solution is more suspect than a right one) + P(as suspect) / 2.
  """
  widths = np.diff(curve.wrong, axis=-1)
  return (widths * (curve.right[..., 1:] + curve.right[..., :-1]) / 2).sum(-1)


def height(curve: Curve, wrong: np.ndarray, right: np.ndarray) -> np.ndarray:
  """Returns how far a point is above the hull of a curve, float[...].

  The hull at x is the greatest value at x of a line between two points of the
  curve, of which one is not right of x and the other not left of it.

  Args:
    curve: rates, float[..., K].
    wrong: float[...], the share of wrong solutions that pass.
    right: float[...], that of right ones.
  """
  x = np.asarray(wrong)[..., None, None]
  left, low = curve.wrong[..., :, None], curve.right[..., :, None]
  end, high = curve.wrong[..., None, :], curve.right[..., None, :]
  share = divide(x - left, end - left, empty=0.0)
  values = low + share * (high - low)
  is_between = (left <= x + _ROUNDING) & (x <= end + _ROUNDING)
  best = np.where(is_between, values, -np.inf).max((-2, -1))
  best = np.where(np.isfinite(best), best, np.nan)  # the point is not known
  return np.asarray(right) - best


_ROUNDING = 1e-9


def chord(wrong: np.ndarray, right: np.ndarray) -> Curve:
  """Returns the curve of one point and of verdicts that are turned round."""
  zero = np.zeros_like(np.asarray(wrong, float))
  return Curve(
    np.stack([zero, wrong, zero + 1], -1), np.stack([zero, right, zero + 1], -1)
  )


# ----------------------------------------------------------------- records

_COLUMNS = 'rows', 'wrong', 'right', 'wrong_passed', 'right_passed'


def table(records: Sequence[Record]) -> Table:
  """Returns a row for each critique, and for each solution with several.

  The columns 'wrong/i' and 'right/i' count solutions by the i-th share of
  votes, in rising order.
  """
  voted = calibration.voted(records)
  shares = {s: calibration.called_wrong(c) for s, c in voted.items()}
  levels = sorted({round(share, 9) for share in shares.values()})
  clusters, rows = [], []
  for critique in critique_metrics.judged(records):
    claim = critique_metrics.verdict(critique)
    right = critique_metrics.truth(critique.parent)
    row = {
      'rows': 1, 'right': right, 'wrong': not right,
      'right_passed': right and claim == 'correct',
      'wrong_passed': not right and claim != 'incorrect',
    }  # fmt: skip
    clusters.append(critique.problem.id)
    rows.append(row)
  for solution, share in shares.items():
    kind = 'right' if critique_metrics.truth(solution) else 'wrong'
    clusters.append(solution.problem.id)
    rows.append({f'{kind}/{levels.index(round(share, 9))}': 1})
  names = [f'{k}/{i}' for k in ('wrong', 'right') for i in range(len(levels))]
  columns = {n: [float(r.get(n, 0)) for r in rows] for n in (*_COLUMNS, *names)}
  return Table(clusters, columns)


def _point(sums: Sums, prefix: str = '') -> tuple[np.ndarray, np.ndarray]:
  """Returns the rates of single critiques."""
  return tuple(
    divide(sums[f'{prefix}{kind}_passed'], sums[f'{prefix}{kind}'])
    for kind in ('wrong', 'right')
  )


def _votes(sums: Sums, prefix: str = '') -> Curve:
  """Returns the curve of the share of votes."""
  num = sum(name.startswith(f'{prefix}wrong/') for name in sums)
  return of_counts(
    *(
      np.stack([sums[f'{prefix}{kind}/{i}'] for i in range(num)], -1)
      for kind in ('wrong', 'right')
    )
  )


def _area(sums: Sums, prefix: str = '') -> np.ndarray:
  return area(_votes(sums, prefix))


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns the two rates and the area under the curve of votes.

  Returns:
    Estimates by name: 'wrong_passed', 'right_passed' and 'vote_area', with
    intervals over problems. {} if no solution of known correctness has two
    critiques.
  """
  rows = table(records)
  if 'wrong/0' not in rows.columns:
    return {}
  return estimate(
    rows,
    {
      'wrong_passed': Statistic(lambda sums: _point(sums)[0], 'wrong'),
      'right_passed': Statistic(lambda sums: _point(sums)[1], 'right'),
      'vote_area': Statistic(_area, 'rows'),
    },
  )


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns how far single verdicts moved, and where they are now.

  Returns:
    The changes of the metrics, on the same problems; and 'above_chord' and
    'above_votes', the height of the point after above either curve before. 0 is
    on it: a threshold would have done the same.

  Raises:
    ValueError: the two sides are not about the same problems.
  """
  old, new = table(before), table(after)
  if not all('wrong/0' in rows.columns for rows in (old, new)):
    return {}
  if unpaired := sorted(set(old.clusters) ^ set(new.clusters)):
    raise ValueError(
      f'problems: got {len(unpaired)} on one side only, e.g. {unpaired[:3]}; '
      'expected the same problems before and after; keep those of both sides'
    )
  names = {
    'wrong_passed': lambda sums, side: _point(sums, side)[0],
    'right_passed': lambda sums, side: _point(sums, side)[1],
    'vote_area': _area,
  }
  changes = {
    name: Statistic(functools.partial(_change, fn), 'new/rows', share=False)
    for name, fn in names.items()
  }
  heights = {
    'above_chord': lambda sums: chord(*_point(sums, 'old/')),
    'above_votes': lambda sums: _votes(sums, 'old/'),
  }
  changes |= {
    name: Statistic(functools.partial(_above, fn), 'new/rows', share=False)
    for name, fn in heights.items()
  }
  return estimate(_joined(old, new), changes)


def _change(fn, sums: Sums) -> np.ndarray:
  return fn(sums, 'new/') - fn(sums, 'old/')


def _above(fn, sums: Sums) -> np.ndarray:
  return height(fn(sums), *_point(sums, 'new/'))


def _joined(old: Table, new: Table) -> Table:
  """Returns the rows of both, in columns of their own."""
  zeros = [0.0] * len(old.clusters), [0.0] * len(new.clusters)
  columns = {f'old/{k}': [*v, *zeros[1]] for k, v in old.columns.items()}
  columns |= {f'new/{k}': [*zeros[0], *v] for k, v in new.columns.items()}
  return Table([*old.clusters, *new.clusters], columns)
