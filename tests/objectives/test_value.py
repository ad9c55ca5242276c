import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import value


def random_case(shape=(4, 6)):
  random = np.random.default_rng(0)
  arrays = random.normal(size=(3, *shape)).astype(np.float32)
  return *map(jnp.asarray, arrays), jnp.asarray(random.random(shape) < 0.7)


def gradient(objective, values, *args, **settings):
  total = lambda x: jnp.sum(objective(x, *args, **settings))  # noqa: E731
  return jax.grad(total)(values)


def test_squared_by_hand():
  values, returns = jnp.array([[3.0, 5.0]]), jnp.array([[1.0, 0.0]])
  mask = jnp.array([[True, False]])
  case = values, values, returns, mask
  # (3 - 1)**2 / 2, with gradient 3 - 1.
  np.testing.assert_array_equal(value.squared(*case), [[2, 0]])
  np.testing.assert_array_equal(gradient(value.squared, *case), [[2, 0]])


@pytest.mark.parametrize(
  'values, expected, slope',
  [
    (0.3, 0.7**2 / 2, -0.7),  # within the clip of the old value 0
    (0.9, 0.5**2 / 2, 0.0),  # moved to the target by more than 0.5
    (-0.9, 1.9**2 / 2, -1.9),  # moved away: followed
  ],
)
def test_clipped_by_hand(values, expected, slope):
  unit = jnp.ones((1, 1))
  case = values * unit, 0 * unit, unit, unit > 0
  actual = value.clipped(*case, clip=0.5)
  np.testing.assert_allclose(actual, [[expected]], rtol=1e-6)
  actual = gradient(value.clipped, *case, clip=0.5)
  np.testing.assert_allclose(actual, [[slope]], rtol=1e-6)


def test_an_infinite_clip_is_squared():
  case = random_case()
  np.testing.assert_array_equal(
    value.clipped(*case, clip=jnp.inf), value.squared(*case)
  )


def test_clipped_is_never_below_squared():
  case = random_case()
  difference = value.clipped(*case, clip=0.1) - value.squared(*case)
  assert np.min(difference) >= 0
  assert np.max(difference) > 0


@pytest.mark.parametrize('objective', [value.squared, value.clipped])
@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf, -jnp.inf])
def test_masked_places_reach_neither_value_nor_gradient(objective, bad):
  *arrays, mask = random_case()
  case = [jnp.where(mask, x, bad) for x in arrays]
  for actual in (objective(*case, mask), gradient(objective, *case, mask)):
    assert np.all(np.isfinite(actual))
    assert not np.any(np.asarray(actual)[~np.asarray(mask)])


@pytest.mark.parametrize('objective', [value.squared, value.clipped])
def test_gradient_flows_through_values_only(objective):
  *arrays, mask = random_case()
  total = lambda *x: jnp.sum(objective(*x, mask))  # noqa: E731
  _, old_slope, returns_slope = jax.grad(total, (0, 1, 2))(*arrays)
  assert not np.any(old_slope)
  assert not np.any(returns_slope)
