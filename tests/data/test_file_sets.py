"""Files, folders, patterns and saved sets, and the splits that they have."""

import json
import pathlib
import shutil

import pytest

from critic_jax.data import file_sets, sources

GOLDEN = pathlib.Path(__file__).parents[1] / 'goldens' / 'hf_sums'


def lines(*numbers, **others):
  rows = [{'question': f'What is {i} + 0?', 'answer': i} for i in numbers]
  return ''.join(json.dumps(row | others) + '\n' for row in rows)


def make(folder, **files):
  """Writes files; '__' in a name is a slash, '_' before its ending a dot."""
  for name, text in files.items():
    path = folder / name.replace('__', '/').replace('_jsonl', '.jsonl')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return folder


def read(paths, **settings):
  """Reads without a prepared set; ids and answers by split."""
  settings = {'data_dir': '', **settings}
  splits = sources.files(paths=paths, **settings)
  return {s: {p.id: p.answer for p in part} for s, part in splits.items()}


ALL = {'fractions': {'train': 1.0, 'dev': 0.0, 'test': 0.0}}


def test_a_folder_a_pattern_and_a_list_are_the_same_files(tmp_path):
  make(tmp_path, a_jsonl=lines(1, 2), b_jsonl=lines(3), README='x')
  make(tmp_path, _SUCCESS='', **{'.hidden_jsonl': 'x'})
  expected = {'a-0': '1', 'a-1': '2', 'b-0': '3'}
  names = [str(tmp_path / name) for name in ('a.jsonl', 'b.jsonl')]
  for path in (
    str(tmp_path), str(tmp_path / '*.jsonl'), names, ','.join(names),
  ):  # fmt: skip
    assert read(path, **ALL)['train'] == expected
  # A path with a comma is that path.
  shutil.copy(names[0], tmp_path / 'c,d.jsonl')
  assert read(str(tmp_path / 'c,d.jsonl'), **ALL)['train'] == {
    'c,d-0': '1', 'c,d-1': '2',
  }  # fmt: skip


def test_ids_of_several_files_are_apart(tmp_path):
  make(tmp_path, a__x_jsonl=lines(1, id=7), b__x_jsonl=lines(2, id=7))
  both = f'{tmp_path}/a/x.jsonl,{tmp_path}/b/x.jsonl'
  assert read(both, **ALL)['train'] == {'a-x-7': '1', 'b-x-7': '2'}
  one = read(str(tmp_path / 'a' / 'x.jsonl'), **ALL)
  assert one['train'] == {'7': '1'}


def test_parts_of_a_file_are_counted_on(tmp_path):
  for i, numbers in enumerate(([1, 2], [3])):
    (tmp_path / f'x-0000{i}-of-00002.jsonl').write_text(lines(*numbers))
  assert read(str(tmp_path), **ALL)['train'] == {
    'x-0': '1', 'x-1': '2', 'x-2': '3',
  }  # fmt: skip


@pytest.mark.parametrize(
  'names',
  [
    ('train_jsonl', 'test_jsonl', 'validation_jsonl'),
    ('a_train_jsonl', 'a_test_jsonl', 'a_dev_jsonl'),
    ('train__x_jsonl', 'test__y_jsonl', 'val__z_jsonl'),
    ('main__train_jsonl', 'main__test_jsonl', 'main__valid_jsonl'),
  ],
)
def test_a_folder_may_have_splits(tmp_path, names):
  files = dict(zip(names, map(lines, (1, 2, 3)), strict=True))
  splits = read({'train': str(make(tmp_path, **files))})
  assert {s: [*part.values()] for s, part in splits.items()} == {
    'train': ['1'], 'test': ['2'], 'dev': ['3'],
  }  # fmt: skip
  assert read({'test': str(tmp_path)})['test'] == splits['test']


