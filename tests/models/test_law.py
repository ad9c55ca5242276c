import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.models.law import Law, log_probs

PROBS = np.array([3 / 16, 1 / 2, 1 / 16, 1 / 4])
LOGITS = jnp.log(jnp.asarray(PROBS, jnp.float32)) + 1.5  # any constant


@pytest.mark.parametrize(
  ('law', 'expected'),
  [
    (Law(), PROBS),
    # Squares: 9, 64, 1 and 16 of 256; their sum is 90.
    (Law(temperature=0.5), [9 / 90, 64 / 90, 1 / 90, 16 / 90]),
    # 1/2 and 1/4 make up 3/4.
    (Law(top_k=2), [0, 2 / 3, 0, 1 / 3]),
    (Law(top_k=1), [0, 1, 0, 0]),
    (Law(top_k=4), PROBS),
    (Law(top_k=9), PROBS),
    # Cumulative: 0.5, 0.75, 0.9375, 1. The token that reaches p is kept.
    (Law(top_p=0.49), [0, 1, 0, 0]),
    (Law(top_p=0.74), [0, 2 / 3, 0, 1 / 3]),
    (Law(top_p=0.76), [3 / 15, 8 / 15, 0, 4 / 15]),
    (Law(top_p=0.95), PROBS),
    # top-p of what top-3 leaves: 8/15, 12/15, 15/15; of all it would keep 3.
    (Law(top_k=3, top_p=0.79), [0, 2 / 3, 0, 1 / 3]),
    # top-p of the tempered law: 64/90 = 0.711, 80/90 = 0.889.
    (Law(temperature=0.5, top_p=0.7), [0, 1, 0, 0]),
    (Law(temperature=0.5, top_p=0.8), [0, 0.8, 0, 0.2]),
    (Law(temperature=0.0), [0, 1, 0, 0]),
    (Law(temperature=0.0, top_k=3, top_p=0.9), [0, 1, 0, 0]),
  ],
)
def test_by_hand(law, expected):
  np.testing.assert_allclose(
    jnp.exp(log_probs(LOGITS, law)), expected, rtol=1e-5
  )


def test_observed_tokens_stay():
  # Of 8, 4, 3 and 1 sixteenths, top-1 keeps 8; with the observed: 8 and 1.
  probs = jnp.exp(log_probs(LOGITS, Law(top_k=1), jnp.array(2)))
  np.testing.assert_allclose(probs, [0, 8 / 9, 1 / 9, 0], rtol=1e-5)
  # One that is in the support anyway changes nothing.
  probs = jnp.exp(log_probs(LOGITS, Law(top_k=1), jnp.array(1)))
  np.testing.assert_allclose(probs, [0, 1, 0, 0])


def test_each_row_keeps_its_own_observed_token():
  rows = jnp.stack([LOGITS, LOGITS[::-1]])
  probs = jnp.exp(log_probs(rows, Law(top_k=1), jnp.array([2, 0])))
  np.testing.assert_allclose(
    probs, [[0, 8 / 9, 1 / 9, 0], [1 / 3, 0, 2 / 3, 0]], rtol=1e-5
  )


def test_greedy_takes_the_first_of_equals():
  logits = jnp.array([0.0, 2.0, 1.0, 2.0])
  probs = jnp.exp(log_probs(logits, Law(temperature=0.0)))
  np.testing.assert_array_equal(probs, [0, 1, 0, 0])


@pytest.mark.parametrize(
  'law', [Law(), Law(0.7), Law(2.0, 5), Law(1.0, 0, 0.6), Law(0.3, 40, 0.99)]
)
@pytest.mark.parametrize('scale', [0.0, 1.0, 30.0])
def test_normalised(law, scale):
  logits = scale * jax.random.normal(jax.random.key(0), (3, 5, 50))
  result = log_probs(logits, law)
  assert result.shape == logits.shape and result.dtype == jnp.float32
  np.testing.assert_allclose(
    jnp.sum(jnp.exp(result), axis=-1), np.ones((3, 5)), rtol=1e-5
  )
  assert not np.any(np.isnan(result))


def test_top_p_of_one_keeps_all_of_a_peaked_top_k():
  # The likeliest token takes all but 1e-9: sums in float32 reach 1 at once.
  logits = jnp.array([20.0, 0.0, -1.0, -2.0, -3.0])
  kept = np.isfinite(log_probs(logits, Law(top_k=4)))
  np.testing.assert_array_equal(kept, [True, True, True, True, False])


def test_gradient_by_hand():
  # d log p(y) / d logits = (onehot(y) - p) / temperature, on the support.
  def logprob(logits):
    return log_probs(logits, Law(temperature=0.5, top_k=2))[3]

  # At temperature 1/2, 64 and 16 make up 80.
  expected = [0, (0 - 64 / 80) / 0.5, 0, (1 - 16 / 80) / 0.5]
  np.testing.assert_allclose(jax.grad(logprob)(LOGITS), expected, rtol=1e-5)


@pytest.mark.parametrize(
  'law', [Law(), Law(0.0), Law(1.0, 2), Law(1.0, 0, 0.5), Law(0.5, 2, 0.5)]
)
def test_gradient_of_every_observed_token_is_finite(law):
  def total(logits):
    observed = jnp.arange(4)
    rows = log_probs(jnp.tile(logits, (4, 1)), law, observed)
    return jnp.sum(jnp.take_along_axis(rows, observed[:, None], axis=1))

  value, gradient = jax.value_and_grad(total)(LOGITS)
  assert np.isfinite(value) and np.all(np.isfinite(gradient))
  assert np.any(gradient != 0)


@pytest.mark.parametrize(
  ('law', 'message'),
  [
    (Law(temperature=-1.0), 'temperature: got -1.0; expected >= 0'),
    (Law(temperature=float('nan')), 'temperature: got nan'),
    (Law(top_k=-1), 'top_k: got -1; expected >= 0'),
    (Law(top_p=0.0), r'top_p: got 0.0; expected in \(0, 1\]'),
    (Law(top_p=1.5), 'top_p: got 1.5'),
  ],
)
def test_check(law, message):
  with pytest.raises(ValueError, match=message):
    law.check()


def test_check_returns_the_law():
  assert Law(0.0, 5, 1.0).check() == Law(0.0, 5, 1.0)
