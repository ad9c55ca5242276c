"""What may import what: the rooms of critic_jax/, from the bottom up.

A room imports rooms above it in `ROOMS` and nothing else of the project, so the
graph has no cycle; a line lists exactly what its room imports, so the table is
the graph.
"""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted(ROOT.glob('critic_jax/**/*.py'))
CONFIGS = sorted(
  [*ROOT.glob('configs/**/*.py'), *ROOT.glob('experiments/*.py')]
)

# A room or a module of the top: the rooms it imports | and the libraries.
ROOMS = {
  'types': '| numpy',
  'lookup': '|',
  'files': '|',
  'strict_json': 'files |',
  'terminal': '| rich',
  'text': 'types lookup strict_json | jinja2 sentencepiece tokenizers',
  'objectives': '| jax',
  'answers': '| latex2sympy2_extended math_verify sympy',
  'execution': '|',
  'graders': 'types answers execution |',
  'rewards': 'types lookup answers execution | numpy',
  'runtime': 'types lookup terminal | absl flax jax ml_collections numpy',
  'models': 'runtime | flax jax numpy',
  'workdir':
    'types files strict_json terminal runtime models | jax numpy orbax rich '
    'tensorboardX tensorstore',
  'rollouts': 'types lookup answers execution rewards runtime | jax numpy',
  'pretrained':
    'lookup files strict_json text models | gguf ml_dtypes numpy safetensors '
    'sentencepiece tokenizers',
  'sampling':
    'types lookup files strict_json terminal text runtime models rollouts | '
    'jax numpy',
  'tasks': 'types terminal text answers execution rewards |',
  'data':
    'types lookup files strict_json objectives answers execution rollouts '
    'sampling tasks | numpy pyarrow',
  'loss_fns': 'types lookup objectives runtime models sampling | jax numpy',
  'evals': 'types rewards rollouts sampling | jax numpy',
  'recipes':
    'types lookup objectives rewards rollouts sampling data loss_fns | jax '
    'numpy',
  'inspection': 'types lookup strict_json objectives workdir evals | numpy',
  'report':
    'types files terminal text evals inspection | jinja2 matplotlib numpy rich',
  'training':
    'types lookup files terminal text execution graders rewards runtime models '
    'workdir rollouts pretrained sampling data loss_fns evals inspection '
    'report | jax numpy optax',
  'train':
    'lookup files terminal graders runtime workdir rollouts sampling data '
    'report training | jax numpy',
  'evaluate':
    'lookup terminal graders runtime workdir sampling report training | absl '
    'jax ml_collections',
  'inference':
    'types lookup runtime workdir rollouts sampling text evals training | jax',
  'serve':
    'types lookup strict_json terminal models rollouts sampling inference | '
    'starlette uvicorn',
  'convert': 'terminal pretrained training |',
  'plan':
    'types lookup terminal text runtime models pretrained sampling loss_fns '
    'training | absl flax jax numpy rich',
  'launch':
    'files strict_json terminal runtime workdir inspection report | absl '
    'ml_collections psutil rich',
  'bench':
    'types terminal runtime models workdir rollouts sampling training plan | '
    'jax matplotlib numpy rich',
}  # fmt: skip
# A peer's worker is run by the peer's own Python.
PEERS = {
  'maxtext': 'flax jax maxtext',
  'transformers': 'torch transformers',
  'trl': 'datasets tokenizers torch transformers trl',
  'tunix': 'flax jax numpy optax tunix',
}
# Within these rooms, or modules, nothing imports jax, however far down.
NO_JAX = (
  'answers', 'execution', 'graders', 'inspection', 'launch', 'lookup', 'report',
  'rewards', 'rollouts.stages', 'rollouts.styles', 'strict_json', 'tasks',
  'text', 'types', 'workdir.record_rows', 'workdir.run_dir', 'workdir.settings',
)  # fmt: skip
# Settings are keywords there; only models have a configuration, theirs.
NO_CONFIG = (
  'answers', 'execution', 'graders', 'objectives', 'rewards', 'rollouts',
  'runtime.sharding', 'sampling.decode', 'sampling.scheduler',
  'text.vocabulary', 'training.optimizer', 'types',
)  # fmt: skip


