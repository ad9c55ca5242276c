"""Several runs at once: as many as asked for, and as memory allows."""

import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import grids
import psutil
import pytest
from rich.console import Console

from critic_jax.launch import live, processes, runs

GIB = 2**30
# Marks its folder as a run that is done when the file `go` appears.
WAITS = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / 'config.json').write_text('{}')
while not (folder.parent / 'go').exists():
  time.sleep(0.01)
(folder / 'DONE').touch()
"""


def tasks(tmp_path):
  experiments = runs.load([grids.write(tmp_path)])
  return runs.tasks(experiments, tmp_path / 'runs')


@pytest.fixture
def quick(monkeypatch):
  monkeypatch.setattr(processes, '_POLL_S', 0.02)


def log_step(task, gib):
  task.folder.mkdir(parents=True, exist_ok=True)
  row = {'step': 0, 'phase': 'rl', 'time': 1.0, 'memory/host_gib': gib}
  (task.folder / 'metrics.jsonl').write_text(json.dumps(row) + '\n')


def free(monkeypatch, gib):
  monkeypatch.setattr(
    processes.psutil,
    'virtual_memory',
    lambda: types.SimpleNamespace(available=gib * GIB),
  )


def train(work, go, **options):
  """Trains with processes that wait for a file; returns peak and output.

  `go` is called at every look at the runs, with the folders of those under way.
  """
  out, peak = io.StringIO(), [0]

  def command(task, slot):
    (task.folder / f'slot {slot}').touch()
    return [sys.executable, '-c', WAITS, str(task.folder)]

  def look(self):
    under_way = [
      task.folder for task in work if runs.state(task.folder) == 'running'
    ]
    peak[0] = max(peak[0], len(under_way))
    if under_way and go(under_way):
      (work[0].folder.parent / 'go').touch()
    return reap(self)

  reap = processes._Queue.reap
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(processes._Queue, 'reap', look)
    failed = processes.train(
      work, command, Console(file=out, width=200), **options
    )
  assert not failed
  return peak[0], out.getvalue()


def test_as_many_run_at_once_as_asked_for(tmp_path, quick, monkeypatch):
  free(monkeypatch, 1000)
  work = tasks(tmp_path)
  log_step(work[2], 1.0)
  peak, _ = train(work, lambda going: len(going) == 2, parallel=2)
  assert peak == 2
  slots = {path.name for path in (tmp_path / 'runs').glob('*/slot *')}
  assert slots == {'slot 0', 'slot 1'}


def test_a_grid_that_was_never_run_begins_with_one(
  tmp_path, quick, monkeypatch
):
  free(monkeypatch, 1000)
  work, counts = tasks(tmp_path), []

  def go(going):
    counts.append(len(going))
    if len(counts) == 10:
      log_step(work[0], 1.0)
    return len(going) == 3

  _, text = train(work, go, parallel=3)
  assert counts[:10] == [1] * 10 and max(counts) == 3
  assert text.count('memory: others wait for a first step') == 1


def test_what_does_not_fit_waits(tmp_path, quick, monkeypatch):
  """8 GiB are free and a run takes 5: one, which may grow, and no other."""
  free(monkeypatch, 8)
  work, looks = tasks(tmp_path), []
  log_step(work[1], 5.0)
  peak, text = train(
    work, lambda _: looks.append(0) or len(looks) > 9, parallel=3
  )
  assert peak == 1
  assert 'memory: 2 wait; a run takes 5.0 GiB, to which 1 under way' in text
  assert text.count(': done') == 3


@pytest.mark.parametrize(
  ('sizes', 'peak', 'free', 'fit'),
  [
    ([5], 5, 5, True),
    ([5], 5, 4.9, False),
    ([1], 5, 9, True),  # 4 more of the first, 5 of the second
    ([1], 5, 8.9, False),
    ([9], 5, 5, True),  # larger than was ever logged: grows no more
  ],
)
def test_fits(sizes, peak, free, fit):
  assert processes.fits(sizes, peak, free) == fit


def test_memory_is_measured_with_children():
  code = 'import subprocess, sys; x = b"x" * 2**26; '
  code += 'subprocess.run([sys.executable, "-c", sys.argv[1]])'
  child = 'x = b"x" * 2**26; print(1, flush=True); input()'
  process = subprocess.Popen(
    [sys.executable, '-c', code, child],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  process.stdout.readline()  # the child has its memory
  assert 2**27 < processes.resident_bytes(process.pid) < 2**28
  process.communicate(b'\n')
  assert processes.resident_bytes(process.pid) == 0


def test_output_is_kept_in_a_log(tmp_path):
  command = [sys.executable, '-c', 'import sys; print(3); sys.exit("x" * 2)']
  log = tmp_path / 'a.log'
  for _ in range(2):
    lock = runs.hold(tmp_path)
    process = processes.start_process(command, log, lock)
    assert process.wait() == 1
    os.close(lock)
  assert log.read_text().count('3\n') == 2 and 'xx' in log.read_text()


def test_an_interruption_stops_what_is_under_way(tmp_path, quick, monkeypatch):
  for name in ('_STEP_S', '_GRACE_S'):
    monkeypatch.setattr(processes, name, 0.3)
  # It does not listen to what is polite, as compiled code may not.
  code = 'import signal, sys, time; '
  code += 'signal.signal(signal.SIGTERM, signal.SIG_IGN); '
  code += 'open(sys.argv[1], "w"); time.sleep(60)'
  work, started = tasks(tmp_path), tmp_path / 'started'
  before = psutil.Process().children(recursive=True)  # of other tests' fixtures

  def interrupt(self):
    if started.exists():
      raise KeyboardInterrupt

  monkeypatch.setattr(processes._Queue, 'reap', interrupt)
  with pytest.raises(KeyboardInterrupt):
    processes.train(
      work,
      lambda task, slot: [sys.executable, '-c', code, str(started)],
      Console(file=io.StringIO()),
    )
  assert [runs.state(task.folder) for task in work] == ['absent'] * 3
  assert not {*psutil.Process().children(recursive=True)} - {*before}


def test_the_command_stops_its_runs_when_it_is_terminated(tmp_path):
  """A cluster terminates so; a run that was started ends with it."""
  path = grids.write(tmp_path, grid="grid.sweep('seed', [0])")
  sleeps = f'{sys.executable} -c "import time; time.sleep(60)"'
  process = psutil.Popen(
    [sys.executable, '-m', 'critic_jax.launch', str(path)]
    + ['--workdir', str(tmp_path / 'runs'), '--prefix', sleeps],
    cwd=pathlib.Path(processes.__file__).parents[2],
    stderr=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
  )
  while not (children := process.children()):
    time.sleep(0.05)
  time.sleep(0.2)  # Python's own handler of interrupts is there
  process.send_signal(signal.SIGTERM)
  _, error = process.communicate(timeout=30)
  assert process.returncode == 1 and error.endswith(b'error: terminated\n')
  assert not psutil.pid_exists(children[0].pid)


@pytest.mark.parametrize('interrupts', [1, 2])
def test_ctrl_c_tells_the_runs_once_and_waits_until_they_have_saved(
  tmp_path, interrupts
):
  """A terminal sends it to all that it shows; a second ends runs at once."""
  path = grids.write(tmp_path, grid="grid.sweep('seed', [0])")
  child, signals = tmp_path / 'child.py', tmp_path / 'signals'
  child.write_text(
    'import signal, sys, time\n'
    'def note(number, frame):\n'
    '  with open(sys.argv[1], "a") as file: file.write(f"{number} ")\n'
    'for number in (signal.SIGINT, signal.SIGTERM):\n'
    '  signal.signal(number, note)\n'
    'note("started", None)\n'
    'while open(sys.argv[1]).read().count("15") < int(sys.argv[2]):\n'
    '  time.sleep(0.01)\n'
    'time.sleep(0.5)\n'
    'note("saved", None)\n'
  )
  process = psutil.Popen(
    [sys.executable, '-m', 'critic_jax.launch', str(path)]
    + ['--workdir', str(tmp_path / 'runs'), '--prefix']
    + [f'{sys.executable} {child} {signals} {interrupts}'],
    cwd=pathlib.Path(processes.__file__).parents[2],
    stdout=subprocess.PIPE,
    start_new_session=True,
    # It is ignored where the tests were started in a script's background.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
  )
  for text in ('started', '15')[:interrupts]:
    while not (signals.exists() and text in signals.read_text()):
      time.sleep(0.02)
    time.sleep(0.2)  # Python's own handler of interrupts is there
    os.killpg(process.pid, signal.SIGINT)
  output, _ = process.communicate(timeout=30)
  assert process.returncode == 130
  assert b'interrupted: 1 under way end their steps' in output
  assert signals.read_text() == 'started ' + '15 ' * interrupts + 'saved '


def test_the_live_table(tmp_path):
  work = tasks(tmp_path)
  log_step(work[1], 1.0)
  console = Console(width=100, record=True, file=io.StringIO())
  states = ['done', 'running', 'waiting']
  console.print(live.table(work, states, {work[1].name: 3723.4}))
  text = console.export_text()
  assert f'1       {work[1].name}   running   1/8 rl' in text
  assert '1:02:03' in text and '1 done, 1 running, 1 waiting' in text
  # If there is room for one run, it is the one that runs.
  console.print(live.table(work, states, height=1))
  text = console.export_text()
  assert work[1].name in text and work[0].name not in text
  assert '1 done, 1 running, 1 waiting' in text


@pytest.mark.parametrize('terminal', [True, False])
def test_a_terminal_sees_the_table_and_a_file_does_not(
  terminal, tmp_path, quick
):
  out, work = io.StringIO(), tasks(tmp_path)
  console = Console(file=out, width=120, height=40, force_terminal=terminal)
  code = 'import pathlib, sys; p = pathlib.Path(sys.argv[1]); '
  code += '(p / "config.json").touch(); (p / "DONE").touch()'
  failed = processes.train(
    work,
    lambda task, slot: [sys.executable, '-c', code, str(task.folder)],
    console,
  )
  assert not failed
  assert ('last metrics' in out.getvalue()) == terminal
  assert ('3 done' in out.getvalue()) == terminal


@pytest.mark.parametrize(
  ('text', 'steps'),
  [
    ('', None),
    ('{"step": 0, "phase": "rl"', None),
    ('{"step": 0, "phase": "rl"}\n', (0, 0)),
    ('{"step": 0, "phase": "rl"}\n{"step": 1, "phase": ""}\n{"st', (0, 1)),
    ('5\n', None),
    ('[1]\n{"step": 1, "phase": "rl"}\n', None),
  ],
)
def test_the_ends_of_metrics(text, steps, tmp_path):
  path = tmp_path / 'metrics.jsonl'
  assert live.ends(path) == ({}, {})
  path.write_text(text)
  first, last = live.ends(path)
  assert (first or last) == {} if steps is None else (
    first['step'], last['step']
  ) == steps  # fmt: skip


def test_long_metrics_are_read_from_their_end(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  row = {'phase': 'rl', 'x' * 100: 1.0}
  rows = [json.dumps({'step': step, **row}) for step in range(5000)]
  path.write_text('\n'.join(rows) + '\n')
  assert path.stat().st_size > 2 * live._TAIL
  assert [row['step'] for row in live.ends(path)] == [0, 4999]
