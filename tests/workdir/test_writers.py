"""What TensorBoard and trackers are given is read back from their files."""

import importlib.util
import json
import sqlite3
import struct
import types

import pytest
import synthetic_run
from tensorboardX.proto import event_pb2, plugin_hparams_pb2

from critic_jax.evals.statistics import Estimate
from critic_jax.workdir import run_dir, trackers, writers

CONFIG = {
  'seed': 3,
  'order': ['sft', 'rl'],
  'phases': {'sft': {'steps': 2}, 'rl': {'steps': 3, 'gate': 'always'}},
}
ACCURACY = 'eval/heldout/accuracy, right solutions'


def write(path, tracker=''):
  """Writes five steps of two phases, records, and an evaluation after each."""
  config = CONFIG | {'trackers': tracker}
  with run_dir.open_run(path, config, devices='') as run:
    for step in range(5):
      values = {'loss/nll': 1.0 / (step + 1), 'odd': float('nan')}
      run.log_metrics(step, values, 'sft' if step < 2 else 'rl')
    run.write_records(2, synthetic_run.trees(2), 'records/rl')
    accuracies = {'sft': 0.5, 'rl': 0.75}
    columns = {
      name: {'accuracy, right solutions': Estimate(value, 0.0, 1.0, 9)}
      for name, value in accuracies.items()
    }
    run.log_results('heldout', columns)
  return path


def events(path):
  """The events of a file: length, its checksum, the event, its checksum."""
  data, place = path.read_bytes(), 0
  while place < len(data):
    (size,) = struct.unpack_from('<Q', data, place)
    yield event_pb2.Event.FromString(data[place + 12 : place + 12 + size])
    place += 16 + size


def test_tensorboard_has_hyperparameters_and_evaluations(tmp_path):
  [file] = (write(tmp_path / 'run') / 'tensorboard').iterdir()
  scalars, hparams = {}, {}
  for event in events(file):
    for value in event.summary.value:
      if value.metadata.plugin_data.plugin_name == 'hparams':
        data = plugin_hparams_pb2.HParamsPluginData.FromString(
          value.metadata.plugin_data.content
        )
        hparams |= data.session_start_info.hparams
      else:
        scalars.setdefault(value.tag, {})[event.step] = value.simple_value
  assert sorted(scalars) == [ACCURACY, 'loss/nll']
  # At the last step of the phase before it.
  assert scalars[ACCURACY] == {1: 0.5, 4: 0.75}
  assert len(scalars['loss/nll']) == 5
  assert hparams['seed'].number_value == 3
  assert hparams['phases.rl.gate'].string_value == 'always'
  assert hparams['order'].string_value == '["sft", "rl"]'


def test_a_tracker_that_fails_is_told_once_and_ends_no_run(
  tmp_path, monkeypatch, capsys
):
  logged = []

  def log(values, step=None):
    logged.append(step)
    if step == 2:
      raise ConnectionError('no network,\nno luck')

  run = types.SimpleNamespace(log=log, finish=lambda: logged.append('end'))
  fake = types.ModuleType('trackio')
  fake.__spec__ = importlib.util.spec_from_loader('trackio', None)
  fake.init = lambda **options: run
  monkeypatch.setitem(__import__('sys').modules, 'trackio', fake)
  path = write(tmp_path / 'run', 'trackio')
  assert logged == [0, 1, 2]
  [line] = capsys.readouterr().out.splitlines()
  assert line.startswith(
    'warning: trackio: got ConnectionError: no network, no luck; it gets'
  )
  assert (path / 'DONE').exists()
  assert len((path / 'metrics.jsonl').read_text().splitlines()) == 5

  def fail(**options):
    raise RuntimeError('not logged in')

  fake.init = fail
  assert (write(tmp_path / 'other', 'trackio') / 'DONE').exists()
  assert capsys.readouterr().out.count('not logged in') == 1


def test_trackers_are_known_and_installed(monkeypatch):
  assert trackers.names('') == []
  with pytest.raises(ValueError, match="trackers: got 'wandbb'; expected some"):
    trackers.names('wandbb')
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  message = r"'wandb', which is not installed; .* pip install -e '.\[wandb\]'"
  with pytest.raises(ValueError, match=message):
    trackers.names('wandb')


