import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
  VOCAB_SIZE,
  assert_trees_close,
  random_params,
  slow,
  tiny_config,
  tiny_model,
)

from critic_jax.models import forward, rotary, sizes, transformer
from critic_jax.models.config import RopeScaling, TransformerConfig
from critic_jax.models.transformer import (
  REMAT_POLICIES,
  Transformer,
)
from critic_jax.runtime import sharding
from critic_jax.training import updates


def tokens(rows=3, columns=9, seed=0):
  random = np.random.default_rng(seed)
  return jnp.asarray(random.integers(0, VOCAB_SIZE, (rows, columns)), jnp.int32)


@functools.partial(jax.jit, static_argnums=0)
def run(model, params, tokens, positions=None):
  """Computes hidden states, the cache, and what the head makes of them."""
  hidden, cache = model.apply({'params': params}, tokens, positions)
  method = 'logits' if model.config.head == 'lm' else 'scalars'
  return hidden, cache, model.apply({'params': params}, hidden, method=method)


@functools.partial(jax.jit, static_argnums=0)
def decode(model, params, tokens, positions, mask, cache, slot):
  """Computes logits and cache after some tokens in the middle of a row."""
  hidden, cache = model.apply(
    {'params': params}, tokens, positions, mask, cache, slot
  )
  return model.apply({'params': params}, hidden, method='logits'), cache


@pytest.mark.parametrize(
  ('family', 'changes'),
  [
    ('qwen3', dict(tie_embeddings=False)),  # two layers
    ('qwen2', dict(num_layers=1)),
    ('llama', dict(num_layers=1)),
  ],
)
def test_decoding_with_a_cache_equals_a_full_forward(family, changes):
  model, params = tiny_model(family, **changes)
  row = tokens()
  config = model.config
  empty = jnp.full((3, config.num_kv_heads, 12, config.head_dim), jnp.nan)
  # Slots that were not written hold anything finite; nothing looks at them.
  cache = ((jnp.nan_to_num(empty, nan=7.0),) * 2,) * config.num_layers
  results = []
  for slot in range(9):
    mask = (jnp.arange(12) <= slot)[None, None]
    scores, cache = decode(
      model, params, row[:, slot : slot + 1], jnp.full((1, 1), slot), mask,
      cache, slot,
    )  # fmt: skip
    results.append(scores[:, 0])
  np.testing.assert_allclose(
    jnp.stack(results, axis=1), run(model, params, row)[-1], atol=1e-5
  )
  assert cache[0][0].shape == (3, config.num_kv_heads, 12, config.head_dim)


def test_later_tokens_change_nothing_before_them():
  model, params = tiny_model(num_layers=1)
  row, other = tokens(), tokens().at[:, 5].add(1) % VOCAB_SIZE
  before, after = (run(model, params, x)[-1] for x in (row, other))
  np.testing.assert_array_equal(before[:, :5], after[:, :5])
  assert np.all(np.max(np.abs(before - after)[:, 5:], axis=-1) > 1e-3)


def test_positions_are_relative():
  # Rotary attention depends on differences of positions alone.
  model, params = tiny_model(num_layers=1)
  at = jnp.arange(9)[None]
  first, shifted, stretched = (
    run(model, params, tokens(), x)[-1] for x in (at, at + 5, 2 * at)
  )
  np.testing.assert_allclose(first, shifted, atol=1e-4)
  assert np.max(np.abs(first - stretched)) > 0.01


def test_rotate_turns_pairs_of_halves():
  # Coordinate i and i + Dh / 2 form a plane: (1, 0) goes to (cos, sin).
  x = jnp.array([1.0, 0.0, 0.0, 2.0])[None, None, None]
  angles = jnp.array([0.3, 0.5])[None, None]
  expected = [
    math.cos(0.3),
    -2 * math.sin(0.5),
    math.sin(0.3),
    2 * math.cos(0.5),
  ]
  np.testing.assert_allclose(
    rotary.rotate(x, angles)[0, 0, 0], expected, rtol=1e-6
  )


def test_rotary_frequencies_by_hand():
  config = tiny_config('qwen3', rope_theta=10000.0)  # head_dim is 8
  np.testing.assert_allclose(
    rotary.frequencies(config), [1, 0.1, 0.01, 0.001], rtol=1e-6
  )