def test_a_split_without_a_path_is_a_share_of_train(tmp_path):
  make(tmp_path, a_jsonl=lines(*range(400)), b_jsonl=lines(*range(500, 520)))
  splits = read(
    {'train': str(tmp_path / 'a.jsonl'), 'test': str(tmp_path / 'b.jsonl')},
    fractions={'train': 0.6, 'dev': 0.2, 'test': 0.2},
  )
  assert len(splits['test']) == 20
  assert len(splits['train']) + len(splits['dev']) == 400
  assert 70 < len(splits['dev']) < 130  # a quarter of 400
  alone = read({'test': str(tmp_path / 'b.jsonl'), 'train': '', 'dev': ''})
  assert {split: len(part) for split, part in alone.items()} == {'test': 20}


@pytest.mark.parametrize(
  ('fractions', 'reason'),
  [
    ({'train': 0.0, 'dev': 1.0}, 'got .*; expected a share of train, beside'),
    ({'train': 0.5, 'eval': 0.5}, "got 'eval'; expected one of"),
    ({'train': 0.5}, r'got .*; expected shares >= 0 that sum to 1'),
  ],
)
def test_shares_that_leave_nothing_to_train_on(tmp_path, fractions, reason):
  make(tmp_path, a_jsonl=lines(1, 2), b_jsonl=lines(3))
  paths = {s: str(tmp_path / f'{n}.jsonl') for s, n in (
    ('train', 'a'), ('test', 'b'))}  # fmt: skip
  with pytest.raises(ValueError, match=f'fractions: {reason}'):
    read(paths, fractions=fractions)
  # Of one file all may be measured on.
  splits = read(paths['train'], fractions={'test': 1.0})
  assert [len(splits[s]) for s in ('train', 'test')] == [0, 2]


def test_a_question_of_test_is_not_trained_on(tmp_path, capsys):
  make(tmp_path, a_jsonl=lines(1, 2, 3), b_jsonl=lines(3, 4).lower())
  paths = {split: str(tmp_path / f'{name}.jsonl') for split, name in (
    ('train', 'a'), ('test', 'b'))}  # fmt: skip
  splits = read(paths, fractions={'train': 1.0, 'dev': 0.0, 'test': 0.0})
  assert [*splits['train'].values()] == ['1', '2']
  assert [*splits['test'].values()] == ['3', '4']
  assert (
    '1 of 3 questions of train are in test, too, and are left out of train'
    in capsys.readouterr().out
  )
  make(tmp_path, a_jsonl=lines(3))
  with pytest.raises(ValueError, match='paths.train: got only questions that'):
    read(paths)


def test_a_folder_that_datasets_saved():
  """The golden is of `datasets` 5.2: DatasetDict.save_to_disk."""
  train = {f'hf_sums-train-{i}': str(i + 1) for i in range(3)}
  test = {'hf_sums-test-0': '10'}
  shares = {'train': 1.0, 'dev': 0.0, 'test': 0.0}
  splits = read({'train': str(GOLDEN)}, fractions=shares)
  assert splits == {'train': train, 'test': test, 'dev': {}}
  one = read({'train': str(GOLDEN / 'train')}, **ALL)['train']
  assert one == {str(i): str(i + 1) for i in range(3)}


@pytest.mark.parametrize(
  'name', ['../secret.arrow', '/etc/passwd', 5, '', '..']
)
def test_a_saved_set_names_files_of_its_folder(tmp_path, name):
  folder = shutil.copytree(GOLDEN, tmp_path / 'x')
  (folder / 'train' / 'state.json').write_text(
    json.dumps({'_data_files': [{'filename': name}]})
  )
  with pytest.raises(ValueError, match='expected names of files of its folder'):
    read({'train': str(folder)})
  (folder / 'dataset_dict.json').write_text(json.dumps({'splits': [name]}))
  with pytest.raises(ValueError, match='expected names of folders'):
    read({'train': str(folder)})


def test_half_of_a_saved_set_is_refused(tmp_path):
  folder = shutil.copytree(GOLDEN, tmp_path / 'x')
  (folder / 'test' / 'state.json').unlink()
  with pytest.raises(ValueError, match='state.json: got no such file.*copy it'):
    read({'train': str(folder)})


