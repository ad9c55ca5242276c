"""The matrices of a transformer: projections and the embedding.

Each names the axes of its matrix, for `sharding.py`. Matrices are stored in the
config's `param_dtype` and multiplied in its `dtype`. With int8 (`quantize.py`)
the product is of whole numbers, and a scale for each output multiplies the
result; so the only array as large as the matrix is its cast. A matrix of a
layer may have an adapter (`lora.py`).
"""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from critic_jax.models import lora
from critic_jax.models.config import TransformerConfig

# The name of projections' results in policies of `jax.checkpoint`, which cannot
# recognise products that have a gradient of their own.
PRODUCT = 'product'


class Projection(nn.Module):
  """A linear map over the last axes of its input, with an optional bias.

  Attributes:
    config: gives the dtypes.
    shape: the kernel's, input axes first.
    names: the logical names of its axes.
    inputs: the number of input axes, which are contracted.
    bias: whether a bias is added.
    result: the dtype of the result; by default that of the input.
  """

  config: TransformerConfig
  shape: tuple[int, ...]
  names: tuple[str, ...]
  inputs: int = 1
  bias: bool = False
  result: str | None = None

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
    if lora.is_target(config, self.path):
      y = y + self._adapter(x).astype(y.dtype)
    if self.bias:
      zeros = nn.with_logical_partitioning(
        nn.initializers.zeros, self.names[self.inputs :]
      )
      bias = self.param(
        'bias', zeros, self.shape[self.inputs :], config.vector_dtype
      )
      y = y + bias.astype(config.dtype)
    return checkpoint_name(y, PRODUCT)

  def _adapter(self, x):
    """Computes the change by the adapter, (alpha / r) (x A) B.

    Each is float32; A is drawn as PEFT draws it, B is 0.
    """
    n, dtype, settings = self.inputs, self.config.dtype, self.config.lora
    bound = math.prod(self.shape[:n]) ** -0.5

    def uniform(key, *form):
      return jax.random.uniform(key, *form, minval=-bound, maxval=bound)

    def part(name, init, names, shape):
      init = nn.with_logical_partitioning(init, names)
      return self.param(name, init, shape, 'float32').astype(dtype)

    a = part(
      lora.A, uniform, (*self.names[:n], 'rank'),
      (*self.shape[:n], settings.rank),
    )  # fmt: skip
    b = part(
      lora.B, nn.initializers.zeros, ('rank', *self.names[n:]),
      (settings.rank, *self.shape[n:]),
    )  # fmt: skip
    if settings.dropout and self.has_variable('params', lora.KEY):
      key = self.get_variable('params', lora.KEY)
      is_kept = jax.random.bernoulli(key, 1 - settings.dropout, x.shape)
      x = jnp.where(is_kept, x / (1 - settings.dropout), 0)
    y = _product(_product(x, a, n, None), b, 1, self.result)
    return y * (settings.alpha / settings.rank)


class ExpertMatrices(nn.Module):
  """A matrix for each expert, to be multiplied by `mlp.Experts`.

  Attributes:
    config: gives the dtypes.
    shape: (E, inputs, outputs).
    names: the logical names of its axes.
  """

  config: TransformerConfig
  shape: tuple[int, int, int]
  names: tuple[str, str, str]

  @nn.compact
  def __call__(self) -> tuple[jax.Array, jax.Array | None]:
    """Returns the matrices, and None or the scales of their outputs."""
    kernel, scale = _matrix(self, 'kernel', self.shape, self.names, (1,))
    return kernel.astype(self.config.dtype), scale


class Embedding(nn.Module):
  """A vector for each token; where embeddings are tied, also the head."""

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
  """Contracts the last `inputs` axes of `x` with the first ones of `kernel`.

  JAX's own rule computes the transpose of the kernel's gradient, for which XLA
  on CPUs transposes both factors; here the gradient is computed untransposed.
  """
  return _contract(x, kernel, inputs, 0, result)


def _forward(x, kernel, inputs, result):
  return _product(x, kernel, inputs, result), (x, kernel)


def _backward(inputs, result, residuals, dy):
  x, kernel = residuals
  dy = dy.astype(kernel.dtype)  # a float32 result is multiplied like others
  outputs, tokens = kernel.ndim - inputs, x.ndim - inputs
  dx = _contract(dy, kernel, outputs, inputs, dy.dtype)
  axes = tuple(range(tokens)), tuple(range(tokens))
  dkernel = jax.lax.dot_general(
    x, dy, (axes, ((), ())), preferred_element_type=dy.dtype
  )
  return dx.astype(x.dtype), dkernel.astype(kernel.dtype)


_product.defvjp(_forward, _backward)


def _contract(x, y, number, first, result):
  """Contracts the last `number` axes of `x` with those of `y` from `first`."""
  x_axes = tuple(range(x.ndim - number, x.ndim))
  y_axes = tuple(range(first, first + number))
  return jax.lax.dot_general(
    x, y, ((x_axes, y_axes), ((), ())), preferred_element_type=result
  )


def _matrix(module, name, shape, names, inputs):
  """Declares a matrix, and with int8 a scale for each of its outputs.

  It is initialised from a normal distribution whose deviation is the inverse
  root of the fan-in; `init_params` quantises such a matrix to int8.

  Returns:
    The matrix, and None or the float32 scales of the axes not in `inputs`.
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