def test_llama_scaling_by_hand():
  config = tiny_config(
    rope_theta=10000.0, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 100)
  )
  # Wavelengths are 2 pi times 1, 10, 100, 1000. The first is below 100 / 4:
  # kept. The last two are above 100 / 1: divided by 8. Between: 62.8 lies in
  # 25 .. 100, and keeps (100 / 62.83 - 1) / (4 - 1) = 0.19718.
  weight = (100 / (20 * math.pi) - 1) / 3
  np.testing.assert_allclose(
    rotary.frequencies(config),
    [1, 0.1 * weight + 0.1 / 8 * (1 - weight), 0.01 / 8, 0.001 / 8],
    rtol=1e-6,
  )
  assert weight == pytest.approx(0.19718, abs=1e-5)


def test_remat_changes_no_gradient():
  _, params = tiny_model(num_layers=1)
  gradients, num_products = {}, {}
  for remat in ('none', *REMAT_POLICIES):
    model = Transformer(tiny_config(num_layers=1, remat=remat))

    def loss(params, model=model):
      return jnp.sum(jnp.sin(run(model, params, tokens())[-1]))

    lowered = jax.jit(jax.grad(loss)).lower(params)
    num_products[remat] = lowered.as_text().count('stablehlo.dot_general')
    gradients[remat] = lowered.compile()(params)
  for remat in REMAT_POLICIES:
    assert_trees_close(
      gradients[remat], gradients['none'], rtol=1e-4, atol=1e-5
    )
  # 'full' computes all products of a layer again, 'dots' those of attention,
  # and 'dots_and_attention' the scores of a short row.
  results = [num_products[remat] for remat in ('none', *REMAT_POLICIES)]
  assert results == sorted(set(results))


# Of a long row, of a short one.
@pytest.mark.parametrize('length', [384, *slow(64)])
def test_remat_saves_memory_in_an_update(length):
  def temporaries(remat):
    model = Transformer(tiny_config(num_layers=3, remat=remat))
    tx = optax.sgd(1e-3)

    def loss(params, batch):
      logprobs = forward.token_logprobs(model, params, batch['tokens'])
      return jnp.sum(logprobs), ({}, {})

    def make_state():
      params = random_params(model)
      return updates.TrainState(0, params, tx.init(params))

    state = jax.eval_shape(make_state)
    batch = {'tokens': jax.ShapeDtypeStruct((8, length), jnp.int32)}
    compiled = updates.update.lower(loss, tx, state, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  dots_bytes, full_bytes, plain_bytes = map(
    temporaries, ('dots_and_attention', 'full', 'none')
  )
  assert full_bytes < dots_bytes < 0.6 * plain_bytes


@pytest.mark.parametrize(
  'changes', [{}, dict(tie_embeddings=False), dict(head='value')]
)
def test_bfloat16_computes_in_it_but_logits_and_values_are_float32(changes):
  model = Transformer(tiny_config(dtype='bfloat16', num_layers=1, **changes))
  params = random_params(model)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  hidden, cache, _ = jax.eval_shape(
    functools.partial(run, model), params, tokens()
  )
  assert hidden.dtype == cache[0][0].dtype == jnp.bfloat16
  hidden = jax.random.normal(jax.random.key(0), hidden.shape, jnp.bfloat16)
  method = 'scalars' if changes.get('head') else 'logits'
  scores = model.apply({'params': params}, hidden, method=method)
  assert scores.dtype == jnp.float32
  # A value rounded to bfloat16 on the way would lack 16 bits.
  rounded = scores.astype(jnp.bfloat16).astype(jnp.float32)
  assert np.mean(rounded != scores) > 0.9


def test_param_dtype_is_apart_from_dtype():
  model = Transformer(tiny_config(param_dtype='bfloat16', num_layers=1))
  params = random_params(model)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('bfloat16')}
  hidden = run(model, params, tokens())[0]
  assert hidden.dtype == jnp.float32
  # The same numbers in float32 give the same: only storage differs.
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), params)
  model = Transformer(tiny_config(num_layers=1))
  np.testing.assert_allclose(hidden, run(model, wide, tokens())[0], atol=1e-6)


def parts(params):
  return set(params), set(params['layers_0']['attention'])


