"""Several runs: settings that differ, groups of seeds, paired changes."""

import numpy as np
import pytest
import synthetic_run

from critic_jax.evals import critique_metrics, refinement_metrics
from critic_jax.inspection import comparison, reading
from critic_jax.workdir import run_dir


def make(path, *, metrics=(), records=None, **config):
  """Writes a run that logs `metrics` in phase 'rl', after a step of another."""
  with run_dir.open_run(path, config, devices='') as run:
    run.log_metrics(0, {'loss': 9.0}, 'cold')
    for step, values in enumerate(metrics, 1):
      run.log_metrics(step, values, 'rl')
    if records:
      run.write_records('rl', records, 'eval/heldout')
  return reading.load(path)


def settings(gate, seed, steps=2):
  return dict(
    seed=seed, phases=dict(rl=dict(gate=gate, steps=steps, kl=dict(coef=0.1)))
  )


@pytest.fixture
def grid(tmp_path):
  return [
    make(tmp_path / f'{gate}-{seed}', **settings(gate, seed))
    for gate in ('wrong', 'always')
    for seed in (0, 1)
  ]


def test_points_are_the_settings_that_differ(grid, tmp_path):
  assert comparison.points(grid) == [
    {'phases.rl.gate': gate, 'seed': seed}
    for gate in ('wrong', 'always')
    for seed in (0, 1)
  ]
  assert comparison.points(grid[:1]) == [{}]
  odd = make(tmp_path / 'odd', seed=0)
  assert comparison.points([grid[0], odd])[1] == {
    'phases.rl.gate': None,
    'phases.rl.steps': None,
    'phases.rl.kl.coef': None,
  }


def test_groups_are_of_seeds(grid, tmp_path):
  groups = comparison.groups(grid)
  assert {name: list(runs) for name, runs in groups.items()} == {
    'gate=wrong': ['wrong-0', 'wrong-1'],
    'gate=always': ['always-0', 'always-1'],
  }
  assert groups['gate=always']['always-1'] is grid[3]
  assert list(comparison.groups(grid[:2])) == ['all']


def test_names_of_groups_are_as_long_as_they_must_be(tmp_path):
  runs = [
    make(tmp_path / str(i), a=dict(rl=dict(n=i)), b=dict(rl=dict(n=i, m=i)))
    for i in range(2)
  ]
  assert list(comparison.groups(runs)) == [
    'a.rl.n=0, m=0, b.rl.n=0', 'a.rl.n=1, m=1, b.rl.n=1'
  ]  # fmt: skip


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
  runs = [make(tmp_path / x / 'run', seed=0) for x in 'ab']
  assert comparison.names(runs) == [
    str((tmp_path / x / 'run').resolve()) for x in 'ab'
  ]
  with pytest.raises(ValueError, match='expected each once'):
    comparison.names([runs[0], runs[0]])


def test_average_over_the_steps_and_the_runs_that_have_a_metric(tmp_path):
  runs = [
    make(tmp_path / 'a', seed=0, metrics=[{'x': 1.0}, {'x': 2.0}, {'x': 3.0}]),
    make(tmp_path / 'b', seed=1, metrics=[{'x': 3.0, 'y': 5.0}, {'y': 6.0}]),
  ]
  means = comparison.average(runs, 'rl')
  assert means['step'].tolist() == [0, 1]
  assert means['phase'].tolist() == ['rl', 'rl']
  assert means['x'].tolist() == [2.0, 2.0]  # (1 + 3) / 2, and 2 alone
  assert means['y'].tolist() == [5.0, 6.0]
  assert 'loss' not in means


def test_curves(tmp_path):
  runs = [
    make(tmp_path / 'a', seed=0, metrics=[{'x': 1.0}, {'y': 1.0}, {'x': 3.0}]),
    make(tmp_path / 'b', seed=1, metrics=[{'x': 2.0}]),
  ]
  curves = comparison.curves(runs, 'x')
  assert [(k, s.tolist(), v.tolist()) for k, (s, v) in curves.items()] == [
    ('a', [1, 3], [1.0, 3.0]), ('b', [1], [2.0])
  ]  # fmt: skip
  with pytest.raises(ValueError, match=r"got 'y', which .*b never logged.*'x'"):
    comparison.curves(runs, 'y')


def test_changes_are_those_of_the_protocol(tmp_path):
  blind, keen = synthetic_run.trees(caught=False), synthetic_run.trees()
  old = make(tmp_path / 'old', seed=0, records=blind)
  new = make(tmp_path / 'new', seed=1, records=keen)
  changes = comparison.changes(
    [old], [new], critique_metrics.compare, 'rl', 'eval/heldout'
  )
  assert changes == critique_metrics.compare(blind, keen)
  # Half of the critiques of wrong solutions say so now, and none did.
  assert changes['accuracy_wrong'].value == 0.5


def test_changes_of_several_seeds_are_their_mean(tmp_path):
  blind, keen = synthetic_run.trees(caught=False), synthetic_run.trees()
  old = make(tmp_path / 'old', seed=0, records=blind)
  runs = [
    make(tmp_path / f'{i}', seed=i, records=records)
    for i, records in enumerate((keen, blind))
  ]
  changes = comparison.changes(
    [old, old], runs, refinement_metrics.compare, 'rl', 'eval/heldout'
  )
  # Seed 0 turns a quarter of the trials, wrong and caught, half right; seed 1
  # changes nothing.
  np.testing.assert_allclose(changes['wrong_to_right'].value, 0.125 / 2)


def test_changes_want_the_same_problems(tmp_path):
  few, many = synthetic_run.trees(2), synthetic_run.trees(3)
  runs = [
    make(tmp_path / str(i), seed=i, records=records)
    for i, records in enumerate((few, many))
  ]
  with pytest.raises(ValueError, match='expected the same problems'):
    comparison.changes(
      runs[:1], runs[1:], critique_metrics.compare, 'rl', 'eval/heldout'
    )
