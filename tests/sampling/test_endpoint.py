"""Requests to a server that breaks, is slow, and lies; the cache of answers."""

import concurrent.futures
import json
import os
import signal
import socket
import threading
import time

import pytest
from bad_server import FAULTS, bad_server, wait_for

from critic_jax.sampling import endpoint as endpoint_lib
from critic_jax.sampling.endpoint import Answer, Endpoint


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
  monkeypatch.setattr(endpoint_lib, '_FIRST_DELAY_S', 0.01)
  monkeypatch.setattr(endpoint_lib, '_MAX_DELAY_S', 0.05)


def make(url, num_requests=4, timeout_s=30.0, deadline_s=60.0):
  return Endpoint(
    url, num_requests=num_requests, timeout_s=timeout_s, deadline_s=deadline_s
  )


def requests(number):
  return [{'messages': [], 'seed': i} for i in range(number)]


def attempts(server, number):
  bodies = [json.dumps(x, sort_keys=True) for x in requests(number)]
  return [server.attempts[body.encode()] for body in bodies]


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_asked_again(fault, monkeypatch):
  monkeypatch.setattr(endpoint_lib, '_MAX_BYTES', 10_000_000)
  timeout_s = 0.5 if fault in ('slow', 'drip') else 30.0
  with bad_server([fault]) as server:
    answers = make(server.url, timeout_s=timeout_s).complete(requests(3))
    assert answers == [Answer(*server.say(x)) for x in requests(3)]
    assert min(attempts(server, 3)) == 2


def test_all_faults_one_after_another_lose_nothing():
  faults = [fault for fault in FAULTS if fault != 'huge']
  with bad_server(faults) as server:
    answers = make(server.url, 8, timeout_s=1.0).complete(requests(8))
    assert answers == [Answer(*server.say(x)) for x in requests(8)]
    assert min(attempts(server, 8)) > len(faults)


def test_requests_are_in_flight_together():
  together, most = threading.Semaphore(0), []

  def say(body):
    most.append(body)
    if len(most) == 3:
      together.release(3)
    assert together.acquire(timeout=10)
    return 'text', 'stop'

  with bad_server(say=say) as server:
    assert len(make(server.url, 3, timeout_s=10).complete(requests(3))) == 3


def test_the_deadline_names_the_server_and_the_fault():
  with bad_server(['status 503 loading model'] * 1000) as server:
    started = time.monotonic()
    with pytest.raises(ValueError, match='within 0 s, at last status 503') as e:
      make(server.url, deadline_s=0.2).complete(requests(2))
    assert server.url in str(e.value) and 'loading model' in str(e.value)
    assert time.monotonic() < started + 5
  with pytest.raises(ValueError, match='at last ConnectionRefusedError'):
    make(server.url, deadline_s=0.2).complete(requests(1))


@pytest.mark.parametrize('status', [301, 400, 401, 404])
def test_what_patience_does_not_help_is_an_error_at_once(status):
  with bad_server([f'status {status} no such model']) as server:
    with pytest.raises(ValueError, match=f'status {status}: no such model; .*'):
      make(server.url).complete(requests(3))
    assert max(server.attempts.values()) == 1


@pytest.mark.parametrize(
  'message',
  [
    '{"error": {"code": "context_length_exceeded"}}',
    '{"error": {"type": "exceed_context_size_error"}}',
    "This model's maximum context length is 4096 tokens.",
    'the request exceeds the available context size',
  ],
)
def test_a_prompt_that_is_too_long_is_refused(message):
  with bad_server([f'status 400 {message}']) as server:
    answers = make(server.url).complete(requests(1))
    assert answers == [Answer('', 'prompt')]


@pytest.mark.parametrize(
  ('said', 'answer'),
  [
    (('a', 'length'), Answer('a', 'length')),
    (('a', 'content_filter'), Answer('a', 'length')),
    ((None, 'length'), Answer('', 'length')),
    (('\ud800a', 'stop'), Answer('?a', 'stop')),
  ],
)
def test_how_texts_end(said, answer):
  with bad_server(say=lambda body: said) as server:
    assert make(server.url).complete(requests(1)) == [answer]


def test_answers_are_kept_by_content(tmp_path):
  with bad_server() as server:
    endpoint = make(server.url)
    endpoint.keep_in(tmp_path)
    answers = endpoint.complete(requests(5))
    assert endpoint.complete([]) == []
    others = endpoint.complete(requests(4))  # another call
    assert len(server.requests) == 9 and others == answers[:4]
  again = make(server.url)  # where nobody answers any more
  again.keep_in(tmp_path)
  assert again.complete(requests(5)) == answers
  assert again.complete(requests(5)[::-1]) == answers[::-1]


