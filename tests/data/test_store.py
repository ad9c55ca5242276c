import importlib
import itertools
import json
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from critic_jax.data import problems, store


@pytest.fixture
def file(tmp_path):
  return write(tmp_path / 'sums.jsonl', 5)


def write(path, number, name='Ann'):
  rows = [
    {
      'question': f'{name} hat {i} Äpfel?',
      'answer': i,
      'solution': f'Zählen: \\boxed{{{i}}}',
    }
    for i in range(number)
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def folders(data_dir):
  return sorted(path.name for path in pathlib.Path(data_dir).iterdir())


def test_prepared_problems_are_those_of_the_file(file, tmp_path):
  prepared = store.prepare(file, tmp_path / 'data')
  expected = problems.read(file)
  assert list(prepared) == expected
  assert len(prepared) == 5
  assert prepared[3] == expected[3]
  assert prepared[np.int64(-1)] == expected[-1]
  assert prepared[1:4] == expected[1:4]
  with pytest.raises(IndexError):
    prepared[5]


def test_prepared_problems_can_be_pickled(file, tmp_path):
  prepared = store.prepare(file, tmp_path / 'data')
  assert list(pickle.loads(pickle.dumps(prepared))) == list(prepared)


def test_a_file_is_converted_once(file, tmp_path, monkeypatch):
  first = store.prepare(file, tmp_path / 'data')
  monkeypatch.setattr(store, '_write', None)  # a second call would fail
  monkeypatch.setattr(problems, 'read', None)
  assert list(store.prepare(file, tmp_path / 'data')) == list(first)


def test_a_changed_file_or_setting_is_converted_anew(file, tmp_path):
  data_dir = tmp_path / 'data'
  old = store.prepare(file, data_dir)
  store.prepare(file, data_dir, bad_rows='skip')
  new = store.prepare(write(file, 5, name='Bob'), data_dir)
  assert 'Bob' in new[0].question
  assert 'Ann' in old[0].question
  assert len(folders(data_dir)) == 3


def test_a_bad_row_leaves_nothing_behind(file, tmp_path):
  file.write_text(file.read_text() + '\n{}')
  with pytest.raises(ValueError, match='sums.jsonl:6'):
    store.prepare(file, tmp_path / 'data')
  assert not (tmp_path / 'data').exists()
  reports = []
  prepared = store.prepare(
    file, tmp_path / 'data', bad_rows='skip', report=reports.append
  )
  assert len(prepared) == 5
  assert '1 of 6 rows skipped' in reports[0]


def test_an_interrupted_preparation_is_not_taken_as_done(
  file, tmp_path, monkeypatch
):
  rename = pathlib.Path.rename

  def interrupt(path, target):
    if path.name != 'complete':  # of tfds
      return rename(path, target)
    assert list(path.rglob('*.array_record*'))  # the last moment
    raise KeyboardInterrupt

  monkeypatch.setattr(pathlib.Path, 'rename', interrupt)
  with pytest.raises(KeyboardInterrupt):
    store.prepare(file, tmp_path / 'data')
  assert folders(tmp_path / 'data') == []
  monkeypatch.setattr(pathlib.Path, 'rename', rename)
  # A process that was killed also leaves its files.
  (tmp_path / 'data' / '.incomplete-x' / 'complete' / 'problems').mkdir(
    parents=True
  )
  assert len(store.prepare(file, tmp_path / 'data')) == 5


def test_two_processes_may_prepare_the_same_file(file, tmp_path, monkeypatch):
  write_once = store._write

  def write_after_another(rows, folder):
    write_once(rows, folder)  # the other process, in the meantime
    write_once(rows, folder)

  monkeypatch.setattr(store, '_write', write_after_another)
  assert len(store.prepare(file, tmp_path / 'data')) == 5
  assert len(folders(tmp_path / 'data')) == 1


@pytest.mark.parametrize('pattern', ['*.json', '*.array_record*'])
def test_a_damaged_set_names_its_folder(file, tmp_path, pattern):
  store.prepare(file, tmp_path / 'data')
  for path in (tmp_path / 'data').rglob(pattern):
    path.write_bytes(b'')
  with pytest.raises(ValueError, match='damaged set.*delete the folder'):
    store.prepare(file, tmp_path / 'data')


def test_odd_file_names(tmp_path):
  path = write(tmp_path / 'a b%{x}é.jsonl', 2)
  prepared = store.prepare(path, tmp_path / 'data')
  assert prepared[0].id == 'a b%{x}é-0'
  (folder,) = folders(tmp_path / 'data')
  assert folder.startswith('a_b__x_é-')


def test_neither_tensorflow_nor_jax_nor_noise(file, tmp_path):
  program = (
    'import sys\n'
    'from critic_jax.data import store\n'
    'assert "tensorflow_datasets" not in sys.modules\n'
    'prepared = store.prepare(sys.argv[1], sys.argv[2])\n'
    'assert len(prepared[:]) == 5\n'
    'wrong = {"tensorflow", "jax", "torch"} & set(sys.modules)\n'
    'assert not wrong, wrong\n'
  )
  process = subprocess.run(
    [sys.executable, '-c', program, file, tmp_path / 'data'],
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).parents[2],
  )
  assert process.returncode == 0, process.stderr
  assert process.stdout == process.stderr == ''


