"""What notebooks call to look at a run: six functions over its folder.

    run = load('runs/refcritic')
    metrics(run)['critique/reward']          columns of metrics.jsonl
    critiques = records(run, 100)          what was written at step 100
    print(show(critiques[-1]))             one of them, from the problem down
    compare([run, other], 'critique/judge')  a curve for each run
    replay(run, 100, critique.metrics)     metrics anew, from what was saved

They only read, and need no device, no jax and no pandas.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from critic_jax import run_dir
from critic_jax.types import Record

_SUFFIX = '.jsonl.gz'


class Run(NamedTuple):
  """A run's folder, opened for reading.

  Attributes:
    path: the folder.
    config: what it was run with.
    state: 'done', 'failed', or 'unfinished'.
    steps: the saved files of records by phase, {'rl': [0, 100]}; those of
      evaluations are under 'eval/<protocol>' and may have names for steps.
  """

  path: Path
  config: dict[str, Any]
  state: str
  steps: dict[str, list[int | str]]


def load(path: str | Path) -> Run:
  """Opens a run's folder.

  Raises:
    ValueError: it holds no config.json.
  """
  path = Path(path)
  config = path / 'config.json'
  if not config.exists():
    raise ValueError(
      f'run: got {str(path)!r} without a config.json; expected the folder of a '
      'run; give the --workdir of critic_jax.train'
    )
  state = 'failed' if (path / 'FAILED').exists() else 'unfinished'
  state = 'done' if (path / 'DONE').exists() else state
  steps = {}
  files = [*path.glob(f'records/**/*{_SUFFIX}')]
  files += path.glob(f'eval/**/*{_SUFFIX}')
  for file in sorted(files):
    folder = file.parent.relative_to(path).as_posix()
    stem = file.name.removesuffix(_SUFFIX)
    step = int(stem) if stem.isdigit() else stem
    steps.setdefault(folder.removeprefix('records/'), []).append(step)
  return Run(path, json.loads(config.read_text()), state, steps)


def metrics(run: Run) -> dict[str, np.ndarray]:
  """The lines of metrics.jsonl as columns of equal length, oldest first.

  Returns:
    'step' int[N], 'phase' str[N], 'time' float[N] (seconds since 1970), and
    float[N] for each metric, NaN in the lines that lack it.
  """
  rows = list(run_dir.read_metrics(run.path / 'metrics.jsonl'))
  names = dict.fromkeys(['step', 'phase', 'time'])
  names.update(dict.fromkeys(name for row in rows for name in row))
  kinds = {'step': int, 'phase': str}
  return {
    name: np.array(
      [row.get(name, np.nan) for row in rows], kinds.get(name, float)
    )
    for name in names
  }


def records(run: Run, step: int | str, phase: str = 'rl') -> list[Record]:
  """The records saved at a step, in the order they were written.

  Args:
    run: see `load`.
    step: one of `run.steps[phase]`.
    phase: a key of `run.steps`, e.g. 'rl' or 'eval/critique'.

  Raises:
    ValueError: none were saved there, or the file is truncated.
  """
  return run_dir.read_records(records_path(run, step, phase))


def records_path(run: Run, step: int | str, phase: str) -> Path:
  """The file that holds the records of a step; arguments as of `records`."""
  if step not in run.steps.get(phase, []):
    raise ValueError(
      f'records: got step {step!r} of phase {phase!r}; expected one of '
      f'{run.steps}'
    )
  stem = step if isinstance(step, str) else f'{step:06d}'
  folder = phase if phase.split('/')[0] == 'eval' else f'records/{phase}'
  if phase == 'records':  # files that lie in records/ itself
    folder = phase
  return run.path / folder / f'{stem}{_SUFFIX}'


def show(record: Record, *, color: bool = False) -> str:
  """The chain from the problem down to a record, as text.

  Args:
    record: e.g. a refinement: then its problem, solution and critique come
      first.
    color: whether to frame the messages with terminal colours.
  """
  problem = record.problem
  parts = [(f'{problem.id}, reference {problem.answer}', problem.question)]
  for message in reversed(list(record.chain)):
    parts.append((_title(message), message.text.strip()))
  if not color:
    return '\n\n'.join(f'--- {title} ---\n{text}' for title, text in parts)
  console = Console(file=io.StringIO(), force_terminal=True, width=80)
  for title, text in parts:
    panel = Panel(Text(text), title=Text(title, 'bold'), title_align='left')
    console.print(panel)
  return console.file.getvalue()


def _title(record: Record) -> str:
  """One line: which message it is, what was found in it and what it earned."""
  facts = [f'{record.stage}.{record.index}']
  facts += [
    f'{name} {value}'
    for name, value in record.parsed.items()
    if name != 'conclusion' and value is not None
  ]
  facts += [f'{name} {score:.2f}' for name, score in record.scores.items()]
  end = '' if record.finish == 'stop' else f' (finish {record.finish})'
  return ', '.join(facts) + f', {len(record.tokens)} tokens{end}'


def compare(
  runs: Sequence[Run], metric: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """A metric's curve for each run: {folder's name: (steps, values)}.

  Raises:
    ValueError: a run never logged the metric; names what it did log.
  """
  curves = {}
  for run in runs:
    columns = metrics(run)
    if metric not in columns:
      raise ValueError(
        f'metric: got {metric!r}, which {run.path} never logged; expected one '
        f'of {sorted(set(columns) - {"step", "phase", "time"})}'
      )
    logged = ~np.isnan(columns[metric])
    name = run.path.name if run.path.name not in curves else str(run.path)
    curves[name] = columns['step'][logged], columns[metric][logged]
  return curves


def replay(
  run: Run,
  step: int | str,
  metrics_fn: Callable[[list[Record]], Any],
  phase: str = 'rl',
) -> Any:
  """`metrics_fn` of the records saved at a step, e.g. evals.critique.metrics.

  What was measured can be measured anew, and a metric that was thought of later
  can be had of old runs.
  """
  return metrics_fn(records(run, step, phase))
