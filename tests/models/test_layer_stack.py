import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
  FAMILIES,
  VOCAB_SIZE,
  assert_trees_close,
  slow,
  tiny_config,
  tiny_model,
)

from critic_jax.models import forward, layer_stack, quantize, transformer
from critic_jax.models.config import concrete
from critic_jax.models.transformer import REMAT_POLICIES, Transformer
from critic_jax.runtime import sharding
from critic_jax.sampling import decode
from critic_jax.sampling.lanes import SharedPrefixes, empty_lanes
from critic_jax.training import optimizer

PLAIN = decode.SamplingParams()


def forms(family='qwen3', **changes):
  """Makes a model and its parameters in both forms."""
  model, params = tiny_model(family, **changes)
  on_host = jax.tree.map(np.asarray, params)  # there nothing is compiled
  return (model, params), (scanned(model), layer_stack.stack(on_host))


def scanned(model):
  config = dataclasses.replace(model.config, layers='scanned')
  return Transformer(config)


def assert_equal(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def packed_batch(columns=40):
  """Makes two rows of three segments: two follow the first."""
  random = np.random.default_rng(0)
  segments = np.repeat([[0, 1, 2]], [16, 12, 12], axis=1)
  places = np.concatenate([np.arange(16), *[np.arange(16, 28)] * 2])[None]
  layout = forward.Layout(segments, np.zeros_like(segments), places)
  tokens = random.integers(0, VOCAB_SIZE, (2, columns))
  return jnp.asarray(tokens), jax.tree.map(
    lambda x: jnp.asarray(np.repeat(x, 2, 0)), layout
  )


@pytest.mark.parametrize('family', ['gemma3', 'qwen3_moe', *slow(*FAMILIES)])
def test_both_forms_compute_the_same(family):
  tokens, layout = packed_batch()

  def loss(model, params):
    logprobs, entropy = forward.token_statistics(
      model, params, tokens, layout=layout
    )
    return jnp.sum(logprobs), (logprobs, entropy)

  gradient = jax.jit(
    jax.value_and_grad(loss, 1, has_aux=True), static_argnums=0
  )
  unrolled, stacked = (gradient(*form) for form in forms(family))
  assert_trees_close(stacked[0], unrolled[0], atol=2e-5, rtol=2e-5)
  assert_trees_close(
    layer_stack.unstack(stacked[1]), unrolled[1], atol=2e-4, rtol=1e-4
  )


def test_every_remat_has_the_same_gradient():
  tokens, _ = packed_batch()

  def gradient(model, params):
    loss = lambda p: jnp.sum(forward.token_values(model, p, tokens))  # noqa: E731
    return jax.jit(jax.grad(loss))(params)

  (model, params), (_, stacked) = forms(head='value')
  expected = gradient(model, params)
  for remat in ('none', *REMAT_POLICIES):
    config = dataclasses.replace(model.config, remat=remat, layers='scanned')
    actual = gradient(Transformer(config), stacked)
    assert_trees_close(
      layer_stack.unstack(actual), expected, atol=2e-4, rtol=1e-4
    )


@pytest.mark.parametrize('family', ['gemma3', *slow(*FAMILIES)])
def test_both_forms_sample_the_same(family):
  random = np.random.default_rng(0)
  prefix = random.integers(1, VOCAB_SIZE, (1, 6))
  suffixes = random.integers(1, VOCAB_SIZE, (2, 4))
  settings = dict(eos=jnp.array([3]), sampling_params=PLAIN)

  def sample(model, params):
    lanes = empty_lanes(model, 2, 1, 2, 12, 8)
    lanes = decode.insert(
      model, params, lanes, jnp.arange(2), suffixes, jnp.array([10, 8]),
      jax.random.split(jax.random.key(0), 4),
      shared_prefixes=SharedPrefixes(prefix, jnp.array([6]), jnp.array([0, 0])),
      **settings,
    )  # fmt: skip
    return decode.decode(model, params, lanes, 2, **settings).samples

  unrolled, stacked = (sample(*form) for form in forms(family))
  np.testing.assert_array_equal(stacked.tokens, unrolled.tokens)
  np.testing.assert_array_equal(stacked.length, unrolled.length)
  np.testing.assert_allclose(stacked.logprobs, unrolled.logprobs, atol=1e-5)
  assert np.min(unrolled.length) > 0 and np.max(unrolled.length) > 3


def test_decoding_reads_layers_as_a_tpu_stores_them(monkeypatch):
  _, (model, params) = forms(embed_dim=128, param_dtype='int8')
  cache = jax.eval_shape(lambda: transformer.empty_cache(model.config, 2, 4))
  cache = jax.tree.map(lambda x: np.full(x.shape, 0.5, x.dtype), cache)
  tokens, mask = np.array([[5], [7]]), np.ones((2, 1, 4), bool)

  def decode_token():
    def compute(params, cache):
      return model.apply(
        {'params': params}, tokens, mask=mask, cache=cache, slot=3
      )

    return jax.jit(compute)(params, cache)

  expected, calls = decode_token(), []

  def on_a_tpu(*args, tpu, default):
    calls.append(default)
    return tpu(*args)

  monkeypatch.setattr(jax.lax, 'platform_dependent', on_a_tpu)
  assert_trees_close(decode_token(), expected, atol=1e-5, rtol=1e-5)
  assert len(calls) == 1
  # Columns that fill the lanes are stored as they are multiplied.
  _, (model, params) = forms(embed_dim=128, mlp_dim=256)
  decode_token()
  assert len(calls) == 1


def test_both_forms_begin_with_the_same_numbers():
  model = Transformer(tiny_config(param_dtype='int8'))  # made of floats
  init = jax.jit(transformer.init_params, static_argnums=0)
  expected = init(model, jax.random.key(3))
  actual = init(scanned(model), jax.random.key(3))
  assert_equal(actual, layer_stack.stack(expected))
  shapes = nn.meta.unbox(transformer.abstract_params(scanned(model)))
  assert jax.tree.map(jnp.shape, actual) == jax.tree.map(jnp.shape, shapes)


def test_int8_of_both_forms_is_the_same():
  (_, params), (_, stacked) = forms('qwen2')
  quantized, of_stacked = map(jax.jit(quantize.quantize), (params, stacked))
  assert_equal(layer_stack.unstack(of_stacked), quantized)
  floats, of_stack = map(jax.jit(quantize.dequantize), (quantized, of_stacked))
  assert_equal(layer_stack.unstack(of_stack), floats)
  model = Transformer(tiny_config('qwen2', param_dtype='int8'))
  tokens, _ = packed_batch()
  values = [
    jax.jit(forward.token_logprobs, static_argnums=0)(model, params, tokens)
    for model, params in (
      (model, quantized),
      (scanned(model), of_stacked),
    )
  ]
  np.testing.assert_allclose(*values, atol=1e-5)


def test_a_state_is_stacked_and_unstacked_exactly():
  _, params = tiny_model()
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  params['layers_1']['mlp_norm']['scale'] *= 3  # and layers differ
  tx, _ = optimizer.make_optimizer(learning_rate=1e-3, steps=3)
  state = {'roles': {'a': params}, 'state': tx.init({'critic': params})}
  stacked = layer_stack.stack(state)
  assert set(stacked['roles']['a']) == {'embed', 'final_norm', 'layers'}
  of_stacked = tx.init({'critic': layer_stack.stack(params)})
  assert_equal(stacked['state'], of_stacked)
  assert_equal(layer_stack.stack(stacked), stacked)
  assert_equal(layer_stack.unstack(stacked), state)
  on_host = jax.tree.map(np.asarray, stacked)
  assert_equal(layer_stack.stack(layer_stack.unstack(on_host)), on_host)
  assert np.shares_memory(
    layer_stack.unstack(on_host)['roles']['a']['layers_1']['mlp']['up'][
      'kernel'
    ],
    on_host['roles']['a']['layers']['mlp']['up']['kernel'],
  )
  # Masters of parameters in float32 are nodes without leaves.
  params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
  absent = tx.init({'critic': params})
  assert_equal(layer_stack.unstack(layer_stack.stack(absent)), absent)
  assert optax.tree.norm(stacked['roles']) == optax.tree.norm(state['roles'])


def test_layouts_of_both_forms_are_those_of_the_rules():
  mesh = sharding.make_mesh({}, jax.devices()[:1])
  model = Transformer(tiny_config())
  boxed = transformer.abstract_params(scanned(model))
  up = boxed['layers']['mlp']['up']['kernel']
  assert up.names == ('layers', 'embed', 'mlp') and up.value.shape[0] == 2

  def shapes(model):
    boxed = transformer.abstract_params(model)
    return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      nn.meta.unbox(boxed),
      sharding.param_shardings(boxed, mesh),
    )

  assert layer_stack.stack(shapes(model)) == shapes(scanned(model))
  assert layer_stack.unstack(shapes(scanned(model))) == shapes(model)
  layouts = jax.tree.map(lambda x: x.sharding, shapes(scanned(model)))
  init = jax.jit(
    transformer.init_params, static_argnums=0, out_shardings=layouts
  )
  params = init(scanned(model), jax.random.key(0))
  again = layer_stack.stack(layer_stack.unstack(params))
  assert jax.tree.map(lambda x: x.sharding, again) == layouts


def test_the_platform_decides_and_a_setting_overrules():
  assert concrete({'layers': 'auto'}, 'cpu')['layers'] == 'unrolled'
  for platform in ('gpu', 'tpu'):
    assert concrete({'layers': 'auto'}, platform)['layers'] == 'scanned'
    settings = {'layers': 'unrolled'}
    assert concrete(settings, platform)['layers'] == 'unrolled'
  with pytest.raises(ValueError, match="layers: got 'rolled'; expected 'auto'"):
    tiny_config(layers='rolled')


def test_the_program_does_not_grow_with_depth():
  tokens = jnp.zeros((1, 8), jnp.int32)

  def size(num_layers):
    config = tiny_config(num_layers=num_layers, layers='scanned')
    model = Transformer(config)
    shapes = nn.meta.unbox(transformer.abstract_params(model))
    loss = lambda p: jnp.sum(forward.token_logprobs(model, p, tokens))  # noqa: E731
    return len(jax.jit(jax.grad(loss)).lower(shapes).as_text().splitlines())

  assert size(9) == size(3)
