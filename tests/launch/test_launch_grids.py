"""Grids become runs, runs a table; what is done is not done again."""

import json
import pathlib
import re
import subprocess
import sys
import time

import grids
import psutil
import pytest
from rich.console import Console

import critic_jax
from critic_jax.launch import __main__ as launch
from critic_jax.launch import processes, runs

ROOT = pathlib.Path(critic_jax.__file__).parents[1]
write = grids.write


class Process:
  """A run that has ended before it is looked at, and what it was given."""

  pid = 0

  def __init__(self, returncode):
    self.returncode = returncode

  def poll(self):
    return self.returncode

  def send_signal(self, number):
    pass

  def wait(self, timeout):
    pass


@pytest.fixture
def trained(monkeypatch):
  """Stands in for training; collects `commands`, and fails where told."""

  def start_process(command, log, lock):
    assert command[:3] == [sys.executable, '-m', 'critic_jax.train']
    if log:
      log.write_text('a line')
    seed = [word for word in command if word.startswith('--config.seed=')]
    if seed and seed[0][-1] in start_process.fails:
      start_process.commands.append(seed[0])
      return Process(1)
    start_process.commands.append(grids.train(command))
    return Process(0)

  start_process.commands, start_process.fails = [], ''
  monkeypatch.setattr(processes, 'start_process', start_process)
  monkeypatch.setattr(processes, '_POLL_S', 0.0)
  return start_process


def start(*paths, workdir, options=(), width=150, terminal=False):
  """Launches; returns failures, and what was printed."""
  console = Console(
    width=width, height=40, record=True, force_terminal=terminal
  )
  words = [*map(str, paths), '--workdir', str(workdir), *options]
  failed = launch.launch(launch.parse(words), console)
  return failed, console.export_text()


def seeds(trained):
  return ''.join(flags['config.seed'] for flags in trained.commands)


def test_a_point_is_a_run_and_the_table_is_written(trained, tmp_path):
  path, workdir = write(tmp_path), tmp_path / 'runs'
  failed, text = start(path, workdir=workdir)
  assert not failed
  assert trained.commands == [
    {
      'config': str(tmp_path / 'config.py'),
      'workdir': str(grids.folder(path, workdir, seed)),
      'config.seed': str(seed),
    }
    for seed in range(3)
  ]
  table = (workdir / 'learn.md').read_text()
  assert table.startswith('# Does it learn?\n\n| heldout | cold start | rl |\n')
  # 60, 70 and 80, less 50 each.
  assert '70.0 [60.0, 80.0]<br>**+20.0** [+10.0, +30.0] |' in table
  assert '(learn.png)' in table
  assert (workdir / 'learn.png').read_bytes().startswith(b'\x89PNG')
  assert 'accuracy,rl,3,0.7' in (workdir / 'learn.csv').read_text()
  assert '70.0 [60.0, 80.0]' in (workdir / 'learn.tex').read_text()
  assert 'Does it learn?' in text and '+20.0 [+10.0, +30.0]' in text


def test_what_is_done_is_passed_over_and_shared(trained, tmp_path):
  path, workdir = write(tmp_path), tmp_path / 'runs'
  start(path, workdir=workdir, options=['--index=1'])
  assert seeds(trained) == '1'
  assert not (workdir / 'learn.md').exists()
  # The same settings in other words, and of another file with this config.
  grid = "[{'seed': s, 'phases.rl.refine_weight': 1.0} for s in (1, 2)]"
  config = tmp_path / 'copy.py'
  config.write_text(grids.CONFIG)
  two = write(tmp_path, 'last', grid=grid, config=config)
  failed, text = start(path, two, workdir=workdir)
  assert not failed and re.search(r'seed=1-\w+: was done before', text)
  assert seeds(trained) == '102'
  last = (workdir / 'last.md').read_text()
  assert '75.0 [70.0, 80.0]<br>**+25.0**' in last
  assert (workdir / 'learn.md').exists()


