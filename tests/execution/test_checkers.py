"""Commands that check statements: ours, fakes, and hostile ones."""

import os
import re
import sys
import time

import pytest

from critic_jax.execution import checkers
from critic_jax.tasks import formal_language

OURS = (sys.executable, '-m', 'critic_jax.tasks.formal_checker')
RIGHT = 'theorem t (a : Nat) (h1 : a = 1) : a = 1'


@pytest.fixture
def fake(tmp_path):
  """Returns what writes a checker that knows the canaries, and more."""

  def write(more):
    path = tmp_path / 'checker'
    refused = [text for text, accepted in checkers.CANARIES if not accepted]
    cases = ' '.join(f"*'{text}'*) exit 1;;" for text in refused)
    path.write_text(
      f'#!/bin/sh\ntext=$(cat "$1")\ncase "$text" in {cases} esac\n'
      f'case "$text" in *\'b = 8\'*) exit 0;; esac\n{more}\n'
    )
    path.chmod(0o755)
    return (str(path),)

  return write


def test_our_command_says_what_the_function_does():
  check = checkers.make_checker(OURS)
  for text in (RIGHT, 'theorem t : x = 1'):
    checked = check(text)
    assert checked.accepted == (not formal_language.check(text))
  # The file has a name that is the same each time, and one more line.
  assert checked.message == (
    "Statement.lean:2:12: error: unknown identifier 'x'"
  )


def test_canaries_have_their_answers():
  for text, accepted in checkers.CANARIES:
    whole = f'{checkers.HEAD}{text}{checkers.TAIL}'
    assert (formal_language.check(whole) == '') == accepted
    assert checkers.refusal(text) == ''


@pytest.mark.parametrize(
  ('command', 'message'),
  [
    (('lake-of-nobody', 'env', 'lean'), "got 'lake-of-nobody env lean', which"),
    ((), "got '', which is not there; expected a command"),
    ('lake env lean', "got 'lake env lean'; expected words"),
    # They accept everything, and nothing.
    (('true',), r"b = 5' accepted by 'true' .*; expected it refused"),
    (('false',), r"b = 8' refused by 'false' .*; expected it accepted"),
  ],
)
def test_a_wrong_command_is_one_error_at_the_start(command, message):
  with pytest.raises(ValueError, match=f'checker: got .*{message[4:]}'):
    checkers.make_checker(command)


def test_a_folder_that_is_not_there():
  with pytest.raises(ValueError, match="the folder '/nowhere', which is not"):
    checkers.make_checker(('true',), folder='/nowhere')


def test_no_answer_in_time_is_neither(fake):
  check = checkers.make_checker(fake('sleep 60'), deadline_s=1.0)
  start = time.monotonic()
  assert check(RIGHT) == (None, 'no answer in 1 s')
  assert time.monotonic() - start < 20
  assert check(RIGHT).accepted is None  # it is not asked again


def test_what_a_command_started_ends_with_it(fake, tmp_path):
  """It keeps the pipe, and would outlive the command."""
  check = checkers.make_checker(
    fake(f'sleep 600 & echo $! > {tmp_path}/pid; echo done; exit 0'),
    deadline_s=30.0,
  )
  assert check(RIGHT) == (True, 'done')
  pid = int((tmp_path / 'pid').read_text())
  for _ in range(500):
    try:
      state = open(f'/proc/{pid}/stat').read().split()[2]
    except FileNotFoundError:
      return
    if state == 'Z':
      return
    time.sleep(0.01)
  raise AssertionError('it is alive')


def test_little_of_a_flood_is_kept(fake):
  check = checkers.make_checker(fake('yes no | head -c 3000000; exit 3'))
  checked = check(RIGHT)
  assert checked.accepted is False
  assert len(checked.message) == checkers.MAX_MESSAGE
  assert set(checked.message.split()) <= {'no', 'n'}


def test_it_runs_in_its_folder(fake, tmp_path):
  check = checkers.make_checker(fake('pwd; exit 0'), folder=str(tmp_path))
  assert check(RIGHT).message == os.path.realpath(tmp_path)


@pytest.mark.parametrize(
  ('text', 'word'),
  [
    ('theorem t (h : sorry) : 1 = 2', "'sorry'"),
    ('theorem t : (sorryAx Prop) ', "'sorryAx'"),
    ('axiom cheat : False theorem t : 1 = 2', "'axiom'"),
    ('theorem t : 1 = 1\n#eval IO.println 1', "'#'"),
    ('theorem t : (by exact 1 = 1)', "'by'"),
    ('theorem t : 1 = 1 := by rfl theorem u : 1 = 1', "'by'"),
    ('theorem t : 1 = 1 theorem u : 1 = 1', 'several'),
    ('theorem t : 1 = 1 := rfl', 'several'),
    ('1 = 1', 'several'),
    ('theorem t : 1 = 1 -- and the rest is a comment', "'--'"),
    ('theorem t : 1 = 1 /- so is this', "'/-'"),
    ('set_option autoImplicit true in theorem t : b = 1', "'set_option'"),
    ('@[simp] theorem t : 1 = 1', r"'@\['"),
    ('run_cmd theorem t : 1 = 1', "'run_cmd'"),
    ('theorem t : ' + '(' * 30_000, '30012 characters'),
  ],
)
def test_more_than_a_statement_reaches_no_command(text, word, fake):
  check = checkers.make_checker(fake('exit 0'))
  checked = check(text)
  assert checked.accepted is False
  assert re.match(f'got (several )?{word}|got {word}', checked.message)


@pytest.mark.parametrize(
  'text',
  [
    RIGHT,
    'theorem baby (endo : Nat) (x_by : endo = 1) : endo = 1',
    'theorem t (x y : ℝ) (h₀ : x + y = 7) : ∃ z, z = x ∧ 0 ≤ ∑ i, f i',
  ],
)
def test_statements_reach_it(text):
  assert checkers.refusal(text) == ''
