"""A server of OpenAI's protocol that breaks, lies, and loses its patience."""

import collections
import contextlib
import hashlib
import http.server
import json
import threading
import time

GOOD = 'good'
FAULTS = (
  'drop', 'half', 'slow', 'drip', 'status 500', 'status 429', 'no json',
  'deep json', 'no choices', 'no text', 'a list', 'huge',
)  # fmt: skip


class BadServer(http.server.ThreadingHTTPServer):
  """Answers each request by the next of `faults`, and rightly at its end.

  Attributes:
    faults: of every request, `FAULTS` or 'good'; the last is repeated.
    requests: those that were answered rightly, in order.
    attempts: how often each was asked, by its body.
    say: body -> text, finish_reason.
  """

  daemon_threads = True

  def __init__(self, faults=(), say=None):
    super().__init__(('127.0.0.1', 0), _Handler)
    self.faults, self.say = [*faults, GOOD], say or self.own_words
    self.requests, self.attempts = [], collections.Counter()
    self.headers = []
    self.ended = threading.Event()
    self.lock = threading.Lock()

  @property
  def url(self):
    return f'http://127.0.0.1:{self.server_address[1]}/v1'

  @staticmethod
  def own_words(body):
    """Says something else for each prompt and seed."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode())
    number = int(digest.hexdigest()[:4], 16) % 50
    return f'Step 1: 1 + 1 = 2\nThe answer is \\boxed{{{number}}}.', 'stop'

  def handle_error(self, request, client_address):
    """Says nothing of clients that have gone."""


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'

  def log_message(self, *arguments):
    pass

  def do_POST(self):
    content = self.rfile.read(int(self.headers['Content-Length']))
    server = self.server
    with server.lock:
      server.headers.append(dict(self.headers))
      server.attempts[content] += 1
      number = min(server.attempts[content], len(server.faults)) - 1
    body, fault = json.loads(content), server.faults[number]
    text, finish = server.say(body)
    message = {'role': 'assistant', 'content': text}
    choice = {'index': 0, 'message': message, 'finish_reason': finish}
    good = json.dumps({'choices': [choice]}).encode()
    if fault == GOOD:
      with server.lock:
        server.requests.append(body)
      self.answer(200, good)
    elif fault.startswith('status '):
      _, status, *rest = fault.split(' ', 2)
      self.answer(int(status), ''.join(rest).encode() or b'no')
    elif fault == 'drop':
      self.connection.close()
    elif fault == 'half':
      self.answer(200, good, len(good) + 10)
    elif fault == 'slow':
      server.ended.wait(20)
    elif fault == 'drip':
      self.answer(200, b'', 1000)
      with contextlib.suppress(OSError):
        while not server.ended.wait(0.05):
          self.wfile.write(b' ')
    else:
      contents = {
        'no json': b'<html>',
        'deep json': b'[' * 500 + b']' * 500,
        'no choices': b'{"choices": []}',
        'no text': b'{"choices": [{"message": {"content": 5}, '
        b'"finish_reason": "stop"}]}',
        'a list': b'[1, 2]',
        'huge': b'"' + b'x' * 20_000_000 + b'"',
      }
      self.answer(200, contents[fault])

  def answer(self, status, content, length=None):
    self.send_response(status)
    self.send_header('Content-Type', 'application/json')
    self.send_header('Content-Length', str(length or len(content)))
    self.end_headers()
    self.wfile.write(content)
    self.close_connection = True


@contextlib.contextmanager
def bad_server(faults=(), say=None):
  """Runs a `BadServer` within the block."""
  server = BadServer(faults, say)
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  try:
    yield server
  finally:
    server.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()


def wait_for(condition, deadline_s=30):
  """Waits until a condition holds."""
  deadline = time.monotonic() + deadline_s
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.01)