def test_missing_does_not_name_what_is_done(trained, tmp_path):
  path, workdir = write(tmp_path), tmp_path / 'runs'
  start(path, workdir=workdir, options=['--index=1'])
  failed, text = start(path, workdir=workdir, options=['--missing'])
  assert not failed and 'done before' not in text and seeds(trained) == '102'
  assert 'Does it learn?' in text
  start(path, workdir=workdir, options=['--missing'])
  assert len(trained.commands) == 3


def test_folders_named_before_digests_are_taken(trained, tmp_path):
  path, workdir = write(tmp_path), tmp_path / 'runs'
  start(path, workdir=workdir)
  for seed in range(3):
    grids.folder(path, workdir, seed).rename(workdir / f'seed={seed}')
  _, text = start(path, workdir=workdir)
  assert 'seed=2: was done before' in text and len(trained.commands) == 3


def test_a_failing_run_is_told_of_and_the_others_go_on(
  trained, tmp_path, capsys
):
  trained.fails = '1'
  words = [str(write(tmp_path)), '--workdir', str(tmp_path / 'runs')]
  name = grids.folder(words[0], words[2], 1).name
  with pytest.raises(SystemExit) as error:
    launch.main(words)
  assert error.value.code == f'error: 1 runs failed: {name}'
  assert len(trained.commands) == 3
  text = capsys.readouterr().out
  assert f'{name}: failed' in text
  assert f'no table yet; not done: {name}' in text.replace('\n', ' ')
  assert not (tmp_path / 'runs' / 'learn.md').exists()
  trained.fails = ''
  launch.main(words)
  assert trained.commands[3]['config.seed'] == '1'
  assert len(trained.commands) == 4
  assert (tmp_path / 'runs' / 'learn.md').exists()


def test_a_run_that_ends_but_is_not_done_has_failed(
  trained, monkeypatch, tmp_path
):
  monkeypatch.setattr(processes, 'start_process', lambda *_: Process(0))
  failed, _ = start(write(tmp_path), workdir=tmp_path / 'runs')
  assert len(failed) == 3


def test_list_has_every_state(trained, tmp_path):
  workdir = tmp_path / 'runs'
  path = write(tmp_path, grid="grid.sweep('seed', [0, 1, 2, 3, 4])")
  for index in range(4):
    start(path, workdir=workdir, options=[f'--index={index}'])
  folders = [grids.folder(path, workdir, seed) for seed in range(5)]
  (folders[1] / 'DONE').rename(folders[1] / 'FAILED')
  (folders[2] / 'DONE').unlink()
  (folders[3] / 'DONE').unlink()
  lock = runs.hold(folders[3])
  _, text = start(path, workdir=workdir, options=['--list'])
  rows = [line.split() for line in text.splitlines()]
  assert [row[:5] for row in rows if row and row[0].isdigit()][:4] == [
    [str(seed), folders[seed].name, state, '8/8', 'rl']
    for seed, state in enumerate(['done', 'failed', 'unfinished', 'running'])
  ]
  assert f'4       {folders[4].name}   absent' in text
  assert 'reward 0.70' in text and '0:00:00' in text
  assert '1 absent, 1 done, 1 failed, 1 running, 1 unfinished' in text
  assert len(trained.commands) == 4
  processes.os.close(lock)


def test_what_another_process_trains_is_left_alone(trained, tmp_path):
  path, workdir = write(tmp_path), tmp_path / 'runs'
  lock = runs.hold(grids.folder(path, workdir, 1))
  assert runs.hold(grids.folder(path, workdir, 1), patience_s=0.0) is None
  failed, text = start(path, workdir=workdir)
  assert seeds(trained) == '02' and not failed
  assert 'is trained by another process; left alone' in text
  assert 'no table yet' in text
  start(path, workdir=workdir, options=['--missing'])
  assert seeds(trained) == '02'
  processes.os.close(lock)
  start(path, workdir=workdir, options=['--missing'])
  assert seeds(trained) == '021'


