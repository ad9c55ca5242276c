import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from critic_jax.models import sampling_distribution
from critic_jax.models.sampling_distribution import (
  SamplingParams,
  draw,
  log_probs,
)
from critic_jax.runtime import sharding

PROBS = np.array([3 / 16, 1 / 2, 1 / 16, 1 / 4])
LOGITS = jnp.log(jnp.asarray(PROBS, jnp.float32)) + 1.5  # any constant


@pytest.mark.parametrize(
  ('sampling_params', 'expected'),
  [
    (SamplingParams(), PROBS),
    # Squares: 9, 64, 1 and 16 of 256; their sum is 90.
    (SamplingParams(temperature=0.5), [9 / 90, 64 / 90, 1 / 90, 16 / 90]),
    # 1/2 and 1/4 make up 3/4.
    (SamplingParams(top_k=2), [0, 2 / 3, 0, 1 / 3]),
    (SamplingParams(top_k=1), [0, 1, 0, 0]),
    (SamplingParams(top_k=4), PROBS),
    (SamplingParams(top_k=9), PROBS),
    # Cumulative: 0.5, 0.75, 0.9375, 1. The token that reaches p is kept.
    (SamplingParams(top_p=0.49), [0, 1, 0, 0]),
    (SamplingParams(top_p=0.74), [0, 2 / 3, 0, 1 / 3]),
    (SamplingParams(top_p=0.76), [3 / 15, 8 / 15, 0, 4 / 15]),
    (SamplingParams(top_p=0.95), PROBS),
    # top-p after top-3: 8/15, 12/15, 15/15; alone it would keep 3.
    (SamplingParams(top_k=3, top_p=0.79), [0, 2 / 3, 0, 1 / 3]),
    # top-p of the tempered distribution: 64/90 = 0.711, 80/90 = 0.889.
    (SamplingParams(temperature=0.5, top_p=0.7), [0, 1, 0, 0]),
    (SamplingParams(temperature=0.5, top_p=0.8), [0, 0.8, 0, 0.2]),
    (SamplingParams(temperature=0.0), [0, 1, 0, 0]),
    (SamplingParams(temperature=0.0, top_k=3, top_p=0.9), [0, 1, 0, 0]),
  ],
)
def test_by_hand(sampling_params, expected):
  np.testing.assert_allclose(
    jnp.exp(log_probs(LOGITS, sampling_params)), expected, rtol=1e-5
  )


def test_observed_tokens_stay():
  # Top-1 keeps 8 of 8, 4, 3 and 1 sixteenths; with the observed, 8 and 1.
  probs = jnp.exp(log_probs(LOGITS, SamplingParams(top_k=1), jnp.array(2)))
  np.testing.assert_allclose(probs, [0, 8 / 9, 1 / 9, 0], rtol=1e-5)
  # One that is in the support anyway changes nothing.
  probs = jnp.exp(log_probs(LOGITS, SamplingParams(top_k=1), jnp.array(1)))
  np.testing.assert_allclose(probs, [0, 1, 0, 0])


def test_each_row_keeps_its_own_observed_token():
  rows = jnp.stack([LOGITS, LOGITS[::-1]])
  probs = jnp.exp(log_probs(rows, SamplingParams(top_k=1), jnp.array([2, 0])))
  np.testing.assert_allclose(
    probs, [[0, 8 / 9, 1 / 9, 0], [1 / 3, 0, 2 / 3, 0]], rtol=1e-5
  )


def test_greedy_takes_the_first_of_equals():
  logits = jnp.array([0.0, 2.0, 1.0, 2.0])
  probs = jnp.exp(log_probs(logits, SamplingParams(temperature=0.0)))
  np.testing.assert_array_equal(probs, [0, 1, 0, 0])


