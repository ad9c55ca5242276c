"""Faults of a run: numbers, disks, clocks, signals, other writers.

Graders' faults are in tests/graders/test_pool_faults.py, those of checkpoints
in test_checkpoint_faults.py, kills at any moment in test_chaos.py.
"""

import functools
import io
import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import log_compilations, random_params, slow
from rich.console import Console
from run_helpers import (
  assert_same,
  contents,
  last_checkpoint,
  run,
  short_config,
  stale_config,
)

from critic_jax import files, train
from critic_jax.pretrained import hf_weights
from critic_jax.runtime import cli, preemption, sharding
from critic_jax.training import pipeline, roles, updates
from critic_jax.workdir import run_dir

ROOT = pathlib.Path(train.__file__).parents[1]


def sft_config(**settings):
  """Configures three steps of imitation, a checkpoint after each."""
  config = short_config()
  config.order, config.evals = ('solver',), {}
  config.phases.solver.update(dict(checkpoint_every=1, **settings))
  return config


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Trains an undisturbed run of `stale_config`."""
  return run(stale_config(), tmp_path_factory.mktemp('whole') / 'run')


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize('microbatches', [1, 2])
@pytest.mark.parametrize('bad', [np.nan, np.inf, 0.0])
def test_an_update_that_is_not_finite_changes_nothing(bad, microbatches):
  """NaN and infinity in the loss; 0: in the gradient alone."""

  def loss(params, batch):
    return jnp.sum(jnp.sqrt(batch['x'] * params['w'])), ({}, {})

  tx = optax.adam(0.1)
  params = {'w': jnp.full(3, 2.0)}
  state = updates.TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
  update = functools.partial(
    updates.update, loss, tx, microbatches=microbatches
  )
  good = {'tokens': np.zeros((2, 1)), 'x': np.ones((2, 1), np.float32)}
  state, (metrics, _) = update(state, good)
  assert not metrics['update/skipped'] and state.params['w'][0] != 2.0
  before = jax.device_get(state)
  state, (metrics, _) = update(state, {**good, 'x': np.float32([[1.0], [bad]])})
  assert metrics['update/skipped']
  assert np.isfinite(metrics['loss/total']) == (bad == 0)
  assert int(state.step) == int(before.step) + 1
  for x, y in zip(
    jax.tree.leaves((state.params, state.opt_state)),
    jax.tree.leaves((before.params, before.opt_state)),
    strict=True,
  ):
    np.testing.assert_array_equal(x, y)
  state, (metrics, _) = update(state, good)
  assert not metrics['update/skipped']
  assert np.all(np.isfinite(state.params['w']))
  assert not np.array_equal(state.params['w'], before.params['w'])


def test_new_parameters_that_are_not_finite_are_not_taken():
  """The loss and the gradient are finite, the sum with the change is not."""

  def loss(params, batch):
    return jnp.sum(batch['x'] * params['w']), ({}, {})

  tx = optax.sgd(3e38)
  params = {'w': jnp.full(3, 2.0)}
  state = updates.TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
  batch = {'tokens': np.zeros((2, 1)), 'x': np.ones((2, 1), np.float32)}
  state, (metrics, _) = updates.update(loss, tx, state, batch)
  assert np.isfinite(metrics['loss/total']) and metrics['grad_norm'] < 10
  assert metrics['update/skipped']
  np.testing.assert_array_equal(state.params['w'], [2, 2, 2])


def poison(monkeypatch, *steps):
  """Puts a NaN among the weights of these steps' batches."""
  collect, count = pipeline.Pipeline._collect, iter(range(100))

  def poisoned(self, *arguments):
    collected = collect(self, *arguments)
    if next(count) not in steps:
      return collected
    collected.given['weights'][0, 0] = np.nan
    batch = sharding.put_batch(collected.given, self.mesh)
    return collected._replace(batch=batch)

  monkeypatch.setattr(pipeline.Pipeline, '_collect', poisoned)


