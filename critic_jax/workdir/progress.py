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
_FIRST = 'compiling'  # shown until there are metrics


class _Rate(ProgressColumn):
  """Steps a second."""

  def render(self, task) -> Text:
    return Text(f'{task.speed:.2f} steps/s' if task.speed else '– steps/s')


def tell_done(console: Console, steps: Mapping[str, int], done: int) -> None:
  """Says where a run goes on, if a part of it was done before.

  Args:
    console: where it is shown.
    steps: the steps of each phase, in order.
    done: steps of the run that were done.
  """
  total, start = sum(steps.values()), 0
  for name, number in steps.items():
    if 0 < done < start + number:
      console.print(
        f'{name}: resumes at step {done - start} of {number}; {done} of all '
        f'{total} steps were done before'
      )
      return
    start += number
  if done:
    console.print(f'all {total} steps were done before')


@contextlib.contextmanager
def phase(
  console: Console, name: str, steps: int, steps_done: int
) -> Iterator[Callable[[Mapping[str, float]], None]]:
  """Shows a bar; yields a function that advances it by a step's metrics.

  Where there is no terminal, it prints a line at the beginning and every tenth
  of the phase. Until the first step is done, it says that programs compile.
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
  task = bar.add_task(name, total=steps, completed=steps_done, metrics=_FIRST)
  count = steps_done
  if not console.is_terminal and count < steps:
    console.print(f'{name:>12} {count}/{steps}  {_FIRST}')

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