@pytest.mark.parametrize(
  'sampling_params',
  [
    SamplingParams(),
    SamplingParams(0.7),
    SamplingParams(2.0, 5),
    SamplingParams(1.0, 0, 0.6),
    SamplingParams(0.3, 40, 0.99),
  ],
)
@pytest.mark.parametrize('scale', [0.0, 1.0, 30.0])
def test_normalised(sampling_params, scale):
  logits = scale * jax.random.normal(jax.random.key(0), (3, 5, 50))
  result = log_probs(logits, sampling_params)
  assert result.shape == logits.shape and result.dtype == jnp.float32
  np.testing.assert_allclose(
    jnp.sum(jnp.exp(result), axis=-1), np.ones((3, 5)), rtol=1e-5
  )
  assert not np.any(np.isnan(result))


def test_top_p_of_one_keeps_all_of_a_peaked_top_k():
  # The likeliest token takes all but 1e-9: sums in float32 reach 1 at once.
  logits = jnp.array([20.0, 0.0, -1.0, -2.0, -3.0])
  is_kept = np.isfinite(log_probs(logits, SamplingParams(top_k=4)))
  np.testing.assert_array_equal(is_kept, [True, True, True, True, False])


def test_gradient_by_hand():
  # d log p(y) / d logits = (onehot(y) - p) / temperature, on the support.
  def logprob(logits):
    return log_probs(logits, SamplingParams(temperature=0.5, top_k=2))[3]

  # At temperature 1/2, 64 and 16 make up 80.
  expected = [0, (0 - 64 / 80) / 0.5, 0, (1 - 16 / 80) / 0.5]
  np.testing.assert_allclose(jax.grad(logprob)(LOGITS), expected, rtol=1e-5)


@pytest.mark.parametrize(
  'sampling_params',
  [
    SamplingParams(),
    SamplingParams(0.0),
    SamplingParams(1.0, 2),
    SamplingParams(1.0, 0, 0.5),
    SamplingParams(0.5, 2, 0.5),
  ],
)
def test_gradient_of_every_observed_token_is_finite(sampling_params):
  def total(logits):
    tokens = jnp.arange(4)
    rows = log_probs(jnp.tile(logits, (4, 1)), sampling_params, tokens)
    return jnp.sum(jnp.take_along_axis(rows, tokens[:, None], axis=1))

  value, gradient = jax.value_and_grad(total)(LOGITS)
  assert np.isfinite(value) and np.all(np.isfinite(gradient))
  assert np.any(gradient != 0)


@pytest.mark.parametrize(
  ('sampling_params', 'message'),
  [
    (SamplingParams(temperature=-1.0), 'temperature: got -1.0; expected >= 0'),
    (SamplingParams(temperature=float('nan')), 'temperature: got nan'),
    (SamplingParams(top_k=-1), 'top_k: got -1; expected >= 0'),
    (SamplingParams(top_p=0.0), r'top_p: got 0.0; expected in \(0, 1\]'),
    (SamplingParams(top_p=1.5), 'top_p: got 1.5'),
  ],
)
def test_check(sampling_params, message):
  with pytest.raises(ValueError, match=message):
    sampling_params.check()


def test_check_returns_the_sampling_params():
  assert SamplingParams(0.0, 5, 1.0).check() == SamplingParams(0.0, 5, 1.0)


def support_by_sorting(logits, sampling_params):
  """Computes the support of one row of logits in float64: bool[V]."""
  if sampling_params.temperature == 0:
    return np.arange(len(logits)) == np.argmax(logits)
  # Divided as in the code, so that equals are equal here and there.
  logits = np.asarray(logits, np.float32) / np.float32(
    sampling_params.temperature
  )
  order = np.argsort(-logits, kind='stable')
  if sampling_params.top_k:
    order = order[: sampling_params.top_k]
  if sampling_params.top_p < 1:
    probs = np.exp(np.float64(logits[order]) - np.float64(logits.max()))
    before = np.cumsum(probs) - probs
    reaches = (
      before < np.float64(np.float32(sampling_params.top_p)) * probs.sum()
    )
    order = order[reaches | (np.arange(len(order)) == 0)]
  return logits >= logits[order].min()  # equals stay together


