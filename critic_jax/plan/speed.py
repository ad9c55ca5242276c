"""Seconds of a step by stage, from declared rates: a roofline.

Each stage takes the longest of three times on one device: its matrix products,
what it reads of its memory, and what it sends to other devices. Rates are a
chip's peaks times the shares that are declared to be reached. Flops are those
that are needed (`models/cost.py`); bytes are the matrices, once for each pass
over them, and in decoding the keys and values of all columns, which are read
whether filled or not. Devices send gathered matrices (parameters are split
along 'embed'), sums over heads and MLP, and gradients. The host's work, such as
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
  """What is reached of a chip's figures, and how long responses are.

  Attributes:
    flops: of its peak; 0.4 is usual for training.
    bandwidth: of memory and of links.
    memory: what arrays may take.
    length: mean length of responses over their limit.
  """

  flops: float = 0.4
  bandwidth: float = 0.6
  memory: float = 0.9
  length: float = 1.0


class Time(NamedTuple):
  """What one stage takes.

  Attributes:
    stage: its name.
    role: whose model computes.
    rows: prompts, responses or rows of the batch.
    tokens: read or sampled.
    matmul_s: seconds of matrix products alone.
    memory_s: ... of reading memory.
    link_s: ... of sending to other devices.
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
    """The longest of the three."""
    return max(self[-3:])

  @property
  def bound(self) -> str:
    """Which one that is."""
    names = 'matmul', 'memory', 'link'
    return names[self[-3:].index(self.seconds)]


