"""Counts of compilations, by step: of a function, and of whole runs."""

import io
import logging
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from configs import refcritic
from critic_jax import train
from critic_jax.runtime import compilation
from critic_jax.workdir import run_dir


def test_the_counter_counts_programs():
  @jax.jit
  def double(x):
    return x + x

  sizes = [np.zeros(n, np.float32) for n in (31, 32)]
  with compilation.Counter() as counter:
    double(sizes[0])
    double(sizes[1])
    double(sizes[0])
    first, second = counter.read(), counter.read()
  double(np.zeros(33, np.float32))
  assert first['compile/count'] == 2 and first['time/compile_s'] > 0
  assert second['compile/count'] == 0 and second['time/compile_s'] == 0
  assert counter.read()['compile/count'] == 0  # it listens no more


def test_what_was_compiled_ahead_is_not_compiled_again():
  @jax.jit
  def mean(x):
    return jnp.mean(x)

  def compile_one(size):
    mean.lower(jax.ShapeDtypeStruct((size,), jnp.float32)).compile()

  sizes = (41, 42, 43)
  with compilation.Counter() as counter:
    compilation.ahead(compile_one, sizes)
    assert counter.read()['compile/count'] == 3
    for size in sizes:
      mean(np.ones(size, np.float32))
    assert counter.read()['compile/count'] == 0
    mean(np.ones(44, np.float32))
    assert counter.read()['compile/count'] == 1


def test_a_program_that_does_not_compile_is_an_error():
  def compile_one(size):
    raise ValueError(f'no program for {size}')

  with pytest.raises(ValueError, match='no program for 2'):
    compilation.ahead(compile_one, [2])
  compilation.ahead(compile_one, [])


@pytest.fixture
def jax_config():
  """Restores the settings that `use_cache` changes, after the test."""
  names = (
    'jax_compilation_cache_dir',
    'jax_persistent_cache_min_compile_time_secs',
    'jax_persistent_cache_min_entry_size_bytes',
  )
  before = {name: getattr(jax.config, name) for name in names}
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation.compilation_cache.reset_cache()


def test_a_second_start_finds_its_programs(tmp_path, jax_config):
  compilation.use_cache(str(tmp_path))

  def start():
    jax.clear_caches()  # as a new process has none
    with compilation.Counter() as counter:
      jax.jit(lambda x: jnp.sin(x) * 3 + 45)(np.ones(45, np.float32))
      return counter.read()

  first, second = start(), start()
  assert first['compile/count'] == second['compile/count'] == 1
  assert first['compile/from_cache'] == 0
  assert second['compile/from_cache'] == 1
  assert any(tmp_path.iterdir())


def test_without_the_cache_nothing_is_read_or_written(tmp_path, jax_config):
  compilation.use_cache(str(tmp_path))

  def start():
    jax.clear_caches()
    with compilation.Counter() as counter:
      jax.jit(lambda x: jnp.sin(x) * 3 + 46)(np.ones(46, np.float32))
      return counter.read()['compile/from_cache']

  with compilation.without_cache():
    assert start() == 0 and not any(tmp_path.iterdir())
  assert start() == 0 and start() == 1  # it is in use again
  with compilation.without_cache():
    assert start() == 0
  assert start() == 1


def test_options_are_those_of_the_devices_of_the_arguments(monkeypatch):
  """A TPU's compiler knows no options of CPUs, whatever the default is."""
  options = []
  monkeypatch.setattr(
    jax,
    'jit',
    lambda function, compiler_options, **_: (
      options.append(compiler_options) or function
    ),
  )
  f = compilation.Jit(lambda settings, x: x)
  x = jax.ShapeDtypeStruct((2,), jnp.float32)
  device = types.SimpleNamespace(platform='tpu')
  layout = types.SimpleNamespace(device_set={0: device}.values())
  on_tpu = types.SimpleNamespace(sharding=layout)
  for arguments in ((None, x), (None, on_tpu), (on_tpu, x), (None, {'a': x})):
    f(*arguments)
  cpu = compilation._OPTIONS['cpu']
  assert options == [cpu, None]  # each platform's is made once


