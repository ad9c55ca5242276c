"""The costs of a step: seconds and tokens by stage, compilations, memory.

Code that samples or grades adds to a meter where one is open, and knows nothing
of who reads it; where none is, nothing is added up. The names of what depends
on the machine begin with one of `OF_MACHINE`; no result depends on any of it.

    with timing.opened() as sums:
      with timing.timed('time/solve_s'):
        ...
    sums['time/solve_s']
"""

from __future__ import annotations

import contextlib
import contextvars
import resource
import sys
import time
from collections.abc import Iterator, Mapping

import jax

OF_MACHINE = ('time', 'compile/', 'memory/', 'device/')

_sums: contextvars.ContextVar[dict[str, float] | None] = contextvars.ContextVar(
  'sums', default=None
)


@contextlib.contextmanager
def opened() -> Iterator[dict[str, float]]:
  """Opens a meter for the block; yields its sums by name.

  A thread adds to it if it runs in a copy of the caller's `contextvars`.
  """
  token = _sums.set({})
  try:
    yield _sums.get()
  finally:
    _sums.reset(token)


def add(name: str, amount: float) -> None:
  """Adds to a sum of the open meter, if there is one."""
  sums = _sums.get()
  if sums is not None:
    sums[name] = sums.get(name, 0.0) + amount


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
  """Adds the seconds that the block takes, failed or not."""
  started = time.perf_counter()
  try:
    yield
  finally:
    add(name, time.perf_counter() - started)


def metrics(sums: Mapping[str, float]) -> dict[str, float]:
  """Returns the metrics that are logged for a meter's sums.

  >>> metrics({'time/solve_s': 2.0, 'tokens/solve': 50})
  {'time/solve_s': 2.0, 'tokens/solve': 50, 'time/solve_tokens_per_s': 25.0}

  Returns:
    The sums; 'time/<stage>_tokens_per_s' of each stage with 'tokens/<stage>'
    and 'time/<stage>_s'; and 'device/occupancy', the share of the sampler's
    slots that held an unfinished response, in the place of 'slots/busy' and
    'slots/all', slots times steps.
  """
  values = {k: v for k, v in sums.items() if not k.startswith('slots/')}
  for name, count in sums.items():
    kind, _, stage = name.partition('/')
    seconds = sums.get(f'time/{stage}_s', 0.0)
    if kind == 'tokens' and seconds:
      values[f'time/{stage}_tokens_per_s'] = count / seconds
  if sums.get('slots/all'):
    values['device/occupancy'] = sums['slots/busy'] / sums['slots/all']
  return values


def memory() -> dict[str, float]:
  """Returns the peaks of memory so far, in GiB.

  'memory/host_gib' is the peak of the process; 'memory/device_gib' that of the
  fullest device, if jax knows it (not on CPUs).
  """
  unit = 1 if sys.platform == 'darwin' else 2**10  # bytes there, KiB elsewhere
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  values = {'memory/host_gib': peak / 2**30}
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  peaks = [s['peak_bytes_in_use'] for s in stats if 'peak_bytes_in_use' in s]
  if peaks:
    values['memory/device_gib'] = max(peaks) / 2**30
  return values
