"""Seconds of a step by stage, from declared rates: a roofline.

Each stage takes the longest of three times on one device: its matrix products,
its reads of memory, and its traffic to other devices. Rates are a chip's peaks
times the shares of them that are declared to be reached. Flops are those that
are needed (`models/cost.py`); bytes are the matrices, once for each pass over
them, and in decoding the keys and values of all columns, which are read whether
filled or not. Devices send gathered matrices (parameters are split along
'embed'), sums over heads and MLP, and gradients. The host's work, such as
grading, is not counted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp

from critic_jax.models import cost
from critic_jax.plan import abstract
from critic_jax.plan.chips import Chip
from critic_jax.runtime import sharding
from critic_jax.sampling import scheduler


class Shares(NamedTuple):
  """The shares of a chip's figures that are reached, and of response lengths.

  Attributes:
    flops: share of the peak; 0.4 is usual for training.
    bandwidth: share of the bandwidths of memory and of links.
    memory: share of memory that arrays may take.
    length: mean length of responses over their limit.
  """

  flops: float = 0.4
  bandwidth: float = 0.6
  memory: float = 0.9
  length: float = 1.0


class Time(NamedTuple):
  """The time of one stage.

  Attributes:
    stage: the name of the stage.
    role: the role whose model computes.
    rows: number of prompts, responses or rows of the batch.
    tokens: number of tokens that are read or sampled.
    matmul_s: seconds of matrix products alone.
    memory_s: seconds of reading memory alone.
    link_s: seconds of sending to other devices alone.
  """

  stage: str
  role: str
  rows: int
  tokens: int
  matmul_s: float
  memory_s: float
  link_s: float

  @property
  def seconds(self) -> float:
    """Returns the longest of the three times."""
    return max(self[-3:])

  @property
  def bound(self) -> str:
    """Names the longest time: 'matmul', 'memory' or 'link'."""
    names = 'matmul', 'memory', 'link'
    return names[self[-3:].index(self.seconds)]


class Model(NamedTuple):
  """A role's model on a mesh of a chip, and the costs of a forward pass.

  Rates are those that are reached, of one device.

  Attributes:
    fields: the fields of its config.
    embed: number of devices that matrices are split among along 'embed'.
    heads: number of devices that they are split among along heads, MLP and
      vocabulary.
    flops: flops a second.
    bandwidth: bytes of memory read a second.
    gather: bytes sent a second, where matrices are gathered.
    reduce: bytes sent a second, where sums over heads are made.
    copies: bytes sent a second, among copies of the parameters.
    num_copies: number of copies of the parameters.
  """

  fields: dict
  embed: int
  heads: int
  flops: float
  bandwidth: float
  gather: float
  reduce: float
  copies: float
  num_copies: int

  @property
  def item(self) -> int:
    """Returns the bytes of a number that is computed with."""
    return jnp.dtype(self.fields['dtype']).itemsize

  @property
  def weights(self) -> float:
    """Returns the bytes that a device multiplies with in a forward pass."""
    stored_item = jnp.dtype(self.fields['param_dtype']).itemsize
    item = self.item if self.embed > 1 else stored_item
    return cost.read_params(self.fields) * item / self.heads

  @property
  def gather_s(self) -> float:
    """Returns the seconds to gather the matrices for one pass."""
    missing_share = 1 - 1 / self.embed
    item = self.item / self.heads
    return cost.read_params(self.fields) * item * missing_share / self.gather

  def reduce_s(self, tokens: float) -> float:
    """Returns the seconds of both sums over heads in each layer of a pass."""
    width = self.fields['embed_dim'] * self.item
    sent_bytes = 2 * (1 - 1 / self.heads) * tokens * width
    return 2 * self.fields['num_layers'] * sent_bytes / self.reduce


def make_model(lm, mesh, chip: Chip, shares: Shares) -> Model:
  """Returns the model of an LM on a mesh of a chip."""
  kernel = abstract.layer(lm, mesh)['attention']['q']['kernel']
  local_shape = kernel.sharding.shard_shape(kernel.shape)
  num_shards = [
    size // local_size
    for size, local_size in zip(kernel.shape, local_shape, strict=True)
  ]
  embed_axis, heads_axis, *_ = [*kernel.sharding.spec, None, None]
  in_float32 = lm.model.config.dtype == 'float32'

  def link_rate(axis):
    return shares.bandwidth * _link(chip, mesh, axis)

  return Model(
    fields=vars(lm.model.config),
    embed=num_shards[0],
    heads=num_shards[1],
    flops=shares.flops * (chip.float32_flops if in_float32 else chip.flops),
    bandwidth=shares.bandwidth * chip.bandwidth,
    gather=link_rate(embed_axis),
    reduce=link_rate(heads_axis),
    copies=link_rate(mesh.axis_names[0]),
    num_copies=mesh.size // math.prod(num_shards),
  )


def _link(chip, mesh, axis) -> float:
  """Returns the rate along an axis: devices of the last are neighbours."""
  if axis is None:
    return chip.link
  name = axis if isinstance(axis, str) else axis[0]
  inner_axes = mesh.axis_names[mesh.axis_names.index(name) :]
  num_neighbours = math.prod(mesh.shape[n] for n in inner_axes)
  return chip.link if num_neighbours <= chip.domain else chip.network


def sample(model: Model, mesh, stage, lm) -> list[Time]:
  """Estimates the times to read a stage's prompts and to decode responses."""
  num_lanes, num_rows = lm.shape(stage.prompts, stage.samples)
  return [
    _prefill_time(model, mesh, stage, num_lanes),
    _decode_time(model, mesh, stage, lm, num_lanes, num_rows),
  ]


