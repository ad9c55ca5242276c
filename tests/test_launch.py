"""Grids become runs, runs a table; what is wrong is refused before a run."""

import ast
import json
import pathlib
import re
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from critic_jax import experiment as experiment_lib
from critic_jax import launch, run_dir
from critic_jax.evals import run as evals
from critic_jax.evals import selection

ROOT = pathlib.Path(launch.__file__).parents[1]
EXPERIMENTS = sorted((ROOT / 'experiments').glob('*.py'))

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=''):
  return ConfigDict(dict(
    seed=0,
    order=('cold_start', 'rl'),
    phases=dict(rl=dict(gate='wrong', refine_weight=1.0, gates=(1, 2))),
    evals=dict(heldout=dict(after=('cold_start', 'rl'))),
  ))
"""
EXPERIMENT = '''
"""Does it {verb}?

Result: not yet run.
"""
from configs import grid
CONFIG = {config!r}
GRID = {grid}
TABLE = {table}
'''
SEEDS = "grid.sweep('seed', [0, 1, 2])"
TABLE = dict(
  evaluation='heldout', columns=('cold_start', 'rl'), metrics=('accuracy',)
)


@pytest.fixture
def write(tmp_path):
  """Writes an experiment's file with a config of its own."""
  config = tmp_path / 'config.py'
  config.write_text(CONFIG)

  def write(name='learn', *, grid=SEEDS, table=TABLE, config=config):
    path = tmp_path / f'{name}.py'
    text = EXPERIMENT.format(
      verb=name, config=str(config), grid=grid, table=table
    )
    path.write_text(text.lstrip())
    return path

  return write


@pytest.fixture
def trained(monkeypatch):
  """Stands in for training: `commands` it was called with, and what `fails`."""
  commands = []

  def run_command(command, log):
    assert command[:3] == [sys.executable, '-m', 'critic_jax.train']
    flags = dict(word.removeprefix('--').split('=', 1) for word in command[3:])
    commands.append(flags)
    settings = [word for word in command if word.startswith('--config.')]
    config = experiment_lib._parse(flags['config'], settings)
    if log:
      log.parent.mkdir(parents=True, exist_ok=True)
      log.write_text('a line')
    if flags.get('config.seed') in run_command.fails:
      return 1
    with run_dir.open_run(flags['workdir'], config) as folder:
      values = {'cold_start': 0.5, 'rl': 0.6 + config.seed / 10}
      folder.write_results(
        'results/heldout',
        {
          'columns': {
            column: {'accuracy': dict(value=v, low=v, high=v, n=9)}
            for column, v in values.items()
          }
        },
      )
    return 0

  run_command.commands, run_command.fails = commands, ()
  monkeypatch.setattr(launch, 'run_command', run_command)
  return run_command


def start(*paths, workdir, **options):
  console = Console(width=100, record=True)
  failed = launch.launch(paths, workdir, console=console, **options)
  return failed, console.export_text()


def test_a_point_is_a_run_and_the_table_is_written(write, trained, tmp_path):
  failed, text = start(write(), workdir=tmp_path / 'runs')
  assert not failed
  assert trained.commands == [
    {
      'config': str(tmp_path / 'config.py'),
      'workdir': str(tmp_path / 'runs' / f'seed={seed}'),
      'config.seed': str(seed),
    }
    for seed in range(3)
  ]
  table = (tmp_path / 'runs' / 'learn.md').read_text()
  assert table.startswith('# Does it learn?\n\n| heldout | cold start | rl |\n')
  # 60, 70 and 80, less 50 each.
  assert '70.0 [60.0, 80.0]<br>**+20.0** [+10.0, +30.0] |' in table
  assert '(learn.png)' in table
  image = (tmp_path / 'runs' / 'learn.png').read_bytes()
  assert image.startswith(b'\x89PNG')
  assert 'Does it learn?' in text and '+20.0 [+10.0, +30.0]' in text


def test_what_is_done_is_passed_over_and_shared(write, trained, tmp_path):
  start(write(), workdir=tmp_path / 'runs', index=1)
  assert [c['config.seed'] for c in trained.commands] == ['1']
  assert not (tmp_path / 'runs' / 'learn.md').exists()
  two = write('last', grid="grid.sweep('seed', [1, 2])")
  failed, text = start(write(), two, workdir=tmp_path / 'runs')
  assert not failed and 'seed=1: was done before' in text
  assert [c['config.seed'] for c in trained.commands] == ['1', '0', '2']
  last = (tmp_path / 'runs' / 'last.md').read_text()
  assert '75.0 [70.0, 80.0]<br>**+25.0**' in last
  assert (tmp_path / 'runs' / 'learn.md').exists()


