"""Limits on the metrics of a phase: crossing one warns, or stops the run.

A policy may learn to hack its reward, and the mean reward is the last metric to
show it. A limit is {'low': ..., 'high': ...} on the mean of a metric over the
last `window` steps; with 'relative': True it is on that mean divided by the
mean over the first `window` steps of the phase (drift of lengths). Limits read
logged metrics only, so a resumed run warns as if it had never stopped. While a
limit stays crossed it is told of again when the mean is twice as bad as it was
when last told of.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Mapping
from typing import Any

from critic_jax import lookup

_KEYS = {'low', 'high', 'relative'}
_MAX_WINDOW = 1_000_000
_WORSE = 2.0  # an alarm is told again at so many times what was told last
ACTIONS = ('warn', 'stop')


def check(limits: Mapping[str, Any], action: str, window: int) -> None:
  """Raises ValueError for invalid limits, action or window."""
  if action not in ACTIONS:
    raise ValueError(f'limit_action: got {action!r}; expected one of {ACTIONS}')
  if not isinstance(window, int) or not 1 <= window <= _MAX_WINDOW:
    raise ValueError(
      f'limit_window: got {window!r}; expected 1 to {_MAX_WINDOW}'
    )
  check_bounds('limits', limits)


def check_bounds(setting: str, limits: Mapping[str, Any]) -> None:
  """Raises ValueError for invalid limits, the value of a setting."""
  if not hasattr(limits, 'items'):  # a mapping or a ConfigDict
    raise ValueError(f'{setting}: got {limits!r}; expected limits by metric')
  for name, limit in limits.items():
    if not hasattr(limit, 'items'):
      raise ValueError(
        f'{setting}.{name}: got {limit!r}; expected some of {_KEYS}'
      )
    for key in limit:
      lookup.check_name(f'{setting}.{name}', key, _KEYS)
    low, high = limit.get('low', -math.inf), limit.get('high', math.inf)
    numbers = all(
      isinstance(x, float) or isinstance(x, int) and abs(x) < 1e300
      for x in (low, high)
    )
    if not numbers or not low < high:
      raise ValueError(
        f'{setting}.{name}: got {dict(limit)}; expected low < high'
      )


def is_worse(value: float, told: float, *, is_above: bool = True) -> bool:
  """Whether a number is so much worse than one that was told of that it is new.

  >>> is_worse(0.5, told=0.3), is_worse(0.7, told=0.3)
  (False, True)
  >>> is_worse(0.02, told=0.03, is_above=False)
  False
  >>> is_worse(0.01, told=0.03, is_above=False)
  True

  Args:
    value: the number.
    told: the one that was told of last.
    is_above: whether larger is worse, or smaller.
  """
  goes_from_zero = (told > 0) == is_above
  bound = told * _WORSE if goes_from_zero else told / _WORSE
  return value > bound if is_above else value < bound


class Watch:
  """Checks the limits of a phase step by step, in constant memory.

  Args:
    limits: limits by metric. A metric with fewer than `window` values is not
      checked.
    window: the number of values to average.
    tracked: further metrics for `mean` and `total`.
  """

  def __init__(
    self, limits: Mapping[str, Any], window: int, tracked: Iterable[str] = ()
  ):
    self._limits, self._window = limits, window
    names = {*limits, *tracked}
    self._first: dict[str, list[float]] = {name: [] for name in names}
    self._last = {name: collections.deque(maxlen=window) for name in names}
    self._total = dict.fromkeys(names, 0.0)
    self._told: dict[str, float] = {}  # of the limits that are crossed now

  def add(self, row: Mapping[str, float]) -> dict[str, str]:
    """Adds the metrics of the next step.

    Returns:
      A warning, by metric, for each limit that is crossed at this step but was
      not crossed at the step before, or by much less when it was told of.
    """
    for name, last in self._last.items():
      value = row.get(name, math.nan)
      if not math.isnan(value):
        last.append(value)
        self._total[name] += value
        if len(self._first[name]) < self._window:
          self._first[name].append(value)
    texts = {name: self._warning(name) for name in self._limits}
    return {name: text for name, text in texts.items() if text}

  def mean(self, name: str) -> float | None:
    """Returns the mean of a metric's last `window` values, None without any."""
    last = self._last[name]
    return sum(last) / len(last) if last else None

  def holds(self, limits: Mapping[str, Any]) -> bool:
    """Whether tracked metrics are inside of these limits, over whole windows.

    False without limits.
    """
    return bool(limits) and all(
      len(self._last[name]) == self._window
      and _is_inside(self._value(name, limit), limit)
      for name, limit in limits.items()
    )

  def total(self, name: str) -> float:
    """Returns the sum of a metric's values."""
    return self._total[name]

  def _warning(self, name: str) -> str:
    """Returns a new warning for a metric outside of its limit, else ''."""
    if len(self._last[name]) < self._window:
      return ''
    limit = self._limits[name]
    value, (low, high) = self._value(name, limit), _bounds(limit)
    if math.isnan(value) or _is_inside(value, limit):
      self._told.pop(name, None)
      return ''
    told = self._told.get(name)
    if told is not None and not is_worse(value, told, is_above=value > high):
      return ''
    self._told[name] = value
    of = ' of its start' if limit.get('relative') else ''
    return f'{name} = {value:.3g}{of}, outside of [{low:g}, {high:g}]'

  def _value(self, name: str, limit: Mapping[str, Any]) -> float:
    """Returns what a limit is on: a mean, or its ratio to the first one."""
    if not limit.get('relative'):
      return self.mean(name)
    first = sum(self._first[name]) / self._window
    return self.mean(name) / first if first else math.nan


def _bounds(limit: Mapping[str, Any]) -> tuple[float, float]:
  return limit.get('low', -math.inf), limit.get('high', math.inf)


def _is_inside(value: float, limit: Mapping[str, Any]) -> bool:
  low, high = _bounds(limit)
  return low <= value <= high


def warnings(
  rows: Iterable[Mapping[str, Any]], limits: Mapping[str, Any], window: int
) -> list[tuple[int, str]]:
  """Returns all warnings of a phase, (step, text), from its logged metrics.

  Args:
    rows: the lines of metrics.jsonl of the phase.
    limits: the phase's `limits`.
    window: the phase's `limit_window`.
  """
  watch = Watch(limits, window)
  steps = ((row['step'], watch.add(row)) for row in rows)
  return [(step, text) for step, texts in steps for text in texts.values()]