def test_a_skipped_step_is_counted_and_its_batch_kept(tmp_path, monkeypatch):
  poison(monkeypatch, 1)
  out = io.StringIO()
  run(sft_config(), tmp_path, Console(file=out, width=500))
  assert (tmp_path / 'DONE').exists()
  rows = list(run_dir.read_metrics(tmp_path / 'metrics.jsonl'))
  assert [row['update/skipped'] for row in rows] == [0.0, 1.0, 0.0]
  assert np.isnan(rows[1]['loss/total']) and np.isfinite(rows[2]['loss/total'])
  path = tmp_path / 'batches/000001.npz'
  warning = 'its loss, its gradient or a new parameter is not finite; '
  warning += f'its batch is {path}'
  assert f'step 1 is skipped, as {warning}' in out.getvalue()
  with np.load(path) as batch:
    assert np.isnan(batch['weights'][0, 0]) and batch['tokens'].ndim == 2
  records = run_dir.read_records(path.with_suffix('.jsonl.gz'))
  assert len(records) and np.all(records[0].tokens >= 0)
  for leaf in jax.tree.leaves(last_checkpoint(tmp_path)[1]['roles']):
    assert np.all(np.isfinite(leaf))


def test_too_many_skipped_steps_end_the_run(tmp_path, monkeypatch):
  poison(monkeypatch, 0, 1)
  config = sft_config(max_skipped=1)
  message = 'phases.solver: got 2 updates skipped, .*000001.npz the last, at st'
  with pytest.raises(ValueError, match=message):
    run(config, tmp_path)
  assert (tmp_path / 'FAILED').exists() and last_checkpoint(tmp_path)[0] == 2
  run(config, tmp_path)  # goes on all the same: no step is poisoned now
  assert (tmp_path / 'DONE').exists()
  steps = [row['step'] for row in contents(tmp_path)['metrics']]
  assert steps == [0, 1, 2]


def test_a_sampler_that_disagrees_is_told_of_with_the_row(
  tmp_path, monkeypatch
):
  collect, count = pipeline.Pipeline._collect, iter(range(100))

  def disagreeing(self, *arguments):
    collected = collect(self, *arguments)
    ratio = ratios[next(count)]
    row, column = np.argwhere(collected.given['mask'])[-1]
    collected.given['logprobs'][row, column] -= np.log(ratio)
    rows.append(row)
    batch = sharding.put_batch(collected.given, self.mesh)
    return collected._replace(batch=batch)

  rows, ratios = [], [1.0, 1.5, 1.9, 3.0]
  monkeypatch.setattr(pipeline.Pipeline, '_collect', disagreeing)
  config, out = stale_config(staleness=0), io.StringIO()
  config.phases.rl.steps = 4
  # Not learned from, the first policy writes all batches.
  config.phases.rl.optimizer.learning_rate = 0.0
  run(config, tmp_path, Console(file=out, width=500))
  errors = [
    row['policy/max_ratio_error']
    for row in run_dir.read_metrics(tmp_path / 'metrics.jsonl')
  ]
  assert errors[0] < 1e-3
  assert errors[1:] == pytest.approx([0.5, 0.9, 2.0], abs=2e-3)
  # Told of again when it is twice as large, and only then.
  lines = [x for x in out.getvalue().splitlines() if ' disagree ' in x]
  for line, step in zip(lines, (1, 3), strict=True):
    path = tmp_path / f'batches/{step:06}.npz'
    assert f'row {rows[step]} of {path} (more than 0.1)' in line
  kept_batches = sorted(path.stem for path in tmp_path.glob('batches/*.npz'))
  assert kept_batches == ['000001', '000003']


def test_an_old_batch_may_disagree(whole):
  errors = [
    row['policy/max_ratio_error']
    for row in run_dir.read_metrics(whole / 'metrics.jsonl')
  ]
  assert max(errors) > 0.1 > errors[0]
  assert not (whole / 'batches').exists()


