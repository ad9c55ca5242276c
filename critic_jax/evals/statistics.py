"""Computes estimates with intervals, for outcomes that come in clusters.

Critiques of one problem are not independent: they share its difficulty and its
solutions. A bootstrap over critiques would report intervals that are too
narrow, so the bootstrap draws problems (Cameron and Miller, "A Practitioner's
Guide to Cluster-Robust Inference", 2015, section VI). Every metric here is a
function of sums over rows. The sums of a problem are computed once, a resample
weighs them, and all resamples are one matrix product.

    table = Table(['p1', 'p1', 'p2'], {'hit': [1, 0, 1], 'rows': [1, 1, 1]})
    estimate(table, {'accuracy': Statistic(ratio('hit', 'rows'), 'rows')})

All draws are seeded: the same records give the same interval.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

_LEVEL = 0.95  # the coverage of all intervals

Sums = Mapping[str, np.ndarray]  # float[...] by name: one per resample


class Estimate(NamedTuple):
  """A value, its interval, and the number of observations it rests on.

  An undefined value (no observation) is NaN, with the interval NaN and n 0.
  """

  value: float
  low: float
  high: float
  n: int


def display_scale(metric: str) -> float:
  """Returns the factor that scales a metric for display: 100 for percent.

  >>> display_scale('balanced verdict accuracy')
  100.0
  >>> display_scale('critique length in tokens')
  1.0
  """
  return 1.0 if re.search('tokens|length', metric) else 100.0


class Table(NamedTuple):
  """Rows of observations.

  Attributes:
    clusters: [N], the id of each row's problem.
    columns: float[N] by name.
  """

  clusters: Sequence[str]
  columns: Mapping[str, Sequence[float]]


class Statistic(NamedTuple):
  """A metric of a Table.

  Attributes:
    fn: sums of the columns, float[...] each -> the metric, float[...].
    count: the column whose total is the number of observations.
    share: whether the metric is a share of observations, in [0, 1].
  """

  fn: Callable[[Sums], np.ndarray]
  count: str
  share: bool = True


def ratio(numerator: str, denominator: str, empty: float = math.nan):
  """Returns a function of sums: the ratio of two, `empty` if it is 0/0."""
  return lambda sums: divide(sums[numerator], sums[denominator], empty)


def divide(numerator, denominator, empty: float = math.nan) -> np.ndarray:
  """Divides elementwise, with `empty` where the denominator is 0."""
  numerator, denominator = np.broadcast_arrays(numerator, denominator)
  filled = np.full(numerator.shape, empty, np.float64)
  return np.divide(numerator, denominator, out=filled, where=denominator != 0)


def harmonic(a, b) -> np.ndarray:
  """Returns the harmonic mean of two rates (F1), 0 where both are 0."""
  return divide(2 * np.asarray(a) * b, np.asarray(a) + b, empty=0.0)


def finite_mean(values: np.ndarray) -> np.ndarray:
  """Averages the finite values over the first axis, NaN where none is finite.

  >>> finite_mean(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
  [2.0, nan]
  """
  finite = np.isfinite(values)
  counts = finite.sum(0)
  sums = np.where(finite, values, 0.0).sum(0)
  return np.where(counts, sums / np.maximum(counts, 1), np.nan)


def wilson(successes: float, total: float) -> Estimate:
  """Returns the 95 % Wilson score interval of a share of independent trials.

  E. B. Wilson (1927); with z the normal quantile of 0.975,

    centre = (p + z^2 / 2n) / (1 + z^2 / n)
    half   = z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n)

  No trials give NaN.

  Raises:
    ValueError: the successes are not between 0 and the trials.
  """
  if not 0 <= successes <= total:
    raise ValueError(
      f'successes: got {successes} of {total}; expected 0 <= successes <= total'
    )
  if total == 0:
    return Estimate(math.nan, math.nan, math.nan, 0)
  z, p = NormalDist().inv_cdf((1 + _LEVEL) / 2), successes / total
  centre = p + z * z / (2 * total)
  half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2))
  scale = 1 + z * z / total
  # At the ends the bound is exact; the formula would miss it by rounding.
  low = (centre - half) / scale if successes > 0 else 0.0
  high = (centre + half) / scale if successes < total else 1.0
  return Estimate(p, low, high, int(total))


def bootstrap(
  sums: Mapping[str, np.ndarray],
  statistic: Statistic,
  *,
  num_resamples: int = 2000,
  seed: int = 0,
) -> Estimate:
  """Returns a statistic with its 95 % interval over resampled clusters.

  The interval holds the central 95 % of the resamples (percentile bootstrap).

  If all resamples agree, as with one cluster or with successes only, they do
  not show the uncertainty. A share then gets the Wilson interval with the
  clusters as trials.

  Args:
    sums: float[C] by name, the sum of a column over each cluster.
    statistic: the statistic to estimate.
    num_resamples: the number of resamples, each of C clusters drawn with
      replacement.
    seed: seeds the draws.

  Returns:
    The statistic over all clusters, with the interval.
  """
  columns = np.stack([np.asarray(v, np.float64) for v in sums.values()])
  value = float(statistic.fn(dict(zip(sums, columns.sum(1), strict=True))))
  clusters = columns.shape[1]
  if clusters == 0 or math.isnan(value):
    return Estimate(math.nan, math.nan, math.nan, 0)
  resampled = columns.astype(np.float32) @ _draws(clusters, num_resamples, seed)
  resampled = resampled.astype(np.float64)
  values = statistic.fn(dict(zip(sums, resampled, strict=True)))
  values = values[~np.isnan(values)]  # a resample may hold no observation
  low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
  if statistic.share and high - low < 1e-9:
    observed = np.count_nonzero(sums[statistic.count])
    _, low, high, _ = wilson(min(value, 1.0) * observed, observed)
  n = int(np.sum(sums[statistic.count]))
  return Estimate(value, float(low), float(high), n)


def estimate(
  table: Table, statistics: Mapping[str, Statistic], **options
) -> dict[str, Estimate]:
  """Returns every statistic of a table, {} if it has no rows.

  Args:
    table: the rows.
    statistics: statistics by name.
    **options: keyword arguments of `bootstrap`.
  """
  if not len(table.clusters):
    return {}
  _, sums = _by_cluster(table)
  return {k: bootstrap(sums, s, **options) for k, s in statistics.items()}


def difference(
  before: Table,
  after: Table,
  statistics: Mapping[str, Statistic],
  *,
  shared: bool = False,
  **options,
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each statistic, paired by cluster.

  A resample draws the same problems on both sides, so the difficulty of a
  problem cancels. `n` counts the observations of `after`. {} if a side has no
  rows.

  Args:
    before: the rows of one side.
    after: the rows of the other side.
    statistics: statistics by name.
    shared: whether to leave out problems that one side lacks.
    **options: keyword arguments of `bootstrap`.

  Raises:
    ValueError: the two sides are not about the same problems.
  """
  if shared:
    common = set(before.clusters) & set(after.clusters)
    before, after = _only(before, common), _only(after, common)
  if not (len(before.clusters) and len(after.clusters)):
    return {}
  ids, old = _by_cluster(before)
  new_ids, new = _by_cluster(after)
  if unpaired := sorted(set(ids) ^ set(new_ids)):
    raise ValueError(
      f'problems: got {len(unpaired)} on one side only, e.g. {unpaired[:3]}; '
      'expected the same problems before and after; keep those of both sides'
    )
  sums = {f'old/{k}': v for k, v in old.items()}
  sums |= {f'new/{k}': v for k, v in new.items()}

  def side(resamples, prefix):
    return {k: resamples[prefix + k] for k in old}

  def change(statistic):
    return Statistic(
      lambda resamples: (
        statistic.fn(side(resamples, 'new/'))
        - statistic.fn(side(resamples, 'old/'))
      ),
      f'new/{statistic.count}',
      share=False,
    )

  return {
    k: bootstrap(sums, change(s), **options) for k, s in statistics.items()
  }


