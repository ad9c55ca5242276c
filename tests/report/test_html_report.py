"""The report: one page, all of it inside, nothing executable but its script.

`test_report_browser.py` opens it, `test_page_data.py` is about its records.
"""

import base64
import hashlib
import html.parser
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import synthetic_run

from critic_jax.data import solutions
from critic_jax.evals import protocols
from critic_jax.evals.statistics import Estimate
from critic_jax.report import html_report, page_tables, plots
from critic_jax.workdir import provenance, run_dir


class Page(html.parser.HTMLParser):
  """Collects tags, ids, addresses and text; checks that tags are closed."""

  VOID = {'meta', 'img', 'source', 'br', 'link', 'input'}

  def __init__(self, text):
    super().__init__()
    self.tags, self.ids, self.urls, self.open, self.text = [], [], [], [], ''
    self.feed(text)
    self.close()
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    assert not any(name.startswith('on') for name in attrs), attrs
    self.tags.append(tag)
    self.ids += [attrs['id']] if 'id' in attrs else []
    self.urls += [attrs[k] for k in ('src', 'srcset', 'href') if k in attrs]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag
    if tag in ('td', 'th', 'dt', 'dd'):
      self.text += ' '

  def handle_data(self, data):
    if self.open and self.open[-1] not in ('style', 'script'):
      self.text += data


