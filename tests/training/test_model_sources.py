"""Roles of other runs as sources of models, and their export."""

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close, random_params
from loop_helpers import mesh

from configs import common
from critic_jax import convert
from critic_jax.models import forward, layer_stack, quantize
from critic_jax.models.transformer import Transformer
from critic_jax.pretrained import hf_weights, peft_adapters
from critic_jax.text import tokenizer as tokenizer_lib
from critic_jax.training import inputs, model_sources, role_checks, roles
from critic_jax.workdir import checkpoint, trained

ARITHMETIC = dict(
  module='arithmetic_tokenizer', name='tokenizer', vocab_size=640,
  num_problems=50,
)  # fmt: skip
KEY = jax.random.key(0, impl='rbg')
logits = jax.jit(forward.logits, static_argnums=0)
SECTION = common.model('nano', tokenizer=ARITHMETIC, lengths=(32,))


def save_run(path, models=None, saved=(2, 5), best=None, **changes):
  """Saves a run of the phases 'cold' (2 steps) and 'rl' (3) by hand.

  Args:
    path: its folder.
    models: by role, sections of models.
    saved: the steps that have a checkpoint.
    best: the step whose value is the largest.
    **changes: arrays of a role, by its name, in place of those drawn.

  Returns:
    The parameters by step and role.
  """
  models = models or {'critic': SECTION, 'solver': SECTION}
  config = dict(
    models=models, data={'name': 'arithmetic'}, graders={}, evals={}, seed=0,
    order=['cold', 'rl'], phases={'cold': {'steps': 2}, 'rl': {'steps': 3}},
  )  # fmt: skip
  lms = roles.make_lms(models)
  path.mkdir(parents=True)
  (path / 'config.json').write_text(json.dumps(config))
  digests = inputs.digests(lms, {}, {})
  (path / 'inputs.json').write_text(json.dumps(digests))
  params = {
    step: {
      role: random_params(lm.model, 10 * step + i)
      for i, (role, lm) in enumerate(lms.items())
    } | changes
    for step in saved
  }  # fmt: skip
  with checkpoint.make_manager(
    path / 'checkpoints', keep=9, keep_best=best is not None
  ) as manager:
    for step, tree in params.items():
      value = None if best is None else float(step == best)
      # Another item, which a role does not need.
      state = {'roles': tree, 'opt_state': {'x': jnp.ones(3)}}
      checkpoint.save(manager, step, state, value)
  return params


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """Saves a run whose best checkpoint is that of the step 4."""
  path = tmp_path_factory.mktemp('a:b c') / 'run'
  return path, save_run(path, saved=(2, 4, 5), best=4)


def read(source, role='critic', **settings):
  """Returns the parameters of a role that has a source, as a run makes them."""
  sections = {role: {**SECTION, 'source': source, **settings}}
  lms = roles.make_lms(sections)
  loaded = roles.load_params(sections)
  return roles.init_params(lms, loaded, mesh(), KEY)[role]


@pytest.mark.parametrize(
  ('name', 'role', 'step', 'saved_role'),
  [
    ('', 'critic', 5, 'critic'),
    (':rl', 'critic', 5, 'critic'),
    (':rl', 'solver', 5, 'solver'),
    (':cold', 'critic', 2, 'critic'),
    (':best', 'critic', 4, 'critic'),
    (':cold:solver', 'critic', 2, 'solver'),
    (':best:solver', 'policy', 4, 'solver'),
    ('::solver', 'policy', 5, 'solver'),
  ],
)
def test_a_role_begins_as_a_run_has_trained_it(
  run, name, role, step, saved_role
):
  path, params = run
  assert_trees_close(
    read(f'{path}{name}', role), params[step][saved_role], rtol=0
  )