def test_a_failing_run_is_told_of_and_the_others_go_on(
  write, trained, tmp_path, capsys
):
  trained.fails = ('1',)
  with pytest.raises(SystemExit) as error:
    launch.main([str(write()), '--workdir', str(tmp_path / 'runs')])
  assert error.value.code == 'error: 1 runs failed: seed=1'
  assert [c['config.seed'] for c in trained.commands] == ['0', '1', '2']
  text = capsys.readouterr().out
  assert 'seed=1: failed' in text and 'no table yet; not done: seed=1' in text
  assert not (tmp_path / 'runs' / 'learn.md').exists()
  trained.fails = ()
  launch.main([str(write()), '--workdir', str(tmp_path / 'runs')])
  assert trained.commands[3:] == trained.commands[1:2]
  assert (tmp_path / 'runs' / 'learn.md').exists()


def test_a_run_that_ends_but_is_not_done_has_failed(
  write, monkeypatch, tmp_path
):
  monkeypatch.setattr(launch, 'run_command', lambda command, log: 0)
  failed, _ = start(write(), workdir=tmp_path / 'runs')
  assert failed == ['seed=0', 'seed=1', 'seed=2']


def test_runs_are_trained_at_once(write, trained, monkeypatch, tmp_path):
  together, inner = threading.Barrier(3, timeout=20), launch.run_command

  def run_command(command, log):
    together.wait()  # breaks if one would wait for another
    return inner(command, log)

  monkeypatch.setattr(launch, 'run_command', run_command)
  failed, _ = start(write(), workdir=tmp_path / 'runs', parallel=3)
  assert not failed
  assert (tmp_path / 'runs' / 'seed=2.log').read_text() == 'a line'


def test_list_has_every_state(write, trained, tmp_path, capsys):
  runs = tmp_path / 'runs'
  path = write(grid="grid.sweep('seed', [0, 1, 2, 3])")
  for index in range(3):
    start(path, workdir=runs, index=index)
  (runs / 'seed=1' / 'DONE').rename(runs / 'seed=1' / 'FAILED')
  (runs / 'seed=2' / 'DONE').unlink()
  capsys.readouterr()
  launch.main([str(path), '--workdir', str(runs), '--list'])
  rows = [line.split() for line in capsys.readouterr().out.splitlines()]
  assert [row for row in rows if row and row[0].isdigit()] == [
    ['0', 'seed=0', 'done'],
    ['1', 'seed=1', 'failed'],
    ['2', 'seed=2', 'unfinished'],
    ['3', 'seed=3', 'absent'],
  ]
  assert len(trained.commands) == 3


def test_names_are_of_the_point_alone():
  one = {'seed': 0, 'phases.rl.gate': 'wrong'}
  assert experiment_lib.point_name(one) == 'phases.rl.gate=wrong,seed=0'
  other = dict(reversed(one.items()))
  assert experiment_lib.point_name(other) == experiment_lib.point_name(one)
  assert experiment_lib.point_name({'a': '../b', 'c': (1, 2)}) == (
    'a=.._b,c=_1,_2_'
  )