def rows_of_all_kinds():
  """Draws peculiar logits by name; 50 tokens each."""
  random = np.random.default_rng(0)
  normal = random.normal(size=(6, 50)) * [[0.1], [1], [1], [3], [10], [100]]
  peaked = np.append(30.0, np.zeros(49))
  infinite = np.where(random.random(50) < 0.5, -np.inf, normal[2])
  single = np.append(1.5, np.full(49, -np.inf))
  return {
    **{f'normal {row[0]:.2f}': row for row in normal},
    'ties': random.integers(-2, 3, 50) / 2,
    'signed zeros': random.choice([-0.0, 0.0, 1.0, -1.0], 50),
    'equal': np.full(50, -3.25),
    'huge': random.choice([1.5e38, 1e38, -1.5e38, 0.0, 1e-38], 50),
    'all positive': np.abs(normal[3]) + 100,
    'all negative': -np.abs(normal[3]) - 100,
    'peaked': peaked,
    'ruled out': infinite,
    'one left': single,
  }


many_log_probs = jax.jit(log_probs)


@pytest.mark.parametrize('top_p', [1.0, 0.999, 0.9, 0.5, 0.05, 1e-6, 1e-42])
@pytest.mark.parametrize('top_k', [0, 1, 2, 7, 49, 50, 51, 2**31 - 1])
def test_support_is_that_of_sorting(top_k, top_p):
  kinds = rows_of_all_kinds()
  rows = np.stack(list(kinds.values())).astype(np.float32)
  for temperature in (1.0, 1.7, 0.0):
    sampling_params = SamplingParams(temperature, top_k, top_p)
    is_kept = np.isfinite(many_log_probs(rows, sampling_params))
    for name, row, row_is_kept in zip(kinds, rows, is_kept, strict=True):
      expected = support_by_sorting(row, sampling_params) & (row > -np.inf)
      np.testing.assert_array_equal(
        row_is_kept, expected, err_msg=f'{name} {sampling_params}'
      )


def test_support_is_the_same_alone_and_mapped():
  rows = np.stack(list(rows_of_all_kinds().values())).astype(np.float32)
  sampling_params = SamplingParams(0.9, 9, 0.8)
  expected = many_log_probs(rows, sampling_params)
  mapped = jax.jit(jax.vmap(log_probs, (0, None)))(rows, sampling_params)
  batched = log_probs(rows[None], sampling_params)[0]
  single_rows = np.stack([many_log_probs(row, sampling_params) for row in rows])
  all_params = jax.tree.map(lambda x: jnp.full(len(rows), x), sampling_params)
  by_row = jax.jit(jax.vmap(log_probs))(rows, all_params)
  for logprobs in (mapped, batched, single_rows, by_row):
    np.testing.assert_array_equal(logprobs > -np.inf, expected > -np.inf)
    np.testing.assert_allclose(logprobs, expected, rtol=1e-5)


def test_top_p_next_to_1_keeps_no_more_than_top_k():
  # Sums round: that of k tokens may come out above that of more of them.
  rows = jax.random.normal(jax.random.key(1), (500, 60))
  for top_k in (5, 20, 40):
    is_kept = np.isfinite(
      many_log_probs(rows, SamplingParams(1.0, top_k, 1 - 2.0**-24))
    )
    assert np.all(is_kept.sum(axis=-1) <= top_k)


def test_order_of_floats():
  floats = np.array(
    [-np.inf, -3e38, -1.5, -1.0, -1e-38, 0.0, 1e-38, 1.0, 1.5, 3e38, np.inf],
    np.float32,
  )
  order = sampling_distribution._to_order(jnp.asarray(floats))
  assert np.all(np.diff(np.asarray(order).astype(np.int64)) > 0)
  np.testing.assert_array_equal(
    sampling_distribution._from_order(order), floats
  )


