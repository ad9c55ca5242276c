"""The mesh, the table of rules, and the shardings that follow from it.

Every axis of a parameter, a batch or a cache has a logical name; one table maps
names to mesh axes. The mesh's axes are `data` (rows of a batch), `fsdp` (rows,
and parameters along 'embed'), `tensor` (heads, mlp or experts, vocabulary) and
`sequence` (the columns of a batch).

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
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ('data', 'fsdp', 'tensor', 'sequence')

# Logical axis -> mesh axis, or several; None is replicated.
RULES = {
  'layers': None,
  'rows': ('data', 'fsdp'),
  'columns': 'sequence',
  'vocab': 'tensor',
  'embed': 'fsdp',
  'mlp': 'tensor',
  'experts': 'tensor',
  'expert_mlp': None,
  'heads': 'tensor',
  'kv_heads': 'tensor',
  'head_dim': None,
  'norm': None,
  'rank': None,
  'scalar': None,
}


def make_mesh(sizes: Mapping[str, int], devices=None) -> Mesh:
  """Makes a mesh of `AXES` over the devices; one size may be -1, the rest.

  Raises:
    ValueError: an unknown axis, or sizes that do not make up the devices.
  """
  devices = jax.devices() if devices is None else devices
  shape = mesh_shape(sizes, len(devices))
  # Whole sides of a TPU's torus become axes, or parts of them where they must.
  devices = mesh_utils.create_device_mesh(
    shape, devices, allow_split_physical_axes=True
  )
  return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))


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


def sampling_shape(
  sizes: Mapping[str, int], mesh, processes: int = 1
) -> tuple[int, ...] | None:
  """Returns the shape of the mesh that each process samples on.

  If all sizes are 0: where `fsdp` splits parameters, or processes are several,
  `tensor` stays and all other devices split rows. So decoding reads its own
  memory only, after one new layout a step.

  Args:
    sizes: sizes by axis; those of 0 are left out.
    mesh: the mesh of the training.
    processes: number of processes.

  Returns:
    Sizes of all `AXES`; None where one process samples as it trains.

  Raises:
    ValueError: sizes that do not make up a process's devices.
  """
  num_devices = mesh.size // processes
  sizes = {axis: size for axis, size in sizes.items() if size}
  if not sizes and processes == 1 and mesh.shape['fsdp'] == 1:
    return None
  if not sizes:
    # A process may have fewer devices than matrices have parts.
    tensor = math.gcd(mesh.shape['tensor'], num_devices)
    sizes = {'data': -1, 'tensor': tensor}
  shape = mesh_shape(sizes, num_devices)
  return None if shape == mesh_shape(mesh.shape, mesh.size) else shape


def sampling_mesh(sizes: Mapping[str, int], mesh: Mesh) -> Mesh | None:
  """Makes the mesh that this process samples on (`sampling_shape`).

  It has the process's devices as they follow each other in the mesh of the
  training. In one process a new layout is then a program of the devices; in
  another order it would go through the host.
  """
  groups = _devices_by_process(mesh)
  shape = sampling_shape(sizes, mesh, len(groups))
  if shape is None:
    return None
  devices = np.array(groups[jax.process_index()]).reshape(shape)
  return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _devices_by_process(mesh: Mesh) -> dict[int, list]:
  """Returns each process's devices, all in the order of the mesh."""
  groups = {}
  for device in mesh.devices.flat:
    groups.setdefault(device.process_index, []).append(device)
  return groups


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
    spec = [axis if axis and mesh.shape[axis] > 1 else None for axis in spec]
    return NamedSharding(mesh, shortest_spec(*spec))

  return jax.tree_util.tree_map_with_path(
    sharding,
    abstract_params,
    is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned),
  )


def param_forms(abstract_params, mesh: Mesh):
  """Returns a ShapeDtypeStruct with its sharding for each parameter, unboxed.

  Args:
    abstract_params: shapes boxed with names (`transformer.abstract_params`).
    mesh: the mesh of the devices.

  Raises:
    ValueError: as `param_shardings`.
  """
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    nn.meta.unbox(abstract_params),
    param_shardings(abstract_params, mesh),
  )


