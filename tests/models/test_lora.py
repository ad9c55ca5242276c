"""Adapters in the forward pass, the sampler, and their gradients."""

import dataclasses
import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assemble, assert_trees_close, random_params, tiny_config

from critic_jax.models import (
  cost,
  forward,
  layer_stack,
  lora,
  quantize,
  transformer,
)
from critic_jax.models.config import KERNELS, Lora
from critic_jax.models.transformer import Transformer
from critic_jax.sampling import decode

LORA = Lora(rank=2, alpha=6.0, targets='.*', dropout=0.0)
TOKENS = np.random.default_rng(0).integers(0, 64, (2, 12)).astype(np.int32)


@functools.cache
def adapted(**changes):
  """Makes a model of two layers, and parameters whose B is not 0."""
  model = Transformer(tiny_config('qwen2', **{'lora': LORA, **changes}))
  return model, random_params(model)


@functools.cache
def logits(model):
  return jax.jit(functools.partial(forward.logits, model))


init = jax.jit(transformer.init_params, static_argnums=0)


def without_adapters(model):
  return Transformer(dataclasses.replace(model.config, lora=None))


@pytest.mark.parametrize('layers', ['unrolled', 'scanned'])
def test_adapters_are_a_change_of_matrices(layers):
  model, params = adapted(layers=layers)
  unrolled = jax.tree.map(np.asarray, layer_stack.unstack(params))
  plain = without_adapters(adapted()[0])
  merged = lora.merged(unrolled, LORA)
  actual = logits(model)(params, TOKENS)
  np.testing.assert_allclose(actual, logits(plain)(merged, TOKENS), atol=1e-5)
  # The change is not small, so that the test could fail.
  base = layer_stack.unstack(lora.split(params)[1])
  assert np.abs(actual - logits(plain)(base, TOKENS)).max() > 0.1


def test_layers_before_the_last_have_no_adapter_and_no_backward_pass():
  last = dataclasses.replace(LORA, last_layers=1)
  model = Transformer(tiny_config('qwen2', lora=last, num_layers=3))
  trained, base = lora.split(init(model, jax.random.key(0)))
  assert set(trained) == {'layers_2'}
  shapes = nn.meta.unbox(transformer.abstract_params(model))
  chex.assert_trees_all_equal_shapes(shapes, lora.join(base, trained))
  fields = vars(model.config)
  assert sum(x.size for x in jax.tree.leaves(trained)) == cost.trained_params(
    fields
  )

  def flops(model):
    def loss(trained, base):
      return forward.logits(model, lora.join(base, trained), TOKENS).sum()

    parts = lora.split(transformer.abstract_params(model))
    compiled = jax.jit(jax.grad(loss)).lower(*parts).compile()
    return compiled.cost_analysis()['flops']

  all_layers = Transformer(dataclasses.replace(model.config, lora=LORA))
  assert flops(model) < 0.75 * flops(all_layers)


def test_as_many_last_layers_as_there_are_is_all():
  trees = [
    transformer.abstract_params(adapted(lora=settings)[0])
    for settings in (LORA, dataclasses.replace(LORA, last_layers=5))
  ]
  assert jax.tree.structure(trees[0]) == jax.tree.structure(trees[1])


def test_layers_as_a_loop_all_have_adapters():
  last = dataclasses.replace(LORA, last_layers=1)
  message = 'lora.last_layers: got 1 for layers as a loop.*unrolled'
  with pytest.raises(ValueError, match=message):
    tiny_config('qwen2', lora=last, layers='scanned')


def test_fresh_adapters_change_nothing():
  model, _ = adapted()
  params = init(model, jax.random.key(0))
  trained, base = lora.split(params)
  a = trained['layers_0']['attention']['o'][lora.A]
  assert a.shape == (4, 8, 2) and np.abs(a).max() <= 32**-0.5
  assert 0.2 < np.std(a) / 32**-0.5 * 3**0.5 < 1.5  # uniform
  np.testing.assert_array_equal(
    logits(model)(params, TOKENS),
    logits(without_adapters(model))(base, TOKENS),
  )
  # All else is drawn as without adapters.
  plain = init(without_adapters(model), jax.random.key(0))
  assert_trees_close(base, plain, rtol=0)


@pytest.mark.parametrize(
  ('targets', 'names'),
  [
    ('attention/(q|v)', KERNELS[:3:2]),
    ('.*', KERNELS),
    ('.*/down', KERNELS[6:]),
  ],
)
def test_targets_are_those_that_the_pattern_matches(targets, names):
  settings = dataclasses.replace(LORA, targets=targets)
  model = Transformer(tiny_config('llama', lora=settings, tie_embeddings=False))
  trained, _ = lora.split(transformer.abstract_params(model))
  assert set(trained) == {'layers_0', 'layers_1'}
  assert {
    f'{part}/{name}' for part, x in trained['layers_0'].items() for name in x
  } == set(names)