def test_nothing_is_sorted():
  text = (
    jax.jit(log_probs)
    .lower(jnp.zeros((2, 9)), SamplingParams(0.9, 3, 0.5))
    .as_text()
  )
  assert 'stablehlo.while' in text  # the bisection
  assert not any(name in text for name in ('sort', 'top_k', 'topk'))


def uniforms(size, seed=0):
  return jax.random.uniform(jax.random.key(seed), (size,))


SETTINGS = (
  SamplingParams(),
  SamplingParams(0.0),
  SamplingParams(0.5),
  SamplingParams(1.0, 20),
  SamplingParams(1.0, 0, 0.6),
  SamplingParams(2.0, 50, 0.9),
)
many_draws = jax.jit(draw)


# Less than a block, a block, and blocks of which the last is partial.
@pytest.mark.parametrize('vocab_size', [1, 60, 128, 300, 1024])
def test_draw_inverts_the_cumulative_distribution(vocab_size):
  logits = 2 * jax.random.normal(jax.random.key(vocab_size), (64, vocab_size))
  # Both ends of the range of a uniform are tested, too.
  uniform = uniforms(64).at[:2].set(jnp.array([0.0, 1 - 2.0**-24]))
  for sampling_params in SETTINGS:
    tokens, logprobs = many_draws(logits, uniform, sampling_params)
    assert tokens.dtype == jnp.int32 and logprobs.dtype == jnp.float32
    all_params = np.asarray(log_probs(logits, sampling_params))
    np.testing.assert_allclose(
      logprobs, all_params[np.arange(64), tokens], atol=1e-6
    )
    probs = np.exp(all_params.astype(np.float64))
    above = np.cumsum(probs, axis=-1)
    rows = np.arange(64)
    # The uniform lies in the token's cell, up to rounding.
    assert np.all(above[rows, tokens] > np.asarray(uniform) - 1e-6)
    below = above[rows, tokens] - probs[rows, tokens]
    assert np.all(below < np.asarray(uniform) + 1e-6)


def test_draw_of_one_row_and_of_many_axes():
  logits = jax.random.normal(jax.random.key(0), (3, 4, 200))
  uniform = uniforms(12).reshape(3, 4)
  tokens, logprobs = many_draws(logits, uniform, SamplingParams(top_k=30))
  assert tokens.shape == logprobs.shape == (3, 4)
  token, logprob = many_draws(
    logits[1, 2], uniform[1, 2], SamplingParams(top_k=30)
  )
  assert token == tokens[1, 2]
  np.testing.assert_allclose(logprob, logprobs[1, 2], rtol=1e-6)


@pytest.mark.parametrize('sampling_params', SETTINGS)
def test_draws_fit_the_distribution(sampling_params):
  """Chi-square tests at odds of 1e-6 of a false alarm, were the seed drawn."""
  logits = 1.5 * jax.random.normal(jax.random.key(5), (300,))
  rows = jnp.broadcast_to(logits, (20000, 300))
  tokens, _ = many_draws(rows, uniforms(20000, seed=7), sampling_params)
  probs = np.exp(np.asarray(log_probs(logits, sampling_params), np.float64))
  counts = np.bincount(tokens, minlength=300)
  assert not np.any(counts[probs == 0])
  expected = 20000 * probs / probs.sum()
  often = expected >= 10
  counts = np.append(counts[often], counts[~often].sum())
  expected = np.append(expected[often], expected[~often].sum())
  counts, expected = counts[expected > 0], expected[expected > 0]
  statistic = np.sum((counts - expected) ** 2 / expected)
  assert statistic <= scipy.stats.chi2.isf(1e-6, max(1, len(expected) - 1))