def dotted(path):
  """The module's name: critic_jax/data/rows.py is data.rows."""
  parts = path.relative_to(ROOT / 'critic_jax').with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports(source):
  """Dotted names of what a source imports, wherever in it."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, 'relative import'
      names.update(f'{node.module}.{alias.name}' for alias in node.names)
  return names


def begins(name, prefixes):
  """Whether one of `prefixes` is `name` or a package above it."""
  return any(f'{name}.'.startswith(f'{prefix}.') for prefix in prefixes)


def used_by(name, source):
  """The other rooms, and the libraries, that a module imports."""
  room, rooms, libraries = name.split('.')[0], set(), set()
  for parts in (imported.split('.') for imported in imports(source)):
    if parts[0] == 'critic_jax':
      rooms.add(parts[1])
    elif parts[0] not in sys.stdlib_module_names:
      libraries.add(parts[0])
  return rooms - {room}, libraries


def allowed(room):
  """The two halves of a room's line."""
  rooms, _, libraries = ROOMS[room].partition('|')
  return set(rooms.split()), set(libraries.split())


def in_room(room):
  """The modules of a room but for the peers' workers."""
  return [
    path
    for path in MODULES
    if begins(dotted(path), {room}) and path.parent.name != 'peers'
  ]


def test_every_module_has_a_room():
  rooms = {dotted(path).split('.')[0] for path in MODULES} - {''}
  assert rooms == set(ROOMS)


@pytest.mark.parametrize('room', ROOMS)
def test_a_room_imports_what_its_line_says(room):
  used = [used_by(dotted(path), path.read_text()) for path in in_room(room)]
  assert set().union(*(rooms for rooms, _ in used)) == allowed(room)[0]
  assert set().union(*(names for _, names in used)) == allowed(room)[1]


def test_imports_go_up_in_the_table_only():
  order = list(ROOMS)
  for place, room in enumerate(order):
    assert allowed(room)[0] <= set(order[:place]), room


@pytest.mark.parametrize('path', MODULES, ids=dotted)
def test_recipes_do_not_import_recipes(path):
  if dotted(path).startswith('recipes'):
    assert not any(
      name.startswith('critic_jax.recipes')
      for name in imports(path.read_text())
    )


@pytest.mark.parametrize('name', PEERS)
def test_a_peers_worker_imports_what_the_peer_has(name):
  path = ROOT / 'critic_jax' / 'bench' / 'peers' / f'{name}.py'
  rooms, libraries = used_by(f'bench.peers.{name}', path.read_text())
  assert not rooms and libraries == set(PEERS[name].split())


@pytest.mark.parametrize(
  ('name', 'source', 'rooms', 'libraries'),
  [
    ('rewards.x', 'import jax.numpy as jnp', set(), {'jax'}),
    ('rollouts.x', 'from flax import linen', set(), {'flax'}),
    ('objectives.x', 'def f():\n  import jax', set(), {'jax'}),
    ('objectives.x', 'from critic_jax import types', {'types'}, set()),
    ('models.x', 'from critic_jax.sampling.lm import LM', {'sampling'}, set()),
    ('models.x', 'from critic_jax.models import sizes', set(), set()),
    ('rewards.x', 'import re, numpy.linalg', set(), {'numpy'}),
  ],
)
def test_what_a_module_imports_is_found(name, source, rooms, libraries):
  assert used_by(name, source) == (rooms, libraries)


