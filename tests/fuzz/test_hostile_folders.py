"""Run folders of somebody else: no file in one stops, deceives or uses us.

Each file and folder of a run is in turn a link, a pipe, a device, or says
something that no run would write. What reads it ends soon, with a ValueError or
without; what writes there changes nothing outside of the folder.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import socket

import numpy as np
import pytest
import synthetic_run
from fuzzing import refused

from critic_jax import files, terminal
from critic_jax.evals.statistics import Estimate
from critic_jax.inspection import comparison, reading
from critic_jax.launch import live, runs
from critic_jax.report import (
  eval_plots,
  figures,
  html_report,
  plots,
  summary_plots,
)
from critic_jax.report.summary import Table
from critic_jax.workdir import provenance, run_dir

CONFIG = {'recipe': 'refcritic', 'seed': 0}


@pytest.fixture(scope='module', autouse=True)
def _no_git():
  """Git is not asked for its state, whose text is no matter here."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(provenance, 'git_state', lambda folder: 'commit 0\n')
    yield


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
  """A run's folder with all files that a writer leaves there, and a page."""
  path = synthetic_run.write(tmp_path_factory.mktemp('sound') / 'run')
  write_all(path)
  return path


@pytest.fixture
def folder(sound, tmp_path):
  """A copy of it."""
  return shutil.copytree(sound, tmp_path / 'run', symlinks=True)


@pytest.fixture
def undrawn(monkeypatch):
  """No figure is drawn, which takes a second."""

  def panel(draw_one, title, alt, *, wide):
    return {'title': title, 'wide': wide, 'alt': alt, 'light': '', 'dark': ''}

  monkeypatch.setattr(figures, 'panel', panel)


@contextlib.contextmanager
def soon(seconds=10):
  """Fails a block that waits for something."""

  def fail(*_):
    raise AssertionError('it hangs')

  before = signal.signal(signal.SIGALRM, fail)
  signal.alarm(seconds)
  try:
    yield
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def write_all(path):
  """Writes all that a run, and its report, write to a folder."""
  with run_dir.open_run(path, CONFIG, devices='cpu') as run:
    run.log_metrics(3, {'loss/nll': 0.0}, 'rl')
    records = synthetic_run.trees(1)
    run.write_records(3, records, 'records/rl')
    run.write_records('after', records, 'eval/refcritic')
    run.write_batch(3, {}, records)
    run.write_results('results/sums', {'columns': {}})
  html_report.write(path)


def look(path):
  """Looks at a run in every way that there is; returns what is printed."""
  out = io.StringIO()
  for view in (
    lambda: html_report.main([str(path)]),
    lambda: html_report.write(path, path, out=path.parent / 'both.html'),
    lambda: listed(path, out),
    lambda: reading.all_results(reading.load(path)),
    lambda: reading.warnings(reading.load(path)),
    lambda: comparison.points([reading.load(path)]),
    lambda: read_records(path),
  ):
    with soon(), refused(), contextlib.redirect_stdout(out):
      view()
  return out.getvalue()


def listed(path, out):
  """Prints the table of `critic_jax.launch --list`."""

  class Run:
    settings = type('Settings', (), {'order': (), 'phases': {}})

  console = terminal.Console(file=out, width=200)
  console.print(live.table([runs.Task(Run, path)], [runs.state(path)]))


def read_records(path):
  run = reading.load(path)
  for phase, steps in run.steps.items():
    for step in steps:
      reading.records(run, step, phase)


def names(path):
  """The files and folders of a run, but the lock of its writer."""
  return sorted(
    p.relative_to(path) for p in path.rglob('*') if p.name != files.WRITER
  )


