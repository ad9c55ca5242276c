"""Measures how fast critic_jax is on this machine, alone or beside peers.

    python -m critic_jax.bench [--size smollm2-135m] [--work decode8 update ...]
        [--compare tunix transformers trl] [--json FILE] [--curves FILE.png]
    python -m critic_jax.bench --compile [--chip v5e] [--compare maxtext tunix]

Without --compare critic_jax does each work alone. With it the peers do the same
work, each in a process and an environment of its own that is made on demand, in
rounds that alternate with ours. --curves draws how cost grows instead.
--compile compiles the update for TPUs that need not be there, and compares what
the compiler says of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from critic_jax.bench import (
  compiled_update,
  environments,
  machine,
  results_table,
  rounds,
)
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
  python -m critic_jax.bench --compile --compare maxtext tunix --layers 4
"""
SIZES = ('smollm2-135m', 'tiny', 'qwen2.5-0.5b', 'qwen2.5-1.5b', 'qwen2.5-7b')


def parser() -> argparse.ArgumentParser:
  """Makes the parser of the command line."""
  flags = argparse.ArgumentParser(
    prog='python -m critic_jax.bench',
    description=__doc__.splitlines()[0],
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  works = list(work_lib.WORKS)
  flags.add_argument(
    '--size', choices=SIZES, help=f'{SIZES[0]}; {compiled_update.SIZE} compiled'
  )
  flags.add_argument('--work', nargs='+', choices=works, default=works)
  for name, meaning in (
    ('rows', 'prompts, or rows of an update'),
    ('prompt', 'tokens of each prompt'),
    ('new', 'tokens of each response'),
    ('layers', 'number of layers'),
  ):
    flags.add_argument(f'--{name}', type=_positive, help=f'other {meaning}')
  flags.add_argument(
    '--dtype',
    choices=list(work_lib.ITEMSIZE),
    help='float32; bfloat16 compiled',
  )
  flags.add_argument(
    '--repeats', type=_positive, help='measurements of each work (3)'
  )
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
  flags.add_argument(
    '--compile', action='store_true', help='compile the update for TPUs'
  )
  flags.add_argument(
    '--chip',
    choices=compiled_update.CHIPS,
    help=f'with --compile: the TPU, {compiled_update.NUM_DEVICES} of them '
    f'({compiled_update.CHIPS[0]})',
  )
  return flags


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line; ends the program if flags do not go together."""
  flags = parser()
  parsed = flags.parse_args(argv)
  peers = set(parsed.compare)
  if parsed.compile and (others := peers - set(compiled_update.PEERS)):
    flags.error(
      f'--compare: got {sorted(others)} with --compile; expected '
      f'{list(compiled_update.PEERS)}'
    )
  given = [k for k, v in vars(parsed).items() if v != flags.get_default(k)]
  for mode, others in (
    ('curves', set(vars(parsed)) - {'curves'}),
    ('compile', {'new', 'repeats', 'work'}),
  ):
    if mode in given and (unread := sorted(others.intersection(given))):
      flags.error(f'--{unread[0]}: does not go with --{mode}; leave one out')
  for name, needed in ('chip', 'compile'), ('environments', 'compare'):
    if name in given and needed not in given:
      value = getattr(parsed, name)
      flags.error(f'--{name}: got {value} without --{needed}; add --{needed}')
  if not parsed.compile and 'maxtext' in peers:
    flags.error('--compare: got maxtext, which only compiles; add --compile')
  return parsed


def _positive(text: str) -> int:
  number = int(text)
  if number < 1:
    raise argparse.ArgumentTypeError(f'got {text}; expected at least 1')
  return number


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns 1 if a system failed at a work."""
  flags = parse(argv)
  console = Console(width=None if sys.stdout.isatty() else results_table.WIDTH)
  if flags.curves:
    from critic_jax.bench import curves  # needs the device in this process

    curves.write(flags.curves, say=console.print)
    return 0
  try:
    return (compare_compiled if flags.compile else compare)(flags, console)
  except ValueError as error:
    sys.exit(printable(f'error: {error}'))


def compare(flags: argparse.Namespace, console: Console) -> int:
  """Measures the works that the flags name, and shows and writes them."""
  systems, unmade_systems = make_systems(flags, console)

  # Measure work by work.
  limits = machine.measured()
  model = make_model(flags, SIZES[0])
  settings = {
    'size': flags.size or SIZES[0],
    'dtype': (dtype := flags.dtype or 'float32'),
    'repeats': (repeats := flags.repeats or 3),
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
      dtype,
      systems,
      repeats=repeats,
      deadline_s=flags.deadline,
      say=console.print,
    )
    result['systems'].update(unmade_systems)
    results.append(result)
    if flags.json:  # after each work, so that nothing is lost
      results_table.write(flags.json, results, limits, settings)
  console.print(results_table.make(results, limits, dtype))
  return say_failed(results_table.errors(results), console)


def compare_compiled(flags: argparse.Namespace, console: Console) -> int:
  """Compiles the update in all systems, and shows and writes the figures."""
  systems, unmade_systems = make_systems(flags, console)
  result = compiled_update.run(
    work_lib.resized(
      work_lib.WORKS['update'],
      rows=flags.rows or 16,
      prompt=flags.prompt or 2048,
    ),
    make_model(flags, compiled_update.SIZE),
    flags.dtype or 'bfloat16',
    flags.chip or compiled_update.CHIPS[0],
    systems,
    deadline_s=flags.deadline,
    say=console.print,
  )
  result['systems'].update(unmade_systems)
  if flags.json:
    compiled_update.write(flags.json, result)
  console.print(compiled_update.table(result))
  return say_failed(compiled_update.errors(result), console)


def make_systems(flags, console) -> tuple[list[System], dict[str, dict]]:
  """Returns the systems, ours first, and the errors of those not made."""
  systems, unmade_systems = [OURS], {}
  for name in flags.compare:
    try:
      python = environments.python(name, flags.environments, say=console.print)
      systems.append(System(name, python, environments.script(name)))
    except ValueError as error:
      unmade_systems[name] = {'error': str(error)}
  return systems, unmade_systems


def make_model(flags, size: str) -> work_lib.Model:
  """Returns the fields of the model that the flags name, else of `size`."""
  layers = {'num_layers': flags.layers} if flags.layers else {}
  return work_lib.make_model(flags.size or size) | layers


def say_failed(errors: Sequence[str], console: Console) -> int:
  """Prints a line for each error; returns 1 if there is one."""
  for line in errors:
    console.print(f'failed: {line}')
  return bool(errors)


if __name__ == '__main__':
  sys.exit(main())
