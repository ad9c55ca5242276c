"""Test modules import `helpers` and other files of this folder by name."""

import os

import jax
import pytest

# Tests compile much and compute little: without optimising, the suite takes two
# thirds of the time. Read when the first test asks jax for its devices.
os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0')


@pytest.fixture(scope='session', autouse=True)
def compile_cache(tmp_path_factory):
  """Programs that several tests compile are compiled once a session."""
  jax.config.update(
    'jax_compilation_cache_dir', str(tmp_path_factory.mktemp('jax'))
  )
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)


@pytest.fixture(scope='module', autouse=True)
def few_programs():
  """Forgets the programs of a module after it.

  Each has pages of its own, of which Linux allows a process 65,530
  (vm.max_map_count); XLA dies of a segmentation fault where there are no more.
  """
  yield
  jax.clear_caches()


@pytest.fixture(scope='session')
def tiny_run(tmp_path_factory):
  """The folder of refcritic's tiny config, trained from end to end."""
  import io

  from rich.console import Console

  from configs import refcritic
  from critic_jax import train

  path = tmp_path_factory.mktemp('runs') / 'tiny'
  return train.run(
    refcritic.get_config('tiny'), str(path), Console(file=io.StringIO())
  )
