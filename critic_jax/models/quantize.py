"""Matrices in int8, for models that are not trained.

A matrix W is stored as whole numbers K in -127 .. 127 and a float32 scale s for
each of its outputs, the largest |W| of that output over 127 (symmetric, per
channel; 2004.09602, section 3): W = K s, up to half a scale for each weight.
The outputs of a kernel are its last axes, those of an embedding its rows: each
row gives a logit where embeddings are tied. Norms and biases stay float32.

In the tree, the scales of `kernel` stand beside it as `kernel_scale`;
`transformer.Transformer` reads both if its `param_dtype` is 'int8'.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from critic_jax.models import layer_stack

_SCALES = {'kernel': 'kernel_scale', 'embedding': 'embedding_scale'}


def is_quantized(params) -> bool:
  """Whether a tree of parameters has int8 matrices and scales."""
  return _SCALES['embedding'] in params.get('embed', ())


def quantize(params):
  """Stores the matrices of a tree in int8.

  The error of each weight, |W - K s|, is at most s / 2; that of each output's
  largest weight is next to none.

  Args:
    params: a tree of `Transformer`: floats of any dtype, JAX's or numpy's.

  Returns:
    The same tree with int8 matrices, their scales, and float32 vectors.
  """
  return _quantize_part('', params)


def dequantize(params, part=''):
  """Converts int8 matrices of a tree, or of a part of it, to float32.

  All other parameters stay as they are.

  Args:
    params: the tree, or the part.
    part: the name of the part.
  """
  if not isinstance(params, Mapping):
    return params
  result = {}
  for name, x in params.items():
    if _SCALES.get(name) in params:
      scale = _broadcast(part, name, params[_SCALES[name]])
      result[name] = x.astype(jnp.float32) * scale
    elif name == layer_stack.LAYERS:
      result[name] = jax.vmap(dequantize)(x)
    elif name not in _SCALES.values():
      result[name] = dequantize(x, name)
  return result


def _quantize_part(part, params):
  """Quantises the part of the tree that is called `part`."""
  result = {}
  for name, x in params.items():
    if name == layer_stack.LAYERS:
      # One by one: the float32 numbers of all would be there at once.
      result[name] = jax.lax.map(lambda layer: _quantize_part('', layer), x)
    elif isinstance(x, Mapping):
      result[name] = _quantize_part(name, x)
    elif name in _SCALES:
      result[name], result[_SCALES[name]] = _quantize_matrix(part, name, x)
    else:
      result[name] = jnp.asarray(x, jnp.float32)
  return result


def _quantize_matrix(part, name, x):
  """Returns whole numbers, int8 of the shape of `x`, and outputs' scales."""
  x = jnp.asarray(x, jnp.float32)
  # Only attention's output contracts two axes, heads and head_dim.
  inputs = (0, 1) if part == 'o' else (0,)
  if name == 'embedding' or part.startswith('expert_'):
    inputs = (1,)
  scale = jnp.max(jnp.abs(x), axis=inputs) / 127
  scale = jnp.where(scale > 0, scale, 1.0)  # an output without weights
  numbers = jnp.round(x / _broadcast(part, name, scale))
  return jnp.clip(numbers, -127, 127).astype(jnp.int8), scale


def _broadcast(part, name, scale):
  """Returns scales in a shape that broadcasts with their matrix."""
  is_first = name == 'embedding' or part.startswith('expert_')
  return scale[:, None] if is_first else scale