@pytest.mark.parametrize('name', NO_JAX)
def test_no_jax_where_texts_are_handled(name):
  """Transitively: importing all of them loads no jax."""
  paths = [path for path in MODULES if begins(dotted(path), {name})]
  assert paths
  seen = set()
  while paths:
    path = paths.pop()
    seen.add(path)
    used = imports(path.read_text())
    assert not [u for u in used if begins(u, {'jax', 'flax', 'optax'})], (
      f'{name} imports jax by way of {path.relative_to(ROOT)}'
    )
    paths += [
      other
      for other in MODULES
      if other not in seen
      and other.name != '__init__.py'
      and any(begins(u, {f'critic_jax.{dotted(other)}'}) for u in used)
    ]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_configs_import_data_only(path):
  used = imports(path.read_text())
  assert not [
    u for u in used if not begins(u, {'ml_collections', 'configs', 'difflib'})
  ]


def reads_config(source):
  """Whether anything in a source is called `config`."""
  return any(
    'config' in (getattr(node, 'id', ''), getattr(node, 'arg', ''))
    for node in ast.walk(ast.parse(source))
  )


@pytest.mark.parametrize('name', NO_CONFIG)
def test_settings_are_keywords_where_no_config_is_read(name):
  paths = [path for path in MODULES if begins(dotted(path), {name})]
  assert paths
  assert not [path for path in paths if reads_config(path.read_text())]


def test_a_read_config_is_found():
  assert reads_config('def f(x, config): return x')
  assert reads_config('y = config.steps')
  assert not reads_config('configure = 1')


def test_no_drawers_for_everything():
  names = {path.name for path in MODULES}
  assert not names & {'utils.py', 'base.py', 'common.py', 'helpers.py'}
  assert not (ROOT / 'critic_jax' / 'core').exists()
  assert len(list((ROOT / 'critic_jax').glob('*.py'))) <= 9


def test_no_name_of_a_module_or_a_room_twice():
  stems = [path.stem for path in MODULES if not path.stem.startswith('__')]
  stems += {path.parent.name for path in MODULES}
  assert sorted(stems) == sorted(set(stems))


@pytest.mark.parametrize('path', MODULES, ids=dotted)
def test_modules_say_what_is_in_them(path):
  tree = ast.parse(path.read_text())
  assert not tree.body or ast.get_docstring(tree)
  if path.name == '__init__.py' and path.parent.name != 'critic_jax':
    assert len(tree.body) == 1, 'a room has a docstring and nothing else'


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def num_lines(function):
  """The lines of a function without its docstring and functions inside it."""
  inside = [node for node in function.body if isinstance(node, FUNCTIONS)]
  if ast.get_docstring(function):
    inside.append(function.body[0])
  return _span(function) - sum(map(_span, inside))


def _span(node):
  return node.end_lineno - node.lineno + 1


def too_large(source):
  """The functions over 60 lines, and with over 7 positional parameters."""
  problems = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, FUNCTIONS):
      parameters = [*node.args.posonlyargs, *node.args.args]
      names = [p.arg for p in parameters if p.arg not in ('self', 'cls')]
      if num_lines(node) > 60:
        problems.append(f'{node.name}: got {num_lines(node)} lines, not <= 60')
      if len(names) > 7:
        problems.append(
          f'{node.name}: got {len(names)} parameters; expected <= 7 and '
          'keyword-only ones'
        )
  return problems


def test_what_is_too_large_is_found():
  body = '  x = 1\n' * 59
  assert not too_large(f'def f():\n{body}')
  assert not too_large(f'def f():\n  """One.\n\n  Two.\n  """\n{body}')
  inside = '  def g():\n' + '    x = 1\n' * 59
  assert not too_large(f'def f():\n{inside}{body}')
  assert 'f: got 61 lines' in too_large(f'def f():\n{body}  x = 1\n')[0]
  assert not too_large('def f(self, a, b, c, d, e, f, g, *, h, i): pass')
  assert 'f: got 8 param' in too_large('def f(a, b, c, d, e, f, g, h): pass')[0]


@pytest.mark.parametrize('path', MODULES, ids=dotted)
def test_modules_functions_and_signatures_fit(path):
  source = path.read_text()
  # A recipe is read in one go, docstrings included.
  is_recipe = begins(dotted(path), {'recipes'})
  assert len(source.splitlines()) <= (150 if is_recipe else 400)
  assert not too_large(source)
