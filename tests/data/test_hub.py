"""Sets of the hub, with a stand-in for `datasets` and its network."""

import pathlib
import shutil
import sys
import types

import pytest

from critic_jax.data import sources

GOLDEN = pathlib.Path(__file__).parents[1] / 'goldens' / 'hf_sums'
SHARES = {'train': 1.0, 'dev': 0.0, 'test': 0.0}


class Saved:
  """A DatasetDict: it is saved as the real one saves itself."""

  def save_to_disk(self, path):
    shutil.copytree(GOLDEN, path)


@pytest.fixture
def calls(monkeypatch):
  """The calls of `load_dataset`; OWNER/none is not there."""
  names = []

  def load_dataset(name, subset=None):
    names.append((name, subset))
    if name.endswith('none'):
      raise ConnectionError(f"Couldn't reach '{name}' on the Hub\nmore")
    return Saved()

  module = types.ModuleType('datasets')
  module.load_dataset = load_dataset
  monkeypatch.setitem(sys.modules, 'datasets', module)
  return names


def read(name, tmp_path):
  return sources.files(
    paths={'train': name}, data_dir=str(tmp_path), fractions=SHARES
  )


def test_a_set_of_the_hub_is_fetched_once(calls, tmp_path):
  splits = read('hf://openai/gsm8k/main', tmp_path)
  assert [p.answer for p in splits['train']] == ['1', '2', '3']
  assert [p.id for p in splits['test']] == ['main-test-0']
  assert read('hf://openai/gsm8k/main', tmp_path) == splits
  assert calls == [('openai/gsm8k', 'main')]
  read('hf://datasets/openai/gsm8k', tmp_path)
  assert calls[1:] == [('openai/gsm8k', None)]
  assert (tmp_path / 'hub' / 'openai--gsm8k' / 'gsm8k' / 'train').is_dir()


def test_without_a_network_the_error_says_how_to_have_it_here(calls, tmp_path):
  with pytest.raises(
    ValueError,
    match=r"paths\.train: got ConnectionError for 'hf://a/none' \(Couldn't "
    r"reach 'a/none' on the Hub\); expected a set that the hub has; where .* "
    r'`hf download a/none --repo-type dataset --local-dir none`, copy the '
    r'folder and write --config\.data\.paths\.train=none$',
  ):
    read('hf://a/none', tmp_path)
  assert not [*(tmp_path / 'hub' / 'a--none').iterdir()]


def test_without_the_package_the_error_names_the_extra(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'datasets', None)
  with pytest.raises(ValueError, match=r"pip install -e '\.\[hf\]', or where"):
    read('hf://openai/gsm8k', tmp_path)


@pytest.mark.parametrize(
  'name',
  ['hf://gsm8k', 'hf://a/b/c/d', 'hf://../x', 'hf://a/..', 'hf://a/b/..'],
)
def test_other_names_are_refused(calls, tmp_path, name):
  with pytest.raises(ValueError, match='expected hf://OWNER/NAME'):
    read(name, tmp_path)
  assert not calls
