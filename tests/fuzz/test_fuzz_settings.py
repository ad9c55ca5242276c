"""Settings: what a config or a command line says is a setting or an error."""

import functools
import importlib
import inspect
import pathlib
import re
import types
from unittest import mock

from absl import flags
from fuzzing import FRAGMENTS, altered, deep, numbers, refused, texts, values
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict, config_flags

from critic_jax import lookup
from critic_jax.inspection import limits
from critic_jax.runtime import cli
from critic_jax.training import phases
from critic_jax.workdir import settings as settings_lib

ROOT = pathlib.Path(__file__).parents[2]
LITERALS = (
  '0', '-1', '1e999', 'nan', 'None', '(1,', '[1, [2', "{'a': 1}", '()', 'True',
  "__import__('os').system('touch hacked')", 'open("/etc/passwd")', '9' * 5000,
  '1+1', 'lambda: 0', '9**9**9', deep(50), deep(5000), '-' * 5000 + '1', "'",
)  # fmt: skip


def tiny():
  return importlib.import_module('configs.refcritic').get_config('tiny')


@functools.cache
def names():
  return sorted(
    name for name, _ in settings_lib.leaves(settings_lib.plain(tiny()))
  )


def parse(arguments):
  """Returns the config of a command line, or what it exits with."""
  argv = ['train', f'--config={ROOT}/configs/refcritic.py:tiny', *arguments]
  flag_values = flags.FlagValues()
  flags.DEFINE_string('workdir', None, '', flag_values=flag_values)
  config = config_flags.DEFINE_config_file(
    'config', flag_values=flag_values, sys_argv=argv
  )
  with (
    mock.patch.object(flags, 'FLAGS', flag_values),
    mock.patch.object(cli, '_CONFIG', config),
  ):
    try:
      cli.parse_flags(argv)
    except SystemExit as error:
      return str(error)
  return config.value


words = st.sampled_from((*LITERALS, *FRAGMENTS)) | texts(max_size=3)


@given(st.sampled_from(names()), words)
def test_an_override_sets_what_it_names_or_is_one_line(name, value):
  result = parse([f'--config.{name}={value}'])
  if isinstance(result, str):
    assert result.startswith('error: ') and '\n' not in result
    return
  changed = settings_lib.differences(
    settings_lib.plain(result), settings_lib.plain(tiny())
  )
  assert all(
    key == name or key.startswith(f'{name}.') or name.startswith(f'{key}.')
    for key in changed
  ), changed
  assert not list(pathlib.Path.cwd().glob('hacked*'))


@given(texts('config', '.', '=', '[0]', 'phases', '__class__', 'seed', '--'))
def test_any_word_of_a_command_line(word):
  result = parse([f'--config.{word}'])
  assert isinstance(result, ConfigDict) or re.fullmatch('error: .*', result)


def test_a_sound_override():
  assert parse(['--config.seed=7']).seed == 7
  assert parse(['--config.order=("rl",)']).order == ('rl',)
  assert parse(['--config.seed=x']).startswith('error: ')


@given(
  st.sampled_from(('recipes', 'data', 'tasks', 'models')) | texts(),
  texts('..', '.', 'os', 'refcritic', '__init__', '/', '__main__') | values(),
)
def test_only_modules_of_the_package_are_imported(package, name):
  with refused():
    module = lookup.module(package, name)
    assert isinstance(module, types.ModuleType)
    assert module.__name__ == f'critic_jax.{package}.{name}'


@given(
  altered({'name': 'ppo_clip', 'clip_low': 0.2, 'clip_high': 0.28}),
  st.sampled_from(('objectives.policy', 'rewards.shaping', 'data.sources')),
)
def test_any_settings_of_a_function(settings, module):
  if not isinstance(settings, dict):
    return
  with refused():
    function = lookup.bind(f'critic_jax.{module}', settings)
    assert function.func.__module__ == f'critic_jax.{module}'
    keywords = inspect.signature(function.func).parameters
    assert set(function.keywords) <= set(keywords)


@given(
  altered({'critique/judge': {'low': 0.1, 'high': 2, 'relative': True}}),
  st.sampled_from(('warn', 'stop')) | values(),
  st.integers(-2, 9) | values(),
  st.lists(st.dictionaries(texts(max_size=1), st.floats()), max_size=3),
)
def test_any_limits(section, action, window, rows):
  with refused():
    limits.check(section, action, window)
    lines = [row | {'critique/judge': 1.0, 'step': 0} for row in rows]
    for _, text in limits.warnings(lines, section, window):
      assert ', outside of [' in text


@functools.cache
def lms():
  from critic_jax.training import roles

  return roles.make_lms(tiny().models)


def _changed(section, name, value):
  *above, last = name.split('.')
  for key in above:
    section = section[key]
  with section.ignore_type():
    section[last] = value


@given(st.sampled_from([n for n in names() if n[:7] == 'phases.']), st.data())
def test_any_phase(name, data):
  config = tiny()
  old = dict(settings_lib.leaves(settings_lib.plain(config)))[name]
  _changed(config, name, data.draw(_like(old)))
  try:
    phase_list = phases.make_phases(config, lms(), None)
    assert [phase.name for phase in phase_list] == list(config.order)
  except ValueError as error:  # with the reason as Python has it, if by a type
    assert str(error).startswith(f'phases.{name.split(".")[1]}: ')


def _like(old):
  """Draws values that the command line could set in a value's place."""
  if isinstance(old, bool):
    return st.booleans()
  if isinstance(old, int):
    return numbers().filter(lambda x: isinstance(x, int))
  if isinstance(old, float):
    return numbers().map(lambda x: float(min(max(x, -1e308), 1e308)))
  if isinstance(old, dict):
    inner = st.dictionaries(texts(max_size=2), values(), max_size=2)
    return inner.map(ConfigDict)
  if isinstance(old, list):
    return st.lists(values(), max_size=3).map(tuple)
  return texts('sft', 'constant', 'ppo_clip', 'solver', max_size=2)
