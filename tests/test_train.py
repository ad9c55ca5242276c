"""The loop: updates, phases, stopping and resuming, settings."""

import io
import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_trees_close, log_compilations
from loop_helpers import (
  init,
  make_recipe,
  mesh,
  nano,
  problems,
  scripted,
  settings,
)
from rich.console import Console
from run_helpers import (
  assert_same,
  contents,
  last_checkpoint,
  run,
  short_config,
  stale_config,
  stop_after,
)

from configs import refcritic
from critic_jax import train
from critic_jax.models import layer_stack
from critic_jax.objectives import masked
from critic_jax.recipes import sft
from critic_jax.runtime import sharding
from critic_jax.training import optimizer, phases, pipeline, roles, updates
from critic_jax.workdir import run_dir

# ------------------------------------------------------------------ update


def toy_loss(params, batch):
  per_token = jnp.square(batch['x'] * params['w'] - 1)  # [B, T]
  sums = {'mean': jnp.sum(batch['weights'] * batch['x'])}
  return jnp.sum(batch['weights'] * per_token), (sums, {})


def toy_batch(aggregate):
  mask = np.arange(6) < np.array([6, 1, 3, 0, 2, 5, 0, 4])[:, None]
  return {
    'tokens': np.zeros((8, 6), np.int32),
    'x': np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32),
    'weights': masked.loss_weights(mask, aggregate, max_len=6),
  }


def toy_state(tx):
  params = {'w': jnp.linspace(-1, 1, 6)}
  return updates.TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))


TX, _ = optimizer.make_optimizer(learning_rate=0.1, steps=10)


@pytest.mark.parametrize('aggregate', ['token', 'sequence', 'constant'])
def test_the_number_of_microbatches_does_not_matter(aggregate):
  """The rows have all lengths; two are empty."""
  results = [
    updates.update(
      toy_loss, TX, toy_state(TX), toy_batch(aggregate), microbatches=count
    )
    for count in (1, 2, 4, 8)
  ]
  first_state, first_metrics = results[0]
  assert int(first_state.step) == 1
  assert np.any(first_state.params['w'] != toy_state(TX).params['w'])
  for state, metrics in results[1:]:
    assert_trees_close(state, first_state, rtol=1e-6, atol=1e-6)
    assert_trees_close(metrics, first_metrics, rtol=1e-5, atol=1e-6)


def test_an_update_by_hand():
  batch = {
    'tokens': np.zeros((1, 1), np.int32),
    'x': np.ones((1, 1), np.float32),
    'weights': np.ones((1, 1), np.float32),
  }
  tx = optax.sgd(0.25)
  params = {'w': jnp.full((1,), 3.0)}
  state = updates.TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
  state, (metrics, _) = updates.update(toy_loss, tx, state, batch)
  # (3 - 1)^2 = 4, its gradient 2 (3 - 1) = 4; 3 - 0.25 * 4 = 2.
  assert float(metrics['loss/total']) == 4.0
  assert float(metrics['grad_norm']) == 4.0
  assert state.params['w'].tolist() == [2.0]


def test_microbatches_must_divide_the_rows():
  with pytest.raises(ValueError, match='got 3; expected a divisor .* 8 rows'):
    updates.update(
      toy_loss, TX, toy_state(TX), toy_batch('token'), microbatches=3
    )


def test_a_state_on_the_mesh_is_updated_by_one_program():
  lm = nano()
  recipe = make_recipe(
    sft,
    settings(
      dict(
        role='solver',
        batch_size=4,
        aggregate='token',
        lessons=dict(module='lessons', name='reference'),
      )
    ),
    {'solver': lm},
    None,
  )
  params = init(solver=lm)
  state = updates.init_state(TX, params, mesh())
  for leaf in jax.tree.leaves(state):
    assert leaf.sharding.mesh == mesh()
  assert_trees_close(state.params, params)
  for step in range(3):
    batch, _ = recipe.collect({}, problems(4), jax.random.key(step))
    batch = sharding.put_batch(batch, mesh())
    with log_compilations() as compiled:
      state, (metrics, _) = updates.update(recipe.loss, TX, state, batch)
    assert bool(compiled) == (step == 0)
  assert int(state.step) == 3
  assert float(metrics['loss/total']) < np.log(640)
  # The state is donated, the parameters it was made of are not.
  assert not jax.tree.leaves(params)[0].is_deleted()


