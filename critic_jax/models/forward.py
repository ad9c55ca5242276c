"""Forward passes for training; the only place that shifts by one.

All results follow the alignment rule of `types.py`: `x[b, t]` is about
`tokens[b, t]`, and position 0, which nothing predicts, is 0. Rows are
right-padded. Rows with several responses (critic_jax/data/packing.py) have a
`Layout`, which says which tokens a token may look at. Logits exist for `chunk`
tokens of the batch at a time, in the forward and in the backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from critic_jax.models import (
  linear_cross_entropy,
  quantize,
  sampling_distribution,
)
from critic_jax.models.transformer import Transformer
from critic_jax.models.visibility import Causal


class Layout(NamedTuple):
  """The structure of packed rows; int32[B, T] each.

  Attributes:
    segments: the segment that a token belongs to.
    prefixes: the segment that its segment follows; its own if it follows none.
    positions: the token's position in its sequence, from 0.
  """

  segments: jax.Array
  prefixes: jax.Array
  positions: jax.Array


def layout(batch: Mapping) -> Layout | None:
  """Returns the layout of a batch's rows; None if they are plain.

  Args:
    batch: arrays by name; the fields of `Layout` are there if rows are packed.
  """
  if Layout._fields[0] not in batch:
    return None
  return Layout(*(batch[name] for name in Layout._fields))


def hidden_states(
  model: Transformer, params, tokens, layout: Layout | None = None
) -> jax.Array:
  """Computes the normed hidden state after each token: [B, T] -> [B, T, D]."""
  if layout is None:
    return model.apply({'params': params}, tokens)[0]
  mask = Causal(layout.segments, layout.prefixes)
  return model.apply({'params': params}, tokens, layout.positions, mask)[0]


def logits(model: Transformer, params, tokens) -> jax.Array:
  """Computes all logits, float32[B, T, V], unshifted, to inspect and test."""
  hidden = hidden_states(model, params, tokens)
  return model.apply({'params': params}, hidden, method='logits')


def token_logprobs(
  model: Transformer,
  params,
  tokens,
  *,
  sampling_params=None,
  layout=None,
  mask=None,
  chunk=None,
) -> jax.Array:
  """Computes the log-probability of each token given those before it.

  Args:
    model: a transformer with a language head.
    params: its parameters.
    tokens: int32[B, T], right-padded.
    sampling_params: the `SamplingParams` the tokens were sampled from; by
      default the plain softmax.
    layout: the layout of packed rows; the result at the first token of a
      segment, which nothing predicts, has no meaning.
    mask: bool[B, T], the tokens that are asked for; None is all.
    chunk: tokens whose logits exist at once; by default as many as fit in
      `linear_cross_entropy.MAX_LOGITS`.

  Returns:
    float32[B, T]; column 0 is 0, and so are tokens that are not in the mask.
  """
  return token_statistics(
    model,
    params,
    tokens,
    sampling_params=sampling_params,
    layout=layout,
    mask=mask,
    chunk=chunk,
  )[0]


def token_statistics(
  model: Transformer,
  params,
  tokens,
  *,
  sampling_params=None,
  layout=None,
  mask=None,
  chunk=None,
) -> tuple[jax.Array, jax.Array]:
  """Computes `token_logprobs`, and the entropy at each token in nats.

  Returns:
    logprobs and entropies, float32[B, T]; the entropy carries no gradient.
  """
  sampling_params = sampling_params or sampling_distribution.SamplingParams()
  # The state before a token predicts it, so the last state predicts none.
  hidden = hidden_states(model, params, tokens, layout)[:, :-1]
  targets = tokens[:, 1:]
  kernel, axes = _head(model, params)
  statistics = linear_cross_entropy.token_logprobs_and_entropy(
    hidden,
    kernel,
    targets,
    sampling_params,
    mask=None if mask is None else mask[:, 1:],
    axes=axes,
    chunk=chunk,
  )
  return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (1, 0))), statistics)


def _head(model, params):
  """Returns the language head's kernel in floats, and its axes' order."""
  if model.config.tie_embeddings:
    return quantize.dequantize(params['embed'])['embedding'], 'vd'
  return quantize.dequantize(params['lm_head'])['kernel'], 'dv'


def token_values(
  model: Transformer, params, tokens, *, layout=None
) -> jax.Array:
  """Computes the value before each token, float32[B, T]; column 0 is 0."""
  hidden = hidden_states(model, params, tokens, layout)[:, :-1]
  values = model.apply({'params': params}, hidden, method='scalars')
  return jnp.pad(values, ((0, 0), (1, 0)))


def token_and_final_values(
  model: Transformer, params, tokens, mask
) -> tuple[jax.Array, jax.Array]:
  """Computes `token_values`, and the value after each response, in one pass.

  Args:
    model: a transformer with a value head.
    params: its parameters.
    tokens: int32[B, T], plain rows.
    mask: bool[B, T], True on the response.

  Returns:
    float32[B, T] and float32[B].
  """
  hidden = hidden_states(model, params, tokens)
  after = model.apply({'params': params}, hidden, method='scalars')
  final = jnp.take_along_axis(after, _last_places(mask), axis=1)[:, 0]
  return jnp.pad(after[:, :-1], ((0, 0), (1, 0))), final


def response_scores(model: Transformer, params, tokens, mask) -> jax.Array:
  """Computes the reward head's score at the last response token.

  Args:
    model: a transformer with a reward head.
    params: its parameters.
    tokens: int32[B, T].
    mask: bool[B, T], True on the response; a row without a response is scored
      at its first token.

  Returns:
    float32[B].
  """
  hidden = hidden_states(model, params, tokens)
  places = _last_places(mask)[..., None]
  hidden = jnp.take_along_axis(hidden, places, axis=1)[:, 0]
  return model.apply({'params': params}, hidden, method='scalars')


def token_scores(
  model: Transformer, params, tokens, *, layout=None
) -> jax.Array:
  """Computes the reward head's score of the text up to each token.

  At the last token of a response it is `response_scores`, also in packed rows.

  Returns:
    float32[B, T]; `x[b, t]` has seen `tokens[b, t]`.
  """
  hidden = hidden_states(model, params, tokens, layout)
  return model.apply({'params': params}, hidden, method='scalars')


def _last_places(mask) -> jax.Array:
  """Finds the last token of each response, int32[B, 1]; 0 without one."""
  places = jnp.arange(mask.shape[1])
  return jnp.max(jnp.where(mask, places, 0), axis=1, keepdims=True)
