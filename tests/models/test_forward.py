import functools
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import VOCAB_SIZE, random_params, tiny_config, tiny_model

from critic_jax.models import forward
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer

ROWS, COLUMNS = 3, 11

jit = functools.partial(jax.jit, static_argnums=0)
statistics = jax.jit(
  forward.token_statistics, static_argnums=0, static_argnames='chunk'
)
values = jit(forward.token_values)
scores = jit(forward.response_scores)
token_scores = jit(forward.token_scores)
logits = jit(forward.logits)
hidden_states = jit(forward.hidden_states)


def tokens(seed=0):
  random = np.random.default_rng(seed)
  return random.integers(0, VOCAB_SIZE, (ROWS, COLUMNS)).astype(np.int32)


@pytest.fixture(scope='module')
def value_model():
  return tiny_model(num_layers=1, head='value')


def test_alignment_of_logprobs_and_entropies():
  model, params = tiny_model(num_layers=1)
  logprobs, entropies = statistics(model, params, tokens())
  expected = np.zeros((2, ROWS, COLUMNS))
  log_probs = np.asarray(jax.nn.log_softmax(logits(model, params, tokens())))
  for b, t in np.ndindex(ROWS, COLUMNS):
    if t:  # the logits after token t - 1 are about token t
      row = log_probs[b, t - 1].astype(np.float64)
      expected[:, b, t] = row[tokens()[b, t]], -np.sum(np.exp(row) * row)
  np.testing.assert_allclose(logprobs, expected[0], atol=1e-5)
  np.testing.assert_allclose(entropies, expected[1], atol=1e-4)
  assert logprobs.dtype == entropies.dtype == jnp.float32
  assert not np.any(logprobs[:, 0]) and not np.any(entropies[:, 0])


@pytest.mark.parametrize('chunk', [1, 9, 21, 10_000])
def test_the_chunk_changes_nothing(chunk):
  # Three rows of ten targets: 1, 3, 7 or all 10 columns at a time, of which 3
  # and 7 leave a rest.
  model, params = tiny_model(num_layers=1)
  expected = statistics(model, params, tokens())
  actual = statistics(model, params, tokens(), chunk=chunk)
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_padding_to_the_right_changes_nothing(value_model):
  model, params = tiny_model(num_layers=1)
  padded = np.pad(tokens(), ((0, 1), (0, 5)), constant_values=9)
  expected = statistics(model, params, tokens())
  actual = np.array(statistics(model, params, padded))
  np.testing.assert_allclose(actual[:, :ROWS, :COLUMNS], expected, atol=1e-5)
  np.testing.assert_allclose(
    values(*value_model, padded)[:ROWS, :COLUMNS],
    values(*value_model, tokens()),
    atol=1e-5,
  )


def constant_model(probs, **changes):
  """Makes a model that predicts `probs` after any text.

  Its hidden states are ones, since its layers add nothing to embeddings of
  ones; each of the 32 rows of its head holds log(p) / 32.
  """
  model = Transformer(
    tiny_config(
      vocab_size=len(probs), tie_embeddings=False, num_layers=1, **changes
    )
  )
  params = jax.tree.map(jnp.zeros_like, random_params(model))
  params['embed']['embedding'] += 1
  params['final_norm']['scale'] += 1
  params['lm_head']['kernel'] += jnp.log(jnp.array(probs)) / 32
  return model, params


@pytest.mark.parametrize(
  ('sampling_params', 'probs'),
  [
    (SamplingParams(), [1 / 2, 1 / 4, 3 / 16, 1 / 16]),
    # Squares 64, 16, 9, 1 of 90.
    (SamplingParams(temperature=0.5), [64 / 90, 16 / 90, 9 / 90, 1 / 90]),
    (SamplingParams(top_k=2), [2 / 3, 1 / 3]),
    (SamplingParams(top_p=0.76), [8 / 15, 4 / 15, 3 / 15]),
    (SamplingParams(temperature=0.0), [1]),
  ],
)
def test_entropy_by_hand(sampling_params, probs):
  model, params = constant_model([1 / 2, 1 / 4, 3 / 16, 1 / 16])
  row = jnp.zeros((1, 3), jnp.int32)
  logprobs, entropies = statistics(
    model, params, row, sampling_params=sampling_params
  )
  entropy = -sum(p * math.log(p) for p in probs)
  np.testing.assert_allclose(
    logprobs, [[0, *[math.log(probs[0])] * 2]], atol=1e-5
  )
  np.testing.assert_allclose(entropies, [[0, entropy, entropy]], atol=1e-5)


