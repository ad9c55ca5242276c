"""A run's folder as metrics, warnings, results and records."""

import subprocess
import sys

import numpy as np
import pytest
import synthetic_run

from critic_jax.evals import critique_metrics
from critic_jax.evals.statistics import Estimate
from critic_jax.inspection import reading
from critic_jax.workdir import run_dir


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  path = tmp_path_factory.mktemp('runs') / 'one'
  return reading.load(synthetic_run.write(path))


def test_load(run):
  assert run.state == 'done' and run.config['recipe'] == 'refcritic'
  assert run.steps == {'rl': [1, 2], 'eval/refcritic': ['before']}


def test_load_of_another_folder(tmp_path):
  with pytest.raises(ValueError, match='without a config.json'):
    reading.load(tmp_path)
  (tmp_path / 'config.json').write_text('{"model_type": "llama"}')
  with pytest.raises(ValueError, match='of a Hugging Face model; expected the'):
    reading.load(tmp_path)


def test_metrics_are_columns(run):
  columns = reading.metrics(run)
  assert columns['step'].tolist() == [0, 1, 2, 2]
  assert columns['phase'].tolist() == ['sft', 'rl', 'rl', 'rl']
  assert (np.diff(columns['time']) >= 0).all()
  np.testing.assert_array_equal(
    columns['critique/judge'], [np.nan, 0.5, 1.0, np.nan]
  )


def test_steps_of_a_phase_are_those_of_its_records(run):
  columns = reading.metrics(run, 'rl')
  assert columns['step'].tolist() == [0, 1, 1]
  assert set(columns['phase']) == {'rl'}
  np.testing.assert_array_equal(columns['critique/judge'], [0.5, 1.0, np.nan])
  assert len(reading.metrics(run, 'other')['step']) == 0


def test_metrics_of_a_run_that_logged_nothing(run, tmp_path):
  columns = reading.metrics(run._replace(path=tmp_path))
  assert {name: len(column) for name, column in columns.items()} == {
    'step': 0,
    'phase': 0,
    'time': 0,
  }
  assert reading.summary(columns) == []
  assert reading.warnings(run._replace(path=tmp_path)) == []


def test_summary_leaves_out_what_was_never_measured():
  columns = {
    'step': np.arange(3),
    'b': np.array([2.0, np.nan, 1.0]),
    'a': np.array([np.nan, 5.0, np.nan]),
    'never': np.full(3, np.nan),
  }
  assert reading.summary(columns) == [
    {'metric': 'a', 'first': 5, 'last': 5, 'least': 5, 'greatest': 5},
    {'metric': 'b', 'first': 2, 'last': 1, 'least': 1, 'greatest': 2},
  ]


def test_warnings_are_told_when_a_limit_is_crossed(tmp_path):
  limits = {'critique/called_wrong': {'low': 0.1, 'high': 0.9}}
  config = {
    'phases': {
      'cold': {},  # of a run older than limits
      'rl': {'limits': limits, 'limit_window': 2},
    }
  }
  with run_dir.open_run(tmp_path, config, devices='') as folder:
    folder.log_metrics(0, {'critique/called_wrong': 0.0}, 'cold')
    # Means over two steps: -, 0.5, 0.95, 0.95, 0.6, 0.6, 1.0.
    for step, value in enumerate((0.1, 0.9, 1.0, 0.9, 0.3, 0.9, 1.1), 1):
      folder.log_metrics(step, {'critique/called_wrong': value}, 'rl')
  crossings = reading.warnings(reading.load(tmp_path))
  assert [(row['phase'], row['step']) for row in crossings] == [
    ('rl', 2), ('rl', 6)
  ]  # fmt: skip
  assert crossings[0]['warning'].startswith(
    'critique/called_wrong = 0.95, outside'
  )


def test_results(run):
  assert reading.evaluations(run) == ['sums']
  columns = reading.results(run, 'sums')
  assert list(columns) == ['before', 'RL', 'difference']
  estimate = columns['before']['accuracy_right']
  assert isinstance(estimate, Estimate)
  assert (
    estimate
    == critique_metrics.metrics(synthetic_run.trees(caught=False))[
      'accuracy_right'
    ]
  )
  with pytest.raises(ValueError, match=r"got 'other'; expected one of \['sums"):
    reading.results(run, 'other')


def test_all_results_are_read_back_with_nan(run, tmp_path):
  assert reading.all_results(run._replace(path=tmp_path)) == {}
  estimate = Estimate(np.nan, 0.25, 0.5, 3)
  run_dir.RunDir(tmp_path).write_results(
    'results/x', {'columns': {'RL': {'f1': estimate}}}
  )
  results = reading.all_results(run._replace(path=tmp_path))
  got = results['x']['RL'].pop('f1')
  assert results == {'x': {'RL': {}}}
  assert np.isnan(got.value) and got[1:] == estimate[1:]


@pytest.mark.parametrize('text', ['{}', '{"columns": {"a": {"b": 1}}}', 'no'])
def test_results_that_are_none(run, tmp_path, text):
  (tmp_path / 'results').mkdir()
  (tmp_path / 'results' / 'x.json').write_text(text)
  with pytest.raises(ValueError, match='x.json: got no table of results'):
    reading.results(run._replace(path=tmp_path), 'x')


def test_records(run):
  ids = [record.id for record in reading.records(run, 2)]
  assert ids == [record.id for record in synthetic_run.trees()]
  before = reading.records(run, 'before', 'eval/refcritic')
  assert {record.stage for record in before} == {'solve', 'critique'}
  with pytest.raises(ValueError, match=r"got step 7 of phase 'rl'.*\[1, 2\]"):
    reading.records(run, 7)


def test_replay_gives_what_was_measured(run):
  replayed_metrics = reading.replay(run, 2, critique_metrics.metrics)
  assert replayed_metrics == critique_metrics.metrics(synthetic_run.trees())
  assert (
    replayed_metrics['balanced_accuracy'].value == 0.5
  )  # each critic is constant
  assert replayed_metrics['length'].value == 10  # though no tokens were saved


def test_what_notebooks_import_needs_no_jax():
  source = (
    'import sys\n'
    'from critic_jax.inspection import comparison, reading, trees\n'
    'from critic_jax.report import eval_plots, views\n'
    'from critic_jax.text import pieces\n'
    "assert 'jax' not in sys.modules, sorted(sys.modules)"
  )
  subprocess.run([sys.executable, '-c', source], check=True)
