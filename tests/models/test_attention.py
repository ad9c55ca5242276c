import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import FAMILIES, VOCAB_SIZE, assert_trees_close, slow, tiny_model

from critic_jax.models import attention, forward
from critic_jax.models.attention import attend
from critic_jax.models.visibility import Causal


@pytest.fixture
def small_blocks(monkeypatch):
  """Sets blocks of four tokens, for all rows of more."""
  monkeypatch.setattr(attention, 'BLOCK', 4)
  monkeypatch.setattr(attention, 'SHORT', 4)


def arrays(*shapes, seed=0):
  random = np.random.default_rng(seed)
  return [random.normal(size=shape).astype(np.float32) for shape in shapes]


def test_attend_is_softmax_attention_with_shared_heads():
  random = np.random.default_rng(0)
  q = random.normal(size=(2, 3, 6, 4)).astype(np.float32)  # [B, T, H, Dh]
  k, v = random.normal(size=(2, 2, 2, 5, 4)).astype(
    np.float32
  )  # [B, Hkv, S, Dh]
  mask = random.random((2, 3, 5)) < 0.5
  mask[..., 0] = True
  expected = np.zeros_like(q)
  for b, t, h in np.ndindex(2, 3, 6):
    head = h // 3  # 6 heads, 2 of keys: three share each
    weights = np.exp(k[b, head] @ q[b, t, h] / math.sqrt(4)) * mask[b, t]
    expected[b, t, h] = weights @ v[b, head] / weights.sum()
  np.testing.assert_allclose(attend(q, (k, v, mask)), expected, atol=1e-5)


def test_attend_merges_shared_parts_exactly():
  # Four rows, each with slots of its own; every two read one prefix.
  random = np.random.default_rng(1)
  q = random.normal(size=(4, 2, 6, 4)).astype(np.float32)
  own = random.normal(size=(2, 4, 2, 5, 4)).astype(np.float32)
  shared = 9 * random.normal(size=(2, 2, 2, 7, 4)).astype(np.float32)
  own_mask = random.random((4, 2, 5)) < 0.5
  own_mask[..., 0] = True
  shared_mask = np.array([[1, 1, 0, 1, 0, 0, 0], [0] * 7], bool)
  merged = attend(q, (*own, own_mask), (*shared, shared_mask[:, None]))
  copied = np.concatenate([own, np.repeat(shared, 2, axis=1)], axis=3)
  each = np.repeat(np.repeat(shared_mask, 2, axis=0)[:, None], 2, axis=1)
  mask = np.concatenate([own_mask, each], axis=2)
  np.testing.assert_allclose(merged, attend(q, (*copied, mask)), atol=1e-5)
  # The rows whose prefix is empty see their own slots alone.
  unshared = attend(q[2:], (*own[:, 2:], own_mask[2:]))
  np.testing.assert_allclose(merged[2:], unshared, atol=1e-6)


def packed(rows, length, seed=0):
  """Labels rows that hold a shared prompt and responses behind it."""
  random = np.random.default_rng(seed)
  segments = np.sort(random.integers(0, 4, (rows, length)), axis=1)
  segments = segments.astype(np.int32)
  return Causal(segments, np.where(segments == 3, 1, segments))


@pytest.mark.parametrize('length', [12, 11, 7])
@pytest.mark.parametrize(
  'causal', [Causal(), packed(4, 12)], ids=['', 'packed']
)
@pytest.mark.parametrize('prefixes', [0, 4, 2])
def test_blocks_give_the_values_and_gradients_of_one_product(
  small_blocks, length, causal, prefixes
):
  """Six heads, two of keys; each prefix is read by 4 / prefixes rows."""
  causal = jax.tree.map(lambda x: x[:, :length], causal)
  parts = arrays((4, length, 6, 8), *[(4, 2, length, 8)] * 2)
  if prefixes:
    parts += arrays(*[(prefixes, 2, 5, 8)] * 2, seed=1)
  random = np.random.default_rng(2)
  prefix_mask = random.random((prefixes or 1, 1, 5)) < 0.5
  toward = arrays((4, length, 6, 8), seed=3)[0]

  @functools.partial(jax.jit, static_argnums=0)
  def results(in_blocks, parts):
    mask = causal if in_blocks else causal.mask(length)

    def total(q, k, v, *prefix):
      prefix_args = [(*prefix, prefix_mask)] if prefix else []
      output = attend(q, (k, v, mask), *prefix_args)
      return jnp.sum(output * toward), output

    argnums = tuple(range(len(parts)))
    return jax.grad(total, argnums, has_aux=True)(*parts)

  assert_trees_close(results(True, parts), results(False, parts), atol=2e-5)


