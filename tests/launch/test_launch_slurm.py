"""A grid as an array of SLURM: the script is run, by stand-ins and by SLURM."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import grids
import pytest

import critic_jax
from critic_jax.inspection import reading
from critic_jax.launch import __main__ as launch
from critic_jax.launch import sky, slurm
from critic_jax.terminal import Console
from critic_jax.workdir import run_dir

ROOT = pathlib.Path(critic_jax.__file__).parents[1]
STAND_INS = pathlib.Path(__file__).parent / 'stand_ins'


def submit(*paths, workdir, options=(), **variables):
  """Launches on SLURM; returns what it printed."""
  command = [sys.executable, '-m', 'critic_jax.launch', *map(str, paths)]
  command += ['--workdir', str(workdir), '--on', 'slurm', *options]
  process = subprocess.run(
    command, cwd=ROOT, env=os.environ | variables, check=True, text=True,
    capture_output=True,
  )  # fmt: skip
  return process.stdout


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
  """Puts stand-ins of sbatch, srun, scontrol and training on the path."""
  monkeypatch.setenv('PATH', f'{STAND_INS}:{os.environ["PATH"]}')
  monkeypatch.setenv('PYTHONPATH', f'{ROOT}:{ROOT / "tests"}')
  train = tmp_path / 'train.py'
  train.write_text('import sys, grids\ngrids.train(sys.argv)\n')
  monkeypatch.setenv('STAND_IN_TRAIN', str(train))
  return train.with_name('train.py.log')


def test_an_array_trains_the_grid_on_all_tasks(stand_ins, tmp_path):
  folder = tmp_path / """a 'b' "c" $(touch x); %a"""
  folder.mkdir()
  path = grids.write(folder, 'learn it', grid="grid.sweep('seed', [0, 1])")
  workdir = folder / 'runs'
  options = ['--nodes=2', '--gpus=2']
  assert 'Submitted' in submit(path, workdir=workdir, options=options)
  assert sorted(stand_ins.read_text().splitlines()) == [
    f'{index} {rank}/4' for index in range(2) for rank in range(4)
  ]
  for index in range(2):
    assert reading.state(grids.folder(path, workdir, index)) == 'done'
    log = (workdir / 'slurm' / f'100_{index}.log').read_text()
    assert f'--index {index} --prefix srun' in log and ': done after' in log
  assert (workdir / 'learn it.md').exists()  # written by the last task
  output = submit(path, workdir=workdir, options=['--missing'])
  assert output == 'nothing is left to submit\n'


def test_a_machine_without_slurm_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  path, workdir = grids.write(tmp_path), tmp_path / 'runs'
  words = [str(path), f'--workdir={workdir}', '--on=slurm', '--gpus=1']
  with pytest.raises(ValueError, match='sbatch: got no such command; expected'):
    launch.launch(launch.parse(words), Console(quiet=True))


@pytest.mark.parametrize('place', ['slurm', 'sky'])
def test_without_a_checkout_there_are_no_scripts(tmp_path, monkeypatch, place):
  """As where the package was installed."""
  monkeypatch.setattr(sky, 'SCRIPTS', tmp_path / 'tpu_scripts')
  words = [str(grids.write(tmp_path)), f'--workdir={tmp_path}', f'--on={place}']
  words += ['--accelerators=H100:8', '--bucket=gs://a/b'] * (place == 'sky')
  with pytest.raises(
    ValueError, match=f'^on: got {place}.*expected a checkout'
  ):
    launch.launch(launch.parse(words), Console(quiet=True))


def test_near_the_time_limit_a_run_is_queued_again(stand_ins, tmp_path):
  path = grids.write(tmp_path, grid="grid.sweep('seed', [0])")
  workdir = tmp_path / 'runs'
  started = time.monotonic()
  submit(path, workdir=workdir, STAND_IN_LIMIT='1')
  assert time.monotonic() - started < 30  # it does not wait for its end
  log = (workdir / 'slurm' / '100_0.log').read_text()
  assert log.count('--index 0') == 2 and log.count(': starts') == 2
  assert reading.state(grids.folder(path, workdir)) == 'done'


def test_ranges():
  assert slurm.ranges([3]) == '3'
  assert slurm.ranges([4, 0, 1, 2]) == '0-2,4'


def num_nodes():
  """Counts the nodes of this machine's SLURM (CONTRIBUTING.md)."""
  if not shutil.which('sinfo'):
    return 0
  process = subprocess.run(['sinfo', '-hN'], capture_output=True, text=True)
  return len(process.stdout.splitlines())