# ------------------------------------------------------------------- runs


def test_tiny_is_trained_from_end_to_end(tiny_run):
  assert (tiny_run / 'DONE').exists() and (tiny_run / 'report.html').exists()
  rows = list(run_dir.read_metrics(tiny_run / 'metrics.jsonl'))
  phases = ['solver', 'cold_start', 'rl', 'judge_only']
  assert [r['phase'] for r in rows] == [p for p in phases for _ in range(2)]
  assert [r['step'] for r in rows] == list(range(8))
  for row in rows:
    assert all(np.isfinite(x) for x in row.values() if isinstance(x, float)), (
      row
    )
  # Something is learned from, and by a gradient.
  by_phase = {row['phase']: row for row in rows}
  truncated = [
    x for name, x in by_phase['solver'].items() if name.endswith('/truncated')
  ]
  assert truncated and not any(truncated)
  assert by_phase['solver']['loss/nll'] < rows[0]['loss/nll']
  for phase in ('solver', 'rl'):
    assert by_phase[phase]['grad_norm'] > 0, phase
  results = json.loads((tiny_run / 'results/heldout.json').read_text())
  assert list(results['columns']) == ['cold_start', 'rl', 'judge_only']
  for folder in ('records/rl', 'records/solver'):
    names = sorted(p.name for p in (tiny_run / folder).iterdir())
    assert names == ['000000.jsonl.gz', '000001.jsonl.gz']
  records = run_dir.read_records(tiny_run / 'records/rl/000001.jsonl.gz')
  assert sum(r.stage == 'critique' for r in records) == 4 * 8


def test_a_finished_run_is_left_as_it_is(tiny_run):
  before = (tiny_run / 'metrics.jsonl').read_bytes()
  with log_compilations() as compiled:
    run(refcritic.get_config('tiny'), tiny_run)
  assert 'update' not in compiled and 'sample' not in compiled
  assert (tiny_run / 'metrics.jsonl').read_bytes() == before
  assert (tiny_run / 'DONE').exists()


def test_an_evaluation_that_is_missing_is_made_of_the_phase_it_follows(
  tiny_run, tmp_path
):
  """It is made of the roles before later phases changed them."""
  path = tmp_path / 'run'
  shutil.copytree(tiny_run, path)
  records = path / 'eval/heldout/rl.jsonl.gz'
  expected = records.read_bytes()
  last = (path / 'eval/heldout/judge_only.jsonl.gz').read_bytes()
  records.unlink()
  run(refcritic.get_config('tiny'), path)
  assert records.read_bytes() == expected != last


def test_what_measured_a_phase_that_is_run_again_is_put_aside(
  tiny_run, tmp_path, monkeypatch
):
  """Records of one training are never taken for those of another."""
  path = tmp_path / 'run'
  shutil.copytree(tiny_run, path)
  expected = {p.name: p.read_bytes() for p in path.glob('eval/heldout/*')}
  shutil.rmtree(path / 'checkpoints' / '8')
  for name in ('train', 'evaluate'):
    monkeypatch.setattr(train.Run, name, lambda run, *arguments: None)
  monkeypatch.setattr(train.eval_phases, 'show_results', lambda *arguments: 0)
  run(refcritic.get_config('tiny'), path)
  kept = {p.name: p.read_bytes() for p in path.glob('eval/heldout/*')}
  [aside] = path.glob('replaced/judge_only-*/eval/heldout/*')
  assert kept | {aside.name: aside.read_bytes()} == expected
  assert aside.name not in kept and len(kept) == len(expected) - 1