def test_what_a_killed_call_has_is_not_asked_again(tmp_path):
  with bad_server() as server:
    endpoint = make(server.url)
    endpoint.keep_in(tmp_path)
    answers = endpoint.complete(requests(4))
    [file] = tmp_path.iterdir()
    lines = [x for x in file.read_bytes().split(b'\n') if x]
    junk = b'\n[1]\n{"key": 5, "text": "", "finish": ""}\n{"key": "a"}\n'
    file.write_bytes(lines[0] + junk + lines[1] + b'\n' + lines[2][:30])
    for _ in range(2):  # the second time all lines are whole
      assert endpoint.complete(requests(4)) == answers
      assert len(server.requests) == 6


def test_a_link_is_not_written_through(tmp_path):
  with bad_server() as server:
    endpoint = make(server.url)
    endpoint.keep_in(tmp_path / 'served')
    endpoint.complete(requests(1))
    [file] = (tmp_path / 'served').iterdir()
    file.unlink()
    victim = tmp_path / 'victim'
    victim.write_text('')
    file.symlink_to(victim)
    with pytest.raises(ValueError, match='expected a place that can be writt'):
      endpoint.complete(requests(1))
    assert victim.read_text() == ''


@pytest.fixture
def ctrl_c():
  """Ctrl-C interrupts, also where a shell's `&` had it ignored."""
  old = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, old)


@pytest.mark.usefixtures('ctrl_c')
def test_ctrl_c_does_not_wait_for_the_server():
  with bad_server(['slow'] * 10) as server:

    def interrupt():
      wait_for(lambda: len(server.attempts) == 2)
      os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
      make(server.url, 2, timeout_s=60).complete(requests(9))
    thread.join()
    assert time.monotonic() < started + 10


def test_ctrl_c_while_requests_are_submitted_ends_them(monkeypatch):
  """Those that are under way are not waited for either."""
  pool = concurrent.futures.ThreadPoolExecutor
  submit, submitted = pool.submit, []

  def interrupted(*args):
    if len(submitted) == 2:
      wait_for(lambda: len(server.attempts) == 2)
      raise KeyboardInterrupt
    submitted.append(submit(*args))
    return submitted[-1]

  with bad_server(['slow'] * 10) as server:
    monkeypatch.setattr(pool, 'submit', interrupted)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
      make(server.url, 2, timeout_s=60).complete(requests(9))
    assert time.monotonic() < started + 10


def test_what_goes_wrong_is_said_now_and_then(monkeypatch, capsys):
  monkeypatch.setattr(endpoint_lib, '_SAY_S', 0.0)
  with bad_server(['status 500 \x1b[31mred']) as server:
    make(server.url).complete(requests(1))
  error = capsys.readouterr().err
  assert 'status 500: ' in error and 'asking again for 60 s' in error
  assert '\x1b' not in error


def test_a_password_is_that_of_the_environment(monkeypatch):
  with bad_server() as server:
    make(server.url).complete(requests(1))
    monkeypatch.setenv(endpoint_lib.KEY, 'secret')
    make(server.url).complete(requests(1))
  assert 'Authorization' not in server.headers[0]
  assert server.headers[1]['Authorization'] == 'Bearer secret'


@pytest.mark.parametrize(
  'url',
  ['http://', 'http://a:b@host/v1', 'http://host/v1?x=1', 'http://host/ v1',
   'http://host/\r\nX: 1', 'ftp://host', 'http://host:port'],
)  # fmt: skip
def test_other_urls_are_refused(url):
  with pytest.raises(ValueError, match='expected http://HOST:PORT/v1'):
    make(url)


def test_an_address_of_six_is_one():
  with pytest.raises(ValueError, match=r'http://\[::1\]:1/v1: got no answer'):
    make('http://[::1]:1/v1/', deadline_s=0.0).complete(requests(1))


def test_a_connection_that_never_stands_is_not_waited_for(monkeypatch):
  monkeypatch.setattr(endpoint_lib, '_CONNECT_S', 0.05)
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    listener.listen(0)
    url = f'http://127.0.0.1:{listener.getsockname()[1]}/v1'
    with pytest.raises(ValueError, match='at last '):
      make(url, timeout_s=0.1, deadline_s=0.3).complete(requests(6))


def test_lines_are_json_of_one_answer(tmp_path):
  with bad_server(say=lambda body: ('é\n\0', 'stop')) as server:
    endpoint = make(server.url)
    endpoint.keep_in(tmp_path)
    endpoint.complete(requests(1))
  [file] = tmp_path.iterdir()
  [line] = [x for x in file.read_text().splitlines() if x]
  row = json.loads(line)
  assert row.pop('key') and row == {'text': 'é\n\0', 'finish': 'stop'}
