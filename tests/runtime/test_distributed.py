"""Several processes beside one; two of them run here, on the loopback.

`main` is what each of the two runs: a tiny RefCritic of five steps, in which
the second kills itself before the fourth is saved. `move` is for two of four
devices each.
"""

import dataclasses
import io
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from rich.console import Console

from configs import refcritic
from critic_jax import train
from critic_jax.runtime import distributed, sharding
from critic_jax.types import Generation
from critic_jax.workdir import run_dir

ROOT = pathlib.Path(__file__).parents[2]
HEARTBEAT_S = 10
NUM_MOVED = 50  # more programs than XLA has in flight on a CPU device: 32


def config():
  config = refcritic.get_config('tiny')
  config.compile_ahead = False
  config.order, config.evals = ('rl',), {}
  config.phases.rl.copy = {}
  del config.models.cold
  config.phases.rl.steps = 5
  config.phases.rl.checkpoint_every = 2
  config.phases.rl.records_every = 1
  # Adam divides by each gradient's own size: one that is 0 but for rounding
  # moves its parameter by the whole rate, to one side or the other, and tokens
  # turn. So it divides by no less than this.
  config.phases.rl.optimizer.eps = 1e-2
  return config


def main(path):
  distributed.initialize()
  log = train.Run._log

  def killed(self, phase, step, *arguments):
    if step == 3 and not distributed.is_first():
      os.kill(os.getpid(), signal.SIGKILL)
    return log(self, phase, step, *arguments)

  train.Run._log = killed
  with distributed.ending_together():
    train.run(config(), path)


def end_on_notice(path):
  """Tells the second process to end after its second step, as by Ctrl-C."""
  signal.signal(signal.SIGINT, signal.default_int_handler)
  distributed.initialize()
  log = train.Run._log

  def tell(self, phase, step, *arguments):
    if step == 1:
      if not distributed.is_first():
        os.kill(os.getpid(), signal.SIGINT)
      time.sleep(5)  # jax looks for it once a second
    return log(self, phase, step, *arguments)

  train.Run._log = tell
  with distributed.ending_together():
    train.run(config(), path)


def move():
  """Moves many parameters to sample with, several times, and waits for none."""
  distributed.initialize()
  mesh = sharding.make_mesh(dict(fsdp=4, tensor=2))
  local = sharding.sampling_mesh({}, mesh)
  assert (local.shape['data'], local.shape['tensor']) == (2, 2)
  split = NamedSharding(mesh, PartitionSpec('fsdp', 'tensor'))
  layout = NamedSharding(local, PartitionSpec(None, 'tensor'))
  value = np.arange(64.0, dtype=np.float32).reshape(8, 8)
  params = [
    jax.make_array_from_callback(value.shape, split, lambda at: value[at])
    for _ in range(NUM_MOVED)
  ]
  form = jax.ShapeDtypeStruct(value.shape, 'bfloat16', sharding=layout)
  copies = [sharding.reshard(params, [form] * NUM_MOVED) for _ in range(5)]
  for x in jax.tree.leaves(copies):
    np.testing.assert_array_equal(x, value)  # whole numbers up to 63
    assert x.dtype == 'bfloat16' and x.sharding == layout
  distributed.wait('end')


def run_two(python, *arguments, **environment):
  """Runs this file in two processes that know of each other.

  Returns their exit codes, their outputs, and when they ended, in seconds.
  """
  address = f'127.0.0.1:{free_port()}'
  shared = {
    'CRITIC_JAX_COORDINATOR': address,
    'CRITIC_JAX_NUM_PROCESSES': '2',
    'CRITIC_JAX_HEARTBEAT_S': str(HEARTBEAT_S),
    **environment,
  }
  results = python.together(
    [__file__, *arguments],
    [shared | {'CRITIC_JAX_PROCESS_ID': str(number)} for number in range(2)],
  )
  processes, ends = zip(*results, strict=True)
  outputs = [process.stdout + process.stderr for process in processes]
  return [process.returncode for process in processes], outputs, ends


