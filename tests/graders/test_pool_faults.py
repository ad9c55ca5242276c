"""Graders that die, hang, take all memory, fork, flood, babble or lie."""

import os
import pathlib
import signal
import threading
import time

import bad_graders
import pytest

from critic_jax.answers import final_answers
from critic_jax.execution import code, sandbox, syscalls
from critic_jax.graders import pool

FOLDER = pathlib.Path(bad_graders.__file__).parent


@pytest.fixture
def bad(monkeypatch):
  """Makes pools of a bad grader."""
  path = os.pathsep.join([str(FOLDER), os.environ.get('PYTHONPATH', '')])
  monkeypatch.setenv('PYTHONPATH', path)
  monkeypatch.setitem(pool.GRADERS, 'bad', 'bad_graders')
  pools = []

  def make(num_workers=1, **settings):
    pools.append(
      pool.Pool(
        num_workers,
        name='bad',
        **dict(deadline_s=20.0, memory_bytes=2**30) | settings,
      )
    )
    return pools[-1]

  yield make
  for graders in pools:
    graders.close()


def descriptors():
  return set(os.listdir('/proc/self/fd'))


def is_alive(pid):
  return pathlib.Path(f'/proc/{pid}').exists()


def pids(graders):
  return [worker.process.pid for worker in graders._workers]


def grade(graders, *texts):
  return graders.grade([(text, '') for text in texts])


def strays():
  paths = []
  for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
    try:
      if bad_graders.MARK in path.read_text():
        paths.append(path)
    except OSError:
      pass
  return paths


@pytest.mark.parametrize('status', [0, 1, 137])
def test_a_dead_grader_is_a_timeout_and_harms_no_other(status, bad):
  graders = bad()
  dead = f'die {status}'
  assert grade(graders, 'a', dead, 'no', 'b') == [
    'right', 'timeout', 'wrong', 'right'
  ]  # fmt: skip
  # Only what was graded is remembered.
  assert len(graders.state()) == 3


def test_a_hanging_grader_is_killed_at_its_deadline(bad):
  graders = bad(deadline_s=0.5)
  grade(graders, 'a')
  [pid] = pids(graders)
  start = time.monotonic()
  assert grade(graders, 'hang', 'b') == ['timeout', 'right']
  # The deadline, and a new child.
  assert time.monotonic() - start < 3.0
  assert not is_alive(pid)


def test_a_killed_child_is_replaced_and_its_item_tried_again(bad):
  graders = bad()
  grade(graders, 'a')
  os.kill(pids(graders)[0], signal.SIGKILL)  # while idle
  assert grade(graders, 'b') == ['right']
  killed_pids = set()
  end = threading.Event()

  def kill_the_busy():
    while not end.wait(0.01):
      for worker in list(graders._workers):
        if worker.job and worker.job != pool.CHECK:
          if worker.process.pid not in killed_pids:
            killed_pids.add(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)

  thread = threading.Thread(target=kill_the_busy)
  thread.start()
  grades = grade(graders, 'hang')
  end.set()
  thread.join()
  # Two children died of it, and it was given up.
  assert grades == ['timeout']
  assert len(killed_pids) == 2


def test_old_children_are_replaced(bad, monkeypatch):
  monkeypatch.setattr(pool, '_MAX_ITEMS', 2)
  graders = bad()
  worker_pids = set()
  for text in 'abc':
    grade(graders, text)
    worker_pids.update(pids(graders))
  assert len(worker_pids) == 2


