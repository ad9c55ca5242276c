"""A table over the runs of a grid: state, step, last metrics, time.

It is read off the files of the runs and drawn again as they go on. A terminal
shows it live; elsewhere nothing is drawn.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.live
import rich.table
from rich.text import Text

from critic_jax import files
from critic_jax.launch.runs import Task
from critic_jax.terminal import Console
from critic_jax.workdir import progress, run_dir

_TAIL = 2**17  # bytes; more than a line of metrics.jsonl has
_COLORS = {'done': 'green', 'running': 'cyan', 'failed': 'red'}


def table(
  tasks: Sequence[Task],
  states: Sequence[str],
  seconds: Mapping[str, float] | None = None,
  height: int | None = None,
) -> rich.table.Table:
  """Returns a table with a row for each run.

  Args:
    tasks: the runs, in the order of --index.
    states: the state of each run.
    seconds: seconds of training by name, for the runs of this process; for
      others it is the time from the first to the last line of metrics.
    height: the number of rows that there is room for: if there are more runs,
      those that wait or are done are left out first. None: any number.
  """
  counts = collections.Counter(states)
  drawing = rich.table.Table(
    'index',
    rich.table.Column('run', overflow='fold'),
    *('state', 'step', 'last metrics', 'time'),
    box=rich.box.SIMPLE_HEAD,
    caption=', '.join(f'{n} {name}' for name, n in sorted(counts.items())),
    caption_justify='left',
  )

  # Keep the rows that there is room for, in their order.
  rows = list(enumerate(zip(tasks, states, strict=True)))
  if height is not None and len(rows) > height:
    rows.sort(key=lambda row: row[1][1] in ('done', 'absent', 'waiting'))
    rows = sorted(rows[: max(height, 1)], key=lambda row: row[0])
  for index, (task, state) in rows:
    first, last = ends(task.folder / 'metrics.jsonl')
    step = f'{last["step"] + 1}/{task.steps} {last["phase"]}' if last else ''
    logged_s = _time(last) - _time(first) if last else None
    duration = (seconds or {}).get(task.name, logged_s)
    clock = '' if duration is None else _clock(duration)
    colored = Text(state, _COLORS.get(state, ''))
    drawing.add_row(str(index), task.name, colored, step, _metrics(last), clock)
  return drawing


@contextlib.contextmanager
def drawer(
  console: Console, enabled: bool
) -> Iterator[Callable[[Callable[[], rich.table.Table]], None]]:
  """Yields a function that draws a table over the one before.

  It takes a function that makes the table, and calls it if anything is drawn.
  """
  if not (enabled and console.is_terminal):
    yield lambda make: None
    return
  with rich.live.Live(console=console, auto_refresh=False) as live:
    yield lambda make: live.update(make(), refresh=True)


def _metrics(row: Mapping[str, Any]) -> str:
  """Returns 'reward 0.52  judge 0.61', as training's progress shows it."""
  return '  '.join(
    f'{title} {float(row[name]):.2f}'
    for name, title in progress.SHOWN.items()
    if name in row
  )


def _time(row: Mapping[str, Any]) -> float:
  return row.get('time', math.nan)


def _clock(seconds: float) -> str:
  if not math.isfinite(seconds):
    return '–'
  minutes, seconds = divmod(int(seconds), 60)
  return f'{minutes // 60}:{minutes % 60:02}:{seconds:02}'


def ends(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the first and last row of a metrics.jsonl; {} if it has none."""
  return _ends(path, path.stat().st_size) if path.exists() else ({}, {})


@functools.lru_cache(maxsize=4096)
def _ends(path: Path, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads the ends of a file once for each of its sizes."""
  try:
    with files.opened(path) as f:
      first = f.readline(_TAIL)
      f.seek(max(0, size - _TAIL))
      lines = f.read(_TAIL).split(b'\n')[:-1]
    return run_dir.metrics_row(first), run_dir.metrics_row(lines[-1])
  except (IndexError, ValueError, OSError):  # nothing whole, or no metrics
    return {}, {}
