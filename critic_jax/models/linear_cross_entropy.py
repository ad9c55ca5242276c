"""Log-probabilities and entropies of tokens, without the logits of them all.

The head's product and the softmax are one function with a gradient of its
own. Logits [B, T, V] would be the largest array of an update by far; here they
exist for a chunk of tokens at a time. The forward pass keeps one number a
token, the log-normaliser; the backward pass computes the logits of a chunk
again and adds up the head's gradient in float32.

A chunk has every n-th token of all rows, and so its part of what each device
holds of rows and columns. It holds whole rows of logits, which a truncated
distribution must see. Blocks of the vocabulary instead were 4% faster on two
cores (LOG.md).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from critic_jax.models import sampling_distribution
from critic_jax.runtime import sharding

MAX_LOGITS = 2**25  # logits of a device that exist at once; 128 MiB


def token_logprobs_and_entropy(
  hidden,
  kernel,
  targets,
  sampling_params: sampling_distribution.SamplingParams,
  *,
  axes='vd',
  chunk=None,
) -> tuple[jax.Array, jax.Array]:
  """The log-probability of each target, and its distribution's entropy in nats.

  Args:
    hidden: [B, T, D], in the dtype that the head's products are computed in;
      logits are float32.
    kernel: the head, [V, D] or [D, V] of any dtype.
    targets: int32[B, T]; they stay in the support
      (`sampling_distribution.log_probs`).
    sampling_params: the `SamplingParams` that the targets were sampled from.
    axes: 'vd' for a kernel [V, D], as a tied embedding is; 'dv' for [D, V].
    chunk: tokens whose logits exist at once, at least one a row; by default as
      many as make `MAX_LOGITS` logits on each device.

  Returns:
    float32[B, T] each. Gradients go from the log-probabilities to `hidden` and
    `kernel`; the entropies carry none.
  """
  rows, length, _ = hidden.shape
  vocab = kernel.shape[axes.index('v')]
  across = sharding.num_parts('columns', length)
  num_shards = across * sharding.num_parts('rows', rows)
  num_shards *= sharding.num_parts('vocab', vocab)
  chunk = chunk or num_shards * MAX_LOGITS // vocab
  num_chunks = -(-length // max(1, chunk // rows))
  width = -(-length // num_chunks // across) * across
  num_chunks = -(-length // width)
  pad = num_chunks * width - length

  def split(x):  # [B, T, ...] -> [chunks, B, width, ...]
    x = jnp.pad(x, ((0, 0), (0, pad), *[(0, 0)] * (x.ndim - 2)))
    x = x.reshape(rows, width, num_chunks, *x.shape[2:])
    x = jnp.moveaxis(x, 2, 0)
    return sharding.constrain(x, None, 'rows', 'columns')

  def join(x):  # [chunks, B, width] -> [B, T]
    return jnp.moveaxis(x, 0, 2).reshape(rows, -1)[:, :length]

  parts = _statistics(
    axes, split(hidden), kernel, split(targets), sampling_params
  )
  return jax.tree.map(join, parts)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _statistics(axes, hidden, kernel, targets, sampling_params):
  """hidden [C, B, W, D], targets [C, B, W] of C chunks -> float32[C, B, W]."""
  return _forward(axes, hidden, kernel, targets, sampling_params)[0]


def _forward(axes, hidden, kernel, targets, sampling_params):
  head = kernel.astype(hidden.dtype)

  def one_chunk(chunk):
    logits = _tempered_logits(axes, head, *chunk, sampling_params)
    largest = jnp.max(logits, axis=-1, keepdims=True)
    shifted = logits - largest
    weights = jnp.exp(shifted)
    total = jnp.sum(weights, axis=-1)
    moment = jnp.sum(jnp.where(weights > 0, weights * shifted, 0.0), axis=-1)
    taken = jnp.take_along_axis(logits, chunk[1][..., None], axis=-1)[..., 0]
    log_total = jnp.log(total)
    normalizer = largest[..., 0] + log_total
    return taken - normalizer, log_total - moment / total, normalizer

  *found, normalizer = jax.lax.map(one_chunk, (hidden, targets))
  return tuple(found), (hidden, kernel, targets, sampling_params, normalizer)


def _backward(axes, saved, cotangents):
  hidden, kernel, targets, sampling_params, normalizer = saved
  head = kernel.astype(hidden.dtype)
  temperature = jnp.asarray(sampling_params.temperature, jnp.float32)
  slope = cotangents[0] / jnp.where(temperature == 0, 1.0, temperature)

  def one_chunk(to_kernel, chunk):
    hidden, targets, normalizer, slope = chunk
    logits = _tempered_logits(axes, head, hidden, targets, sampling_params)
    probs = jnp.exp(logits - normalizer[..., None])
    is_target = targets[..., None] == jnp.arange(logits.shape[-1])
    to_logits = slope[..., None] * (is_target - probs)
    to_logits = to_logits.astype(hidden.dtype)
    to_hidden = _product(f'btv,{axes}->btd', to_logits, head)
    to_kernel += _product('btd,btv->dv', hidden, to_logits)
    return to_kernel, to_hidden.astype(hidden.dtype)

  # [D, V] whatever the kernel's axes: so no product transposes `to_logits`.
  size = hidden.shape[-1], kernel.shape[axes.index('v')]
  to_kernel, to_hidden = jax.lax.scan(
    one_chunk,
    jnp.zeros(size, jnp.float32),
    (hidden, targets, normalizer, slope),
  )
  to_kernel = jnp.einsum(f'dv->{axes}', to_kernel).astype(kernel.dtype)
  return to_hidden, to_kernel, None, None


_statistics.defvjp(_forward, _backward)


def _tempered_logits(axes, head, hidden, targets, sampling_params):
  """Logits whose softmax is the sampling distribution, float32[B, W, V]."""
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


def _product(axes, x, y):
  return jnp.einsum(axes, x, y, preferred_element_type=jnp.float32)
