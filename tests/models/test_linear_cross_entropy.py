import itertools
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_params, slow, tiny_config, tiny_model
from jax.sharding import NamedSharding, PartitionSpec

from critic_jax.models import (
  forward,
  linear_cross_entropy,
  sampling_distribution,
)
from critic_jax.models.config import DTYPES
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.plan import hlo, topology
from critic_jax.runtime import sharding
from critic_jax.training import updates

ROWS, LENGTH, SIZE, VOCAB = 3, 7, 5, 11

SETTINGS = [
  SamplingParams(),
  SamplingParams(temperature=0.6),
  SamplingParams(temperature=1.3, top_k=3),
  SamplingParams(top_p=0.5),
  SamplingParams(0.8, 4, 0.6),
  SamplingParams(temperature=0.0),
]


def plain(hidden, kernel, targets, sampling_params, axes='vd'):
  """Computes the same with all logits at once; jax derives its gradient."""
  logits = jnp.einsum(
    f'btd,{axes}->btv', hidden, kernel.astype(hidden.dtype),
    preferred_element_type=jnp.float32,
  )  # fmt: skip
  log_probs = sampling_distribution.log_probs(logits, sampling_params, targets)
  logprobs = jnp.take_along_axis(log_probs, targets[..., None], -1)[..., 0]
  fixed = jax.lax.stop_gradient(log_probs)
  entropies = -jnp.where(fixed > -jnp.inf, jnp.exp(fixed) * fixed, 0.0)
  return logprobs, entropies.sum(-1)


def arrays(axes='vd', seed=0):
  """Draws hidden states, a kernel, targets (some unsupported) and slopes."""
  random = np.random.default_rng(seed)
  shape = dict(v=VOCAB, d=SIZE)
  return (
    random.normal(size=(ROWS, LENGTH, SIZE)).astype(np.float32),
    random.normal(size=[shape[a] for a in axes]).astype(np.float32),
    random.integers(0, VOCAB, (ROWS, LENGTH)).astype(np.int32),
    random.normal(size=(ROWS, LENGTH)).astype(np.float32),
  )


def run(function, hidden, kernel, targets, slopes, sampling_params, **keywords):
  """Returns both results, and the gradients of their weighted sum."""

  def total(hidden, kernel, sampling_params):
    statistics = function(hidden, kernel, targets, sampling_params, **keywords)
    return jnp.sum(slopes * (statistics[0] + 0.7 * statistics[1])), statistics

  grad = jax.grad(total, argnums=(0, 1), has_aux=True)
  gradients, statistics = jax.jit(grad)(hidden, kernel, sampling_params)
  return (*statistics, *gradients)


def assert_close(statistics, expected, atol=1e-5):
  for x, y in zip(statistics, expected, strict=True):
    assert x.dtype == y.dtype and x.shape == y.shape
    np.testing.assert_allclose(
      x.astype(jnp.float32), y.astype(jnp.float32), atol=atol
    )


@pytest.mark.parametrize('axes', ['vd', 'dv'])
@pytest.mark.parametrize('sampling_params', SETTINGS)
def test_values_and_gradients_are_those_of_all_logits_at_once(
  sampling_params, axes
):
  inputs = arrays(axes)
  function = linear_cross_entropy.token_logprobs_and_entropy
  # 3 rows of 7 tokens in columns of 2, 2, 2 and 1.
  statistics = run(function, *inputs, sampling_params, axes=axes, chunk=6)
  assert_close(statistics, run(plain, *inputs, sampling_params, axes=axes))
  assert np.all(np.isfinite(statistics[0])) and np.any(statistics[3])


def test_some_targets_were_outside_of_each_truncated_distribution():
  hidden, kernel, targets, _ = arrays()
  logits = jnp.einsum('btd,vd->btv', hidden, kernel)
  for sampling_params in SETTINGS[2:]:
    log_probs = sampling_distribution.log_probs(logits, sampling_params)
    logprobs = np.take_along_axis(np.array(log_probs), targets[..., None], -1)
    assert np.any(logprobs == -np.inf) and np.any(logprobs > -np.inf)


@pytest.mark.parametrize('chunk', [1, 3, 5, 9, 20, 21, 1000, None])
def test_the_chunk_changes_nothing(chunk):
  function = linear_cross_entropy.token_logprobs_and_entropy
  statistics = run(
    function, *arrays(), SamplingParams(0.8, 4, 0.6), chunk=chunk
  )
  assert_close(statistics, run(plain, *arrays(), SamplingParams(0.8, 4, 0.6)))


