"""A server that speaks OpenAI's protocol: requests, and a cache of answers.

Whatever goes wrong at the server, or on the way, is tried again, later and
later, until a deadline: connections that break or hang, statuses that ask for
patience (429, 5xx), answers that are no JSON or lack what they should have. A
prompt that the server calls too long is refused, as a sampler of ours does. Any
other status ends the run, as no patience would help.

The cache knows an answer by the content of its request. Answers to one call
are lines of a file that is named by the call's requests; they are on the disk
before the call ends. So nothing is kept in memory, and a run that goes on asks
only for what it has not.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from critic_jax import files, strict_json
from critic_jax.terminal import printable

KEY = 'CRITIC_JAX_SERVER_KEY'  # the variable with the server's password
_URL = re.compile(
  r'https?://([\w.-]+|\[[\da-fA-F:.]+\])(:\d{1,5})?(/[\w.~/-]*)?'
)
_MAX_BYTES = 16_000_000  # of an answer
_MAX_LINE = 2 * _MAX_BYTES  # of the cache: JSON escapes
_FIRST_DELAY_S, _MAX_DELAY_S = 0.5, 30.0
_CONNECT_S = 10.0  # seconds until a connection stands
_SAY_S = 30.0  # seconds between lines that say what goes wrong
_PATIENT = (408, 409, 425, 429)  # and all from 500 on
_TOO_LONG = re.compile(
  r'context[ _](length|size|window)|maximum context|prompt is too long', re.I
)


class Answer(NamedTuple):
  """A text, and its end: 'stop', 'length' or 'prompt' as in `Record`."""

  text: str
  finish: str


class _TransientError(Exception):
  """A failure that may pass; the seconds that the server asks to wait."""

  def __init__(self, reason: str, delay_s: float = 0.0):
    super().__init__(reason)
    self.delay_s = delay_s


def check_url(url: str) -> None:
  """Raises ValueError for a URL that is none of a server."""
  if not _URL.fullmatch(url):
    raise ValueError(
      f'source: got {url!r}; expected http://HOST:PORT/v1, without a password '
      f'(the environment variable {KEY} has it)'
    )


class Endpoint:
  """Asks a server for completions.

  Args:
    url: such as 'http://127.0.0.1:8000/v1'.
    num_requests: those in flight at once.
    timeout_s: seconds for one of them.
    deadline_s: seconds for an answer, all attempts together.
  """

  def __init__(
    self, url: str, *, num_requests: int, timeout_s: float, deadline_s: float
  ):
    check_url(url)
    self.url = url.rstrip('/')
    self._num_requests = num_requests
    self._timeout_s, self._deadline_s = timeout_s, deadline_s
    self._folder: Path | None = None
    self._lock = threading.Lock()
    self._said_s = time.monotonic()

  def keep_in(self, folder: Path) -> None:
    """Keeps answers in a folder, and takes those that are there."""
    self._folder = folder

  def complete(self, requests: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """Answers chat completions, each of one choice.

    Args:
      requests: bodies of /chat/completions.

    Raises:
      ValueError: the server refuses one, or does not answer in time.
    """
    bodies = [json.dumps(x, sort_keys=True).encode() for x in requests]
    keys = [hashlib.sha256(body).hexdigest()[:32] for body in bodies]
    path = self._path(keys)
    answers = _read(path) if path else {}
    missing = {k: b for k, b in zip(keys, bodies, strict=True)
               if k not in answers}  # fmt: skip
    with contextlib.closing(self._ask_all(missing)) as coming:
      for key, answer in coming:
        answers[key] = answer
        if path:
          # A line of its own, also after a half one.
          line = json.dumps({'key': key, **answer._asdict()})
          files.append(path, b'\n%s\n' % line.encode())
    return [answers[key] for key in keys]

  def _path(self, keys: Sequence[str]) -> Path | None:
    """Returns the file of the answers to one call."""
    if self._folder is None or not keys:
      return None
    name = hashlib.sha256(' '.join(sorted(keys)).encode()).hexdigest()[:32]
    path = files.inside(self._folder, f'{name}.jsonl')
    with files.writing(path):
      path.parent.mkdir(parents=True, exist_ok=True)
    return path

  def _ask_all(self, bodies: Mapping[str, bytes]) -> Iterator[tuple]:
    """Yields keys and answers as they come; ends all at the first failure."""
    ended, connections = threading.Event(), set()
    with concurrent.futures.ThreadPoolExecutor(self._num_requests) as pool:
      try:  # requests are under way while others are submitted
        futures = {
          pool.submit(self._ask, body, ended, connections): key
          for key, body in bodies.items()
        }
        for future in concurrent.futures.as_completed(futures):
          yield futures[future], future.result()
      finally:  # also at Ctrl-C
        ended.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for sock in connections.copy():
          _shut(sock)

  def _ask(self, body: bytes, ended, connections) -> Answer:
    """Asks until there is an answer, or it is too late."""
    started, delay_s = time.monotonic(), _FIRST_DELAY_S
    while True:
      try:
        return self._attempt(body, ended, connections)
      except _TransientError as error:
        left_s = started + self._deadline_s - time.monotonic()
        if left_s <= 0:
          raise ValueError(
            f'{self.url}: got no answer within {self._deadline_s:.0f} s, at '
            f'last {error}; expected one; look at the server, and run the same '
            'command again: what was answered is not asked again'
          ) from None
        self._say(str(error), left_s)
        # By chance, so that requests which failed together come apart.
        wait_s = max(delay_s * random.uniform(0.5, 1.0), error.delay_s)
        if ended.wait(min(wait_s, left_s)):
          return Answer('', 'stop')  # nobody reads it
        delay_s = min(2 * delay_s, _MAX_DELAY_S)

  def _say(self, reason: str, left_s: float) -> None:
    """Says why nothing goes on, now and then."""
    with self._lock:
      if time.monotonic() < self._said_s + _SAY_S:
        return
      self._said_s = time.monotonic()
    text = f'{self.url}: {reason}; asking again for {left_s:.0f} s'
    print(printable(text), file=sys.stderr, flush=True)

  def _attempt(self, body: bytes, ended, connections) -> Answer:
    """Asks once.

    Raises:
      _TransientError: asking again may help.
      ValueError: it will not.
    """
    try:
      status, headers, content = self._post(body, ended, connections)
    except (OSError, http.client.HTTPException) as error:
      raise _TransientError(f'{type(error).__name__}: {error}') from error
    if status == 200:
      return _answer(content)
    text = content[:2000].decode(errors='replace')
    if status in (400, 413, 422) and _TOO_LONG.search(text):
      return Answer('', 'prompt')
    shown = f'status {status}: {" ".join(text.split())[:300]}'
    if status in _PATIENT or status >= 500:
      after = headers.get('Retry-After', '')
      delay_s = float(after) if after.isdecimal() else 0.0
      raise _TransientError(shown, min(delay_s, _MAX_DELAY_S))
    raise ValueError(
      f'{self.url}: got {shown}; expected an answer; look at the URL, at '
      f'served.model, and at {KEY} in the environment'
    )

  def _post(self, body: bytes, ended, connections):
    """Sends a request; returns status, headers and content of the answer."""
    parts = urllib.parse.urlsplit(self.url)
    kind = http.client.HTTPSConnection
    if parts.scheme == 'http':
      kind = http.client.HTTPConnection
    timeout_s = min(self._timeout_s, _CONNECT_S)
    connection = kind(parts.hostname, parts.port, timeout=timeout_s)
    headers = {'Content-Type': 'application/json', 'Connection': 'close'}
    if password := os.environ.get(KEY):
      headers['Authorization'] = f'Bearer {password}'
    sock, timer = None, None
    try:
      connection.connect()
      sock = connection.sock
      sock.settimeout(self._timeout_s)
      connections.add(sock)
      if ended.is_set():
        raise OSError('it is not waited for')
      # A socket's own timeout begins anew with each byte.
      timer = threading.Timer(self._timeout_s, _shut, [sock])
      timer.daemon = True
      timer.start()
      connection.request(
        'POST', f'{parts.path}/chat/completions', body, headers
      )
      response = connection.getresponse()
      content = response.read(_MAX_BYTES + 1)
      length = response.headers.get('Content-Length', '')
      if length.isdecimal() and len(content) < min(int(length), _MAX_BYTES):
        raise http.client.IncompleteRead(content)
      return response.status, response.headers, content
    finally:
      if timer:
        timer.cancel()
      connections.discard(sock)
      connection.close()


def _shut(sock: socket.socket) -> None:
  """Ends what another thread waits for at a socket."""
  try:
    socket.socket.shutdown(sock, socket.SHUT_RDWR)
  except OSError:  # it is closed
    pass


def _answer(content: bytes) -> Answer:
  """Reads a completion.

  Raises:
    _TransientError: it is none.
  """
  try:
    if len(content) > _MAX_BYTES:
      raise ValueError(f'more than {_MAX_BYTES} bytes')
    value = strict_json.loads(content)
    choice = value['choices'][0]
    text, finish = choice['message']['content'], choice['finish_reason']
    if text is None:  # a model that has thought to its limit
      text = ''
    if not isinstance(text, str) or not isinstance(finish, str):
      raise ValueError('no text, or no finish_reason')
  except (ValueError, LookupError, TypeError) as error:
    raise _TransientError(
      f'an answer that is no completion ({type(error).__name__}: {error})'
    ) from error
  # Half a surrogate pair has no place in a text.
  text = text.encode(errors='replace').decode()
  return Answer(text, 'stop' if finish == 'stop' else 'length')


def _read(path: Path) -> dict[str, Answer]:
  """Reads a file of answers by key; half a line, or no answer, is left out."""
  answers = {}
  try:
    with files.opened(path) as file:
      while content := file.readline(_MAX_LINE):
        try:
          row = strict_json.loads(content)
          key, answer = row.pop('key'), Answer(**row)
          if all(isinstance(x, str) for x in (key, *answer)):
            answers[key] = answer
        except (ValueError, LookupError, TypeError, AttributeError):
          pass
  except FileNotFoundError:
    return {}
  return answers