def test_a_lock_is_as_long_as_the_process_that_has_it(tmp_path):
  """If a launcher was killed, what it started may go on."""
  lock = runs.hold(tmp_path)
  command = [sys.executable, '-c', 'import time; time.sleep(60)']
  process = processes.start_process(command, tmp_path / 'log', lock)
  processes.os.close(lock)
  assert runs.state(tmp_path) == 'running'
  process.kill()
  process.wait()
  assert runs.state(tmp_path) == 'absent'


def test_a_changed_config_is_told_of(trained, tmp_path):
  path, workdir = write(tmp_path), tmp_path / 'runs'
  start(path, workdir=workdir)
  config = tmp_path / 'config.py'
  config.write_text(
    grids.CONFIG.replace('refine_weight=1.0', 'refine_weight=0')
  )
  _, text = start(path, workdir=workdir)
  assert len(trained.commands) == 6
  assert re.search(
    r'seed=0-\w+: starts; seed=0-\w+ has other settings '
    r'\(phases.rl.refine_weight\)',
    text,
  )


def test_settings_arrive(trained, tmp_path):
  grid = (
    "[{'phases.rl.gate': 'a b;$(c)', 'phases.rl.refine_weight': 0,"
    " 'phases.rl.gates': (3, 4)}]"
  )
  start(write(tmp_path, grid=grid), workdir=tmp_path / 'runs')
  (folder,) = (tmp_path / 'runs').glob('*/')
  config = json.loads((folder / 'config.json').read_text())
  assert config['phases']['rl'] == {
    'steps': 5, 'gate': 'a b;$(c)', 'refine_weight': 0.0, 'gates': [3, 4]
  }  # fmt: skip


def test_a_typo_is_refused_before_the_first_run(trained, tmp_path):
  grid = "grid.product(grid.sweep('seed', [0]), grid.sweep('phases.rl.gaet', "
  path, workdir = write(tmp_path, grid=grid + "['wrong']))"), tmp_path / 'runs'
  with pytest.raises(ValueError, match="did you mean 'phases.rl.gate'"):
    start(write(tmp_path, 'other'), path, workdir=workdir)
  assert not trained.commands and not workdir.exists()


def test_a_folder_whose_checkpoints_could_not_be_read_is_refused(
  trained, tmp_path
):
  workdir = tmp_path / 'runs[1]'
  with pytest.raises(ValueError, match='workdir: got .* give another folder'):
    start(write(tmp_path), workdir=workdir)
  assert not trained.commands and not workdir.exists()


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(SystemExit) as error:
    launch.main([str(tmp_path / 'x.py'), '--workdir', str(tmp_path)])
  assert error.value.code.startswith('error: ') and 'x.py' in error.value.code


def test_help_says_what_the_command_does(capsys):
  with pytest.raises(SystemExit) as ended:
    launch.parse(['--help'])
  assert ended.value.code == 0
  text = capsys.readouterr().out
  assert 'Trains the runs of experiments, here or on a cluster' in text
  assert text.count('\n  python -m critic_jax.launch experiments/') == 2


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (['--index=3'], r'index: got 3; expected 0\.\.2'),
    (['--index=-1'], 'index: got -1'),
    (['--parallel=0'], 'parallel: got 0'),
    (['--metrics=a'], 'metrics: got some without --table'),
    (['--infra=k8s'], "infra: got 'k8s' with --on local; expected .* --on sky"),
    (['--spot'], 'spot: got True with --on local'),
    (['--on=sky', '--spot'], 'accelerators: got nothing; expected tpu-v5lite'),
    (['--on=sky', '--gpus=8'], 'gpus: got 8 with --on sky'),
  ],
)
def test_wrong_arguments(options, message, trained, tmp_path):
  with pytest.raises(ValueError, match=message):
    start(write(tmp_path), workdir=tmp_path / 'runs', options=options)
  assert not trained.commands