def replace(path, kind, outside):
  """Puts something else in the place of a file or a folder."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)
  if kind == 'pipe':
    os.mkfifo(path)
  elif kind == 'folder':
    path.mkdir()
  elif kind == 'socket':
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
      server.bind(path.name)
  else:
    targets = {
      'device': '/dev/zero', 'loop': path.name, 'nowhere': outside / 'absent',
      'file': outside / 'file', 'outside': outside,
    }  # fmt: skip
    path.symlink_to(targets[kind])


@pytest.mark.parametrize(
  'kind', ['pipe', 'folder', 'socket', 'device', 'loop', 'nowhere', 'file']
)
def test_what_is_no_file_stops_no_view(kind, sound, tmp_path, undrawn):
  (tmp_path / 'file').write_text('[1]\n')
  for name in names(sound):
    folder = shutil.copytree(sound, tmp_path / 'run')
    replace(folder / name, kind, tmp_path)
    look(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize('kind', ['file', 'outside', 'nowhere', 'pipe'])
def test_nothing_is_written_by_way_of_a_link(kind, sound, tmp_path, undrawn):
  outside = tmp_path / 'outside'
  outside.mkdir()
  (outside / 'file').write_text('mine')
  written = [
    *names(sound),
    files.WRITER,
    '.report.html.tmp',
    '.config.json.tmp',
  ]
  for name in written:
    folder = shutil.copytree(sound, tmp_path / 'run')
    replace(folder / name, kind, outside)
    with soon(), refused():
      write_all(folder)
    assert (outside / 'file').read_text() == 'mine', name
    assert os.listdir(outside) == ['file'], name
    shutil.rmtree(folder)


def test_a_page_shows_nothing_from_outside(folder, tmp_path, undrawn):
  (tmp_path / 'secret').write_text('hush-31337')
  for name in ('git.txt', 'env.txt', 'command.txt', 'FAILED'):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / 'secret')
  page = html_report.write(folder).read_text()
  assert 'hush-31337' not in page and 'a link, which is not followed' in page


def test_records_are_looked_for_where_a_run_has_them(folder, tmp_path):
  """A link to the whole disk would be searched for minutes."""
  run = reading.load(folder)
  deep = tmp_path / 'outside' / 'rl' / 'deep'
  shutil.copytree(folder / 'records' / 'rl', deep)
  for name in ('records', 'eval'):
    shutil.rmtree(folder / name)
    (folder / name).symlink_to(tmp_path / 'outside')
  assert run.steps and not reading.load(folder).steps


LINES = [
  '5', '[1]', 'null', '"x"', '{}', '[]', 'true', '{"step": 0}', '1e999',
  '{"step": 0, "phase": "rl"}',
  '{"step": 0, "phase": "rl", "time": "nan", "critique/reward": "inf"}',
  '{"step": 9007199254740991, "phase": "rl", "time": 1e308}',
  '{"step": 0, "phase": "rl", "time": 1, "critique/reward": [1]}',
  '{"step": 0, "phase": ["rl"], "time": 1}',
  '{"step": 0, "phase": "", "time": -1e308, "loss/x": 1e308}',
]  # fmt: skip


@pytest.mark.parametrize('line', LINES)
@pytest.mark.parametrize('place', ['alone', 'first', 'last'])
def test_any_line_of_metrics_is_shown_or_refused(line, place, folder, undrawn):
  path = folder / 'metrics.jsonl'
  others = '' if place == 'alone' else path.read_text()
  lines = [others, f'{line}\n'][:: -1 if place == 'first' else 1]
  path.write_text(''.join(lines))
  look(folder)


# Names that matplotlib would read as formulas, leave out, or give no room; that
# a terminal would obey; that rich would read as markup.
NAMES = [
  r'loss/$\frac$', '$', '$$', r'\$\frac$', '_hidden', '[/b]', '[red]',
  '\x1b[2J', 'a\nb\rc', '\ud800', '\u202e', '{}', '%s', '', ' ',
  'x' * 10**5, '\0', '\N{SNOWMAN}', '\N{CJK UNIFIED IDEOGRAPH-4E00}',
]  # fmt: skip


def metrics_of(name):
  """Lines that have a name in every place that a figure or a table shows."""
  stems = ('{}', 'loss/{}', 'critique/reward', 'solve/{}', 'time/{}_s')
  values = {stem.format(name): 1.5 for stem in stems}
  return [
    {'step': step, 'phase': phase, 'time': 1.0, **values}
    for step, phase in enumerate(('sft', name, name))
  ]


@pytest.mark.filterwarnings('ignore:Glyph')
@pytest.mark.parametrize('name', NAMES, ids=lambda name: ascii(name)[:20])
def test_any_name_is_shown(name, folder, undrawn):
  lines = [json.dumps(row) + '\n' for row in metrics_of(name)]
  (folder / 'metrics.jsonl').write_text(''.join(lines))
  row = {'value': 0.5, 'low': 0.4, 'high': 0.6, 'n': 9}
  rows = {name: row, 'selection/pass@2': row, f'selection/{name}@4': row}
  (folder / 'results' / 'sums.json').write_text(
    json.dumps({'columns': {name: rows, 'difference': rows}})
  )
  (folder / 'config.json').write_text(json.dumps(CONFIG | {name: name}))
  printed = look(folder)
  assert all(c.isprintable() or c == '\n' for c in printed)
  assert '\ud800' not in html_report.write(folder).read_text()


@pytest.mark.filterwarnings('ignore:Glyph')
def test_any_names_are_drawn(tmp_path):
  estimate = Estimate(0.5, 0.4, 0.6, 9)
  point = {name: {2: estimate, 4: estimate} for name in NAMES}
  eval_plots.selection_curves(point, tmp_path / 'selection.png')
  eval_plots.intervals(
    {name: {name: {name: estimate}} for name in NAMES}, NAMES[:5], NAMES[0]
  )
  columns = {name: {name: estimate for name in NAMES} for name in NAMES}
  points = [({'seed': k, 'x': NAMES[0]}, {NAMES[0]: columns}) for k in (0, 1)]
  table = Table(NAMES[0], NAMES[:4], metrics=NAMES[:4])
  summary_plots.write([table], points, tmp_path / 'summary.png')
  for name in ('selection.png', 'summary.png'):
    assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')


@pytest.mark.filterwarnings('error')
def test_any_numbers_are_drawn():
  numbers = [1e308, -1e308, 5e-324, 1e100, 0.0, np.nan, np.inf, -np.inf]
  for name in ('critique/reward', 'time/x_s', 'loss/x'):
    columns = {
      'step': np.array([2**53 - 1, *range(99)]),
      'phase': np.array(['rl'] * 100),
      'time': np.zeros(100),
      name: np.resize(numbers, 100),
      f'{name}/large': np.full(100, 1e308),
    }
    [panel] = plots.draw(columns)
    assert panel['light'] and f'{name} ends at' in panel['alt']
    plots.compare({'one': columns})


def test_a_label_that_begins_with_a_line_is_in_the_legend():
  figure = plots._draw_runs({'_hidden': {}, 'seen': {}}, ['x'])
  [legend] = figure.legends
  assert [text.get_text().strip() for text in legend.get_texts()] == [
    '_hidden', 'seen'
  ]  # fmt: skip


def test_a_path_is_no_markup(sound, tmp_path, undrawn, capsys):
  folder = shutil.copytree(sound, tmp_path / 'run[/b]')
  html_report.main([str(folder)])
  assert 'run[/b]/report.html' in capsys.readouterr().out
