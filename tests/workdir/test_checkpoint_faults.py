"""Checkpoints that were damaged, half-written or lost, and which are kept."""

import errno
import json
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore

from critic_jax import files
from critic_jax.workdir import checkpoint, checkpoint_files
from critic_jax.workdir.checkpoint_files import DamagedError


def state(value):
  """Makes a run's state whose numbers all equal a value."""
  tree = {'critic': {'kernel': jnp.full((64, 48), value, jnp.float32)}}
  return {'roles': tree, 'opt_state': tree, 'grades': {'00ff': 'right'}}


@pytest.fixture
def folder(tmp_path):
  """Saves checkpoints of the steps 1, 2 and 3."""
  folder = tmp_path / 'checkpoints'
  with checkpoint.make_manager(folder, keep=3) as manager:
    for step in (1, 2, 3):
      checkpoint.save(manager, step, state(step))
  return folder


def restored(folder, step):
  """Returns the number that a checkpoint's arrays are full of."""
  with checkpoint.make_manager(folder, keep=3) as manager:
    assert manager.latest_step() == step
    contents = checkpoint.restore(manager, step, state(0))
  assert contents['grades'] == {'00ff': 'right'}
  values = {
    float(x)
    for tree in (contents['roles'], contents['opt_state'])
    for x in np.unique(tree['critic']['kernel'])
  }
  return values


def data_file(folder, step):
  """Returns the largest file of a checkpoint: its arrays."""
  files = [f for f in (folder / str(step) / 'roles').rglob('*') if f.is_file()]
  return max(files, key=lambda f: f.stat().st_size)


def truncate(folder, step):
  file = data_file(folder, step)
  file.write_bytes(file.read_bytes()[:-7])


def flip(folder, step):
  file = data_file(folder, step)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)


def lose(folder, step):
  data_file(folder, step).unlink()


def truncate_metadata(folder, step):
  file = folder / str(step) / '_CHECKPOINT_METADATA'
  file.write_bytes(file.read_bytes()[:20])


def lose_digests(folder, step):
  (folder / str(step) / 'sha256.json').unlink()


def garble_digests(folder, step):
  (folder / str(step) / 'sha256.json').write_text('[')


def add(folder, step):
  (folder / str(step) / 'roles' / 'more').write_text('x')


def empty(folder, step):
  shutil.rmtree(folder / str(step))
  (folder / str(step)).mkdir()


FAULTS = [
  truncate, flip, lose, truncate_metadata, lose_digests, garble_digests, add,
  empty,
]  # fmt: skip


@pytest.mark.parametrize('fault', FAULTS)
def test_the_one_before_a_damaged_one_is_used(folder, fault):
  assert not checkpoint.recover(folder)
  fault(folder, 3)
  [problem] = checkpoint.recover(folder)
  assert problem.startswith(f'{folder}/3: got ')
  assert sorted(p.name for p in folder.iterdir()) == ['1', '2']
  assert (folder.parent / 'damaged/3').is_dir(), 'nothing is thrown away'
  assert restored(folder, 2) == {2.0}
  assert not checkpoint.recover(folder)
  # The step is run again, saved again, and may be damaged again.
  with checkpoint.make_manager(folder, keep=3) as manager:
    checkpoint.save(manager, 3, state(30))
  assert restored(folder, 3) == {30.0}
  fault(folder, 3)
  checkpoint.recover(folder)
  assert (folder.parent / 'damaged/3.1').is_dir()


def test_the_file_is_named(folder):
  file = data_file(folder, 3)
  flip(folder, 3)
  [problem] = checkpoint.recover(folder)
  name = file.relative_to(folder / '3')
  assert problem.endswith(f'another content of {name} than was written')


def test_several_damaged_ones(folder):
  flip(folder, 2)
  lose(folder, 3)
  assert len(checkpoint.recover(folder)) == 2
  assert restored(folder, 1) == {1.0}


def test_a_damaged_one_on_another_disk_is_put_aside(folder, monkeypatch):
  def on_another_disk(source, target):
    raise OSError(errno.EXDEV, 'Invalid cross-device link')

  flip(folder, 3)
  monkeypatch.setattr(os, 'rename', on_another_disk)
  [problem] = checkpoint.recover(folder)
  assert 'another content' in problem
  assert (folder.parent / 'damaged/3/sha256.json').exists()
  assert sorted(path.name for path in folder.iterdir()) == ['1', '2']


