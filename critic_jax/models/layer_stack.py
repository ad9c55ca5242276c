"""The two forms of a tree of layers, and the way from one to the other.

    unrolled    {'layers_0': {...}, 'layers_1': {...}, ...}
    stacked     {'layers': {...}}, whose leaves have a first axis of L layers

The numbers are the same. Every tree that holds parameters by their names has
such nodes: roles, an optimiser's state. Leaves are arrays, shapes, or shapes
boxed with logical names, to which 'layers' is added.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from critic_jax.runtime import sharding

_LANES = 128  # of a TPU
LAYERS = 'layers'  # the node's name, and its first axis's in `sharding.RULES`


def name_of(i: int) -> str:
  """Returns the name of layer i in the unrolled form."""
  return f'{LAYERS}_{i}'


def is_stacked(node: Any) -> bool:
  """Whether a node of a tree holds stacked layers itself."""
  return isinstance(node, Mapping) and LAYERS in node


def is_unrolled(node: Any) -> bool:
  """Whether a node of a tree holds unrolled layers itself."""
  return isinstance(node, Mapping) and name_of(0) in node


def stack(tree):
  """Returns a tree whose layers are stacked; those that are stay as they are.

  Arrays that are sharded stay so: the first axis is whole.
  """
  return jax.tree.map(_stack, tree, is_leaf=is_unrolled)


def unstack(tree):
  """Returns a tree whose layers are unrolled, the inverse of `stack`.

  Arrays of numpy become views. A node without leaves, as an optimiser's state
  may have, has as many layers as another one of its name, a role.
  """
  numbers = {
    path[-1:]: leaves[0].shape[0]
    for path, node in jax.tree_util.tree_leaves_with_path(
      tree, is_leaf=is_stacked
    )
    if is_stacked(node) and (leaves := jax.tree.leaves(node[LAYERS]))
  }
  return jax.tree_util.tree_map_with_path(
    lambda path, node: _unstack(node, numbers.get(path[-1:], 0)),
    tree,
    is_leaf=is_stacked,
  )


def repeat(node, number):
  """Returns an unrolled node of one layer with so many, which are all alike."""
  names = sorted(map(name_of, range(number)))
  return {
    name: part
    for key, part in node.items()
    for name in (names if key == name_of(0) else [key])
  }


def like(tree, other):
  """Returns the tree of a model's parameters in the form of another one."""
  return stack(tree) if is_stacked(other) else unstack(tree)


def scan_as_stored(body, x, layers):
  """Returns `jax.lax.scan(body, x, layers)` without a copy of stacks on TPUs.

  A TPU stores an array in the order of its axes that pads least: with the
  columns of matrices before their rows where a device has no multiple of 128,
  as 13,824 / 8 of an MLP. XLA copies such stacks into the other order, padded,
  for its products; described as they are stored, they are multiplied so.

  Args:
    body: as of `jax.lax.scan`.
    x: the first carry.
    layers: stacked parameters of layers, and further arguments of layers.
  """
  scan = functools.partial(jax.lax.scan, body)
  mlp = layers[0]['mlp']
  if 'up' not in mlp:  # experts
    return scan(x, layers)
  _, rows, columns = mlp['up']['kernel'].shape
  columns //= sharding.num_parts('mlp', columns)
  if columns % _LANES == 0 or rows % _LANES:
    return scan(x, layers)
  transposed = functools.partial(_scan_transposed, body)
  return jax.lax.platform_dependent(x, layers, tpu=transposed, default=scan)


def _scan_transposed(body, x, layers):
  """Returns the same with the MLP's first matrices stacked transposed."""

  def swapped(params, axis):
    mlp = dict(params['mlp'])
    for name in ('gate', 'up'):
      kernel = jnp.swapaxes(mlp[name]['kernel'], axis, axis + 1)
      mlp[name] = {**mlp[name], 'kernel': kernel}
    return {**params, 'mlp': mlp}

  def back(x, layer):
    return body(x, (swapped(layer[0], 0), *layer[1:]))

  return jax.lax.scan(back, x, (swapped(layers[0], 1), *layers[1:]))


def _stack(node):
  if not is_unrolled(node):
    return node
  all_names = map(name_of, itertools.count())
  names = list(itertools.takewhile(node.__contains__, all_names))
  rest = {name: x for name, x in node.items() if name not in names}
  layers = jax.tree.map(
    lambda *parts: _join(parts),
    *(node[name] for name in names),
    is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned),
  )
  return {**rest, LAYERS: layers}


def _unstack(node, number):
  if not is_stacked(node):
    return node
  leaves, structure = jax.tree.flatten(node[LAYERS])
  parts = [_parts(x) for x in leaves]
  layers = [structure.unflatten(x[i] for x in parts) for i in range(number)]
  rest = {name: x for name, x in node.items() if name != LAYERS}
  return {**rest, **{name_of(i): layer for i, layer in enumerate(layers)}}


def _join(parts):
  """Puts the leaves of all layers into one, with a first axis."""
  first = parts[0]
  if isinstance(first, nn.LogicallyPartitioned):
    value = _join([box.value for box in parts])
    return first.replace(value=value, names=(LAYERS, *first.names))
  layout = getattr(first, 'sharding', None)
  if isinstance(layout, NamedSharding):
    layout = NamedSharding(
      layout.mesh, sharding.shortest_spec(None, *layout.spec)
    )
  if isinstance(first, jax.ShapeDtypeStruct):
    shape = len(parts), *first.shape
    return jax.ShapeDtypeStruct(shape, first.dtype, sharding=layout)
  if _is_laid_out(first):
    return _compiled_join(layout)(parts)
  return (jnp if isinstance(first, jax.Array) else np).stack(parts)


def _parts(x) -> list:
  """Cuts a leaf along its first axis, the inverse of `_join`."""
  layout = getattr(x, 'sharding', None)
  if isinstance(layout, NamedSharding):
    layout = NamedSharding(
      layout.mesh, sharding.shortest_spec(*layout.spec[1:])
    )
  if isinstance(x, jax.ShapeDtypeStruct):
    shape = jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=layout)
    return [shape] * len(x)
  return _compiled_parts(layout)(x) if _is_laid_out(x) else list(x)


def _is_laid_out(x) -> bool:
  """Whether a leaf is an array on the devices of a mesh, not traced."""
  is_traced = isinstance(x, jax.core.Tracer)
  return not is_traced and isinstance(
    getattr(x, 'sharding', None), NamedSharding
  )


@functools.cache
def _compiled_join(layout):
  return jax.jit(jnp.stack, out_shardings=layout)


@functools.cache
def _compiled_parts(layout):
  return jax.jit(list, out_shardings=layout)
