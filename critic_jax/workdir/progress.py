"""Live progress of a phase: steps, rate, time left, and a few metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  ProgressColumn,
  TextColumn,
  TimeElapsedColumn,
  TimeRemainingColumn,
)
from rich.text import Text

from critic_jax.terminal import Console

# Shown as they come, the first few that a phase has.
SHOWN = {
  'critique/reward': 'reward',
  'critique/judge': 'judge',
  'critique/refine': 'refine',
  'solve/reward': 'reward',
  'loss/nll': 'loss',
  'loss/value': 'value loss',
}


class _Rate(ProgressColumn):
  """Steps a second."""

  def render(self, task) -> Text:
    return Text(f'{task.speed:.2f} steps/s' if task.speed else '– steps/s')


@contextlib.contextmanager
def phase(
  console: Console, name: str, steps: int, steps_done: int
) -> Iterator[Callable[[Mapping[str, float]], None]]:
  """Shows a bar; yields a function that advances it by a step's metrics.

  Where there is no terminal, it prints a line every tenth of the phase.
  """
  bar = Progress(
    TextColumn('{task.description:>12}', markup=False),
    BarColumn(),
    MofNCompleteColumn(),
    _Rate(),
    TimeElapsedColumn(),
    TextColumn('left', markup=False),
    TimeRemainingColumn(),
    TextColumn('{task.fields[metrics]}', markup=False),
    console=console,
    disable=not console.is_terminal,
  )
  task = bar.add_task(name, total=steps, completed=steps_done, metrics='')
  count = steps_done

  def advance(metrics: Mapping[str, float]) -> None:
    nonlocal count
    count += 1
    text = '  '.join(
      f'{title} {metrics[key]:.2f}'
      for key, title in SHOWN.items()
      if key in metrics
    )
    bar.update(task, advance=1, metrics=text)
    if not console.is_terminal and count % max(1, steps // 10) == 0:
      console.print(f'{name:>12} {count}/{steps}  {text}')

  with bar:
    yield advance