def test_none_that_is_whole_is_an_error_and_nothing_is_moved(folder):
  for step in (1, 2, 3):
    truncate(folder, step)
  with pytest.raises(DamagedError, match=f'or delete {folder}'):
    checkpoint.recover(folder)
  assert sorted(p.name for p in folder.iterdir()) == ['1', '2', '3']


def test_a_damaged_one_is_not_restored_by_its_step(folder):
  flip(folder, 2)
  with checkpoint.make_manager(folder, keep=3) as manager:
    with pytest.raises(DamagedError, match='/2: got another cont'):
      checkpoint.restore(manager, 2, state(0))


def test_what_a_killed_run_was_writing_is_deleted(folder):
  unfinished = folder / '4.orbax-checkpoint-tmp'
  shutil.copytree(folder / '3', unfinished)
  assert not checkpoint.recover(folder)
  assert not unfinished.exists()
  assert restored(folder, 3) == {3.0}


def test_an_empty_folder_has_nothing_to_recover(tmp_path):
  assert checkpoint.recover(tmp_path / 'checkpoints') == []


def test_a_reader_leaves_what_is_being_written(folder):
  unfinished = folder / '4.orbax-checkpoint-tmp'
  unfinished.mkdir()
  with checkpoint.make_manager(folder, read_only=True) as manager:
    assert checkpoint.restore(manager, 2, state(0))
  assert unfinished.exists()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
  folder = tmp_path / 'checkpoints'
  with checkpoint.make_manager(folder) as manager:
    checkpoint.save(manager, 1, state(1))
    checkpoint.wait(manager)
    folder.rename(tmp_path / 'gone')  # as a mount that vanishes
    folder.write_text('')
    with pytest.raises(ValueError, match=f'{folder}: got .*: make room there'):
      checkpoint.save(manager, 2, state(2))
      checkpoint.wait(manager)


def test_the_best_is_kept_and_found_again(tmp_path):
  values = [0.1, 0.9, None, 0.3, 0.2]
  # Two processes save; the second one knows the values by their files.
  for part in (slice(0, 3), slice(3, 5)):
    with checkpoint.make_manager(tmp_path, keep_best=True) as manager:
      for step in range(5)[part]:
        checkpoint.save(manager, step, state(step), values[step])
  assert sorted(p.name for p in tmp_path.iterdir()) == ['1', '4']
  assert checkpoint.best_step(tmp_path) == 1
  metrics = json.loads((tmp_path / '1/metrics/metrics').read_text())
  assert metrics == {'value': 0.9}


def test_of_equal_values_the_newest_is_the_best(tmp_path):
  with checkpoint.make_manager(tmp_path, keep=3, keep_best=True) as manager:
    for step in range(3):
      checkpoint.save(manager, step, state(step), 0.5)
  assert checkpoint.best_step(tmp_path) == 2
  assert checkpoint.best_step(tmp_path / 'none') is None


def test_the_arrays_may_change_while_they_are_written(tmp_path):
  increase = jax.jit(lambda x: x + 1, donate_argnums=0)
  x = jnp.zeros((2000, 1000))
  with checkpoint.make_manager(tmp_path, keep=3) as manager:
    for step in range(3):
      checkpoint.save(manager, step, {'roles': {'x': x}})
      for _ in range(3):
        x = increase(x)
    checkpoint.wait(manager)
    for step in range(3):
      contents = checkpoint.restore(manager, step, {'roles': {'x': x}})
      np.testing.assert_array_equal(
        np.unique(contents['roles']['x']), [3 * step]
      )


REFUSED = (*'*?[\\', '\udcff', '\ud800', '[a]', '**')
ACCEPTED = (
  *(chr(code) for code in range(1, 128) if chr(code) not in '/*?[\\'),
  *('é', 'e\u0301', '漢', '\u2028', '\x85', '😀', '%41', '${HOME}', 'gs:'),
)


@pytest.mark.parametrize('part', REFUSED, ids=ascii)
def test_a_path_that_is_read_as_a_pattern_is_refused(tmp_path, part):
  folder = tmp_path / f'x{part}y' / 'checkpoints'
  with pytest.raises(ValueError, match='expected a path in UTF-8') as error:
    checkpoint.make_manager(folder)
  assert str(error.value).isprintable()
  assert not list(tmp_path.iterdir())