def test_roles_of_one_origin_are_read_once(run, monkeypatch):
  path, _ = run
  sections = {
    role: {**SECTION, 'source': f'{path}{name}'}
    for role, name in {
      'critic': ':rl', 'ref': ':rl:critic', 'solver': ':rl',
    }.items()
  }  # fmt: skip
  loaded = roles.load_params(sections)
  assert loaded['critic'] is loaded['ref']
  assert loaded['critic'] is not loaded['solver']
  lms = roles.make_lms(sections)
  assert lms['critic'].tokenizer.files is lms['ref'].tokenizer.files
  role_checks.check_copy({'critic': 'solver'}, lms)


def test_a_phase_with_a_colon_is_found(tmp_path):
  path = tmp_path / 'run'
  save_run(path)
  text = (path / 'config.json').read_text()
  (path / 'config.json').write_text(text.replace('"cold"', '"co:ld"'))
  for name, role in (('co:ld', ''), ('co:ld:solver', 'solver')):
    assert trained.find(f'{path}:{name}') == (trained.Trained(path, 2), role)
  assert trained.find(str(tmp_path)) is None
  assert trained.find('nowhere:rl') is None


def test_a_value_model_begins_with_a_trained_trunk(run):
  path, params = run
  value = dict(read(f'{path}:rl:critic', 'value', head='value'))
  assert value.pop('scalar_head')['kernel'].shape == (32, 1)
  trunk = {k: v for k, v in params[5]['critic'].items() if k != 'lm_head'}
  assert_trees_close(value, trunk, rtol=0)


def test_a_quantized_role_comes_back_as_it_was(tmp_path):
  model = roles.make_lms({'ref': SECTION})['ref'].model
  int8 = quantize.quantize(random_params(model, 3))
  save_run(
    tmp_path / 'run', {'ref': {**SECTION, 'param_dtype': 'int8'}}, ref=int8
  )
  source = f'{tmp_path / "run"}:rl'
  assert_trees_close(read(source, 'ref'), quantize.dequantize(int8), rtol=1e-6)
  again = read(source, 'ref', param_dtype='int8')
  kernel = again['layers_0']['mlp']['up']['kernel']
  np.testing.assert_array_equal(kernel, int8['layers_0']['mlp']['up']['kernel'])


def test_a_run_with_scanned_layers_is_read_as_any_other(tmp_path):
  sections = {'critic': {**SECTION, 'layers': 'scanned'}}
  params = save_run(tmp_path / 'run', sections)[5]['critic']
  assert layer_stack.is_stacked(params)
  source = f'{tmp_path / "run"}:rl'
  read_params = read(source)
  assert_trees_close(read_params, layer_stack.unstack(params), rtol=0)
  assert_trees_close(read(source, layers='scanned'), params, rtol=0)


