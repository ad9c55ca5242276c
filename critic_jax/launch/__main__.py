"""Trains the runs of experiments, here or on a cluster, and prints tables.

    python -m critic_jax.launch EXPERIMENT.py [MORE.py ...] --workdir W \
        [--list | --table | --index 3 | --all | --missing] [--dry_run] \
        [--on local|slurm|sky] [--parallel N] ...

Each point of an experiment's grid is trained in a process of its own; a run of
several experiments is trained once:

    W/seed=0-7c9e2a41/      a run, named by its settings; see experiment.py
    W/seed=0-7c9e2a41.log   its output, where several run
    W/rewards.md            the experiment's table, once its runs are done
    W/rewards.png           its figure; and .csv and .tex

The same command again passes over the runs that are done, continues those that
were stopped, and tries those that failed once more. A failing run does not keep
others from running.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from critic_jax import files
from critic_jax.launch import experiment as experiment_lib
from critic_jax.launch import live, processes, runs, sky, slurm, tables
from critic_jax.launch.runs import Task
from critic_jax.terminal import Console, printable

_EXAMPLES = """\
examples:
  python -m critic_jax.launch experiments/rewards.py --workdir runs/rewards
  python -m critic_jax.launch experiments/rewards.py --workdir runs/rewards \\
      --on slurm --gpus 8 --parallel 4 --dry_run
