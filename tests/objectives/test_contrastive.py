import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import contrastive


def gradient(loss, x, *others):
  return jax.grad(lambda y: jnp.sum(loss(y, *others)))(x)


def views(num=5, dim=8, seed=0):
  random = np.random.default_rng(seed)
  return [
    jnp.asarray(random.normal(size=(num, dim)), jnp.float32) for _ in range(2)
  ]


def test_simcse_by_hand():
  """Two responses at a right angle; the second view of one is turned by 60."""
  first = jnp.array([[2.0, 0.0], [0.0, 3.0]])
  second = jnp.array([[0.5, math.sqrt(0.75)], [0.0, 1.0]])
  loss = contrastive.simcse(first, second, jnp.ones(2, bool), temperature=0.5)
  # Cosines of response 0 to the second views: 1/2, 0; of response 1: 0.866, 1.
  expected = [
    math.log(1 + math.exp(-0.5 / 0.5)),
    math.log(1 + math.exp((math.sqrt(0.75) - 1) / 0.5)),
  ]
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_simcse_against_a_loop():
  first, second = views()
  actual = contrastive.simcse(first, second, jnp.ones(5, bool), temperature=0.3)
  for i in range(5):
    cosines = [
      float(first[i] @ second[j])
      / float(jnp.linalg.norm(first[i]) * jnp.linalg.norm(second[j]))
      for j in range(5)
    ]
    total = sum(math.exp(c / 0.3) for c in cosines)
    expected = -math.log(math.exp(cosines[i] / 0.3) / total)
    assert actual[i] == pytest.approx(expected, rel=1e-4)


def test_simcse_limits_and_invariances():
  first, second = views()
  where = jnp.ones(5, bool)
  loss = contrastive.simcse(first, second, where)
  # Lengths do not matter, and responses may come in another order.
  sizes = jnp.array([[1.0], [2.0], [0.1], [5.0], [3.0]])
  np.testing.assert_allclose(
    contrastive.simcse(sizes * first, 7 * second, where), loss, rtol=1e-4
  )
  order = jnp.array([3, 0, 4, 1, 2])
  np.testing.assert_allclose(
    contrastive.simcse(first[order], second[order], where), loss[order], 1e-4
  )
  alike = jnp.ones((5, 8))
  np.testing.assert_allclose(
    contrastive.simcse(alike, alike, where), math.log(5), rtol=1e-5
  )
  # With a small temperature a view that is nearest to its own costs nothing.
  sharp = contrastive.simcse(jnp.eye(5), jnp.eye(5), where, temperature=0.01)
  np.testing.assert_allclose(sharp, 0, atol=1e-6)


@pytest.mark.parametrize('bad', [math.nan, math.inf, 0.0])
def test_simcse_padding_is_no_response(bad):
  first, second = views()
  where = jnp.ones(5, bool)
  padded = [
    jnp.concatenate([x, jnp.full((2, 8), bad)]) for x in (first, second)
  ]
  longer = jnp.concatenate([where, jnp.zeros(2, bool)])
  actual = contrastive.simcse(*padded, longer)
  np.testing.assert_allclose(
    actual[:5], contrastive.simcse(first, second, where), rtol=1e-5
  )
  slope = gradient(contrastive.simcse, padded[0], padded[1], longer)
  np.testing.assert_allclose(
    slope[:5], gradient(contrastive.simcse, first, second, where), atol=1e-5
  )
  assert not np.any(actual[5:]) and not np.any(slope[5:])
  nothing = contrastive.simcse(*padded, jnp.zeros(7, bool))
  assert not np.any(nothing)


def test_a_temperature_of_0_is_refused():
  one = jnp.ones((1, 1))
  with pytest.raises(ValueError, match='temperature: got 0.0; expected > 0'):
    contrastive.simcse(one, one, one[0] > 0, temperature=0.0)
