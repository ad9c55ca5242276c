"""Slices are made, made anew when preempted, and their runs continue."""

import os
import pathlib
import shutil
import sys

import grids
import pytest
from rich.console import Console

import critic_jax
from critic_jax.inspection import reading
from critic_jax.launch import __main__ as launch
from critic_jax.launch import tpu

ROOT = pathlib.Path(critic_jax.__file__).parents[1]
STAND_INS = pathlib.Path(__file__).parent / 'stand_ins'
SLICE = tpu.Slice('critic-0', 'z', 'v5litepod-16', 'v2', 'gs://b/r')


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  """Makes the folder of the stand-in for gcloud, with a worker's home."""
  folder = tmp_path / 'cloud'
  python = folder / 'home' / 'critic_jax' / '.venv' / 'bin' / 'python'
  python.parent.mkdir(parents=True)
  code = 'import grids, sys; grids.train(sys.argv)'
  python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
  python.chmod(0o755)
  (folder / 'bucket' / 'b' / 'r').mkdir(parents=True)
  (folder / 'home/critic_jax/runs').symlink_to(folder / 'bucket' / 'b' / 'r')
  tools = tmp_path / 'tools'
  tools.mkdir()
  shutil.copy(STAND_INS / 'gcloud', tools)
  monkeypatch.setenv('PATH', f'{tools}:{os.environ["PATH"]}')
  monkeypatch.setenv('STAND_IN', str(folder))
  monkeypatch.setenv('PYTHONPATH', f'{ROOT}:{ROOT / "tests"}')
  monkeypatch.setattr(tpu, '_POLL_S', 0.01)
  return folder


def kinds(cloud):
  """Returns the kinds of gcloud's calls, in order."""
  verbs = ('create', 'delete', 'describe', 'scp', 'rsync')
  calls = []
  for line in (cloud / 'calls').read_text().splitlines():
    words = line.split()
    verb = next((verb for verb in verbs if verb in words[:4]), 'ssh')
    calls.append(
      'train' if '-m\\ critic' in line or ' --config=' in line else verb
    )
  return calls


def train(cloud, tmp_path):
  path = grids.write(tmp_path)
  task = launch.runs.tasks(launch.runs.load([path]), tmp_path / 'runs')[0]
  words = launch.command(task, f'runs/{task.name}', '.venv/bin/python')
  return tpu.train(SLICE, words, task.name, task.folder), task


def test_a_slice_is_made_and_trains(cloud, tmp_path):
  status, task = train(cloud, tmp_path)
  assert status == 0 and reading.state(task.folder) == 'done'
  calls = kinds(cloud)
  assert calls[:5] == ['describe', 'create', 'describe', 'describe', 'describe']
  assert calls[5:10] == [
    'scp',
    'ssh',
    'ssh',
    'ssh',
    'ssh',
  ]  # set up; what is left
  assert calls[10:] == ['train', 'rsync']


def test_a_preempted_slice_is_made_anew_and_the_run_continues(cloud, tmp_path):
  (cloud / 'fails').write_text('255 SUSPENDED')
  status, task = train(cloud, tmp_path)
  assert status == 0 and reading.state(task.folder) == 'done'
  calls = kinds(cloud)
  first = calls.index('train')
  assert calls[first + 1 : first + 6] == [
    'rsync', 'describe', 'describe', 'delete', 'create'
  ]  # fmt: skip
  assert calls.count('train') == 2 and calls.count('scp') == 2


def test_a_run_that_fails_by_itself_has_failed(cloud, tmp_path):
  (cloud / 'fails').write_text('3 ACTIVE')
  status, _ = train(cloud, tmp_path)
  assert status == 3
  assert 'delete' not in kinds(cloud) and kinds(cloud).count('train') == 1


def test_what_gcloud_refuses_is_told(cloud, monkeypatch, tmp_path):
  (pathlib.Path(os.environ['PATH'].split(':')[0]) / 'gcloud').write_text(
    '#!/bin/sh\necho PERMISSION_DENIED >&2\nexit 1\n'
  )
  with pytest.raises(ValueError, match="gcloud: got 'PERMISSION_DENIED'"):
    tpu.make_ready(SLICE)


def test_a_grid_is_trained_and_its_slices_deleted(cloud, tmp_path):
  path, workdir = grids.write(tmp_path), tmp_path / 'runs'
  words = [str(path), f'--workdir={workdir}', '--on=tpu', '--zone=z']
  words += ['--type=t', '--version=v', '--bucket=gs://b/r', '--index=1']
  (cloud / 'states').write_text('ACTIVE')
  assert not launch.launch(launch.parse(words), Console())
  folder = grids.folder(path, workdir, 1)
  assert reading.state(folder) == 'done'
  calls = kinds(cloud)
  assert calls[0] == 'rsync' and calls[-1] == 'delete'
  assert 'create' not in calls and not (cloud / 'states').exists()
