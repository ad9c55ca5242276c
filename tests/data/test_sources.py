import inspect
import json

import pytest

from critic_jax import lookup
from critic_jax.data import sources
from critic_jax.tasks import arithmetic


def sizes(splits):
  return {name: len(split) for name, split in splits.items()}


def test_the_embedded_world_by_a_config():
  splits = lookup.bind(
    sources,
    dict(name='arithmetic', num_train=30, num_dev=4, num_test=5, max_steps=3),
  )()
  assert sizes(splits) == {'train': 30, 'dev': 4, 'test': 5}
  programs = [
    arithmetic.read_program(p) for split in splits.values() for p in split
  ]
  train, other_programs = set(programs[:30]), set(programs[30:])
  assert not train & other_programs
  assert splits == sources.arithmetic(
    num_train=30, num_dev=4, num_test=5, max_steps=3
  )


def test_a_file_is_split_once_and_for_all(tmp_path):
  rows = [
    dict(question=f'What is {i} + 1?', answer=f'It is {i + 1}.\n#### {i + 1}')
    for i in range(200)
  ]
  path = tmp_path / 'sums.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  config = dict(name='files', paths=str(path), data_dir=str(tmp_path / 'data'))
  splits = lookup.bind(sources, config)()
  assert sum(sizes(splits).values()) == 200
  # 90, 5 and 5 of 100 by the hash of the question: 180, 10, 10, roughly.
  assert len(splits['train']) > 160
  questions = {
    name: {p.question for p in split} for name, split in splits.items()
  }
  assert not questions['train'] & questions['test']
  assert not questions['train'] & questions['dev']
  assert not questions['dev'] & questions['test']
  sources_again = lookup.bind(sources, config)()
  assert {n: list(s) for n, s in sources_again.items()} == {
    n: list(s) for n, s in splits.items()
  }
  # A row more moves no other row to another split.
  path.write_text(
    '\n'.join(map(json.dumps, [*rows, dict(question='?', answer='#### 1')]))
  )
  larger_sources = lookup.bind(sources, config)()
  for name in questions:
    assert questions[name] <= {p.question for p in larger_sources[name]}


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match='nowhere.jsonl.*no such file'):
    sources.files(
      paths={'train': str(tmp_path / 'nowhere.jsonl')},
      data_dir=str(tmp_path / 'data'),
    )


def test_an_unknown_source_lists_the_choices():
  with pytest.raises(ValueError, match="did you mean 'arithmetic'"):
    lookup.bind(sources, dict(name='arithmetics'))
  with pytest.raises(ValueError, match='num_trian'):
    lookup.bind(sources, dict(name='arithmetic', num_trian=3))


def test_sources_take_settings_only():
  for name in ('arithmetic', 'files', 'tfds'):
    parameters = inspect.signature(getattr(sources, name)).parameters.values()
    assert {p.kind for p in parameters} == {inspect.Parameter.KEYWORD_ONLY}


def test_two_files_must_not_hold_the_same_ids(tmp_path):
  row = dict(id='p-1', problem='x?', steps=['a'], label=-1, complete=True)
  paths = [tmp_path / 'a.jsonl', tmp_path / 'b.jsonl']
  for path in paths:
    path.write_text(json.dumps(row))
  reasons = {'paths: got 1 solutions again in': paths}
  reasons['paths: got .*a.jsonl twice; expected each file once'] = paths[:1] * 2
  for reason, file_pair in reasons.items():
    with pytest.raises(ValueError, match=reason):
      sources.solutions(paths=[str(path) for path in file_pair])
  paths[1].write_text(json.dumps(row | {'id': 'p-2'}))
  assert (
    len(sources.solutions(paths=[str(path) for path in paths])['test']) == 2
  )
