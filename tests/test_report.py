"""The report: one page, all of it inside, nothing of it executable."""

import html.parser
import io
import json
import math

import numpy as np
import pytest
import synthetic_run
from rich.console import Console

from critic_jax import plots, report, run_dir
from critic_jax.evals.statistics import Estimate
from critic_jax.types import Problem


class Page(html.parser.HTMLParser):
  """Collects tags, ids, addresses and text; checks that tags are closed."""

  VOID = {'meta', 'img', 'source', 'br', 'link'}

  def __init__(self, text):
    super().__init__()
    self.tags, self.ids, self.urls, self.open, self.text = [], [], [], [], ''
    self.feed(text)
    self.close()
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
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
    if self.open and self.open[-1] != 'style':
      self.text += data


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  path = synthetic_run.write(tmp_path_factory.mktemp('runs') / 'one')
  assert report.write(path) == path / 'report.html'
  return path


@pytest.fixture(scope='module')
def page(path):
  return Page((path / 'report.html').read_text(encoding='utf-8'))


def test_the_page_is_self_contained(page):
  assert 'script' not in page.tags and 'link' not in page.tags
  for url in page.urls:
    assert url.startswith(('data:image/png;base64,', '#')), url
  assert {url[1:] for url in page.urls if url[0] == '#'} <= set(page.ids)


def test_what_a_model_wrote_is_text(page):
  # The question and the critiques hold a script element.
  assert page.text.count(synthetic_run.SCRIPT) > 8


def test_the_chain_can_be_followed(page):
  parts = (
    '0 + 1?',
    'Reference answer: seven',
    'Solution 2',
    'wrong',
    'So it is six.first wrong line',
    'Critique 2',
    'says incorrect, true',
    'names line 2',
    '1 of 2 refinements right',
    'judge 1.00',
    'Look at line 2. Verdict: incorrect',
    'Thinking',
    'Let me think.',
    'Refinement 1',
    'answer seven',
  )
  text = ' '.join(page.text.split())
  text = text[text.index('rl, step 1') :]
  place = 0
  for part in parts:
    place = text.index(part, place)


def test_results_curves_and_circumstances(page, path):
  text = ' '.join(page.text.split())
  assert 'before RL difference' in text
  assert 'balanced_accuracy 50.0' in text
  assert 'refcritic' in text and 'cpu x1' in text
  names = {file.name for file in (path / 'plots').iterdir()}
  assert names == {'loss.png', 'rewards.png'}  # the NaN has no curve
  assert page.tags.count('img') == 2
  for file in (path / 'plots').iterdir():
    assert file.read_bytes().startswith(b'\x89PNG')


def test_confusion_counts():
  rows = report._confusion(synthetic_run.trees(3))
  counts = [[cell['count'] for cell in row['cells']] for row in rows]
  assert counts == [[3, 3, 0], [3, 3, 0]]
  kinds = [[cell['kind'] for cell in row['cells']] for row in rows]
  assert kinds == [['good', 'bad', 'none'], ['bad', 'good', 'none']]
  assert rows[0]['cells'][0]['percent'] == 50


def test_size_is_bounded(tmp_path):
  problem = Problem('long', 'q' * 100_000, '1')
  records = synthetic_run.trees(50)
  records += [
    synthetic_run.message(
      problem, 'solve', None, i, 'x' * 100_000, parsed={'correct': True}
    )
    for i in range(100)
  ]
  run = run_dir.open_run(tmp_path, {})
  for step in range(10):
    run.write_records(step, records, 'records/rl')
  text = report.write(tmp_path).read_text()
  assert text.count('<details class="tree card"') == (
    report.MAX_STEPS * report.MAX_TREES
  )
  assert 'step 0<' in text and 'step 9<' in text and 'step 1<' not in text
  assert '8 of 51 problems shown' in text
  assert '92 more solutions not shown' in text
  assert '[cut here: 96000 characters more]' in text
  assert len(text) < 1_000_000


def test_steps_show_the_same_problems():
  trees = {str(i): [] for i in range(100)}
  first = report._choose(trees, [])
  assert len(first) == report.MAX_TREES and first[0] == '0'
  assert report._choose(dict(reversed(trees.items())), first) == first
  other = {str(i): [] for i in range(95, 200)}
  assert report._choose(other, first)[0] == '99'
  assert len(report._choose(other, first)) == report.MAX_TREES
  assert report._choose({'a': [], 'b': []}, []) == ['a', 'b']


