"""Limits on metrics: when they are told of, and by what."""

import math

import pytest

from critic_jax.inspection import limits


def crossings(values, window=2, **limit):
  """Returns the steps (from 0) at which a limit on 'x' is reported."""
  watch = limits.Watch({'x': limit}, window)
  return [step for step, x in enumerate(values) if watch.add({'x': x})]


def test_a_mean_over_the_window_is_judged():
  # Means of two: 0.5, 0.5, 1: one step alone is noise.
  assert crossings([0, 1, 0, 2], high=0.9) == [3]
  assert crossings([1, 1, 0, 0], low=0.2) == [3]
  assert crossings([5], high=0.9) == [], 'not yet a window'


def test_a_limit_is_told_of_once_while_it_stays_crossed():
  assert crossings([1, 1, 1, 1, 0, 0, 1, 1], window=1, high=0.5) == [0, 6]


@pytest.mark.parametrize(
  ('limit', 'values', 'steps'),
  [
    (dict(high=0.3), [0.4, 0.7, 0.79, 0.9, 2.0], [0, 3, 4]),
    (dict(high=0.0), [0.1, 0.15, 0.25], [0, 2]),
    (dict(high=-1.0), [-0.8, -0.5, -0.3], [0, 2]),
    (dict(low=0.1), [0.09, 0.05, 0.04, 0.03, 0.0], [0, 2, 4]),
    (dict(low=-0.05), [-0.06, -0.1, -0.2], [0, 2]),
    # Inside again: told of afresh.
    (dict(high=0.3), [0.4, 0.2, 0.4, 0.5], [0, 2]),
  ],
)
def test_a_limit_is_told_of_again_when_it_is_twice_as_bad(limit, values, steps):
  assert crossings(values, window=1, **limit) == steps


def test_drift_is_relative_to_the_start():
  # 30 / 10 at step 3; means of the last two are 20 and 30.
  assert crossings([10, 10, 30, 30], high=2.5, relative=True) == [3]
  assert crossings([0, 0, 9, 9], high=2.5, relative=True) == [], 'no start'


def test_metrics_that_are_not_there_are_not_judged():
  rows = [{}, {'x': 9.0}, {'x': math.nan}, {'y': 1.0}]
  watch = limits.Watch({'x': {'high': 1}}, 2, tracked=['y', 'z'])
  assert not any(watch.add(row) for row in rows)
  assert watch.add({'x': 7.0}) == {'x': 'x = 8, outside of [-inf, 1]'}
  assert [watch.mean(name) for name in 'xyz'] == [8.0, 1.0, None]


@pytest.mark.parametrize(
  ('until', 'steps'),
  [
    ({}, []),
    # Means of two: 3, 1.5, 1.5, 2 of x.
    ({'x': dict(high=2)}, [2, 3, 4]),
    ({'x': dict(high=2, low=1.9)}, [4]),
    ({'x': dict(high=0.5, relative=True)}, [2, 3]),
    ({'x': dict(high=2), 'y': dict(low=5)}, [3]),
    ({'z': dict(high=9)}, []),
  ],
)
def test_limits_hold_over_whole_windows(until, steps):
  watch = limits.Watch({}, 2, tracked=['x', 'y', 'z'])
  held = []
  for step, (x, y) in enumerate([(1, 0), (5, 0), (-2, 9), (5, 9), (-1, 0)]):
    watch.add({'x': x, 'y': y, 'z': math.nan})
    held += [step] * watch.holds(until)
  assert held == steps


def test_warnings_of_a_whole_phase():
  rows = [{'step': 7 + i, 'x': x} for i, x in enumerate([0, 2, 0, 2])]
  assert limits.warnings(rows, {'x': {'high': 1}}, 1) == [
    (8, 'x = 2, outside of [-inf, 1]'),
    (10, 'x = 2, outside of [-inf, 1]'),
  ]


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (({'x': {'max': 1}}, 'warn', 5), "x: got 'max'"),
    (
      ({'x': {'low': 1, 'high': 0}}, 'warn', 5),
      'x: got .* expected low < high',
    ),
    (({}, 'ignore', 5), "action: got 'ignore'"),
    (({}, 'stop', 0), 'window: got 0'),
    (({}, 'stop', None), 'window: got None'),
    (({}, 'stop', 10**30), 'window: got 1000'),
    (({'x': {'high': 10**400}}, 'warn', 5), 'x: got .* expected low < high'),
    ((None, 'stop', 1), 'limits: got None'),
    (({'x': []}, 'warn', 5), r'x: got \[\]'),
    (({'x': {'high': None}}, 'warn', 5), 'x: got .* expected low < high'),
  ],
)
def test_limits_that_mean_nothing(settings, message):
  with pytest.raises(ValueError, match=message):
    limits.check(*settings)
