"""Experiments: a question, the runs of a grid, and the table that answers.

    python -m critic_jax.launch experiments/rewards.py [MORE.py ...] \
        --workdir runs/evidence [--list | --index 3] [--parallel 2]

Each point of an experiment's grid is trained in a process of its own; what
several experiments have in common is trained once:

    <workdir>/seed=0/       a run
    <workdir>/seed=0.log    what it printed, where several run at once
    <workdir>/rewards.md    the experiment's table, once its runs are done
    <workdir>/rewards.png   its figure

The same command again passes over what is done, continues what was stopped, and
tries once more what failed. A failing run does not keep others from running.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import rich.box
import rich.table
from rich.console import Console

from critic_jax import experiment as experiment_lib
from critic_jax import inspection, summary, summary_plots
from critic_jax.experiment import Experiment, Point


def launch(
  paths: Sequence[str | Path],
  workdir: str | Path,
  *,
  index: int | None = None,
  parallel: int = 1,
  console: Console | None = None,
) -> list[str]:
  """Trains the runs of experiments; writes the tables of those that are done.

  Args:
    paths: of the experiments' files.
    workdir: the folder of the runs.
    index: of the only run to train, as listed; None: all.
    parallel: how many are trained at once on this machine.
    console: where it is told.

  Returns:
    The names of the runs that failed.

  Raises:
    ValueError: an experiment or an argument is wrong; before anything runs.
  """
  console, workdir = console or Console(), Path(workdir)
  experiments, points = _load(paths, workdir)
  if index is not None and not 0 <= index < len(points):
    raise ValueError(f'index: got {index}; expected 0..{len(points) - 1}')
  if parallel < 1:
    raise ValueError(f'parallel: got {parallel}; expected >= 1')
  if index is not None:
    points = dict([list(points.items())[index]])
  failed = train(experiments[0].config, points, workdir, parallel, console)
  for experiment in experiments:
    left = [n for n in experiment.points if state(workdir / n) != 'done']
    if left:
      console.print(
        f'{experiment.name}: no table yet; not done: {", ".join(left)}'
      )
    else:
      write_table(experiment, workdir, console)
  return failed


def _load(paths, workdir) -> tuple[list[Experiment], dict[str, Point]]:
  """The experiments, and the points of all of them, each once."""
  experiments = [experiment_lib.load(path) for path in paths]
  experiment_lib.check_folders(experiments, workdir)
  return experiments, {k: v for e in experiments for k, v in e.points.items()}


def states(paths: Sequence[str | Path], workdir: str | Path) -> dict[str, str]:
  """The runs of experiments, in the order of --index, and their states."""
  _, points = _load(paths, Path(workdir))
  return {name: state(Path(workdir) / name) for name in points}


def state(folder: Path) -> str:
  """'done', 'failed', 'unfinished' or 'absent'."""
  there = (folder / 'config.json').exists()
  return inspection.load(folder).state if there else 'absent'


def train(
  config: str,
  points: Mapping[str, Point],
  workdir: Path,
  parallel: int,
  console: Console,
) -> list[str]:
  """Trains what is not done; returns the names of what failed."""
  failed = []

  def one(name: str) -> None:
    folder, started = workdir / name, time.perf_counter()
    if state(folder) == 'done':
      console.print(f'{name}: was done before')
      return
    console.print(f'{name}: starts')
    log = workdir / f'{name}.log' if parallel > 1 else None
    command = [sys.executable, '-m', 'critic_jax.train', f'--config={config}']
    command += [f'--workdir={folder}', *experiment_lib.words(points[name])]
    ok = run_command(command, log) == 0 and state(folder) == 'done'
    took = f'after {(time.perf_counter() - started) / 60:.1f} min'
    where = f'; see {log}' if log else ''
    console.print(f'{name}: {"done" if ok else "failed"} {took}{where}')
    if not ok:
      failed.append(name)

  pool = concurrent.futures.ThreadPoolExecutor(parallel)
  try:
    for future in [pool.submit(one, name) for name in points]:
      future.result()
  finally:  # if this process is interrupted, what waits does not start
    pool.shutdown(cancel_futures=True)
  return [name for name in points if name in failed]


def run_command(command: Sequence[str], log: Path | None) -> int:
  """Runs a command, its output here or at the end of `log`; the exit status."""
  if log is None:
    return subprocess.run(command, check=False).returncode
  log.parent.mkdir(parents=True, exist_ok=True)
  with log.open('a') as f:
    return subprocess.run(command, stdout=f, stderr=f, check=False).returncode


def write_table(
  experiment: Experiment, workdir: Path, console: Console
) -> None:
  """Prints an experiment's tables and writes <name>.md and <name>.png."""
  tables = experiment.tables
  runs = [
    (point, inspection.all_results(inspection.load(workdir / name)))
    for name, point in experiment.points.items()
  ]
  try:
    text = summary.markdown(tables, runs)
  except ValueError as error:
    raise ValueError(f'{experiment.name}: {error}') from error
  path = workdir / f'{experiment.name}.md'
  image = path.with_suffix('.png')
  path.write_text(
    f'# {experiment.question}\n\n{text}\n![Figure]({image.name})\n'
  )
  summary_plots.write(tables, runs, image)
  console.print(f'\n{experiment.question}', markup=False, highlight=False)
  for table in tables:
    console.print(summary.terminal(table, runs))
  console.print(summary.caption(tables, runs), markup=False, highlight=False)
  console.print(f'{path}\n{image}', soft_wrap=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> None:
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('experiments', nargs='+', metavar='EXPERIMENT.py')
  parser.add_argument('--workdir', required=True, help='the folder of the runs')
  what = parser.add_mutually_exclusive_group()
  what.add_argument('--list', action='store_true', help='print runs and states')
  what.add_argument('--index', type=int, help='train this run only, as listed')
  parser.add_argument(
    '--parallel', type=int, default=1, metavar='N', help='runs at once'
  )
  given = parser.parse_args(arguments)
  try:
    if given.list:
      _show(states(given.experiments, given.workdir))
      return
    failed = launch(
      given.experiments,
      given.workdir,
      index=given.index,
      parallel=given.parallel,
    )
  except ValueError as error:
    sys.exit(f'error: {error}')
  if failed:
    sys.exit(f'error: {len(failed)} runs failed: {", ".join(failed)}')


def _show(found: Mapping[str, str]) -> None:
  table = rich.table.Table('index', 'run', 'state', box=rich.box.SIMPLE_HEAD)
  for index, (name, what) in enumerate(found.items()):
    table.add_row(str(index), name, what)
  Console().print(table)


if __name__ == '__main__':
  main()
