"""Writing that fails, and a folder that two would write to."""

import ast
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from critic_jax import files

ROOT = pathlib.Path(__file__).parents[1]


def test_a_file_is_replaced_whole(tmp_path):
  path = tmp_path / 'new' / 'file'
  files.replace(path, b'one')
  files.replace(path, b'two')
  assert path.read_bytes() == b'two'
  assert [p.name for p in path.parent.iterdir()] == ['file']


def test_a_replacement_that_fails_leaves_the_old(tmp_path, monkeypatch):
  path = tmp_path / 'file'
  files.replace(path, b'old')

  def fail(descriptor):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', fail)
  with pytest.raises(ValueError, match=f'{path}: got .*No space left .*make r'):
    files.replace(path, b'new')
  assert path.read_bytes() == b'old'


def test_a_full_disk_is_told_of_by_append():
  with pytest.raises(ValueError, match='/dev/full: got .*No space left'):
    files.append(pathlib.Path('/dev/full'), b'line\n')


def test_appended_lines_stand_in_order(tmp_path):
  for line in (b'one\n', b'two\n'):
    files.append(tmp_path / 'file', line)
  assert (tmp_path / 'file').read_bytes() == b'one\ntwo\n'


def test_a_folder_has_one_writer(tmp_path):
  lock = files.lock(tmp_path)
  message = f'got a folder that process {os.getpid()} on .* is writing to'
  for _ in range(2):
    with pytest.raises(ValueError, match=message):
      files.lock(tmp_path)
  lock.close()
  files.lock(tmp_path).close()


def test_a_writer_that_is_killed_holds_nothing(tmp_path):
  code = (
    'import sys, time; from pathlib import Path; from critic_jax import files;'
    'held = files.lock(Path(sys.argv[1])); print("held", flush=True);'
    'time.sleep(60)'
  )
  child = subprocess.Popen(
    [sys.executable, '-c', code, tmp_path],
    stdout=subprocess.PIPE,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
  )
  with child:
    assert child.stdout.readline() == b'held\n'
    with pytest.raises(ValueError, match=f'that process {child.pid} on'):
      files.lock(tmp_path)
    child.send_signal(signal.SIGKILL)
  files.lock(tmp_path).close()


def test_who_holds_a_lock_is_seen(tmp_path):
  path = tmp_path / files.WRITER
  assert not files.is_locked(path)
  lock = files.lock(tmp_path)
  assert files.is_locked(path) and files.is_locked(path)
  lock.close()
  assert not files.is_locked(path)


# ------------------------------------------------- folders of somebody else


@pytest.fixture
def victim(tmp_path):
  """A file outside of a folder, which must stay as it is."""
  path = tmp_path / 'outside' / 'victim'
  path.parent.mkdir()
  path.write_bytes(b'mine')
  yield path
  assert path.read_bytes() == b'mine'
  assert [p.name for p in path.parent.iterdir()] == ['victim']


@pytest.mark.parametrize('name', ['file', '.file.tmp'])
def test_a_link_is_replaced_and_not_followed(name, tmp_path, victim):
  folder = tmp_path / 'run'
  folder.mkdir()
  (folder / name).symlink_to(victim)
  files.replace(folder / 'file', b'new')
  assert (folder / 'file').read_bytes() == b'new'
  assert not (folder / 'file').is_symlink()


def test_nothing_is_added_by_way_of_a_link(tmp_path, victim):
  folder = tmp_path / 'run'
  folder.mkdir()
  for name in ('metrics.jsonl', files.WRITER):
    (folder / name).symlink_to(victim)
  with pytest.raises(ValueError, match='metrics.jsonl: got .*symbolic links'):
    files.append(folder / 'metrics.jsonl', b'line\n')
  with pytest.raises(ValueError, match='.writer: got .*symbolic links'):
    files.lock(folder)
  with pytest.raises(OSError, match='symbolic links'):
    files.open_to_add(folder / 'metrics.jsonl')


def test_a_path_inside_passes_no_link_to_a_folder(tmp_path, victim):
  folder = tmp_path / 'run'
  (folder / 'plots').mkdir(parents=True)
  assert files.inside(folder, 'plots/x.png') == folder / 'plots' / 'x.png'
  (folder / 'linked').symlink_to(victim.parent)
  for name in ('linked', 'linked/x.png', 'linked/new/x.png'):
    with pytest.raises(ValueError, match='linked: got a link to a folder; exp'):
      files.inside(folder, name)
  for name in ('../x', 'plots/../../x', '/x'):
    with pytest.raises(ValueError, match='got .*; expected a path within'):
      files.inside(folder, name)
  # The folder itself may be one.
  (tmp_path / 'latest').symlink_to(folder)
  assert files.inside(tmp_path / 'latest', 'plots/x.png')


def test_what_is_no_file_is_not_waited_for(tmp_path):
  pipe = tmp_path / 'pipe'
  os.mkfifo(pipe)
  for path in (pipe, tmp_path, pathlib.Path('/dev/zero')):
    with pytest.raises(ValueError, match='got a folder, a pipe or a device'):
      files.opened(path)
    with pytest.raises(ValueError, match='got a folder, a pipe or a device'):
      files.head(path, 10)
  with pytest.raises(ValueError, match='pipe: got .*; expected a place'):
    files.append(pipe, b'line')
  assert not files.is_locked(pipe)
  assert files.head(tmp_path / 'absent', 10) == b''


# Rooms that write to folders which may be somebody else's; what writes there
# without `files`, as it has removed what was there before.
WRITERS = ('workdir', 'report', 'training', 'launch', 'pretrained', 'text')
CAREFUL = {
  'checkpoint_files.py: path.write_text',  # in an unfinished checkpoint
  'safetensors_io.py: (folder / INDEX).write_text',
  'tokenizer.py: (folder / name).write_bytes',
}


def writes(source):
  """The calls by which a source opens a file to write, or writes one."""
  calls = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Call):
      name = ast.unparse(node.func)
      modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
      is_writing = {'w', 'a', 'x', 'wb', 'ab', 'xb', 'r+', 'a+'} & {
        mode for mode in modes if isinstance(mode, str)
      }
      if name.endswith(('.write_text', '.write_bytes')):
        calls.append(name)
      elif name.split('.')[-1] == 'open' and is_writing:
        calls.append(name)
  return calls


def test_a_write_is_found():
  assert writes("path.write_text('x')") == ['path.write_text']
  assert writes("open(path, 'w')") and writes("path.open('ab')")
  assert not writes("path.open('rb')") and not writes('files.replace(x, y)')


def test_rooms_write_by_files_alone():
  calls = {
    f'{path.name}: {call}'
    for room in WRITERS
    for path in (ROOT / 'critic_jax' / room).glob('*.py')
    for call in writes(path.read_text())
  }
  assert calls == CAREFUL