def _only(table: Table, ids: Collection[str]) -> Table:
  """Returns the rows of some clusters."""
  rows = [i for i, cluster in enumerate(table.clusters) if cluster in ids]
  return Table(
    [table.clusters[i] for i in rows],
    {k: [column[i] for i in rows] for k, column in table.columns.items()},
  )


def _by_cluster(table: Table) -> tuple[list[str], dict[str, np.ndarray]]:
  """Returns the sorted clusters, and each column's sums over them: float[C]."""
  ids, rows = np.unique(np.asarray(table.clusters, str), return_inverse=True)
  return ids.tolist(), {
    name: np.bincount(rows, np.asarray(column, np.float64), len(ids))
    for name, column in table.columns.items()
  }


@functools.lru_cache(maxsize=4)
def _draws(clusters: int, num_resamples: int, seed: int) -> np.ndarray:
  """Counts the draws of each cluster per resample: float32[C, resamples]."""
  rng = np.random.default_rng(seed)
  draws = rng.integers(clusters, size=(clusters, num_resamples))
  flat = draws * num_resamples + np.arange(num_resamples)
  counts = np.bincount(flat.ravel(), minlength=clusters * num_resamples)
  counts = counts.reshape(clusters, num_resamples).astype(np.float32)
  counts.flags.writeable = False  # shared between calls
  return counts
