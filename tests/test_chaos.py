"""A run that is killed, and killed again, comes to what it would have come to.

Run as a program, this is the run; it kills itself at a random instant. What is
quick of this is in test_faults.py (signals, disks) and test_distributed.py (one
process of two is killed, and the run goes on).

  python -m pytest -m slow tests/test_chaos.py    # 50 kills; some 10 minutes
"""

import functools
import os
import pathlib
import random
import signal
import sys
import threading
import time

import pytest
from run_helpers import assert_same, run, short_config

from critic_jax import files, train
from critic_jax.graders import pool
from critic_jax.runtime import preemption
from critic_jax.sampling import lm
from critic_jax.training import eval_phases, updates
from critic_jax.workdir import checkpoint, checkpoint_files

# The operations at whose start a run is killed.
INSTANTS = {
  'sampling': (lm.LM, '_generate'),
  'grading': (pool.Pool, 'grade'),
  'update': (updates, 'run'),
  'logging': (files, 'append'),
  'writing a file': (files, 'replace'),
  'saving': (checkpoint, 'save'),
  'inside a save': (checkpoint_files, 'write_digests'),
  'restoring': (train.Run, 'restore'),
  'recovering': (checkpoint, 'recover'),
  'evaluation': (eval_phases, 'measure'),
  'any': None,
}

# The exit status of a run after a signal.
STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}


def config():
  """Configures two phases, the second one stale, an evaluation, 8 steps."""
  config = short_config()
  config.phases.rl.update(dict(steps=5, staleness=1))
  return config


def main(path, instant, seed, number):
  """Trains a run that signals itself after a number of calls."""
  rng = random.Random(seed)
  signal.signal(signal.SIGINT, signal.default_int_handler)

  def die(after_s):
    time.sleep(after_s)
    os.kill(os.getpid(), int(number))

  def begin_to_die(after_s):
    threading.Thread(target=die, args=(after_s,), daemon=True).start()

  if instant == 'any':
    begin_to_die(rng.uniform(0, 15))
  elif instant != 'none':
    owner, name = INSTANTS[instant]
    function, left = getattr(owner, name), [rng.randint(1, 4)]
    if instant in ('restoring', 'recovering', 'evaluation'):
      left = [1]  # a process does it once

    @functools.wraps(function)
    def called(*args, **kwargs):
      left[0] -= 1
      if not left[0]:
        begin_to_die(rng.uniform(0, 0.1))
      return function(*args, **kwargs)

    setattr(owner, name, called)
  with preemption.interrupted_in_one_line():
    run(config(), pathlib.Path(path))


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  """Trains a run undisturbed; returns it. Others read its programs."""
  path = tmp_path_factory.mktemp('undisturbed') / 'run'
  return run(config(), path)


def begin(python, path, instant, seed, sent=signal.SIGKILL):
  """Starts or continues the run; returns its exit status."""
  child = python(__file__, path, instant, seed, int(sent))
  assert child.returncode in (0, STATUS[sent]), child.stderr
  assert not (path / 'FAILED').exists()
  return child.returncode


def kill(python, path, undisturbed, instants, seed, sent=signal.SIGKILL):
  """Kills a run once at each instant, and more runs once they have ended.

  A run that ended is as the undisturbed one. Returns where runs were killed:
  the instants, and how many checkpoints there were.
  """
  where, number = [], 0
  for i, instant in enumerate(instants):
    for attempt in range(100):
      run_path = path / str(number)
      if begin(python, run_path, instant, f'{seed}/{i}/{attempt}', sent):
        steps = list(run_path.glob('checkpoints/[0-9]*'))
        where.append((instant, len(steps)))
        break
      assert_same(run_path, undisturbed)  # it ended before the instant came
      number += 1
    else:
      pytest.fail(f'no run was killed at {instant!r}')
  while begin(python, path / str(number), 'none', 0):
    pass
  assert_same(path / str(number), undisturbed)
  return where


@pytest.mark.slow
def test_a_run_interrupted_at_all_instants_is_as_one_that_was_not(
  python, tmp_path, undisturbed
):
  seed = os.environ.get('CHAOS_SEED', 0)
  interrupted = kill(
    python, tmp_path, undisturbed, [*INSTANTS], seed, signal.SIGINT
  )
  assert len(interrupted) == len(INSTANTS)


@pytest.mark.slow
def test_a_run_killed_at_50_random_instants_is_as_one_that_was_not(
  python, tmp_path, undisturbed
):
  rng = random.Random(os.environ.get('CHAOS_SEED', 0))
  instants = [*INSTANTS, *rng.choices(list(INSTANTS), k=50 - len(INSTANTS))]
  rng.shuffle(instants)
  killed = kill(python, tmp_path, undisturbed, instants, rng.random())
  print(killed)
  assert len(killed) == 50


if __name__ == '__main__':
  main(*sys.argv[1:])