def test_another_config_in_the_same_folder_is_refused(tiny_run):
  before = (tiny_run / 'config.json').read_bytes()
  config = refcritic.get_config('tiny')
  config.seed = 1
  config.phases.rl.objective.clip_high = 0.28
  with log_compilations() as compiled:
    with pytest.raises(ValueError) as error:
      run(config, tiny_run)
  assert 'seed=1 (saved: 0)' in str(error.value)
  assert 'phases.rl.objective.clip_high=0.28 (saved: 0.2)' in str(error.value)
  assert 'batch_size' not in str(error.value)
  assert not compiled
  assert (tiny_run / 'config.json').read_bytes() == before
  assert (tiny_run / 'DONE').exists()


def test_a_run_stopped_twice_equals_one_that_was_not(tmp_path, monkeypatch):
  whole = run(short_config(), tmp_path / 'whole')
  log_metrics = run_dir.RunDir.log_metrics
  stopped_at = []

  def stop(self, step, metrics, phase):
    log_metrics(self, step, metrics, phase)
    # In the middle of either phase, with a step logged but not saved.
    if step in (2, 5) and step not in stopped_at:
      stopped_at.append(step)
      raise KeyboardInterrupt

  monkeypatch.setattr(run_dir.RunDir, 'log_metrics', stop)
  path = tmp_path / 'stopped'
  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      run(short_config(), path)
    assert not (path / 'DONE').exists() and not (path / 'FAILED').exists()
  run(short_config(), path)
  assert stopped_at == [2, 5] and (path / 'DONE').exists()

  assert_same(path, whole)
  assert [row['step'] for row in contents(whole)['metrics']] == [*range(6)]
  step, tree = last_checkpoint(whole)
  assert step == 6
  # There was something to get wrong: both roles moved, differently.
  roles = tree['roles']
  assert not np.array_equal(
    *(jax.tree.leaves(roles[role])[0] for role in ('solver', 'critic'))
  )
  # The solver is frozen in RL and the problems are the same in every step: its
  # solutions must differ, or noise is used twice.
  texts = [
    {
      r.id: r.text
      for r in run_dir.read_records(whole / f'records/rl/{step:06d}.jsonl.gz')
      if r.stage == 'solve'
    }
    for step in range(3)
  ]
  assert texts[0].keys() == texts[1].keys() == texts[2].keys()
  for problem in texts[0]:
    assert len({text[problem] for text in texts}) == 3


def test_a_run_with_more_steps_equals_one_that_was_longer(tmp_path):
  """Its last evaluation is equal, too, and each config is kept."""
  longer = short_config()
  longer.phases.rl.steps = 5
  whole = run(longer, tmp_path / 'whole')
  path = run(short_config(), tmp_path / 'continued')
  longer.keep_checkpoints = 1
  longer.graders.num_workers = 2
  run(longer, path)
  assert_same(path, whole)
  assert [row['step'] for row in contents(path)['metrics']] == [*range(8)]
  assert (
    json.loads((path / 'config.1.json').read_text())['phases']['rl']['steps']
    == 3
  )
  old = path / 'replaced/rl-3/eval/heldout/rl.jsonl.gz'
  assert old.read_bytes() != (path / 'eval/heldout/rl.jsonl.gz').read_bytes()


def test_a_stale_run(tmp_path, monkeypatch):
  """It samples beside the update, corrects for it, and can be stopped."""
  fresh = run(stale_config(0), tmp_path / 'fresh')
  whole = run(stale_config(), tmp_path / 'whole')

  def column(path, name):
    return [row[name] for row in run_dir.read_metrics(path / 'metrics.jsonl')]

  # The first batch, and the first after the checkpoint, are not old.
  errors = column(whole, 'policy/ratio_error')
  assert [error > 1e-3 for error in errors] == [False, True, True, False, True]
  assert max(column(fresh, 'policy/ratio_error')) < 1e-4
  file = 'records/rl/{:06d}.jsonl.gz'

  def texts(path, step):
    records = run_dir.read_records(path / file.format(step))
    return [r.text for r in records if r.stage == 'critique']

  assert texts(whole, 0) == texts(fresh, 0)
  assert texts(whole, 1) != texts(fresh, 1)

  # With a batch in flight; before and after there is a checkpoint.
  stopped_at = stop_after(monkeypatch, 1, 3)
  path = tmp_path / 'stopped'
  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      run(stale_config(), path)
  run(stale_config(), path)
  assert stopped_at == [1, 3]
  assert_same(path, whole)