MASKS = [
  np.ones((ROWS, LENGTH), bool),
  np.zeros((ROWS, LENGTH), bool),
  np.arange(LENGTH) % 3 + np.zeros((ROWS, 1)) == 1,
  # One row is asked for whole, one in part, one not at all.
  np.array([[1] * LENGTH, [0, 0, 1, 0, 1, 0, 0], [0] * LENGTH], bool),
]


@pytest.mark.parametrize(
  ('sampling_params', 'axes'),
  [
    (SETTINGS[-1], 'vd'),
    *slow((SETTINGS[-1], 'dv'), (SETTINGS[0], 'vd'), (SETTINGS[0], 'dv')),
  ],
)
@pytest.mark.parametrize('mask', MASKS, ids=['all', 'none', 'third', 'rows'])
@pytest.mark.parametrize('chunk', [3, None, *slow(6)])
def test_a_mask_leaves_what_it_holds(chunk, mask, sampling_params, axes):
  function = linear_cross_entropy.token_logprobs_and_entropy
  hidden, kernel, targets, slopes = arrays(axes)
  statistics = run(
    function, hidden, kernel, targets, slopes, sampling_params,
    axes=axes, mask=mask, chunk=chunk,
  )  # fmt: skip
  logprobs, entropies, *gradients = run(
    plain, hidden, kernel, targets, slopes * mask, sampling_params, axes=axes
  )
  expected = logprobs * mask, entropies * mask, *gradients
  assert_close(statistics, expected)


def test_chunks_outside_of_the_mask_are_not_computed():
  """A state that is not finite there reaches neither values nor gradients."""
  hidden, kernel, targets, slopes = arrays()
  mask = np.zeros((ROWS, LENGTH), bool)
  mask[:, [1, 4]] = True  # one chunk of two columns
  broken = np.where(mask[..., None], hidden, np.nan).astype(np.float32)
  function = linear_cross_entropy.token_logprobs_and_entropy
  settings = dict(mask=mask, chunk=2 * ROWS)
  expected = run(
    function, hidden, kernel, targets, slopes, SamplingParams(), **settings
  )
  actual = run(
    function, broken, kernel, targets, slopes, SamplingParams(), **settings
  )
  assert_close(actual, expected)
  assert np.all(np.isfinite(np.asarray(actual[3])))


