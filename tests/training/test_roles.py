import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
  FAMILIES,
  assert_trees_close,
  byte_tokenizer,
  random_params,
  tiny_config,
)
from vocabularies import gguf_metadata

from configs import common
from critic_jax.models import layer_stack, quantize
from critic_jax.models.config import attention_program
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.pretrained import gguf_import, hf_weights
from critic_jax.rollouts.styles import instruct
from critic_jax.runtime import sharding
from critic_jax.sampling.lm import LM
from critic_jax.text import tokenizer
from critic_jax.training import role_checks, roles
from critic_jax.types import Recipe

ARITHMETIC = dict(
  module='arithmetic_tokenizer',
  name='tokenizer',
  vocab_size=640,
  num_problems=50,
)
LENGTHS = dict(lengths=(16, 32), max_new_tokens=8)
KEY = jax.random.key(0, impl='rbg')  # it compiles in a third of the time


@pytest.fixture
def source(monkeypatch):
  """Stores a model of one layer; returns a list of what was read."""
  config = tiny_config(
    'qwen2', num_layers=1, vocab_size=264, tie_embeddings=False
  )
  params = jax.tree.map(np.asarray, random_params(Transformer(config), seed=7))
  read = []

  def load_config_and_tokenizer(source):
    read.append(source)
    return config, byte_tokenizer()

  def load_weights(source):
    read.append(source)
    return config, params

  for function in (load_config_and_tokenizer, load_weights):
    monkeypatch.setattr(hf_weights, function.__name__, function)
  return read, params


@pytest.fixture(scope='module')
def mesh():
  return sharding.make_mesh({}, jax.devices()[:1])


def loaded(**settings):
  return common.model(source='folder', **LENGTHS, **settings)


def test_a_source_is_read_once(source):
  read, params = source
  sections = {
    'critic': loaded(prompts='instruct'),
    'value': loaded(head='value'),
  }
  lms = roles.make_lms(sections)
  assert read == ['folder']
  params_by_role = roles.load_params(sections)
  assert read == ['folder', 'folder']
  assert (
    params_by_role['critic'] is params and params_by_role['value'] is params
  )
  assert lms['critic'].model.config.head == 'lm'
  assert lms['value'].model.config.head == 'value'
  other = common.model(source='elsewhere', **LENGTHS)
  sections = {'critic': loaded(), 'solver': other}
  roles.make_lms(sections)
  assert read[2:] == ['folder', 'elsewhere']
  roles.load_params(sections)
  assert read[4:] == ['folder', 'elsewhere']


def test_settings_reach_the_lm(source):
  section = loaded(
    dtype='bfloat16', param_dtype='bfloat16', remat='full', prompts='instruct',
    temperature=0.5, top_k=7, top_p=0.9, max_rows=4,
  )  # fmt: skip
  [lm] = roles.make_lms({'critic': section}).values()
  config = lm.model.config
  assert (config.dtype, config.param_dtype, config.remat) == (
    'bfloat16', 'bfloat16', 'full',
  )  # fmt: skip
  assert config.qkv_bias and config.vocab_size == 264  # of the source
  assert lm.sampling_params == SamplingParams(0.5, 7, 0.9)
  assert lm.stages == instruct.STAGES
  assert (lm.lengths, lm.max_new_tokens, lm.max_rows) == ((16, 32), 8, 4)


@pytest.mark.parametrize(
  'platform, setting, changes, program',
  [
    ('cpu', 'auto', {}, 'xla'),
    ('tpu', 'auto', {}, 'splash'),
    ('tpu', 'xla', {}, 'xla'),
    ('tpu', 'auto', dict(dtype='float16'), 'xla'),
    (
      'tpu',
      'splash',
      dict(dtype='float16'),
      "got 'splash' for float16; expected float32 or bfloat16; set",
    ),
    ('tpu', 'cudnn', {}, "got 'cudnn' for TPUs; expected NVIDIA's GPUs"),
    ('cpu', 'splash', {}, "got 'splash' for CPUs; expected TPUs"),
    ('gpu', 'auto', dict(dtype='bfloat16'), 'cudnn'),
    ('gpu', 'auto', {}, 'xla'),
    ('gpu', 'cudnn', {}, "got 'cudnn' for float32; expected bfloat16 or"),
    ('other_gpu', 'auto', dict(dtype='bfloat16'), 'xla'),
    ('other_gpu', 'cudnn', {}, "got 'cudnn' for AMD's or older GPUs; expected"),
  ],
)
def test_attention_follows_the_platform(
  source, platform, setting, changes, program
):
  section = loaded(attention=setting, **changes)
  if program in ('xla', 'splash', 'cudnn'):
    [lm] = roles.make_lms({'critic': section}, platform=platform).values()
    assert lm.model.config.attention == program
    return
  with pytest.raises(ValueError, match=re.escape(program)):
    roles.make_lms({'critic': section}, platform=platform)