@pytest.fixture(scope='module', autouse=True)
def code():
  """Pages embed the uncommitted diff, which may hold any words."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(provenance, 'git_state', lambda folder: 'commit 0\n')
    yield


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  path = synthetic_run.write(tmp_path_factory.mktemp('runs') / 'one')
  assert html_report.write(path) == path / 'report.html'
  return path


@pytest.fixture(scope='module')
def page(path):
  return Page((path / 'report.html').read_text(encoding='utf-8'))


def test_the_page_is_self_contained(page):
  assert 'link' not in page.tags and page.tags.count('script') == 2
  for url in page.urls:
    assert url.startswith(('data:image/png;base64,', '#')), url
  assert {url[1:] for url in page.urls if url[0] == '#'} <= set(page.ids)


def test_only_its_own_script_may_run(path):
  text = (path / 'report.html').read_text(encoding='utf-8')
  (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
  (script,) = re.findall(r'<script>(.*?)</script>', text, re.DOTALL)
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  policy = dict(part.split(' ', 1) for part in policy.split('; '))
  assert policy['default-src'] == "'none'"
  assert policy['script-src'] == f"'sha256-{digest}'"
  assert 'innerHTML' not in script.replace('no markup', '')


def test_what_a_model_wrote_is_no_markup(path):
  text = (path / 'report.html').read_text(encoding='utf-8')
  assert synthetic_run.SCRIPT not in text
  (data,) = re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)
  assert not set(data) & set('<>&')
  assert json.dumps(json.loads(data)).count('<script>') > 8


def test_results_curves_and_circumstances(page, path):
  text = ' '.join(page.text.split())
  assert 'sums before RL difference' in text
  assert 'balanced_accuracy 50.0' in text
  assert 'refcritic' in text and 'cpu x1' in text and 'commit 0' in text
  assert 'Warnings' not in text
  names = {file.name for file in (path / 'plots').iterdir()}
  assert names == {'loss.png', 'rewards.png'}  # the NaN has no curve
  assert page.tags.count('img') == 2
  for file in (path / 'plots').iterdir():
    assert file.read_bytes().startswith(b'\x89PNG')


def test_verdicts_by_truth(page):
  text = ' '.join(page.text.split())
  # Right solutions, then wrong ones: critiques, true, not true, none. The
  # first critique accepts, the second, after training, rejects.
  assert 'eval/refcritic, before 8 8100 % 0 0 8 0 8100 % 0' in text
  assert 'rl, step 2 8 450 % 450 % 0 8 450 % 450 % 0' in text


def test_a_run_that_failed_at_once_has_a_report(tmp_path):
  with pytest.raises(RuntimeError):
    with run_dir.open_run(tmp_path, {'a': 1}):
      raise RuntimeError('<no luck>')
  text = Page(html_report.write(tmp_path).read_text()).text
  assert 'RuntimeError: <no luck>' in text and 'failed' in text


def test_metrics_of_protocols_stand_apart(tmp_path):
  run = run_dir.open_run(tmp_path, {})
  rows = {'accuracy before': 0.5, 'critique/f1': 0.25}
  rows |= {
    f'selection/{m}@{k}': 0.5 for m in ('pass', 'majority') for k in (1, 4)
  }
  rows = {name: Estimate(value, 0, 1, 9) for name, value in rows.items()}
  run.write_results('results/sums', {'columns': {'RL': rows}})
  text = html_report.write(tmp_path).read_text()
  first_part, folded_part = text.split('5 more metrics of sums')
  assert 'accuracy before' in first_part and 'critique/f1' not in first_part
  assert 'critique/f1' in folded_part and '>accuracy before<' not in folded_part
  assert 'Choosing among k solutions: sums, RL' in folded_part
  assert 'majority of 4: 50.0 percent' in folded_part


def test_limits_that_were_crossed_stand_above_the_curves(tmp_path):
  limits = {'critique/length': {'high': 15}, 'critique/judge': {'low': 0.5}}
  config = {'phases': {'rl': {'limits': limits, 'limit_window': 1}}}
  with run_dir.open_run(tmp_path, config) as run:
    run.log_metrics(0, {'loss/nll': 1.0}, 'sft')
    for step, length in enumerate((10, 20, 10, 20, 10, 20), 1):
      values = {'critique/length': length, 'critique/judge': 1 - step // 6}
      run.log_metrics(step, values, 'rl')
  text = ' '.join(Page(html_report.write(tmp_path).read_text()).text.split())
  assert (
    'rl, step 1 critique/length = 20, outside of [-inf, 15]; 2 more, the '
    'last at step 5 rl, step 5 critique/judge = 0, outside of [0.5, inf] '
    'Curves'
  ) in text


QUESTION, STEPS = '2 + 3 + 4?', ['2 + 3 = 6.', 'So it is\n\\boxed{10}.']
# A wrong and a right solution of each layout.
ROWS = {
  # The second has a wrong step too, but verdicts are about the answer.
  'processbench': [
    dict(id=f'gsm8k-{i}', problem=QUESTION, steps=STEPS, generator='A-7B')
    | dict(final_answer_correct=right, label=0)
    for i, right in enumerate((False, True))
  ],
  # Nothing is known but the first wrong step.
  'prm800k': [
    dict(id=f'prm-{i}', problem=QUESTION, steps=STEPS, answer=None)
    | dict(complete=False, label=label)
    for i, label in enumerate((1, -1))
  ],
}


@pytest.mark.parametrize('layout', ROWS)
def test_solutions_that_a_file_gave(layout, tmp_path):
  file = tmp_path / 'rows.jsonl'
  file.write_text('\n'.join(map(json.dumps, ROWS[layout])))
  wrong, right = records = solutions.read(file, layout=layout)
  for solution, verdicts in (
    (wrong, ('incorrect', 'incorrect', 'correct')),
    (right, ('correct', None)),
  ):
    records += [
      synthetic_run.message(
        solution.problem,
        'critique',
        solution,
        index,
        parsed={
          'verdict': verdict,
          'status': 'ok' if verdict else 'missing',
          'step': {'correct': -1, 'incorrect': 0}.get(verdict),
        },
      )
      for index, verdict in enumerate(verdicts)
    ]
  metrics = protocols.metrics(records, refined=False)
  with run_dir.open_run(tmp_path / 'run', {'data': str(file)}) as run:
    run.write_records('evaluation', records, 'eval/given')
    run.write_results('results/given', {'columns': {'evaluation': metrics}})
  page = html_report.write(run.path).read_text()
  text = ' '.join(Page(page).text.split())
  # Right solutions, then wrong ones: critiques, true, not true, none.
  row = 'eval/given, evaluation 2 150 % 0 150 % 3 267 % 133 % 0'
  assert f'{row} Records' in text
  assert 'verdict accuracy, wrong solutions 66.7' in text
  (data,) = re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)
  rows = json.loads(data)['records']
  solved = [row for row in rows if row['stage'] == 'solve']
  assert [row['outcome'] for row in solved] == ['wrong', 'right']
  assert all(row['steps'] == STEPS for row in solved)
  assert [row.get('kind') for row in rows if row['stage'] == 'critique'] == [
    'good', 'good', 'bad', 'good', None
  ]  # fmt: skip


def test_panels_take_what_training_logs(tmp_path):
  names = (
    'critique/judge',
    'solve/correct',
    'critique/called_wrong',
    'critique/length',
    'critique/truncated',
    'loss/nll',
    'policy/kl_old',
    'time/collect_s',
    'time/solve_tokens_per_s',
    'compile/count',
    'memory/host_gib',
  )
  columns = {'step': np.arange(60), 'phase': np.array(['sft', 'rl']).repeat(30)}
  columns |= {'time': np.arange(60.0)}
  columns |= {name: np.linspace(0, 1, 60) for name in names}
  panels = plots.write(columns, tmp_path / 'plots')
  assert [panel['title'] for panel in panels] == [
    'Rewards',
    'Answers that are right',
    'Solutions called wrong',
    'Critiques without a usable verdict',
    'Length in tokens',
    'Tokens a second',
    'Seconds',
    'The machine',
    'Loss',
    'Optimisation',
  ]
  assert panels[0]['alt'] == 'critique/judge ends at 1'
  assert panels[0]['light'] != panels[0]['dark']


def test_counts_of_tokens_are_no_rewards():
  values = {'critique/refine': np.ones(3), 'tokens/refine': np.full(3, 5e3)}
  columns = {'step': np.arange(3), 'phase': np.array(['rl'] * 3), **values}
  (panel,) = plots.draw(columns)
  assert panel['title'] == 'Rewards'
  assert panel['alt'] == 'critique/refine ends at 1'


def test_where_the_time_went_by_hand():
  columns = {
    'step': np.arange(4),
    'phase': np.array(['sft', 'rl', 'rl', 'rl']),
    'time/step_s': np.array([1.0, 20.0, 4.0, 3.0]),
    'time/update_s': np.array([0.5, 1.0, 1.5, 1.0]),
    'time/critique_s': np.array([np.nan, 2.0, 2.5, 3.0]),
    'time/compile_s': np.array([0.0, 16.0, 0.0, 0.0]),
    'time/critique_tokens_per_s': np.array([np.nan, 100.0, 90.0, 80.0]),
  }
  parts, rows = page_tables.seconds(columns)
  assert parts == ['step', 'critique', 'update']
  assert rows == [('sft', ['1', '–', '0.5']), ('rl', ['4', '2.5', '1'])]


def test_a_running_mean_by_hand():
  axes = plots.Figure().add_subplot()
  values = np.arange(50.0)  # the window is 50 // 25 = 2
  plots._line(axes, values, values, color='red')
  raw, smooth = axes.lines
  np.testing.assert_allclose(raw.get_ydata(), values)
  np.testing.assert_allclose(smooth.get_ydata()[:3], [0.0, 0.5, 1.5])


def test_several_runs_on_one_page(path, tmp_path):
  other = synthetic_run.write(tmp_path / 'other', seed=7)
  target = html_report.write(path, other, out=tmp_path / 'page.html')
  page = Page(target.read_text(encoding='utf-8'))
  text = ' '.join(page.text.split())
  assert '2 runs compared' in text
  assert 'Settings in which the runs differ one other seed 0 7 Results' in text
  table = text[text.index('sums one other') :]
  assert 'before RL difference before RL difference' in table
  # Both runs have the same records.
  assert 'Differences' in text and 'less one other' in text
  assert 'verdict accuracy, right solutions +0.0[+0.0, +0.0]' in text
  assert page.tags.count('img') == 2  # the same panels, a curve for each run
  assert not (other / 'plots').exists() and not (other / 'report.html').exists()


def test_runs_on_other_problems_have_no_differences(path, tmp_path):
  other = synthetic_run.write(tmp_path / 'other')
  records = synthetic_run.trees(2)
  run_dir.write_records(other / 'eval/refcritic/before.jsonl.gz', records)
  target = html_report.write(path, other, out=tmp_path / 'page.html')
  text = ' '.join(Page(target.read_text(encoding='utf-8')).text.split())
  assert 'The runs cannot be compared: problems: got 2 on one side' in text


def test_runs_of_one_name(path, tmp_path):
  other = synthetic_run.write(tmp_path / path.name)
  text = html_report.write(path, other, out=tmp_path / 'page.html').read_text()
  assert f'<h2>{path.resolve()}</h2>' in text
  with pytest.raises(ValueError, match='expected each once'):
    html_report.write(path, path)


def test_curves_of_several_runs(tmp_path):
  steps = np.arange(60)
  columns = {'step': steps, 'phase': np.array(['sft', 'rl']).repeat(30)}
  first = columns | {'time': steps, 'loss/nll': np.linspace(2, 0, 60)}
  second = first | {'critique/judge': np.linspace(0, 1, 60)}
  panels = plots.compare({'first': first, 'second': second})
  assert [panel['title'] for panel in panels] == ['Rewards', 'Loss']
  assert panels[1]['alt'] == 'a curve for each run of loss/nll'
  figure = plots._draw_runs(
    {'first': first, 'second': second}, ['loss/nll'], 'dark'
  )
  axes = figure.axes[0]
  ends = [line.get_xdata()[[0, -1]].tolist() for line in axes.lines]
  # For each phase and run; the running mean does not reach into the other.
  assert ends == [[0, 0.46]] * 2 + [[0.5, 0.96]] * 2
  colors = [line.get_color() for line in axes.lines]
  assert colors[0] == colors[2] != colors[1] == colors[3]
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.get_texts()] == ['first', 'second']


def test_main_writes_one_page(path, tmp_path, capsys, monkeypatch):
  html_report.main([str(path)])
  output = capsys.readouterr().out
  assert output.rstrip().endswith(str(path / 'report.html'))
  assert 'balanced_accuracy' in output
  other = synthetic_run.write(tmp_path / 'other')
  monkeypatch.chdir(tmp_path)
  html_report.main([str(path), str(other)])
  assert (tmp_path / 'comparison.html').exists()
  assert capsys.readouterr().out.count('balanced_accuracy') == 2
  html_report.main([str(path), str(other), '--out', 'page.html'])
  assert (tmp_path / 'page.html').exists()


def test_help_says_what_it_does_and_shows_two_examples(capsys):
  with pytest.raises(SystemExit) as ended:
    html_report.main(['--help'])
  assert ended.value.code == 0
  text = capsys.readouterr().out
  assert 'Writes a run, or several, as one HTML page' in text
  assert text.count('  python -m critic_jax.report runs/') == 2


def test_a_folder_that_is_no_run(tmp_path):
  with pytest.raises(ValueError, match='config.json'):
    html_report.write(tmp_path)
  command = [sys.executable, '-m', 'critic_jax.report', str(tmp_path)]
  ended = subprocess.run(command, capture_output=True, text=True)
  assert ended.returncode == 1
  (line,) = ended.stderr.splitlines()
  assert line.startswith('error: run: got') and 'config.json' in line


@pytest.mark.parametrize('seconds', [float('nan'), 1e300, float('inf')])
def test_times_beyond_the_calendar(tmp_path, seconds):
  synthetic_run.write(tmp_path / 'run')
  with (tmp_path / 'run' / 'metrics.jsonl').open('a') as file:
    row = {'step': 9, 'phase': 'rl', 'time': str(seconds)}
    if seconds == 1e300:
      row['time'] = seconds
    file.write(json.dumps(row) + '\n')
  text = Page(html_report.write(tmp_path / 'run').read_text()).text
  assert ' to – ' in text