def test_devices_split_columns_of_any_number(monkeypatch):
  """Seven columns, which two devices do not divide, are padded."""
  hidden, kernel, targets, _ = arrays()
  expected = plain(hidden, kernel, targets, SamplingParams())
  seen, statistics = [], linear_cross_entropy._statistics

  def note(axes, num_blocks, hidden, *rest):
    seen.append(hidden.shape)
    return statistics(axes, num_blocks, hidden, *rest)

  monkeypatch.setattr(linear_cross_entropy, '_statistics', note)
  monkeypatch.setattr(
    sharding, 'num_shards_here', lambda name: 2 if name == 'columns' else 1
  )
  actual = linear_cross_entropy.token_logprobs_and_entropy(
    hidden, kernel, targets, SamplingParams()
  )
  assert seen == [(1, ROWS, LENGTH + 1, SIZE)]
  for x, y in zip(actual, expected, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_by_hand():
  # Logits log(4), log(2), log(2) at temperature 1/2: 16, 4, 4 of 24.
  kernel = jnp.log(jnp.array([[4.0], [2.0], [2.0]]))
  hidden, targets = jnp.ones((1, 1, 1)), jnp.array([[1]])
  statistics = run(
    linear_cross_entropy.token_logprobs_and_entropy,
    hidden, kernel, targets, jnp.ones((1, 1)), SamplingParams(temperature=0.5),
  )  # fmt: skip
  entropy = 2 / 3 * math.log(3 / 2) + 2 * (1 / 6 * math.log(6))
  # (1 at the target - probabilities) / temperature.
  logits_gradient = 2 * np.array([-2 / 3, 1 - 1 / 6, -1 / 6])
  hidden_gradient = np.sum(logits_gradient * np.asarray(kernel)[:, 0])
  expected = (
    [math.log(1 / 6)],
    [entropy],
    [[hidden_gradient]],
    logits_gradient[:, None],
  )
  for x, y in zip(statistics, expected, strict=True):
    np.testing.assert_allclose(np.reshape(x, np.shape(y)), y, atol=1e-6)


def test_where_nothing_is_weighed_the_gradient_is_zero():
  hidden, kernel, targets, slopes = arrays()
  slopes[1], slopes[:, 5:] = 0, 0
  targets[1] = 0  # a row of padding
  function = linear_cross_entropy.token_logprobs_and_entropy
  statistics = run(
    function, hidden, kernel, targets, slopes, SamplingParams(0.8, 4), chunk=4
  )
  expected = run(plain, hidden, kernel, targets, slopes, SamplingParams(0.8, 4))
  assert_close(statistics, expected)
  assert not np.any(statistics[2][1]) and not np.any(statistics[2][:, 5:])


def test_logits_too_large_to_exponentiate():
  hidden, kernel, targets, slopes = arrays()
  function = linear_cross_entropy.token_logprobs_and_entropy
  statistics = run(
    function, 300 * hidden, kernel, targets, slopes, SamplingParams(), chunk=6
  )
  expected = run(plain, 300 * hidden, kernel, targets, slopes, SamplingParams())
  # Logits of about 1000 are known to 1e-4.
  assert_close(statistics, expected, atol=2e-3)
  assert np.all(np.isfinite(statistics[0])) and np.all(
    np.isfinite(statistics[3])
  )


@pytest.mark.parametrize('dtypes', [('bfloat16', 'float32'), ('bfloat16',) * 2])
def test_half_precision(dtypes):
  hidden, kernel, targets, slopes = arrays()
  half = jnp.asarray(hidden, dtypes[0]), jnp.asarray(kernel, dtypes[1])
  function = linear_cross_entropy.token_logprobs_and_entropy
  statistics = run(
    function, *half, targets, slopes, SamplingParams(0.8), chunk=6
  )
  expected = run(plain, *half, targets, slopes, SamplingParams(0.8))
  assert statistics[0].dtype == statistics[1].dtype == jnp.float32
  assert_close(statistics[:2], expected[:2])
  # The gradient of a logit is rounded to 8 bits for the products.
  assert_close(statistics[2:], expected[2:], atol=0.05)


def test_all_precisions_in_one_chunk():
  """As in most updates; all cases are one program, which compiles at once."""
  names = 'float32', 'bfloat16', 'float16'
  assert set(names) == {*DTYPES}
  cases = [*itertools.product(names, names, ('vd', 'dv'))]
  sampling_params = SamplingParams(0.8)

  def compute(function):
    statistics = []
    for dtype, kernel_dtype, axes in cases:
      hidden, kernel, targets, slopes = arrays(axes)
      half = jnp.asarray(hidden, dtype), jnp.asarray(kernel, kernel_dtype)
      inputs = *half, targets, slopes, sampling_params
      statistics.append(run(function, *inputs, axes=axes))
    return statistics

  function = linear_cross_entropy.token_logprobs_and_entropy
  actual = jax.jit(lambda: compute(function))()
  expected = jax.jit(lambda: compute(plain))()
  for case, x, y in zip(cases, actual, expected, strict=True):
    assert x[0].dtype == x[1].dtype == jnp.float32, case
    assert_close(x[:2], y[:2])
    # The gradient of a logit is rounded to 8 bits for the products.
    assert_close(x[2:], y[2:], atol=0.05)


@pytest.mark.parametrize(
  ('family', 'tied'), [('llama', True), ('qwen2', False), ('qwen3', True)]
)
def test_a_model_has_the_gradient_of_its_logits(family, tied):
  model, params = tiny_model(family, num_layers=1, tie_embeddings=tied)
  random = np.random.default_rng(1)
  tokens = random.integers(0, model.config.vocab_size, (3, 6)).astype(np.int32)
  slopes = random.normal(size=(3, 6)).astype(np.float32)
  sampling_params = SamplingParams(0.8, 40, 0.9)

  def expected(params):
    log_probs = sampling_distribution.log_probs(
      forward.logits(model, params, tokens)[:, :-1],
      sampling_params,
      tokens[:, 1:],
    )
    logprobs = jnp.take_along_axis(log_probs, tokens[:, 1:, None], -1)[..., 0]
    return jnp.sum(slopes[:, 1:] * logprobs)

  def statistics(params):
    logprobs = forward.token_logprobs(
      model, params, tokens, sampling_params=sampling_params, chunk=6
    )
    return jnp.sum(slopes * logprobs)

  results = jax.jit(
    lambda p: (
      jax.value_and_grad(statistics)(p),
      jax.value_and_grad(expected)(p),
    )
  )(params)
  for x, y in zip(*map(jax.tree.leaves, results), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5 * max(1, np.max(np.abs(y))))


def shapes_in(jaxpr):
  """Returns the shapes of all values computed in a jaxpr, nested ones too."""
  for equation in jaxpr.eqns:
    yield from (v.aval.shape for v in equation.outvars)
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from shapes_in(inner)


# Sizes that no two axes share: any array over the vocabulary shows.
@pytest.mark.parametrize(
  'sampling_params', [SamplingParams(), SamplingParams(0.8, 50, 0.9)]
)
def test_no_logits_of_more_than_a_chunk(sampling_params, monkeypatch):
  hidden = jax.ShapeDtypeStruct((2, 64, 16), jnp.float32)
  kernel = jax.ShapeDtypeStruct((4099, 16), jnp.float32)
  targets = jax.ShapeDtypeStruct((2, 64), jnp.int32)

  def largest(transform, chunk):
    """Tokens whose logits are the largest array over the vocabulary."""
    monkeypatch.setattr(linear_cross_entropy, 'MAX_LOGITS', chunk * 4099)

    def total(hidden, kernel, targets):
      return jnp.sum(
        linear_cross_entropy.token_logprobs_and_entropy(
          hidden, kernel, targets, sampling_params
        )[0]
      )

    jaxpr = jax.make_jaxpr(transform(total))(hidden, kernel, targets).jaxpr
    sizes = {math.prod(s) // 4099 for s in shapes_in(jaxpr) if 4099 in s}
    return max(sizes - {16})  # 16: the kernel and its gradient

  def gradient(total):
    return jax.grad(total, argnums=(0, 1))

  assert largest(lambda x: x, 8) == largest(gradient, 8) == 8
  assert largest(gradient, 128) == 128  # the test sees them


def temporary_bytes(num_rows, vocab_size):
  """Returns the temporary memory of an update, by the compiler's account."""
  model = Transformer(tiny_config(vocab_size=vocab_size, num_layers=1))
  tx = optax.adamw(1e-3)

  def loss(params, batch):
    logprobs, entropies = forward.token_statistics(
      model, params['critic'], batch['tokens']
    )
    return jnp.sum(logprobs), ({'entropy': jnp.sum(entropies)}, {})

  def make_state():
    params = {'critic': random_params(model)}
    return updates.TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))

  batch = {'tokens': jax.ShapeDtypeStruct((num_rows, 65), jnp.int32)}
  state = jax.eval_shape(make_state)
  compiled = updates.update.lower(loss, tx, state, batch).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_the_memory_of_an_update(monkeypatch):
  monkeypatch.setattr(linear_cross_entropy, 'MAX_LOGITS', 2**18)
  base = temporary_bytes(16, 4096)
  logits = 4 * 16 * 64 * 4096  # 16 MiB: all of them once
  embedding = 4 * 4096 * 32
  assert 4 * 2**18 < base < logits
  # Twice the vocabulary: gradients of the head and of the embedding.
  assert temporary_bytes(16, 8192) - base <= 2 * embedding < logits / 10
  # Twice the tokens: the layer's activations, of which the attention weights
  # of 4 heads over 65 tokens and the MLP's 64 units are the most.
  activations = 4 * 16 * 65 * (4 * 4 * 65 + 4 * 64 + 12 * 32)
  assert temporary_bytes(32, 4096) - base <= activations < logits / 2