def test_no_cache_is_jax_as_it_is_configured():
  before = jax.config.jax_compilation_cache_dir
  compilation.use_cache('')
  assert jax.config.jax_compilation_cache_dir == before


# -------------------------------------------------------------- whole runs


class Log(logging.Handler):
  """Programs that jax logs as compiled, with shapes, by the step that asked."""

  def __init__(self):
    super().__init__()
    self.compiled, self.now = {}, []

  def emit(self, record):
    match = re.match(
      r'Compiling (\S+) with .* types (.*?)\. ', record.getMessage()
    )
    if match:  # parameters are the first arguments, and tell the least
      self.now.append(f'{match[1]} (... {match[2][-300:]}')

  def end_step(self, phase, step):
    self.compiled[phase, step], self.now = self.now, []


def compiled_by(config, path, monkeypatch):
  """Runs a config; returns what each step compiled, and the metrics."""
  log, log_metrics = Log(), run_dir.RunDir.log_metrics

  def logged(self, step, metrics, phase):
    log_metrics(self, step, metrics, phase)
    log.end_step(phase, step)

  monkeypatch.setattr(run_dir.RunDir, 'log_metrics', logged)
  monkeypatch.setattr(train.html_report, 'write', lambda path: None)
  logger = logging.getLogger('jax')
  logger.addHandler(log)
  monkeypatch.setattr(logger, 'propagate', False)  # pytest would print it all
  jax.config.update('jax_log_compiles', True)  # the context is of one thread
  try:
    train.run(config, str(path), Console(file=io.StringIO()))
  finally:
    jax.config.update('jax_log_compiles', False)
    logger.removeHandler(log)
  return log.compiled, list(run_dir.read_metrics(path / 'metrics.jsonl'))


def assert_warm_after_first_steps(compiled, rows):
  """Only the first step of each phase compiles."""
  first = {row['phase']: row['step'] for row in reversed(rows)}
  late = {
    where: messages
    for where, messages in compiled.items()
    if where[1] != first[where[0]] and messages
  }
  report = '\n'.join(f'{w}: {m}' for w, ms in late.items() for m in ms)
  assert not late, f'compiled after the first step of a phase:\n{report}'
  for row in rows:
    is_first = row['step'] == first[row['phase']]
    assert bool(row['compile/count']) == is_first, row


@pytest.mark.slow
def test_a_tiny_run_is_warm_after_the_first_step_of_a_phase(
  tmp_path, monkeypatch
):
  config = refcritic.get_config('tiny')
  config.compile_ahead = True
  config.order, config.phases.rl.copy, config.evals = ('rl',), {}, {}
  del config.models.cold
  config.phases.rl.steps = 3
  config.phases.rl.gate = 'always'  # what an untrained critic says is refined
  config.phases.rl.staleness = 1
  compiled, rows = compiled_by(config, tmp_path, monkeypatch)
  assert len(rows) == 3
  # The log and the counter see the same.
  assert {where: len(programs) for where, programs in compiled.items()} == {
    (row['phase'], row['step']): row['compile/count'] for row in rows
  }
  assert_warm_after_first_steps(compiled, rows)


@pytest.mark.slow
def test_the_quickstart_is_warm_after_the_first_step_of_a_phase(
  tmp_path, monkeypatch
):
  config = refcritic.get_config('quickstart')
  config.evals = {}
  config.phases.quiz.steps = 30
  config.phases.solver.steps = 60
  config.phases.cold_start.steps = 30
  config.phases.rl.steps = 12
  compiled, rows = compiled_by(config, tmp_path, monkeypatch)
  assert_warm_after_first_steps(compiled, rows)
