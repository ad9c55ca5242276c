"""Checkers of formal statements: any command that is given a file.

A command is words, e.g. `('lake', 'env', 'lean')`; the file's path is put
behind them. Exit code 0 accepts the statement, any other refuses it, and what
it prints is its message, to be fed back. It is tried out once, on statements of
known answer, before anything rests on it.

The file is the statement with `HEAD` before it, without which Lean declares
unknown names itself, and `TAIL` behind it, as nothing is proved.

A command runs in a process group of its own, which is ended at its deadline; it
has no input, and little of its output is kept. There are no walls around it
(`sandbox`), since a prover reads its libraries. Lean runs programs that a text
defines: words that begin such a thing, and those that fake a statement, are
refused before the command sees them. That is a list and no wall: statements of
a model that is trained against it belong into a container.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

HEAD, TAIL = 'set_option autoImplicit false\n', ' := by sorry\n'
MAX_MESSAGE = 2000  # characters
_MAX_TEXT = 20_000
_POLL_S = 0.005
_FILE = 'Statement.lean'
_WORDS = (
  '#', '@[', 'admit', 'attribute', 'axiom', 'by', 'by_elab', 'def', 'elab',
  'elab_rules', 'end', 'eval', 'example', 'extern', 'import', 'include',
  'infix', 'initialize', 'instance', 'IO', 'lemma', 'macro', 'macro_rules',
  'namespace', 'native_decide', 'notation', 'opaque', 'open', 'postfix',
  'prefix', 'run_cmd', 'run_elab', 'run_meta', 'run_tac', 'section',
  'set_option', 'simproc', 'sorry', 'sorryAx', 'syntax', 'unsafe', 'variable',
)  # fmt: skip
_FORBIDDEN = re.compile(
  '|'.join(rf'(?<!\w){re.escape(w)}(?!\w)' for w in _WORDS if w[0].isalpha())
  + '|#|@\\[|--|/-|«'
)
# Statements, and whether a checker accepts them.
CANARIES = (
  ('theorem t (a b : Nat) (h1 : a = 5) (h2 : b = a + 3) : b = 8', True),
  ('theorem t (a : Nat) (h1 : a = 5) : b = 5', False),
  ('theorem t (a : Nat) (h1 : a + 5) : a = 5', False),
  ('theorem t (a : Nat (h1 : a = 5) : a = 5', False),
)


class Checked(NamedTuple):
  """What a checker says of a statement.

  Attributes:
    accepted: whether it accepts it; None if it did not say so in time.
    message: what it printed, or why nothing was run.
  """

  accepted: bool | None
  message: str


Checker = Callable[[str], Checked]


def refusal(text: str) -> str:
  """Returns why a text is kept from a command; '' for one statement.

  >>> refusal('theorem t (h : sorry) : 1 = 2')
  "got 'sorry'; expected one statement, and nothing that is run or faked"
  """
  expected = 'expected one statement, and nothing that is run or faked'
  if len(text) > _MAX_TEXT:
    return f'got {len(text)} characters; expected {_MAX_TEXT} at most'
  if word := _FORBIDDEN.search(text):
    return f'got {word[0]!r}; {expected}'
  if len(re.findall(r'(?<!\w)theorem(?!\w)', text)) != 1 or ':=' in text:
    return f"got several 'theorem', none, or ':='; {expected}"
  return ''


def make_checker(
  command: Sequence[str], *, deadline_s: float = 60.0, folder: str = ''
) -> Checker:
  """Makes a checker of a command, and tries it out; equal ones once.

  Args:
    command: its words, before the file's path.
    deadline_s: seconds by the clock for each statement.
    folder: where it runs, e.g. a Lean project; '' is a new, empty one.

  Raises:
    ValueError: there is no such command or folder, or it is wrong about one of
      `CANARIES`.
  """
  if isinstance(command, str) or not all(isinstance(w, str) for w in command):
    raise ValueError(
      f"checker: got {command!r}; expected words; write ('lake', 'env', 'lean')"
    )
  return _made(tuple(command), deadline_s, folder)


@functools.lru_cache(maxsize=4)
def _made(command, deadline_s, folder) -> Checker:
  if not command or not shutil.which(command[0]):
    raise ValueError(
      f'checker: got {" ".join(command)!r}, which is not there; expected a '
      'command that is given a file; install it, or name another'
    )
  if folder and not os.path.isdir(folder):
    raise ValueError(
      f'checker: got the folder {folder!r}, which is not there; expected that '
      'in which the command runs'
    )
  run = functools.partial(_run, command, deadline_s=deadline_s, folder=folder)
  for text, accepted in CANARIES:
    checked = run(text)
    if checked.accepted is not accepted:
      said = {True: 'accepted', False: 'refused', None: 'not decided in time'}
      raise ValueError(
        f'checker: got {text!r} {said[checked.accepted]} by '
        f'{" ".join(command)!r} ({checked.message[:200]!r}); expected it '
        f'{said[accepted]}; name a command whose exit code is 0 for a '
        'statement and 1 else'
      )
  return functools.lru_cache(maxsize=4096)(lambda text: _guarded(run, text))


def _guarded(run: Checker, text: str) -> Checked:
  if reason := refusal(text):
    return Checked(False, reason)
  return run(text)


def _run(command, text: str, *, deadline_s: float, folder: str) -> Checked:
  """Runs a command on a statement until it ends, or its time does."""
  with tempfile.TemporaryDirectory(prefix='statement-') as scratch:
    path = pathlib.Path(scratch) / _FILE
    path.write_text(f'{HEAD}{text}{TAIL}', 'utf-8', 'replace')
    process = subprocess.Popen(
      [*command, str(path)],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      cwd=folder or scratch,
      process_group=0,
      bufsize=0,
    )
    try:
      output = _read(process, time.monotonic() + deadline_s)
    finally:
      # Also what it started: a group lives on while one of it does.
      _end(process)
  if output is None:
    return Checked(None, f'no answer in {deadline_s:g} s')
  # The path differs from one call to the next, and a result may not.
  message = output.decode(errors='replace').replace(f'{scratch}{os.sep}', '')
  return Checked(process.returncode == 0, message.strip()[:MAX_MESSAGE])


def _read(process: subprocess.Popen, deadline: float) -> bytes | None:
  """Returns the beginning of what a process prints; None at the deadline.

  It ends with the process, also where one that it started keeps the pipe. It
  is not reaped yet, so that its group is still its own.
  """
  output, poll = bytearray(), select.poll()
  poll.register(process.stdout, select.POLLIN)
  wait = os.WEXITED | os.WNOHANG | os.WNOWAIT
  while (left := deadline - time.monotonic()) > 0:
    has_ended = os.waitid(os.P_PID, process.pid, wait) is not None
    is_readable = poll.poll(0 if has_ended else min(left, _POLL_S) * 1000)
    data = os.read(process.stdout.fileno(), 2**16) if is_readable else b''
    output += data[: max(0, 4 * MAX_MESSAGE - len(output))]
    if has_ended and not data:
      return bytes(output)
    if is_readable and not data:  # it closed its output
      time.sleep(_POLL_S)
  return None


def _end(process: subprocess.Popen) -> None:
  """Ends a process and its group."""
  with contextlib.suppress(ProcessLookupError, PermissionError):
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  process.stdout.close()