@pytest.mark.libtpu
@pytest.mark.parametrize(
  'sizes', [dict(fsdp=4, tensor=2), dict(data=2, tensor=2, sequence=2)]
)
def test_no_chunk_adds_the_gradient_of_the_head_over_devices(sizes):
  """On a mesh each device adds up its own, and all once in the end."""
  mesh = topology.make_mesh('v5e', sizes)
  rows, length, width, vocab, chunk = 8, 64, 256, 2048, 128

  def shape(*size, spec, dtype=jnp.bfloat16):
    layout = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.ShapeDtypeStruct(size, dtype, sharding=layout)

  def loss(hidden, kernel, targets):
    logprobs, _ = linear_cross_entropy.token_logprobs_and_entropy(
      hidden, kernel, targets, SamplingParams(0.7, 0, 0.9), axes='dv',
      chunk=chunk,
    )  # fmt: skip
    return jnp.sum(logprobs)

  batch = ('data', 'fsdp'), 'sequence'
  with jax.set_mesh(mesh):
    program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(
      shape(rows, length, width, spec=batch),
      shape(width, vocab, spec=('fsdp', 'tensor')),
      shape(rows, length, spec=batch, dtype=jnp.int32),
    ).compile()  # fmt: skip
  collectives = hlo.read(program.as_text()).collectives
  head = width * vocab // mesh.shape['tensor'] * 4
  whole = [c for c in collectives if c.num_bytes >= head / 4]
  assert whole  # the gradient, and with fsdp the head
  assert [c for c in whole if c.loops] == []
  # With fsdp a device gets its part of the sum only.
  [gradient] = [c for c in whole if c.kind != 'all-gather']
  is_split = mesh.shape['fsdp'] > 1
  assert gradient.kind == ('reduce-scatter' if is_split else 'all-reduce')
  assert gradient.num_bytes <= head / mesh.shape['fsdp']
