"""The data of evaluations: read once, and refused by the flag to type."""

import json

import pytest
from ml_collections import ConfigDict

from critic_jax.data import problems
from critic_jax.training import eval_phases


def section(path='', **settings):
  data = dict(name='files', paths=dict(test=str(path)), data_dir='', **settings)
  section = dict(split='test', num_examples=0, data=data if path else {})
  return ConfigDict(section)


def test_equal_data_is_read_once(tmp_path, monkeypatch):
  path = tmp_path / 'a.jsonl'
  path.write_text(json.dumps({'question': 'What is 3 + 4?', 'answer': 7}))
  calls, read = [], problems.read

  def counted(*args, **settings):
    calls.append(settings['layout'])
    return read(*args, **settings)

  monkeypatch.setattr(problems, 'read', counted)
  config, pairs = ConfigDict({'data': section(path).data}), []
  for other in (section(path), section(), section(path, layout='generic')):
    [problem] = eval_phases._examples('x', other, config, pairs)
    assert problem.answer == '7'
  assert calls == ['auto', 'generic']


def test_an_error_names_the_flag_of_its_section(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('prompt,label\nWhat?,7\n')
  config = ConfigDict({'data': section(path).data})
  for other, flag in (
    (
      section(path),
      r"write --config\.evals\.x\.data\.columns='question=prompt",
    ),
    (section(), r"write --config\.data\.columns='question=prompt"),
  ):
    with pytest.raises(ValueError, match=flag):
      eval_phases._examples('x', other, config, [])
