"""The mesh, the table of rules, and the shardings that follow from it.

Every axis of a parameter, a batch or a cache has a logical name; one table maps
names to mesh axes. The mesh's axes are `data` (rows of a batch), `fsdp` (rows,
and parameters along 'embed'), `tensor` (heads, mlp, vocabulary) and `sequence`
(the columns of a batch).

A size of a parameter that its mesh axis does not divide is an error, but for
the heads of keys and values: they may be fewer than devices, and are then held
whole. So are rows and columns that do not divide, for they come in any number.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ('data', 'fsdp', 'tensor', 'sequence')

# Logical axis -> mesh axis, or several; None is replicated.
RULES = {
  'rows': ('data', 'fsdp'),
  'columns': 'sequence',
  'vocab': 'tensor',
  'embed': 'fsdp',
  'mlp': 'tensor',
  'heads': 'tensor',
  'kv_heads': 'tensor',
  'head_dim': None,
  'norm': None,
  'scalar': None,
}


def make_mesh(sizes: Mapping[str, int], devices=None) -> Mesh:
  """Makes a mesh of `AXES` over the devices; one size may be -1, the rest.

  Raises:
    ValueError: an unknown axis, or sizes that do not make up the devices.
  """
  devices = jax.devices() if devices is None else devices
  shape = mesh_shape(sizes, len(devices))
  # jax >= 0.10 makes explicit axes by default; linen's embedding then fails.
  return jax.make_mesh(
    shape, AXES, devices=devices, axis_types=(AxisType.Auto,) * len(AXES)
  )


def platform(mesh: Mesh) -> str:
  """Returns the platform of a mesh's devices: 'cpu', 'gpu' or 'tpu'."""
  name = mesh.devices.flat[0].platform
  return 'gpu' if name in ('cuda', 'rocm') else name


def mesh_shape(sizes: Mapping[str, int], num_devices: int) -> tuple[int, ...]:
  """Returns the sizes of all `AXES`; a size of -1 is the rest of the devices.

  Raises:
    ValueError: an unknown axis, or sizes that do not make up the devices.
  """
  unknown = sorted(set(sizes) - set(AXES))
  if unknown:
    raise ValueError(f'mesh: got the axes {unknown}; expected {list(AXES)}')
  shape = [sizes.get(axis, 1) for axis in AXES]
  product = math.prod(s for s in shape if s != -1)
  if shape.count(-1) == 1 and product > 0 and num_devices % product == 0:
    shape[shape.index(-1)] = num_devices // product
  if math.prod(shape) != num_devices or min(shape) < 1:
    raise ValueError(
      f'mesh: got {dict(zip(AXES, shape, strict=True))} for {num_devices} '
      'devices; expected sizes whose product is that; set one of them to -1'
    )
  return tuple(shape)


def param_shardings(abstract_params, mesh: Mesh, rules=None):
  """Returns the sharding of each parameter, from its logical axis names.

  Args:
    abstract_params: shapes boxed with names (`transformer.abstract_params`).
    mesh: the mesh of the devices.
    rules: logical axis -> mesh axis; `RULES` by default.

  Returns:
    A tree of NamedSharding, unboxed. 'kv_heads' are whole where their mesh axis
    does not divide them.

  Raises:
    ValueError: an axis without a rule, one that its mesh axis does not divide,
      or two of a parameter on one mesh axis.
  """
  rules = RULES if rules is None else rules

  def sharding(path, boxed):
    leaf = jax.tree_util.keystr(path, simple=True, separator='/')
    names = boxed.names
    spec = [_mesh_axis(leaf, name, rules) for name in names]
    for i, size in enumerate(boxed.value.shape):
      name, axis = names[i], spec[i]
      if axis and size % mesh.shape[axis] and name == 'kv_heads':
        spec[i] = None
      elif axis and size % mesh.shape[axis]:
        fits = [n for n in range(1, mesh.size + 1) if size % n == 0]
        raise ValueError(
          f'{leaf}: got axis {name!r} of size {size} on mesh axis {axis!r} of '
          f'size {mesh.shape[axis]}; expected a size that divides it; set '
          f'mesh.{axis} to one of {fits}'
        )
    used_axes = [axis for axis in spec if axis]
    if len(used_axes) > len(set(used_axes)):
      raise ValueError(
        f'{leaf}: got axes {names} of sizes {boxed.value.shape} on mesh axes '
        f'{tuple(spec)}; expected each mesh axis once; change a rule'
      )
    # As the compiler writes it, so that what it gives has the same layout.
    spec = [axis if axis and mesh.shape[axis] > 1 else None for axis in spec]
    while spec and spec[-1] is None:
      spec.pop()
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree_util.tree_map_with_path(
    sharding,
    abstract_params,
    is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned),
  )


def _mesh_axis(leaf, name, rules):
  if name not in rules:
    raise ValueError(
      f'{leaf}: got the axis {name!r}; expected one with a rule: '
      f'{sorted(rules)}'
    )
  return rules[name]