@pytest.mark.parametrize(
  ('changes', 'head'),
  [
    (dict(), set()),
    (dict(tie_embeddings=False), {'lm_head'}),
    (dict(head='value'), {'scalar_head'}),
    (dict(head='reward', tie_embeddings=False), {'scalar_head'}),
  ],
)
def test_heads_are_what_the_config_says(changes, head):
  model = Transformer(tiny_config(**changes))
  names, attention = parts(nn.meta.unbox(transformer.abstract_params(model)))
  assert names == {'embed', 'layers_0', 'layers_1', 'final_norm'} | head
  assert attention == {'q', 'k', 'v', 'o', 'q_norm', 'k_norm'}


def test_every_parameter_has_axis_names_with_a_rule():
  for family, changes in (
    ('qwen2', dict(tie_embeddings=False)), ('qwen3', dict(head='value'))
  ):  # fmt: skip
    model = Transformer(tiny_config(family, **changes))
    boxed = jax.tree.leaves(
      transformer.abstract_params(model),
      is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned),
    )
    for box in boxed:
      assert len(box.names) == len(box.value.shape)
      assert set(box.names) <= set(sharding.RULES)


def test_init_params():
  model = Transformer(
    tiny_config('qwen2', embed_dim=64, mlp_dim=256, num_layers=1)
  )
  init = jax.jit(transformer.init_params, static_argnums=0)
  # This kind of key compiles in a third of the time.
  params = init(model, jax.random.key(0, impl='rbg'))
  shapes = nn.meta.unbox(transformer.abstract_params(model))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(
    lambda x: (x.shape, x.dtype), shapes
  )
  layer = params['layers_0']
  assert np.all(layer['mlp_norm']['scale'] == 1)
  assert np.all(layer['attention']['q']['bias'] == 0)
  # Inverse root of the inputs; outputs to the residual stream, divided by the
  # root of 2 * 1 layer. A deviation of N numbers is known to 1 / sqrt(2 N):
  # 5 of these make odds of 6e-7, were the seed drawn.
  for x, expected in (
    (params['embed']['embedding'], 64**-0.5),
    (layer['attention']['k']['kernel'], 64**-0.5),
    (layer['attention']['o']['kernel'], (4 * 8) ** -0.5 / 2**0.5),
    (layer['mlp']['up']['kernel'], 64**-0.5),
    (layer['mlp']['down']['kernel'], 256**-0.5 / 2**0.5),
  ):
    error = abs(np.std(x) / expected - 1)
    assert error < 5 / math.sqrt(2 * x.size)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      dict(num_heads=4, num_kv_heads=3),
      'num_heads: got 4; expected a multiple of num_kv_heads=3',
    ),
    (dict(head_dim=7), 'head_dim: got 7; expected an even size'),
    (dict(head='policy'), r"head: got 'policy'; expected one of \('lm', 'va"),
    (dict(remat='some'), r"remat: got 'some'; expected one of \('none', 'do"),
  ],
)
def test_wrong_configs(change, message):
  with pytest.raises(ValueError, match=message):
    tiny_config(**change)


def test_named_sizes_are_configs():
  for name, size in sizes.SIZES.items():
    config = TransformerConfig(**{'vocab_size': 640, **size})
    assert config.num_layers > 0, name


def test_named_sizes_have_the_published_parameters():
  """Those of one layer, and as many more for each that follows."""

  def count(name, num_layers):
    size = sizes.SIZES[name] | dict(num_layers=num_layers)
    model = Transformer(TransformerConfig(**size))
    leaves = jax.tree.leaves(transformer.abstract_params(model))
    return sum(math.prod(x.shape) for x in leaves)

  # Tied; with biases; and untied. `test_sizes.py` counts all.
  counts = {}
  for name in ('smollm2-135m', 'qwen2.5-0.5b', 'qwen2.5-14b'):
    one, two = count(name, 1), count(name, 2)
    num_more = sizes.SIZES[name]['num_layers'] - 1
    counts[name] = one + num_more * (two - one)
  # Published: 134,515,008 of SmolLM2-135M; 0.494 and 14.770 billion.
  assert counts['smollm2-135m'] == 134_515_008
  assert counts['qwen2.5-0.5b'] == 494_032_768
  assert counts['qwen2.5-14b'] == 14_770_033_664
