"""A server of a run's roles: what it answers, to whom, and what it survives."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

import jax
import pytest
from helpers import random_params
from loop_helpers import nano, problems
from run_helpers import assert_same, run, served_config

from configs import common
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.rollouts import rollout
from critic_jax.sampling import engine as engine_lib
from critic_jax.sampling.engine import Engine, Job
from critic_jax.serve import __main__ as command
from critic_jax.serve import bodies
from critic_jax.training import roles
from critic_jax.workdir import run_dir

uvicorn = pytest.importorskip('uvicorn', reason="pip install -e '.[serve]'")
from critic_jax.serve import app as app_lib  # noqa: E402

PROBLEM = 'Problem: Ada has 5 eggs. Ada finds 2 more. How many eggs?\nSolution:'
CHAT = '/v1/chat/completions'


def chat(**fields):
  messages = [{'role': 'user', 'content': PROBLEM}]
  return {'model': 'solver', 'messages': messages, 'seed': 1, **fields}


@pytest.fixture(scope='module')
def engine():
  lm = nano()
  engine = Engine(lm, random_params(lm.model), 4)
  engine.start()
  yield engine
  engine.close()


@contextlib.contextmanager
def serving(engines, hosts=('127.0.0.1',)):
  """Yields the port of a server in a thread."""
  listener = socket.create_server(('127.0.0.1', 0))
  config = uvicorn.Config(app_lib.make_app(engines, hosts), log_level='error')
  server = uvicorn.Server(config)
  thread = threading.Thread(target=server.run, args=([listener],))
  thread.start()
  yield listener.getsockname()[1]
  server.should_exit = True
  thread.join()
  listener.close()


@pytest.fixture(scope='module')
def port(engine):
  with serving({'critic': engine, 'solver': engine}) as port:
    yield port


def ask(port, path, body=None, **headers):
  """Asks; returns the status and the value of the answer."""
  connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
  if isinstance(body, dict):
    body = json.dumps(body)
  headers = {'Content-Type': 'application/json', **headers}
  with contextlib.closing(connection):
    connection.request('GET' if body is None else 'POST', path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
  is_json = answer.headers['Content-Type'] == 'application/json'
  return answer.status, json.loads(content) if is_json else content.decode()


def texts(answer):
  status, value = answer
  assert status == 200, value
  return [choice['message']['content'] for choice in value['choices']]


def test_roles_are_models(port):
  status, models = ask(port, '/v1/models')
  assert status == 200
  assert [entry['id'] for entry in models['data']] == ['critic', 'solver']


def test_the_likeliest_text_is_the_one_of_the_sampler(engine, port):
  lm = nano(temperature=0.0)
  generate = lm.bind(engine._params)
  keys = jax.random.split(jax.random.key(0), 1024)
  [[generation]] = generate([PROBLEM], keys, 1)
  answer = ask(port, CHAT, chat(temperature=0))
  assert texts(answer) == [generation.text]
  usage = answer[1]['usage']
  assert usage['prompt_tokens'] == len(generation.prompt_tokens)
  assert usage['completion_tokens'] == len(generation.tokens)
  [choice] = answer[1]['choices']
  assert choice['finish_reason'] == generation.finish


def test_a_text_does_not_depend_on_its_neighbours(port):
  """More requests than lanes, with settings of their own, at once."""
  bodies = [
    chat(seed=i, n=2, temperature=0.5 + i / 8, max_tokens=5 * (i + 1))
    for i in range(8)
  ]
  alone = [texts(ask(port, CHAT, body)) for body in bodies]
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    together = [*pool.map(lambda body: texts(ask(port, CHAT, body)), bodies)]
  assert together == alone
  assert len({text for pair in alone for text in pair}) == 16


def test_a_response_ends_where_it_is_told_to(port):
  [text] = texts(ask(port, CHAT, chat()))
  stop = text[8:11]
  status, value = ask(port, CHAT, chat(stop=['never there', stop]))
  [choice] = value['choices']
  assert choice['message']['content'] == text[: text.index(stop)]
  assert choice['finish_reason'] == 'stop'
  status, value = ask(port, CHAT, chat(max_tokens=3))
  [choice] = value['choices']
  assert choice['finish_reason'] == 'length'
  assert value['usage']['completion_tokens'] == 3
  assert text.startswith(choice['message']['content'])


def test_critiques_have_a_verdict_and_advice(port, engine, monkeypatch):
  text = 'Step 1 is wrong.\nVerdict: incorrect'
  lm = type(engine.lm)
  monkeypatch.setattr(lm, 'decode_response', lambda self, tokens: text)
  body = {'problem': 'How many?', 'solution': 'Step 1: 2', 'n': 2}
  status, value = ask(port, '/critique', body)
  assert status == 200 and len(value['critiques']) == 2
  for critique in value['critiques']:
    assert critique['text'] == critique['advice'] == text
    is_whole = critique['finish_reason'] == 'stop'
    assert critique['verdict'] == ('incorrect' if is_whole else None)


REFUSED = [
  ('{', 'body: '),
  ('[' * 200 + ']' * 200, 'body: lists or objects of more than 100 levels'),
  ('[1]', r'body: got \[1\]'),
  (b'{"model": "\xff"}', 'body: '),
  ({}, 'model: got none'),
  (chat(messages='hello'), "messages: got 'hello'"),
  (chat(messages=[]), 'messages: got '),
  (chat(messages=[{'role': 'user'}]), r'messages\[0\]: got .*'),
  (chat(messages=[{'role': 'a b', 'content': ''}]), 'role: got '),
  (chat(messages=[{'role': 'user', 'content': 5}]), 'content: got 5'),
  (chat(messages=[{'role': 'user', 'content': '\ud800'}]), 'half a surrogate'),
  (
    chat(messages=[{'role': 'user', 'content': [{'type': 'image_url'}]}]),
    'expected texts only',
  ),
  (chat(n=0), 'n: got 0'),
  (chat(n=10**6), 'n: got 1000000; expected at most 128'),
  (chat(n=True), 'n: got True'),
  (chat(temperature='hot'), "temperature: got 'hot'"),
  (chat(temperature=-1), 'temperature: got -1'),
  (chat(top_p=0), 'top_p: got 0'),
  (chat(max_tokens=49), r'max_tokens: got \[49\]; .* at most 48'),
  (chat(max_tokens=1, max_completion_tokens=2), r'max_tokens: got \[1, 2\]'),
  (chat(seed=1.5), 'seed: got 1.5'),
  (chat(stop=['']), 'stop: got '),
  (chat(stop='x' * 10 + '\ud800'), 'stop: got half a surrogate'),
  (chat(stream=True), 'stream: got True, which is not supported'),
  (chat(tools=[]), "field: got 'tools'"),
  (chat(temprature=1), "did you mean 'temperature'"),
]


@pytest.mark.parametrize(('body', 'message'), REFUSED)
def test_what_is_wrong_is_one_line(port, body, message):
  status, value = ask(port, CHAT, body)
  assert status == 400
  error = value['error']
  assert error['type'] == 'invalid_request_error'
  assert '\n' not in error['message'] and len(error['message']) < 500
  pytest.raises(ValueError, _raise, error['message']).match(message)


def _raise(text):
  raise ValueError(text)


def test_other_refusals_have_their_statuses(port, monkeypatch):
  assert ask(port, '/v1/nothing')[0] == 404
  assert ask(port, CHAT)[0] == 405
  status, value = ask(port, CHAT, chat(model='gpt'))
  assert status == 404 and value['error']['code'] == 'model_not_found'
  long = [{'role': 'user', 'content': PROBLEM * 50}]
  status, value = ask(port, CHAT, chat(messages=long))
  assert status == 400
  assert value['error']['code'] == 'context_length_exceeded'
  assert ask(port, CHAT, chat(), **{'Content-Type': 'text/plain'})[0] == 415
  assert ask(port, '/v1/models', Host='evil.example')[0] == 400
  monkeypatch.setattr(bodies, 'MAX_BYTES', 1000)
  assert ask(port, CHAT, chat(stop='x' * 1000))[0] == 413
  monkeypatch.setattr(engine_lib, '_MAX_WAITING', 10)
  status, value = ask(port, CHAT, chat(n=11))
  assert status == 503 and 'queue: got no room' in value['error']['message']


def test_it_may_be_the_solver_of_a_run(port, engine):
  served = dict(model='solver', num_requests=4, timeout_s=60, deadline_s=60)
  section = common.model(
    source=f'http://127.0.0.1:{port}/v1',
    max_new_tokens=48,
    temperature=0.0,
    served=served,
  )
  [other] = roles.make_lms({'solver': section}).values()
  asked = [
    *problems(4),
    dataclasses.replace(problems(1)[0], question='a ' * 500),
  ]
  ours, theirs = (
    rollout.run(lm.stages.solve, lm.bind(params), asked, jax.random.key(0), n=1)
    for lm, params in ((nano(temperature=0.0), engine._params), (other, {}))
  )
  assert [r.text for r in ours] == [r.text for r in theirs]
  assert [r.finish for r in ours] == [r.finish for r in theirs]
  assert theirs[-1].refused and not theirs[0].refused


@pytest.mark.slow
def test_a_run_is_the_solver_of_another(tiny_run, tmp_path):
  """Twice, with the same texts: what is asked with a seed keeps to it."""
  engines = command.make_engines(f'{tiny_run}:rl', '', 8)
  with serving(engines) as port:
    served = dict(model='solver', num_requests=4, timeout_s=60, deadline_s=60)
    config = served_config(f'http://127.0.0.1:{port}/v1', served=served)
    one, two = (run(config, tmp_path / name) for name in ('one', 'two'))
  for engine in engines.values():
    engine.close()
  assert_same(one, two)
  stages = collections.Counter(
    record.stage
    for file in (one / 'records/rl').iterdir()
    for record in run_dir.read_records(file)
    if record.text
  )
  section = config.phases.rl
  solved = section.steps * section.batch_size * section.num_solutions
  assert stages['solve'] == solved
  assert stages['critique'] == solved * section.num_critiques


def _post(port, body, length=None):
  """Sends a request and returns its socket."""
  body = json.dumps(body).encode()
  head = (
    f'POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n'
    f'Content-Type: application/json\r\n'
    f'Content-Length: {length or len(body)}\r\n\r\n'
  )
  connection = socket.create_connection(('127.0.0.1', port), 30)
  connection.sendall(head.encode() + body)
  return connection


def test_a_client_that_sends_a_part_is_not_waited_for(port, monkeypatch):
  monkeypatch.setattr(app_lib, '_BODY_S', 0.1)
  with _post(port, chat(), 10_000) as connection:
    assert b'408' in connection.recv(100)


def test_a_client_that_goes_away_leaves_no_work(port, engine, monkeypatch):
  jobs, submit = [], engine.submit
  monkeypatch.setattr(
    engine, 'submit', lambda new: (jobs.extend(new), submit(new))
  )
  _post(port, chat(n=100)).close()
  deadline = time.monotonic() + 30
  while not (jobs and all(job.future.done() for job in jobs)):
    assert time.monotonic() < deadline
    time.sleep(0.01)
  assert sum(job.future.cancelled() for job in jobs) > 50
  assert len(texts(ask(port, CHAT, chat(n=2)))) == 2


def test_a_failure_of_the_sampler_is_an_answer(engine, monkeypatch, caplog):
  def fail(*arguments, **settings):
    raise RuntimeError('no memory')

  broken = Engine(engine.lm, engine._params, 4)
  monkeypatch.setattr(engine_lib.decode, 'decode', fail)
  broken._thread.start()
  with serving({'solver': broken}) as port:
    for _ in range(2):
      status, value = ask(port, CHAT, chat())
      assert status == 500 and 'no memory' in value['error']['message']
  assert 'no memory' in caplog.text
  broken.close()


def test_what_waits_at_the_end_is_cancelled(engine):
  job = Job([5], SamplingParams(), 4)
  closed = Engine(engine.lm, engine._params, 4)
  closed.submit([job])
  closed._is_closed = True
  closed._thread.start()
  closed.close()
  assert job.future.cancelled()
  with pytest.raises(RuntimeError, match='sampling has ended: closed'):
    closed.submit([job])


def test_ctrl_c_ends_the_command(engine, monkeypatch, capsys):
  monkeypatch.setattr(command, 'make_engines', lambda *_: {'critic': engine})
  monkeypatch.setattr(engine, 'close', lambda: print('closed'))
  before = signal.getsignal(signal.SIGINT)

  def interrupt():
    while 'Ctrl-C ends it' not in (shown := capsys.readouterr().out):
      time.sleep(0.05)
    port = int(shown.partition('127.0.0.1:')[2].partition('/')[0])
    assert ask(port, '/v1/models')[0] == 200
    os.kill(os.getpid(), signal.SIGINT)

  thread = threading.Thread(target=interrupt)
  thread.start()
  assert command.main(['nowhere', '--port', '0']) == 0
  thread.join()
  assert signal.getsignal(signal.SIGINT) is before
  assert capsys.readouterr().out == 'closed\n'


def test_what_is_wrong_with_the_command_is_one_line(capsys):
  with socket.create_server(('127.0.0.1', 0)) as other:
    port = str(other.getsockname()[1])
    assert command.main(['nowhere', '--port', port]) == 2
  assert f'got 127.0.0.1, {port}, where nothing can' in capsys.readouterr().err
  assert command.main(['nowhere', '--port', '0']) == 2
  assert "critic 'nowhere': models.critic: " in capsys.readouterr().err
  assert command.main(['nowhere', '--lanes', '0']) == 2


def test_without_its_libraries_it_names_the_extra(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'uvicorn', None)
  assert command.main(['nowhere']) == 2
  error = capsys.readouterr().err
  assert "pip install 'critic_jax[serve]'" in error and error.count('\n') == 1
