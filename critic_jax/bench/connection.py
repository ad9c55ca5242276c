"""Worker processes: requests and answers, one JSON object a line.

Whatever goes wrong with a worker, whether it dies, answers something else or
does not answer in time, is one `ValueError` that says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

SCRIPT = Path(__file__).with_name('worker.py')


class System(NamedTuple):
  """What does the work.

  Attributes:
    name: of the system.
    python: the interpreter it runs in.
    script: its worker (worker.py).
    path: PYTHONPATH; '' for none.
  """

  name: str
  python: str
  script: Path
  path: str = ''


@contextlib.contextmanager
def worker(system: System, setup: Mapping[str, Any], deadline_s: float):
  """A worker that is set up, and is ended with the block.

  Args:
    system: what to run.
    setup: see worker.py.
    deadline_s: for each answer, in seconds.

  Yields:
    A `Worker`.

  Raises:
    ValueError: it did not start.
  """
  env = {
    **os.environ,
    'PYTHONPATH': system.path,
    'HF_HUB_OFFLINE': '1',
    'TOKENIZERS_PARALLELISM': 'false',
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',  # workers share a GPU
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
        start_new_session=True,  # Ctrl-C ends it by way of us
      )
    except OSError as error:
      raise ValueError(
        f'{system.name}: got {error}; expected to start {command}'
      ) from error
    running = Worker(system.name, process, log, deadline_s)
    try:
      running.versions = running.ask({'setup': setup})['versions']
      yield running
    finally:
      running.stop()


class Worker:
  """A worker under way; `ask` it, and it answers or there is an error."""

  def __init__(self, name, process, log, deadline_s):
    self.name = name
    self.versions = {}
    self._process = process
    self._log = log
    self._deadline_s = deadline_s
    self._read = b''

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
    """Ends the process; what it was doing is lost."""
    self._process.kill()
    self._process.wait()
    for pipe in (self._process.stdin, self._process.stdout):
      with contextlib.suppress(OSError):  # a request that nobody read
        pipe.close()

  def _line(self) -> bytes:
    stop = time.monotonic() + self._deadline_s
    pipe = self._process.stdout.fileno()
    while b'\n' not in self._read:
      left = stop - time.monotonic()
      if left <= 0 or not select.select([pipe], [], [], left)[0]:
        raise ValueError(
          f'{self.name}: got no answer in {self._deadline_s:g} s; expected one '
          'before; raise --deadline or make the work smaller'
        )
      part = os.read(pipe, 1 << 16)
      if not part:
        raise self._ended()
      self._read += part
    line, _, self._read = self._read.partition(b'\n')
    return line

  def _ended(self) -> ValueError:
    code = self._process.wait()
    self._log.seek(0)
    last = list(_lines(self._log.read().decode(errors='replace')))[-1:]
    said = f' ({last[0][:300]})' if last else ''
    return ValueError(
      f'{self.name}: got exit code {code}{said}; expected an answer'
    )


def _lines(text: str) -> Iterator[str]:
  return (line.strip() for line in text.splitlines() if line.strip())
