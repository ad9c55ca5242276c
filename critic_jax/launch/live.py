"""A table over the runs of a grid: state, step, last metrics, time.

It is drawn again as the runs go on, from what they write; a terminal shows it
live, elsewhere nothing is drawn.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.live
import rich.table
from rich.console import Console

from critic_jax.launch.runs import Task
from critic_jax.workdir import progress

_TAIL = 2**17  # bytes; more than a line of metrics.jsonl has
_COLORS = {'done': 'green', 'running': 'cyan', 'failed': 'red'}


def table(
  tasks: Sequence[Task],
  states: Sequence[str],
  seconds: Mapping[str, float] | None = None,
  height: int | None = None,
) -> rich.table.Table:
  """A row for each run.

  Args:
    tasks: the runs, in the order of --index.
    states: of each.
    seconds: since when those train that this process has started, by name; of
      others it is from the first to the last line of metrics.
    height: how many rows there is room for: if there are more runs, those that
      wait or are done are left out first. None: any number.
  """
  counts = collections.Counter(states)
  shown = rich.table.Table(
    'index',
    rich.table.Column('run', overflow='fold'),
    *('state', 'step', 'last metrics', 'time'),
    box=rich.box.SIMPLE_HEAD,
    caption=', '.join(f'{n} {what}' for what, n in sorted(counts.items())),
    caption_justify='left',
  )
  rows = list(enumerate(zip(tasks, states, strict=True)))
  if height is not None and len(rows) > height:
    rows.sort(key=lambda row: row[1][1] in ('done', 'absent', 'waiting'))
    rows = sorted(rows[: max(height, 1)], key=lambda row: row[0])
  for index, (task, state) in rows:
    first, last = ends(task.folder / 'metrics.jsonl')
    step = f'{last["step"] + 1}/{task.steps} {last["phase"]}' if last else ''
    took = last['time'] - first['time'] if last else None
    took = (seconds or {}).get(task.name, took)
    text = '' if took is None else _clock(took)
    colored = f'[{_COLORS[state]}]{state}' if state in _COLORS else state
    shown.add_row(str(index), task.name, colored, step, _metrics(last), text)
  return shown


@contextlib.contextmanager
def shown(
  console: Console, wanted: bool
) -> Iterator[Callable[[Callable[[], rich.table.Table]], None]]:
  """Yields what draws the table that a function makes, over the one before."""
  if not (wanted and console.is_terminal):
    yield lambda make: None
    return
  with rich.live.Live(console=console, auto_refresh=False) as live:
    yield lambda make: live.update(make(), refresh=True)


def _metrics(row: Mapping[str, Any]) -> str:
  """'reward 0.52  judge 0.61': as training's progress shows them."""
  return '  '.join(
    f'{title} {float(row[name]):.2f}'
    for name, title in progress.SHOWN.items()
    if name in row
  )


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(int(seconds), 60)
  return f'{minutes // 60}:{minutes % 60:02}:{seconds:02}'


def ends(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """The first and the last whole line of a metrics.jsonl; {} if it has none."""
  return _ends(path, path.stat().st_size) if path.exists() else ({}, {})


@functools.lru_cache(maxsize=4096)
def _ends(path: Path, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
  """`ends`, read once for each size of the file."""
  with path.open('rb') as f:
    first = f.readline()
    f.seek(max(0, size - _TAIL))
    lines = f.read().split(b'\n')[:-1]
  try:
    return json.loads(first), json.loads(lines[-1])
  except (IndexError, ValueError):  # nothing whole yet
    return {}, {}
