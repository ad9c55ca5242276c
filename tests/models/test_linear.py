import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close

from critic_jax.models import linear


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize(
  ('inputs', 'axes', 'result'),
  [
    (1, 'btd,dhk->bthk', None),  # queries
    (2, 'bthk,hkd->btd', None),  # attention's output
    (1, 'btd,dv->btv', 'float32'),  # logits
  ],
)
def test_gradients_are_those_of_einsum(inputs, axes, result, dtype):
  random = np.random.default_rng(0)
  sizes = dict(b=2, t=5, d=6, h=4, k=3, v=7)
  x, kernel = (
    jnp.asarray(random.normal(size=[sizes[a] for a in part]), dtype)
    for part in axes.split('->')[0].split(',')
  )

  @functools.partial(jax.jit, static_argnums=0)
  def results(product, x, kernel):
    def total(x, kernel):
      y = product(x, kernel)
      return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

    return jax.grad(total, (0, 1), has_aux=True)(x, kernel)

  actual = results(
    lambda x, y: linear._product(x, y, inputs, result), x, kernel
  )
  expected = results(
    lambda x, y: jnp.einsum(axes, x, y, preferred_element_type=result),
    x, kernel,
  )  # fmt: skip
  assert jax.tree.map(lambda x: x.dtype, actual) == jax.tree.map(
    lambda x: x.dtype, expected
  )
  tolerance = 1e-5 if dtype == 'float32' else 0.05
  assert_trees_close(actual, expected, atol=tolerance)


def test_no_gradient_is_transposed():
  """Its program has no product but in the order of the kernel's axes."""

  def total(x, kernel):
    return jnp.sum(jnp.sin(linear._product(x, kernel, 1, None)))

  shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 5, 6), (6, 7))]
  text = str(jax.make_jaxpr(jax.grad(total, (0, 1)))(*shapes))
  assert text.count('dot_general') == 3 and 'transpose' not in text