def test_the_labels_are_the_mask():
  mask = np.array(packed(2, 9).mask(9))
  segments, prefixes, *_ = packed(2, 9)
  for b, t, s in np.ndindex(2, 9, 9):
    sees = segments[b, s] in (segments[b, t], prefixes[b, t]) and s <= t
    assert mask[b, t, s] == sees
  np.testing.assert_array_equal(Causal().mask(3)[0], np.tri(3, dtype=bool))


def test_blocks_behind_a_block_are_not_computed(small_blocks):
  """Later blocks have no influence, even if they are NaN."""
  q, k, v = arrays((1, 12, 2, 8), (1, 1, 12, 8), (1, 1, 12, 8))
  before = attend(q, (k, v, Causal()))
  k[:, :, 8:], v[:, :, 8:] = np.nan, np.nan
  after = attend(q, (k, v, Causal()))
  # A mask would let NaN through: 0 * NaN is NaN.
  np.testing.assert_array_equal(after[:, :8], before[:, :8])
  assert np.all(np.isnan(after[:, 8:]))


def temporary_bytes(length):
  """Returns the temporary memory of attention's gradient over one row."""

  def total(q, k, v):
    return jnp.sum(jnp.sin(attend(q, (k, v, Causal()))))

  shapes = [(1, length, 4, 8), (1, 1, length, 8), (1, 1, length, 8)]
  shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  compiled = jax.jit(jax.grad(total, (0, 1, 2))).lower(*shapes).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_length_and_not_its_square():
  short, middle, long = (temporary_bytes(n) for n in (1024, 2048, 4096))
  assert long - middle < 2.1 * (middle - short)
  assert long < 4 * 4 * 4096**2 / 16  # of all its scores


def test_bfloat16_in_blocks(small_blocks):
  q, k, v = (
    jnp.asarray(x, jnp.bfloat16)
    for x in arrays((2, 11, 6, 8), (2, 2, 11, 8), (2, 2, 11, 8))
  )
  output = attend(q, (k, v, Causal()))
  assert output.dtype == jnp.bfloat16
  q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
  expected = attend(q, (k, v, Causal().mask(11)))
  np.testing.assert_allclose(output.astype(jnp.float32), expected, atol=2e-2)


# ------------------------------------------------------------- whole models


@functools.partial(jax.jit, static_argnums=(0, 1))
def hidden_and_gradient(model, block, params, tokens, layout):
  def total(params):
    hidden = forward.hidden_states(model, params, tokens, layout)
    return jnp.sum(jnp.sin(hidden)), hidden

  return jax.grad(total, has_aux=True)(params)


def row(columns=11):
  random = np.random.default_rng(0)
  return random.integers(0, VOCAB_SIZE, (4, columns)).astype(np.int32)


@pytest.mark.parametrize('family', ['mistral', *slow(*FAMILIES)])
@pytest.mark.parametrize('is_packed', [False, True])
def test_models_in_blocks_are_models(family, is_packed, monkeypatch):
  model, params = tiny_model(family, num_layers=1)
  layout = None
  if is_packed:
    places = np.tile(np.arange(11), (4, 1)).astype(np.int32)
    layout = forward.Layout(*packed(4, 11)[:2], places)
  results = {}
  for block in (100, 4):
    monkeypatch.setattr(attention, 'BLOCK', block)
    monkeypatch.setattr(attention, 'SHORT', block)
    results[block] = hidden_and_gradient(model, block, params, row(), layout)
  assert_trees_close(results[4], results[100], rtol=1e-4, atol=2e-5)


@functools.partial(jax.jit, static_argnums=0)
def run(model, params, tokens, mask=None, positions=None, prefix=None):
  return model.apply({'params': params}, tokens, positions, mask, prefix=prefix)


def test_what_follows_a_prefix_computed_in_blocks(small_blocks):
  """Six tokens precede five, in blocks, or one, as in decoding."""
  model, params = tiny_model('qwen3', num_layers=1)
  tokens, positions = row(), 6 + np.arange(5)[None]
  whole, _ = run(model, params, tokens, Causal().mask(11))
  first_hidden, cache = run(model, params, tokens[:, :6])
  prefix = cache, np.ones((4, 6), bool)
  after, _ = run(
    model, params, tokens[:, 6:], positions=positions, prefix=prefix
  )
  last_row, _ = run(
    model, params, tokens[:, 6:7], positions=positions[:, :1], prefix=prefix
  )
  np.testing.assert_allclose(first_hidden, whole[:, :6], atol=1e-5)
  np.testing.assert_allclose(after, whole[:, 6:], atol=1e-5)
  np.testing.assert_allclose(last_row, whole[:, 6:7], atol=1e-5)