class Model(NamedTuple):
  """A role on a mesh and a chip; `pass_over` tells what a forward pass needs.

  Attributes:
    fields: of its config.
    embed: among how many devices matrices are split along 'embed'.
    heads: ... along heads, MLP and vocabulary.
    flops: a second, reached.
    bandwidth: bytes a second, reached.
    gather: ... sent, where matrices are gathered.
    reduce: ... where sums over heads are made.
    copies: ... among copies of the parameters.
    num_copies: how many there are.
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
    """Bytes of a number as it is computed with."""
    return jnp.dtype(self.fields['dtype']).itemsize

  @property
  def weights(self) -> float:
    """Bytes that a device multiplies with in a forward pass."""
    stored = jnp.dtype(self.fields['param_dtype']).itemsize
    item = self.item if self.embed > 1 else stored
    return cost.read_params(self.fields) * item / self.heads

  @property
  def gathered(self) -> float:
    """Seconds to gather them, for one pass."""
    missing = 1 - 1 / self.embed
    item = self.item / self.heads
    return cost.read_params(self.fields) * item * missing / self.gather

  def summed(self, tokens: float) -> float:
    """Seconds of the two sums over heads of each layer, for one pass."""
    width = self.fields['embed_dim'] * self.item
    each = 2 * (1 - 1 / self.heads) * tokens * width
    return 2 * self.fields['num_layers'] * each / self.reduce


def make_model(lm, mesh, chip: Chip, shares: Shares) -> Model:
  """A role on a mesh and a chip."""
  kernel = abstract.params(lm, mesh)['layers_0']['attention']['q']['kernel']
  local = kernel.sharding.shard_shape(kernel.shape)
  num_shards = [
    whole // part for whole, part in zip(kernel.shape, local, strict=True)
  ]
  along = [*kernel.sharding.spec, None, None]
  in_float32 = lm.model.config.dtype == 'float32'
  num_copies = mesh.size // math.prod(num_shards)

  def sent(axis):
    return shares.bandwidth * _link(chip, mesh, axis)

  return Model(
    fields=vars(lm.model.config),
    embed=num_shards[0],
    heads=num_shards[1],
    flops=shares.flops * (chip.float32_flops if in_float32 else chip.flops),
    bandwidth=shares.bandwidth * chip.bandwidth,
    gather=sent(along[0]),
    reduce=sent(along[1]),
    copies=sent(mesh.axis_names[0]),
    num_copies=num_copies,
  )


def _link(chip, mesh, axis) -> float:
  """The rate along a mesh axis: the last axes are beside each other."""
  if axis is None:
    return chip.link
  name = axis if isinstance(axis, str) else axis[0]
  inner = mesh.axis_names[mesh.axis_names.index(name) :]
  beside = math.prod(mesh.shape[n] for n in inner) <= chip.domain
  return chip.link if beside else chip.network


def sample(model: Model, mesh, stage, lm) -> list[Time]:
  """Reading the prompts of a stage, and decoding its responses."""
  responses = stage.prompts * stage.samples
  lanes, rows = lm.shape(stage.prompts, stage.samples)
  slots, num_shards = lanes * rows, sharding.num_shards(mesh, 'rows')
  inserted = min(lanes, scheduler.num_inserted(lanes, num_shards))
  calls = math.ceil(stage.prompts / inserted)
  num_shards = min(
    num_shards, inserted
  )  # what is padded computes nothing that is asked
  fields, last = model.fields, stage.new - 1
  flops = stage.prompts * cost.forward_flops(fields, stage.prompt, 0, 1)
  read = stage.prompts * stage.prompt
  prefill = Time(
    f'{stage.stage}: prompts', stage.role, stage.prompts, read,
    flops / (num_shards * model.heads * model.flops),
    calls * model.weights / model.bandwidth,
    calls * model.gathered + model.summed(read / num_shards),
  )  # fmt: skip
  calls, num_shards = (
    math.ceil(responses / slots),
    abstract.num_shards_of(mesh, 'rows', slots),
  )
  steps = calls * last
  flops = responses * cost.forward_flops(fields, last, stage.prompt, last)
  columns = lanes * lm.row_length(stage.prompt)
  columns += slots * lm.max_new_tokens
  cached = (
    columns * cost.kv_bytes(fields, model.item) / (num_shards * model.heads)
  )
  decode = Time(
    stage.stage, stage.role, responses, responses * stage.new,
    flops / (num_shards * model.heads * model.flops),
    steps * (model.weights + cached) / model.bandwidth,
    steps * (model.gathered + model.summed(slots / num_shards)),
  )  # fmt: skip
  return [prefill, decode]


def lay_out(model: Model, role, copied: int) -> Time:
  """Laying the parameters of a role out to sample with, `copied` bytes."""
  missing = copied * (1 - 1 / (model.embed * model.heads))
  return Time(
    'lay out', role, 0, 0, 0.0,
    copied / model.bandwidth, missing / model.gather,
  )  # fmt: skip


def score(model: Model, mesh, role, learned) -> Time:
  """A forward pass over the batch."""
  return _passes('score', model, mesh, role, learned, passes=1)


def update(model: Model, mesh, role, learned, settings) -> Time:
  """Updates with a batch: forward, backward of twice its flops, AdamW.

  Args:
    model: the trained one.
    mesh: see `sharding.make_mesh`.
    role: its name.
    learned: the batch.
    settings: of the phase: `epochs`, `microbatches`.
  """
  again = model.fields['remat'] == 'full'
  time = _passes(
    'update', model, mesh, role, learned, 3 + again, settings.microbatches
  )
  # A backward pass reads and gathers the matrices once and sums as often.
  size = 4 * cost.num_params(model.fields) / model.heads
  own = size / model.embed
  spread = size * (1 - 1 / model.embed) / model.gather * settings.microbatches
  spread += 2 * (1 - 1 / model.num_copies) * own / model.copies
  return time._replace(
    tokens=settings.epochs * time.tokens,
    matmul_s=settings.epochs * time.matmul_s,
    memory_s=settings.epochs * (time.memory_s + 7 * own / model.bandwidth),
    link_s=settings.epochs * (time.link_s + spread),
  )


def _passes(stage, model, mesh, role, learned, passes, calls=1) -> Time:
  """Passes over a batch in some calls; those back have the flops of two."""
  rows, columns, _ = learned
  num_shards = abstract.num_batch_shards(mesh, rows // calls, columns)
  flops = passes * rows * cost.forward_flops(model.fields, columns, 0, columns)
  over = max(1, passes - 1)  # times that the matrices are gone over
  return Time(
    stage, role, rows, rows * columns,
    flops / (num_shards * model.heads * model.flops),
    calls * over * model.weights / model.bandwidth,
    over * (calls * model.gathered + model.summed(rows * columns / num_shards)),
  )  # fmt: skip