# ---------------------------------------------------------------- signals


@pytest.fixture(autouse=True)
def _hears_ctrl_c():
  """Ctrl-C is ignored where the tests were started in a script's background."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


def signalled(monkeypatch, at, *numbers):
  """Signals the process when it logs a step, once."""
  log_metrics, remaining_steps = run_dir.RunDir.log_metrics, [at]

  def log(self, step, metrics, phase):
    log_metrics(self, step, metrics, phase)
    if step in remaining_steps:
      remaining_steps.remove(step)
      for number in numbers or [signal.SIGTERM]:
        os.kill(os.getpid(), number)

  monkeypatch.setattr(run_dir.RunDir, 'log_metrics', log)


@pytest.mark.parametrize(
  ('at', 'number', 'status'),
  [
    (1, signal.SIGTERM, 143),
    (3, signal.SIGINT, 130),
    *slow((0, signal.SIGINT, 130)),
  ],
)
def test_sigterm_saves_and_the_run_goes_on_as_if_never_told(
  tmp_path, monkeypatch, whole, at, number, status
):
  """A batch in flight is collected again as it was; so is Ctrl-C's."""
  out = io.StringIO()
  console = Console(file=out, width=200)
  signalled(monkeypatch, at, number)
  with pytest.raises(SystemExit) as ended:
    run(stale_config(), tmp_path, console)
  assert ended.value.code == status == preemption.status(number)
  assert last_checkpoint(tmp_path)[0] == at + 1
  assert not (tmp_path / 'DONE').exists()
  assert not (tmp_path / 'FAILED').exists()
  run(stale_config(), tmp_path, console)
  assert_same(tmp_path, whole)
  lines = out.getvalue().splitlines()
  assert lines[0].split() == ['rl', '0/5', 'compiling']
  told = f'rl: told to end, saved at step {at}'
  resumed = f'rl: resumes at step {at + 1} of 5; {at + 1} of all 5 steps were '
  assert lines[lines.index(told) + 1].startswith(resumed)


@pytest.mark.parametrize('second', [signal.SIGTERM, *slow(signal.SIGINT)])
def test_the_second_sigterm_ends_at_once_and_nothing_is_lost(
  python, tmp_path, whole, second
):
  path = tmp_path / 'run'
  child = python(__file__, 'twice', path, int(second))
  assert child.returncode == -second, child.stderr
  assert not (path / 'FAILED').exists()
  assert len(contents(path)['metrics']) == 5  # two after the last checkpoint
  run(stale_config(), path)
  assert_same(path, whole)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_the_handler_before_is_put_back(number):
  before = signal.getsignal(number)
  with preemption.awaited() as is_last:
    assert not is_last(0)
    os.kill(os.getpid(), number)
    assert is_last(1) == 128 + number
  assert signal.getsignal(number) == before


def test_what_was_started_to_ignore_ctrl_c_ignores_it():
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  with preemption.awaited() as is_last, preemption.interrupted_in_one_line():
    os.kill(os.getpid(), signal.SIGINT)
    assert not is_last(0)


def test_ctrl_c_outside_of_steps_is_one_line(capsys):
  with pytest.raises(SystemExit) as ended:
    with preemption.interrupted_in_one_line():
      os.kill(os.getpid(), signal.SIGINT)
  assert ended.value.code == 130
  assert capsys.readouterr().err.startswith('interrupted: the same command')


def test_what_is_saved_by_the_clock_changes_nothing(
  tmp_path, monkeypatch, whole
):
  """Also between the checkpoints of a stale phase, with a batch in flight."""
  log_metrics = run_dir.RunDir.log_metrics

  def stop(self, step, metrics, phase):
    log_metrics(self, step, metrics, phase)
    if step == 2:
      raise KeyboardInterrupt

  config = stale_config()
  config.phases.rl.checkpoint_minutes = 1e-9
  with monkeypatch.context() as patch:
    patch.setattr(run_dir.RunDir, 'log_metrics', stop)
    with pytest.raises(KeyboardInterrupt):
      run(config, tmp_path)
  assert last_checkpoint(tmp_path)[0] == 2
  run(stale_config(), tmp_path)
  assert_same(tmp_path, whole)


