"""Intervals: golden values, coverage, clusters, pairs."""

import math
import time

import numpy as np
import pytest

from critic_jax.evals import statistics
from critic_jax.evals.statistics import Statistic, Table, ratio

MEAN = {'mean': Statistic(ratio('x', 'rows'), 'rows')}


def table(values, clusters):
  return Table(clusters, {'x': values, 'rows': np.ones(len(values))})


def test_wilson_by_hand():
  # 95 %: z = 1.959964, z^2 = 3.841459. 8 of 10:
  # centre = (0.8 + 3.841459 / 20) / (1 + 3.841459 / 10) = 0.7167398
  # half   = 1.959964 sqrt(0.8 * 0.2 / 10 + 3.841459 / 400) / 1.3841459
  #        = 1.959964 * 0.1600114 / 1.3841459 = 0.2265777
  value, low, high, n = statistics.wilson(8, 10)
  assert (value, n) == (0.8, 10)
  assert low == pytest.approx(0.7167398 - 0.2265777, abs=1e-6)
  assert high == pytest.approx(0.7167398 + 0.2265777, abs=1e-6)


def test_wilson_at_the_ends():
  assert statistics.wilson(0, 10).low == 0.0
  # All of n: low = 1 / (1 + z^2 / n) = 10 / (10 + 3.841459)
  assert statistics.wilson(10, 10).low == pytest.approx(10 / 13.841459)
  assert statistics.wilson(10, 10).high == 1.0
  assert math.isnan(statistics.wilson(0, 0).low)
  with pytest.raises(ValueError, match='got 3 of 2'):
    statistics.wilson(3, 2)


def test_bootstrap_of_independent_values_agrees_with_theory():
  rng = np.random.default_rng(1)
  values = rng.normal(size=400)
  ids = [str(i) for i in range(400)]
  _, low, high, n = statistics.estimate(table(values, ids), MEAN)['mean']
  standard_error = values.std() / math.sqrt(400)
  assert n == 400
  assert (high - low) / 2 == pytest.approx(1.96 * standard_error, rel=0.08)


def test_copies_of_a_problem_narrow_nothing():
  rng = np.random.default_rng(2)
  values = rng.random(60) < 0.6
  ids = [f'p{i}' for i in range(60)]
  once = statistics.estimate(table(values, ids), MEAN)['mean']
  tenfold = statistics.estimate(
    table(np.repeat(values, 10), np.repeat(ids, 10)), MEAN
  )['mean']
  assert tenfold[:3] == pytest.approx(once[:3], abs=1e-6)
  independent = statistics.wilson(10 * values.sum(), 600)
  assert tenfold.high - tenfold.low > 2 * (independent.high - independent.low)


def test_the_interval_covers():
  rng = np.random.default_rng(3)
  hits = 0
  for _ in range(200):
    difficulty = np.repeat(rng.random(40), 5)
    values = rng.random(200) < difficulty  # mean 0.5
    ids = np.repeat(np.arange(40), 5)
    got = statistics.estimate(table(values, ids), MEAN, num_resamples=300)
    hits += got['mean'].low <= 0.5 <= got['mean'].high
  assert 0.89 <= hits / 200 <= 0.99


def test_rows_in_any_order_and_seeds():
  values = np.random.default_rng(5).random(100)
  ids = np.arange(100) // 3
  estimate = statistics.estimate(table(values, ids), MEAN)
  other = statistics.estimate(table(values[::-1], ids[::-1]), MEAN)
  for a, b in zip(estimate['mean'], other['mean'], strict=True):
    assert a == pytest.approx(b, abs=1e-6)
  assert statistics.estimate(table(values, ids), MEAN, seed=1) != estimate


def test_nothing_but_successes_still_leaves_doubt():
  got = statistics.estimate(table(np.ones(20), np.repeat(range(10), 2)), MEAN)
  # Ten problems, all solved: Wilson of 10 in 10, not of 20 in 20.
  assert got['mean'] == (1.0, *statistics.wilson(10, 10)[1:3], 20)


def test_nothing_observed_is_undefined():
  got = statistics.estimate(Table(['a'], {'x': [0], 'rows': [0]}), MEAN)['mean']
  assert math.isnan(got.value) and math.isnan(got.low) and got.n == 0
  assert statistics.estimate(table([], []), MEAN) == {}


def test_a_difference_may_be_over_what_is_shared():
  before, after = table([1, 0], ['a', 'b']), table([0, 1], ['b', 'c'])
  got = statistics.difference(before, after, MEAN, shared=True)['mean']
  assert (got.value, got.n) == (0, 1)
  empty_table = table([], [])
  assert statistics.difference(before, empty_table, MEAN, shared=True) == {}


def test_a_paired_difference_is_narrower():
  rng = np.random.default_rng(4)
  difficulty = rng.random(100)
  ids = [str(i) for i in range(100)]
  before, after = table(difficulty, ids), table(difficulty + 0.1, ids)
  got = statistics.difference(before, after, MEAN)['mean']
  assert got[:3] == pytest.approx((0.1, 0.1, 0.1), abs=1e-5)
  apart = statistics.estimate(after, MEAN)['mean']
  assert apart.high - apart.low > 0.1


def test_a_difference_needs_the_same_problems():
  with pytest.raises(ValueError, match=r"got 2 on one side only.*'b', 'c'"):
    statistics.difference(
      table([1, 1], ['a', 'b']), table([1, 1], ['a', 'c']), MEAN
    )


def test_two_thousand_resamples_take_less_than_a_second():
  ids = np.repeat(np.arange(1000), 8)
  rows = table(np.random.default_rng(0).random(8000), ids)
  start = time.perf_counter()
  statistics.estimate(rows, MEAN, seed=123)  # a seed no test has cached
  assert time.perf_counter() - start < 1


def test_harmonic_mean_of_nothing_is_zero():
  assert statistics.harmonic(0.0, 0.0) == 0.0
  assert statistics.harmonic(1.0, 0.5) == pytest.approx(2 / 3)
