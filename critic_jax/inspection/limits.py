"""Limits on what a phase logs: a run warns, or stops, when one is crossed.

Rewards are attacked while they are maximised, and the mean reward is the last
to tell. A limit is {'low': ..., 'high': ...} on the mean of a metric over the
last `window` steps, or with 'relative': True on that mean divided by the mean
over the first `window` steps of the phase (drift of lengths). Logged steps are
all that is read, so a resumed run warns as one that was never stopped.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Mapping
from typing import Any

_KEYS = {'low', 'high', 'relative'}
_MAX_WINDOW = 1_000_000
ACTIONS = ('warn', 'stop')


def check(limits: Mapping[str, Any], action: str, window: int) -> None:
  """Raises ValueError for limits that mean nothing."""
  if action not in ACTIONS:
    raise ValueError(f'action: got {action!r}; expected one of {ACTIONS}')
  if not isinstance(window, int) or not 1 <= window <= _MAX_WINDOW:
    raise ValueError(f'window: got {window!r}; expected 1 to {_MAX_WINDOW}')
  if not hasattr(limits, 'items'):  # a mapping or a ConfigDict
    raise ValueError(f'limits: got {limits!r}; expected them by metric')
  for name, limit in limits.items():
    if not hasattr(limit, 'items'):
      raise ValueError(f'{name}: got {limit!r}; expected some of {_KEYS}')
    if unknown := sorted(set(limit) - _KEYS):
      raise ValueError(f'{name}: got {unknown}; expected some of {_KEYS}')
    low, high = limit.get('low', -math.inf), limit.get('high', math.inf)
    numbers = all(
      isinstance(x, float) or isinstance(x, int) and abs(x) < 1e300
      for x in (low, high)
    )
    if not numbers or not low < high:
      raise ValueError(f'{name}: got {dict(limit)}; expected low < high')


class Watch:
  """The limits of a phase, step by step; needs no more memory for more steps.

  Args:
    limits: by metric; a metric without a value for `window` steps is not
      judged.
    window: steps that are averaged.
    also: other metrics that `mean` or `total` is asked for.
  """

  def __init__(
    self, limits: Mapping[str, Any], window: int, also: Iterable[str] = ()
  ):
    self._limits, self._window = limits, window
    names = {*limits, *also}
    self._first: dict[str, list[float]] = {name: [] for name in names}
    self._last = {name: collections.deque(maxlen=window) for name in names}
    self._total = dict.fromkeys(names, 0.0)
    self._outside: set[str] = set()

  def add(self, row: Mapping[str, float]) -> dict[str, str]:
    """Takes the metrics of the next step.

    Returns:
      What is to be said, by metric, of limits that are crossed now and were
      not at the step before: not as long as they stay so.
    """
    for name, last in self._last.items():
      value = row.get(name, math.nan)
      if not math.isnan(value):
        last.append(value)
        self._total[name] += value
        if len(self._first[name]) < self._window:
          self._first[name].append(value)
    found = {name: self._crossed(name) for name in self._limits}
    found = {name: text for name, text in found.items() if text}
    before, self._outside = self._outside, set(found)
    return {name: text for name, text in found.items() if name not in before}

  def mean(self, name: str) -> float | None:
    """The mean of a metric's last `window` values; None if it has none."""
    last = self._last[name]
    return sum(last) / len(last) if last else None

  def total(self, name: str) -> float:
    """The sum of a metric's values."""
    return self._total[name]

  def _crossed(self, name: str) -> str:
    """What is to be said of a metric, whenever it was crossed; or ''."""
    if len(self._last[name]) < self._window:
      return ''
    value, limit = self.mean(name), self._limits[name]
    what = f'{name} = {value:.3g}'
    if limit.get('relative'):
      first = sum(self._first[name]) / self._window
      value = value / first if first else math.nan
      what = f'{name} = {value:.3g} of its start'
    low, high = limit.get('low', -math.inf), limit.get('high', math.inf)
    if math.isnan(value) or low <= value <= high:
      return ''
    return f'{what}, outside of [{low:g}, {high:g}]'


def warnings(
  rows: Iterable[Mapping[str, Any]], limits: Mapping[str, Any], window: int
) -> list[tuple[int, str]]:
  """All that was told of in a phase: (step, text), from what it logged.

  Args:
    rows: the lines of metrics.jsonl of the phase.
    limits: of the phase.
    window: of the phase.
  """
  watch = Watch(limits, window)
  told = ((row['step'], watch.add(row)) for row in rows)
  return [(step, text) for step, found in told for text in found.values()]