def wait_for(job):
  while subprocess.check_output(['squeue', '--noheader', f'--job={job}']):
    time.sleep(5)


@pytest.mark.slow
@pytest.mark.parametrize('real', [False, True])
def test_two_tiny_runs(real, tmp_path, monkeypatch):
  """Training is real; a preempted run continues."""
  if real and not num_nodes():
    pytest.skip('needs SLURM')
  table = grids.TABLE | dict(metrics=('critique length in tokens',))
  path = grids.write(
    tmp_path,
    grid="grid.sweep('seed', [0, 1])",
    config='configs/refcritic.py:tiny',
    table=table,
  )
  workdir = tmp_path / 'runs'
  if not real:
    monkeypatch.setenv('PATH', f'{STAND_INS}:{os.environ["PATH"]}')
  job = submit(path, workdir=workdir).split()[-1]
  folders = [grids.folder(path, workdir, index) for index in range(2)]
  if real:
    while not (folders[1] / 'metrics.jsonl').exists():
      time.sleep(1)
    batch = ['scancel', '--signal=USR1', '--batch', f'{job}_1']
    subprocess.run(batch, check=True)
    wait_for(job)
    starts = (folders[1] / 'command.txt').read_text().splitlines()
    assert len(starts) == 2
  assert [reading.state(folder) for folder in folders] == ['done'] * 2
  assert (workdir / 'learn.md').exists()


SHORT = """
from configs import refcritic

def get_config(arg=''):
  config = refcritic.get_config('tiny')
  config.order, config.compile_ahead = ('rl',), False
  config.evals.heldout.after = ('rl',)
  config.phases.rl.copy = {}
  del config.models.cold
  return config
"""


@pytest.mark.slow
def test_a_run_on_two_nodes_is_that_of_one_process(tmp_path):
  """The nodes' processes find each other by what SLURM tells them."""
  if num_nodes() < 2:
    pytest.skip('needs SLURM with two nodes')
  config = tmp_path / 'config.py'
  config.write_text(SHORT)
  path = grids.write(
    tmp_path,
    grid="grid.sweep('seed', [0])",
    config=config,
    table=dict(
      evaluation='heldout', columns=('rl',), metrics=('accuracy before',)
    ),
  )
  shared_run, single_run = (tmp_path / name for name in ('two', 'one'))
  job = submit(path, workdir=shared_run, options=['--nodes=2']).split()[-1]
  wait_for(job)
  command = [sys.executable, '-m', 'critic_jax.launch', path]
  command += ['--workdir', single_run]
  subprocess.run(command, cwd=ROOT, check=True)
  shared_run, single_run = (
    grids.folder(path, workdir) for workdir in (shared_run, single_run)
  )
  assert reading.state(shared_run) == 'done'
  assert re.search(
    r'devices cpu:\d+, cpu:\d+$', (shared_run / 'env.txt').read_text(), re.M
  )
  for row, expected in zip(
    run_dir.read_metrics(shared_run / 'metrics.jsonl'),
    run_dir.read_metrics(single_run / 'metrics.jsonl'),
    strict=True,
  ):
    for name in ('loss/total', 'grad_norm', 'critique/reward'):
      assert row[name] == pytest.approx(expected[name], abs=1e-4), name
  for file in single_run.glob('**/*.jsonl.gz'):
    records, expected = (
      [(r.id, r.text) for r in run_dir.read_records(p)]
      for p in (shared_run / file.relative_to(single_run), file)
    )
    assert records == expected