def test_settings_arrive(write, trained, tmp_path):
  grid = (
    "[{'phases.rl.gate': 'always', 'phases.rl.refine_weight': 0,"
    " 'phases.rl.gates': (3, 4)}]"
  )
  start(write(grid=grid), workdir=tmp_path / 'runs')
  (folder,) = (tmp_path / 'runs').glob('*/')
  config = json.loads((folder / 'config.json').read_text())
  assert config['phases']['rl'] == {
    'gate': 'always', 'refine_weight': 0.0, 'gates': [3, 4]
  }  # fmt: skip


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      dict(grid="grid.sweep('phases.rl.refine_wieght', [0.0])"),
      "GRID: got 'phases.rl.refine_wieght'; expected a setting of .*; did you "
      "mean 'phases.rl.refine_weight'",
    ),
    (dict(grid="grid.sweep('seed', [0.5])"), 'invalid literal for int'),
    (dict(grid="grid.sweep('phases.rl.gate', [3])"), "reads as '3'; expected"),
    (dict(grid="grid.chain(grid.sweep('seed', [1]), grid.sweep('seed', [1]))"),
     'GRID: got seed=1 twice'),
    (dict(grid='[]'), 'GRID: got no points'),
    (dict(grid='[{}]'), r'GRID: got the point \{\}'),
    (dict(grid="['seed']"), "GRID: got the point 'seed'"),
    (dict(grid="grid.sweep('seed', 'abc')"), 'learn.py: got ValueError: sweep'),
    (dict(grid='1 +'), 'learn.py: got SyntaxError'),
    (dict(config='configs/nope.py'), "CONFIG configs/nope.py: .*No such file"),
    (dict(config='configs/refcritic.py:nope'), "config: got 'nope'; expected"),
    (dict(table=TABLE | dict(columns=('sft',))), "TABLE: column: got 'sft'"),
    (dict(table='[]'), 'TABLE: got'),
  ],
)  # fmt: skip
def test_what_is_wrong_is_refused_before_a_run(
  change, message, write, trained, tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  with pytest.raises(ValueError, match=message):
    launch.launch([write(**change)], tmp_path / 'runs')
  assert not trained.commands and not (tmp_path / 'runs').exists()


@pytest.mark.parametrize(
  ('drop', 'message'),
  [
    ('CONFIG', 'got no CONFIG;'),
    ('GRID', 'got no GRID;'),
    ('TABLE', 'got no TABLE;'),
    ('"""', 'got no question;'),
  ],
)
def test_a_file_without_a_part_is_refused(drop, message, write):
  path = write()
  path.write_text(path.read_text().replace(drop, '#'))
  if drop == '"""':
    path.write_text('"""No question."""\n' + EXPERIMENT.split('"""')[2].format(
      config='c', grid='[]', table='[]'))  # fmt: skip
  with pytest.raises(ValueError, match=message):
    experiment_lib.load(path)


def test_a_file_that_is_not_there(tmp_path, capsys):
  with pytest.raises(SystemExit) as error:
    launch.main([str(tmp_path / 'x.py'), '--workdir', str(tmp_path)])
  assert error.value.code.startswith('error: ') and 'x.py' in error.value.code


@pytest.mark.parametrize('options', [dict(index=3), dict(index=-1),
                                     dict(parallel=0)])  # fmt: skip
def test_wrong_arguments(options, write, trained, tmp_path):
  with pytest.raises(ValueError, match=f'{[*options][0]}: got'):
    launch.launch([write()], tmp_path / 'runs', **options)
  assert not trained.commands


def test_experiments_in_one_folder_have_one_config(write, trained, tmp_path):
  other = tmp_path / 'other.py'
  other.write_text(CONFIG)
  with pytest.raises(ValueError, match='CONFIG: got .* launch them apart'):
    launch.launch([write(), write('b', config=other)], tmp_path / 'runs')


def test_results_of_another_config_are_not_taken(write, trained, tmp_path):
  """A run that is done is not started, so that nobody else would notice."""
  start(write(), workdir=tmp_path / 'runs')
  config = tmp_path / 'config.py'
  config.write_text(CONFIG.replace('refine_weight=1.0', 'refine_weight=0.5'))
  with pytest.raises(
    ValueError, match=r'seed=0: got a run .* 1 .*\(phases.rl.refine_weight'
  ):
    launch.launch([write()], tmp_path / 'runs')


def test_output_is_kept_in_a_log(tmp_path):
  command = [sys.executable, '-c', 'import sys; print(3); sys.exit("x" * 2)']
  log = tmp_path / 'runs' / 'a.log'
  assert launch.run_command(command, log) == 1
  assert launch.run_command(command, log) == 1
  assert log.read_text().count('3\n') == 2 and 'xx' in log.read_text()


def test_an_interruption_starts_no_other_run(write, monkeypatch, tmp_path):
  started = []

  def run_command(command, log):
    started.append(command)
    if len(started) == 1:
      raise KeyboardInterrupt
    time.sleep(0.5)
    return 1

  monkeypatch.setattr(launch, 'run_command', run_command)
  with pytest.raises(KeyboardInterrupt):
    launch.launch([write()], tmp_path / 'runs')
  assert len(started) < 3  # the second may have begun before it was cancelled


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_hold_together(path, monkeypatch):
  monkeypatch.chdir(ROOT)
  found = experiment_lib.load(path)
  assert len({point['seed'] for point in found.points.values()}) >= 3
  for table in found.tables:
    for metric in table.metrics:
      assert metric in evals.TITLES.values() or '/' in metric, metric
    assert set(table.methods) <= set(selection.METHODS)
  text = ast.get_docstring(ast.parse(path.read_text()))
  assert re.search(r'^Expectation: ', text, re.MULTILINE)
  assert re.search(r'^Result(: | \(\d{4}-)', text, re.MULTILINE)


@pytest.mark.slow
def test_two_tiny_runs(write, tmp_path):
  """By the command line, with real training."""
  table = TABLE | dict(metrics=('critique length in tokens',))
  path = write(
    grid="grid.sweep('seed', [0, 1])",
    config='configs/refcritic.py:tiny',
    table=table,
  )
  command = [sys.executable, '-m', 'critic_jax.launch', str(path)]
  command += ['--workdir', str(tmp_path / 'runs')]
  subprocess.run(command, cwd=ROOT, check=True)
  for seed in range(2):
    folder = tmp_path / 'runs' / f'seed={seed}'
    assert launch.state(folder) == 'done'
    config = json.loads((folder / 'config.json').read_text())
    assert config['seed'] == seed
  assert (tmp_path / 'runs' / 'learn.png').exists()
  again = subprocess.run(
    command, cwd=ROOT, check=True, text=True, capture_output=True
  )
  assert again.stdout.count('was done before') == 2
