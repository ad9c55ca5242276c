"""The matrices of a transformer: projections and the embedding.

Each names the axes of its matrix, for `sharding.py`, and multiplies in the
config's `dtype` what is stored in its `param_dtype`. In int8 (`quantize.py`)
whole numbers are multiplied, and a scale for each output multiplies the result,
so that nothing as large as the matrix is computed but its cast.
"""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from critic_jax.models.config import TransformerConfig

# What a policy of `jax.checkpoint` calls the result of a projection: it sees no
# product, as they have a gradient of their own.
PRODUCT = 'product'


class Projection(nn.Module):
  """A linear map over the last axes of its input, named and maybe biased."""

  config: TransformerConfig
  shape: tuple[int, ...]
  names: tuple[str, ...]
  inputs: int = 1  # how many leading axes of the kernel are contracted
  bias: bool = False
  result: str | None = None  # dtype of the result; by default that of `x`

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps the last axes of `x`."""
    config = self.config
    kernel, scale = _matrix(
      self, 'kernel', self.shape, self.names, tuple(range(self.inputs))
    )
    y = _product(x, kernel.astype(config.dtype), self.inputs, self.result)
    if scale is not None:
      y = (y * scale).astype(y.dtype)
    if self.bias:
      zeros = nn.with_logical_partitioning(
        nn.initializers.zeros, self.names[self.inputs :]
      )
      bias = self.param(
        'bias', zeros, self.shape[self.inputs :], config.vector_dtype
      )
      y = y + bias.astype(config.dtype)
    return checkpoint_name(y, PRODUCT)


class Embedding(nn.Module):
  """A vector a token; where embeddings are tied, also the map to logits."""

  config: TransformerConfig

  def setup(self):
    """Declares the table."""
    c = self.config
    self.embedding, self.scale = _matrix(
      self, 'embedding', (c.vocab_size, c.embed_dim), ('vocab', 'embed'), (1,)
    )

  def __call__(self, tokens):
    """Maps int32[...] to [..., D]."""
    # The rows are cast, not the table.
    x = jnp.take(self.embedding, tokens, axis=0).astype(self.config.dtype)
    if self.scale is not None:
      x = (x * jnp.take(self.scale, tokens)[..., None]).astype(x.dtype)
    return x

  def logits(self, hidden):
    """Maps [..., D] to float32[..., V]."""
    kernel = self.embedding.astype(self.config.dtype)
    y = jnp.einsum(
      '...d,vd->...v', hidden, kernel, preferred_element_type=jnp.float32
    )
    return y if self.scale is None else y * self.scale


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _product(x, kernel, inputs, result):
  """The last `inputs` axes of `x` by as many first ones of `kernel`.

  jax's own rule makes the transpose of the kernel's gradient, for which XLA on
  CPUs transposes all that it is made of; here it is made as it is.
  """
  return _contract(x, kernel, inputs, 0, result)


def _forward(x, kernel, inputs, result):
  return _product(x, kernel, inputs, result), (x, kernel)


def _backward(inputs, result, saved, to_y):
  x, kernel = saved
  outputs, tokens = kernel.ndim - inputs, x.ndim - inputs
  to_x = _contract(to_y, kernel, outputs, inputs, to_y.dtype)
  axes = tuple(range(tokens)), tuple(range(tokens))
  to_kernel = jax.lax.dot_general(
    x, to_y, (axes, ((), ())), preferred_element_type=to_y.dtype
  )
  return to_x.astype(x.dtype), to_kernel.astype(kernel.dtype)


_product.defvjp(_forward, _backward)


def _contract(x, y, number, first, result):
  """The last `number` axes of `x` by those of `y` from `first` on."""
  of_x = tuple(range(x.ndim - number, x.ndim))
  of_y = tuple(range(first, first + number))
  return jax.lax.dot_general(
    x, y, ((of_x, of_y), ((), ())), preferred_element_type=result
  )


def _matrix(module, name, shape, names, inputs):
  """Declares a matrix, and in int8 a scale for each of its outputs.

  It is drawn from a normal with the inverse root of the fan-in as deviation;
  the int8 of a random matrix is made of that (`init_params`).

  Returns:
    The matrix, and float32 scales of the axes that are not `inputs`, or None.
  """
  stddev = math.prod(shape[a] for a in inputs) ** -0.5
  dtype, is_int8 = module.config.param_dtype, module.config.is_int8
  init = nn.initializers.zeros if is_int8 else nn.initializers.normal(stddev)
  matrix = module.param(
    name, nn.with_logical_partitioning(init, names), shape, dtype
  )
  if not is_int8:
    return matrix, None
  outputs = [a for a in range(len(shape)) if a not in inputs]
  ones = nn.with_logical_partitioning(
    nn.initializers.ones, tuple(names[a] for a in outputs)
  )
  scale_shape = tuple(shape[a] for a in outputs)
  return matrix, module.param(f'{name}_scale', ones, scale_shape, 'float32')
