"""Log-probabilities and entropies of tokens, a chunk of logits at a time.

The head's product and the softmax are one function with a gradient of its own.
Logits [B, T, V] would be the largest array of an update by far; here they exist
for a chunk of tokens at a time. The forward pass keeps one number a token, the
log-normaliser; the backward pass computes the logits of a chunk again and adds
up the head's gradient in float32.

A chunk has every n-th token of all rows, so that each device works on its own
rows and columns. It has logits over the whole vocabulary, which a truncated
distribution needs. Blocks of the vocabulary instead were 4% faster on two cores
(LOG.md). On several devices they are used for distributions that are not
truncated (`vocabulary_blocks.py`), since no device then needs a whole head.

With a mask, the tokens in it come first in their rows, and chunks without any
are left out: rows that are mostly prompt need few logits. Blocks have no chunks
to leave out, and columns on several devices stay where they are.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from critic_jax.models import sampling_distribution, vocabulary_blocks
from critic_jax.runtime import sharding

MAX_LOGITS = 2**25  # logits at once on a device; 128 MiB


def token_logprobs_and_entropy(
  hidden,
  kernel,
  targets,
  sampling_params: sampling_distribution.SamplingParams,
  *,
  mask=None,
  axes='vd',
  chunk=None,
) -> tuple[jax.Array, jax.Array]:
  """Computes log-probabilities of targets, and entropies in nats.

  Args:
    hidden: [B, T, D], in the dtype that the head's products are computed in;
      logits are float32.
    kernel: the head, [V, D] or [D, V] of any dtype.
    targets: int32[B, T]; they stay in the support
      (`sampling_distribution.log_probs`).
    sampling_params: the `SamplingParams` that the targets were sampled from.
    mask: bool[B, T], the tokens that are asked for, 0 elsewhere; None is all.
    axes: 'vd' for a kernel [V, D], as a tied embedding is; 'dv' for [D, V].
    chunk: tokens whose logits exist at once, at least one a row; by default as
      many as make `MAX_LOGITS` logits on each device.

  Returns:
    float32[B, T] each. Gradients go from the log-probabilities to `hidden` and
    `kernel`; the entropies carry none.
  """
  # Choose the chunks: equal widths, as few as the limit allows.
  rows, length, _ = hidden.shape
  vocab = kernel.shape[axes.index('v')]
  # Columns are padded until they divide: a row's last token predicts none, so
  # that an even row has an odd number of them.
  column_shards = sharding.num_shards_here('columns')
  num_shards = column_shards * sharding.num_parts('rows', rows)
  num_shards *= sharding.num_parts('vocab', vocab)
  chunk = chunk or num_shards * MAX_LOGITS // vocab
  num_chunks = -(-length // max(1, chunk // rows))
  width = -(-length // num_chunks // column_shards) * column_shards
  num_chunks = -(-length // width)
  padding = num_chunks * width - length
  num_blocks = 0
  if num_shards > 1 and _is_known_whole(sampling_params):
    num_logits = rows * length * vocab // num_shards
    num_blocks = vocabulary_blocks.number(num_logits, vocab, MAX_LOGITS)

  # Bring the tokens that are asked for to the front, where chunks are skipped.
  skips = (
    mask is not None and num_chunks > 1 == column_shards and not num_blocks
  )
  order = jnp.argsort(~mask, axis=1, stable=True) if skips else None
  parts = (num_chunks, width) if skips else (width, num_chunks)
  place = 1 if skips else 2  # of the chunks among `parts`

  def split(x):  # [B, T, ...] -> [C, B, W, ...]
    x = jnp.pad(x, ((0, 0), (0, padding), *[(0, 0)] * (x.ndim - 2)))
    x = x.reshape(rows, *parts, *x.shape[2:])
    return sharding.constrain(
      jnp.moveaxis(x, place, 0), None, 'rows', 'columns'
    )

  def join(x):  # [C, B, W] -> [B, T]
    return jnp.moveaxis(x, 0, place).reshape(rows, -1)[:, :length]

  statistics = _statistics(
    axes,
    num_blocks,
    split(_ordered(hidden, order)),
    kernel,
    split(_ordered(targets, order)),
    split(_ordered(mask, order)) if skips else None,
    sampling_params,
  )
  statistics = jax.tree.map(join, statistics)
  if skips:
    back = jnp.argsort(order, axis=1)
    statistics = jax.tree.map(lambda x: _ordered(x, back), statistics)
  if mask is not None:
    statistics = jax.tree.map(lambda x: jnp.where(mask, x, 0.0), statistics)
  return statistics


@jax.custom_vjp
def _ordered(x, order):
  """Reorders the columns of [B, T, ...] by int32[B, T]; None leaves them."""
  if order is None:
    return x
  order = order.reshape(*order.shape, *[1] * (x.ndim - 2))
  return jnp.take_along_axis(x, order, axis=1)


def _ordered_forward(x, order):
  return _ordered(x, order), order


def _ordered_backward(order, slope):
  # By the inverse, as no column comes twice: a gather and not a sum.
  if order is not None:
    slope = _ordered(slope, jnp.argsort(order, axis=1))
  return slope, None


_ordered.defvjp(_ordered_forward, _ordered_backward)


def _is_known_whole(sampling_params) -> bool:
  """Whether a distribution has all tokens, as is known while it is traced."""
  temperature, top_k, top_p = sampling_params
  is_known = all(isinstance(x, int | float) for x in sampling_params)
  return is_known and temperature > 0 and top_k == 0 and top_p >= 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _statistics(
  axes, num_blocks, hidden, kernel, targets, mask, sampling_params
):
  """Maps C chunks, [C, B, W, D] and [C, B, W], to float32[C, B, W] each.

  With `num_blocks` the vocabulary is cut instead, and the chunks come together.
  A chunk without a token in the mask, if there is one, is 0.
  """
  return _forward(
    axes, num_blocks, hidden, kernel, targets, mask, sampling_params
  )[0]


def _forward(axes, num_blocks, hidden, kernel, targets, mask, sampling_params):
  if num_blocks:
    blocks = vocabulary_blocks.cut(kernel, axes, num_blocks, hidden.dtype)
    *statistics, normalizer = vocabulary_blocks.statistics(
      blocks, hidden, targets, sampling_params.temperature
    )
    residuals = hidden, kernel, targets, mask, sampling_params, normalizer
    return tuple(statistics), residuals
  head = _gathered(axes, kernel.astype(hidden.dtype))

  def one_chunk(chunk):
    hidden, targets = chunk
    logits = _tempered_logits(axes, head, hidden, targets, sampling_params)
    largest = jnp.max(logits, axis=-1, keepdims=True)
    shifted = logits - largest
    weights = jnp.exp(shifted)
    total = jnp.sum(weights, axis=-1)
    moment = jnp.sum(jnp.where(weights > 0, weights * shifted, 0.0), axis=-1)
    index = targets[..., None]
    target_logits = jnp.take_along_axis(logits, index, axis=-1)[..., 0]
    log_total = jnp.log(total)
    normalizer = largest[..., 0] + log_total
    return target_logits - normalizer, log_total - moment / total, normalizer

  def one_chunk_or_zeros(chunk):
    *chunk, mask = chunk
    zeros = (jnp.zeros(chunk[1].shape, jnp.float32),) * 3
    return _if_any(mask, one_chunk, lambda chunk: zeros, chunk)

  *statistics, normalizer = jax.lax.map(
    one_chunk_or_zeros, (hidden, targets, mask)
  )
  residuals = hidden, kernel, targets, mask, sampling_params, normalizer
  return tuple(statistics), residuals


def _backward(axes, num_blocks, residuals, cotangents):
  hidden, kernel, targets, mask, sampling_params, normalizer = residuals
  temperature = jnp.asarray(sampling_params.temperature, jnp.float32)
  slope = cotangents[0] / jnp.where(temperature == 0, 1.0, temperature)
  if num_blocks:
    blocks = vocabulary_blocks.cut(kernel, axes, num_blocks, hidden.dtype)
    dhidden, dheads = vocabulary_blocks.gradients(
      blocks, hidden, targets, temperature, normalizer, slope
    )
    dkernel = vocabulary_blocks.joined(blocks, dheads, kernel.shape)
    dhidden, dkernel = (
      dhidden.astype(hidden.dtype),
      dkernel.astype(kernel.dtype),
    )
    return dhidden, dkernel, None, None, None
  head = _gathered(axes, kernel.astype(hidden.dtype))

  def one_chunk(dkernel, chunk):
    hidden, targets, normalizer, slope = chunk
    logits = _tempered_logits(axes, head, hidden, targets, sampling_params)
    probs = jnp.exp(logits - normalizer[..., None])
    is_target = targets[..., None] == jnp.arange(logits.shape[-1])
    dlogits = slope[..., None] * (is_target - probs)
    dlogits = dlogits.astype(hidden.dtype)
    dhidden = _product(f'btv,{axes}->btd', dlogits, head)
    dkernel = _add_gradient(dkernel, hidden, dlogits)
    return dkernel, dhidden.astype(hidden.dtype)

  def one_chunk_or_zeros(dkernel, chunk):
    *chunk, mask = chunk
    zeros = jnp.zeros_like(chunk[0])
    return _if_any(
      mask, one_chunk, lambda dkernel, chunk: (dkernel, zeros), dkernel, chunk
    )

  # [D, V] whatever the kernel's axes: so no product transposes `dlogits`. Each
  # device has its own, or all would add them up for each chunk.
  _, rows, width, embed_dim = hidden.shape
  parts = (
    sharding.num_parts('rows', rows),
    sharding.num_parts('columns', width),
  )
  shape = embed_dim, kernel.shape[axes.index('v')]
  shape = shape if parts == (1, 1) else parts + shape
  dkernel, dhidden = jax.lax.scan(
    one_chunk_or_zeros,
    jnp.zeros(shape, jnp.float32),
    (hidden, targets, normalizer, slope, mask),
  )
  if parts != (1, 1):
    # Laid out as the head is: no device gets what others will keep.
    dkernel = sharding.constrain(
      jnp.sum(dkernel, axis=(0, 1)), 'embed', 'vocab'
    )
  if hidden.dtype != jnp.float32:
    # With a single chunk XLA on CPUs folds the transposition into the product,
    # and has none of bfloat16 in that form: keep the two apart.
    dkernel = jax.lax.optimization_barrier(dkernel)
  dkernel = jnp.einsum(f'dv->{axes}', dkernel).astype(kernel.dtype)
  return dhidden, dkernel, None, None, None


_statistics.defvjp(_forward, _backward)


def _if_any(mask, function, otherwise, *args):
  """Calls `function` if the mask has a token, or is None, else `otherwise`."""
  if mask is None:
    return function(*args)
  return jax.lax.cond(jnp.any(mask), function, otherwise, *args)


def _tempered_logits(axes, head, hidden, targets, sampling_params):
  """Computes logits of the sampling distribution, float32[B, W, V]."""
  is_whole = (
    (sampling_params.temperature > 0)
    & (sampling_params.top_k == 0)
    & (sampling_params.top_p >= 1)
  )
  return jax.lax.cond(
    is_whole,
    lambda x: x / sampling_params.temperature,
    lambda x: sampling_distribution.log_probs(x, sampling_params, targets),
    _product(f'btd,{axes}->btv', hidden, head),
  )


def _gathered(axes, head):
  """Gathers a head that is split along D: once, not for each chunk."""
  return sharding.constrain(
    head, *('vocab' if axis == 'v' else None for axis in axes)
  )


def _add_gradient(dkernel, hidden, dlogits):
  """Adds a chunk's gradient of the head: [D, V], or [R, C, D, V] of devices.

  R and C count the parts that rows and columns of a batch are split into.
  """
  if dkernel.ndim == 2:
    return dkernel + _product('btd,btv->dv', hidden, dlogits)

  def split(x):  # [B, W, ...] -> [R, B / R, C, W / C, ...]
    row_parts, column_parts = dkernel.shape[:2]
    rows, width, size = x.shape
    return x.reshape(
      row_parts, rows // row_parts, column_parts, width // column_parts, size
    )

  dkernel += _product('rbctd,rbctv->rcdv', split(hidden), split(dlogits))
  return sharding.constrain(dkernel, 'rows', 'columns', None, 'vocab')


def _product(axes, x, y):
  return jnp.einsum(axes, x, y, preferred_element_type=jnp.float32)