@pytest.fixture(scope='module')
def killed_run(python, tmp_path_factory):
  """Runs two processes and kills one; returns output and exit codes."""
  path = tmp_path_factory.mktemp('two') / 'run'
  (first, second), outputs, ends = run_two(python, 'main', path)
  return path, outputs[0], first, second, ends[0] - ends[1]


@pytest.mark.slow
def test_if_one_process_is_told_to_end_all_save_the_same_step(python, tmp_path):
  path = tmp_path / 'run'
  codes, outputs, _ = run_two(python, 'end_on_notice', path)
  assert codes == [143, 130], outputs
  steps = [r['step'] for r in run_dir.read_metrics(path / 'metrics.jsonl')]
  last_checkpoint = max(int(p.name) for p in (path / 'checkpoints').iterdir())
  assert steps == [*range(last_checkpoint)] and 2 <= last_checkpoint < 5
  assert not (path / 'DONE').exists() and not (path / 'FAILED').exists()
  assert 'told to end' in outputs[0]


@pytest.fixture(scope='module')
def single_run(tmp_path_factory):
  """Runs the same config in one process, undisturbed."""
  path = tmp_path_factory.mktemp('one') / 'run'
  return train.run(config(), str(path), Console(file=io.StringIO()))


def test_if_one_process_is_killed_the_other_ends(killed_run):
  _, output, first, second, wait_s = killed_run
  assert second == -signal.SIGKILL, output
  assert first not in (0, None) and wait_s < 3 * HEARTBEAT_S
  assert re.search('another (task|process) (died|ended first)', output), output


def test_two_processes_do_as_one_and_one_continues_what_they_began(
  killed_run, single_run
):
  path = killed_run[0]
  assert [row['step'] for row in run_dir.read_metrics(path / 'metrics.jsonl')][
    :3
  ] == [0, 1, 2]
  assert sorted(p.name for p in (path / 'checkpoints').iterdir()) == ['2']
  before = (path / 'records/rl/000001.jsonl.gz').read_bytes()
  train.run(config(), str(path), Console(file=io.StringIO()))
  assert (path / 'records/rl/000001.jsonl.gz').read_bytes() == before
  rows, single_rows = (
    list(run_dir.read_metrics(p / 'metrics.jsonl')) for p in (path, single_run)
  )
  assert (
    [r['step'] for r in rows] == [r['step'] for r in single_rows] == [*range(5)]
  )
  for row, expected in zip(rows, single_rows, strict=True):
    records, expected_records = (
      run_dir.read_records(p / f'records/rl/{row["step"]:06d}.jsonl.gz')
      for p in (path, single_run)
    )
    assert [r.id for r in records] == [r.id for r in expected_records]
    texts, expected_texts = (
      [r.text for r in rs] for rs in (records, expected_records)
    )
    assert texts == expected_texts, row['step']
    for name in ('loss/total', 'grad_norm', 'critique/reward'):
      close = pytest.approx(expected[name], rel=1e-4, abs=1e-5)
      assert row[name] == close, (row['step'], name)


@pytest.mark.slow
def test_many_parameters_of_many_devices_are_moved_to_sample_with(python):
  devices = '--xla_force_host_platform_device_count=4'
  codes, outputs, _ = run_two(python, 'move', XLA_FLAGS=devices)
  assert codes == [0, 0], outputs


def test_what_devices_never_finish_ends_the_process():
  code = (
    'import time, jax; from critic_jax.runtime import distributed;'
    'jax.process_count = lambda: 2; distributed.WAIT_S = 0.2;'
    'print(distributed.finished("at once"));'
    'time.sleep(0.4); print("alive", flush=True);'
    'jax.block_until_ready = lambda x: time.sleep(60);'
    'distributed.finished(0)'
  )
  process = subprocess.run(
    [sys.executable, '-c', code], env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    cwd=ROOT, capture_output=True, text=True, timeout=60,
  )  # fmt: skip
  assert (process.returncode, process.stdout) == (1, 'at once\nalive\n')
  assert 'in finished' in process.stderr  # where it waited
  assert re.search(
    'error: process 0 of 2 ends: got no result .* look at their logs',
    process.stderr,
  )