WRONG = {
  'no such file': (
    {'train': '{}/train.jsonk'},
    r"paths\.train: got '\S+train\.jsonk', and no such file; expected a file, "
    r'a folder or a pattern.*; write --config\.data\.paths\.train=\S+\.jsonl$',
  ),
  'no such folder': (
    {'test': '{}/nowhere/a.csv'},
    r'paths\.test: got .*; there is no folder \S+nowhere',
  ),
  'a name of the hub': (
    {'train': 'openai/gsm8k'},
    r"paths\.train: got 'openai/gsm8k'.*write --config\.data\.paths\.train="
    r'hf://openai/gsm8k',
  ),
  'a pattern of nothing': (
    {'train': '{}/*.csv'}, r"paths\.train: got '\S+\*\.csv', and no such file",
  ),
  'a folder without rows': (
    {'train': '{}/empty'},
    r'paths\.train: got \S+empty, which has no file of rows but \[.x\.txt.\]; '
    r'expected files that end in .*\.parquet.*name the folder that has some: '
    r'--config\.data\.paths\.train=FOLDER$',
  ),
  'several folders': (
    {'train': '{}/two'},
    r"paths\.train: got \S+two, which has no file of rows but \['main', 'other"
    r"'\];.*--config\.data\.paths\.train=\S+two/main",
  ),
  'a file beside splits': (
    {'train': '{}/mixed'},
    r"paths\.train: got \S+mixed, which has more\.jsonl beside files of "
    r"\['test', 'train'\]; .*--config\.data\.paths\.train="
    r'\S+mixed/test\.jsonl$',
  ),
  'no such split': (
    {'dev': '{}/splits'},
    r"paths\.dev: got '\S+splits' with the splits \['test', 'train'\]; "
    r"expected 'dev' among them; write --config\.data\.paths\.dev=FILE",
  ),
  'no path': (
    {'train': '', 'test': ''},
    r'paths: got .*; expected a file for train, or for test; write --config\.'
    r'data\.paths\.train=FILE',
  ),
  'another split': (
    {'tset': 'a'}, r"paths: got 'tset'; expected one of .* you mean 'test'",
  ),
  'a file twice': (
    {'train': '{}/train.jsonl', 'test': '{}/train.jsonl'},
    r'paths: got \S+train\.jsonl twice; expected each file once',
  ),
  'a number': ({'train': 5}, r'paths\.train: got 5; expected a path'),
}  # fmt: skip


@pytest.mark.parametrize('name', WRONG)
def test_a_path_that_leads_nowhere_says_what_to_type(tmp_path, name):
  row = lines(1)
  make(
    tmp_path, train_jsonl=row, **{
      'empty__x.txt': '', 'two__main__a_jsonl': row, 'two__other__a_jsonl': row,
      'mixed__train_jsonl': row, 'mixed__test_jsonl': row,
      'mixed__more_jsonl': row, 'splits__train_jsonl': row,
      'splits__test_jsonl': row,
    },
  )  # fmt: skip
  paths, reason = WRONG[name]
  paths = {
    split: p.format(tmp_path) if isinstance(p, str) else p
    for split, p in paths.items()
  }
  with pytest.raises(ValueError, match=reason) as error:
    read(paths)
  assert '\n' not in str(error.value)


def test_several_files_are_prepared_once(tmp_path, monkeypatch):
  make(tmp_path / 'in', a_jsonl=lines(1, 2), b_jsonl=lines(3))
  paths, data_dir = str(tmp_path / 'in'), str(tmp_path / 'sets')
  first = read(paths, data_dir=data_dir, **ALL)
  monkeypatch.setattr('critic_jax.data.problems.read', None)
  assert read(paths, data_dir=data_dir, **ALL) == first
  make(tmp_path / 'in', b_jsonl=lines(4))
  with pytest.raises(TypeError):  # another content is read anew
    read(paths, data_dir=data_dir, **ALL)


def test_the_label_of_files():
  sets = [*file_sets.of('a.csv'), *file_sets.of('b.csv')]
  assert file_sets.label(sets) == 'a.csv and 1 more'
