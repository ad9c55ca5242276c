"""Bytes of one device for passes without a gradient: sampling and scoring.

Keys and values are those of the lanes, rows over the batch's axes and heads
over theirs; filling computes the prompts that are inserted at once, a layer at
a time.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from critic_jax.models import attention, forward
from critic_jax.models.transformer import Transformer
from critic_jax.plan import abstract
from critic_jax.runtime import sharding
from critic_jax.sampling import scheduler
from critic_jax.sampling.lanes import empty_lanes


def inserts(lanes: int, mesh) -> list[str]:
  """Returns the programs that fill lanes on a mesh."""
  num_shards = sharding.num_shards(mesh, 'rows')
  size = scheduler.num_inserted(lanes, num_shards)
  shares = scheduler.num_shared_prefixes(size, num_shards) > 0
  return ['insert', *(['insert behind prefixes'] if shares else [])]


def sampler(
  lm, mesh, *, lanes: int, rows: int, samples: int, columns: int,
  program: str = 'insert',
) -> dict[str, int]:  # fmt: skip
  """Returns bytes that sampling needs beside the parameters.

  Args:
    lm: the LM that samples.
    mesh: the mesh that a process samples on.
    lanes: prompts sampled for at once.
    rows: responses to a prompt at once.
    samples: responses to a prompt.
    columns: columns of the prompts.
    program: 'insert', 'insert behind prefixes' or 'decode'.
  """
  model = abstract.on_one_device(lm, mesh).model
  num_shards = sharding.num_shards(mesh, 'rows')
  inserted = scheduler.num_inserted(lanes, num_shards)
  local_lanes, local_inserted, local_rows = (
    n / abstract.num_shards_of(mesh, 'rows', n)
    for n in (lanes, inserted, lanes * rows)
  )
  prompt, response = _lane_bytes(
    model, columns, lm.max_new_tokens, rows, samples
  )
  logits = local_rows * 4 * 4 * model.config.vocab_size
  held = {
    'keys and values': round(local_lanes * prompt + local_rows * response)
  }
  if program == 'decode':
    return held | {'a token': round(logits)}
  filling = local_inserted * (prompt + _layer_bytes(model, columns))
  if program != 'insert':  # keys and values of prefixes, those for each prompt
    prefixes = scheduler.num_shared_prefixes(inserted, num_shards) / num_shards
    rest = prompt / 4 + _layer_bytes(model, columns // 4)
    filling = prefixes * prompt + local_inserted * (prompt + rest)
  # All devices get the keys and values of all prompts, a layer at a time.
  sent = inserted * prompt / model.config.num_layers if num_shards > 1 else 0
  return held | {'filling lanes': round(filling + sent + logits)}


def scorer(lm, mesh, batch_shape, microbatches: int) -> dict[str, int]:
  """Returns bytes of a forward pass over a micro-batch, beside the batch."""
  model = abstract.on_one_device(lm, mesh).model
  rows = batch_shape.rows // microbatches
  layer = _layer_bytes(model, batch_shape.columns) * rows
  num_shards = abstract.num_batch_shards(mesh, rows, batch_shape.columns)
  return {'a layer of a micro-batch': layer // num_shards}


@functools.cache
def _lane_bytes(model, columns, limit, rows, samples) -> tuple[float, float]:
  """Returns the bytes of a lane's prompt and those of each of its rows.

  Those of a row include its share of the lane's samples and logits.
  """
  shapes = jax.eval_shape(
    functools.partial(empty_lanes, model, 1, rows, samples, columns, limit)
  )
  row_shapes = shapes.responses, shapes.samples, shapes.logits
  prompt = abstract.all_bytes(shapes.prompts)
  return prompt, abstract.all_bytes(row_shapes) / rows


@functools.cache
def _layer_bytes(model, columns: int) -> int:
  """Returns bytes of a row in one layer of a forward pass.

  They are those of its input, its products and attention, of which a gradient
  would keep the results; XLA computes all else where it is read. Where rows are
  short their scores are one array, beside their exponentials.
  """

  def residual_bytes(num_layers, rows):
    config = dataclasses.replace(
      model.config, num_layers=num_layers, remat='dots_and_attention'
    )
    shallow = Transformer(config)
    tokens = jax.ShapeDtypeStruct((rows, columns), jnp.int32)

    def pullback(params, tokens):
      apply = functools.partial(forward.hidden_states, shallow, tokens=tokens)
      return jax.vjp(apply, params)[1]

    shapes = abstract.shapes(shallow)
    return abstract.all_bytes(jax.eval_shape(pullback, shapes, tokens))

  second_row_of_two = residual_bytes(2, 2) - residual_bytes(2, 1)
  second_row_of_one = residual_bytes(1, 2) - residual_bytes(1, 1)
  scores = 0
  if columns <= attention.SHORT:
    scores = 2 * 4 * model.config.num_heads * columns**2
  return second_row_of_two - second_row_of_one + scores
