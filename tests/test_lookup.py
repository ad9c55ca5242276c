import sys
import types

import pytest

from critic_jax import lookup
from critic_jax.objectives import policy

PATH = 'critic_jax.objectives.policy'


def make_catalogue():
  """Makes a module with one function of each kind."""
  module = types.ModuleType('catalogue')
  exec(
    'from textwrap import dedent\n'
    'def public(x, *, beta=1.0): return x * beta\n'
    'def demanding(x, *, beta, gamma): return x\n'
    'def _private(x): return x\n'
    'class Shape: pass\n'
    'constant = 3\n',
    vars(module),
  )
  return module


def test_finds_a_function_by_module_or_path():
  assert lookup.function(policy, 'gspo') is policy.gspo
  assert lookup.function(PATH, 'gspo') is policy.gspo
  assert lookup.function(PATH, 'gspo', ['clip_low']) is policy.gspo


@pytest.mark.parametrize(
  'name', ['_private', 'dedent', 'Shape', 'constant', '__name__', '', None, 3]
)
def test_only_public_functions_of_the_module_have_a_name(name):
  catalogue = make_catalogue()
  assert lookup.function(catalogue, 'public')(2) == 2
  with pytest.raises(ValueError, match="one of .'demanding', 'public'."):
    lookup.function(catalogue, name)


def test_an_unknown_name_gets_the_choices_and_the_nearest():
  with pytest.raises(ValueError) as error:
    lookup.function(PATH, 'ppo_clap')
  message = str(error.value)
  assert "got 'ppo_clap'" in message
  assert "did you mean 'ppo_clip'?" in message
  assert "'cispo', 'gspo'" in message


def test_an_unknown_keyword_gets_the_choices_and_the_nearest():
  with pytest.raises(ValueError) as error:
    lookup.function(PATH, 'ppo_clip', ['clip_hihg'])
  message = str(error.value)
  assert "got 'clip_hihg'" in message
  assert "did you mean 'clip_high'?" in message
  assert "'clip_high', 'clip_low', 'dual_clip'" in message


def test_bind_binds():
  bound = lookup.bind(make_catalogue(), {'name': 'public', 'beta': 3.0})
  assert bound(2) == 6


@pytest.mark.parametrize('settings', [{}, {'beta': 1.0}])
def test_bind_needs_a_name(settings):
  with pytest.raises(ValueError, match="expected 'name'"):
    lookup.bind(policy, settings)


def test_bind_rejects_arrays_and_typos_as_keywords():
  for keyword in ('mask', 'clip'):
    with pytest.raises(ValueError, match=f"got '{keyword}'"):
      lookup.bind(policy, {'name': 'ppo_clip', keyword: 1.0})


def test_bind_names_what_is_missing():
  with pytest.raises(ValueError, match=r"expected also \['gamma'\]"):
    lookup.bind(make_catalogue(), {'name': 'demanding', 'beta': 1.0})


def test_bind_leaves_the_settings_as_they_are():
  settings = {'name': 'ppo_clip', 'clip_low': 0.1}
  lookup.bind(PATH, settings)
  assert settings == {'name': 'ppo_clip', 'clip_low': 0.1}


def test_module_is_imported():
  assert lookup.module('objectives', 'policy') is policy


@pytest.mark.parametrize(
  'name',
  ['polcy', 'policy.jax', '..policy', '', '_policy', '__init__', 'os', None],
)
def test_module_imports_nothing_else(name):
  before = set(sys.modules)
  with pytest.raises(ValueError, match='module of critic_jax.objectives: got'):
    lookup.module('objectives', name)
  assert set(sys.modules) == before


@pytest.mark.parametrize('package', ['os', '..', 'os.path', '', '.objectives'])
def test_module_stays_in_critic_jax(package):
  with pytest.raises(ValueError, match='module of critic_jax: got'):
    lookup.module(package, 'path')


def test_a_package_may_be_dotted():
  plain = lookup.module('rollouts.styles', 'plain')
  assert plain.__name__ == 'critic_jax.rollouts.styles.plain'
  with pytest.raises(
    ValueError, match="module of critic_jax.rollouts: got 'x'"
  ):
    lookup.module('rollouts.x', 'plain')
  with pytest.raises(ValueError, match="styles: got 'plan'.*mean 'plain'"):
    lookup.module('rollouts.styles', 'plan')


@pytest.mark.parametrize('package', ['objectives.policy', 'objectives.policy.'])
def test_a_dotted_package_stays_in_its_folders(package):
  before = set(sys.modules)
  message = 'module of critic_jax.objectives.policy: got'
  with pytest.raises(ValueError, match=message):
    lookup.module(package, 'path')
  assert set(sys.modules) == before


def test_a_module_that_is_no_package_has_no_modules():
  with pytest.raises(ValueError, match='module of critic_jax.types: got'):
    lookup.module('types', 'Problem')


def test_module_suggests_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'policy'?"):
    lookup.module('objectives', 'polcy')