def test_a_stale_batch_is_written_by_the_parameters_before_the_update(
  tmp_path, monkeypatch
):
  """Looks at the roles of each collection, step by step."""
  embeddings, collect = [], pipeline.Pipeline._collect

  def look(self, step, trained):
    embeddings.append(np.asarray(trained['critic']['embed']['embedding']))
    return collect(self, step, trained)

  monkeypatch.setattr(pipeline.Pipeline, '_collect', look)
  run(stale_config(), tmp_path)
  is_same = [np.array_equal(x, y) for x, y in itertools.pairwise(embeddings)]
  # Step 1 by the parameters of step 0, step 2 by those before update 1; step 3
  # is the first after the checkpoint.
  assert is_same == [True, False, False, True]


def test_a_limit_stops_a_run_and_nothing_is_lost(tmp_path):
  config = short_config()
  config.phases.rl.limits = {'critique/length': {'high': 0.5}}
  config.phases.rl.limit_window = 1
  config.phases.rl.limit_action = 'stop'
  with pytest.raises(ValueError, match='critique/length = .* at step 0; .*'):
    run(config, tmp_path)
  assert 'critique/length' in (tmp_path / 'FAILED').read_text()
  assert last_checkpoint(tmp_path)[0] == 4  # three of the solver, one of RL
  run(config, tmp_path)  # to go on all the same
  steps = [r['step'] for r in run_dir.read_metrics(tmp_path / 'metrics.jsonl')]
  assert steps == list(range(6)) and (tmp_path / 'DONE').exists()


def test_a_phase_ends_early_where_it_says_so(tmp_path):
  config = short_config()
  config.phases.solver.until = {'loss/nll': {'high': 100.0}}
  config.phases.solver.limit_window = 2
  out = io.StringIO()
  run(config, tmp_path, Console(file=out))
  assert 'solver: ends after 2 of 3 steps, as loss/nll came' in out.getvalue()
  rows = list(run_dir.read_metrics(tmp_path / 'metrics.jsonl'))
  # The next phase has its own numbers all the same.
  assert [r['step'] for r in rows] == [0, 1, 3, 4, 5]
  assert [r['phase'] for r in rows] == ['solver'] * 2 + ['rl'] * 3
  steps = sorted(int(p.name) for p in tmp_path.glob('checkpoints/[0-9]*'))
  assert steps[0] == 3 and steps[-1] == 6


def test_a_run_goes_on_after_a_phase_that_ended_early(tmp_path, monkeypatch):
  config = short_config()
  config.phases.solver.until = {'loss/nll': {'high': 100.0}}
  config.phases.solver.limit_window = 1
  run(config, tmp_path / 'whole')
  collect = train.Pipeline._collect

  def fail(self, step, trained):
    if self._phase.name == 'rl':
      raise RuntimeError('killed')
    return collect(self, step, trained)

  with monkeypatch.context() as patch:
    patch.setattr(train.Pipeline, '_collect', fail)
    with pytest.raises(RuntimeError, match='killed'):
      run(config, tmp_path / 'stopped')
  run(config, tmp_path / 'stopped')
  assert_same(tmp_path / 'whole', tmp_path / 'stopped')


def test_a_limit_warns(tmp_path):
  config = short_config()
  config.order = ('solver',)
  config.evals = {}
  config.phases.solver.limits = {'loss/nll': {'high': 0.01}}
  config.phases.solver.limit_window = 2
  out = io.StringIO()
  run(config, tmp_path, Console(file=out))
  warnings = [x for x in out.getvalue().splitlines() if x.startswith('warning')]
  assert len(warnings) == 1 and 'solver: loss/nll = ' in warnings[0]


def test_a_run_that_fails_says_so(tmp_path, monkeypatch):
  def fail(self, *args):
    raise RuntimeError('no room')

  monkeypatch.setattr(train.Run, 'train', fail)
  with pytest.raises(RuntimeError):
    run(short_config(), tmp_path)
  assert 'no room' in (tmp_path / 'FAILED').read_text()
  assert not (tmp_path / 'DONE').exists()