def test_results_of_another_config_are_not_taken(trained, tmp_path):
  """A run that is done is not started, so that nobody else would notice."""
  path, workdir = write(tmp_path), tmp_path / 'runs'
  start(path, workdir=workdir)
  grids.folder(path, workdir).rename(workdir / 'seed=0')
  config = tmp_path / 'config.py'
  config.write_text(
    grids.CONFIG.replace('refine_weight=1.0', 'refine_weight=2')
  )
  with pytest.raises(
    ValueError, match=r'seed=0: got a run .* 1 .*\(phases.rl.refine_weight'
  ):
    start(path, workdir=workdir)


@pytest.mark.parametrize(
  ('form', 'expected'),
  [
    ('text', '70.0 [60.0, 80.0]'),
    ('csv', 'heldout,,accuracy,rl,3,0.7'),
    ('latex', 'accuracy & 50.0 [50.0, 50.0] & 70.0 [60.0, 80.0] \\\\'),
  ],
)
def test_tables_are_printed(form, expected, trained, tmp_path):
  path, workdir = write(tmp_path), tmp_path / 'runs'
  _, text = start(path, workdir=workdir, options=['--table'])
  assert 'no table yet; not done: seed=0-' in text
  start(path, workdir=workdir)
  _, text = start(path, workdir=workdir, options=['--table', form])
  assert expected in text and len(trained.commands) == 3


def test_metrics_of_a_table_are_chosen(trained, tmp_path):
  path, workdir = write(tmp_path), tmp_path / 'runs'
  start(path, workdir=workdir)
  options = ['--table', '--metrics', 'acuracy']
  with pytest.raises(ValueError, match="learn: .*did you mean 'accuracy'"):
    start(path, workdir=workdir, options=options)
  options[-1] = 'accuracy'
  _, text = start(path, workdir=workdir, options=options)
  assert '70.0 [60.0, 80.0]' in text


@pytest.mark.slow
def test_a_grid_that_is_killed_is_finished(tmp_path):
  """A 2 x 3 grid with real training, by the command line."""
  table = grids.TABLE | dict(metrics=('critique length in tokens',))
  grid = "grid.product(grid.sweep('phases.rl.refine_weight', [0.0, 1.0]), "
  path = write(
    tmp_path,
    grid=grid + "grid.sweep('seed', [0, 1, 2]))",
    config='configs/refcritic.py:tiny',
    table=table,
  )
  workdir = tmp_path / 'runs'
  command = [sys.executable, '-m', 'critic_jax.launch', str(path)]
  command += ['--workdir', str(workdir)]
  process = psutil.Popen([*command, '--parallel', '2'], cwd=ROOT)
  marks = []
  while len(marks) < 3:
    time.sleep(1)
    assert process.poll() is None, 'it ended before it was killed'
    marks = sorted(workdir.glob('*/DONE'))
  while len(list(workdir.glob('*/config.json'))) == len(marks):
    time.sleep(0.1)  # until others are under way
  every = [*process.children(recursive=True), process]
  for each in every:
    each.kill()
  psutil.wait_procs(every)
  times = {mark: mark.stat().st_mtime for mark in marks}
  states = [runs.state(path.parent) for path in workdir.glob('*/config.json')]
  assert 'unfinished' in states and 'running' not in states
  launch_result = subprocess.run(
    [*command, '--missing'], cwd=ROOT, check=True, text=True,
    capture_output=True,
  )  # fmt: skip
  assert {mark: mark.stat().st_mtime for mark in marks} == times
  assert len(list(workdir.glob('*/DONE'))) == 6
  assert 'Does it learn?' in launch_result.stdout
  assert 'refine_weight=0.0' in launch_result.stdout
  table_result = subprocess.run(
    [*command, '--table', 'csv'], cwd=ROOT, check=True, text=True,
    capture_output=True,
  )  # fmt: skip
  assert table_result.stdout.count('critique length in tokens,rl,3,') == 2