# ------------------------------------------- what is divided, and put together


@dataclasses.dataclass
class Group:
  """Processes that run one after the other; the last has all payloads."""

  size: int
  payloads: dict = dataclasses.field(default_factory=dict)
  me: int = 0

  def install(self, monkeypatch):
    monkeypatch.setattr(jax, 'process_count', lambda: self.size)
    monkeypatch.setattr(jax, 'process_index', lambda: self.me)
    monkeypatch.setattr(distributed, 'exchange', self.exchange)

  def exchange(self, name, payload):
    self.payloads[name, self.me] = payload
    return [self.payloads.get((name, i), payload) for i in range(self.size)]


@pytest.mark.parametrize('size', [2, 3])
def test_a_sampler_is_shared(monkeypatch, size):
  calls = []

  def generate(prompts, keys, n, max_prompts):
    calls.append(
      (list(prompts), [int(k) for k in keys[: len(prompts)]], max_prompts)
    )
    return [
      [
        Generation(
          np.arange(3, dtype=np.int32), np.full(i, int(key), np.int32),
          np.full(i, -0.5 * i, np.float32), f'{prompt}\n{i}é', 'stop',
        )
        for i in range(n)
      ]
      for prompt, key in zip(prompts, keys, strict=False)
    ]  # fmt: skip

  prompts, keys = [f'p{i}' for i in range(7)], np.arange(8)
  plain = generate(prompts, keys, 2, 7)
  calls.clear()
  group = Group(size)
  group.install(monkeypatch)
  for group.me in reversed(range(size)):  # the last to ask has all answers
    groups = distributed.sharing(generate)(prompts, keys, 2, 10)
  assert [a for a, _, _ in calls] == [
    prompts[i::size] for i in reversed(range(size))
  ]
  assert all(p == [f'p{k}' for k in ks] for p, ks, _ in calls)
  assert {max_prompts for _, _, max_prompts in calls} == {-(-10 // size)}
  assert len(groups) == 7
  for siblings, expected in zip(groups, plain, strict=True):
    for generation, other in zip(siblings, expected, strict=True):
      for field, x, y in zip(
        Generation._fields, generation, other, strict=True
      ):
        np.testing.assert_array_equal(x, y, err_msg=field)


def test_a_grader_is_shared(monkeypatch):
  group = Group(3)
  group.install(monkeypatch)
  pairs = [(f'{i}', f'{i % 2}') for i in range(8)]

  def grade(mine):
    return ['right' if a == b else f'wrong {a}' for a, b in mine]

  for group.me in reversed(range(3)):
    grades = distributed.sharing_grades(grade)(pairs)
  assert grades == grade(pairs)


def test_one_process_shares_nothing():
  def generate(prompts, keys, n, max_prompts):
    raise AssertionError

  assert distributed.sharing(generate) is generate
  assert distributed.sharing_grades(generate) is generate
  assert distributed.exchange('x', b'abc') == [b'abc']
  assert distributed.agreed('x', ['a', None]) == ['a', None]
  distributed.wait('x')
  with pytest.raises(KeyError, match='as it is'), distributed.ending_together():
    raise KeyError('as it is')


@pytest.mark.parametrize(
  ('environment', 'message'),
  [
    (
      {'CRITIC_JAX_COORDINATOR': 'a:1'},
      'environment: got no CRITIC_JAX_NUM_PROCESSES, CRITIC_JAX_PROCESS_ID; '
      'expected all of CRITIC_JAX_COORDINATOR, CRITIC_JAX_NUM_PROCESSES, CRIT',
    ),
    (
      {
        'CRITIC_JAX_COORDINATOR': 'a:1', 'CRITIC_JAX_NUM_PROCESSES': 'two',
        'CRITIC_JAX_PROCESS_ID': '0',
      },
      "CRITIC_JAX_NUM_PROCESSES: got 'two'; expected a number",
    ),
    (
      {
        'CRITIC_JAX_COORDINATOR': 'a', 'CRITIC_JAX_NUM_PROCESSES': '2',
        'CRITIC_JAX_PROCESS_ID': '0',
      },
      "CRITIC_JAX_COORDINATOR: got 'a'; expected host:port",
    ),
    (
      {
        'CRITIC_JAX_COORDINATOR': 'a:1', 'CRITIC_JAX_NUM_PROCESSES': '2',
        'CRITIC_JAX_PROCESS_ID': '2',
      },
      'CRITIC_JAX_PROCESS_ID: got 2; expected a number from 0 to 1',
    ),
  ],
)  # fmt: skip
def test_wrong_environments(environment, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    distributed.initialize(environment)


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({}, None),
    ({'SLURM_STEP_NUM_TASKS': '1', 'TPU_WORKER_HOSTNAMES': 'a'}, None),
    ({'SLURM_STEP_NUM_TASKS': '4'}, dict(heartbeat_timeout_seconds=60)),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, dict(heartbeat_timeout_seconds=60)),
    (
      {
        'CRITIC_JAX_COORDINATOR': 'a:1', 'CRITIC_JAX_NUM_PROCESSES': '2',
        'CRITIC_JAX_PROCESS_ID': '1', 'CRITIC_JAX_HEARTBEAT_S': '7',
        'CRITIC_JAX_JOIN_S': '9',
      },
      dict(
        coordinator_address='a:1', num_processes=2, process_id=1,
        heartbeat_timeout_seconds=7, initialization_timeout=78,
      ),
    ),
  ],
)  # fmt: skip
def test_who_is_joined(monkeypatch, environment, expected):
  calls = []
  monkeypatch.setattr(
    jax.distributed, 'initialize', lambda **settings: calls.append(settings)
  )
  monkeypatch.setattr(distributed, '_reach', lambda *address: None)
  distributed.initialize(environment)
  defaults = dict(initialization_timeout=2 * distributed.JOIN_S + 60)
  assert calls == ([] if expected is None else [defaults | expected])


