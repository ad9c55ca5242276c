"""Limits on what a phase logs: a run warns, or stops, when one is crossed.

Rewards are attacked while they are maximised, and the mean reward is the last
to tell. A limit is {'low': ..., 'high': ...} on the mean of a metric over the
last `window` steps, or with 'relative': True on that mean divided by the mean
over the first `window` steps of the phase (drift of lengths). Logged steps are
all that is read, so a resumed run warns as one that was never stopped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_KEYS = {'low', 'high', 'relative'}
ACTIONS = ('warn', 'stop')


def check(limits: Mapping[str, Any], action: str, window: int) -> None:
  """Raises ValueError for limits that mean nothing."""
  if action not in ACTIONS:
    raise ValueError(f'action: got {action!r}; expected one of {ACTIONS}')
  if window < 1:
    raise ValueError(f'window: got {window}; expected >= 1')
  for name, limit in limits.items():
    if unknown := sorted(set(limit) - _KEYS):
      raise ValueError(f'{name}: got {unknown}; expected some of {_KEYS}')
    if not limit.get('low', -math.inf) < limit.get('high', math.inf):
      raise ValueError(f'{name}: got {dict(limit)}; expected low < high')


def crossed(
  rows: Sequence[Mapping[str, float]],
  limits: Mapping[str, Any],
  window: int,
) -> dict[str, str]:
  """The limits that the last step crosses: by metric, what is to be said.

  Args:
    rows: the metrics of the phase's steps so far, oldest first.
    limits: by metric; a metric without a value for `window` steps is not
      judged.
    window: steps that are averaged.

  Returns:
    Those that are outside now and were not at the step before: a limit is told
    of when it is crossed, not as long as it stays so.
  """
  now = _outside(rows, limits, window)
  before = _outside(rows[:-1], limits, window)
  return {name: text for name, text in now.items() if name not in before}


def warnings(
  rows: Sequence[Mapping[str, Any]], limits: Mapping[str, Any], window: int
) -> list[tuple[int, str]]:
  """All that was told of in a phase: (step, text), from what it logged.

  Args:
    rows: the lines of metrics.jsonl of the phase.
    limits: of the phase.
    window: of the phase.
  """
  told, before = [], {}
  for i, row in enumerate(rows):
    now = _outside(rows[: i + 1], limits, window)
    told += [(row['step'], now[name]) for name in now if name not in before]
    before = now
  return told


def _outside(rows, limits, window) -> dict[str, str]:
  found = {}
  for name, limit in limits.items():
    values = _first(reversed(rows), name, window)
    if len(values) < window:
      continue
    value = _mean(values)
    what = f'{name} = {value:.3g}'
    if limit.get('relative'):
      first = _mean(_first(rows, name, window))
      value = value / first if first else math.nan
      what = f'{name} = {value:.3g} of its start'
    low, high = limit.get('low', -math.inf), limit.get('high', math.inf)
    if not math.isnan(value) and not low <= value <= high:
      found[name] = f'{what}, outside of [{low:g}, {high:g}]'
  return found


def _first(rows: Iterable, name: str, number: int) -> list[float]:
  """The first values of a metric, at most so many."""
  values = (
    row[name] for row in rows if not math.isnan(row.get(name, math.nan))
  )
  return list(itertools.islice(values, number))


def _mean(values: Sequence[float]) -> float:
  return sum(values) / len(values)
