"""Statistics of tokens and their gradients, by blocks of the vocabulary.

For meshes, and distributions that are not truncated. With chunks of tokens
(`linear_cross_entropy.py`) a device holds the head whole, and its gradient in
float32. Here all of a device's tokens meet one block of the head, which is
gathered from the devices, and its gradient summed over them, once in each pass.

The vocabulary is [S, N, v]: S shards of N blocks of v tokens. A device has the
blocks of its own shard, so that none moves to another shard, and statistics and
gradients of its own until the last block.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from critic_jax.runtime import sharding

_LEAST = -1e30  # below all logits, and finite


class Blocks(NamedTuple):
  """A head [V, D] or [D, V] cut into blocks.

  Attributes:
    heads: [N, S, v, D], or [N, D, S, v].
    starts: int32[S, 1], the first token of each shard.
    axes: the axes of a block in products: 'svd' or 'dsv'.
    names: the logical names of these axes.
  """

  heads: jax.Array
  starts: jax.Array
  axes: str
  names: tuple[str | None, ...]

  @property
  def numbered(self):
    """Returns each block's number and head, to be scanned."""
    return jnp.arange(len(self.heads)), self.heads

  def tokens(self, number):
    """Returns the tokens of a block, int32[S, v]."""
    size = self.heads.shape[1 + self.axes.index('v')]
    return self.starts + number * size + jnp.arange(size)

  def gathered(self, head):
    """Gathers a block of the head but for its shards of the vocabulary."""
    names = [name if name == 'vocab' else None for name in self.names]
    return sharding.constrain(head, *names)


def number(num_logits: int, vocab: int, max_logits: int) -> int:
  """Returns the number of blocks of a shard, 0 if none of near sizes fit.

  Args:
    num_logits: all logits of a device.
    vocab: V.
    max_logits: those that may exist at once on a device.
  """
  least = -(-num_logits // max_logits)
  size = vocab // sharding.num_parts('vocab', vocab)
  return next((n for n in range(least, 4 * least + 1) if size % n == 0), 0)


def cut(kernel, axes: str, num_blocks: int, dtype) -> Blocks:
  """Cuts a head with the axes 'vd' or 'dv' into blocks of a dtype."""
  place = axes.index('v')
  vocab = kernel.shape[place]
  num_shards = sharding.num_parts('vocab', vocab)
  parts = num_shards, num_blocks, vocab // num_shards // num_blocks
  heads = kernel.astype(dtype).reshape(
    *kernel.shape[:place], *parts, *kernel.shape[place + 1 :]
  )
  names = ('vocab', None, 'embed') if place == 0 else ('embed', 'vocab', None)
  heads = sharding.constrain(jnp.moveaxis(heads, place + 1, 0), None, *names)
  starts = jnp.arange(num_shards)[:, None] * (vocab // num_shards)
  return Blocks(heads, starts, 'svd' if place == 0 else 'dsv', names)


def statistics(blocks: Blocks, hidden, targets, temperature):
  """Computes log-probabilities, entropies and log-normalisers.

  Args:
    blocks: the head, in the dtype of `hidden`.
    hidden: [C, B, W, D].
    targets: int32[C, B, W].
    temperature: float32, not 0.

  Returns:
    float32[C, B, W] each.
  """

  def one_block(state, block):
    largest, total, moment, target_logits = state
    number, head = block
    logits = _logits(blocks, blocks.gathered(head), hidden, temperature)
    merged = jnp.maximum(largest, jnp.max(logits, axis=-1))
    shifted = logits - merged[..., None]
    weights = jnp.exp(shifted)
    total, moment = _rescaled(largest, merged, total, moment)
    is_target = targets[..., None, None] == blocks.tokens(number)
    return (
      merged,
      total + jnp.sum(weights, axis=-1),
      moment + jnp.sum(weights * shifted, axis=-1),
      target_logits + jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1),
    ), None

  zeros = jnp.zeros((*targets.shape, len(blocks.starts)), jnp.float32)
  zeros = sharding.constrain(zeros, None, 'rows', 'columns', 'vocab')
  state = zeros + _LEAST, zeros, zeros, zeros
  state, _ = jax.lax.scan(one_block, state, blocks.numbered)

  # Merge the shards.
  largest, total, moment, target_logits = state
  merged = jnp.max(largest, axis=-1, keepdims=True)
  total, moment = _rescaled(largest, merged, total, moment)
  total, moment, target_logits = (
    jnp.sum(x, axis=-1) for x in (total, moment, target_logits)
  )
  log_total = jnp.log(total)
  normalizer = merged[..., 0] + log_total
  return target_logits - normalizer, log_total - moment / total, normalizer


def _rescaled(largest, merged, total, moment):
  """Returns sums of exponentials, and moments, below another largest logit."""
  scale = jnp.exp(largest - merged)
  return total * scale, (moment + (largest - merged) * total) * scale


def gradients(blocks: Blocks, hidden, targets, temperature, normalizer, slope):
  """Computes the gradients of hidden states and of the blocks.

  Args:
    blocks: as for `statistics`, and so are the next three.
    hidden: [C, B, W, D].
    targets: int32[C, B, W].
    temperature: float32, not 0.
    normalizer: float32[C, B, W].
    slope: float32[C, B, W], the gradient of the log-probabilities, divided by
      the temperature.

  Returns:
    float32[C, B, W, D] and float32[N, ...], as `Blocks.heads`.
  """

  def one_block(dhidden, block):
    number, head = block
    head = blocks.gathered(head)
    logits = _logits(blocks, head, hidden, temperature)
    probs = jnp.exp(logits - normalizer[..., None, None])
    is_target = targets[..., None, None] == blocks.tokens(number)
    dlogits = slope[..., None, None] * (is_target - probs)
    dlogits = dlogits.astype(hidden.dtype)
    dhidden += _product(f'cbwsv,{blocks.axes}->scbwd', dlogits, head)
    dhidden = sharding.constrain(dhidden, 'vocab', None, 'rows', 'columns')
    dhead = _product(f'cbwd,cbwsv->{blocks.axes}', hidden, dlogits)
    return dhidden, sharding.constrain(dhead, *blocks.names)

  zeros = jnp.zeros((len(blocks.starts), *hidden.shape), jnp.float32)
  zeros = sharding.constrain(zeros, 'vocab', None, 'rows', 'columns')
  dhidden, dheads = jax.lax.scan(one_block, zeros, blocks.numbered)
  return jnp.sum(dhidden, axis=0), dheads


def joined(blocks: Blocks, dheads, shape):
  """Undoes `cut`: [N, ...] -> the shape of the head."""
  return jnp.moveaxis(dheads, 0, 1 + blocks.axes.index('s')).reshape(shape)


def _logits(blocks, head, hidden, temperature):
  """Computes a block's logits, float32[C, B, W, S, v]."""
  logits = _product(f'cbwd,{blocks.axes}->cbwsv', hidden, head) / temperature
  return sharding.constrain(logits, None, 'rows', 'columns', 'vocab')


def _product(axes, x, y):
  return jnp.einsum(axes, x, y, preferred_element_type=jnp.float32)