def test_a_run_may_begin_with_a_run(tmp_path):
  save_run(tmp_path / 'a')
  for name, source in (('b', 'a:rl'), ('c', 'b:cold')):
    section = {**SECTION, 'source': str(tmp_path / source)}
    params = save_run(tmp_path / name, {'critic': section})
  assert_trees_close(read(f'{tmp_path / "c"}:rl'), params[5]['critic'], rtol=0)
  # A circle has no model to begin with.
  text = (tmp_path / 'a/config.json').read_text()
  config = json.loads(text)
  config['models']['critic']['source'] = f'{tmp_path / "c"}:rl'
  (tmp_path / 'a/config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match='expected one that begins with weights'):
    read(f'{tmp_path / "c"}:rl')


def test_adapters_of_adapters_end_in_a_model(tmp_path):
  """Here they never do: two folders name each other."""
  golden = pathlib.Path(__file__).parents[1] / 'goldens' / 'peft'
  for name, base in ('ab', 'ba'):
    shutil.copytree(golden, tmp_path / name)
    path = tmp_path / name / peft_adapters.CONFIG
    content = json.loads(path.read_text())
    content['base_model_name_or_path'] = str(tmp_path / base)
    path.write_text(json.dumps(content))
  message = f"got the adapters '{tmp_path / 'a'}' as the model that they change"
  with pytest.raises(ValueError, match=message):
    model_sources.load(str(tmp_path / 'a'), 'critic')


def damage(path):
  file = max((path / 'checkpoints/5/roles').rglob('d/*'))
  file.write_bytes(file.read_bytes()[:-1] + b'?')


def damage_the_optimizer(path):
  file = max((path / 'checkpoints/5/opt_state').rglob('d/*'))
  file.write_bytes(b'')


def lose(path):
  shutil.rmtree(path / 'checkpoints/5')


def change_tokenizer(path):
  text = (path / 'config.json').read_text()
  (path / 'config.json').write_text(text.replace('640', '641'))


def no_config_of_a_run(path):
  (path / 'config.json').write_text('{"architectures": []}')


def no_config(path):
  (path / 'config.json').unlink()


def no_steps(path):
  text = (path / 'config.json').read_text()
  (path / 'config.json').write_text(text.replace('"steps": 3', '"steps": "x"'))


@pytest.mark.parametrize(
  ('change', 'name', 'message'),
  [
    (None, ':rll', r"got phase 'rll' .*\['cold', 'rl'\]"),
    (None, ':best', "got phase 'best' .* a best_metric"),
    (None, ':rl:solvr', "role: got 'solvr'; .*mean 'solver'"),
    (lose, '', r"got phase 'rl' .*\['cold'\]"),
    (damage, ':rl', 'got another content of roles/'),
    (damage_the_optimizer, ':rl', ''),
    (change_tokenizer, ':rl', 'tokenizer: got another content than'),
    (no_config_of_a_run, ':rl', r'got a config.json without'),
    (no_config, ':rl', 'got no config.json'),
    (no_steps, ':rl', 'config.json: got TypeError'),
  ],
)
def test_what_is_wrong_with_a_run_is_told(tmp_path, change, name, message):
  path = tmp_path / 'run'
  save_run(path)
  if change:
    change(path)
  if not message:
    read(f'{path}{name}')
    return
  with pytest.raises(ValueError, match=f'^models.critic: .*{message}') as error:
    read(f'{path}{name}')
  assert '\n' not in str(error.value)
  target = tmp_path / 'exported'
  assert convert.main([f'{path}{name}', str(target)]) == 2
  assert not target.exists()


PLACES = (
  (), ('models',), ('models', 'critic'), ('models', 'critic', 'size'),
  ('models', 'critic', 'source'), ('models', 'critic', 'tokenizer'),
  ('models', 'critic', 'tokenizer', 'vocab_size'), ('order',), ('order', 0),
  ('phases',), ('phases', 'rl'), ('phases', 'rl', 'steps'),
)  # fmt: skip
JUNK = (None, True, -1, 10**30, 0.5, '', 'x', 'x:y:z', [], [1], {}, {'x': 1})


@pytest.mark.parametrize('place', PLACES, ids=str)
def test_any_config_of_a_run_is_read_or_a_value_error(run, place, tmp_path):
  """The folder of a run may come from anybody."""
  saved, _ = run
  path = tmp_path / 'run'
  path.mkdir()
  (path / 'checkpoints').symlink_to(saved / 'checkpoints')
  text = (saved / 'config.json').read_text()
  for junk in JUNK:
    config = {'config': json.loads(text)}
    section, last = config, 'config'
    for name in place:
      section, last = section[last], name
    section[last] = junk
    (path / 'config.json').write_text(json.dumps(config['config']))
    for name in (':rl', '::solver', ''):
      try:
        model_sources.load(f'{path}{name}', 'critic')
      except ValueError as error:
        assert '\n' not in str(error)


@pytest.mark.parametrize('junk', JUNK)
def test_any_digests_of_a_run_are_read_or_a_value_error(run, junk, tmp_path):
  saved, _ = run
  path = tmp_path / 'run'
  path.mkdir()
  (path / 'checkpoints').symlink_to(saved / 'checkpoints')
  shutil.copy(saved / 'config.json', path)
  for value in (junk, {'models.critic.tokenizer': junk}):
    (path / 'inputs.json').write_text(json.dumps(value))
    try:
      model_sources.load(f'{path}:rl', 'critic')
    except ValueError as error:
      assert '\n' not in str(error)


# ----------------------------------------------------------------- export


def from_scratch(folder):
  return SECTION


def in_bfloat16(folder):
  return {**SECTION, 'param_dtype': 'bfloat16'}


def llama_with_a_template(folder):
  """Saves weights with an untied head, whose tokenizer has several files."""
  [lm] = roles.make_lms({'critic': SECTION}).values()
  template = {'chat_template': '{{ messages[0]["content"] }}?'}
  files = lm.tokenizer.files | {
    'tokenizer_config.json': json.dumps(template).encode()
  }
  config = dataclasses.replace(
    lm.model.config, qk_norm=False, tie_embeddings=False, rope_theta=5e5
  )
  params = random_params(Transformer(config), 7)
  hf_weights.save(folder, config, params, tokenizer_lib.from_files(files))
  return {**SECTION, 'source': str(folder)}


@pytest.mark.parametrize(
  'make', [from_scratch, in_bfloat16, llama_with_a_template]
)
def test_an_exported_critic_is_the_critic(tmp_path, make, capsys):
  section = make(tmp_path / 'source')
  params = save_run(tmp_path / 'run', {'critic': section, 'solver': section})
  folder = tmp_path / 'exported'
  assert convert.main([f'{tmp_path / "run"}:cold', str(folder)]) == 0
  files = {p.name for p in folder.iterdir()}
  assert files >= {'config.json', 'model.safetensors', 'tokenizer.model'}
  assert all(name in capsys.readouterr().out for name in ['model.safetensors'])

  # A run that begins with the folder has the same tokens and logits.
  exported = {**section, 'source': str(folder)}
  old, new = (
    roles.make_lms({'critic': part})['critic'] for part in (section, exported)
  )
  assert new.model == old.model
  assert files >= {*old.tokenizer.files, 'tokenizer.json'}
  model = 'tokenizer.model'
  assert new.tokenizer.files[model] == old.tokenizer.files[model]
  for name in ('vocab_size', 'eos', 'pad', 'bos', 'special', 'chat_template'):
    assert getattr(new.tokenizer, name) == getattr(old.tokenizer, name)
  prompt = 'Step 1: 5 + 2 = 7'
  tokens = np.array([new.encode_prompt(prompt)])
  np.testing.assert_array_equal(tokens, [old.encode_prompt(prompt)])
  loaded = roles.load_params({'critic': exported})
  critic = roles.init_params({'critic': new}, loaded, mesh(), KEY)['critic']
  np.testing.assert_array_equal(
    logits(new.model, critic, tokens),
    logits(old.model, params[2]['critic'], tokens),
  )


def test_another_role_is_exported_by_its_name(run, tmp_path, capsys):
  path, params = run
  folder = tmp_path / 'solver'
  assert convert.main([f'{path}:best:solver', str(folder)]) == 0
  assert_trees_close(
    hf_weights.load_weights(folder)[1], params[4]['solver'], rtol=0
  )
  assert convert.main([f'{path}:best:value', str(tmp_path / 'x')]) == 2
  error = capsys.readouterr().err
  assert "got 'value'; expected one of ['critic', 'solver']" in error


def test_a_run_is_not_replaced_by_its_export(run, capsys):
  path, _ = run
  config = (path / 'config.json').read_bytes()
  assert convert.main([f'{path}:rl', str(path), '--overwrite']) == 2
  assert 'the folder of a run' in capsys.readouterr().err
  assert (path / 'config.json').read_bytes() == config
