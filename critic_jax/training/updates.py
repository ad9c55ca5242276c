"""Updates: what changes, how, and the programs for it.

A phase's batches have few shapes, so its updates are few programs, which can be
compiled before they are needed.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from critic_jax.runtime import compilation, sharding, timing


class TrainState(NamedTuple):
  """What an update changes.

  Attributes:
    step: int32[], updates done in this phase.
    params: of the trained roles.
    opt_state: the optimiser's.
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
  loss, tx, state: TrainState, batch, *, microbatches: int = 1, layout=()
):
  """One step of the optimiser.

  The gradient is the sum over micro-batches: `batch['weights']` normalise the
  loss over the whole batch, so their number does not matter.

  Args:
    loss: `(params, batch) -> (scalar, metrics)`; metrics are sums over rows, or
      have a value for each row, [B].
    tx: the optax transform.
    state: donated.
    batch: leading axis B, a multiple of `microbatches`.
    microbatches: how many parts are computed one after another.
    layout: shardings of the new state's leaves, those of the old, without
      which the compiler would choose others; none on one device.

  Returns:
    The new state and the metrics: the loss's own, 'loss/total', 'grad_norm'
    before clipping, and 'update/skipped': where the loss or the gradient is not
    finite, parameters and optimiser stay as they are.
  """
  num_rows = len(batch['tokens'])
  if num_rows % microbatches:
    raise ValueError(
      f"microbatches: got {microbatches}; expected a divisor of the batch's "
      f'{num_rows} rows'
    )
  grad_fn = jax.value_and_grad(loss, has_aux=True)

  def one(part):
    (total, metrics), grads = grad_fn(state.params, part)
    sums = {k: x for k, x in metrics.items() if not x.ndim}
    of_rows = {k: x for k, x in metrics.items() if x.ndim}
    return (grads, {**sums, 'loss/total': total}), of_rows

  if microbatches == 1:
    (grads, metrics), of_rows = one(batch)
  else:
    parts = jax.tree.map(functools.partial(_parts, microbatches), batch)
    shapes, _ = jax.eval_shape(one, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(sums, part):
      found, of_rows = one(part)
      return jax.tree.map(jnp.add, sums, found), of_rows

    (grads, metrics), of_rows = jax.lax.scan(add, zeros, parts)
  metrics |= {k: sharding.constrain(x.reshape(-1)) for k, x in of_rows.items()}
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  grad_norm = optax.tree.norm(grads)
  is_finite = jnp.isfinite(metrics['loss/total']) & jnp.isfinite(grad_norm)
  params, opt_state = jax.tree.map(
    lambda new, old: jnp.where(is_finite, new, old),
    (params, opt_state),
    (state.params, state.opt_state),
  )
  metrics = {**metrics, 'grad_norm': grad_norm, 'update/skipped': ~is_finite}
  state = TrainState(state.step + 1, params, opt_state)
  if layout:
    layout = jax.tree.unflatten(jax.tree.structure(state), layout)
    state = jax.lax.with_sharding_constraint(state, layout)
  return state, metrics


def _parts(number, x):
  """[B, T, ...] -> [number, B / number, T, ...], rows split in each part."""
  parts = x.reshape(number, -1, *x.shape[1:])
  return sharding.constrain(parts, None, 'rows', 'columns')


@functools.partial(
  compilation.Jit,
  static_argnames=('loss', 'tx', 'microbatches', 'layout'),
  donate_argnames=('step', 'opt_state'),
)
def update_beside(loss, tx, step, params, opt_state, batch, **settings):
  """`update`, but the old parameters stay: something samples with them."""
  state = TrainState(step, params, opt_state)
  return update.__wrapped__(loss, tx, state, batch, **settings)


def init_state(tx, params, mesh) -> TrainState:
  """A fresh state, made in one jit so that every leaf is on the mesh.

  Scalars made outside of it would be elsewhere, and `update` compiled twice.
  """
  shapes = abstract_state(tx, params, mesh)
  shardings = jax.tree.map(lambda x: x.sharding, shapes)
  init = functools.partial(_fresh_state, tx)
  return jax.jit(init, out_shardings=shardings)(params)


def abstract_state(tx, params, mesh) -> TrainState:
  """The shapes and shardings of a fresh state; nothing is allocated.

  Args:
    tx: the optax transform.
    params: arrays, or shapes with shardings.
    mesh: of what every device holds whole.
  """
  replicated = sharding.replicated(mesh)
  of_params = jax.tree.map(lambda x: x.sharding, params)
  shapes = jax.eval_shape(functools.partial(_fresh_state, tx), params)
  of_optimizer = optax.tree.map_params(
    tx,
    lambda _, s: s,
    shapes.opt_state,
    of_params,
    transform_non_params=lambda _: replicated,
  )
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    TrainState(replicated, of_params, of_optimizer),
  )


def _fresh_state(tx, params) -> TrainState:
  return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))


def run(phase, state: TrainState, batch):
  """A phase's updates with a batch.

  They are dispatched and not waited for.

  Args:
    phase: see `phases.Phase`.
    state: donated, but for its parameters where the phase is stale: the next
      batch is sampled with them.
    batch: see `update`.

  Returns:
    The state after `epochs` updates, and the metrics of the last, but
    'update/skipped' of all, and what has a value for each row of the first.
  """
  with timing.timed('time/update_s'):
    skipped, of_rows = 0, None
    for _ in range(phase.config.epochs):
      call, arguments, settings = _call(phase, state, batch)
      with sharding.on_mesh_of(state.params):
        state, metrics = call(*arguments, **settings)
      skipped += metrics['update/skipped']
      of_rows = of_rows or {k: x for k, x in metrics.items() if x.ndim}
  return state, {**metrics, **of_rows, 'update/skipped': skipped}


def compile_ahead(phase, state: TrainState, batch, shapes, mesh) -> None:
  """Compiles a phase's update for batches of other shapes.

  Args:
    phase: see `run`.
    state: is only looked at.
    batch: one of the phase's, [B, T] each; tells what is in a batch.
    shapes: the (B, T) to compile for.
    mesh: see `sharding.put_batch`.
  """

  def compile_one(shape):
    zeros = {
      name: np.zeros((*shape, *x.shape[2:]), x.dtype)
      for name, x in batch.items()
    }
    call, arguments, settings = _call(
      phase, state, sharding.put_batch(zeros, mesh)
    )
    with sharding.on_mesh_of(state.params):
      call.lower(*arguments, **settings).compile()

  compilation.ahead(compile_one, shapes)


def _call(phase, state, batch):
  """The jitted update, its arguments and its settings."""
  fixed = phase.recipe.loss, phase.tx
  layout = tuple(x.sharding for x in jax.tree.leaves(state))
  if layout[0].num_devices == 1:
    layout = ()
  settings = {'microbatches': phase.config.microbatches, 'layout': layout}
  if phase.config.staleness:
    return update_beside, (*fixed, *state, batch), settings
  return update, (*fixed, state, batch), settings