# ------------------------------------------------------------------ disks


def environment():
  path = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
  return {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': path}


def in_disk(disk, copy, options, *command):
  """Runs a command with `disk` a disk of its own; copies it to `kept`."""
  script = (
    f'mount -t tmpfs -o {options} tmpfs {disk} || exit 77; shift;'
    f' "$@"; status=$?; cp -r {disk}/. {copy}; exit $status'
  )
  child = subprocess.run(
    ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', script,
     'sh', 'x', *command],
    env=environment(), capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  if child.returncode == 77 or 'unshare failed' in child.stderr:
    pytest.skip(f'no disk can be mounted here: {child.stderr}')
  return child


@pytest.mark.parametrize('fault', ['saving', *slow('logging')])
def test_a_full_disk_ends_the_run_with_the_last_checkpoint_whole(
  tmp_path, fault, whole
):
  disk, copy = tmp_path / 'disk', tmp_path / 'kept'
  disk.mkdir()
  copy.mkdir()
  checkpoint_size = sum(
    f.stat().st_size for f in whole.rglob('checkpoints/3/**/*')
  )
  room = 1.6 if fault == 'saving' else 2.5  # beside the other files
  child = in_disk(
    disk, copy, f'size={int(checkpoint_size * room)}',
    sys.executable, __file__, fault,
    str(disk / 'run'),
  )  # fmt: skip
  assert child.returncode == 1, child.stderr
  # Among what orbax's threads print of their own, at whatever time.
  lines = [x for x in child.stderr.splitlines() if x.startswith('error: ')]
  assert len(lines) == 1, child.stderr
  assert lines[0].startswith(f'error: {disk}/run'), child.stderr
  assert 'Event loop is closed' not in child.stderr
  assert 'make room there and start the run again' in lines[0]
  path = copy / 'run'
  assert [p.name for p in (path / 'checkpoints').glob('?')] == ['3']
  run(stale_config(), path)  # there is room again
  assert_same(path, whole)


def test_a_disk_that_is_read_only_is_one_error(tmp_path):
  disk = tmp_path / 'disk'
  disk.mkdir()
  child = in_disk(
    disk, tmp_path, 'ro', sys.executable, __file__, 'plain', str(disk / 'run')
  )
  assert child.returncode == 1
  [line] = child.stderr.strip().splitlines()
  assert line.startswith(f'error: {disk}/run: got [Errno 30] Read-only file')


def test_a_folder_that_is_a_file_is_one_error(tmp_path):
  (tmp_path / 'file').write_text('')
  with log_compilations() as compiled:
    with pytest.raises(ValueError, match='file/run: got .*Not a directory'):
      run(sft_config(), tmp_path / 'file/run')
  assert 'update' not in compiled


@pytest.mark.parametrize('part', ['[1]', 'a\\b', '*', '?'])
def test_a_folder_whose_checkpoints_could_not_be_read_is_refused(
  tmp_path, part
):
  with log_compilations() as compiled:
    with pytest.raises(ValueError, match='workdir: got .* give another folder'):
      run(sft_config(), tmp_path / part / 'run')
  assert not compiled and not list(tmp_path.iterdir())


def test_two_runs_in_one_folder_are_refused(tmp_path):
  lock = files.lock(tmp_path)
  with log_compilations() as compiled:
    with pytest.raises(ValueError, match='is writing to; expected one that no'):
      run(sft_config(), tmp_path)
  assert not compiled and not (tmp_path / 'FAILED').exists()
  lock.close()
  run(sft_config(), tmp_path)
  assert (tmp_path / 'DONE').exists()


# ----------------------------------------------------------------- inputs


def test_a_file_of_problems_may_move_but_not_change(tmp_path, monkeypatch):
  monkeypatch.setattr(train.Run, 'run', lambda run, phases: None)
  file = tmp_path / 'sums.jsonl'
  rows = [
    dict(question=f'What is {i} + 1?', answer=f'It is {i + 1}.\n#### {i + 1}')
    for i in range(20)
  ]
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  file.write_text(text)
  config = sft_config()
  paths = dict(train=str(file), test='')
  data = dict(name='files', paths=paths, data_dir=str(tmp_path / 'data'))
  with config.unlocked():
    config.data = data
    config.phases.solver.lessons = dict(module='lessons', name='reference')
  run(config, tmp_path / 'run')
  file.write_text(text.replace('It is', 'That is'))
  with pytest.raises(ValueError, match='^data: got another content than'):
    run(config, tmp_path / 'run')
  moved = tmp_path / 'moved' / 'sums.jsonl'
  moved.parent.mkdir()
  moved.write_text(text)
  with config.unlocked():
    config.data = data | dict(
      paths=paths | dict(train=str(moved)), data_dir=str(tmp_path / 'new')
    )
  run(config, tmp_path / 'run')
  assert (tmp_path / 'run' / 'config.1.json').exists()


def test_weights_may_move_but_not_change(tmp_path, monkeypatch):
  monkeypatch.setattr(train.Run, 'run', lambda run, phases: None)
  config = sft_config()
  [lm] = roles.make_lms({'solver': config.models.solver}).values()

  def save(name, seed):
    params = random_params(lm.model, seed)
    folder = tmp_path / name
    hf_weights.save(folder, lm.model.config, params, lm.tokenizer)
    return str(folder)

  config.models.solver.source = save('weights', 0)
  run(config, tmp_path / 'run')
  save('weights', 1)
  with pytest.raises(
    ValueError, match='^models.solver.weights: got another content than'
  ):
    run(config, tmp_path / 'run')
  config.models.solver.source = save('moved', 0)
  run(config, tmp_path / 'run')
  assert (tmp_path / 'run' / 'config.1.json').exists()


# ----------------------------------------------------------------- clocks


def test_a_clock_that_goes_backwards(tmp_path, monkeypatch):
  path = tmp_path / 'run'
  seconds = iter(range(10**9, 0, -3600))
  with monkeypatch.context() as patch:
    patch.setattr('time.time', lambda: float(next(seconds)))
    signalled(patch, 1)
    with pytest.raises(SystemExit):
      run(stale_config(), path)
    run(stale_config(), path)
  rows = list(run_dir.read_metrics(path / 'metrics.jsonl'))
  assert [row['step'] for row in rows] == [*range(5)]
  assert rows[-1]['time'] < rows[0]['time'] and rows[-1]['time/step_s'] > 0
  names = sorted(p.name for p in (path / 'tensorboard').iterdir())
  assert [name[:4] for name in names] == ['0000', '0001']


def main(fault, path, second=0):
  """Runs in the child processes of these tests."""
  signal.signal(signal.SIGINT, signal.default_int_handler)
  config = stale_config()
  if fault == 'twice':
    config.phases.rl.checkpoint_every = 3
    with pytest.MonkeyPatch.context() as patch:
      signalled(patch, 4, signal.SIGTERM, int(second))
      run(config, path)
  with cli.errors_in_one_line():
    if fault == 'logging':
      log_metrics = run_dir.RunDir.log_metrics

      def fill(self, step, metrics, phase):
        if step == 4:  # all that is left
          with (self.path / 'ballast').open('wb') as f:
            while True:
              f.write(bytes(1024))
        log_metrics(self, step, metrics, phase)

      def log(self, step, metrics, phase):
        try:
          fill(self, step, metrics, phase)
        except OSError:
          log_metrics(self, step, metrics, phase)

      run_dir.RunDir.log_metrics = log
    run(config, path)


if __name__ == '__main__':
  main(*sys.argv[1:])