def _prefill_time(model, mesh, stage, num_lanes) -> Time:
  """Estimates the time to read prompts, a few lanes in a call."""
  row_shards = sharding.num_shards(mesh, 'rows')
  num_inserted = min(num_lanes, scheduler.num_inserted(num_lanes, row_shards))
  num_calls = math.ceil(stage.prompts / num_inserted)
  # Devices beyond the inserted rows compute padding only.
  num_shards = min(row_shards, num_inserted)
  tokens = stage.prompts * stage.prompt
  flops = stage.prompts * cost.forward_flops(model.fields, stage.prompt, 0, 1)
  return Time(
    f'{stage.stage}: prompts', stage.role, stage.prompts, tokens,
    flops / (num_shards * model.heads * model.flops),
    num_calls * model.weights / model.bandwidth,
    num_calls * model.gather_s + model.reduce_s(tokens / num_shards),
  )  # fmt: skip


def _decode_time(model, mesh, stage, lm, num_lanes, num_rows) -> Time:
  """Estimates the time to decode responses, all slots at once."""
  num_slots = num_lanes * num_rows
  num_responses = stage.prompts * stage.samples
  num_shards = abstract.num_shards_of(mesh, 'rows', num_slots)
  # The first token of a response is drawn from its prompt's logits.
  num_decoded = stage.new - 1
  num_steps = math.ceil(num_responses / num_slots) * num_decoded
  flops = num_responses * cost.forward_flops(
    model.fields, num_decoded, stage.prompt, num_decoded
  )
  num_columns = num_lanes * lm.row_length(stage.prompt)
  num_columns += num_slots * lm.max_new_tokens
  cache_bytes = num_columns * cost.kv_bytes(model.fields, model.item)
  cache_bytes /= num_shards * model.heads
  return Time(
    stage.stage, stage.role, num_responses, num_responses * stage.new,
    flops / (num_shards * model.heads * model.flops),
    num_steps * (model.weights + cache_bytes) / model.bandwidth,
    num_steps * (model.gather_s + model.reduce_s(num_slots / num_shards)),
  )  # fmt: skip


def lay_out(model: Model, role: str, num_bytes: int) -> Time:
  """Estimates the time to copy parameters into the layout of sampling.

  Args:
    model: the role's model in the layout of training.
    role: the name of the role.
    num_bytes: bytes of the copy on a device.
  """
  missing_bytes = num_bytes * (1 - 1 / (model.embed * model.heads))
  return Time(
    'lay out', role, 0, 0, 0.0,
    num_bytes / model.bandwidth, missing_bytes / model.gather,
  )  # fmt: skip


def score(model: Model, mesh, role: str, batch_shape) -> Time:
  """Estimates the time of a forward pass over a batch of this shape."""
  return _pass_time('score', model, mesh, role, batch_shape, num_passes=1)


def update(model: Model, mesh, role: str, batch_shape, settings) -> Time:
  """Estimates the time of a batch's updates: forward, backward, and AdamW.

  A backward pass has twice the flops of a forward pass; with adapters as many,
  as most matrices have no gradient, in the layers that have them.

  Args:
    model: the trained model.
    mesh: the mesh of the training.
    role: the name of the role.
    batch_shape: a `workload.Learned`.
    settings: the phase's section, with `epochs` and `microbatches`.
  """
  # A backward pass reads and gathers the matrices once, as a forward pass.
  num_reads = 3 if model.fields['remat'] == 'full' else 2
  num_passes: float = num_reads + 1
  if model.fields['lora']:
    share = cost.backward_layers(model.fields) / model.fields['num_layers']
    num_passes = 1 + (num_reads - 1) * share
  time = _pass_time(
    'update', model, mesh, role, batch_shape, num_reads=num_reads,
    num_passes=num_passes,
    num_calls=settings.microbatches,
  )  # fmt: skip
  num_params = cost.trained_params(model.fields) / model.heads
  item = jnp.dtype(model.fields['param_dtype']).itemsize  # of a gradient
  gradient_bytes = item * num_params
  shard_bytes = gradient_bytes / model.embed
  reduce_scatter_s = gradient_bytes * (1 - 1 / model.embed) / model.gather
  gradients_s = reduce_scatter_s * settings.microbatches
  gradients_s += 2 * (1 - 1 / model.num_copies) * shard_bytes / model.copies
  # Both moments, parameters or masters, and the gradient: seven passes.
  adamw_s = 7 * 4 * num_params / model.embed / model.bandwidth
  return time._replace(
    tokens=settings.epochs * time.tokens,
    matmul_s=settings.epochs * time.matmul_s,
    memory_s=settings.epochs * (time.memory_s + adamw_s),
    link_s=settings.epochs * (time.link_s + gradients_s),
  )


def _pass_time(
  stage, model, mesh, role, batch_shape, *, num_passes, num_reads=1,
  num_calls=1,
) -> Time:  # fmt: skip
  """Estimates the time of passes over a batch, which is split into calls.

  Passes are counted in flops of forward passes, and reads are those of all
  matrices.
  """
  rows, columns, _ = batch_shape
  num_shards = abstract.num_batch_shards(mesh, rows // num_calls, columns)
  flops = rows * cost.forward_flops(model.fields, columns, 0, columns)
  flops *= num_passes
  tokens = rows * columns
  return Time(
    stage, role, rows, tokens,
    flops / (num_shards * model.heads * model.flops),
    num_calls * num_reads * model.weights / model.bandwidth,
    num_reads
    * (num_calls * model.gather_s + model.reduce_s(tokens / num_shards)),
  )  # fmt: skip
