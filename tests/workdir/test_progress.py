"""The console while a run goes on: resuming, compiling, done before."""

import io

import pytest

from critic_jax.terminal import Console
from critic_jax.workdir import progress

STEPS = {'cold': 3, 'rl': 5}


def console(**options):
  return Console(file=io.StringIO(), width=100, **options)


@pytest.mark.parametrize(
  ('done', 'text'),
  [
    (0, ''),
    (1, 'cold: resumes at step 1 of 3; 1 of all 8 steps were done before\n'),
    (3, 'rl: resumes at step 0 of 5; 3 of all 8 steps were done before\n'),
    (7, 'rl: resumes at step 4 of 5; 7 of all 8 steps were done before\n'),
    (8, 'all 8 steps were done before\n'),
  ],
)
def test_a_run_says_where_it_goes_on(done, text):
  shown = console()
  progress.tell_done(shown, STEPS, done)
  assert shown.file.getvalue() == text


def test_the_first_step_is_said_to_compile():
  shown = console()
  with progress.phase(shown, 'rl', 5, 2) as advance:
    assert shown.file.getvalue().split() == ['rl', '2/5', 'compiling']
    advance({'loss/nll': 1.0})
  assert shown.file.getvalue().endswith('3/5  loss 1.00\n')


def test_what_has_no_steps_left_compiles_nothing():
  shown = console()
  with progress.phase(shown, 'rl', 5, 5):
    pass
  assert not shown.file.getvalue()


def test_a_terminal_shows_it_in_the_bar():
  shown = console(force_terminal=True)
  with progress.phase(shown, 'rl', 5, 0):
    pass
  assert 'compiling' in shown.file.getvalue()