# --------------------------------------------------------------- settings


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('order', ('solver', 'rll'), "order: got 'rll'; expected one of"),
    ('phases.rl.recipe', 'refcritik', "phases.rl: .*mean 'refcritic'"),
    ('phases.rl.gate', 'never', "phases.rl: gate: got 'never'"),
    ('phases.rl.objective.name', 'ppo_clap', "phases.rl: .*mean 'ppo_clip'"),
    ('phases.rl.advantage.name', 'rloo', "phases.rl: .*got 'rloo'"),
    ('phases.rl.kl.name', 'k5', "phases.rl: .*got 'k5'"),
    (
      'phases.rl.train',
      ('critics',),
      r"phases.rl: train: got 'critics'; .* mean 'critic'",
    ),
    (
      'phases.rl.copy',
      {'cold': 'crtic'},
      "phases.rl: copy: got 'crtic'; .* mean 'critic'",
    ),
    ('phases.rl.aggregate', 'mean', "phases.rl: aggregate: how: got 'mean'"),
    ('phases.rl.microbatches', 0, 'phases.rl: microbatches: got 0'),
    ('phases.rl.staleness', 2, 'phases.rl: staleness: got 2; expected 0 or 1'),
    ('phases.solver.staleness', 1, 'solver: staleness: got 1 .*not correct'),
    ('phases.rl.batch_size', 0, 'phases.rl: batch_size: got 0'),
    ('phases.rl.optimizer.schedule', 'cos', "phases.rl: .*got 'cos'"),
    (
      'phases.rl.optimizer.warmup_steps',
      2,
      'phases.rl: optimizer.warmup_steps: got 2 of 2 updates .* add '
      '--config.phases.rl.optimizer.warmup_steps=0$',
    ),
    ('phases.rl.checkpoint_minutes', -1.0, 'rl: checkpoint_minutes: got -1.0'),
    ('phases.cold_start.writer.module', 'arith', "mean 'arithmetic'"),
    ('phases.solver.lessons.name', 'lesson', "phases.solver: .*got 'lesson'"),
    ('models.critic.size', 'huge', "models.critic: size: got 'huge'"),
    (
      'models.critic.prompts',
      'chat',
      "models.critic: prompts: module of .*styles: got 'chat'",
    ),
    ('models.critic.top_p', 0.0, 'models.critic: top_p: got 0.0'),
    ('models.critic.max_rows', 3, 'models.critic: max_rows: got 3'),
    ('models.critic.tokenizer.name', 'tok', "models.critic: .*got 'tok'"),
    ('data.name', 'arithmetik', "mean 'arithmetic'"),
    ('mesh.tensor', 7, 'mesh: got'),
    (
      'evals.heldout.after',
      ('rl', 'end'),
      "heldout: after: got 'end'; expected one of",
    ),
    ('evals.heldout.split', 'valid', "evals.heldout: split: got 'valid'"),
    (
      'evals.heldout.refine',
      'never',
      "evals.heldout: refine: gate: got 'never'",
    ),
    ('evals.heldout.first_error.name', 'error', "got 'error'"),
  ],
)
def test_wrong_settings_fail_before_anything_compiles(
  tmp_path, name, value, message
):
  config = refcritic.get_config('tiny')
  with config.unlocked():
    config.update_from_flattened_dict({name: value}) if not isinstance(
      value, dict
    ) else config.phases.rl.update({'copy': value})
  with log_compilations() as compiled:
    with pytest.raises(ValueError, match=message):
      run(config, tmp_path / 'run')
  assert not compiled
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'name',
  [
    'recipe', 'steps', 'aggregate', 'gate', 'num_critiques', 'objective', 'kl',
    'optimizer',
  ],
)  # fmt: skip
def test_missing_settings_fail_before_anything_compiles(tmp_path, name):
  config = refcritic.get_config('tiny')
  del config.phases.rl[name]
  with log_compilations() as compiled:
    with pytest.raises(ValueError, match=f'phases.rl: .*{name}'):
      run(config, tmp_path / 'run')
  assert not compiled