def test_a_table_of_records():
  table = writers.rows(synthetic_run.trees(60))
  assert len(table) == writers.MAX_RECORDS
  first, critique = (
    dict(zip(trackers.COLUMNS, row, strict=True)) for row in table[:2]
  )
  assert first['parent'] is None and critique['parent'] == 0
  assert first['correct'] is True and critique['verdict'] == 'correct'
  assert first['reward'] is None and critique['reward'] == 1.5


def test_wandb_offline(tmp_path, monkeypatch, capsys):
  wandb = pytest.importorskip('wandb', reason="pip install -e '.[wandb]'")
  monkeypatch.setenv('WANDB_MODE', 'offline')
  path = write(tmp_path / 'run', 'wandb')
  assert 'warning' not in capsys.readouterr().out
  wandb.teardown()  # its process has written all
  [log] = path.glob('wandb/offline-run-*/*.wandb')
  content = log.read_bytes()
  for text in (b'loss/nll', b'eval/heldout/accuracy', b'always'):
    assert text in content
  [table] = path.glob('wandb/offline-run-*/files/media/table/records/*.json')
  saved = json.loads(table.read_text())
  assert saved['columns'] == list(trackers.COLUMNS)
  assert len(saved['data']) == len(synthetic_run.trees(2))
  write(path, 'wandb')  # goes on as the same run
  names = {p.stem for p in path.glob('wandb/offline-run-*/*.wandb')}
  assert len(names) == 1


def test_trackio(tmp_path, monkeypatch, capsys):
  pytest.importorskip('trackio', reason="pip install -e '.[trackio]'")
  from trackio import sqlite_storage

  monkeypatch.setattr(sqlite_storage, 'TRACKIO_DIR', tmp_path / 'trackio')
  write(tmp_path / 'run', 'trackio')
  assert 'warning' not in capsys.readouterr().out
  [file] = (tmp_path / 'trackio').glob('*.db')
  rows = sqlite3.connect(file).execute('select step, metrics from metrics')
  pairs = [(step, json.loads(text)) for step, text in rows]
  accuracies = {
    step: values[ACCURACY] for step, values in pairs if ACCURACY in values
  }
  assert accuracies == {1: 0.5, 4: 0.75}
  [table] = [v['records/rl'] for _, v in pairs if 'records/rl' in v]
  assert table['_value'][0]['problem'] == 'sum-0'


def test_mlflow(tmp_path, monkeypatch, capsys):
  """A run that goes on is one run there; names have its characters."""
  pytest.importorskip('sqlalchemy', reason="pip install -e '.[mlflow]'")
  mlflow = pytest.importorskip('mlflow', reason="pip install -e '.[mlflow]'")
  monkeypatch.chdir(tmp_path)  # its folder of artifacts
  monkeypatch.setenv('MLFLOW_TRACKING_URI', f'sqlite:///{tmp_path}/mlflow.db')
  path = write(tmp_path / 'run', 'mlflow')
  (path / 'DONE').unlink()
  write(path, 'mlflow')
  assert 'warning' not in capsys.readouterr().out
  client = mlflow.MlflowClient()
  project = client.get_experiment_by_name('critic_jax')
  [run] = client.search_runs([project.experiment_id])
  assert run.info.run_name == 'run' and run.info.status == 'FINISHED'
  assert run.data.params['phases.rl.gate'] == 'always'
  history = client.get_metric_history(
    run.info.run_id, 'eval/heldout/accuracy_ right solutions'
  )
  assert {(x.step, x.value) for x in history} == {(1, 0.5), (4, 0.75)}
  losses = client.get_metric_history(run.info.run_id, 'loss/nll')
  assert {x.step for x in losses} == {0, 1, 2, 3, 4}
  local = client.download_artifacts(run.info.run_id, 'records/rl/4.json')
  table = json.loads(open(local).read())
  assert table['columns'] == list(trackers.COLUMNS)
  assert table['data'][0][2] == 'sum-0'