@pytest.fixture
def interruptible():
  """Ctrl-C raises, also where a shell started us in the background."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('interruptible')
def test_interrupt_leaves_no_late_answer(bad):
  graders = bad()
  grade(graders, 'a')
  [pid] = pids(graders)
  threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
  with pytest.raises(KeyboardInterrupt):
    grade(graders, 'hang')
  assert not is_alive(pid)
  assert grade(graders, 'b') == ['right']


def test_close_leaves_no_process_and_no_descriptor(bad):
  before = descriptors()
  with bad(2, deadline_s=0.5) as graders:
    grade(graders, 'hang', 'a')
    children, workers = pids(graders), list(graders._workers)
    assert children
  assert not any(is_alive(pid) for pid in children)  # no zombie either
  assert all(worker.process.stdin.closed for worker in workers)
  assert descriptors() == before
  with pytest.raises(ValueError, match='closed'):
    grade(graders, 'a')


def test_a_hanging_grader_holds_up_no_other(bad):
  graders = bad(2, deadline_s=1.0)
  texts = ['hang', *map(str, range(50))]
  assert grade(graders, *texts) == ['timeout'] + ['right'] * 50


@pytest.mark.parametrize('fault', ['allocate', 'allocate slowly'])
def test_a_grader_that_allocates_100_gb_is_stopped(fault, bad):
  graders = bad(memory_bytes=2**28)
  with open('/proc/meminfo') as file:
    total_kb = int(file.readline().split()[1])
  # MemoryError, which this grader does not catch, ends it.
  start = time.monotonic()
  assert grade(graders, fault, 'b') == ['timeout', 'right']
  assert time.monotonic() - start < 15.0
  assert total_kb > 2**18, 'a limit of 256 MB is no limit here'


def test_a_grader_without_memory_says_nothing_is_wrong(bad):
  # The item may be to blame, or what earlier ones left: it is tried alone.
  little = dict(memory_bytes=2**28)
  assert grade(bad(**little), 'a', 'swallow', 'b', 'no') == [
    'right', 'timeout', 'right', 'wrong'
  ]  # fmt: skip
  assert grade(bad(**little), 'swallow') == ['timeout']


def test_a_child_whose_memory_fills_is_replaced(bad):
  # Each item keeps 16 MB of 256 MB, and the canaries need 64 MB.
  graders = bad(memory_bytes=2**28)
  texts = [f'keep {k}' for k in range(13)]
  assert grade(graders, *texts, 'no') == ['right'] * 13 + ['wrong']
  [worker] = graders._workers
  assert worker.num_items < 14


def test_what_a_child_graded_that_fails_is_graded_again(bad, tmp_path):
  graders = bad(2)
  poison = [(f'poison {k}', str(tmp_path / 'once')) for k in range(2)]
  items = [('a', ''), *poison, ('b', ''), ('c', '')]
  # The first child that meets the poison calls everything wrong from then on.
  assert graders.grade(items) == ['right'] * 5
  assert list(graders.state().values()) == ['right'] * 5
  # A fresh child that fails, too, ends it; the next call starts anew.
  with pytest.raises(RuntimeError, match='no grade of this step'):
    grade(graders, 'poison')
  assert grade(graders, 'd') == ['right']


def test_a_grader_can_not_fork(bad):
  if not syscalls.make_filter() and os.geteuid() == 0:
    pytest.skip('root, and no libseccomp2 here: nothing refuses to fork')
  graders = bad()
  assert grade(graders, 'fork') == ['wrong']  # it says that it could not
  assert not strays()


def test_what_a_grader_forked_ends_with_it(bad, monkeypatch):
  monkeypatch.setattr(bad_graders, 'IN_SANDBOX', True)
  graders = bad()
  # The child is in no sandbox, and may fork, as a sandbox's does.
  graders._settings['walls'] = sandbox.Walls('', '')
  graders._settings['grader'] = 'bad_graders_that_fork'
  assert grade(graders, 'fork') == ['right']
  assert not strays()


def test_a_grader_writes_no_file(bad, tmp_path):
  graders, path = bad(), tmp_path / 'file'
  items = [('write', str(path)), ('b', '')]
  assert graders.grade(items) == ['timeout', 'right']  # OSError ends it
  assert not path.exists() or path.read_text() == ''


@pytest.mark.parametrize('fault', ['flood', 'babble'])
def test_a_grader_that_speaks_no_grades_is_replaced(fault, bad):
  start = time.monotonic()
  assert grade(bad(), fault, 'b') == ['timeout', 'right']
  assert time.monotonic() - start < 10.0


def test_a_grader_that_lies_is_refused(bad, monkeypatch):
  graders = bad()
  lie = ('fine', '', 'right'), ('no', '', 'right')
  monkeypatch.setattr(bad_graders, 'CANARIES', lie)
  with pytest.raises(
    RuntimeError, match="graders.bad: got 'wrong' for the canary 'no'; exp"
  ):
    grade(graders, 'a')
  # Nothing it said is kept, nor the child.
  assert not graders.state() and not graders._workers


def test_a_grader_whose_canaries_die_is_refused(bad, monkeypatch, tmp_path):
  (tmp_path / 'dying_grader.py').write_text(
    'from bad_graders import *\nCANARIES = (("die 1", "", "right"),)\n'
    'def decide(answer, reference):\n'
    '  import bad_graders\n'
    '  started = globals().setdefault("started", [])\n'
    '  started.append(answer)\n'
    '  return bad_graders.decide(answer, reference) if started[1:] else "right"'
  )
  monkeypatch.syspath_prepend(tmp_path)
  path = os.pathsep.join([str(tmp_path), os.environ['PYTHONPATH']])
  monkeypatch.setenv('PYTHONPATH', path)
  monkeypatch.setitem(pool.GRADERS, 'bad', 'dying_grader')
  with pytest.raises(RuntimeError, match="got 'dead' for the canary"):
    grade(bad(), 'a')


def test_a_cheap_canary_is_graded_even_if_no_child_is_needed(monkeypatch):
  with pool.Pool(1) as graders:
    assert graders.grade([(r'\boxed{5}', '5')]) == ['right']
    monkeypatch.setattr(final_answers, 'exact', lambda *pair: True)
    with pytest.raises(RuntimeError, match='no grade of this step'):
      graders.grade([(r'\boxed{5}', '5')])
    assert not graders._workers


def test_an_unknown_grader_is_refused():
  with pytest.raises(ValueError, match=r"name: got 'cod'; expected .*'code'"):
    pool.Pool(1, name='cod')


# -------------------------------------------------------------- the cache


def test_the_cache_is_saved_and_restored(bad):
  graders = bad()
  assert grade(graders, 'yes', 'no') == ['right', 'wrong']
  state = graders.state()
  assert list(state.values()) == ['right', 'wrong']
  graders = bad()
  graders.restore(state)
  assert grade(graders, 'no', 'yes') == ['wrong', 'right']
  assert not graders._workers  # no child was asked
  # The oldest first: what was asked for last is now last.
  assert list(graders.state().items()) == list(state.items())[::-1]


def test_the_cache_keeps_graders_and_references_apart():
  with pool.Pool(1) as graders:
    keys = {graders._key(pair) for pair in [('a', 'bc'), ('ab', 'c')]}
    graders._name = 'code'
    assert len(keys | {graders._key(('a', 'bc'))}) == 3


# ------------------------------------------------------------------- code


@pytest.fixture(scope='module')
def programs():
  try:
    graders = pool.Pool(1, name='code', deadline_s=0.4)
  except ValueError as error:
    pytest.skip(str(error))
  with graders:
    yield graders


def block(program):
  return f'So:\n```python\n{program}\n```\n'


def test_programs_have_four_grades(programs):
  tests = code.reference(['assert f(3) == 9', 'assert f(4) == 16'])
  items = [
    (block('def f(x): return x * x'), tests),
    (block('def f(x): return 9'), tests),
    ('def f(x): return x * x', tests),
    (block('import time\ndef f(x): time.sleep(99)'), tests),
  ]
  assert programs.grade(items) == ['right', 'wrong', 'unparsable', 'timeout']
  # The child outlives a timeout: what hung was in a sandbox.
  [worker] = programs._workers
  assert programs.grade(items)[3] == 'timeout'
  assert programs._workers == [worker]


def test_a_sandbox_that_does_not_start_is_no_grade(programs, monkeypatch):
  with pool.Pool(1, name='code') as graders:
    graders._settings['walls'] = sandbox.Walls('', 'ff')  # no such filter
    with pytest.raises(RuntimeError, match="'error': 'sandbox: got no answer"):
      graders.grade([(block('x = 1'), code.reference(['assert x == 1']))])


def test_a_missing_protection_refuses_the_pool(monkeypatch):
  monkeypatch.setattr(sandbox, '_find_walls', lambda: sandbox.Walls('', ''))
  with pytest.raises(ValueError, match='accept_missing'):
    pool.Pool(1, name='code')
  everything = sandbox.PROTECTIONS
  with pool.Pool(1, name='code', accept_missing=everything) as graders:
    tests = code.reference(['assert x == 1'])
    assert graders.grade([(block('x = 1'), tests)]) == ['right']
