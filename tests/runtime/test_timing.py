import contextvars
import threading

import pytest

from critic_jax.runtime import timing


def test_sums_of_the_innermost_open_meter():
  timing.add('lost', 1)  # where none is open
  with timing.opened() as outer:
    timing.add('tokens/solve', 3)
    with timing.opened() as inner:
      timing.add('tokens/solve', 40)
      with timing.timed('time/solve_s'):
        pass
    timing.add('tokens/solve', 4)
  timing.add('tokens/solve', 500)
  assert outer == {'tokens/solve': 7}
  assert inner.keys() == {'tokens/solve', 'time/solve_s'}
  assert inner['tokens/solve'] == 40 and 0 <= inner['time/solve_s'] < 1


def test_a_failed_block_took_time_too():
  with timing.opened() as sums, pytest.raises(KeyError):
    with timing.timed('time/a'):
      raise KeyError
  assert list(sums) == ['time/a']


def test_a_thread_adds_in_a_copy_of_the_context():
  def work(run):
    thread = threading.Thread(target=run, args=(timing.add, 'x', 1))
    thread.start()
    thread.join()

  with timing.opened() as sums:
    work(contextvars.copy_context().run)
    work(lambda function, *args: function(*args))  # knows no meter
  assert sums == {'x': 1}


def test_metrics_by_hand():
  sums = {
    'time/solve_s': 2.0, 'tokens/solve': 50, 'tokens/update': 9,
    'time/grade_s': 1.0, 'slots/busy': 30, 'slots/all': 40,
  }  # fmt: skip
  assert timing.metrics(sums) == {
    'time/solve_s': 2.0, 'tokens/solve': 50, 'tokens/update': 9,
    'time/grade_s': 1.0, 'time/solve_tokens_per_s': 25.0,
    'device/occupancy': 0.75,
  }  # fmt: skip


def test_memory_is_what_the_process_holds():
  before = timing.memory()
  assert before and all(name.startswith('memory/') for name in before)
  pages = bytearray(2**28)  # a quarter GiB of pages, written to
  pages[:: 2**12] = b'x' * 2**16
  assert 0.05 < timing.memory()['memory/host_gib'] < 1000
  assert timing.memory()['memory/host_gib'] >= before['memory/host_gib']
