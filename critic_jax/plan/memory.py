"""Bytes of one device in a phase, from shapes alone.

Parameters, optimiser and batch are exact: shapes and shardings of the run's own
functions. Gradients have the parameters' shapes; micro-batches add their sum.
Activations are what the loss's own `jax.vjp` keeps for each row, on the model
that one device sees, and with `remat` one layer's, which is computed again;
they are taken to be split by rows; `compiled.py` shows whether they are. The
working set is the larger of a layer's gathered matrices with their gradients,
and the head's with a chunk of logits. Keys and values are those of the lanes,
rows over the batch's axes and heads over theirs; filling computes the prompts
that are put in at once, a layer at a time. Where sampling has a layout of its
own, what is frozen is held in both, what is trained while a batch is collected.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from critic_jax.models import cost, forward, linear_cross_entropy
from critic_jax.models.transformer import Transformer
from critic_jax.plan import abstract
from critic_jax.runtime import sharding
from critic_jax.sampling import scheduler
from critic_jax.sampling.lanes import empty_lanes
from critic_jax.training import updates


def state(phase, lms, mesh):
  """The state that a phase's update changes: shapes with shardings."""
  trained = {r: abstract.params(lms[r], mesh) for r in phase.config.train}
  return updates.abstract_state(phase.tx, trained, mesh)


def held(phase, lms, mesh, own=None) -> dict[str, int]:
  """What is there during the whole phase: parameters and optimiser.

  Args:
    phase: of the run.
    lms: by role.
    mesh: see `sharding.make_mesh`.
    own: see `copies`; None: there are none.
  """
  found = {
    f'parameters of {role}': abstract.device_bytes(abstract.params(lm, mesh))
    for role, lm in lms.items()
  }
  shapes = state(phase, lms, mesh)
  if phase.config.staleness:  # the next batch is sampled with the old ones
    found['old parameters'] = abstract.device_bytes(shapes.params)
  frozen = [role for role in lms if role not in phase.config.train]
  found |= copies(frozen, lms, mesh, own or mesh)
  return found | {'optimiser': abstract.device_bytes(shapes.opt_state)}


def copies(chosen, lms, mesh, own) -> dict[str, int]:
  """The parameters as they are laid out to sample with, beside the others.

  As in `sharding.reshard`, what every device has whole in both layouts is not
  copied.

  Args:
    chosen: roles.
    lms: by role.
    mesh: of the training.
    own: of the sampling of a process; where it is `mesh` there are none.
  """
  if own == mesh:
    return {}
  found = {}
  for role in chosen:
    trained, sampled = (
      jax.tree.leaves(abstract.params(lms[role], m)) for m in (mesh, own)
    )
    both = zip(trained, sampled, strict=True)
    copied = [x for y, x in both if not (_is_whole(x) and _is_whole(y))]
    found[f'{role} to sample with'] = abstract.device_bytes(copied)
  return found


def _is_whole(x) -> bool:
  return x.sharding.shard_shape(x.shape) == x.shape


def update(phase, config, lms, mesh, learned) -> tuple[int, dict[str, int]]:
  """What an update needs beside that.

  Returns:
    Activations of each row of a micro-batch on a device; and the rest.
  """
  copies = 1 + (phase.config.microbatches > 1)
  gradients = abstract.device_bytes(state(phase, lms, mesh).params)
  num_shards = abstract.num_batch_shards(mesh, *learned[:2])
  arrays = abstract.all_bytes(abstract.batch(*learned)) // num_shards
  one = {role: abstract.on_one_device(lm, mesh) for role, lm in lms.items()}
  rows, columns = learned.rows // phase.config.microbatches, learned.columns
  here = (
    rows // abstract.num_shards_of(mesh, 'rows', rows),
    columns // abstract.num_shards_of(mesh, 'columns', columns),
  )
  working = max(_working_set(one[role], *here) for role in phase.config.train)
  return activations(phase.name, config, one, learned), {
    'gradients': copies * gradients,
    'working set': working,
    'batch': arrays,
  }


