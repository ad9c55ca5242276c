"""Forward passes for training; the only place that shifts by one.

All results follow the alignment rule of `types.py`: `x[b, t]` is about
`tokens[b, t]`, and position 0, which nothing predicts, is 0. Rows are
right-padded. Logits exist for `chunk` tokens of the batch at a time, in the
forward and in the backward pass, never for all.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from critic_jax.models import law as law_lib
from critic_jax.models.transformer import Transformer

CHUNK = 1024  # tokens whose logits exist at once


def hidden_states(model: Transformer, params, tokens) -> jax.Array:
  """The normed hidden state after each token: tokens [B, T] -> [B, T, D]."""
  return model.apply({'params': params}, tokens)[0]


def logits(model: Transformer, params, tokens) -> jax.Array:
  """All logits, float32[B, T, V], unshifted; for inspection and tests."""
  hidden = hidden_states(model, params, tokens)
  return model.apply({'params': params}, hidden, method='logits')


def token_logprobs(
  model: Transformer, params, tokens, *, law=None, chunk=CHUNK
) -> jax.Array:
  """Log-probability of each token given those before it.

  Args:
    model: a transformer with a language head.
    params: its parameters.
    tokens: int32[B, T], right-padded.
    law: the `Law` the tokens were sampled from; by default the plain softmax.
    chunk: tokens whose logits exist at once.

  Returns:
    float32[B, T]; column 0 is 0.
  """
  return token_statistics(model, params, tokens, law=law, chunk=chunk)[0]


def token_statistics(
  model: Transformer, params, tokens, *, law=None, chunk=CHUNK
) -> tuple[jax.Array, jax.Array]:
  """`token_logprobs`, and beside it the entropy of each token's law, in nats.

  Returns:
    logprobs and entropies, float32[B, T]; the entropy carries no gradient.
  """
  law = law or law_lib.Law()
  hidden = hidden_states(model, params, tokens)[:, :-1]
  targets = tokens[:, 1:]
  rows, length, _ = hidden.shape
  # Chunks cut the time axis, so that a sharded batch axis stays whole.
  width = min(max(1, chunk // rows), length)
  num_chunks = -(-length // width)
  pad = num_chunks * width - length
  hidden = jnp.pad(hidden, ((0, 0), (0, pad), (0, 0)))
  targets = jnp.pad(targets, ((0, 0), (0, pad)))

  @jax.checkpoint
  def one_chunk(hidden, targets):
    scores = model.apply({'params': params}, hidden, method='logits')
    log_probs = law_lib.log_probs(scores, law, targets)
    taken = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)
    fixed = jax.lax.stop_gradient(log_probs)
    entropy = -jnp.sum(
      jnp.where(jnp.isfinite(fixed), jnp.exp(fixed) * fixed, 0.0), axis=-1
    )
    return taken[..., 0], entropy

  def split(x):  # [B, chunks * width, ...] -> [chunks, B, width, ...]
    x = x.reshape(rows, num_chunks, width, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)

  def join(x):  # [chunks, B, width] -> [B, 1 + length], shifted by one
    x = jnp.moveaxis(x, 0, 1).reshape(rows, -1)[:, :length]
    return jnp.pad(x, ((0, 0), (1, 0)))

  parts = jax.lax.map(lambda c: one_chunk(*c), (split(hidden), split(targets)))
  return jax.tree.map(join, parts)


def token_values(model: Transformer, params, tokens) -> jax.Array:
  """The value before each token, float32[B, T]; column 0 is 0."""
  hidden = hidden_states(model, params, tokens)[:, :-1]
  values = model.apply({'params': params}, hidden, method='scalars')
  return jnp.pad(values, ((0, 0), (1, 0)))


def response_scores(model: Transformer, params, tokens, mask) -> jax.Array:
  """The reward head at the last response token.

  Args:
    model: a transformer with a reward head.
    params: its parameters.
    tokens: int32[B, T].
    mask: bool[B, T], True on the response; a row without any scores at its
      first token.

  Returns:
    float32[B].
  """
  hidden = hidden_states(model, params, tokens)
  last = jnp.max(jnp.where(mask, jnp.arange(tokens.shape[1]), 0), axis=1)
  hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
  return model.apply({'params': params}, hidden, method='scalars')
