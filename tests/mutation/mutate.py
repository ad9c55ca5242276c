"""Changes one token of the code at a time and counts the changes that fail.

`pip install -e '.[mutation]'` installs cosmic-ray, which makes the changes; see
CONTRIBUTING.md. The checkout is copied first: a run that is stopped leaves no
changed file behind. A change of an annotation, or of a decorator, is left out,
and of all changes at one place one is drawn.

A survivor is printed with its difference. It is either a test that is missing,
or a change that means the same; the second kind counts as a survivor, too.
"""

import argparse
import ast
import os
import pathlib
import random
import shlex
import shutil
import sys
import tempfile

from cosmic_ray import commands, mutating, work_db

ROOT = pathlib.Path(__file__).parents[2]
IGNORED = shutil.ignore_patterns('.git', '.venv', '__pycache__', '*.egg-info')
TIMEOUT = 900.0  # seconds of the tests of one change

# The modules of an area, and their tests, the quickest first.
AREAS = {
  'objectives': (
    ['critic_jax/objectives'],
    ['tests/objectives', 'critic_jax/objectives', 'tests/loss_fns']
    + ['tests/recipes'],
  ),
  'distribution': (
    ['critic_jax/models/sampling_distribution.py'],
    ['tests/models/test_sampling_distribution.py', 'tests/sampling'],
  ),
  'sampling': (
    ['critic_jax/sampling'],
    ['tests/sampling', 'tests/rollouts', 'tests/recipes'],
  ),
  'answers': (
    ['critic_jax/answers'],
    ['tests/answers', 'tests/rewards', 'tests/data', 'tests/graders'],
  ),
  'graders': (
    ['critic_jax/graders', 'critic_jax/execution'],
    ['tests/graders', 'tests/execution', 'tests/data/test_code_rows.py'],
  ),
  'rewards': (
    ['critic_jax/rewards'],
    ['tests/rewards', 'tests/rollouts', 'tests/recipes', 'tests/test_hacks.py'],
  ),
  'recipes': (
    ['critic_jax/recipes'],
    ['tests/recipes', 'tests/loss_fns', 'tests/training/test_checks.py'],
  ),
}


def find_modules(paths):
  """Lists the modules of files and folders, without the empty ones."""
  modules = []
  for path in map(pathlib.Path, paths):
    files = sorted(path.glob('*.py')) if path.is_dir() else [path]
    modules += [file for file in files if file.name != '__init__.py']
  return modules


def find_ignored(text):
  """Lists the spans of annotations and decorators: ((line, column), end)."""
  nodes = []
  for node in ast.walk(ast.parse(text)):
    nodes += [getattr(node, 'annotation', None), getattr(node, 'returns', None)]
    nodes += getattr(node, 'decorator_list', [])
  return [  # a decorator begins with its @
    ((node.lineno, node.col_offset - 1), (node.end_lineno, node.end_col_offset))
    for node in nodes
    if node
  ]


def draw(items, num, seed):
  """Draws `num` changes: a place at random, then one of its changes."""
  rng = random.Random(seed)
  ignored, places = {}, {}
  for item in items:
    [change] = item.mutations
    path = change.module_path
    if path not in ignored:
      ignored[path] = find_ignored(path.read_text())
    if not any(a <= change.start_pos < b for a, b in ignored[path]):
      places.setdefault((str(path), change.start_pos), []).append(item)
  drawn = rng.sample(sorted(places), min(num, len(places)))
  return [rng.choice(places[place]) for place in drawn], len(places)


def list_changes(paths):
  """Lists all changes of modules that cosmic-ray knows, one an item."""
  with work_db.use_db(':memory:') as database:
    commands.init(find_modules(paths), database, {})
    return sorted(database.work_items, key=lambda item: str(item.mutations))


def test(item, tests):
  """Runs the tests with one change, or with none; returns the result."""
  options = ['-x', '-q', '-n', '0', '-p', 'no:cacheprovider', '-m', 'not slow']
  command = [sys.executable, '-m', 'pytest', *options, *tests]
  changes = item.mutations if item else ()
  return mutating.mutate_and_test(changes, shlex.join(command), TIMEOUT)


def run_area(name, num, seed):
  """Tests `num` changes of an area; returns how many of them are killed."""
  paths, tests = AREAS[name]
  result = test(None, tests)
  if result.is_killed:
    sys.exit(f'{name}: tests fail without a change:\n{result.output[-2000:]}')
  items, num_places = draw(list_changes(paths), num, seed)
  print(f'{name}: {len(items)} of {num_places} places', flush=True)
  num_killed = 0
  for item in items:
    result = test(item, tests)
    num_killed += result.is_killed
    [change] = item.mutations
    outcome = 'killed' if result.is_killed else 'SURVIVED'
    place = f'{change.module_path}:{change.start_pos[0]}'
    print(f'{outcome} {place} {change.operator_name}', flush=True)
    if not result.is_killed:
      print(result.diff, flush=True)
  print(f'{name}: {num_killed} of {len(items)} are killed', flush=True)
  return num_killed, len(items)


def main():
  """Runs the areas that the command names, and prints the share killed."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('areas', nargs='*', help=f'of {", ".join(AREAS)}; all')
  parser.add_argument('--num', type=int, default=20, help='changes an area')
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  areas = args.areas or list(AREAS)
  if unknown := set(areas) - set(AREAS):
    parser.error(f'areas: got {sorted(unknown)}; expected some of {[*AREAS]}')
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder) / 'checkout'
    shutil.copytree(ROOT, copy, ignore=IGNORED)
    os.chdir(copy)
    os.environ['PYTHONPATH'] = str(copy)
    counts = [run_area(name, args.num, args.seed) for name in areas]
  num_killed, num_tested = map(sum, zip(*counts, strict=True))
  share = num_killed / num_tested
  print(f'in all {num_killed} of {num_tested} are killed: {share:.1%}')


if __name__ == '__main__':
  main()
