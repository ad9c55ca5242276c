import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers import VOCAB_SIZE, assemble, log_compilations, slow, tiny_model

from critic_jax.models import forward
from critic_jax.models.sampling_distribution import SamplingParams, log_probs
from critic_jax.sampling import decode

LENGTH = np.array([1, 8, 0, 5])  # of prompts; 0 is padding of the batch
EOS = (3, 7, 11, 19, 23, 42)
PLAIN = SamplingParams()
SETTINGS = (
  PLAIN,
  SamplingParams(temperature=0.7),
  SamplingParams(top_p=0.8),
  SamplingParams(top_k=5),
  SamplingParams(temperature=1.3, top_k=20, top_p=0.9),
)


def prompts(seed=0, columns=8, rows=4):
  random = np.random.default_rng(seed)
  return random.integers(1, VOCAB_SIZE, (rows, columns)).astype(np.int32)


def keys(seed=0, rows=8):
  return jax.random.split(jax.random.key(seed), rows)


def sample(
  model, params, sampling_params=PLAIN, *, tokens=None, length=LENGTH, **changes
):
  """Samples twelve tokens after each of four prompts, twice; numpy arrays."""
  settings = dict(keys=keys(), eos=EOS, max_new_tokens=12, num_samples=2)
  settings |= changes
  settings['eos'] = jnp.array(settings['eos'])
  tokens = prompts() if tokens is None else tokens
  samples = decode.sample(
    model,
    params,
    jnp.asarray(tokens),
    jnp.asarray(length),
    sampling_params=sampling_params,
    **settings,
  )
  return jax.device_get(samples)


@pytest.fixture(scope='module')
def qwen3():
  return tiny_model('qwen3')


token_logprobs = jax.jit(forward.token_logprobs, static_argnums=0)
logits = jax.jit(forward.logits, static_argnums=0)


@pytest.mark.parametrize(
  ('family', 'changes'),
  [
    ('qwen3', {}),
    # One layer compiles in half the time.
    ('qwen2', dict(num_layers=1, tie_embeddings=False)),
    ('gemma3', {}),  # a layer with a window, and one without
    ('qwen3_moe', dict(num_layers=1)),
    *slow(
      ('llama', dict(num_layers=1)),
      ('qwen2', dict(num_layers=1)),
      ('llama', dict(num_layers=1, tie_embeddings=False)),
      ('qwen3', dict(num_layers=1, tie_embeddings=False)),
      ('mistral', dict(num_layers=1)),
    ),
  ],
)
def test_sampler_equals_trainer(family, changes):
  model, params = tiny_model(family, **changes)
  stopped = []
  for sampling_params in SETTINGS:
    samples = sample(model, params, sampling_params)
    stopped += [*samples.stopped[[0, 1, 2, 3, 6, 7]]]
    rows, mask, recorded = assemble(prompts(), LENGTH, samples)
    computed = token_logprobs(
      model, params, rows, sampling_params=sampling_params
    )
    np.testing.assert_allclose(
      recorded[mask], computed[mask], atol=1e-4, err_msg=str(sampling_params)
    )
    # The test means something: rows of several lengths, tokens that were not
    # certain, and some rows that stopped.
    assert len(set(samples.length)) > 2
    assert recorded.min() < -1
  assert 0 < np.mean(stopped) < 1


def test_greedy_is_the_largest_logit_with_logprob_0(qwen3):
  model, params = qwen3
  samples = sample(model, params, SamplingParams(temperature=0.0))
  rows, mask, recorded = assemble(prompts(), LENGTH, samples)
  best = np.argmax(logits(model, params, rows), axis=-1)
  np.testing.assert_array_equal(
    rows[:, 1:][mask[:, 1:]], best[:, :-1][mask[:, 1:]]
  )
  np.testing.assert_array_equal(recorded, 0)
  assert mask.sum() > 20
  # Keys do not matter.
  samples_of_other_keys = sample(
    model, params, SamplingParams(temperature=0.0), keys=keys(9)
  )
  np.testing.assert_array_equal(samples.tokens, samples_of_other_keys.tokens)


def test_form_of_the_samples(qwen3):
  samples = sample(*qwen3)
  for tokens, length, logprobs, stopped in zip(*samples, strict=True):
    assert np.all(tokens[length:] == 0) and np.all(logprobs[length:] == 0)
    assert np.all(logprobs[:length] < 0)
    assert not set(tokens[: max(0, length - 1)]) & set(EOS)
    assert stopped == (length > 0 and tokens[length - 1] in EOS)
    assert stopped or length in (0, 12)


def test_nothing_is_sampled_for_rows_of_length_0(qwen3):
  samples = sample(*qwen3)
  np.testing.assert_array_equal(samples.length[4:6], 0)  # siblings of row 2
  assert not np.any(samples.tokens[4:6]) and not np.any(samples.stopped[4:6])
  assert np.all(np.delete(samples.length, (4, 5)) > 0)


def test_a_first_token_that_ends_is_kept(qwen3):
  free = sample(*qwen3, eos=(-1,) * 6)
  first = free.tokens[0, 0]
  ended = sample(*qwen3, eos=(-1, -1, first, -1, -1, -1))
  assert ended.length[0] == 1 and ended.stopped[0]
  assert ended.tokens[0].tolist() == [first, *[0] * 11]
  np.testing.assert_allclose(ended.logprobs[0, 0], free.logprobs[0, 0])


