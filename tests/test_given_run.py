"""A run on a file of given solutions: cold start by labels, RL on verdicts."""

import json
import random

import numpy as np
import pytest
from run_helpers import assert_same, contents, run, stop_after

from configs import verdicts
from critic_jax import train
from critic_jax.runtime import timing
from critic_jax.tasks import arithmetic, arithmetic_labels
from critic_jax.workdir import run_dir


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  """A file in ProcessBench's layout: two solutions of each of 12 problems."""
  rng, rows = random.Random(0), []
  for i, problem in enumerate(
    arithmetic.problems('train', 12, min_steps=2, max_steps=4)
  ):
    for slips in (False, True):
      record = arithmetic_labels.solution(problem, slips, rng)
      rows.append(
        dict(
          id=f'{i}-{slips}', generator=f'generator {i % 2}',
          problem=problem.question, steps=record.text.split('\n'),
          final_answer_correct=record.parsed['correct'],
          label=record.parsed['first_error'],
        )
      )  # fmt: skip
  path = tmp_path_factory.mktemp('data') / 'steps.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


def given_config(file):
  """Three steps of either phase on the file, a checkpoint after two."""
  config = verdicts.get_config('tiny')
  config.data = dict(
    name='solutions',
    paths=dict(train=str(file), dev='', test=''),
    fractions=dict(train=0.6, dev=0.0, test=0.4),
  )
  for phase in config.phases.values():
    phase.steps, phase.checkpoint_every, phase.records_every = 3, 2, 1
  return config


@pytest.fixture(scope='module')
def whole(file, tmp_path_factory):
  return run(given_config(file), tmp_path_factory.mktemp('runs') / 'whole')


def test_given_solutions_are_learned_from(whole):
  rows = list(run_dir.read_metrics(whole / 'metrics.jsonl'))
  cold_start, rl = rows[:3], rows[3:]
  assert {row['phase'] for row in rl} == {'rl'}
  assert cold_start[2]['loss/nll'] < cold_start[0]['loss/nll']
  assert all(row['grad_norm'] > 0 for row in rows)
  for row in rows:
    assert row['solve/count'] == 4 and 0 <= row['solve/correct'] <= 1
    assert 'solve/length' not in row
  measured = set()
  for records in map(run_dir.read_records, whole.glob('eval/heldout/*')):
    assert {r.stage for r in records} == {'solve', 'critique'}
    measured |= {r.problem.question for r in records}
  learned = {
    record.problem.question
    for path in whole.glob('records/*/*')
    for record in run_dir.read_records(path)
  }
  assert measured and learned and not measured & learned
  results = json.loads((whole / 'results/heldout.json').read_text())
  assert list(results['columns']) == ['cold_start', 'rl', 'difference']
  assert sorted(results['groups']['rl']['generator']) == [
    'generator 0', 'generator 1'
  ]  # fmt: skip


def test_a_run_on_given_solutions_that_is_stopped_goes_on(
  whole, file, tmp_path, monkeypatch
):
  # In the middle of either phase.
  stopped_at = stop_after(monkeypatch, 2, 5)
  path = tmp_path / 'stopped'
  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      run(given_config(file), path)
  run(given_config(file), path)
  assert stopped_at == [2, 5]
  assert_same(path, whole)


def test_packing_changes_no_batch_of_given_solutions(whole, file, tmp_path):
  """Its examples, their order, and their loss are the same."""
  config = given_config(file)
  config.phases.cold_start.row_shapes = ()
  config.order, config.evals = ('cold_start',), {}
  path = run(config, tmp_path / 'plain')
  rows, expected = contents(path), contents(whole)
  for step in range(3):
    name = f'records/cold_start/{step:06d}.jsonl.gz'
    assert rows[name] == expected[name]
  for row, other in zip(rows['metrics'], expected['metrics'], strict=False):
    np.testing.assert_allclose(row['loss/nll'], other['loss/nll'], rtol=1e-4)
  assert not {x for x in rows['metrics'][0] if x.startswith(timing.OF_MACHINE)}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      dict(data=dict(name='arithmetic', num_train=8, num_test=4)),
      'phases.cold_start: num_solutions: got 0, and data of problems',
    ),
    (
      dict(data=dict(name='arithmetic_slips', num_test=4)),
      "split of data: got 'train'; expected one of .'test'",
    ),
  ],
)
def test_data_of_another_kind_is_refused_before_anything_compiles(
  changes, message, tmp_path, monkeypatch
):
  monkeypatch.setattr(train.roles_lib, 'init_params', None)
  config = verdicts.get_config('tiny')
  config.data = changes['data']
  with pytest.raises(ValueError, match=message):
    run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