def test_an_observed_token_outside_of_the_support_has_logprob_and_gradient():
  model, params = constant_model([1 / 2, 1 / 4, 3 / 16, 1 / 16])
  row = jnp.array([[0, 3]])

  def logprob(kernel):
    changed = {**params, 'lm_head': {'kernel': kernel}}
    actual = forward.token_logprobs(
      model, changed, row, sampling_params=SamplingParams(top_k=1)
    )
    return actual[0, 1]

  value, gradient = jax.jit(jax.value_and_grad(logprob))(
    params['lm_head']['kernel']
  )
  # 8 and 1 sixteenths are left: 8/9 and 1/9.
  assert value == pytest.approx(math.log(1 / 9), abs=1e-5)
  np.testing.assert_allclose(gradient[0], [-8 / 9, 0, 0, 8 / 9], atol=1e-5)


def test_the_entropy_carries_no_gradient():
  model, params = tiny_model(num_layers=1)
  gradient = jax.jit(
    jax.grad(lambda p: jnp.sum(forward.token_statistics(model, p, tokens())[1]))
  )(params)
  assert not any(np.any(x) for x in jax.tree.leaves(gradient))


def arrays_in(jaxpr):
  """Returns the shapes of all values computed in a jaxpr, nested ones too."""
  for equation in jaxpr.eqns:
    yield from (v.aval.shape for v in equation.outvars)
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from arrays_in(inner)


def test_the_gradient_holds_no_logits_of_the_whole_batch():
  # V is the largest size by far, so that logits are the largest arrays.
  model = Transformer(tiny_config(vocab_size=4096, num_layers=1))
  params = jax.eval_shape(lambda: random_params(model))
  row = jax.ShapeDtypeStruct((4, 65), jnp.int32)  # 4 x 64 targets

  def largest(chunk, sampling_params):
    def loss(params, row):
      logprobs, entropies = forward.token_statistics(
        model, params, row, sampling_params=sampling_params, chunk=chunk
      )
      return jnp.sum(logprobs), jnp.sum(entropies)

    jaxpr = jax.make_jaxpr(jax.grad(loss, has_aux=True))(params, row).jaxpr
    return max(math.prod(shape) for shape in arrays_in(jaxpr) if 4096 in shape)

  for sampling_params in (SamplingParams(), SamplingParams(0.7, 5, 0.9)):
    assert largest(32, sampling_params) == 32 * 4096  # 4 rows of 8 columns
    assert largest(256, sampling_params) == 4 * 64 * 4096  # the test sees them


def test_values_come_before_their_tokens(value_model):
  actual = np.asarray(values(*value_model, tokens()))
  assert actual.shape == (ROWS, COLUMNS) and actual.dtype == np.float32
  assert not np.any(actual[:, 0])
  changed = tokens()
  changed[:, 4] = (changed[:, 4] + 1) % VOCAB_SIZE
  other = np.asarray(values(*value_model, changed))
  # The value before token 4 has not read it; the value before token 5 has.
  np.testing.assert_allclose(actual[:, :5], other[:, :5], atol=1e-6)
  assert np.all(np.abs(actual - other)[:, 5] > 1e-4)


def test_values_are_the_head_of_the_state_before(value_model):
  model, params = value_model
  hidden = hidden_states(model, params, tokens())
  kernel = params['scalar_head']['kernel']
  np.testing.assert_allclose(
    values(model, params, tokens())[:, 1:],
    (hidden @ kernel)[:, :-1, 0],
    atol=1e-5,
  )


def test_scores_are_the_head_at_the_last_response_token():
  model, params = tiny_model(num_layers=1, head='reward')
  mask = np.zeros((ROWS, COLUMNS), bool)
  mask[0, 3:7] = True
  mask[1, [2, 9]] = True  # a hole, as a tool's tokens make
  actual = scores(model, params, tokens(), mask)
  hidden = hidden_states(model, params, tokens())
  every = np.asarray(hidden @ params['scalar_head']['kernel'])[..., 0]
  # Row 2 has no response: it scores at its first token.
  np.testing.assert_allclose(
    actual, [every[0, 6], every[1, 9], every[2, 0]], atol=1e-5
  )
  np.testing.assert_allclose(
    token_scores(model, params, tokens()), every, atol=1e-5
  )
  assert actual.dtype == jnp.float32