def publish(data_dir, rows, file_format='array_record'):
  """Writes a set to `data_dir`, as tfds leaves it there after a download."""
  tfds = importlib.import_module('tensorflow_datasets')

  class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    name = 'toy'
    VERSION = tfds.core.Version('1.0.0')
    code_path = None

    def _info(self):
      text = tfds.features.Text()
      features = tfds.features.FeaturesDict(dict.fromkeys(rows[0], text))
      return tfds.core.DatasetInfo(
        builder=self, features=features, disable_shuffling=True
      )

    def _split_generators(self, dl_manager):
      return {'train': enumerate(rows), 'test': enumerate(rows[:1])}

    def _generate_examples(self):
      raise NotImplementedError

  Toy(data_dir=data_dir, file_format=file_format).download_and_prepare(
    download_dir=data_dir
  )


ROWS = [
  {'question': f'Was ist {i} + {i}, Zoë?', 'answer': f'Zählen.\n#### {2 * i}'}
  for i in range(4)
]


def test_published_reads_what_is_prepared(tmp_path):
  publish(tmp_path, ROWS)
  read = store.published('toy', tmp_path)
  assert [p.answer for p in read] == ['0', '2', '4', '6']
  assert [p.id for p in read][:2] == ['toy-train-0', 'toy-train-1']
  assert read[1].question == 'Was ist 1 + 1, Zoë?'
  assert len(store.published('toy', tmp_path, split='test')) == 1
  assert len(store.published('toy', tmp_path, split='train[:50%]')) == 2


def test_published_needs_a_split_that_exists(tmp_path):
  publish(tmp_path, ROWS)
  with pytest.raises(ValueError, match="'dev'"):
    store.published('toy', tmp_path, split='dev')


def test_published_needs_rows_that_are_problems(tmp_path):
  publish(tmp_path, [{'text': 'x'}])
  with pytest.raises(ValueError, match="fields: got .'text'.; expected"):
    store.published('toy', tmp_path)


def test_published_says_what_is_missing_without_a_network(tmp_path):
  with pytest.raises(
    ValueError, match='gsm8k: got nothing in .*tfds build gsm8k'
  ):
    store.published('gsm8k', tmp_path)


def test_published_names_an_unknown_set(tmp_path):
  with pytest.raises(ValueError, match="name: got 'gsm9k'; expected"):
    store.published('gsm9k', tmp_path)


def test_shuffled_golden():
  # The order of a published run must never change.
  assert store.shuffled(8, seed=0, epoch=0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]


def test_shuffled_is_a_permutation_for_each_seed_and_epoch():
  orders = [
    store.shuffled(50, seed=seed, epoch=epoch)
    for seed, epoch in itertools.product((0, 1, 2**64 - 1), (0, 1))
  ]
  for order in orders:
    assert sorted(order) == list(range(50))
  for first, second in itertools.combinations(orders, 2):
    assert list(first) != list(second)


def test_shuffled_places_are_uniform():
  # Where example 0 lands, 2000 times in 4 places: 500 each, deviation 19.
  places = [
    int(np.flatnonzero(store.shuffled(4, seed=7, epoch=epoch) == 0)[0])
    for epoch in range(2000)
  ]
  assert np.all(np.abs(np.bincount(places, minlength=4) - 500) < 5 * 19)


def take(number, *args, **settings):
  return list(itertools.islice(store.batches(*args, **settings), number))


@pytest.mark.parametrize('batch_size', [1, 3, 7, 20])
def test_batches_resume_at_any_step(batch_size):
  whole = take(12, range(7), batch_size, seed=3)
  assert all(len(batch) == batch_size for batch in whole)
  for step in range(12):
    resumed_batches = take(
      12 - step, range(7), batch_size, seed=3, start_step=step
    )
    assert resumed_batches == whole[step:]


@pytest.mark.parametrize('batch_size', [1, 3, 7, 20])
def test_batches_drop_no_row_at_the_end_of_an_epoch(batch_size):
  stream = sum(take(7, range(7), batch_size, seed=3), [])
  for epoch in range(batch_size):
    indices = stream[7 * epoch : 7 * (epoch + 1)]
    assert indices == store.shuffled(7, seed=3, epoch=epoch).tolist()


def test_batches_depend_on_the_seed():
  assert take(3, range(9), 3, seed=0) != take(3, range(9), 3, seed=1)


def test_a_data_dir_may_have_any_name_but_a_pattern_of_folders(file, tmp_path):
  """Tfds looks for its files by patterns, too, as orbax does."""
  folder = tmp_path / 'a[1]?*\\{b}%41 #@2\né'
  for _ in range(2):
    assert len(store.prepare(file, folder)) == 5
  with pytest.raises(ValueError, match=r'data_dir: got .* without \*\*'):
    store.prepare(file, tmp_path / 'a**b')


def test_batches_of_prepared_problems(file, tmp_path):
  prepared = store.prepare(file, tmp_path / 'data')
  (batch,) = take(1, prepared, 5, seed=0)
  assert sorted(p.answer for p in batch) == ['0', '1', '2', '3', '4']


def test_a_late_step_is_as_quick_as_the_first():
  class Counted:
    reads = 0

    def __len__(self):
      return 10

    def __getitem__(self, index):
      Counted.reads += 1
      return index

  take(1, Counted(), 4, seed=0, start_step=10**9)
  assert Counted.reads == 4


@pytest.mark.parametrize(
  'name, settings',
  [
    ('source', dict(source=[])),
    ('batch_size', dict(batch_size=0)),
    ('start_step', dict(start_step=-1)),
    ('seed', dict(seed=-1)),
  ],
)
def test_batches_check_at_once(name, settings):
  settings = dict(source=[1], batch_size=1, seed=0) | settings
  with pytest.raises(ValueError, match=f'{name}: got'):
    store.batches(**settings)
