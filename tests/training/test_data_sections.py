"""Splits are named, given and read, or refused before a file is opened."""

import re

import pytest
from ml_collections import ConfigDict

from configs import common
from critic_jax.training import data_sections


def config(paths=None, order=('rl',), evals=None):
  """A config with files of its own, and evaluations: (split, paths)."""
  config = common.base()
  config.data = common.files()
  config.data.paths = paths or {}
  config.order = order
  config.evals = {
    name: ConfigDict(dict(split=split, data=data and common.files(**data)))
    for name, (split, data) in (evals or {}).items()
  }
  return config


@pytest.mark.parametrize('section', ['paths', 'fractions'])
def test_a_misspelt_split_is_refused_with_the_nearest(section):
  data = common.files(train='a.csv') | {section: {'trian': ''}}
  message = f"split of {section}: got 'trian'; .*did you mean 'train'"
  with pytest.raises(ValueError, match=message):
    data_sections.check_section(data)


@pytest.mark.parametrize(
  'right',
  [
    config({'train': 'a.csv', 'dev': ''}),
    # A split without a path is a share of train.
    config({'train': 'a.csv'}, evals={'x': ('test', {})}),
    config({'train': 'a.csv', 'dev': 'b'}, evals={'x': ('dev', {})}),
    config({'test': 'a.csv'}, order=(), evals={'x': ('test', {})}),
    config({'train': 'a.csv'}, order=(), evals={'x': ('test', {})}),
    config({'train': 'a'}, evals={'x': ('test', dict(test='b'))}),
    # Equal data is read once, for all that name it.
    config(
      {'train': 'a'},
      evals={
        'x': ('test', dict(train='b', test='c')),
        'y': ('train', dict(train='b', test='c')),
      },
    ),
  ],
)
def test_splits_that_are_given_and_read_pass(right):
  data_sections.check_splits(right)


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    (
      config({'train': 'a.csv', 'dev': 'b.csv'}, evals={'x': ('test', {})}),
      "data.paths.dev: got 'b.csv', which nothing reads; expected paths of "
      r"\['test', 'train'\]; .*--config.evals.NAME.split=dev",
    ),
    (
      config({'train': 'a', 'test': 'b'}, order=(), evals={'x': ('test', {})}),
      "data.paths.train: got 'a', which nothing reads",
    ),
    (
      config({'test': 'b'}, evals={'x': ('test', {})}),
      "data.paths: got {'test': 'b'}; expected 'train', too, which training "
      'reads; write --config.data.paths.train=FILE',
    ),
    (
      config({'train': 'a'}, evals={'x': ('dev', dict(test='b'))}),
      "evals.x.data.paths: got {'test': 'b'}; expected 'dev', too, which "
      'evals.x reads; write --config.evals.x.data.paths.dev=FILE',
    ),
    (config(), 'data.paths: got none'),
    (
      config({'train': 'a'}, evals={'x': ('tets', {})}),
      "evals.x: split: got 'tets'; .*did you mean 'test'",
    ),
  ],
)
def test_splits_that_are_not_given_or_not_read_are_refused(wrong, message):
  with pytest.raises(ValueError) as refused:
    data_sections.check_splits(wrong)
  text = str(refused.value)
  assert re.search(message, text) and '\n' not in text
