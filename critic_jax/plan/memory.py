"""Bytes of one device in a phase, from shapes alone.

Parameters, optimiser and batch are exact: shapes and shardings of the run's own
functions; the optimiser's part has the float32 masters of trained bfloat16
parameters. Gradients have the parameters' shapes; micro-batches add their sum,
in float32. Where layers are a loop their matrices are cast before it, to the
dtype of computation.
Activations are those that the loss's own `jax.vjp` keeps for each row, on the
model that one device sees, and with `remat` those of one layer, which is
computed again; they are taken to be split by rows (`compiled.py` checks it).
The working set is the larger of a layer's gathered matrices with their
gradients, and the head's with a chunk of logits. Where sampling has a layout of
its own, frozen parameters are held in both layouts, trained ones while a batch
is collected. What sampling and scoring need is in `forward_memory`.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from critic_jax.models import (
  cost,
  layer_stack,
  linear_cross_entropy,
)
from critic_jax.plan import abstract
from critic_jax.sampling.served import local
from critic_jax.training import adapters, updates


def state(phase, lms, mesh):
  """Returns the state that a phase's update changes: shapes with shardings."""
  trained = {
    role: abstract.trained_part(role, abstract.params(lms[role], mesh))
    for role in phase.config.train
  }
  return updates.abstract_state(phase.tx, trained, mesh)


def bases(phase, lms, mesh):
  """Returns the bases of adapters that a phase trains: shapes by role."""
  trees = {
    role: abstract.params(lms[role], mesh) for role in phase.config.train
  }
  return adapters.split_roles(trees, trees)[1]


def persistent_bytes(phase, lms, mesh, lenders=None) -> dict[str, int]:
  """Returns bytes held during the whole phase: parameters and optimiser.

  Frozen parameters are held in the layout of sampling, too (`copies`).

  Args:
    phase: a phase of the run.
    lms: LMs by role.
    mesh: the mesh of the training.
    lenders: by role another one, whose arrays it has (`adapters.lenders`).
  """
  sizes = {}
  for role, lm in lms.items():
    tree = abstract.params(lm, mesh)
    own = abstract.frozen_part(role, tree, lms, lenders=lenders)
    sizes[f'parameters of {role}'] = abstract.device_bytes(own)
  shapes = state(phase, lms, mesh)
  if phase.config.staleness:  # the next batch is sampled with the old ones
    sizes['old parameters'] = abstract.device_bytes(shapes.params)
  return sizes | {'optimiser': abstract.device_bytes(shapes.opt_state)}


def copies(
  roles, lms, mesh, sample_mesh, part=abstract.trained_part
) -> dict[str, int]:
  """Returns bytes of the parameters in the layout of sampling.

  As in `sharding.reshard`, an array that every device has whole in both layouts
  is not copied, unless it is cast.

  Args:
    roles: the roles whose parameters are copied.
    lms: LMs by role.
    mesh: the mesh of the training.
    sample_mesh: the mesh that a process samples on; nothing is copied where it
      is `mesh`.
    part: a role and its parameters -> those that are copied.
  """
  if sample_mesh == mesh:
    return {}
  sizes = {}
  for role in roles:
    trees = (
      abstract.params(lms[role], mesh),
      abstract.sampled_params(lms[role], sample_mesh),
    )
    leaves = (jax.tree.leaves(part(role, tree)) for tree in trees)
    pairs = zip(*leaves, strict=True)
    copied = [
      x
      for y, x in pairs
      if not (_is_whole(x) and _is_whole(y) and x.dtype == y.dtype)
    ]
    sizes[f'{role} to sample with'] = abstract.device_bytes(copied)
  return sizes


def _is_whole(x) -> bool:
  return x.sharding.shard_shape(x.shape) == x.shape


class RowBytes(NamedTuple):
  """Bytes of activations of one row, on the device that has it.

  Attributes:
    kept: from the forward to the backward pass; with `remat` inputs of layers.
    layer: all that one layer computes beside its input, while it is computed
      again; 0 without `remat`.
  """

  kept: int
  layer: int


def update(phase, lms, mesh, batch_shape) -> dict[str, int]:
  """Returns bytes of an update beside the persistent ones and `micro_batch`.

  Args:
    phase: a phase of the run.
    lms: LMs by role.
    mesh: the mesh of the training.
    batch_shape: a `workload.Learned`.
  """
  params = state(phase, lms, mesh).params
  gradients = abstract.device_bytes(params)
  if phase.config.microbatches > 1:  # their sum is in float32
    gradients += abstract.device_bytes(
      jax.tree.map(lambda x: x.update(dtype=jnp.float32), params)
    )
  num_shards = abstract.num_batch_shards(mesh, *batch_shape[:2])
  arrays = abstract.all_bytes(abstract.batch(*batch_shape)) // num_shards
  cast = sum(_cast_bytes(lms[r], abstract.params(lms[r], mesh)) for r in params)
  return {'gradients': gradients, 'cast matrices': cast, 'batch': arrays}


def _cast_bytes(lm, params) -> int:
  """Returns bytes of stacked matrices that are cast before their loop."""
  dtype = jnp.dtype(lm.model.config.dtype)
  if not layer_stack.is_stacked(params) or lm.model.config.is_int8:
    return 0
  leaves = jax.tree_util.tree_leaves_with_path(params[layer_stack.LAYERS])
  cast = [
    x.update(dtype=dtype)
    for path, x in leaves
    if path[-1].key == 'kernel' and x.dtype != dtype
  ]
  return abstract.device_bytes(cast)


