"""Experiments: a question, the runs of a grid, and the table that answers.

    python -m critic_jax.launch EXPERIMENT.py [MORE.py ...] --workdir W \
        [--list | --table | --index 3 | --all | --missing] [--dry_run] \
        [--on local|slurm|tpu|gke] [--parallel N] ...

Each point of an experiment's grid is trained in a process of its own; what
several experiments have in common is trained once:

    W/seed=0-7c9e2a41/      a run, named by its settings; see experiment.py
    W/seed=0-7c9e2a41.log   what it printed, where several run
    W/rewards.md            the experiment's table, once its runs are done
    W/rewards.png           its figure; and .csv and .tex

The same command again passes over what is done, continues what was stopped, and
tries once more what failed. A failing run does not keep others from running.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from critic_jax.launch import experiment as experiment_lib
from critic_jax.launch import gke, live, processes, runs, slurm, tables, tpu
from critic_jax.launch.runs import Task

# Options of one place or two: argument of argparse, where it is needed or not.
OPTIONS = {
  'prefix': (dict(default='', help='words before training: srun'), 'local'),
  'nodes': (dict(type=int, default=1, help='that a run spans'), 'slurm gke'),
  'gpus': (dict(type=int, default=0, help='of each node'), 'slurm'),
  'name': (dict(default='critic', help='of the slices: NAME-0, ...'), 'tpu'),
  'zone': (dict(help='of the slices'), 'tpu'),
  'type': (dict(help='of a slice: v5litepod-16'), 'tpu'),
  'version': (dict(help='of its software: v2-alpha-tpuv5-lite'), 'tpu'),
  'image': (dict(help='that has this checkout in /critic_jax'), 'gke'),
  'accelerator': (dict(help='of a node: tpu-v5-lite-podslice'), 'gke'),
  'topology': (dict(default='', help='of TPUs: 4x4'), 'gke'),
  'chips': (dict(type=int, default=4, help='of each node'), 'gke'),
  'bucket': (dict(help='gs://NAME/FOLDER, where runs live'), 'tpu gke'),
  'option': (
    dict(action='append', default=[], help="sbatch's or gcloud's: --option=-X"),
    'slurm tpu',
  ),
}
_TRAIN = ('-m', 'critic_jax.train')


def command(
  task: Task, folder: Path | str, python: str, prefix: Sequence[str] = ()
) -> list[str]:
  """The words that train a run in a folder."""
  words = [*prefix, python, *_TRAIN, f'--config={task.run.config}']
  return [*words, f'--workdir={folder}', *experiment_lib.words(task.run.point)]


def chosen(
  tasks: Sequence[Task], given: argparse.Namespace, console: Console
) -> list[Task]:
  """The runs that --index, --all or --missing name, without those done."""
  if given.index is not None:
    if not 0 <= given.index < len(tasks):
      raise ValueError(
        f'index: got {given.index}; expected 0..{len(tasks) - 1}; see --list'
      )
    tasks = [tasks[given.index]]
  found = {task.name: runs.state(task.folder) for task in tasks}
  if given.missing:
    return [t for t in tasks if found[t.name] not in ('done', 'running')]
  for name, state in found.items():
    if state == 'done':
      console.print(f'{name}: was done before', highlight=False, markup=False)
  return [t for t in tasks if found[t.name] != 'done']


def launch(given: argparse.Namespace, console: Console) -> list[str]:
  """Does what the command line says; the names of the runs that failed.

  Raises:
    ValueError: an experiment or an argument is wrong, before anything runs; or
      a cluster's command failed.
  """
  _check(given)
  workdir = Path(given.workdir)
  experiments = runs.load(given.experiments)
  if given.bucket:
    _do(given, console, tpu.sync(given.bucket, workdir))
  tasks = runs.tasks(experiments, workdir)
  if given.list:
    states = [runs.state(task.folder) for task in tasks]
    console.print(live.table(tasks, states))
    return []
  failed = []
  if not given.table:
    picked = chosen(tasks, given, console)
    failed = _PLACES[given.on](given, picked, tasks, console)
    if given.dry_run or given.on in ('slurm', 'gke'):
      return failed
  for experiment in experiments:
    left = tables.left(experiment, workdir)
    if left:
      console.print(
        f'{experiment.name}: no table yet; not done: {", ".join(left)}',
        highlight=False,
      )
    elif given.table:
      tables.show(experiment, workdir, console, given.table, given.metrics)
    else:
      tables.write(experiment, workdir, console)
  return failed


def _local(given, picked, tasks, console) -> list[str]:
  prefix = shlex.split(given.prefix)

  def words(task, slot):
    return command(task, task.folder, sys.executable, prefix)

  if given.dry_run:
    for task in picked:
      _tell_state(console, task)
      _tell(console, words(task, 0))
    return []
  return processes.train(
    picked, words, console, grid=tasks, parallel=given.parallel or 1
  )


def _slurm(given, picked, tasks, console) -> list[str]:
  logs = Path(given.workdir) / 'slurm'
  words = slurm.submission(
    [sys.executable, '-m', 'critic_jax.launch', *given.experiments]
    + [f'--workdir={given.workdir}'],
    [index for index, task in enumerate(tasks) if task in picked],
    script=tpu.SCRIPTS / 'slurm.sh',
    logs=logs,
    nodes=given.nodes,
    gpus=given.gpus,
    parallel=given.parallel,
    options=given.option,
  )
  if not picked:
    console.print('nothing is left to submit')
    return []
  if not given.dry_run:
    logs.mkdir(parents=True, exist_ok=True)
  _do(given, console, words)
  return []


def _tpu(given, picked, tasks, console) -> list[str]:
  parallel = given.parallel or 1
  slices = [
    tpu.Slice(
      f'{given.name}-{slot}',
      *(given.zone, given.type, given.version, given.bucket, given.option),
    )
    for slot in range(min(parallel, len(picked)))
  ]

  def words(task, slot):
    there = command(task, f'runs/{task.name}', '.venv/bin/python')
    return slices[slot], there, task.name, task.folder

  failed = []
  if given.dry_run:
    for number, task in enumerate(picked):
      _tell_state(console, task)
      there = number >= parallel  # the slice, by an earlier run
      for step in tpu.plan(*words(task, number % parallel), there=there):
        _tell(console, step)
  else:
    failed = processes.train(
      picked,
      lambda task, slot: tpu.words(*words(task, slot)),
      console,
      grid=tasks,
      parallel=parallel,
      look_at_memory=False,
    )
  for each in slices:  # they stay if this was interrupted
    _do(given, console, each.delete())
  return failed


def _gke(given, picked, tasks, console) -> list[str]:
  pods = gke.Pods(*(getattr(given, name) for name in gke.Pods._fields))
  if given.dry_run:
    _tell(console, gke.LIST)  # what has ended is deleted first
  there = {} if given.dry_run else gke.states()
  for task in picked:
    digest = task.run.digest
    words = command(task, f'runs/{task.name}', 'python')
    job_set = gke.manifest(pods, digest, words)
    if given.dry_run:
      _tell_state(console, task)
      _tell(console, gke.APPLY)
      console.out(json.dumps(job_set, indent=1), highlight=False)
      continue
    console.print(f'{task.name}: {gke.submit(job_set, there)}')
    _tell(console, gke.follow(gke.name(digest)))
    _tell(console, gke.delete(gke.name(digest)))
  return []


_PLACES = {'local': _local, 'slurm': _slurm, 'tpu': _tpu, 'gke': _gke}


def _tell(console: Console, words: Sequence[str]) -> None:
  """Prints a command as a shell would read it."""
  console.out(f'+ {shlex.join(words)}', highlight=False)


def _tell_state(console: Console, task: Task) -> None:
  console.out(f'# {task.name}: {runs.state(task.folder)}', highlight=False)


def _do(given, console: Console, words: Sequence[str]) -> None:
  """Runs a command, or only tells it."""
  if given.dry_run:
    _tell(console, words)
  elif status := subprocess.run(words, check=False).returncode:
    raise ValueError(
      f'command: got exit status {status} of {shlex.join(words)}; expected 0'
    )


def _check(given: argparse.Namespace) -> None:
  """Checks the options against --on and each other, and sets what is left."""
  if given.parallel is not None and given.parallel < 1:
    raise ValueError(f'parallel: got {given.parallel}; expected >= 1')
  if given.metrics and not given.table:
    raise ValueError('metrics: got some without --table; expected both')
  for name, (settings, places) in OPTIONS.items():
    value, default = getattr(given, name), settings.get('default')
    if given.on not in places.split():
      if value not in (None, default):
        raise ValueError(
          f'{name}: got {value!r} with --on {given.on}; expected it with '
          f'--on {" or ".join(places.split())}'
        )
    elif value is None and not (given.list or given.table):
      raise ValueError(
        f'{name}: got nothing; expected {settings["help"]} with --on {given.on}'
      )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """The command line, read."""
  parser = argparse.ArgumentParser(
    'critic_jax.launch', description=__doc__.splitlines()[0]
  )
  add = parser.add_argument
  add('experiments', nargs='+', metavar='EXPERIMENT.py')
  add('--workdir', required=True, help='the folder of the runs')
  what = parser.add_mutually_exclusive_group()
  what.add_argument('--list', action='store_true', help='print runs and states')
  what.add_argument('--index', type=int, help='train this run only, as listed')
  what.add_argument(
    '--all', action='store_true', help='train what is not done (the default)'
  )
  what.add_argument(
    '--missing', action='store_true', help='the same, done runs not named'
  )
  what.add_argument(
    '--table',
    nargs='?',
    const='text',
    choices=tables.FORMATS,
    help='print mean and interval over seeds',
  )
  add('--metrics', nargs='+', default=[], help="instead of the TABLE's")
  add('--on', choices=_PLACES, default='local', help='where runs are trained')
  add('--parallel', type=int, metavar='N', help='runs at once')
  add('--dry_run', action='store_true', help='print what would run')
  for name, (settings, places) in OPTIONS.items():
    text = f'--on {" or ".join(places.split())}: {settings["help"]}'
    add(f'--{name}', **settings | dict(help=text))
  return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
  """The command line."""
  try:
    failed = launch(parse(arguments), Console())
  except ValueError as error:
    sys.exit(f'error: {error}')
  if failed:
    sys.exit(f'error: {len(failed)} runs failed: {", ".join(failed)}')


if __name__ == '__main__':
  signal.signal(signal.SIGTERM, lambda *_: sys.exit('error: terminated'))
  main()
