import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import masked

KINDS = [np.asarray, jnp.asarray]
AGGREGATES = ['token', 'sequence', 'constant']


def random_case(seed=0, shape=(5, 7)):
  random = np.random.default_rng(seed)
  x = random.normal(size=shape).astype(np.float32)
  return x, random.random(shape) < 0.6


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('axis', [None, 0, 1])
def test_mean_is_that_of_numpy_masked_arrays(kind, axis):
  x, mask = random_case()
  expected = np.ma.masked_array(x, ~mask).mean(axis=axis)
  actual = masked.mean(kind(x), kind(mask), axis)
  np.testing.assert_allclose(actual, np.ma.filled(expected, 0), rtol=1e-5)


def test_mean_counts_what_broadcasting_repeats():
  # (2 + 2 + 3) / 3: the mask selects two places of row 0, one of row 1.
  mask = jnp.array([[True, True], [True, False]])
  x = jnp.array([[2.0], [3.0]])
  np.testing.assert_allclose(masked.mean(x, mask), 7 / 3, rtol=1e-6)
  row = jnp.array([[True, False]])
  np.testing.assert_allclose(masked.mean(jnp.ones((3, 2)), row), 1.0)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('axis', [None, 0, 1])
def test_whiten_is_that_of_numpy_masked_arrays(kind, axis):
  x, mask = random_case()
  masked_x = np.ma.masked_array(x, ~mask)
  means = masked_x.mean(axis=axis, keepdims=True)
  expected = (masked_x - means) / masked_x.std(axis=axis, keepdims=True)
  actual = masked.whiten(kind(x), kind(mask), axis)
  np.testing.assert_allclose(actual, np.ma.filled(expected, 0), atol=1e-5)


@pytest.mark.parametrize('scale', [1e-30, 1e-3, 1.0, 1e30])
def test_whiten_does_not_depend_on_scale(scale):
  x, mask = random_case()
  expected = masked.whiten(x, mask)
  np.testing.assert_allclose(
    masked.whiten(x * np.float32(scale), mask), expected, rtol=1e-5
  )


def test_whiten_by_hand():
  # Mean 2, deviations -1, 1, population standard deviation 1.
  x = np.array([[1.0, 3.0, 9.0]])
  mask = np.array([[True, True, False]])
  np.testing.assert_array_equal(masked.whiten(x, mask), [[-1, 1, 0]])


@pytest.mark.parametrize('function', [masked.center, masked.whiten])
@pytest.mark.parametrize('kind', KINDS)
def test_equal_values_give_exactly_zero(function, kind):
  x = kind(np.full((3, 7), 0.1, np.float32))
  mask = kind(np.ones((3, 7), bool))
  assert not np.any(function(x, mask))
  # One ulp of difference is rounding, not a signal.
  x = kind(np.array([[0.3, 0.1 + 0.2, np.nextafter(np.float32(0.3), 1)]]))
  assert not np.any(function(x, kind(np.ones((1, 3), bool))))


def test_small_differences_above_rounding_are_a_signal():
  x = np.array([[1.0, 1.00001]])
  np.testing.assert_allclose(
    masked.whiten(x, np.ones((1, 2), bool)), [[-1, 1]], rtol=1e-3
  )


@pytest.mark.parametrize('kind', KINDS)
def test_masked_places_may_hold_anything(kind):
  x = kind(np.array([[1.0, 3.0, np.nan, np.inf]]))
  mask = kind(np.array([[True, True, False, False]]))
  assert masked.mean(x, mask) == 2.0
  np.testing.assert_array_equal(masked.center(x, mask), [[-1, 1, 0, 0]])
  np.testing.assert_array_equal(masked.whiten(x, mask), [[-1, 1, 0, 0]])


@pytest.mark.parametrize('kind', KINDS)
def test_an_empty_mask_gives_zeros(kind):
  x, mask = kind(np.ones((2, 3))), kind(np.zeros((2, 3), bool))
  with np.errstate(all='raise'):
    assert masked.mean(x, mask) == 0
    assert not np.any(masked.center(x, mask))
    assert not np.any(masked.whiten(x, mask))
    for aggregate in AGGREGATES:
      assert not np.any(masked.loss_weights(mask, aggregate, max_len=3))


# Three trained tokens in row 0, one in row 1, none in row 2: padding.
MASK = np.array(
  [[0, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]],
  dtype=bool,
)


@pytest.mark.parametrize(
  'aggregate, long, short',
  [
    ('token', 1 / 4, 1 / 4),  # 3 + 1 tokens
    ('sequence', 1 / (3 * 2), 1 / (1 * 2)),  # 2 rows that have any
    ('constant', 1 / (10 * 2), 1 / (10 * 2)),
  ],
)
@pytest.mark.parametrize('kind', KINDS)
def test_loss_weights_by_hand(aggregate, long, short, kind):
  weights = masked.loss_weights(kind(MASK), aggregate, max_len=10)
  expected = [[0, long, long, long], [0, short, 0, 0], [0, 0, 0, 0]]
  np.testing.assert_allclose(weights, np.float32(expected), rtol=1e-6)
  assert isinstance(weights, type(kind(MASK)))
  assert weights.dtype == np.float32


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_padding_does_not_change_the_loss(aggregate):
  x, mask = random_case()
  mask[:, 0] = True
  loss = np.sum(x * masked.loss_weights(mask, aggregate, max_len=9))
  x = np.pad(x, ((0, 3), (0, 4)), constant_values=7)
  mask = np.pad(mask, ((0, 3), (0, 4)))
  padded = np.sum(x * masked.loss_weights(mask, aggregate, max_len=9))
  np.testing.assert_allclose(padded, loss, rtol=1e-5)


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_microbatches_add_up(aggregate):
  x, mask = random_case(shape=(6, 5))
  mask[2] = False
  terms = x * masked.loss_weights(mask, aggregate, max_len=5)
  parts = [np.sum(rows) for rows in np.split(terms, 3)]
  if aggregate == 'sequence':
    rows = [
      row[trained].mean()
      for row, trained in zip(x, mask, strict=True)
      if trained.any()
    ]
    expected = np.mean(rows)
  else:
    count = mask.sum() if aggregate == 'token' else 5 * mask.any(1).sum()
    expected = x[mask].sum() / count
  np.testing.assert_allclose(sum(parts), expected, rtol=1e-5)


def test_loss_weights_names_the_choices():
  with pytest.raises(ValueError, match="got 'mean'.*'token', 'sequence'"):
    masked.loss_weights(MASK, 'mean')


@pytest.mark.parametrize('max_len', [None, 0, -3])
def test_constant_needs_a_length(max_len):
  with pytest.raises(ValueError, match='max_len'):
    masked.loss_weights(MASK, 'constant', max_len=max_len)


def test_the_host_does_not_touch_a_device():
  x, mask = random_case()
  with jax.transfer_guard('disallow'):
    masked.whiten(x, mask)
    masked.loss_weights(mask, 'sequence')
