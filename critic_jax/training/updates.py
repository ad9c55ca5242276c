"""Updates of the trained roles, and the programs that compute them.

A phase's batches have few shapes, so its updates are few programs, which can be
compiled before they are needed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from critic_jax.models import forward, lora
from critic_jax.runtime import compilation, sharding, timing
from critic_jax.training import adapters
from critic_jax.types import Metrics


class TrainState(NamedTuple):
  """The state that an update changes.

  Attributes:
    step: int32[], updates done in this phase.
    params: parameters of the trained roles, by role.
    opt_state: the optimiser's state.
  """

  step: jax.Array
  params: dict[str, Any]
  opt_state: Any


@functools.partial(
  compilation.Jit,
  static_argnames=('loss', 'tx', 'microbatches', 'layout'),
  donate_argnames='state',
)
def update(
  loss,
  tx,
  state: TrainState,
  batch,
  *,
  kept_params=None,
  bases=None,
  microbatches: int = 1,
  layout=(),
) -> tuple[TrainState, tuple[Metrics, Metrics]]:
  """Takes one step of the optimiser.

  The gradient is the sum over micro-batches: `batch['weights']` normalise the
  loss over the whole batch, so their number does not matter.

  Args:
    loss: `(params, batch) -> (total, (sums, per_row))`, see `types.Recipe`.
    tx: the optax transform.
    state: donated.
    batch: leading axis B, a multiple of `microbatches`.
    kept_params: the old parameters where something still samples with them:
      they are not donated, and `state.params` is None.
    bases: by role, the parameters of roles with adapters that are not trained.
    microbatches: how many parts are computed one after another.
    layout: shardings of the new state's leaves, those of the old, without
      which the compiler would choose others; () on one device.

  Returns:
    The new state and the metrics `(sums, per_row)`: the loss's own, and among
    the sums 'loss/total', 'grad_norm' before clipping, and 'update/skipped':
    where the loss, the gradient or a new parameter is not finite, parameters
    and optimiser stay as they are.

  Raises:
    ValueError: `microbatches` does not divide the rows.
  """
  num_rows = len(batch['tokens'])
  if num_rows % microbatches:
    raise ValueError(
      f"microbatches: got {microbatches}; expected a divisor of the batch's "
      f'{num_rows} rows'
    )
  old_params = state.params if kept_params is None else kept_params
  key = jax.random.key(0, impl='threefry2x32')
  gradient = functools.partial(
    _gradient,
    loss,
    old_params,
    bases or {},
    jax.random.fold_in(key, state.step),
  )

  (grads, sums), per_row = _sum(gradient, batch, microbatches)
  per_row = {k: sharding.constrain(x.reshape(-1)) for k, x in per_row.items()}

  # Change nothing where a number is not finite.
  changes, opt_state = tx.update(grads, state.opt_state, old_params)
  params = optax.apply_updates(old_params, changes)
  grad_norm = optax.tree.norm(grads)
  leaves = [sums['loss/total'], grad_norm, *jax.tree.leaves(params)]
  is_finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in leaves]))
  params, opt_state = jax.tree.map(
    lambda new, old: jnp.where(is_finite, new, old),
    (params, opt_state),
    (old_params, state.opt_state),
  )
  sums = {**sums, 'grad_norm': grad_norm, 'update/skipped': ~is_finite}
  state = TrainState(state.step + 1, params, opt_state)
  if layout:
    layout = jax.tree.unflatten(jax.tree.structure(state), layout)
    state = jax.lax.with_sharding_constraint(state, layout)
  return state, (sums, per_row)


def _sum(gradient, batch, microbatches):
  """Sums gradients and metrics over the micro-batches."""
  if microbatches == 1:
    return gradient(0, batch)
  parts = jax.tree.map(
    functools.partial(sharding.cut_rows, microbatches), batch
  )
  first = jax.tree.map(lambda x: x[0], parts)
  shapes, _ = jax.eval_shape(gradient, 0, first)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

  def add(total, part):
    of_part, per_row = gradient(*part)
    return jax.tree.map(jnp.add, total, of_part), per_row

  return jax.lax.scan(add, zeros, (jnp.arange(microbatches), parts))


def _gradient(loss, params, bases, key, number, batch):
  """Computes `(gradient, sums), per_row`; 'loss/total' is among the sums.

  The gradient is in float32, whatever the parameters are in: it is summed over
  micro-batches, and its norm over all. The key and the micro-batch's number
  say what the dropout of adapters leaves out.
  """

  def loss_of(params, batch):
    whole = dict(params)
    for role, base in bases.items():
      keyed = lora.with_keys(params[role], jax.random.fold_in(key, number))
      whole[role] = lora.join(base, keyed)
    return loss(whole, batch)

  grad_fn = jax.value_and_grad(loss_of, has_aux=True)
  (total, (sums, per_row)), grads = grad_fn(params, batch)
  grads = optax.tree.cast(grads, jnp.float32)
  return (grads, {**sums, 'loss/total': total}), per_row


def init_state(tx, params, mesh) -> TrainState:
  """Returns a fresh state, made in one jit so that every leaf is on the mesh.

  Scalars made outside of it would be elsewhere, and `update` compiled twice.
  """
  shapes = abstract_state(tx, params, mesh)
  shardings = jax.tree.map(lambda x: x.sharding, shapes)
  init = functools.partial(_fresh_state, tx)
  return jax.jit(init, out_shardings=shardings)(params)


def state_after(done, phase, roles, mesh, opt_state=None) -> TrainState:
  """Returns the state of a phase after `done` steps of it.

  Args:
    done: steps that were run before.
    phase: a `phases.Phase`.
    roles: parameters of all roles as they are then.
    mesh: the mesh of the training.
    opt_state: the optimiser's state then; None: a fresh one.
  """
  trained, _ = adapters.split_roles(roles, phase.config.train)
  state = init_state(phase.tx, trained, mesh)
  if opt_state is None:
    return state
  step = state.step + done * phase.config.epochs
  return state._replace(step=step, opt_state=opt_state)


def abstract_state(tx, params, mesh) -> TrainState:
  """Returns shapes and shardings of a fresh state; allocates nothing.

  Args:
    tx: the optax transform.
    params: arrays, or shapes with shardings.
    mesh: where scalars are replicated.
  """
  replicated = sharding.replicated(mesh)
  param_shardings = jax.tree.map(lambda x: x.sharding, params)
  shapes = jax.eval_shape(functools.partial(_fresh_state, tx), params)
  opt_shardings = optax.tree.map_params(
    tx,
    lambda x, param: x if _is_absent(x) else _layout_like(x, param),
    shapes.opt_state,
    params,
    transform_non_params=lambda _: replicated,
    is_leaf=_is_absent,
  )
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    TrainState(replicated, param_shardings, opt_shardings),
  )


def _layout_like(x, param):
  """Returns the layout of a number for each entry, row or column of a matrix.

  Args:
    x: of the shape of `param`, perhaps without one of its axes, or of no size
      to speak of, which every device has whole.
    param: with its layout.
  """
  layout = param.sharding
  if x.shape == param.shape or not isinstance(layout, NamedSharding):
    return layout
  spec = [*layout.spec, *[None] * (len(param.shape) - len(layout.spec))]
  for axis in range(len(param.shape)):
    if x.shape == (*param.shape[:axis], *param.shape[axis + 1 :]):
      del spec[axis]
      return NamedSharding(layout.mesh, sharding.shortest_spec(*spec))
  return sharding.replicated(layout.mesh)


def _is_absent(x) -> bool:
  """Whether the optimiser's state has nothing for a parameter."""
  return isinstance(x, optax.MaskedNode)


