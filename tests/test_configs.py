"""Every file of configs/ and every variant in it."""

import importlib
import inspect
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict
from run_helpers import run

from critic_jax import train
from critic_jax.execution import sandbox
from critic_jax.workdir import run_dir

ROOT = pathlib.Path(train.__file__).parents[1]
FILES = sorted(
  path.stem for path in (ROOT / 'configs').glob('*.py')
  if 'def get_config' in path.read_text()
)  # fmt: skip

# Prints the configs of all variants, and which of these modules were loaded.
BUILD = """
import importlib, json, re, sys
from critic_jax.workdir import settings
built = {}
for stem in sys.argv[1:]:
  module = importlib.import_module(f'configs.{stem}')
  try:
    module.get_config('?')
  except ValueError as error:
    for name in re.findall(r"'([\\w.-]+)'", str(error).split('one of')[1]):
      built[f'{stem}:{name}'] = settings.plain(module.get_config(name))
heavy = sorted({'jax', 'flax', 'optax', 'torch'} & set(sys.modules))
print(json.dumps([built, heavy]))
"""


@pytest.fixture(scope='module')
def built():
  """Returns all configs as data by 'file:variant', and jax if it was loaded."""
  process = subprocess.run(
    [sys.executable, '-c', BUILD, *FILES],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
    timeout=60,
  )
  return json.loads(process.stdout)


def test_configs_are_data_that_no_jax_makes(built):
  configs, heavy = built
  assert not heavy
  assert {name.split(':')[0] for name in configs} == set(FILES)
  for stem in FILES:
    assert f'{stem}:tiny' in configs, f'configs/{stem}.py has no tiny'


def test_configs_hold_together(built):
  """Checks what the loop looks up in configs that no test trains."""
  for name, config in built[0].items():
    roles = set(config['models'])
    assert set(config['order']) <= set(config['phases']), name
    for section in config['evals'].values():
      assert set(section['after']) <= {'start', *config['order']}, name
    for phase in config['phases'].values():
      roles_used = {*phase['train'], *phase['copy'], *phase['copy'].values()}
      assert roles_used <= roles, name
      recipe = ROOT / 'critic_jax' / 'recipes' / f'{phase["recipe"]}.py'
      assert recipe.exists(), name


def test_real_models_are_measured_before_and_after(built):
  """On problems that are held out; no protocol measures preferences."""
  stems = set()
  for name, config in built[0].items():
    is_real = any(x.get('source') for x in config['models'].values())
    if not is_real or config['data'].get('name') == 'preferences':
      continue
    for evaluation in config['evals'].values() if config['order'] else ():
      stems.add(name.split(':')[0])
      assert evaluation['split'] == 'test'
      assert {'start', config['order'][-1]} <= {*evaluation['after']}, name
    assert config['evals'], name
  assert stems >= {'refcritic', 'ctrl', 'grpo', 'verdicts'}


def test_every_phase_of_the_embedded_world_can_be_made(built):
  """Its recipe and its optimiser are built; nothing is trained."""
  from critic_jax.training import eval_phases, phases, roles

  for name in built[0]:
    stem, variant = name.split(':')
    config = importlib.import_module(f'configs.{stem}').get_config(variant)
    if config.data.get('name') != 'arithmetic':
      continue
    # Of all data a few are drawn, and not tens of thousands.
    for dotted, section in sections(config):
      if dotted.split('.')[-1] == 'data':
        for size in ('num_train', 'num_test'):
          if section.get(size):
            section[size] = 8
    lms = roles.make_lms(config.models)
    phase_list = phases.make_phases(config, lms, None)
    eval_phases.make_evaluations(config, lms)
    assert [phase.name for phase in phase_list] == list(config.order), name


@pytest.mark.parametrize('stem', FILES)
def test_a_file_says_how_it_is_run(stem, built):
  module = importlib.import_module(f'configs.{stem}')
  text = inspect.getdoc(module)
  assert re.search(r'python -m critic_jax\.(train|evaluate) --config', text)
  named = re.findall(r'--config (configs/\w+\.py)(?::([\w.-]+))?', text)
  assert named
  for file, variant in named:
    assert file == f'configs/{stem}.py'
    assert not variant or f'{stem}:{variant}' in built[0]


@pytest.mark.parametrize('stem', FILES)
def test_an_unknown_variant_lists_the_others(stem):
  module = importlib.import_module(f'configs.{stem}')
  with pytest.raises(ValueError, match="got 'tinny'; expected one of .*'tiny'"):
    module.get_config('tinny')


def test_configs_that_the_papers_name_exist(built):
  path = ROOT / 'PAPERS.md'
  if not path.exists():
    pytest.skip('no PAPERS.md')
  named = re.findall(r'configs/(\w+)\.py(?::(\w+))?', path.read_text())
  assert named
  for stem, variant in named:
    assert (ROOT / 'configs' / f'{stem}.py').exists(), stem
    assert not variant or f'{stem}:{variant}' in built[0]


# refcritic's is trained in test_train.py; evaluate's trains nothing.
def sections(config, name=''):
  """Yields every section in a config with its dotted name."""
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      yield f'{name}{key}', value
      yield from sections(value, f'{name}{key}.')


@pytest.mark.parametrize('stem', FILES)
def test_a_setting_is_in_one_place(stem, built):
  # ConfigDict keeps one section where one dict was named twice, and a flag for
  # the solver would change the critic.
  module = importlib.import_module(f'configs.{stem}')
  for name in [n.split(':')[1] for n in built[0] if n.startswith(f'{stem}:')]:
    owner = {}
    for dotted, section in sections(module.get_config(name)):
      assert owner.setdefault(id(section), dotted) == dotted


@pytest.mark.parametrize('stem', sorted({*FILES} - {'refcritic', 'evaluate'}))
def test_tiny_is_trained(stem, tmp_path):
  config = importlib.import_module(f'configs.{stem}').get_config('tiny')
  if config.graders.name == 'code':
    try:
      sandbox.find_walls(config.graders.accept_missing)
    except ValueError as error:
      pytest.skip(str(error))
  run(config, tmp_path)
  rows = list(run_dir.read_metrics(tmp_path / 'metrics.jsonl'))
  assert [row['phase'] for row in rows] == [
    name for name in config.order for _ in range(2)
  ]
  assert all(np.isfinite(row['loss/total']) for row in rows)
  assert rows[1]['loss/nll'] < rows[0]['loss/nll']
  assert (tmp_path / 'DONE').exists()