"""
# Options of some places: (arguments of argparse, the places they belong to).
OPTIONS = {
  'prefix': (dict(default='', help='words before training: srun'), 'local'),
  'nodes': (
    dict(type=int, default=1, help='number of nodes that a run spans'),
    'slurm sky',
  ),
  'gpus': (dict(type=int, default=0, help='GPUs of each node'), 'slurm'),
  'option': (
    dict(action='append', default=[], help='option of sbatch'),
    'slurm',
  ),
  'accelerators': (dict(help='tpu-v5litepod-16, or H100:8'), 'sky'),
  'infra': (
    dict(default='', help='where: gcp/us-west4/us-west4-a, or k8s'),
    'sky',
  ),
  'version': (
    dict(default='', help='software of a TPU: v2-alpha-tpuv5-lite'),
    'sky',
  ),
  'spot': (
    dict(action='store_true', help='machines that may be preempted'),
    'sky',
  ),
  'bucket': (dict(help='gs://NAME/FOLDER, where runs live'), 'sky'),
}
_INTERRUPTED = 128 + signal.SIGINT  # the exit status, as shells have it
_TRAIN = ('-m', 'critic_jax.train')


def command(
  task: Task, folder: Path | str, python: str, prefix: Sequence[str] = ()
) -> list[str]:
  """Returns the words that train a run in a folder."""
  words = [*prefix, python, *_TRAIN, f'--config={task.run.config}']
  return [*words, f'--workdir={folder}', *experiment_lib.words(task.run.point)]


def select(
  tasks: Sequence[Task], args: argparse.Namespace, console: Console
) -> list[Task]:
  """Returns the runs that --index, --all or --missing select and are not done.

  Raises:
    ValueError: no run has this index.
  """
  if args.index is not None:
    if not 0 <= args.index < len(tasks):
      raise ValueError(
        f'index: got {args.index}; expected 0..{len(tasks) - 1}; see --list'
      )
    tasks = [tasks[args.index]]
  states = {task.name: runs.state(task.folder) for task in tasks}
  if args.missing:
    return [t for t in tasks if states[t.name] not in ('done', 'running')]
  for name, state in states.items():
    if state == 'done':
      console.print(f'{name}: was done before', highlight=False)
  return [t for t in tasks if states[t.name] != 'done']


def launch(args: argparse.Namespace, console: Console) -> list[str]:
  """Does what the command line says.

  Returns:
    The names of the runs that failed.

  Raises:
    ValueError: an experiment or an argument is wrong, before anything runs; or
      a cluster's command failed.
  """
  _check(args)
  workdir = Path(args.workdir)
  experiments = runs.load(args.experiments)
  if args.bucket:
    _run(args, console, sky.sync(args.bucket, workdir))
  tasks = runs.tasks(experiments, workdir)

  # List.
  if args.list:
    states = [runs.state(task.folder) for task in tasks]
    console.print(live.table(tasks, states))
    return []

  # Train.
  failed = []
  if not args.table:
    selected = select(tasks, args, console)
    failed = _PLACES[args.on](args, selected, tasks, console)
    if args.dry_run or args.on in ('slurm', 'sky'):
      return failed

  # Print and write the tables of the experiments whose runs are done.
  for experiment in experiments:
    unfinished = tables.unfinished(experiment, workdir)
    if unfinished:
      console.print(
        f'{experiment.name}: no table yet; not done: {", ".join(unfinished)}',
        highlight=False,
      )
    elif args.table:
      tables.show(experiment, workdir, console, args.table, args.metrics)
    else:
      tables.write(experiment, workdir, console)
  return failed


def _local(args, selected, tasks, console) -> list[str]:
  prefix = shlex.split(args.prefix)

  def words(task, slot):
    return command(task, task.folder, sys.executable, prefix)

  if args.dry_run:
    for task in selected:
      _print_state(console, task)
      _print_command(console, words(task, 0))
    return []
  return processes.train(
    selected, words, console, grid=tasks, parallel=args.parallel or 1
  )


def _slurm(args, selected, tasks, console) -> list[str]:
  logs = Path(args.workdir) / 'slurm'
  words = slurm.submission(
    slurm.Job(args.nodes, args.gpus, args.parallel, args.option),
    [sys.executable, '-m', 'critic_jax.launch', *args.experiments]
    + [f'--workdir={args.workdir}'],
    [index for index, task in enumerate(tasks) if task in selected],
    script=sky.SCRIPTS / 'slurm.sh',
    logs=logs,
  )
  if not selected:
    console.print('nothing is left to submit')
    return []
  if not args.dry_run:
    logs.mkdir(parents=True, exist_ok=True)
  _run(args, console, words)
  return []


def _sky(args, selected, tasks, console) -> list[str]:
  machines = sky.Machines(*(getattr(args, k) for k in sky.Machines._fields))
  if args.dry_run:
    _print_command(console, sky.QUEUE)  # a job that is under way is left alone
  jobs = set() if args.dry_run else sky.unfinished()
  for task in selected:
    digest, folder = task.run.digest, f'{sky.FOLDER}/{task.name}'
    file = Path(args.workdir) / 'sky' / f'{sky.name(digest)}.yaml'
    words = command(task, folder, '.venv/bin/python')
    text = sky.text(sky.task(machines, digest, words))
    if args.dry_run:
      _print_state(console, task)
      console.out(text, highlight=False)
      _print_command(console, sky.submit(file))
      continue
    if sky.name(digest) in jobs:
      console.print(f'{task.name}: is under way already', highlight=False)
    else:
      files.replace(file, text.encode())
      _run(args, console, sky.submit(file))
      console.print(f'{task.name}: submitted', highlight=False)
    _print_command(console, sky.follow(digest))
    _print_command(console, sky.cancel(digest))
  return []


_PLACES = {'local': _local, 'slurm': _slurm, 'sky': _sky}


def _print_command(console: Console, words: Sequence[str]) -> None:
  """Prints a command as a shell would read it."""
  console.out(f'+ {shlex.join(words)}', highlight=False)


def _print_state(console: Console, task: Task) -> None:
  console.out(f'# {task.name}: {runs.state(task.folder)}', highlight=False)


def _run(args, console: Console, words: Sequence[str]) -> None:
  """Runs a command; --dry_run only prints it."""
  if args.dry_run:
    _print_command(console, words)
    return
  try:
    status = subprocess.run(words, check=False).returncode
  except FileNotFoundError:
    raise ValueError(
      f'{words[0]}: got no such command; expected it on the PATH; run this on '
      'a machine of the cluster, or give --dry_run to see the commands'
    ) from None
  if status:
    raise ValueError(
      f'command: got exit status {status} of {shlex.join(words)}; expected 0'
    )


def _check(args: argparse.Namespace) -> None:
  """Checks the options against --on and each other."""
  if args.parallel is not None and args.parallel < 1:
    raise ValueError(f'parallel: got {args.parallel}; expected >= 1')
  if args.metrics and not args.table:
    raise ValueError('metrics: got some without --table; expected both')
  if args.on in ('slurm', 'sky') and not sky.SCRIPTS.is_dir():
    raise ValueError(
      f'on: got {args.on}, whose scripts are not beside the installed '
      'critic_jax; expected a checkout, which is what machines are given; '
      'clone the repository and start this command there'
    )
  for name, (settings, places) in OPTIONS.items():
    value, default = getattr(args, name), settings.get('default')
    if args.on not in places.split():
      if value not in (None, False, default):
        raise ValueError(
          f'{name}: got {value!r} with --on {args.on}; expected it with '
          f'--on {" or ".join(places.split())}'
        )
    elif value is None and not (args.list or args.table):
      raise ValueError(
        f'{name}: got nothing; expected {settings["help"]} with --on {args.on}'
      )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line."""
  parser = argparse.ArgumentParser(
    'python -m critic_jax.launch',
    description=__doc__.splitlines()[0],
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('experiments', nargs='+', metavar='EXPERIMENT.py')
  add('--workdir', required=True, help='the folder of the runs')
  action = parser.add_mutually_exclusive_group()
  action.add_argument(
    '--list', action='store_true', help='print runs and states'
  )
  action.add_argument(
    '--index', type=int, help='train this run only, as listed'
  )
  action.add_argument(
    '--all', action='store_true', help='train runs not done (the default)'
  )
  action.add_argument(
    '--missing', action='store_true', help='the same, done runs not named'
  )
  action.add_argument(
    '--table',
    nargs='?',
    const='text',
    choices=tables.FORMATS,
    help='print mean and interval over seeds',
  )
  add('--metrics', nargs='+', default=[], help='other metrics than TABLE has')
  add('--on', choices=_PLACES, default='local', help='where runs are trained')
  add('--parallel', type=int, metavar='N', help='runs at once')
  add('--dry_run', action='store_true', help='print commands, run none')
  for name, (settings, places) in OPTIONS.items():
    text = f'--on {" or ".join(places.split())}: {settings["help"]}'
    add(f'--{name}', **settings | dict(help=text))
  return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
  """Trains and prints, as the command line says."""
  try:
    failed = launch(parse(arguments), Console())
  except ValueError as error:
    sys.exit(printable(f'error: {error}'))
  except KeyboardInterrupt:
    raise SystemExit(_INTERRUPTED) from None
  if failed:
    names = ', '.join(failed)
    sys.exit(printable(f'error: {len(failed)} runs failed: {names}'))


def console_script() -> None:
  """Runs the command in a process of its own, whose signals are its."""
  for number in (signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
      signal.signal(number, lambda *_: sys.exit('error: terminated'))
  main()


if __name__ == '__main__':
  console_script()
