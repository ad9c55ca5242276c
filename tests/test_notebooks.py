"""The notebooks run on a tiny run, and on one with all that they can show."""

import ast
import json
import pathlib
import shutil

import numpy as np
import pytest
import synthetic_run

from configs import refcritic
from critic_jax.evals import critique_metrics, refinement_metrics
from critic_jax.tasks import arithmetic_tokenizer
from critic_jax.workdir import run_dir

FOLDER = pathlib.Path(__file__).parents[1] / 'experiments' / 'notebooks'
NOTEBOOKS = sorted(FOLDER.glob('*.ipynb'))


def cells(path):
  """Returns the sources of a notebook's cells of code."""
  notebook = json.loads(path.read_text())
  assert notebook['nbformat'] == 4
  return [
    ''.join(cell['source'])
    for cell in notebook['cells']
    if cell['cell_type'] == 'code'
  ]


def execute(name):
  """Runs a notebook's cells; returns what they show, as texts and as HTML."""
  namespace, texts, pages = {}, [], []
  for source in cells(FOLDER / f'{name}.ipynb'):
    tree = ast.parse(source)
    last_expression = None
    if isinstance(tree.body[-1], ast.Expr):
      last_expression = ast.Expression(tree.body.pop().value)
    exec(compile(tree, name, 'exec'), namespace)
    if last_expression:
      value = eval(compile(last_expression, name, 'eval'), namespace)
      texts.append(str(value))
      pages.append(value._repr_html_())
  return '\n'.join(texts), '\n'.join(pages)


def config(seed, refine_weight):
  """Makes the tiny run's config, as far as notebooks read it."""
  made = refcritic.get_config('tiny')
  made.seed = seed
  made.phases.rl.refine_weight = refine_weight
  made.order = ('rl',)
  made.models.critic.tokenizer = dict(
    module='arithmetic_tokenizer',
    name='tokenizer',
    vocab_size=640,
    num_problems=50,
  )
  return made


def trees(caught):
  """Makes records; critiques have tokens of the run's tokenizer and rewards."""
  tokenizer = arithmetic_tokenizer.tokenizer(vocab_size=640, num_problems=50)
  records = synthetic_run.trees(5, caught)
  for record in records:
    tokens = np.array(tokenizer.encode(record.text), np.int32)
    # Frozen records are made, and then filled, by their test alone.
    object.__setattr__(record, 'tokens', tokens)
    object.__setattr__(record, 'logprobs', -0.1 * (tokens % 7.0))
    if record.stage == 'critique':
      scores = dict(judge=1.0, refine=0.5, reward=1.0 + record.index)
      object.__setattr__(record, 'scores', scores)
  return records


def write(path, seed=0, refine_weight=1.0, caught=True):
  """Writes a run as training leaves it, with tokens and several solutions."""
  with run_dir.open_run(path, config(seed, refine_weight), devices='') as run:
    for step in range(12):
      values = {
        'critique/reward': 1.0 + 0.1 * step,
        'critique/judge': 0.5,
        'critique/called_wrong': 1.0,
        'critique/length': 20.0,
        'refine/lift_over_empty': 0.1,
      }
      run.log_metrics(step, values, 'rl')
    run.write_records(11, trees(caught), 'records/rl', tokens=True)
    before, after = trees(False), trees(caught)
    columns = {}
    for name, records in (('cold_start', before), ('rl', after)):
      run.write_records(name, records, 'eval/heldout')
      columns[name] = {
        'balanced verdict accuracy': critique_metrics.metrics(records)[
          'balanced_accuracy'
        ],
        **{
          f'refinement/{k}': v
          for k, v in refinement_metrics.metrics(records).items()
        },
      }
    columns['difference'] = critique_metrics.compare(before, after)
    run.write_results('results/heldout', {'columns': columns})
  return path


@pytest.fixture(scope='module')
def grid(tmp_path_factory):
  """Writes four runs, two settings by two seeds."""
  folder = tmp_path_factory.mktemp('grid')
  for weight in (1.0, 0.0):
    for seed in (0, 1):
      path = folder / f'refine_weight={weight},seed={seed}'
      write(path, seed, weight, caught=weight > 0)
  return folder


def test_both_are_there():
  assert [path.stem for path in NOTEBOOKS] == ['compare_runs', 'inspect_run']


def test_a_run_that_has_everything(grid, monkeypatch, capsys):
  monkeypatch.setenv('RUN', str(grid / 'refine_weight=1.0,seed=0'))
  text, page = execute('inspect_run')
  assert 'done, looking at phase rl' in capsys.readouterr().out
  assert 'critique/called_wrong = 1, outside of [0.02, 0.98]' in text
  assert '[Rewards: ' in text and '[Solutions called wrong: ' in text
  assert 'Refined right, more than by controls' in text
  assert 'critique/called_wrong' in text and 'greatest' in text
  # The rollouts: the second critique of two has the advantage 1.
  assert 'advantage +1.00 ---' in text and 'advantage -1.00 ---' in text
  assert 'logprob  token' in text and 'not saved' not in text
  assert 'rgba(' in page and 'border-bottom' in page
  assert 'balanced verdict accuracy' in text
  assert 'rl, wrong solutions' in text and 'cold_start, right sol' in text
  assert '[Are votes probabilities?: ' in text
  assert '[Choosing one of k, rl: ' in text
  assert '=== best ===' in text and '=== worst ===' in text
  assert 'sum-0, reference seven' in text
  assert page.count('<img') == 4 + 1 + 2 and '<script' not in page


