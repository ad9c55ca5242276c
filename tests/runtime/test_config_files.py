"""Configs by a path or by the name of one that comes with critic_jax."""

import pathlib
import runpy
import sys

import pytest

from critic_jax.runtime import config_files

ROOT = pathlib.Path(config_files.__file__).parents[2]


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
  """Forgets what a test has imported as `configs`."""
  for name in [n for n in sys.modules if n.partition('.')[0] == 'configs']:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setattr(sys, 'path', [*sys.path])


def test_a_name_and_a_path_are_the_same_config(monkeypatch):
  monkeypatch.chdir(ROOT)
  file = ROOT / 'configs/refcritic.py'
  assert config_files.find('refcritic:tiny') == f'{file}:tiny'
  assert config_files.find('refcritic') == str(file)
  assert config_files.find('configs/grpo.py') == 'configs/grpo.py'
  assert 'refcritic' in config_files.names()
  assert not {'common', 'grid'} & {*config_files.names()}


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ('refcritik:tiny', "got 'refcritik'; .* did you mean 'refcritic'"),
    ('common', "got 'common'; expected one of"),
    ('configs/nope.py:a', "got 'configs/nope.py:a', .*refcritic, .*, sft"),
    ('refcritic.py:tiny', "got 'refcritic.py:tiny', which is no file in"),
    ('', "got '', which is no file in"),
  ],
)
def test_what_is_not_there_is_told_with_what_is(config, message):
  with pytest.raises(ValueError, match=message):
    config_files.find(config)


@pytest.mark.parametrize('place', ['.', 'configs'])
def test_a_file_of_ones_own_imports_ours(tmp_path, monkeypatch, place):
  """From a folder `configs`, too, whose own modules come first."""
  (tmp_path / place).mkdir(exist_ok=True)
  (tmp_path / place / 'sft.py').write_text("mine = 'mine'\n")
  file = tmp_path / place / 'own.py'
  file.write_text('from configs import common, sft\nown = vars(sft)\n')
  monkeypatch.setattr(
    sys, 'path', [p for p in sys.path if p not in ('', str(ROOT))]
  )
  config_files.find(f'{file}:small')
  names = runpy.run_path(str(file))
  assert callable(names['common'].base)
  assert ('mine' in names['own']) == (place == 'configs')


def test_ours_import_ours_whatever_lies_around(tmp_path, monkeypatch):
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs/common.py').write_text('raise ImportError\n')
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
  file = config_files.find('refcritic')
  assert runpy.run_path(file)['get_config']('tiny').phases


def test_a_command_line_is_changed_where_it_names_a_config():
  file = str(ROOT / 'configs/sft.py')
  for words in (['--config', 'sft'], ['--config=sft'], ['-config', 'sft']):
    line = ['train', *words, '--config.seed=1', '--workdir', 'sft']
    assert file in ' '.join(config_files.in_arguments(line))
    changed = config_files.in_arguments(line)
    assert changed[-3:] == line[-3:] and len(changed) == len(line)
