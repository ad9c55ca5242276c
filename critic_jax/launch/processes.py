"""Runs as processes of this machine: several at once, as memory allows.

While one trains, another starts only if it fits: it is taken to need the most
that any run of the grid was seen to need, those under way to grow to as much.
Of a grid that was never run nothing is known; its first run is alone until it
has logged a step.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import rich.table
from rich.console import Console

from critic_jax.inspection import reading
from critic_jax.launch import live, runs
from critic_jax.launch.runs import Task

# (run, number of its slot) -> the words of its command
Command = Callable[[Task, int], Sequence[str]]

_POLL_S = 0.5
_STEP_S = 60.0  # for a run to end its step and to save it
_GRACE_S = 5.0  # for a run to end by itself


class Going(NamedTuple):
  """A run under way."""

  task: Task
  process: subprocess.Popen
  slot: int
  lock: int
  started: float


def train(
  tasks: Sequence[Task],
  command: Command,
  console: Console,
  *,
  grid: Sequence[Task] | None = None,
  parallel: int = 1,
  look_at_memory: bool = True,
) -> list[str]:
  """Trains runs; the names of those that failed.

  What is done is passed over, and what another process trains left alone. If
  this is interrupted, the runs under way are stopped; they continue when they
  are started again.

  Args:
    tasks: what to train. Of a single one the output is shown, of several it
      goes to their logs.
    command: what trains a run.
    console: where it is told.
    grid: all runs that the live table shows; None: `tasks`.
    parallel: how many are trained at once, in slots 0 to `parallel` - 1.
    look_at_memory: whether they share this machine's memory.
  """
  work = _Work(tasks, grid or tasks, command, console, parallel, look_at_memory)
  with contextlib.ExitStack() as stack:
    draw = stack.enter_context(live.shown(console, len(tasks) > 1))
    stack.callback(work.stop)
    while work.waiting or work.going:
      work.reap()
      while work.waiting and work.has_room():
        work.start(work.waiting.pop(0))
      draw(work.table)
      if work.going:
        time.sleep(_POLL_S)
    draw(work.table)
  return [task.name for task in tasks if task.name in work.failed]


class _Work:
  """What waits, what goes, what failed."""

  def __init__(self, tasks, grid, command, console, parallel, look_at_memory):
    self.grid, self.command, self.console = grid, command, console
    self.parallel, self.look_at_memory = parallel, look_at_memory
    self.waiting = list(tasks)
    self.logged = len(tasks) > 1
    self.going: list[Going] = []
    self.failed: set[str] = set()
    self.told = ''

  def has_room(self) -> bool:
    """Whether one more run may start; tells why not if it is for memory."""
    if not self.going or len(self.going) >= self.parallel:
      return not self.going
    if not self.look_at_memory:
      return True
    why = self._no_memory()
    if why and why != self.told:
      self.console.print(why, highlight=False)
    self.told = why
    return not why

  def _no_memory(self) -> str:
    sizes = [resident(going.process.pid) for going in self.going]
    logged = max(logged_peak(task.folder) for task in self.grid)
    if not logged:
      return 'memory: others wait for a first step, to know what a run takes'
    peak, free = max(logged, *sizes), psutil.virtual_memory().available
    if fits(sizes, peak, free):
      return ''
    return (
      f'memory: {len(self.waiting)} wait; a run takes {peak / 2**30:.1f} GiB, '
      f'to which {len(sizes)} under way may grow'
    )

  def start(self, task: Task) -> None:
    """Starts a run, unless it is done or another process has it."""
    if runs.state(task.folder) == 'done':
      self._say(task, 'was done before')
      return
    beside = '' if task.folder.exists() else runs.others(task)
    lock = runs.hold(task.folder)
    if lock is None:
      self._say(task, 'is trained by another process; left alone')
      return
    self._say(task, f'starts; {beside}' if beside else 'starts')
    slot = min(set(range(self.parallel)) - {going.slot for going in self.going})
    log = task.log if self.logged else None
    process = start_process(self.command(task, slot), log, lock)
    self.going.append(Going(task, process, slot, lock, time.monotonic()))

  def reap(self) -> None:
    """Takes note of the runs that have ended."""
    for going in [g for g in self.going if g.process.poll() is not None]:
      self._forget(going)
      task = going.task
      done = reading.state(task.folder) == 'done'
      ok = going.process.returncode == 0 and done
      took = f'after {(time.monotonic() - going.started) / 60:.1f} min'
      where = f'; see {task.log}' if self.logged else ''
      self._say(task, f'{"done" if ok else "failed"} {took}{where}')
      if not ok:
        self.failed.add(task.name)

  def table(self) -> rich.table.Table:
    """As `live.table` has it."""
    under_way = {going.task.name: going.started for going in self.going}
    wait = {task.name for task in self.waiting}
    states = []
    for task in self.grid:
      state = runs.state(task.folder)
      state = 'running' if task.name in under_way else state
      state = 'failed' if task.name in self.failed else state
      waits = task.name in wait and state != 'done'
      states.append('waiting' if waits else state)
    now = time.monotonic()
    seconds = {name: now - started for name, started in under_way.items()}
    return live.table(self.grid, states, seconds, self.console.height - 6)

  def stop(self) -> None:
    """Stops what is under way, more and more firmly."""
    firmly = ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S))
    for number, patience_s in ((signal.SIGTERM, _STEP_S), *firmly):
      for going in self.going:
        going.process.send_signal(number)
      until = time.monotonic() + patience_s
      for going in list(self.going):
        with contextlib.suppress(subprocess.TimeoutExpired):
          going.process.wait(max(0.0, until - time.monotonic()))
          self._forget(going)

  def _forget(self, going: Going) -> None:
    self.going.remove(going)
    os.close(going.lock)

  def _say(self, task: Task, text: str) -> None:
    self.console.print(f'{task.name}: {text}', highlight=False, markup=False)


def start_process(
  command: Sequence[str], log: Path | None, lock: int
) -> subprocess.Popen:
  """Starts a command that inherits `lock`; prints here or adds to `log`."""
  if log is None:
    return subprocess.Popen(command, pass_fds=[lock])
  with log.open('a') as f:
    return subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=f,
      stderr=f,
      pass_fds=[lock],
    )


def fits(sizes: Sequence[float], peak: float, free: float) -> bool:
  """Whether another run fits beside some, if each may come to take `peak`.

  >>> fits([2, 3], peak=3, free=4)  # 3 for it, and 1 that the first may grow
  True
  >>> fits([2, 2], peak=3, free=4)
  False
  """
  return peak + sum(max(peak - size, 0) for size in sizes) <= free


def resident(pid: int) -> int:
  """Bytes of memory of a process and its children; 0 if it has ended."""
  try:
    process = psutil.Process(pid)
    every = [process, *process.children(recursive=True)]
    return sum(each.memory_info().rss for each in every)
  except psutil.NoSuchProcess:
    return 0


def logged_peak(folder: Path) -> float:
  """Bytes that a run had taken when it last logged a step; 0: it never did."""
  _, last = live.ends(folder / 'metrics.jsonl')
  return float(last.get('memory/host_gib', 0.0)) * 2**30
