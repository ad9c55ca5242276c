"""Writing that fails, and a folder that two would write to."""

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
