"""Workers that die, hang or lie lose their own results and nobody else's."""

import json
import sys
import time

import pytest

from critic_jax.bench import (
  connection,
  environments,
  results_table,
  rounds,
  worker,
)
from critic_jax.bench import work as work_lib
from critic_jax.bench.__main__ import main, parser
from critic_jax.bench.connection import System
from critic_jax.bench.work import Stage, Work

SAMPLING = Work('s', rows=2, prompt=3, stages=(Stage('solver', 2, new=4),))
UPDATE = Work('u', rows=2, prompt=3)
MODEL = work_lib.make_model('nano')
MACHINE = {
  'processor': 'a processor',
  'cores': 2,
  'device': '1 x cpu',
  'matmul_flops': {'float32': 1e9, 'bfloat16': 2e9},
  'bandwidth': 1e8,
}
GOOD = """
def prepare(setup, by_stages):
  print('what a library says')
  def generate(role, prompts, samples, new, seed):
    return [[seed] * new for prompt in prompts for _ in range(samples)]
  return {
    'versions': {'fake': '1'},
    'sample': lambda prompts, seed: by_stages(
      setup['work'], prompts, generate, seed),
    'update': lambda rows: 3.0,
    'facts': lambda: {'compiled_bytes': 2**20},
  }
"""


@pytest.fixture
def system(tmp_path):
  def make(name, source):
    path = tmp_path / f'{name}.py'
    path.write_text(source)
    return System(name, sys.executable, path)

  return make


def run(systems, work=SAMPLING, deadline_s=60.0):
  return rounds.run(
    work, MODEL, 'float32', systems, repeats=2, deadline_s=deadline_s
  )


def test_two_systems(system):
  slow = GOOD.replace('def prepare', 'import time\ndef prepare').replace(
    '    return [[', '    time.sleep(0.05)\n    return [['
  )
  result = run([system('fast', GOOD), system('slow', slow)])
  fast, slow = result['systems']['fast'], result['systems']['slow']
  assert fast['versions'] == {'fake': '1'}
  assert len(fast['seconds']) == len(slow['seconds']) == 2
  assert min(slow['seconds']) >= 0.05 > max(fast['seconds'])
  assert fast['peak_bytes'] > 2**20
  ratio = result['ratios']['slow']
  assert 1 < ratio['low'] <= ratio['median'] <= ratio['high']
  assert result['work']['tokens'] == 16


def test_an_update(system):
  result = run([system('fake', GOOD)], UPDATE)
  facts = result['systems']['fake']
  assert facts['losses'] == [3.0, 3.0, 3.0]
  assert facts['compiled_bytes'] == 2**20


@pytest.mark.parametrize(
  ('source', 'says'),
  [
    ('import os, sys\nsys.stderr.write("no memory\\n")\nos._exit(3)',
     r'bad: got exit code 3 \(no memory\); expected an answer'),
    ('raise RuntimeError("no such library")',
     'bad: RuntimeError: no such library'),
    (GOOD.replace('[seed] * new', '[seed]'),
     r'bad: ValueError: responses: got 4 of lengths \[1\]; expected 4 of 4'),
    (GOOD.replace('return [[seed', 'import os; os._exit(9)\n    return [[seed'),
     'bad: got exit code 9'),
  ],
  ids=['dies', 'fails', 'does other work', 'dies at work'],
)  # fmt: skip
def test_a_bad_worker(system, source, says):
  result = run([system('fake', GOOD), system('bad', source)])
  assert len(result['systems']['fake']['seconds']) == 2
  with pytest.raises(AssertionError, match=says):
    raise AssertionError(result['systems']['bad']['error'])
  assert result['ratios'] == {}


def test_garbage(system, monkeypatch, tmp_path):
  """The process is no worker at all."""
  script = tmp_path / 'garbage.py'
  script.write_text('print("<html>", flush=True)\ninput()\ninput()')
  monkeypatch.setattr(connection, 'SCRIPT', script)
  result = run([system('bad', '')])
  assert result['systems']['bad']['error'].startswith(
    "bad: got the answer b'<html>'; expected a line with a JSON object"
  )