def shortest_spec(*axes: str | None) -> PartitionSpec:
  """Returns the spec of some mesh axes without those that end it with None.

  The compiler writes it so: what it gives has the same layout.
  """
  length = max((i for i, axis in enumerate(axes, 1) if axis), default=0)
  return PartitionSpec(*axes[:length])


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
  return NamedSharding(mesh, dividing(('rows', 'columns'), shape, mesh))


def reshard(params, forms):
  """Gives parameters other dtypes and layouts, as for sampling.

  Args:
    params: a tree of arrays.
    forms: a ShapeDtypeStruct with a NamedSharding for each array. Where
      processes are several, each names its own devices (`sampling_mesh`), which
      then hold the parameters whole.

  Returns:
    The arrays; those that had their form are not copied.
  """
  leaves, structure = jax.tree.flatten(params)
  forms = jax.tree.leaves(forms)
  layouts = [form.sharding for form in forms]
  if jax.process_count() > 1:
    layouts = [
      _on_each_process(layout, x.sharding.mesh)
      for layout, x in zip(layouts, leaves, strict=True)
    ]
  indices = [
    i
    for i, x in enumerate(leaves)
    if x.dtype != forms[i].dtype
    or not x.sharding.is_equivalent_to(layouts[i], x.ndim)
  ]
  moved = _move(
    [leaves[i] for i in indices],
    tuple(forms[i].dtype for i in indices),
    [layouts[i] for i in indices],
  )
  for i, x in zip(indices, moved, strict=True):
    leaves[i] = x
  return structure.unflatten(
    _from_shards(x, form.sharding)
    for x, form in zip(leaves, forms, strict=True)
  )


def _move(arrays, dtypes, layouts):
  """Casts arrays and lays them out anew among the same devices, in one program.

  `jax.device_put` goes through the host in one process, and in several starts a
  program for each array and waits for none. XLA's CPU client has at most 32 of
  these in flight on a device, and as many threads as devices: threads that wait
  to start the 33rd are missing when the first waits for all devices, and all
  processes hang.
  """
  orders = {tuple(x.sharding.mesh.devices.flat) for x in arrays}
  orders |= {tuple(layout.mesh.devices.flat) for layout in layouts}
  sources = tuple(x.sharding for x in arrays)
  if len(orders) > 1:  # as on a TPU's torus: not jit's to do
    arrays = jax.jit(_cast, static_argnums=(1, 2))(arrays, dtypes, sources)
    return jax.device_put(arrays, layouts)
  move = jax.jit(_cast, static_argnums=(1, 2), out_shardings=layouts)
  return move(arrays, dtypes, sources)


def _cast(arrays, dtypes, layouts):
  """Casts arrays before they leave their layouts: links carry what is left."""
  return [
    x
    if x.dtype == dtype
    else jax.lax.with_sharding_constraint(x.astype(dtype), layout)
    for x, dtype, layout in zip(arrays, dtypes, layouts, strict=True)
  ]


def _from_shards(x, layout):
  """Makes an array of the shards that this process's devices hold."""
  shards = [shard.data for shard in x.addressable_shards]
  return jax.make_array_from_single_device_arrays(x.shape, layout, shards)


def _on_each_process(local: NamedSharding, mesh: Mesh) -> NamedSharding:
  """Returns the layout that is `local` on the devices of each process.

  Each process's devices have to follow each other as in `local`'s own mesh:
  else a device would get the shard of another.
  """
  groups = _devices_by_process(mesh)
  devices = np.array([*groups.values()])
  mesh = Mesh(
    devices.reshape(-1, *local.mesh.devices.shape), ('process', *AXES)
  )
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
  return jax.lax.with_sharding_constraint(x, dividing(names, x.shape, mesh))


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


def dividing(names, shape, mesh) -> PartitionSpec:
  """Returns the mesh axes of the named axes, where they divide the sizes."""
  axes = (
    RULES[name] if name and size % num_shards(mesh, name) == 0 else None
    for name, size in zip(names, shape, strict=False)
  )
  return PartitionSpec(*axes)


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of arrays that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())
