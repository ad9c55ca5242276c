"""Worker processes: requests and answers, one JSON object a line.

A worker that dies, answers something else or does not answer in time raises one
`ValueError` that says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

SCRIPT = Path(__file__).with_name('worker.py')


class System(NamedTuple):
  """A system that is measured.

  Attributes:
    name: the name of the system.
    python: the interpreter it runs in.
    script: the module that does its work, as worker.py describes it.
    path: PYTHONPATH; '' for none.
  """

  name: str
  python: str
  script: Path
  path: str = ''


@contextlib.contextmanager
def worker(
  system: System,
  setup: Mapping[str, Any],
  deadline_s: float,
  variables: Mapping[str, str] | None = None,
):
  """Starts a worker and sets it up; it ends with the block.

  Args:
    system: the system that it runs.
    setup: the first request, of `rounds.setup`.
    deadline_s: seconds that it has for each answer.
    variables: environment variables for it.

  Yields:
    A `Worker`.

  Raises:
    ValueError: it did not start.
  """
  # libtpu has named its file there; a worker needs that of its environment.
  inherited = {k: v for k, v in os.environ.items() if k != 'TPU_LIBRARY_PATH'}
  env = {
    **inherited,
    'PYTHONPATH': system.path,
    'HF_HUB_OFFLINE': '1',
    'TOKENIZERS_PARALLELISM': 'false',
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',  # workers share a GPU
    **(variables or {}),
  }
  command = [system.python, '-P', str(SCRIPT), str(system.script)]
  with tempfile.TemporaryFile() as log:
    try:
      process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=env,
        start_new_session=True,  # on Ctrl-C, `stop` ends it
      )
    except OSError as error:
      raise ValueError(
        f'{system.name}: got {error}; expected to start {command}'
      ) from error
    connected = Worker(system.name, process, log, deadline_s)
    try:
      connected.first_answer = connected.ask({'setup': setup})
      connected.versions = connected.first_answer['versions']
      yield connected
    finally:
      connected.stop()


class Worker:
  """A worker process, which answers requests (`ask`)."""

  def __init__(self, name, process, log, deadline_s):
    self.name = name
    self.versions = {}
    self.first_answer = {}
    self._process = process
    self._log = log
    self._deadline_s = deadline_s
    self._buffer = b''

  def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
    """Sends a request and waits for the answer.

    Raises:
      ValueError: the answer is an error or no JSON object, none came before
        the deadline, or the process ended.
    """
    try:
      self._process.stdin.write(json.dumps(request).encode() + b'\n')
      self._process.stdin.flush()
    except OSError:
      raise self._ended() from None
    line = self._line()
    try:
      answer = json.loads(line)
      if not isinstance(answer, dict):
        raise TypeError
    except (ValueError, TypeError):
      raise ValueError(
        f'{self.name}: got the answer {line[:80]!r}; expected a line with a '
        'JSON object'
      ) from None
    if 'error' in answer:
      raise ValueError(f'{self.name}: {answer["error"]}')
    return answer

  def stop(self) -> None:
    """Ends the process, whatever it computes; may be called again."""
    self._process.kill()
    self._process.wait()
    for pipe in (self._process.stdin, self._process.stdout):
      with contextlib.suppress(OSError):  # an unread request
        pipe.close()

  def _line(self) -> bytes:
    deadline = time.monotonic() + self._deadline_s
    pipe = self._process.stdout.fileno()
    while b'\n' not in self._buffer:
      left_s = deadline - time.monotonic()
      if left_s <= 0 or not select.select([pipe], [], [], left_s)[0]:
        raise ValueError(
          f'{self.name}: got no answer in {self._deadline_s:g} s; expected one '
          'before; raise --deadline or make the work smaller'
        )
      part = os.read(pipe, 1 << 16)
      if not part:
        raise self._ended()
      self._buffer += part
    line, _, self._buffer = self._buffer.partition(b'\n')
    return line

  def _ended(self) -> ValueError:
    code = self._process.wait()
    self._log.seek(0)
    log = self._log.read().decode(errors='replace').strip()
    last_line = log.splitlines()[-1].strip() if log else ''
    reason = f' ({last_line[:300]})' if last_line else ''
    return ValueError(
      f'{self.name}: got exit code {code}{reason}; expected an answer'
    )