def test_a_worker_that_hangs(system):
  hangs = GOOD.replace(
    '    return [[', '    import time; time.sleep(99)\n    [['
  )
  started = time.monotonic()
  result = run([system('bad', hangs), system('fake', GOOD)], deadline_s=3.0)
  assert 'got no answer in 3 s' in result['systems']['bad']['error']
  assert len(result['systems']['fake']['seconds']) == 2
  assert time.monotonic() - started < 30


def test_a_worker_finds_the_libtpu_of_its_own_environment(system, monkeypatch):
  """Once loaded, libtpu names its file in the environment."""
  monkeypatch.setenv('TPU_LIBRARY_PATH', '/of/this/process/libtpu.so')
  source = f'import os\nassert "TPU_LIBRARY_PATH" not in os.environ\n{GOOD}'
  result = run([system('fake', source)])
  assert len(result['systems']['fake']['seconds']) == 2


def test_no_interpreter():
  system = System('gone', '/no/python', __file__)
  assert 'gone: got' in run([system])['systems']['gone']['error']


def test_stages_follow_each_other():
  work = {
    'rows': 1,
    'stages': [
      dict(role='a', samples=2, new=2, carry=0, template=0),
      dict(role='b', samples=1, new=1, carry=1, template=2),
    ],
  }
  requests = []

  def generate(role, prompts, samples, new, seed):
    requests.append((role, prompts, samples, new))
    return [[70 + i] * new for i in range(len(prompts) * samples)]

  samples_by_stage = worker.by_stages(work, [[8, 9]], generate, 0)
  assert samples_by_stage == [[[70, 70], [71, 71]], [[70], [71]]]
  assert requests[1] == ('b', [[8, 9, 70, 1, 2], [8, 9, 71, 1, 2]], 1, 1)


def test_prompts_are_the_same_for_the_same_seed():
  first = rounds.prompts(SAMPLING, MODEL, 0)
  assert first == rounds.prompts(SAMPLING, MODEL, 0)
  assert first != rounds.prompts(SAMPLING, MODEL, 1)
  assert [len(row) for row in first] == [3, 3]
  token_rows = rounds.prompts(Work('x', 10, 1000), {'vocab_size': 3}, 0)
  assert {token for row in token_rows for token in row} == {1, 2}


def test_ratios_are_of_rounds():
  records = {
    'ours': {'seconds': [1.0, 2.0, 4.0]},
    'peer': {'seconds': [3.0, 4.0, 4.0]},
    'gone': {'error': 'x'},
  }
  assert rounds.ratios(records) == {
    'peer': {'median': 2.0, 'low': 1.0, 'high': 3.0}
  }
  assert rounds.ratios({'ours': {'error': 'x'}, 'peer': {'seconds': []}}) == {}


def test_utilisation():
  result = {
    'work': {'tokens': 30},
    'needs': [
      {'phase': 'a', 'flops': 2e9, 'bytes': 1e8},  # 2 s by flops
      {'phase': 'b', 'flops': 1e9, 'bytes': 3e8},  # 3 s by bytes
    ],
    'systems': {'ours': {'median_seconds': 10.0}},
  }
  assert rounds.utilisation(result, 'ours', MACHINE, 'float32') == {
    'tokens_per_second': 3.0,
    'matmul': pytest.approx(0.3),
    'bandwidth': pytest.approx(0.4),
    'of_limit': pytest.approx(0.5),
  }


