"""Experiments' files are checked; a run is known by its settings."""

import ast
import json
import pathlib
import re
import subprocess
import sys

import grids
import pytest

from critic_jax.evals import protocols, selection
from critic_jax.launch import experiment

ROOT = pathlib.Path(experiment.__file__).parents[2]
EXPERIMENTS = sorted((ROOT / 'experiments').glob('*.py'))


def names(path):
  return [run.name for run in experiment.load(path).runs]


def test_a_name_tells_what_is_changed_and_has_the_digest(tmp_path):
  grid = (
    "grid.product(grid.sweep('seed', [3]),"
    " grid.sweep('phases.rl.gate', ['always', 'wrong']))"
  )
  runs = experiment.load(grids.write(tmp_path, grid=grid)).runs
  assert [run.label for run in runs] == [
    'phases.rl.gate=always,seed=3',
    'seed=3',  # 'wrong' is the config's own
  ]
  for run in runs:
    assert re.fullmatch('[0-9a-f]{8}', run.digest)
    assert run.name == f'{run.label}-{run.digest}'
  assert runs[0].digest != runs[1].digest


def test_the_same_settings_have_the_same_name(tmp_path):
  """Names do not depend on order, type and experiment."""
  plain = names(grids.write(tmp_path, grid='[{"seed": 1}]'))
  grid = "[{'phases.rl.refine_weight': 1, 'seed': 1}]"
  other = "[{'seed': 1, 'phases.rl.refine_weight': 1.0}]"
  assert names(grids.write(tmp_path, 'told', grid=grid)) == plain
  assert names(grids.write(tmp_path, 'other', grid=other)) == plain
  changed = "[{'seed': 1, 'phases.rl.refine_weight': 0.5}]"
  assert names(grids.write(tmp_path, 'changed', grid=changed)) != plain


def test_another_process_gives_the_same_digest(tmp_path):
  path = grids.write(tmp_path)
  code = 'import sys; from critic_jax.launch import experiment; '
  code += 'print(*[r.name for r in experiment.load(sys.argv[1]).runs])'
  process = subprocess.run(
    [sys.executable, '-c', code, path],
    cwd=ROOT, check=True, text=True, capture_output=True,
    env={'PYTHONHASHSEED': '7', 'PYTHONPATH': str(ROOT)},
  )  # fmt: skip
  assert process.stdout.split() == names(path)
  assert names(path)[0] == 'seed=0-93a6065c'  # for ever: folders have it


def test_a_config_that_was_changed_is_another_run(tmp_path):
  path = grids.write(tmp_path)
  before = names(path)
  config = tmp_path / 'config.py'
  config.write_text(grids.CONFIG.replace("gate='wrong'", "gate='always'"))
  assert not set(before) & set(names(path))


def test_hostile_and_long_values_make_plain_names(tmp_path):
  grid = "[{'phases.rl.gate': '../$(b);' + 'x' * 300}]"
  (run,) = experiment.load(grids.write(tmp_path, grid=grid)).runs
  assert run.label.startswith('phases.rl.gate=.._') and len(run.label) == 160
  assert re.fullmatch(r'[\w.,=+-]+', run.name)
  assert experiment.folder(run, tmp_path).parent == tmp_path


def test_a_point_that_changes_nothing_has_a_name(tmp_path):
  grid = "[{'phases.rl.gate': 'wrong'}]"
  (run,) = experiment.load(grids.write(tmp_path, grid=grid)).runs
  assert run.label == 'default'


def save_config(run, folder, **changes):
  """Writes a run's folder with its config only."""
  config = json.loads(run.settings.to_json()) | changes
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(config))


@pytest.mark.parametrize('name', ['seed=1', 'steps=3,seed=1-{digest}'])
def test_a_folder_of_the_same_settings_is_taken(name, tmp_path):
  """It was named before there were digests, or by another CONFIG."""
  run = experiment.load(grids.write(tmp_path)).runs[1]
  runs = tmp_path / 'runs'
  folder = runs / name.format(digest=run.digest)
  save_config(run, folder)
  save_config(run, runs / 'seed=1-00000000', order=[])  # nobody's
  assert experiment.folder(run, runs) == folder
  save_config(run, runs / run.name)
  assert experiment.folder(run, runs) == runs / run.name


@pytest.mark.parametrize('own', [True, False])
def test_a_folder_of_other_settings_is_refused(own, tmp_path):
  run = experiment.load(grids.write(tmp_path)).runs[1]
  folder = tmp_path / 'runs' / (run.name if own else 'seed=1')
  save_config(run, folder, order=['rl'])
  with pytest.raises(
    ValueError, match=r'seed=1.*: got a run that differs in 1 settings \(order'
  ):
    experiment.folder(run, tmp_path / 'runs')


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
     r"GRID: got \{'seed': 1\} and \{'seed': 1\}, the same settings"),
    (dict(grid="[{'seed': 1}, {'seed': 1, 'phases.rl.gate': 'wrong'}]"),
     r"GRID: got \{'seed': 1\} and .*'phases.rl.gate': 'wrong'\}, the same"),
    (dict(grid='[]'), 'GRID: got no points'),
    (dict(grid='[{}]'), r'GRID: got the point \{\}'),
    (dict(grid="['seed']"), "GRID: got the point 'seed'"),
    (dict(grid="grid.sweep('seed', 'abc')"), 'learn.py: got ValueError: sweep'),
    (dict(grid='1 +'), 'learn.py: got SyntaxError'),
    (dict(config='configs/nope.py'), "CONFIG configs/nope.py: .* is no file"),
    (dict(config='configs/refcritic.py:nope'), "config: got 'nope'; expected"),
    (dict(table=grids.TABLE | dict(columns=('sft',))),
     "TABLE: column: got 'sft'"),
    (dict(table='[]'), 'TABLE: got'),
  ],
)  # fmt: skip
def test_what_is_wrong_is_refused(change, message, tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  with pytest.raises(ValueError, match=message):
    experiment.load(grids.write(tmp_path, **change))


@pytest.mark.parametrize(
  ('drop', 'message'),
  [
    ('CONFIG', 'got no CONFIG;'),
    ('GRID', 'got no GRID;'),
    ('TABLE', 'got no TABLE;'),
    ('"""', 'got no question;'),
  ],
)
def test_a_file_without_a_part_is_refused(drop, message, tmp_path):
  path = grids.write(tmp_path)
  path.write_text(path.read_text().replace(drop, '#'))
  if drop == '"""':
    template = grids.EXPERIMENT.split('"""')[2]
    text = template.format(config='c', grid='[]', table='[]')
    path.write_text(f'"""No question."""\n{text}')
  with pytest.raises(ValueError, match=message):
    experiment.load(path)


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_hold_together(path, monkeypatch):
  monkeypatch.chdir(ROOT)
  study = experiment.load(path)
  assert len({run.point['seed'] for run in study.runs}) >= 3
  for table in study.tables:
    for metric in table.metrics:
      assert metric in protocols.TITLES.values() or '/' in metric, metric
    assert set(table.methods) <= set(selection.METHODS)
  text = ast.get_docstring(ast.parse(path.read_text()))
  assert re.search(r'^Expectation: ', text, re.MULTILINE)
  assert re.search(r'^Result(: | \(\d{4}-)', text, re.MULTILINE)
