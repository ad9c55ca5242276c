"""Six functions over a run's folder, and the notebook that calls them."""

import ast
import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import synthetic_run

from critic_jax import inspection
from critic_jax.evals import critique

NOTEBOOK = (
  Path(__file__).parents[1] / 'experiments' / 'notebooks' / 'inspect_run.ipynb'
)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  path = tmp_path_factory.mktemp('runs') / 'one'
  return inspection.load(synthetic_run.write(path))


def test_load(run):
  assert run.state == 'done' and run.config['recipe'] == 'refcritic'
  assert run.steps == {'rl': [1, 2], 'eval/refcritic': ['before']}


def test_load_of_another_folder(tmp_path):
  with pytest.raises(ValueError, match='without a config.json'):
    inspection.load(tmp_path)


def test_metrics_are_columns(run):
  columns = inspection.metrics(run)
  assert columns['step'].tolist() == [0, 1, 2, 2]
  assert columns['phase'].tolist() == ['sft', 'rl', 'rl', 'rl']
  assert (np.diff(columns['time']) >= 0).all()
  np.testing.assert_array_equal(
    columns['critique/judge'], [np.nan, 0.5, 1.0, np.nan]
  )


def test_metrics_of_a_run_that_logged_nothing(run, tmp_path):
  columns = inspection.metrics(run._replace(path=tmp_path))
  assert {name: len(column) for name, column in columns.items()} == {
    'step': 0,
    'phase': 0,
    'time': 0,
  }


def test_records(run):
  ids = [record.id for record in inspection.records(run, 2)]
  assert ids == [record.id for record in synthetic_run.trees()]
  before = inspection.records(run, 'before', 'eval/refcritic')
  assert {record.stage for record in before} == {'solve', 'critique'}
  with pytest.raises(ValueError, match=r"got step 7 of phase 'rl'.*\[1, 2\]"):
    inspection.records(run, 7)


def test_show_goes_from_the_problem_down(run):
  record = next(r for r in inspection.records(run, 2) if r.stage == 'refine')
  text = inspection.show(record)
  places = [
    text.index(part)
    for part in (
      '--- sum-0, reference seven ---',
      '0 + 1?',
      '--- solve.0, answer seven, correct True',
      'I count.',
      '--- critique.1, verdict incorrect, status ok, step 1, judge 1.00',
      'Let me think.',
      '--- refine.0',
      'Again.',
    )
  ]
  assert places == sorted(places)
  colored = inspection.show(record, color=True)
  assert '\x1b[' in colored and 'Let me think.' in colored


def test_show_says_when_a_message_was_cut(run):
  record = synthetic_run.message(
    synthetic_run.trees(1)[0].problem, 'solve', finish='length'
  )
  assert '2 tokens (finish length)' in inspection.show(record)


def test_compare(run):
  steps, values = inspection.compare([run], 'critique/judge')['one']
  assert steps.tolist() == [1, 2] and values.tolist() == [0.5, 1.0]
  assert len(inspection.compare([run, run], 'loss/nll')) == 2
  with pytest.raises(ValueError, match="got 'loss'.*'loss/nll'"):
    inspection.compare([run], 'loss')


def test_replay_gives_what_was_measured(run):
  again = inspection.replay(run, 2, critique.metrics)
  assert again == critique.metrics(synthetic_run.trees())
  assert again['balanced_accuracy'].value == 0.5  # each critic is constant
  assert again['length'].value == 10  # though no tokens were saved


def cells():
  notebook = json.loads(NOTEBOOK.read_text())
  assert notebook['nbformat'] == 4
  for cell in notebook['cells']:
    if cell['cell_type'] == 'code':
      assert cell['outputs'] == []
      yield cell['metadata'].get('tags', []), ''.join(cell['source'])


def test_the_notebook_runs(run, monkeypatch, capsys):
  monkeypatch.setitem(matplotlib.rcParams, 'backend', 'Agg')
  namespace = {'path': str(run.path)}
  for tags, source in cells():
    if 'parameters' not in tags:
      exec(compile(source, str(NOTEBOOK), 'exec'), namespace)
  printed = capsys.readouterr().out
  assert 'critique/judge' in printed and 'balanced_accuracy' in printed
  assert '--- sum-3, reference seven ---' in printed


def test_the_notebook_defines_nothing():
  for _, source in cells():
    for node in ast.walk(ast.parse(source)):
      assert not isinstance(
        node, ast.FunctionDef | ast.ClassDef | ast.Lambda
      ), source
