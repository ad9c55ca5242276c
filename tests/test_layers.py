"""What may import what: arrays and knowledge go down only."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted(ROOT.glob('critic_jax/**/*.py'))
CONFIGS = sorted(
  [*ROOT.glob('configs/**/*.py'), *ROOT.glob('experiments/*.py')]
)

_PLAIN = {'critic_jax.types', 'numpy'}
_DEVICE = {
  'critic_jax.models',
  'critic_jax.sharding',
  'flax',
  'jax',
  'numpy',
  'optax',
}
_HOST = _PLAIN | {
  'critic_jax.advantages',
  'critic_jax.compilation',
  'critic_jax.controls',
  'critic_jax.data',
  'critic_jax.distributed',
  'critic_jax.lanes',
  'critic_jax.lm',
  'critic_jax.lookup',
  'critic_jax.masked',
  'critic_jax.meter',
  'critic_jax.models',
  'critic_jax.objectives',
  'critic_jax.optimizer',
  'critic_jax.policy_loss',
  'critic_jax.prompts',
  'critic_jax.rewards',
  'critic_jax.roles',
  'critic_jax.rollout',
  'critic_jax.sampling',
  'critic_jax.search',
  'critic_jax.sharding',
  'critic_jax.stages',
  'critic_jax.tokenizer',
  'jax',
}
# The longest name that a module's dotted name begins with is its layer. What
# a layer may import: these, what lies below them, and the standard library.
LAYERS = {
  # 1': texts and rules; no device.
  'critic_jax.types': {'numpy'},
  'critic_jax.lookup': set(),
  'critic_jax.strict_json': set(),
  'critic_jax.prompts': {'critic_jax.types'},
  'critic_jax.stages': {
    'critic_jax.prompts', 'critic_jax.rewards', 'critic_jax.types'
  },
  'critic_jax.rewards': _PLAIN | {'critic_jax.rewards', 'math_verify'},
  'critic_jax.chat_template': {'jinja2'},
  'critic_jax.vocabulary': {'sentencepiece', 'tokenizers'},
  'critic_jax.tokenizer': {
    'critic_jax.chat_template', 'critic_jax.strict_json',
    'critic_jax.vocabulary',
  },
  'critic_jax.provenance': set(),
  'critic_jax.limits': set(),
  'critic_jax.record_rows': _PLAIN,
  # 1: formulas over arrays.
  'critic_jax.masked': set(),
  'critic_jax.advantages': {'critic_jax.masked', 'jax'},
  'critic_jax.objectives': {'critic_jax.masked', 'jax'},
  # 2: the device.
  'critic_jax.models': _DEVICE,
  'critic_jax.models.convert': _DEVICE | {
    'critic_jax.strict_json', 'critic_jax.tokenizer', 'ml_dtypes'
  },
  'critic_jax.models.gguf_file': {'gguf', 'numpy'},
  'critic_jax.models.gguf_import': {'numpy', 'sentencepiece', 'tokenizers'},
  'critic_jax.models.hf_config': {'critic_jax.models', 'critic_jax.tokenizer'},
  'critic_jax.models.safetensors_io': {
    'critic_jax.strict_json', 'ml_dtypes', 'numpy', 'safetensors'
  },
  'critic_jax.sampling': _DEVICE,
  'critic_jax.sharding': _DEVICE - {'critic_jax.models'},
  'critic_jax.optimizer': _DEVICE - {'critic_jax.models'},
  'critic_jax.meter': {'jax'},
  'critic_jax.compilation': {'jax'},
  'critic_jax.distributed': {'critic_jax.types', 'jax', 'numpy'},
  'critic_jax.lanes': {
    'critic_jax.meter', 'critic_jax.models', 'critic_jax.sampling',
    'critic_jax.sharding', 'jax', 'numpy',
  },
  # 3: the host, which may sample.
  'critic_jax.data': _PLAIN | {
    'critic_jax.data', 'critic_jax.rewards', 'critic_jax.tokenizer'
  },
  'critic_jax.data.batching': _HOST,
  'critic_jax.data.packing': _PLAIN,
  'critic_jax.controls': {
    'critic_jax.rewards', 'critic_jax.rollout', 'critic_jax.types', 'numpy'
  },
  'critic_jax.lm': _HOST,
  'critic_jax.policy_loss': _HOST,
  'critic_jax.roles': _HOST,
  'critic_jax.rollout': {
    'critic_jax.meter', 'critic_jax.rewards', 'critic_jax.types', 'jax',
    'numpy',
  },
  'critic_jax.search': _HOST,
  # 4: algorithms and measurements.
  'critic_jax.recipes': _HOST,
  'critic_jax.evals': _PLAIN | {'critic_jax.evals', 'critic_jax.rewards'},
  'critic_jax.evals.run': _HOST | {'critic_jax.evals'},
  # 5: runs. What reads them needs no jax.
  'critic_jax.files': set(),
  'critic_jax.settings': set(),
  'critic_jax.tensorboard': {'tensorboardX'},
  'critic_jax.run_dir': _PLAIN | {
    'critic_jax.files', 'critic_jax.provenance', 'critic_jax.record_rows',
    'critic_jax.settings', 'critic_jax.strict_json', 'critic_jax.tensorboard',
  },
  'critic_jax.inspection': _PLAIN | {
    'critic_jax.evals', 'critic_jax.limits', 'critic_jax.run_dir',
    'critic_jax.strict_json',
  },
  'critic_jax.plots': {'matplotlib', 'numpy'},
  'critic_jax.eval_plots': {
    'critic_jax.evals', 'critic_jax.plots', 'matplotlib', 'numpy'
  },
  'critic_jax.report': {
    'critic_jax.comparison', 'critic_jax.evals', 'critic_jax.inspection',
    'critic_jax.plots', 'critic_jax.report_data', 'jinja2', 'rich',
  },
  'critic_jax.report_data': _PLAIN | {
    'critic_jax.evals', 'critic_jax.inspection', 'critic_jax.pieces',
    'critic_jax.trees',
  },
  'critic_jax.summary': {
    'critic_jax.evals', 'critic_jax.report', 'numpy', 'rich'
  },
  'critic_jax.summary_plots': {
    'critic_jax.evals', 'critic_jax.plots', 'critic_jax.summary',
    'matplotlib', 'numpy',
  },
  'critic_jax.experiment': {
    'absl', 'critic_jax.settings', 'critic_jax.strict_json',
    'critic_jax.summary', 'ml_collections',
  },
  'critic_jax.launch': {
    'critic_jax.experiment', 'critic_jax.files', 'critic_jax.inspection',
    'critic_jax.launch', 'critic_jax.progress', 'critic_jax.strict_json',
    'critic_jax.summary', 'critic_jax.summary_plots', 'psutil', 'rich',
  },
  'critic_jax.launch.gke': set(),
  'critic_jax.launch.slurm': set(),
  'critic_jax.launch.tpu': set(),
  'critic_jax.bench': {
    'critic_jax', 'jax', 'matplotlib', 'numpy', 'rich'
  },
  'critic_jax.bench.processes': set(),
  'critic_jax.bench.environments': set(),
  'critic_jax.bench.serve': set(),
  'critic_jax.bench.work': {'critic_jax.models'},
  # A peer's worker is run by the peer's own Python.
  'critic_jax.bench.peers.transformers': {'torch', 'transformers'},
  'critic_jax.bench.peers.trl': {
    'datasets', 'tokenizers', 'torch', 'transformers', 'trl'
  },
  'critic_jax.bench.peers.tunix': {
    'flax', 'jax', 'numpy', 'optax', 'tunix'
  },
  'critic_jax.plan': {'absl', 'critic_jax', 'flax', 'jax', 'rich'},
  'critic_jax.plan.chips': set(),
  'critic_jax.progress': {'rich'},
  'critic_jax.checkpoint': {
    'critic_jax.distributed', 'critic_jax.files', 'jax', 'orbax'
  },
  'critic_jax.signals': {'jax'},
  'critic_jax.alarms': {
    'critic_jax.limits', 'critic_jax.run_dir', 'numpy', 'rich'
  },
  'critic_jax': {
    'absl', 'critic_jax', 'jax', 'ml_collections', 'numpy', 'optax', 'rich'
  },
}  # fmt: skip
NO_JAX = (
  'chat_template', 'comparison', 'eval_plots', 'inspection', 'launch', 'lookup',
  'pieces', 'prompts', 'record_rows', 'report', 'report_data', 'rewards',
  'run_dir', 'settings', 'stages', 'strict_json', 'tokenizer', 'trees', 'types',
  'views', 'vocabulary',
)  # fmt: skip
# Below layer 3 settings are keywords; only models have a configuration, theirs.
NO_CONFIG = (
  'advantages', 'masked', 'objectives', 'optimizer', 'prompts', 'rewards',
  'sampling', 'sharding', 'types', 'vocabulary',
)  # fmt: skip


def dotted(path):
  """The module's name: critic_jax/data/steps.py is critic_jax.data.steps."""
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports(source):
  """Dotted names of what a source imports, wherever in it."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      found.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, 'relative import'
      found.update(f'{node.module}.{alias.name}' for alias in node.names)
  return found


def begins(name, prefixes):
  """The longest of `prefixes` that is `name` or a package above it, or None."""
  matching = [p for p in prefixes if f'{name}.'.startswith(f'{p}.')]
  return max(matching, key=len, default=None)


def forbidden(name, source):
  """What a module imports and may not."""
  allowed = LAYERS[begins(name, LAYERS)]
  return sorted(
    imported
    for imported in imports(source)
    if imported.split('.')[0] not in sys.stdlib_module_names
    and not begins(imported, allowed)
  )


def reads_config(source):
  """Whether anything in a source is called `config`."""
  return any(
    'config' in (getattr(node, 'id', ''), getattr(node, 'arg', ''))
    for node in ast.walk(ast.parse(source))
  )


@pytest.mark.parametrize('path', MODULES, ids=dotted)
def test_layers(path):
  found = forbidden(dotted(path), path.read_text())
  allowed = sorted(LAYERS[begins(dotted(path), LAYERS)])
  assert not found, (
    f'{path.relative_to(ROOT)} imports {found}; its layer may import only '
    f'{allowed}'
  )


@pytest.mark.parametrize(
  ('name', 'source', 'found'),
  [
    ('critic_jax.rewards.x', 'import jax.numpy as jnp', ['jax.numpy']),
    ('critic_jax.prompts', 'from flax import linen', ['flax.linen']),
    ('critic_jax.masked', 'def f():\n  import jax', ['jax']),
    (
      'critic_jax.objectives.x',
      'from critic_jax import types',
      ['critic_jax.types'],
    ),
    (
      'critic_jax.recipes.x',
      'from critic_jax.recipes import sft',
      ['critic_jax.recipes.sft'],
    ),
    (
      'critic_jax.models.x',
      'from critic_jax.lm import LM',
      ['critic_jax.lm.LM'],
    ),
    ('critic_jax.train', 'import tests.helpers', ['tests.helpers']),
    ('critic_jax.rewards.x', 'import re, numpy.linalg', []),
    ('critic_jax.recipes.x', 'from critic_jax.data import batching', []),
  ],
)
def test_a_wrong_import_is_found(name, source, found):
  assert forbidden(name, source) == found


def test_no_jax_where_texts_are_handled():
  """Transitively: importing all of them loads no jax."""
  for name in NO_JAX:
    path = ROOT / 'critic_jax' / name
    assert path.is_dir() or path.with_suffix('.py').exists(), name
  for name in NO_JAX:
    paths = [p for p in MODULES if begins(dotted(p), {f'critic_jax.{name}'})]
    seen = set()
    while paths:
      path = paths.pop()
      seen.add(path)
      used = imports(path.read_text())
      assert not {u for u in used if begins(u, {'jax', 'flax', 'optax'})}, (
        f'critic_jax.{name} imports jax by way of {path.relative_to(ROOT)}'
      )
      paths += [
        p
        for p in MODULES
        if p not in seen
        and p.name != '__init__.py'
        and any(begins(u, {dotted(p)}) for u in used)
      ]


@pytest.mark.parametrize('path', CONFIGS, ids=dotted)
def test_configs_import_data_only(path):
  used = imports(path.read_text())
  assert not {u for u in used if not begins(u, {'ml_collections', 'configs'})}


@pytest.mark.parametrize('name', NO_CONFIG)
def test_settings_are_keywords_below_layer_3(name):
  found = [
    path.relative_to(ROOT)
    for path in MODULES
    if begins(dotted(path), {f'critic_jax.{name}'})
    and reads_config(path.read_text())
  ]
  assert not found


def test_a_read_config_is_found():
  assert reads_config('def f(x, config): return x')
  assert reads_config('y = config.steps')
  assert not reads_config('configure = 1')


def test_no_drawers_for_everything():
  names = {path.name for path in MODULES}
  assert not names & {'utils.py', 'base.py', 'common.py', 'helpers.py'}
  assert not (ROOT / 'critic_jax' / 'core').exists()


@pytest.mark.parametrize('path', MODULES, ids=dotted)
def test_modules_fit(path):
  assert len(path.read_text().splitlines()) <= 450


@pytest.mark.parametrize('path', MODULES, ids=dotted)
def test_modules_say_what_is_in_them(path):
  tree = ast.parse(path.read_text())
  assert not tree.body or ast.get_docstring(tree)