def test_what_has_no_weight_is_never_taken():
  # A float32 prefix sum over 1000 weights rises in its last bit where they are
  # 0. Put the target on each of these rises, and beside it.
  logits = 3 * jax.random.normal(jax.random.key(0), (80, 1000))
  weights = jnp.exp(log_probs(logits, SamplingParams(top_k=20)))
  sums = np.asarray(jax.jit(functools.partial(jnp.cumsum, axis=-1))(weights))
  rises = (np.diff(sums, axis=-1) > 0) & (np.asarray(weights)[:, 1:] == 0)
  rows, columns = (x[:80] for x in np.nonzero(rises))
  assert len(rows) == 80  # else the sum is exact here, and all is well anyway
  target = sums[rows, columns] + np.float32([[-(2**-24)], [0], [2**-24]])
  first_above = jax.jit(jax.vmap(sampling_distribution._first_above, (None, 0)))
  index, _ = first_above(weights[rows], jnp.asarray(target, jnp.float32))
  assert np.all(np.asarray(weights)[rows, index] > 0)


def test_blocks_without_weight_are_never_taken():
  logits = jnp.full((6, 900), -jnp.inf).at[:, 500].set(0.0)
  logits = logits.at[3:, 10].set(-80.0).at[3:, 899].set(-80.0)
  edges = jnp.tile(jnp.array([0.0, 0.5, 1 - 2.0**-24]), 2)
  tokens, logprobs = many_draws(logits, edges, SamplingParams())
  np.testing.assert_array_equal(tokens, 500)
  np.testing.assert_array_equal(logprobs, 0)


def test_first_above_by_hand():
  # Cumulative: 0, 2, 2, 5, 6, 6.
  weights = jnp.array([0.0, 2.0, 0.0, 3.0, 1.0, 0.0])
  targets = jnp.array([-1.0, 0.0, 1.9, 2.0, 4.9, 5.0, 6.0, 9.0])
  index, remainder = jax.vmap(sampling_distribution._first_above, (None, 0))(
    weights, targets
  )
  np.testing.assert_array_equal(index, [1, 1, 1, 3, 3, 4, 4, 4])
  np.testing.assert_allclose(remainder, [0, 0, 1.9, 0, 2.9, 0, 1, 1], atol=1e-6)


def test_draw_keeps_nothing_as_long_as_the_vocabulary():
  logits, uniform = jnp.zeros((4, 2**16)), jnp.zeros(4)
  # Without the branch of a truncated distribution, which keeps truncated
  # logits.
  compiled = (
    jax.jit(sampling_distribution._invert).lower(logits, uniform).compile()
  )
  size = compiled.memory_analysis().temp_size_in_bytes
  assert size < logits.nbytes / 8


@pytest.mark.parametrize('digit_bits', [1, 2, 4])
@pytest.mark.parametrize('top_k', [1, 3, 40, 50])
def test_digits_of_any_size_find_the_same_number(digit_bits, top_k):
  """The k-th largest of a sorted row, also where rows end at infinities."""
  rows = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
  rows[1, ::2], rows[2], rows[3] = -np.inf, 0.5, np.abs(rows[3])
  rows[4] *= 1e30
  found = sampling_distribution._search(jnp.asarray(rows), 1, top_k, digit_bits)
  kth = np.sort(rows)[:, ::-1][:, min(top_k, 40) - 1]
  lowest = np.where(top_k > 40, -np.inf, kth)
  np.testing.assert_array_equal(found[:, 0], lowest)


@pytest.mark.parametrize('vocab_size', [8, 600, 4 * 333])
def test_a_split_vocabulary_is_drawn_from_like_a_whole_one(
  monkeypatch, vocab_size
):
  """No part is a multiple of a block: each pads its own last block."""
  random = np.random.default_rng(1)
  logits = jnp.asarray(random.normal(size=(200, vocab_size)), jnp.float32)
  uniform = jnp.asarray(random.uniform(size=200), jnp.float32)
  params = SamplingParams(0.8, 0, 0.9)
  whole = draw(logits, uniform, params)
  monkeypatch.setattr(sharding, 'num_parts', lambda name, size: 4)
  split = draw(logits, uniform, params)
  np.testing.assert_array_equal(split[0], whole[0])
  np.testing.assert_allclose(split[1], whole[1], atol=1e-5)
  assert len(set(whole[0].tolist())) > 5