def test_a_copy_between_tokenizers_is_refused_before_anything_compiles(
  tmp_path,
):
  config = short_config()
  config.models.solver.tokenizer.num_problems = 20
  with log_compilations() as compiled:
    with pytest.raises(ValueError, match='phases.rl: copy: got critic=solver'):
      run(config, tmp_path / 'run')
  assert not compiled and not (tmp_path / 'run').exists()


def test_an_objective_without_a_ratio_is_not_fed_stale_batches(tmp_path):
  config = short_config()
  config.phases.rl.objective = {'name': 'reinforce'}
  config.phases.rl.staleness = 1
  with pytest.raises(
    ValueError, match='staleness: got 1 with a loss that does'
  ):
    run(config, tmp_path / 'run')


def test_a_role_that_a_recipe_needs_is_named(tmp_path):
  config = short_config()
  config.order, config.phases.rl.copy = ('rl',), {}
  del config.models.solver
  with pytest.raises(ValueError, match="phases.rl: models: .*also .'solver'"):
    run(config, tmp_path / 'run')


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('microbatches', 2**63, 'phases.rl: microbatches: got 9223372036854775808'),
    ('steps', 0, 'phases.rl: steps: got 0; expected an integer of 1'),
    ('train', ([],), r'phases.rl: train: got \[\]; expected one of'),
  ],
)
def test_numbers_and_roles_of_any_kind(name, value, message):
  config = refcritic.get_config('tiny')
  config.order, config.phases.rl[name] = ('rl',), value
  lms = roles.make_lms(config.models)
  with pytest.raises(ValueError, match=message):
    phases.make_phases(config, lms, None)


def test_scripted_models_are_what_tests_of_recipes_use():
  lm = scripted(lambda prompt, index: prompt[-9:] + str(index))
  [[first, second]] = lm.bind(None)(['Solution:'], None, 2, 1)
  assert (first.text, second.text) == ('Solution:0', 'Solution:1')
  assert lm.tokenizer.decode(first.tokens) == first.text


# ------------------------------------------------------------ command line


@pytest.mark.parametrize(
  ('config', 'arguments', 'message'),
  [
    (
      'refcritic.py:tiny',
      ['--config.phases.rl.num_critique=3'],
      "did you mean 'num_critiques'?",
    ),
    (
      'refcritic.py:tiny',
      ['--config.phases.rl.objective.name=ppo_clap'],
      "did you mean 'ppo_clip'?",
    ),
    ('refcritic.py:tinyy', [], "config: got 'tinyy'; expected one of"),
    ('refcritik.py', [], "--config: got 'configs/refcritik.py', which is no"),
  ],
)
def test_the_command_line_answers_in_one_line(
  python, tmp_path, config, arguments, message
):
  process = python(
    '-m', 'critic_jax.train', f'--config=configs/{config}',
    f'--workdir={tmp_path}/run', *arguments,
  )  # fmt: skip
  assert process.returncode == 1
  output = (process.stdout + process.stderr).strip()
  assert message in output and len(output.splitlines()) == 1
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_a_run_goes_on_with_its_layers_in_the_other_form(tmp_path):
  def config(steps, layers):
    config = short_config()
    config.order, config.evals = ('solver',), {}
    config.phases.solver.steps = steps
    config.phases.solver.optimizer.schedule = 'constant'
    for model in config.models.values():
      model.layers = layers
    return config

  whole = run(config(4, 'unrolled'), tmp_path / 'whole')
  path = run(config(2, 'unrolled'), tmp_path / 'run')
  run(config(4, 'scanned'), path)
  (step, expected), (other_step, actual) = map(last_checkpoint, (whole, path))
  assert step == other_step == 4
  assert layer_stack.is_stacked(actual['roles']['solver'])
  assert_trees_close(
    layer_stack.unstack(actual['roles']), expected['roles'], atol=1e-4
  )
  run(config(5, 'unrolled'), path)  # and back
  assert not layer_stack.is_stacked(last_checkpoint(path)[1]['roles']['solver'])
