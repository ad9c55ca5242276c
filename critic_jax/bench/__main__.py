"""Measures how fast critic_jax is on this machine, alone or beside peers.

    python -m critic_jax.bench [--size smollm2-135m] [--work decode8 update ...]
        [--compare tunix transformers trl] [--json FILE] [--curves FILE.png]

Without --compare critic_jax does each work alone. With it the peers do the same
work, each in a process and an environment of its own that is made on demand, in
rounds that alternate with ours. --curves draws how cost grows instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from critic_jax.bench import environments, machine, results_table, rounds
from critic_jax.bench import work as work_lib
from critic_jax.bench.connection import System
from critic_jax.terminal import Console, printable

ROOT = Path(__file__).parents[2]
OURS = System(
  'critic_jax', sys.executable, Path(__file__).with_name('ours.py'), str(ROOT)
)
_EXAMPLES = """\
examples:
  python -m critic_jax.bench --work decode8 update --json bench.json
  python -m critic_jax.bench --compare tunix transformers
"""
SIZES = ('smollm2-135m', 'tiny', 'qwen2.5-0.5b', 'qwen2.5-1.5b')


def parser() -> argparse.ArgumentParser:
  """Makes the parser of the command line."""
  flags = argparse.ArgumentParser(
    prog='python -m critic_jax.bench',
    description=__doc__.splitlines()[0],
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  works = list(work_lib.WORKS)
  flags.add_argument('--size', choices=SIZES, default=SIZES[0])
  flags.add_argument('--work', nargs='+', choices=works, default=works)
  for name, meaning in (
    ('rows', 'prompts, or rows of an update'),
    ('prompt', 'tokens of each prompt'),
    ('new', 'tokens of each response'),
  ):
    flags.add_argument(f'--{name}', type=_positive, help=f'other {meaning}')
  flags.add_argument(
    '--dtype', choices=list(work_lib.ITEMSIZE), default='float32'
  )
  flags.add_argument('--repeats', type=_positive, default=3)
  flags.add_argument('--json', type=Path, help='write the results here')
  flags.add_argument(
    '--compare', nargs='+', choices=environments.NAMES, default=[]
  )
  flags.add_argument(
    '--environments',
    type=Path,
    default=Path('.bench'),
    help='holds the environment of each peer (.bench)',
  )
  flags.add_argument(
    '--deadline', type=float, default=900.0, help='seconds for each answer'
  )
  flags.add_argument('--curves', type=Path, help='draw how cost grows here')
  return flags


def _positive(text: str) -> int:
  number = int(text)
  if number < 1:
    raise argparse.ArgumentTypeError(f'got {text}; expected at least 1')
  return number


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns 1 if a system failed at a work."""
  flags = parser().parse_args(argv)
  console = Console(width=None if sys.stdout.isatty() else results_table.WIDTH)
  if flags.curves:
    from critic_jax.bench import curves  # needs the device in this process

    curves.write(flags.curves, say=console.print)
    return 0
  try:
    return compare(flags, console)
  except ValueError as error:
    sys.exit(printable(f'error: {error}'))


def compare(flags: argparse.Namespace, console: Console) -> int:
  """Measures the works that the flags name, and shows and writes them."""
  systems, unmade_systems = [OURS], {}
  for name in flags.compare:
    try:
      python = environments.python(name, flags.environments, say=console.print)
      systems.append(System(name, python, environments.script(name)))
    except ValueError as error:
      unmade_systems[name] = {'error': str(error)}

  # Measure work by work.
  limits = machine.measured()
  model = work_lib.make_model(flags.size)
  settings = {
    name: getattr(flags, name) for name in ('size', 'dtype', 'repeats')
  }
  results = []
  for name in flags.work:
    work = work_lib.resized(
      work_lib.WORKS[name],
      rows=flags.rows,
      prompt=flags.prompt,
      new=flags.new,
    )
    result = rounds.run(
      work,
      model,
      flags.dtype,
      systems,
      repeats=flags.repeats,
      deadline_s=flags.deadline,
      say=console.print,
    )
    result['systems'].update(unmade_systems)
    results.append(result)
    if flags.json:  # after each work, so that nothing is lost
      results_table.write(flags.json, results, limits, settings)
  console.print(results_table.make(results, limits, flags.dtype))
  failed = results_table.errors(results)
  for line in failed:
    console.print(f'failed: {line}')
  return bool(failed)


if __name__ == '__main__':
  sys.exit(main())