def joining(process_id, port, **environment):
  return {
    'CRITIC_JAX_COORDINATOR': f'localhost:{port}',
    'CRITIC_JAX_NUM_PROCESSES': '2',
    'CRITIC_JAX_PROCESS_ID': str(process_id),
    'CRITIC_JAX_JOIN_S': '1',
    **environment,
  }


def free_port():
  with socket.create_server(('', 0)) as s:
    return s.getsockname()[1]


def test_without_a_first_process_the_others_end_with_an_error():
  port, start = free_port(), time.monotonic()
  with pytest.raises(ValueError, match=f'no answer from localhost:{port} with'):
    distributed.initialize(joining(1, port))
  assert time.monotonic() - start < 20


def test_a_port_that_is_taken_is_an_error():
  with socket.create_server(('', 0)) as s:
    port = s.getsockname()[1]
    with pytest.raises(ValueError, match=f'got the port {port}, where this f'):
      distributed.initialize(joining(0, port))


def test_a_first_process_that_nobody_joins_ends_with_an_error():
  """It waits in C++: another thread ends it, and says why."""
  code = (
    'import jax; jax.config.update("jax_platforms", "cpu")\n'
    'from critic_jax.runtime import distributed\n'
    'distributed._SAY_S = 0.1\n'
    'distributed.initialize()'
  )
  result = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'PYTHONPATH': str(ROOT), **joining(0, free_port())},
    capture_output=True, text=True, timeout=100,
  )  # fmt: skip
  assert result.returncode == 1
  assert 'waiting for the other processes' in result.stderr
  [error] = [x for x in result.stderr.splitlines() if x.startswith('error: ')]
  assert 'got not all of them at localhost' in error


if __name__ == '__main__':
  globals()[sys.argv[1]](*sys.argv[2:])