@pytest.mark.parametrize(
  ('kernel', 'platform', 'head_dim', 'limits'),
  [
    ('cudnn', 'gpu', 12, 'heads of 8, 16, ..., 128'),
    ('cudnn', 'gpu', 256, 'heads of 8, 16, ..., 128'),
    ('splash', 'tpu', 514, 'heads of 512 at most'),
  ],
)
def test_a_kernel_has_limits(kernel, platform, head_dim, limits):
  config = tiny_config(dtype='bfloat16', head_dim=head_dim)
  reason = f'{kernel} computes {limits}, not heads of {head_dim}'
  assert attention_program('auto', platform, config) == ('xla', reason)
  message = f'got {kernel!r} for heads of {head_dim}; expected {limits}'
  with pytest.raises(ValueError, match=re.escape(message)):
    attention_program(kernel, platform, config)


@pytest.mark.parametrize('layers', ['auto', 'scanned', 'unrolled'])
def test_layers_are_loaded_in_the_form_of_the_platform(source, mesh, layers):
  sections = {'critic': loaded(layers=layers)}
  lms = roles.make_lms(sections, platform='tpu')
  params = roles.init_params(
    lms, roles.load_params(sections), mesh, jax.random.key(0)
  )['critic']
  is_stacked = layers != 'unrolled'
  assert layer_stack.is_stacked(params) == is_stacked
  assert_trees_close(layer_stack.unstack(params), source[1], rtol=0)


def test_the_date_of_a_run_reaches_its_prompts(monkeypatch):
  template = '{{ strftime_now("%d %b %Y") }}{{ messages[0].content }}<|im_end|>'
  metadata = gguf_metadata() | {'tokenizer.chat_template': template}
  dated = tokenizer.from_files(gguf_import.tokenizer_files(metadata))
  config = tiny_config(vocab_size=264)
  monkeypatch.setattr(
    hf_weights, 'load_config_and_tokenizer', lambda path: (config, dated)
  )
  sections = {'critic': loaded(), 'solver': loaded()}
  for lm in roles.make_lms(sections, date='2024-07-26').values():
    prompt = lm.tokenizer.decode(lm.encode_prompt('Why?'))
    assert prompt == '26 Jul 2024Why?'


def test_a_role_from_scratch_has_no_parameters_yet():
  section = common.model('nano', tokenizer=ARITHMETIC, **LENGTHS)
  lms = roles.make_lms({'critic': section})
  assert roles.load_params({'critic': section}) == {}
  assert lms['critic'].tokenizer.vocab_size == 640
  assert lms['critic'].model.config.vocab_size == 640
  assert lms['critic'].model.config.embed_dim == 32