def micro_batch(
  phase, lms, mesh, row_bytes: RowBytes, rows: int, columns: int
) -> dict[str, int]:
  """Returns bytes of the loss's gradient of a micro-batch.

  Args:
    phase: a phase of the run.
    lms: LMs by role.
    mesh: the mesh of the training.
    row_bytes: the `activations` of a row.
    rows: its rows.
    columns: its columns.
  """
  num_rows = rows // abstract.num_shards_of(mesh, 'rows', rows)
  num_columns = columns // abstract.num_shards_of(mesh, 'columns', columns)
  num_shards = abstract.num_batch_shards(mesh, rows, columns)
  layer = row_bytes.layer * rows // num_shards
  local_lms = (
    abstract.on_one_device(lms[role], mesh) for role in phase.config.train
  )
  return {
    'activations': row_bytes.kept * rows // num_shards,
    'working set': max(
      _working_set(lm, num_rows, num_columns, layer) for lm in local_lms
    ),
  }


# Bytes by all that a loss may depend on: they take seconds to trace, and meshes
# that split a layer alike have them in common.
_ROW_BYTES: dict[tuple, int] = {}


def activations(name, config, lms, mesh, batch_shape) -> RowBytes:
  """Returns bytes of activations of a row.

  Layers are alike: models of one layer and of two tell what each adds. Where
  the last ones alone have adapters, the others keep nothing.

  Args:
    name: the phase's name.
    config: the config of the run.
    lms: LMs by role.
    mesh: the mesh of the training.
    batch_shape: a `workload.Learned`, of which the columns matter.
  """
  section = config.phases[name]
  local_lms = {
    role: abstract.on_one_device(lm, mesh) for role, lm in lms.items()
  }

  def row_bytes(num_layers, remat):
    shallow_lms = local_lms | {
      role: _with_layers(lm, num_layers, remat)
      for role, lm in local(local_lms).items()
    }
    key = section.to_json_best_effort(sort_keys=True), *batch_shape[1:], *(
      (role, lm.model, lm.sampling_params, lm.max_new_tokens, lm.lengths)
      for role, lm in sorted(local(shallow_lms).items())
    )  # fmt: skip
    if key not in _ROW_BYTES:
      phase = abstract.phase(config, shallow_lms, name)
      models = {r: shallow_lms[r].model for r in section.train}
      _ROW_BYTES[key] = _row_bytes(phase.recipe, models, batch_shape)
    return _ROW_BYTES[key]

  def layer_bytes(remat):
    return row_bytes(2, remat) - row_bytes(1, remat)

  configs = [lms[role].model.config for role in section.train]
  kept, layer = row_bytes(1, ''), 0
  if (further := max(map(cost.backward_layers, map(vars, configs))) - 1) > 0:
    kept += further * layer_bytes('')
  if any(c.remat != 'none' for c in configs):
    # One layer at a time is computed again, and whole.
    layer = layer_bytes('none') - layer_bytes('')
  return RowBytes(kept, layer)


def _with_layers(lm, number: int, remat: str):
  """Returns the LM with so many layers, all of which keep what they compute."""
  config = lm.model.config
  lora = config.lora and dataclasses.replace(config.lora, last_layers=0)
  remat = remat or config.remat
  return abstract.changed(lm, num_layers=number, remat=remat, lora=lora)


def _row_bytes(recipe, models, batch_shape) -> int:
  """Returns bytes that the loss's gradient keeps for each further row.

  The loss never gets a part of a group of rows that belong together.
  """
  params = {role: abstract.shapes(model) for role, model in models.items()}
  parts = adapters.split_roles(params, params)

  def pullback(params, batch):
    trained, bases = params

    def loss(trained):
      return recipe.loss(adapters.join_roles(bases, trained), batch)[0]

    return jax.vjp(loss, trained)[1]

  def batch_bytes(num_groups):
    rows = num_groups * recipe.rows_per_group
    batch = abstract.batch(rows, batch_shape.columns, batch_shape.packed)
    return abstract.all_bytes(jax.eval_shape(pullback, parts, batch))

  return (batch_bytes(2) - batch_bytes(1)) // recipe.rows_per_group


def _working_set(lm, rows: int, columns: int, activations: int) -> int:
  """Returns the bytes that a layer needs, or the head where that is more.

  Both need gathered matrices with their gradients.

  Args:
    lm: the LM as one device sees it.
    rows: rows of a micro-batch on a device.
    columns: columns of a micro-batch on a device.
    activations: bytes of those of a layer that is computed again.
  """
  config = lm.model.config
  item = jnp.dtype(config.dtype).itemsize
  item += 0 if config.lora else 4  # of a gradient
  layer = cost.layer_weights(vars(config)) // config.num_layers * item
  layer += activations
  if config.head != 'lm':
    return layer
  head = config.vocab_size * config.embed_dim * item
  chunk = max(rows, linear_cross_entropy.MAX_LOGITS // config.vocab_size)
  # Logits, their exponentials, and their gradient.
  logits = 3 * 4 * min(rows * columns, chunk) * config.vocab_size
  return max(layer, head + logits)