def test_a_row_at_the_limit_has_not_stopped(qwen3):
  free = sample(*qwen3, eos=(-1,) * 6)
  live = [0, 1, 2, 3, 6, 7]
  assert not np.any(free.stopped) and np.all(free.length[live] == 12)
  # Unless its very last token ends it.
  row = next(r for r in live if free.tokens[r, 11] not in free.tokens[r, :11])
  ended = sample(*qwen3, eos=(free.tokens[row, 11],) * 6)
  assert ended.length[row] == 12 and ended.stopped[row]


def test_prompt_columns_after_the_length_are_not_read(qwen3):
  tokens = prompts()
  noise = np.where(np.arange(8) < LENGTH[:, None], tokens, prompts(seed=5))
  assert np.any(noise != tokens)
  for x, y in zip(sample(*qwen3), sample(*qwen3, tokens=noise), strict=True):
    np.testing.assert_array_equal(x, y)


def assert_row(samples, row, expected, expected_row):
  assert samples.length[row] == expected.length[expected_row]
  assert samples.stopped[row] == expected.stopped[expected_row]
  for name in ('tokens', 'logprobs'):
    np.testing.assert_allclose(
      getattr(samples, name)[row],
      getattr(expected, name)[expected_row],
      atol=1e-5,
    )


def test_a_text_depends_on_its_own_key_only(qwen3):
  base = sample(*qwen3)
  # Another order, with other rows around: row 1 stays what it was as row 3.
  tokens, length, row_keys = prompts(1), np.array([4, 2, 8, 8]), keys(1)
  tokens[3], row_keys = prompts()[1], row_keys.at[6:8].set(keys()[2:4])
  shifted = sample(*qwen3, tokens=tokens, length=length, keys=row_keys)
  for sibling in range(2):
    assert_row(shifted, 6 + sibling, base, 2 + sibling)
  # More rows, in a wider bucket.
  tokens = prompts(2, columns=16, rows=8)
  tokens[4:, :8], length = prompts(), np.array([16, 9, 3, 1, *LENGTH])
  row_keys = jnp.concatenate([keys(2), keys()])
  wider = sample(*qwen3, tokens=tokens, length=length, keys=row_keys)
  for row in range(8):
    assert_row(wider, 8 + row, base, row)


def test_other_keys_give_other_texts(qwen3):
  # About 30 tokens are likely, so two rows of 12 are never equal by chance.
  eos = (-1,) * 6
  base = sample(*qwen3, eos=eos)
  live = [0, 1, 2, 3, 6, 7]
  step_key = jax.random.fold_in(jax.random.key(0), 1)
  other = sample(*qwen3, eos=eos, keys=jax.random.split(step_key, 8))
  for row in live:
    assert np.any(base.tokens[row] != other.tokens[row])
  for row in (0, 2, 6):  # siblings differ
    assert np.any(base.tokens[row] != base.tokens[row + 1])
  # A step's noise is its own: no row repeats one token.
  assert all(len(set(base.tokens[row])) > 3 for row in live)
  second_sample = sample(*qwen3, eos=eos)
  np.testing.assert_array_equal(base.tokens, second_sample.tokens)


def test_values_do_not_recompile(qwen3):
  sample(*qwen3)
  with log_compilations() as compiled:
    others = SamplingParams(temperature=0.0), SamplingParams(0.2, 3, 0.4)
    for sampling_params in (*SETTINGS, *others):
      sample(*qwen3, sampling_params, eos=(1, 2, 3, 4, 5, 6))
    jax.jit(lambda x: x + 1)(0)  # to see that the count works
  assert [name for name in compiled if name != '<lambda>'] == []
  assert compiled


def frequencies_fit(tokens, probs):
  """Whether tokens fit a distribution: a chi-square test at odds of 1e-6.

  Tokens expected fewer than 10 times are counted together.
  """
  expected = probs * len(tokens)
  counts = np.bincount(tokens, minlength=len(probs))
  assert not np.any(counts[probs == 0])
  rare = (expected < 10) & (probs > 0)
  expected = np.append(expected[expected >= 10], expected[rare].sum())
  counts = np.append(counts[(probs > 0) & ~rare], counts[rare].sum())
  expected, counts = expected[expected > 0], counts[expected > 0]
  statistic = np.sum((counts - expected) ** 2 / expected)
  return statistic < scipy.stats.chi2.isf(1e-6, len(expected) - 1)


def test_frequencies_are_those_of_the_sampling_distribution(qwen3):
  """Four tests at odds of 1e-6 of a false alarm each, were the seed drawn."""
  model, params = qwen3
  tokens = prompts()[1:2]
  row = jnp.zeros((8, 20), jnp.int32).at[0, :8].set(tokens[0])
  scores = logits(model, params, row)[0, 7]
  settings = (
    SamplingParams(),
    SamplingParams(0.7),
    SamplingParams(1.0, 8),
    SamplingParams(1.0, 0, 0.7),
  )
  supports = []
  for number, sampling_params in enumerate(settings):
    draws = sample(
      model, params, sampling_params, tokens=tokens, length=np.array([8]),
      num_samples=4096, max_new_tokens=1, keys=keys(10 + number, 4096),
    ).tokens[:, 0]  # fmt: skip
    probs = np.exp(np.asarray(log_probs(scores, sampling_params), np.float64))
    supports.append(np.sum(probs > 0))
    assert frequencies_fit(draws, probs), sampling_params
  # The test would notice one distribution instead of another.
  assert supports[:3] == [64, 64, 8] and 4 < supports[3] < 64
  assert not frequencies_fit(draws[np.isin(draws, draws[:10])], probs)
  plain = np.exp(np.asarray(log_probs(scores, settings[0]), np.float64))
  sharp = np.random.default_rng(0).choice(
    64, 4096, p=plain**1.1 / np.sum(plain**1.1)
  )
  assert not frequencies_fit(sharp, plain)