@pytest.mark.parametrize(
  ('section', 'message'),
  [
    (
      common.model('nanno', tokenizer=ARITHMETIC, **LENGTHS),
      "models.critic: size: got 'nanno'; expected one of ['gemma-3-12b', ",
    ),
    (
      common.model('nano', tokenizer=dict(module='x', name='y'), **LENGTHS),
      'models.critic: tokenizer: module of critic_jax.tasks: '
      "got 'x'; expected one of",
    ),
    (
      common.model('nano', tokenizer='nowhere', **LENGTHS),
      "models.critic: tokenizer: got 'nowhere'; expected a folder",
    ),
    (loaded(top_p=0.0), 'models.critic: top_p: got 0.0; expected in (0, 1]'),
    (loaded(head='lmm'), "models.critic: head: got 'lmm'; expected one of"),
    (loaded(remat='all'), "models.critic: remat: got 'all'; expected one of"),
    (
      loaded(attention='splash'),
      "models.critic: attention: got 'splash' for CPUs; expected TPUs; set "
      "attention='auto'",
    ),
    (
      loaded(attention='flash'),
      "models.critic: attention: got 'flash'; expected one of ['auto', 'xla', "
      "'splash', 'cudnn']",
    ),
    (
      loaded(prompts='p'),
      'models.critic: prompts: module of critic_jax.rollouts.styles: '
      "got 'p'; expected one of",
    ),
    (
      loaded(max_rows=3),
      'models.critic: max_rows: got 3; expected a power of two',
    ),
  ],
)
def test_errors_name_the_role(source, section, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    roles.make_lms({'critic': section})


def test_init_params_loads_and_draws(source, mesh):
  sections = {
    'critic': loaded(param_dtype='bfloat16'),
    'value': loaded(head='value'),
  }
  lms, loaded_params = roles.make_lms(sections), roles.load_params(sections)
  params = roles.init_params(lms, loaded_params, mesh, KEY)
  _, stored = source
  assert {x.dtype for x in jax.tree.leaves(params['critic'])} == {
    jnp.dtype('bfloat16')
  }
  assert_trees_close(params['critic'], stored, rtol=0.01)
  # The value's head is drawn, since the source has none; its lm_head is gone.
  value = dict(params['value'])
  head = value.pop('scalar_head')['kernel']
  assert head.shape == (32, 1) and np.std(head) > 0
  trunk = {k: v for k, v in stored.items() if k != 'lm_head'}
  assert_trees_close(value, trunk, rtol=0)


def test_roles_from_scratch_differ(mesh):
  section = common.model('nano', tokenizer=ARITHMETIC, **LENGTHS)
  lms = roles.make_lms({'critic': section, 'solver': section})
  params = roles.init_params(lms, {}, mesh, KEY)
  critic, solver = (
    params[role]['embed']['embedding'] for role in ('critic', 'solver')
  )
  assert np.mean(critic == solver) < 0.01


def test_a_role_is_drawn_as_without_the_others(mesh):
  """So an arm more in a config leaves the other arms' numbers as they were."""
  section = common.model('nano', tokenizer=ARITHMETIC, **LENGTHS)

  def drawn(*names):
    lms = roles.make_lms(dict.fromkeys(names, section))
    return roles.init_params(lms, {}, mesh, KEY)

  alone = drawn('critic', 'solver')
  beside = drawn('cold', 'critic', 'ref', 'solver')
  for role, params in alone.items():
    assert_trees_close(beside[role], params, rtol=0)


def make_params(seed, **changes):
  return random_params(Transformer(tiny_config(num_layers=1, **changes)), seed)


def test_copy_takes_the_trunk_and_keeps_the_own_head():
  value, critic = make_params(0, head='value'), make_params(1)
  result = roles.copy(value, critic)
  assert jax.tree.structure(result) == jax.tree.structure(value)
  assert_trees_close(result['scalar_head'], value['scalar_head'], rtol=0)
  for name in critic:
    assert_trees_close(result[name], critic[name], rtol=0)
  # And back: the critic gets the value's trunk, and no scalar head.
  result = roles.copy(critic, value)
  assert jax.tree.structure(result) == jax.tree.structure(critic)
  assert_trees_close(result['layers_0'], value['layers_0'], rtol=0)


def test_copy_keeps_the_form_of_layers():
  ref, critic = make_params(0), make_params(1)
  stacked = roles.copy(layer_stack.stack(ref), critic)
  assert_trees_close(stacked, layer_stack.stack(critic), rtol=0)
  assert_trees_close(roles.copy(ref, stacked), critic, rtol=0)
  stacked = roles.copy(layer_stack.stack(quantize.quantize(ref)), critic)
  int8 = layer_stack.stack(quantize.quantize(critic))
  assert_trees_close(stacked, int8, rtol=0)


def test_copy_takes_a_head_that_both_have():
  ref, critic = (make_params(s, tie_embeddings=False) for s in (0, 1))
  assert_trees_close(roles.copy(ref, critic), critic, rtol=0)


def test_a_copy_survives_the_donation_of_its_source():
  ref, critic = make_params(0), make_params(1)
  expected = jax.tree.map(np.array, critic)
  result = roles.copy(ref, critic)
  for x in jax.tree.leaves(critic):  # as donating them to an update does
    x.delete()
  assert_trees_close(result, expected, rtol=0)


def test_copy_keeps_the_dtype_of_the_target():
  ref, critic = make_params(0, param_dtype='bfloat16'), make_params(1)
  result = roles.copy(ref, critic)
  assert {x.dtype for x in jax.tree.leaves(result)} == {jnp.dtype('bfloat16')}
  assert_trees_close(result, critic, rtol=0.01)


@pytest.mark.parametrize('policy', ['critic', 'policy', 'solver', 'a', 'z'])
def test_the_order_of_copies_does_not_matter(policy):
  """The reference keeps the policy that the cold start replaces."""
  params = {
    name: make_params(seed)
    for seed, name in enumerate((policy, 'ref', 'cold', 'value'))
  }
  expected = {**params, 'ref': params[policy], policy: params['cold']}
  copies = {'ref': policy, policy: 'cold'}
  for items in (
    copies.items(),
    reversed(copies.items()),
    sorted(copies.items()),
  ):
    result = roles.copy_roles(params, dict(items))
    assert list(result) == list(params)
    assert_trees_close(result, expected, rtol=0)
  # Two roles may also change places.
  result = roles.copy_roles(params, {'ref': 'cold', 'cold': 'ref'})
  assert_trees_close(result['ref'], params['cold'], rtol=0)
  assert_trees_close(result['cold'], params['ref'], rtol=0)


def test_roles_of_other_tokenizers_are_not_copied():
  vocabulary = dict(ARITHMETIC, num_problems=20)
  lms = roles.make_lms(
    {
      name: common.model('nano', tokenizer=tokenizer, **LENGTHS)
      for name, tokenizer in (
        ('solver', ARITHMETIC),
        ('critic', ARITHMETIC),
        ('fewer', dict(ARITHMETIC, vocab_size=600)),
        ('other', vocabulary),
      )
    }
  )
  # A chat template alone is no other vocabulary.
  tokenizer = dataclasses.replace(
    lms['critic'].tokenizer, chat_template='{{ messages }}', files={}
  )
  lms['critic'] = dataclasses.replace(lms['critic'], tokenizer=tokenizer)
  role_checks.check_copy(dict(critic='solver', solver='critic'), lms)
  reads = Recipe(None, None, trained=('solver', 'critic'), scored=('critic',))
  role_checks.check_recipe(reads, lms)
  for source in ('fewer', 'other'):
    copies = dict(solver='critic', critic=source)
    message = f'copy: got critic={source}, whose tokenizers'
    with pytest.raises(ValueError, match=message):
      role_checks.check_copy(copies, lms)
    message = f'models.{source}: got another vocabulary than .* models.solver'
    for change in (dict(scored=(source,)), dict(trained=('solver', source))):
      with pytest.raises(ValueError, match=message):
        role_checks.check_recipe(reads._replace(**change), lms)


def test_a_role_reads_rows_as_long_as_another_writes():
  section = common.model('nano', tokenizer=ARITHMETIC, **LENGTHS)
  lm = roles.make_lms({'solver': section})['solver']
  config = dataclasses.replace(lm.model.config, max_len=16)
  short = LM(
    Transformer(config), lm.tokenizer, lm.stages, lm.sampling_params, 4, (8,)
  )
  recipe = Recipe(None, None, trained=('solver',), scored=('ref',))
  with pytest.raises(ValueError, match='models.ref: got .* at most 16 tokens'):
    role_checks.check_recipe(recipe, {'solver': lm, 'ref': short})


@pytest.mark.parametrize('change', [dict(mlp_dim=96), dict(num_layers=2)])
def test_copy_between_different_models(change):
  with pytest.raises(ValueError, match='copy: got two models of different si'):
    roles.copy(
      random_params(Transformer(tiny_config(**{'num_layers': 1, **change}))),
      make_params(0),
    )


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('param_dtype', ['float32', 'bfloat16', 'int8'])
def test_what_is_cast_to_sample_with_computes_the_same(family, param_dtype):
  """Matrices are cast where they are used; norms, scales and int8 are not."""
  config = tiny_config(family, num_layers=1, dtype='bfloat16')
  params = random_params(Transformer(config), seed=3)
  if param_dtype == 'int8':
    params = quantize.quantize(params)
  else:
    params = jax.tree.map(lambda x: x.astype(param_dtype), params)
  config = dataclasses.replace(config, param_dtype=param_dtype)
  layout = sharding.replicated(sharding.make_mesh({}))
  params = jax.device_put(params, layout)
  forms = roles.as_sampled(
    config,
    jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout), params
    ),
  )
  cast_params = sharding.reshard(params, forms)
  dtypes = jax.tree.map(lambda x: x.dtype.name, cast_params)
  assert dtypes == jax.tree.map(lambda x: x.dtype.name, forms)
  is_int8, is_float32 = param_dtype == 'int8', param_dtype == 'float32'
  assert dtypes['embed']['embedding'] == ('int8' if is_int8 else 'bfloat16')
  vector = 'float32' if is_int8 or is_float32 else 'bfloat16'
  assert dtypes['final_norm']['scale'] == vector
  model = Transformer(config)
  tokens = jnp.arange(6)[None]
  results = []
  for tree in (params, cast_params):
    hidden, cache = model.apply({'params': tree}, tokens)
    logits = model.apply({'params': tree}, hidden, method='logits')
    results.append((hidden, cache, logits))
  jax.tree.map(np.testing.assert_array_equal, *results)