def test_a_grid(grid, monkeypatch, capsys):
  monkeypatch.setenv('RUNS', str(grid / '*'))
  text, page = execute('compare_runs')
  output = capsys.readouterr().out
  assert '4 runs in 2 groups, looking at phase rl' in output
  assert 'less refine_weight=0.0:' in output
  assert 'phases.rl.refine_weight' in text
  names = [path.name for path in sorted(grid.iterdir())]
  for name in names:
    assert text.count(f'=== {name} ===') == 1
    assert f'{name}, wrong solutions' in text
  # Half of the critiques of wrong solutions say so, and without it none do.
  [line] = [x for x in text.splitlines() if x.startswith(' accuracy_wrong')]
  assert '+50.0 [' in line
  assert '[Rewards: a curve for each run of critique/reward' in text
  assert '[heldout: an interval for each run of balanced verdict' in text
  assert text.count('[Choosing one of k, ') == 4
  assert page.count('best, then worst') == 4 and '<script' not in page


def test_a_run_that_was_trained(tiny_run, monkeypatch, capsys):
  monkeypatch.setenv('RUN', str(tiny_run))
  text, _ = execute('inspect_run')
  assert 'looking at phase judge_only' in capsys.readouterr().out
  assert '[Rewards: ' in text and 'grad_norm' in text
  assert 'judge_only, wrong solutions' in text
  monkeypatch.setenv('PHASE', 'rl')
  assert 'critique/refine' in execute('inspect_run')[0]


def test_runs_that_were_trained(tiny_run, tmp_path, monkeypatch):
  for seed in range(2):
    copy = tmp_path / f'seed={seed}'
    ignored = shutil.ignore_patterns('checkpoints', 'tensorboard', 'report.*')
    shutil.copytree(tiny_run, copy, ignore=ignored)
    saved_config = json.loads((copy / 'config.json').read_text())
    (copy / 'config.json').write_text(json.dumps(saved_config | {'seed': seed}))
  monkeypatch.setenv('RUNS', str(tmp_path / '*'))
  text, _ = execute('compare_runs')
  assert '[Rewards: ' in text and 'seed=1, wrong solutions' in text


@pytest.mark.parametrize('name', ['inspect_run', 'compare_runs'])
@pytest.mark.parametrize('has_records', [True, False])
def test_runs_without_evaluations(name, has_records, tmp_path, monkeypatch):
  made = config(0, 1.0)
  with run_dir.open_run(tmp_path / 'run', made, devices='') as run:
    run.log_metrics(0, {'critique/reward': 1.0}, 'rl')
    if has_records:
      run.write_records(0, trees(True), 'records/rl', tokens=True)
  monkeypatch.setenv('RUN', str(tmp_path / 'run'))
  monkeypatch.setenv('RUNS', str(tmp_path / '*'))
  text, _ = execute(name)
  assert '[Rewards: ' in text and 'Are votes probabilities?' not in text
  assert ('advantage +1.00' in text) == (has_records and name == 'inspect_run')


def test_what_critic_jax_evaluate_wrote(tmp_path, monkeypatch):
  for name, caught in (('cold', False), ('keen', True)):
    records = trees(caught)
    settings = {'checkpoint': name, 'seed': 0, 'order': (), 'models': {}}
    with run_dir.open_run(tmp_path / name, settings, devices='') as run:
      run.write_records('evaluation', records, 'eval/heldout')
      columns = {'evaluation': {'F1': critique_metrics.metrics(records)['f1']}}
      run.write_results('results/heldout', {'columns': columns})
  (tmp_path / 'slurm').mkdir()  # logs, as the launcher keeps them
  monkeypatch.setenv('RUNS', str(tmp_path / '*'))
  text, _ = execute('compare_runs')
  assert 'checkpoint=keen' in text and 'keen, wrong solutions' in text
  assert '[Rewards: ' not in text
  monkeypatch.setenv('RUN', str(tmp_path / 'keen'))
  text, _ = execute('inspect_run')
  assert '[Rewards: ' not in text and '[Are votes probabilities?' in text


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_define_nothing_and_hold_no_output(path):
  for cell in json.loads(path.read_text())['cells']:
    if cell['cell_type'] == 'code':
      assert cell['outputs'] == [] and cell['execution_count'] is None
  for source in cells(path):
    for node in ast.walk(ast.parse(source)):
      assert not isinstance(
        node, ast.FunctionDef | ast.ClassDef | ast.Lambda
      ), source