def test_in_any_other_path_what_is_saved_is_read_back(tmp_path):
  """All characters at once, in folders of 60, relative and absolute."""
  text = ''.join(ACCEPTED)
  names = [text[i : i + 60] for i in range(0, len(text), 60)]
  for part in ACCEPTED:
    files.check_checkpoints_path(f'x{part}y')
  folder = tmp_path.joinpath(*(f'x{name}y' for name in names), 'checkpoints')
  with checkpoint.make_manager(folder) as manager:
    checkpoint.save(manager, 3, state(3))
  assert restored(folder, 3) == {3.0}
  assert not checkpoint_files.damage(folder / '3')
  # A folder may get another name later: it is only written by patterns.
  moved = tmp_path / 'moved[1]*'
  folder.rename(moved)
  with checkpoint.make_manager(moved, read_only=True) as manager:
    contents = checkpoint.restore(manager, 3, state(0))
  np.testing.assert_array_equal(contents['roles']['critic']['kernel'], 3.0)


def test_a_relative_folder_is_saved_to_and_read(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with checkpoint.make_manager(pathlib.Path('checkpoints')) as manager:
    checkpoint.save(manager, 3, state(3))
  assert restored(tmp_path / 'checkpoints', 3) == {3.0}


def test_a_folder_above_is_saved_to_and_read(tmp_path, monkeypatch):
  """As from a folder of notebooks; through a link '..' is above its target."""
  (tmp_path / 'a' / 'notebooks').mkdir(parents=True)
  (tmp_path / 'link').symlink_to(tmp_path / 'a' / 'notebooks')
  monkeypatch.chdir(tmp_path / 'a' / 'notebooks')
  for name in ('../one', str(tmp_path / 'link/../two')):
    folder = pathlib.Path(name)
    with checkpoint.make_manager(folder) as manager:
      checkpoint.save(manager, 3, state(3))
    assert restored(folder, 3) == {3.0}
    kernel = checkpoint_files.read_role(folder / '3', 'critic')['kernel']
    np.testing.assert_array_equal(kernel, 3.0)
  assert sorted(x.name for x in (tmp_path / 'a').iterdir()) == [
    'notebooks', 'one', 'two',
  ]  # fmt: skip


def merge_nothing(item):
  """Leaves the arrays unmerged, as orbax does where it finds no files."""
  (item / 'manifest.ocdbt').unlink()


def lose_a_part(item):
  """Removes a part of an array, as if another process had it elsewhere."""
  base = {'driver': 'file', 'path': f'{item}/'}
  store = tensorstore.KvStore.open({'driver': 'ocdbt', 'base': base}).result()
  store.write(b'critic.kernel/0.0', None).result()


@pytest.mark.parametrize(
  ('fail', 'problem'),
  [
    (merge_nothing, 'no arrays that can be read'),
    (lose_a_part, '0 of 1 parts of critic.kernel'),
  ],
)
def test_what_cannot_be_read_back_is_not_called_saved(
  folder, fail, problem, monkeypatch
):
  gap = checkpoint_files._gap

  def gap_after_fault(item):
    fail(item)
    return gap(item)

  monkeypatch.setattr(checkpoint_files, '_gap', gap_after_fault)
  with checkpoint.make_manager(folder, keep=3) as manager:
    checkpoint.save(manager, 4, state(4))
    with pytest.raises(DamagedError, match=f'roles: got {problem}'):
      checkpoint.wait(manager)
  assert not (folder / '4').exists()
  assert not checkpoint.recover(folder)
  assert restored(folder, 3) == {3.0}


@pytest.mark.parametrize('part', ['[a]', '\\'])
def test_a_path_that_orbax_reads_otherwise_is_found_at_the_first_save(
  tmp_path, part, monkeypatch
):
  """Were such a path not refused, nothing in it would be called saved."""
  monkeypatch.setattr(files, 'check_checkpoints_path', lambda folder: None)
  folder = tmp_path / f'x{part}y'
  with checkpoint.make_manager(folder) as manager:
    checkpoint.save(manager, 1, state(1))
    with pytest.raises(DamagedError, match='got no arrays that can'):
      checkpoint.wait(manager)
  assert not (folder / '1').exists()