def test_table_and_json(system, tmp_path):
  from rich.console import Console

  result = run([system('fake', GOOD), system('bad', 'raise RuntimeError("x")')])
  console = Console(width=results_table.WIDTH, record=True)
  console.print(results_table.make([result], MACHINE, 'float32'))
  text = console.export_text()
  assert 'a processor, 2 cores, 1 x cpu, float32: 1 GFLOP/s, 0.1 GB/s' in text
  row = next(line for line in text.splitlines() if ' fake ' in line)
  assert row.split()[0] == 's'
  assert any(' bad ' in x and 'failed' in x for x in text.splitlines())
  assert results_table.errors([result]) == ['s: bad: RuntimeError: x']

  ratios = {'transformers': dict(median=10.31, low=10.04, high=11.12)}
  wide = result | {
    'work': result['work'] | {'name': 'critic_step'},
    'systems': {'transformers': result['systems']['fake']},
    'ratios': ratios,
  }
  console.print(results_table.make([wide], MACHINE, 'float32'))
  text = console.export_text()
  assert 'transformers' in text and '10.31 (10.04..11.12)' in text

  path = tmp_path / 'new' / 'results.json'
  results_table.write(path, [result], MACHINE, {'dtype': 'float32'})
  content = json.loads(path.read_text())
  facts = content['results'][0]['systems']['fake']
  assert facts['utilisation']['tokens_per_second'] > 0
  assert content['machine'] == MACHINE


def test_an_environment_that_is_there_is_used(tmp_path):
  python = tmp_path / 'trl' / 'bin' / 'python'
  python.parent.mkdir(parents=True)
  python.write_text('')
  assert environments.python('trl', tmp_path, run=None) == str(python)


def test_an_environment_that_can_not_be_made(tmp_path):
  import subprocess

  commands = []

  def run(command, **_):
    commands.append(command)
    (tmp_path / 'trl').mkdir(exist_ok=True)
    if 'pip' in command:
      raise subprocess.CalledProcessError(1, command, stderr='a\nno network\n')

  with pytest.raises(ValueError, match="trl: got 'no network' from .*-r"):
    environments.python('trl', tmp_path, run=run, say=lambda text: None)
  assert commands[1][-1].endswith('trl.txt')
  assert not (tmp_path / 'trl').exists()


def test_peers_have_a_worker_and_a_pinned_list():
  assert environments.NAMES == ('maxtext', 'transformers', 'trl', 'tunix')
  for name in environments.NAMES:
    assert hasattr(worker.load(environments.script(name)), 'prepare')
    lines = (environments.PEERS / f'{name}.txt').read_text().splitlines()
    pins = [line for line in lines if not line.startswith('# python >= 3.')]
    assert pins and all('==' in line for line in pins)


def test_flags():
  flags = parser().parse_args(['--work', 'group', '--rows', '2'])
  assert flags.work == ['group'] and flags.rows == 2
  with pytest.raises(SystemExit):
    parser().parse_args(['--rows', '0'])


def test_help_says_what_the_command_does(capsys):
  with pytest.raises(SystemExit) as ended:
    main(['--help'])
  assert ended.value.code == 0
  text = capsys.readouterr().out
  assert 'Measures how fast critic_jax is on this machine' in text
  assert text.count('\n  python -m critic_jax.bench ') == 3


@pytest.fixture
def fixed_machine(monkeypatch):
  from critic_jax.bench import machine

  monkeypatch.setattr(machine, 'measured', lambda: MACHINE)


@pytest.mark.slow
def test_ours_beside_a_peer_that_can_not_be_had(
  fixed_machine, tmp_path, capsys, monkeypatch
):
  """Runs the whole command, at sizes that take seconds."""

  def fails(name, *_, **__):
    raise ValueError(f'{name}: no network')

  monkeypatch.setattr(environments, 'python', fails)
  path = tmp_path / 'bench.json'
  words = '--size tiny --rows 2 --prompt 6 --new 2 --repeats 1'.split()
  words += ['--work', 'critic_step', 'update', '--compare', 'trl']
  assert main([*words, '--json', str(path)]) == 1
  results = json.loads(path.read_text())['results']
  names = [result['work']['name'] for result in results]
  assert names == ['critic_step', 'update']
  step, update = (result['systems']['critic_jax'] for result in results)
  assert step['median_seconds'] > 0 and step['compile_seconds'] > 0
  assert update['compiled_bytes'] > 2**20
  # Random weights know nothing: about log V.
  assert update['losses'][0] == pytest.approx(8.3, abs=1.0)
  output = capsys.readouterr().out
  assert output.count('no network') == 2 and 'critic_step' in output
