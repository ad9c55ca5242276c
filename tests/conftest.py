"""Test modules import `helpers` and other files of this folder by name."""

import fcntl
import importlib.util
import os
import pathlib
import shutil

import jax
import pytest
from commands import collect_rarely, forked_python

# Tests compile much and compute little: programs that are not optimised take
# half of the time, and jax 0.10 has older, plainer code for operations, which
# later ones no longer know. Read when a test first asks jax for its devices.
FLAGS = [
  '--xla_backend_optimization_level=0',
  '--xla_cpu_parallel_codegen_split_count=1',
]
if jax.__version_info__ < (0, 11):
  FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ.setdefault('XLA_FLAGS', ' '.join(FLAGS))

# A test packs `.git` while another asks git for its state: it writes nothing.
os.environ['GIT_OPTIONAL_LOCKS'] = '0'

NUM_PROCESSES = 2

# Compilers of chips that need not be there: the module of each, by the mark of
# the tests that ask it, and the extra that installs it.
COMPILERS = {'libtpu': ('libtpu', 'tpu'), 'cuda': ('jax_cuda12_plugin', 'gpu')}


def is_worker():
  """Whether this is one of the processes that pytest-xdist started."""
  return 'PYTEST_XDIST_WORKER' in os.environ


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
  """Has two processes of pytest-xdist run what is quick, a file at a time.

  Not where the command names a file, nor where it asks for a debugger, for all
  that is printed, or for another number (`-n 0`). The folders come in order of
  their names: those that take seconds come last, so both processes end at once.
  """
  # A worker must not have workers of its own.
  if not config.pluginmanager.hasplugin('xdist') or is_worker():
    return
  option = config.option
  is_quick = option.markexpr == 'not slow' and option.capture != 'no'
  names_folders = all(pathlib.Path(name).is_dir() for name in config.args)
  if option.numprocesses is None and is_quick and names_folders:
    option.numprocesses = 0 if option.usepdb else NUM_PROCESSES
  if option.numprocesses and option.dist == 'no':
    option.dist, option.loadscopereorder = 'loadfile', False


def pytest_runtest_setup(item):
  """Skips tests of a chip's compiler where it is not installed."""
  for mark, (module, extra) in COMPILERS.items():
    if item.get_closest_marker(mark) and not importlib.util.find_spec(module):
      pytest.skip(f"{module} is not installed: pip install -e '.[{extra}]'")


def pytest_collection():
  """Collects little garbage while tests are imported."""
  collect_rarely()


def pytest_collection_finish():
  """Collects none among what they have imported."""
  collect_rarely()


@pytest.fixture(scope='session')
def shared_folder(tmp_path_factory):
  """The folder of the command, in which each worker has its own."""
  folder = tmp_path_factory.getbasetemp()
  return folder.parent if is_worker() else folder


@pytest.fixture(scope='session', autouse=True)
def compile_cache(shared_folder):
  """Compiles once what several tests compile, in whatever process."""
  settings = dict(
    jax_compilation_cache_dir=str(shared_folder / 'jax'),
    jax_persistent_cache_min_compile_time_secs=0.0,
    jax_persistent_cache_min_entry_size_bytes=0,
    # Programs do not name the lines of code that they come from.
    jax_traceback_in_locations_limit=0,
  )
  for name, value in settings.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)  # the tests' children inherit it


@pytest.fixture(scope='session')
def python(compile_cache):
  """Runs a module, or a file, with words as `python` does; no imports wait."""
  with forked_python() as run:
    yield run


@pytest.fixture(scope='module', autouse=True)
def few_programs():
  """Forgets the programs of a module after it.

  Each has pages of its own, of which Linux allows a process 65,530
  (vm.max_map_count); XLA dies of a segmentation fault where there are no more.
  """
  yield
  jax.clear_caches()


@pytest.fixture(scope='session')
def tiny_run(shared_folder, tmp_path_factory):
  """The folder of refcritic's tiny config, trained from end to end.

  The first process to ask trains it, and each has a copy.
  """
  from run_helpers import run

  from configs import refcritic

  path = shared_folder / 'tiny_run'
  with (shared_folder / 'tiny_run.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (path / 'DONE').exists():
      run(refcritic.get_config('tiny'), path, has_report=True)
  return shutil.copytree(path, tmp_path_factory.mktemp('runs') / 'tiny')