def activations(name, config, lms, learned) -> int:
  """What a device keeps of each row for the backward pass.

  Layers are alike: two models, of one layer and of two, tell what each adds.

  Args:
    name: of the phase.
    config: of the run.
    lms: as one device sees them.
    learned: the columns of a row.
  """

  @functools.cache
  def kept(layers, remat):
    few = {
      role: abstract.changed(
        lm, num_layers=layers, remat=remat or lm.model.config.remat
      )
      for role, lm in lms.items()
    }
    phase = abstract.phase(config, few, name)
    return _kept_bytes(phase, {r: few[r] for r in trained}, learned)

  trained = config.phases[name].train
  layers = max(lms[role].model.config.num_layers for role in trained)
  layer = kept(2, '') - kept(1, '')
  whole = kept(2, 'none') - kept(1, 'none')  # the one that is computed again
  return kept(1, '') + (layers - 2) * layer + whole


def _kept_bytes(phase, lms, learned) -> int:
  """Bytes that the loss's gradient keeps for one row more."""
  params = {role: abstract.shapes(lm.model) for role, lm in lms.items()}

  def pullback(params, batch):
    loss = functools.partial(phase.recipe.loss, batch=batch)
    return jax.vjp(lambda p: loss(p)[0], params)[1]

  def kept(rows):
    batch = abstract.batch(rows, learned.columns, learned.packed)
    return abstract.all_bytes(jax.eval_shape(pullback, params, batch))

  return kept(2) - kept(1)


def _working_set(lm, rows: int, columns: int) -> int:
  """Gathered matrices with float32 gradients: of a layer, or of the head.

  Args:
    lm: as one device sees it.
    rows: that a device has of a micro-batch.
    columns: of them.
  """
  config = lm.model.config
  item = jnp.dtype(config.dtype).itemsize
  layer = cost.layer_weights(vars(config)) // config.num_layers * (item + 4)
  if config.head != 'lm':
    return layer
  head = config.vocab_size * config.embed_dim * (item + 4)
  chunk = max(rows, linear_cross_entropy.MAX_LOGITS // config.vocab_size)
  # Logits, their exponentials, and their gradient.
  logits = 3 * 4 * min(rows * columns, chunk) * config.vocab_size
  return max(layer, head + logits)


def sampler(
  lm, mesh, *, lanes: int, rows: int, samples: int, columns: int
) -> dict[str, int]:
  """What sampling needs beside the parameters.

  Args:
    lm: the model.
    mesh: see `sharding.make_mesh`.
    lanes: prompts at once.
    rows: responses to each at once.
    samples: responses to each.
    columns: of the prompts.
  """
  model = abstract.on_one_device(lm, mesh).model
  inserted = scheduler.num_inserted(lanes, sharding.num_shards(mesh, 'rows'))
  here, filled, rows_here = (
    n / abstract.num_shards_of(mesh, 'rows', n)
    for n in (lanes, inserted, lanes * rows)
  )
  prompt, response = _lane_bytes(
    model, columns, lm.max_new_tokens, rows, samples
  )
  logits = 4 * 4 * model.config.vocab_size
  return {
    'keys and values': round(here * prompt + rows_here * response),
    'filling lanes': round(
      filled * (prompt + _layer_bytes(model, columns)) + rows_here * logits
    ),
  }


def scorer(lm, mesh, learned) -> dict[str, int]:
  """What a forward pass over the whole batch needs, beside the batch."""
  model = abstract.on_one_device(lm, mesh).model
  layer = _layer_bytes(model, learned.columns) * learned.rows
  num_shards = abstract.num_batch_shards(mesh, learned.rows, learned.columns)
  return {'a layer of all rows': layer // num_shards}


@functools.cache
def _lane_bytes(model, columns, limit, rows, samples) -> tuple[float, float]:
  """Keys and values of a lane's prompt; those of a row, with its samples."""
  shapes = jax.eval_shape(
    functools.partial(empty_lanes, model, 1, rows, samples, columns, limit)
  )
  others = shapes.responses, shapes.samples, shapes.logits
  return abstract.all_bytes(shapes.prompts), abstract.all_bytes(others) / rows


@functools.cache
def _layer_bytes(model, columns: int) -> int:
  """What one layer computes of a row, all of it at once."""

  def kept(layers, rows):
    config = dataclasses.replace(model.config, num_layers=layers, remat='none')
    few = Transformer(config)
    tokens = jax.ShapeDtypeStruct((rows, columns), jnp.int32)

    def pullback(params, tokens):
      apply = functools.partial(forward.hidden_states, few, tokens=tokens)
      return jax.vjp(apply, params)[1]

    shapes = abstract.shapes(few)
    return abstract.all_bytes(jax.eval_shape(pullback, shapes, tokens))

  return kept(2, 2) - kept(2, 1) - (kept(1, 2) - kept(1, 1))