def test_a_run_that_failed_at_once_has_a_report(tmp_path):
  with pytest.raises(RuntimeError):
    with run_dir.open_run(tmp_path, {'a': 1}):
      raise RuntimeError('<no luck>')
  text = Page(report.write(tmp_path).read_text()).text
  assert 'RuntimeError: <no luck>' in text and 'failed' in text


def test_records_of_unusual_shape(tmp_path):
  problem = Problem('p', 'q', '1')
  solution = synthetic_run.message(
    problem,
    'solve',
    text='',
    parsed={'answer': None, 'correct': False, 'grade': 'unparsable'},
  )
  silent = synthetic_run.message(
    problem,
    'critique',
    solution,
    text='',
    finish='prompt',
    num_tokens=0,
    parsed={
      'verdict': None,
      'status': 'missing',
      'conclusion': None,
      'step': None,
    },
  )
  run_dir.open_run(tmp_path, {}).write_records(0, [silent], 'records/rl')
  text = Page(report.write(tmp_path).read_text()).text
  assert 'unparsable' in text and 'answer none' in text
  assert 'verdict missing' in text and 'prompt too long' in text


def test_format_estimate():
  estimate = Estimate(0.6134, 0.55, 0.671, 10)
  assert report.format_estimate(estimate, 'accuracy', 'RL') == (
    '61.3 [55.0, 67.1]'
  )
  change = Estimate(0.02, -0.011, 0.05, 10)
  assert report.format_estimate(change, 'accuracy', 'difference') == (
    '+2.0 [-1.1, +5.0]'
  )
  length = Estimate(120.25, 100.0, 140.0, 10)
  assert report.format_estimate(length, 'length in tokens', 'RL') == (
    '120.2 [100.0, 140.0]'
  )
  nothing = Estimate(math.nan, math.nan, math.nan, 0)
  assert report.format_estimate(nothing, 'a', 'RL') == '–'
  assert report.format_estimate(None, 'a', 'RL') == '–'


def test_results_table():
  results = {
    'cold start': {'accuracy': Estimate(0.5, 0.4, 0.6, 9)},
    'RL': {'accuracy': Estimate(0.9, 0.8, 1.0, 9), 'f1': Estimate(1, 1, 1, 9)},
  }
  console = Console(width=100, record=True, file=io.StringIO())
  console.print(report.results_table(results, 'Critic'))
  lines = [line.split('  ') for line in console.export_text().splitlines()]
  cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
  assert ['cold start', 'RL'] in cells
  assert ['accuracy', '50.0 [40.0, 60.0]', '90.0 [80.0, 100.0]'] in cells
  assert ['f1', '–', '100.0 [100.0, 100.0]'] in cells


def test_results_are_read_back_with_nan(tmp_path):
  estimate = Estimate(math.nan, 0.25, 0.5, 3)
  path = run_dir.RunDir(tmp_path).write_results(
    'results', {'columns': {'RL': {'f1': estimate}}}
  )
  got = report.read_results(path)['RL']['f1']
  assert math.isnan(got.value) and got[1:] == estimate[1:]
  assert report.read_results(tmp_path / 'none.json') == {}
  path.write_text(json.dumps({'columns': {'RL': {'f1': 0.5}}}))
  with pytest.raises(ValueError, match='got no table of results'):
    report.read_results(path)


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
    'Seconds',
    'Loss',
    'Optimisation',
  ]
  assert panels[0]['alt'] == 'critique/judge ends at 1'
  assert panels[0]['light'] != panels[0]['dark']


def test_a_running_mean_by_hand():
  axes = plots.Figure().add_subplot()
  values = np.arange(50.0)  # the window is 50 // 25 = 2
  plots._line(axes, values, values, 'red', 'x')
  raw, smooth = axes.lines
  np.testing.assert_allclose(raw.get_ydata(), values)
  np.testing.assert_allclose(smooth.get_ydata()[:3], [0.0, 0.5, 1.5])


def test_main_reports_every_run(path, capsys):
  report.main([str(path), str(path)])
  printed = capsys.readouterr().out
  assert printed.count('report.html') == 2
  assert 'balanced_accuracy' in printed


def test_a_folder_that_is_no_run(tmp_path):
  with pytest.raises(ValueError, match='config.json'):
    report.write(tmp_path)