def _fresh_state(tx, params) -> TrainState:
  return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))


def run(
  phase, state: TrainState, batch, bases=None
) -> tuple[TrainState, Mapping]:
  """Updates a phase's roles with a batch, `epochs` times.

  The updates are dispatched and not waited for.

  Args:
    phase: a `phases.Phase`.
    state: donated, but for its parameters where the phase is stale: the next
      batch is sampled with them.
    batch: leading axis B, see `update`.
    bases: see `update`.

  Returns:
    The new state, and the metrics by name: scalars of the last update,
    'update/skipped' summed over all, and those of rows, [B], from the first.
  """
  with timing.timed('time/update_s'):
    skipped, first_per_row = 0, None
    for _ in range(phase.config.epochs):
      arguments, settings = _call(phase, state, batch, bases)
      with sharding.on_mesh_of(state.params):
        state, (sums, per_row) = update(*arguments, **settings)
      skipped += sums['update/skipped']
      if first_per_row is None:
        first_per_row = per_row
  return state, {**sums, **first_per_row, 'update/skipped': skipped}


def compile_ahead(
  phase, lms, state: TrainState, batch, mesh, bases=None
) -> None:
  """Compiles a phase's update for every shape that its batches may have.

  Packed rows have the phase's `row_shapes`, plain rows the columns of the
  trained models' tables.

  Args:
    phase: a `phases.Phase`.
    lms: by role.
    state: only its shapes and shardings are read.
    batch: the phase's first, [B, T] each; tells its arrays and their dtypes.
    mesh: the mesh that rows are put on.
    bases: see `update`.
  """
  if phase.config.row_shapes:
    layout = dict.fromkeys(forward.Layout._fields, batch['tokens'])
    batch = {**layout, **batch}

  def compile_one(shape):
    zeros = {
      name: np.zeros((*shape, *x.shape[2:]), x.dtype)
      for name, x in batch.items()
    }
    lowered(phase, state, sharding.put_batch(zeros, mesh), bases).compile()

  num_rows = len(batch['tokens'])
  compilation.ahead(compile_one, batch_shapes(phase, lms, num_rows))


def batch_shapes(phase, lms, num_rows: int) -> list[tuple[int, int]]:
  """Returns the rows and columns that the batches of a phase may have.

  Args:
    phase: a `phases.Phase`.
    lms: by role.
    num_rows: rows of a batch that is not packed.
  """
  if phase.config.row_shapes:
    return [tuple(shape) for shape in phase.config.row_shapes]
  return plain_shapes(phase, lms, num_rows)


def plain_shapes(phase, lms, num_rows: int) -> list[tuple[int, int]]:
  """Returns the rows and columns of batches that are not packed."""
  columns = {
    lm.row_length(size)
    for lm in (lms[role] for role in phase.config.train)
    for size in (*lm.lengths, lm.lengths[-1] + lm.max_new_tokens)
  }
  return [(num_rows, n) for n in sorted(columns)]


def lowered(phase, state: TrainState, batch, bases=None) -> jax.stages.Lowered:
  """Lowers a phase's update for a batch of shapes, or of arrays."""
  arguments, settings = _call(phase, state, batch, bases)
  with sharding.on_mesh_of(state.params):
    return update.lower(*arguments, **settings)


def _call(phase, state, batch, bases):
  """Returns the arguments and the keywords of a phase's `update`."""
  layout = tuple(x.sharding for x in jax.tree.leaves(state))
  if layout[0].num_devices == 1:
    layout = ()
  settings = {'microbatches': phase.config.microbatches, 'layout': layout}
  if bases:
    settings['bases'] = bases
  if phase.config.staleness:
    settings['kept_params'] = state.params
    state = state._replace(params=None)
  return (phase.recipe.loss, phase.tx, state, batch), settings