def put_batch(batch, mesh: Mesh):
  """Puts a host batch, [B, T, ...] each, on the mesh: rows, columns split.

  Where processes are several, each has the whole batch.
  """

  def put(x):
    x = np.asarray(x)
    layout = batch_sharding(x.shape, mesh)
    if jax.process_count() == 1:
      return jax.device_put(x, layout)
    return jax.make_array_from_callback(x.shape, layout, lambda index: x[index])

  return jax.tree.map(put, batch)


def batch_sharding(shape, mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array of a batch, [B, T, ...]."""
  spec = _dividing(('rows', 'columns')[: len(shape)], shape, mesh)
  return NamedSharding(mesh, spec)


def reshard(params, shardings):
  """Lays parameters out anew, as for sampling.

  Args:
    params: a tree of arrays.
    shardings: a NamedSharding for each array. Where processes are several,
      each names its own devices, which then hold the parameters whole.

  Returns:
    The arrays; those that were laid out so are not copied.
  """
  leaves, structure = jax.tree.flatten(params)
  local = jax.tree.leaves(shardings)
  target = local
  if jax.process_count() > 1:
    target = [_on_each_process(layout) for layout in local]
  indices = [
    i
    for i, x in enumerate(leaves)
    if not x.sharding.is_equivalent_to(target[i], x.ndim)
  ]
  moved = _move([leaves[i] for i in indices], [target[i] for i in indices])
  for i, x in zip(indices, moved, strict=True):
    leaves[i] = x
  return structure.unflatten(map(_from_shards, leaves, local))


def _move(arrays, layouts):
  """Lays arrays out anew among the same devices, by one program.

  `jax.device_put` goes through the host in one process, and in several starts a
  program for each array and waits for none. XLA's CPU client has at most 32 of
  these in flight on a device, and as many threads as devices: threads that wait
  to start the 33rd are missing when the first waits for all devices, and all
  processes hang.
  """
  devices = {tuple(x.sharding.mesh.devices.flat) for x in arrays}
  devices |= {tuple(layout.mesh.devices.flat) for layout in layouts}
  if len(devices) > 1:  # in another order, as on a TPU's torus: not jit's to do
    return jax.device_put(arrays, layouts)
  return jax.jit(_as_they_are, out_shardings=layouts)(arrays)


def _as_they_are(arrays):
  return arrays


def _from_shards(x, layout):
  """Makes an array of the shards that this process's devices hold."""
  shards = [shard.data for shard in x.addressable_shards]
  return jax.make_array_from_single_device_arrays(x.shape, layout, shards)


def _on_each_process(local: NamedSharding) -> NamedSharding:
  """Returns the layout that is `local` on the devices of each process."""
  devices = sorted(jax.devices(), key=lambda d: d.process_index)
  devices = np.array(devices).reshape(-1, *local.mesh.devices.shape)
  mesh = Mesh(devices, ('process', *AXES))
  return NamedSharding(mesh, local.spec)


def on_mesh_of(params):
  """Returns a context in which `constrain` uses the mesh of parameters."""
  layout = getattr(jax.tree.leaves(params)[0], 'sharding', None)
  if isinstance(layout, NamedSharding):
    return jax.set_mesh(layout.mesh)
  return contextlib.nullcontext()


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Lays an array out by its axes' names, inside a jitted function.

  Left alone, the compiler splits activations as the last parameter was split,
  and holds all rows on every device.

  Args:
    x: an array.
    *names: logical names of the first axes; None, and axes without a name, are
      held whole.

  Returns:
    The array, unchanged where no mesh is in use (`on_mesh_of`).
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, _dividing(names, x.shape, mesh))


def cut_rows(number: int, x: jax.Array) -> jax.Array:
  """Cuts a batch's [B, T, ...] into [number, B / number, T, ...].

  The rows of each part, and the columns, are split among devices.
  """
  parts = x.reshape(number, -1, *x.shape[1:])
  return constrain(parts, None, 'rows', 'columns')


def num_parts(name: str, size: int) -> int:
  """Returns how many parts `constrain` splits an axis of this size into."""
  shards = num_shards_here(name)
  return shards if size % shards == 0 else 1


def num_shards(mesh: Mesh, name: str | None) -> int:
  """Returns how many devices an axis of this name is split among."""
  axes = RULES[name] if name else None
  mesh_axes = axes if isinstance(axes, tuple) else (axes,) if axes else ()
  return math.prod(mesh.shape[axis] for axis in mesh_axes)


def num_shards_here(name: str) -> int:
  """Returns `num_shards` of the mesh in use (`on_mesh_of`); 1 without one."""
  mesh = jax.sharding.get_abstract_mesh()
  return 1 if mesh.empty else num_shards(mesh, name)


def _dividing(names, shape, mesh) -> PartitionSpec:
  """Returns the mesh axes of the named axes, where they divide the sizes."""
  return PartitionSpec(
    *(
      RULES[name] if name and size % num_shards(mesh, name) == 0 else None
      for name, size in zip(names, shape, strict=False)
    )
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of arrays that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())
