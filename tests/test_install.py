"""What `pip install .` installs works from another folder."""

import importlib
import os
import pathlib
import subprocess
import sys

import pytest

setuptools = pytest.importorskip('setuptools')

ROOT = pathlib.Path(__file__).parents[1]
# Reads a config by its name, and an experiment, without a checkout.
CODE = """
import pathlib, sys
import critic_jax
from critic_jax.launch import experiment
from critic_jax.runtime import config_files
assert critic_jax.__file__.startswith(sys.argv[1]), critic_jax.__file__
assert config_files.folder() == pathlib.Path(sys.argv[1], 'critic_jax/configs')
run = experiment.read('refcritic:tiny', {'seed': 1})
assert run.settings.seed == 1 and 'rl' in run.settings.order
assert experiment.load('one.py').runs
assert 'jax' not in sys.modules
"""
EXPERIMENT = """'''Does it work?'''
from configs import grid
CONFIG = 'refcritic:tiny'
GRID = grid.sweep('seed', [0, 1])
TABLE = dict(evaluation='heldout', columns=('rl',), metrics=('accuracy',))
"""


@pytest.fixture(scope='module')
def arguments():
  """Returns what setup.py tells setuptools."""
  told = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(ROOT)
    patch.setattr(setuptools, 'setup', lambda **settings: told.update(settings))
    exec((ROOT / 'setup.py').read_text(), {'__file__': str(ROOT / 'setup.py')})
  return told


@pytest.fixture(scope='module')
def site(arguments, tmp_path_factory):
  """Builds what a wheel has; returns the folder."""
  path = tmp_path_factory.mktemp('site')
  names = ('packages', 'package_dir', 'package_data')
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(ROOT)
    distribution = setuptools.Distribution(
      {'script_name': 'setup.py', **{name: arguments[name] for name in names}}
    )
    build = distribution.get_command_obj('build_py')
    build.build_lib = str(path)
    distribution.run_command('build_py')
  return path


def test_every_file_of_a_room_and_every_config_is_installed(site):
  def files(folder, *skipped):
    return sorted(
      str(path.relative_to(folder))
      for path in folder.rglob('*.*')
      if path.is_file() and path.suffix not in ('.pyc', '.md')
      if not str(path.relative_to(folder)).startswith(skipped or ('//',))
    )

  installed = site / 'critic_jax'
  assert files(installed, 'configs/') == files(ROOT / 'critic_jax')
  assert files(installed / 'configs') == files(ROOT / 'configs')
  assert [path.name for path in site.iterdir()] == ['critic_jax']


def test_configs_are_read_from_another_folder(site, tmp_path):
  (tmp_path / 'one.py').write_text(EXPERIMENT)
  environment = os.environ | {'PYTHONPATH': str(site)}
  command = [sys.executable, '-c', CODE, str(site)]
  process = subprocess.run(
    command, cwd=tmp_path, env=environment, capture_output=True, text=True
  )
  assert process.returncode == 0, process.stderr


def test_every_command_is_a_function_and_has_a_module(arguments):
  scripts = arguments['entry_points']['console_scripts']
  assert len(scripts) == 8
  for script in scripts:
    name, function = script.split(' = ')
    module, attribute = function.split(':')
    assert callable(getattr(importlib.import_module(module), attribute))
    command = name.removeprefix('critic-jax-')
    assert module.removesuffix('.__main__') == f'critic_jax.{command}'