def test_split_and_join_are_inverse():
  model, params = adapted(head='value')
  trained, base = lora.split(params)
  assert {*trained} == {'layers_0', 'layers_1', 'scalar_head'}
  assert not lora.has_adapters(base)
  assert_trees_close(lora.join(base, trained), params, rtol=0)
  assert lora.split(base) == (base, {})


@pytest.mark.parametrize(
  ('layers', 'param_dtype'), [('unrolled', 'float32'), ('scanned', 'int8')]
)
def test_the_sampler_is_the_trainer(layers, param_dtype):
  """Log-probabilities of sampled tokens, with adapters that matter."""
  model, params = adapted()
  if param_dtype == 'int8':
    params = jax.jit(quantize.quantize)(params)
  if layers == 'scanned':
    params = layer_stack.stack(jax.tree.map(np.asarray, params))
  model = Transformer(
    dataclasses.replace(model.config, param_dtype=param_dtype, layers=layers)
  )
  prompts, length = TOKENS[:, :6], np.array([6, 4], np.int32)
  sampled = decode.sample(
    model, params, prompts, length, jax.random.split(jax.random.key(1), 2),
    eos=np.array([63], np.int32),
    sampling_params=forward.sampling_distribution.SamplingParams(),
    max_new_tokens=6,
  )  # fmt: skip
  tokens, mask, logprobs = assemble(prompts, length, sampled)
  trained = jax.jit(functools.partial(forward.token_logprobs, model))(
    params, tokens
  )
  np.testing.assert_allclose(np.where(mask, trained, 0), logprobs, atol=1e-4)
  assert mask.sum() > 6


def test_gradients_are_those_of_the_merged_matrices():
  """By the chain rule: dA = (alpha / r) dW B', dB = (alpha / r) A' dW."""
  model, params = adapted()
  trained, base = lora.split(params)

  def loss(trained):
    full = lora.join(base, trained)
    return jnp.sum(jnp.sin(forward.logits(model, full, TOKENS)))

  grads = jax.jit(jax.grad(loss))(trained)
  plain = without_adapters(model)
  dense = jax.jit(
    jax.grad(lambda p: jnp.sum(jnp.sin(forward.logits(plain, p, TOKENS))))
  )(lora.merged(jax.tree.map(np.asarray, params), LORA))
  scale = LORA.alpha / LORA.rank
  for part, inputs in (('q', 1), ('o', 2)):
    own, dw = (x['layers_1']['attention'][part] for x in (trained, dense))
    dw = dw['kernel']
    expected = {
      lora.A: scale * np.tensordot(dw, own[lora.B], (
        range(inputs, 3), range(1, 4 - inputs))),
      lora.B: scale * np.tensordot(own[lora.A], dw, (
        range(inputs), range(inputs))),
    }  # fmt: skip
    actual = grads['layers_1']['attention'][part]
    assert_trees_close(actual, expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize('layers', ['unrolled', 'scanned'])
def test_dropout_is_of_a_step_that_has_keys(layers):
  settings = dataclasses.replace(LORA, dropout=0.5)
  model, params = adapted(layers=layers, lora=settings)
  trained, base = lora.split(params)
  plain = logits(model)(params, TOKENS)

  def with_key(number):
    keyed = lora.with_keys(trained, jax.random.key(number))
    return logits(model)(lora.join(base, keyed), TOKENS)

  one, again, other = map(with_key, (0, 0, 1))
  np.testing.assert_array_equal(one, again)
  assert min(np.abs(one - x).max() for x in (plain, other)) > 0.01
  # Each adapter, and each layer, has a key of its own.
  keyed = layer_stack.unstack(lora.with_keys(trained, jax.random.key(0)))
  keys = [
    tuple(jax.random.key_data(x).tolist())
    for path, x in jax.tree_util.tree_leaves_with_path(keyed)
    if path[-1].key == lora.KEY
  ]
  assert len({*keys}) == len(keys) == 14


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(rank=-1), 'rank: got -1; expected 0 for none'),
    (dict(alpha=0.0), 'alpha: got 0.0; expected more than 0'),
    (dict(dropout=1.0), 'dropout: got 1.0; expected 0 or more, < 1'),
    (dict(last_layers=-1), 'last_layers: got -1; expected 0 for all'),
    (dict(targets='q'), "targets: got 'q', which matches no matrix"),
    (dict(targets='('), r"targets: got '\(', missing \), .*expected a regular"),
  ],
)
def test_a_wrong_setting_is_named(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(LORA, **changes)
