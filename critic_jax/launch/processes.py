"""Runs as processes of this machine: several at once, as memory allows.

While one trains, another starts only if it fits: each is taken to need as much
as the largest run of the grid so far, and those under way to grow to that. In a
grid that was never run the first run is alone until it has logged a step.
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

from critic_jax import files
from critic_jax.inspection import reading
from critic_jax.launch import live, runs
from critic_jax.launch.runs import Task
from critic_jax.terminal import Console

# (run, number of its slot) -> words of its command
Command = Callable[[Task, int], Sequence[str]]

_POLL_S = 0.5
_STEP_S = 600.0  # a run has to end its step and to save it
_GRACE_S = 5.0  # a run has to end by itself


class Training(NamedTuple):
  """A run under way.

  Attributes:
    task: the run.
    process: the process that trains it.
    slot: the number of its slot, from 0 to `parallel` - 1.
    lock: the open file of `runs.hold`.
    start_s: its start in seconds of `time.monotonic`.
  """

  task: Task
  process: subprocess.Popen
  slot: int
  lock: int
  start_s: float


def train(
  tasks: Sequence[Task],
  command: Command,
  console: Console,
  *,
  grid: Sequence[Task] | None = None,
  parallel: int = 1,
) -> list[str]:
  """Trains runs and returns the names of those that failed.

  Runs that are done or that another process trains are passed over. If this is
  interrupted, the runs under way end their steps and save them, or end at once
  if it is interrupted again; they continue when they are started again.

  Args:
    tasks: the runs to train. The output of a single one is shown, that of
      several goes to their logs.
    command: makes the command that trains a run.
    console: prints what happens.
    grid: all runs that the live table shows; None: `tasks`.
    parallel: the number of runs at once, in slots 0 to `parallel` - 1.
  """
  queue = _Queue(tasks, grid or tasks, command, console, parallel)
  with contextlib.ExitStack() as stack:
    draw = stack.enter_context(live.drawer(console, len(tasks) > 1))
    stack.callback(queue.stop)
    while queue.waiting or queue.running:
      queue.reap()
      while queue.waiting and queue.has_room():
        queue.start(queue.waiting.pop(0))
      draw(queue.table)
      if queue.running:
        time.sleep(_POLL_S)
    draw(queue.table)
  return [task.name for task in tasks if task.name in queue.failed]


class _Queue:
  """The runs that wait, that are under way, and that failed."""

  def __init__(self, tasks, grid, command, console, parallel):
    self.grid, self.command, self.console = grid, command, console
    self.parallel = parallel
    self.waiting = list(tasks)
    self.has_logs = len(tasks) > 1
    self.running: list[Training] = []
    self.failed: set[str] = set()
    self.last_reason = ''

  def has_room(self) -> bool:
    """Whether one more run may start; prints it where memory does not allow."""
    if not self.running or len(self.running) >= self.parallel:
      return not self.running
    reason = self._memory_shortage()
    if reason and reason != self.last_reason:
      self.console.print(reason, highlight=False)
    self.last_reason = reason
    return not reason

  def _memory_shortage(self) -> str:
    """Says why memory does not allow another run; '' if it does."""
    sizes = [resident_bytes(run.process.pid) for run in self.running]
    largest = max(logged_peak(task.folder) for task in self.grid)
    if not largest:
      return 'memory: others wait for a first step, to know what a run takes'
    peak, free = max(largest, *sizes), psutil.virtual_memory().available
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
    warning = '' if task.folder.exists() else runs.run_of_same_label(task)
    lock = runs.hold(task.folder)
    if lock is None:
      self._say(task, 'is trained by another process; left alone')
      return
    self._say(task, f'starts; {warning}' if warning else 'starts')
    slot = min(set(range(self.parallel)) - {run.slot for run in self.running})
    log = task.log if self.has_logs else None
    process = start_process(self.command(task, slot), log, lock)
    self.running.append(Training(task, process, slot, lock, time.monotonic()))

  def reap(self) -> None:
    """Removes the runs that have ended, and prints how they ended."""
    for run in [r for r in self.running if r.process.poll() is not None]:
      self._remove(run)
      task = run.task
      is_saved = reading.state(task.folder) == 'done'
      ok = run.process.returncode == 0 and is_saved
      duration = f'after {(time.monotonic() - run.start_s) / 60:.1f} min'
      log = f'; see {task.log}' if self.has_logs else ''
      self._say(task, f'{"done" if ok else "failed"} {duration}{log}')
      if not ok:
        self.failed.add(task.name)

  def table(self) -> rich.table.Table:
    """Returns the live table of the grid."""
    start_of_run = {run.task.name: run.start_s for run in self.running}
    waiting_names = {task.name for task in self.waiting}
    states = []
    for task in self.grid:
      state = runs.state(task.folder)
      state = 'running' if task.name in start_of_run else state
      state = 'failed' if task.name in self.failed else state
      waits = task.name in waiting_names and state != 'done'
      states.append('waiting' if waits else state)
    now = time.monotonic()
    seconds = {name: now - start_s for name, start_s in start_of_run.items()}
    return live.table(self.grid, states, seconds, self.console.height - 6)

  def stop(self) -> None:
    """Stops the runs under way, more and more firmly; each Ctrl-C more so."""
    if self.running:
      self.console.print(
        f'interrupted: {len(self.running)} under way end their steps and save '
        'them; Ctrl-C ends them at once',
        highlight=False,
      )
    # The first signal ends a run after its step, a second one at once.
    for number, patience_s in (
      (signal.SIGTERM, _STEP_S),
      (signal.SIGTERM, _GRACE_S),
      (signal.SIGKILL, _GRACE_S),
    ):
      for run in self.running:
        # A prefix such as srun need not pass it on: all of its group get it.
        with contextlib.suppress(ProcessLookupError):
          os.killpg(run.process.pid, number)
      with contextlib.suppress(KeyboardInterrupt, SystemExit):
        self._wait(patience_s)

  def _wait(self, patience_s: float) -> None:
    """Waits for the runs under way to end, at most so long."""
    deadline = time.monotonic() + patience_s
    for run in list(self.running):
      with contextlib.suppress(subprocess.TimeoutExpired):
        run.process.wait(max(0.0, deadline - time.monotonic()))
        self._remove(run)

  def _remove(self, run: Training) -> None:
    self.running.remove(run)
    os.close(run.lock)

  def _say(self, task: Task, text: str) -> None:
    self.console.print(f'{task.name}: {text}', highlight=False)


def start_process(
  command: Sequence[str], log: Path | None, lock: int
) -> subprocess.Popen:
  """Starts a command that inherits `lock`; it prints to `log` if given.

  It has a group of processes of its own: a terminal's Ctrl-C does not reach it,
  and is not a second signal after the one that it is sent here.
  """
  if log is None:
    return subprocess.Popen(command, pass_fds=[lock], process_group=0)
  with files.open_to_add(log) as f:
    return subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=f,
      stderr=f,
      pass_fds=[lock],
      process_group=0,
    )


def fits(sizes: Sequence[float], peak: float, free: float) -> bool:
  """Whether another run fits in free memory, if each may grow to `peak`.

  >>> fits([2, 3], peak=3, free=4)  # 3 for it, and 1 for the first to grow
  True
  >>> fits([2, 2], peak=3, free=4)
  False
  """
  return peak + sum(max(peak - size, 0) for size in sizes) <= free


def resident_bytes(pid: int) -> int:
  """Returns the memory of a process and its children; 0 if it has ended."""
  try:
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(member.memory_info().rss for member in family)
  except psutil.NoSuchProcess:
    return 0


def logged_peak(folder: Path) -> float:
  """Returns a run's bytes when it last logged a step; 0 if it never did."""
  _, last = live.ends(folder / 'metrics.jsonl')
  return float(last.get('memory/host_gib', 0.0)) * 2**30
