"""Roles with adapters: one base in memory, what is trained, saved, resumed."""

import io
import json
import os
import re
import shutil
import signal

import jax
import numpy as np
import pytest
from helpers import assert_trees_close, random_params
from loop_helpers import mesh
from rich.console import Console
from run_helpers import assert_same, last_checkpoint, run

from configs import refcritic
from configs.evaluate import get_config as evaluation
from critic_jax import convert, evaluate
from critic_jax.inference import interactive
from critic_jax.models import forward, lora, quantize
from critic_jax.pretrained import hf_weights, peft_adapters
from critic_jax.training import (
  adapters,
  eval_phases,
  model_sources,
  phases,
  roles,
)
from critic_jax.workdir import run_dir

LORA = dict(rank=2, alpha=4.0, targets='attention/.*', dropout=0.25)
KEY = jax.random.key(0, impl='rbg')
logits = jax.jit(forward.logits, static_argnums=0)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Saves random weights of the smallest model."""
  path = tmp_path_factory.mktemp('weights')
  models = refcritic.get_config('tiny').models
  lm = roles.make_lms({'critic': models.critic})['critic']
  params = random_params(lm.model)
  hf_weights.save(path, lm.model.config, params, lm.tokenizer)
  return str(path)


def adapted(folder, steps=3):
  """Configures RL of adapters with a penalty to the base, all of one source."""
  config = refcritic.get_config('tiny')
  config.order, config.phases.rl.copy = ('rl',), {}
  del config.models.cold
  for section in config.models.values():
    section.size, section.source = '', folder
  config.models.ref = config.models.solver.copy_and_resolve_references()
  config.models.critic.lora = LORA
  config.data.num_train = 4  # the same problems in every step
  config.phases.rl.update(
    dict(steps=steps, checkpoint_every=2, microbatches=2, staleness=1)
  )
  config.phases.rl.kl.coef = 0.1
  config.phases.rl.optimizer.learning_rate = 0.01
  config.evals.heldout.after = ('rl',)
  config.evals.heldout.num_examples = 2
  return config


@pytest.fixture(scope='module')
def trained_run(folder, tmp_path_factory):
  """Trains three steps."""
  path = tmp_path_factory.mktemp('run') / 'run'
  run(adapted(folder), path)
  return path


def nbytes(trees):
  """Returns the bytes of the arrays of trees, each counted once."""
  return sum(
    x.nbytes for x in {id(x): x for x in jax.tree.leaves(trees)}.values()
  )


def test_roles_of_one_source_are_one_base_and_the_adapters(folder):
  config = adapted(folder)
  lms = roles.make_lms(config.models)
  loaded = roles.load_params(config.models)
  before = jax.live_arrays()
  params = roles.init_params(lms, loaded, mesh(), KEY)
  base, part = nbytes(params['ref']), lora.split(params['critic'])[0]
  assert 0 < nbytes(part) < base / 10
  assert nbytes(params) == base + nbytes(part)
  known = {*map(id, before)}
  new = [x for x in jax.live_arrays() if id(x) not in known]
  assert nbytes(new) == base + nbytes(part)
  # A role that is trained itself has arrays of its own.
  params = roles.init_params(lms, loaded, mesh(), KEY, own=['critic'])
  assert nbytes(params) == 2 * base + nbytes(part)


def test_only_adapters_are_trained_and_saved(folder, trained_run):
  _, tree = last_checkpoint(trained_run)
  assert {*tree['roles']} == {'critic'}
  assert {*tree['roles']['critic']} == {'layers_0'}
  part = tree['roles']['critic']['layers_0']
  assert {*part} == {'attention'} and {*part['attention']} == {*'qkvo'}
  assert {*part['attention']['q']} == {lora.A, lora.B}
  assert all(np.any(part['attention'][x][lora.B]) for x in 'qkvo')
  moments = [x for x in jax.tree.leaves(tree['opt_state']) if x.ndim]
  assert sum(x.size for x in moments) == 2 * sum(
    x.size for x in jax.tree.leaves(part)
  )


def test_a_run_is_resumed_bit_for_bit(
  folder, trained_run, tmp_path, monkeypatch
):
  """It is told to end while a batch is in flight, and begins again."""
  log = run_dir.RunDir.log_metrics

  def log_and_end(self, step, *arguments):
    log(self, step, *arguments)
    if step == 0:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(run_dir.RunDir, 'log_metrics', log_and_end)
    with pytest.raises(SystemExit):
      run(adapted(folder), tmp_path)
  step, tree = last_checkpoint(tmp_path)
  assert step == 1 and {*tree['roles']} == {'critic'}
  assert (tmp_path / 'checkpoints' / '1' / 'before').exists()
  run(adapted(folder), tmp_path)
  assert_same(tmp_path, trained_run)


def test_an_evaluation_takes_the_base_from_its_source(
  folder, trained_run, tmp_path
):
  config = evaluation('run')
  config.checkpoint, config.compile_ahead = str(trained_run), False
  evaluate.run(config, tmp_path / 'eval', Console(file=io.StringIO()))
  after, again = (
    eval_phases.records_path(path, 'heldout', stem).read_bytes()
    for path, stem in ((trained_run, 'rl'), (tmp_path / 'eval', 'evaluation'))
  )
  assert after == again


def test_what_is_exported_is_what_was_trained(folder, trained_run, tmp_path):
  """Merged, and as adapters beside their model, which may be a source again."""
  source = f'{trained_run}:rl'
  merged, alone = tmp_path / 'merged', tmp_path / 'alone'
  assert convert.main([source, str(merged)]) == 0
  assert convert.main([source, str(alone), '--adapters']) == 0
  assert {path.name for path in alone.iterdir()} == {
    peft_adapters.CONFIG, peft_adapters.WEIGHTS,
  }  # fmt: skip
  modes = {path.stat().st_mode for x in (merged, alone) for path in x.iterdir()}
  assert len(modes) == 1  # those that others read, too
  _, tree = last_checkpoint(trained_run)
  config = adapted(folder)
  lms = roles.make_lms(config.models)
  [base] = {
    id(x): x for x in roles.load_params(config.models).values()
  }.values()
  whole = lora.join(base, tree['roles']['critic'])
  tokens = np.arange(24, dtype=np.int32).reshape(2, 12)
  expected = logits(lms['critic'].model, whole, tokens)
  plain = lms['solver'].model
  assert np.abs(logits(plain, base, tokens) - expected).max() > 1e-2
  for name in (source, str(merged), str(alone)):
    _, params, _ = model_sources.load(name, 'critic')
    actual = logits(plain, params, tokens)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
  # A role that is the base is read from its source.
  _, params, _ = model_sources.load(f'{trained_run}:rl:solver', 'critic')
  assert_trees_close(params, base, rtol=0)
  # The name of its model is mended where it is.
  path = alone / peft_adapters.CONFIG
  path.write_text(path.read_text().replace(folder, 'some/model'))
  message = f"{path}: base_model_name_or_path: path: got 'some/model'"
  with pytest.raises(ValueError, match=re.escape(message)):
    model_sources.load(str(alone), 'critic')


def test_a_critic_beside_an_int8_base_is_asked_as_it_was_trained(
  folder, trained_run, tmp_path
):
  """Its merged matrices are not rounded to int8 again."""
  path = shutil.copytree(trained_run, tmp_path / 'run')
  config = json.loads((path / 'config.json').read_text())
  for section in config['models'].values():
    section['param_dtype'] = 'int8'
  (path / 'config.json').write_text(json.dumps(config))
  loop = interactive.load(f'{path}:rl')
  _, tree = last_checkpoint(path)
  model = roles.make_lms(config['models'])['critic'].model
  [base, *_] = roles.load_params(config['models']).values()
  trained = lora.join(quantize.quantize(base), tree['roles']['critic'])
  tokens = np.arange(24, dtype=np.int32).reshape(2, 12)
  np.testing.assert_allclose(
    logits(loop.critic.lm.model, loop.critic.params, tokens),
    logits(model, trained, tokens),
    atol=1e-4,
  )
  assert loop.solver.lm.model.config.param_dtype == 'int8'


def test_another_base_is_refused(folder, trained_run, tmp_path):
  shutil.copytree(trained_run, tmp_path / 'run')
  other = tmp_path / 'other'
  config, params = hf_weights.load_weights(folder)
  params['final_norm']['scale'] = params['final_norm']['scale'] + 1
  tokenizer = hf_weights.load_config_and_tokenizer(folder)[1]
  hf_weights.save(other, config, params, tokenizer)
  path = tmp_path / 'run' / 'config.json'
  path.write_text(path.read_text().replace(folder, str(other)))
  message = 'models.critic: source: got other weights at .* than the adapters'
  with pytest.raises(ValueError, match=message):
    model_sources.load(f'{tmp_path / "run"}:rl', 'critic')


def test_a_run_elsewhere_says_where_it_looks(trained_run, folder, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(trained_run, run)
  path = run / 'config.json'
  path.write_text(path.read_text().replace(folder, 'models/mine'))
  message = 'the folder that it was trained in, start there, and not in /'
  with pytest.raises(ValueError, match=message):
    model_sources.load(f'{run}:rl', 'critic')


def test_copies_of_adapters(folder):
  config = adapted(folder)
  config.models.ref.lora = LORA
  lms = roles.make_lms(config.models)
  params = roles.init_params(lms, roles.load_params(config.models), mesh(), KEY)
  changed = jax.tree.map(lambda x: x + 1, lora.split(params['critic'])[0])
  params['critic'] = lora.join(params['critic'], changed)
  copied = roles.copy_roles(params, {'ref': 'critic'})['ref']
  assert_trees_close(copied, params['critic'], rtol=0)
  base = lora.split(copied)[1]
  assert nbytes([base, params['solver']]) == nbytes(base)  # is not copied
  a, b = (jax.tree.leaves(lora.split(x)[0]) for x in (copied, params['critic']))
  assert not {*map(id, a)} & {*map(id, b)}


@pytest.mark.parametrize(
  ('role', 'changes', 'message'),
  [
    ('critic', dict(lora=LORA | dict(rank=-1)), 'critic: lora: rank: got -1'),
    (
      'critic',
      dict(lora=LORA | dict(rnk=1)),
      "lora: setting of lora: got 'rnk'",
    ),
    ('critic', dict(source='', size='nano'), 'lora: got a model that is drawn'),
    ('critic', dict(head='value', param_dtype='int8'), 'lora: got head='),
  ],
)
def test_settings_that_do_not_fit_are_refused(folder, role, changes, message):
  config = adapted(folder)
  with config.unlocked():
    for name, value in changes.items():
      config.models[role][name] = value
  with pytest.raises(ValueError, match=message):
    roles.make_lms(config.models)


def test_only_like_adapters_are_copied(folder):
  config = adapted(folder)
  lms = roles.make_lms(config.models)
  config.phases.rl.copy = dict(ref='critic')
  message = 'phases.rl: copy: got ref=critic, of which one has adapters'
  with pytest.raises(ValueError, match=message):
    phases.make_phases(config, lms, None)
  adapters.check_copies(config.models, dict(ref='solver'))
  config.models.ref.lora = LORA
  adapters.check_copies(config.models, dict(ref='critic'))
  config.models.ref.source += '/.'
  with pytest.raises(
    ValueError, match='roles of one source with the same lora'
  ):
    adapters.check_copies(config.models, dict(ref='critic'))


def test_adapters_that_nothing_trains_are_refused(folder):
  config = adapted(folder)
  config.models.solver.lora = LORA
  message = 'models.solver.lora: got rank=2 of a role that no phase trains'
  with pytest.raises(ValueError, match=message):
    phases.make_phases(config, roles.make_lms(config.models), None)
