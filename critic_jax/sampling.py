"""Jitted sampling: one prefill, then a while-loop of decode steps.

Prompts are right-padded. The cache holds P prompt slots, then one slot a
generated token: generated token t sits in slot P + t for every row, whatever
the row's own length, so that a step writes one slice; positions and the mask
carry the lengths. Each row has its own key, so that a row's text does not
depend on its neighbours.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from critic_jax.models import law as law_lib
from critic_jax.models.transformer import Cache, Transformer


class Samples(NamedTuple):
  """What was sampled, rows of one prompt adjacent.

  Attributes:
    tokens: int32[B * n, R], end-of-sequence tokens included, then 0.
    length: int32[B * n], how many of them count.
    logprobs: float32[B * n, R], under the law; 0 after `length`.
    stopped: bool[B * n], whether an end-of-sequence token ended the row.
  """

  tokens: jax.Array
  length: jax.Array
  logprobs: jax.Array
  stopped: jax.Array


class _State(NamedTuple):
  t: jax.Array  # int32[], tokens generated so far
  logits: jax.Array  # float32[B, V], of the next token
  cache: Cache
  done: jax.Array  # bool[B]
  samples: Samples


@functools.partial(
  jax.jit, static_argnames=('model', 'max_new_tokens', 'num_samples')
)
def sample(
  model: Transformer,
  params,
  prompts: jax.Array,
  length: jax.Array,
  keys: jax.Array,
  *,
  eos: jax.Array,
  law: law_lib.Law,
  max_new_tokens: int,
  num_samples: int = 1,
) -> Samples:
  """Samples `num_samples` responses to each prompt; prefill is done once each.

  Args:
    model: a transformer with a language head.
    params: its parameters.
    prompts: int32[B, P], right-padded.
    length: int32[B], at least 1; 0 marks a row that is only padding of the
      batch, for which nothing is sampled.
    keys: random keys [B * num_samples], one a response; consumed.
    eos: int32[E], the tokens that end a response.
    law: temperature, top-k and top-p, traced.
    max_new_tokens: R.
    num_samples: n.

  Returns:
    `Samples` of B * num_samples rows.
  """
  logits, cache = _prefill(model, params, prompts, length, max_new_tokens)
  repeat = functools.partial(jnp.repeat, repeats=num_samples, axis=0)
  logits, cache, length = jax.tree.map(repeat, (logits, cache, length))
  rows, prompt_len = length.shape[0], prompts.shape[1]
  slots = jnp.arange(prompt_len + max_new_tokens)
  is_prompt = slots[None] < length[:, None]  # [B, S]

  def step(state: _State) -> _State:
    token, logprob = _draw(state.logits, keys, state.t, law)
    token = jnp.where(state.done, 0, token)
    ended = ~state.done & jnp.any(token[:, None] == eos[None], axis=1)
    samples = Samples(
      tokens=state.samples.tokens.at[:, state.t].set(token),
      length=state.samples.length + ~state.done,
      logprobs=state.samples.logprobs.at[:, state.t].set(
        jnp.where(state.done, 0.0, logprob)
      ),
      stopped=state.samples.stopped | ended,
    )
    slot = prompt_len + state.t
    is_response = (prompt_len <= slots) & (slots <= slot)
    hidden, cache = model.apply(
      {'params': params},
      token[:, None],
      positions=(length + state.t)[:, None],
      mask=(is_prompt | is_response)[:, None],
      cache=state.cache,
      slot=slot,
    )
    logits = model.apply({'params': params}, hidden[:, 0], method='logits')
    done = state.done | ended
    return _State(state.t + 1, logits, cache, done, samples)

  def unfinished(state: _State) -> jax.Array:
    return (state.t < max_new_tokens) & ~jnp.all(state.done)

  empty = Samples(
    tokens=jnp.zeros((rows, max_new_tokens), jnp.int32),
    length=jnp.zeros(rows, jnp.int32),
    logprobs=jnp.zeros((rows, max_new_tokens), jnp.float32),
    stopped=jnp.zeros(rows, bool),
  )
  start = _State(jnp.zeros((), jnp.int32), logits, cache, length == 0, empty)
  return jax.lax.while_loop(unfinished, step, start).samples


def _prefill(model, params, prompts, length, max_new_tokens):
  """Logits after each prompt, [B, V], and a cache with room to decode."""
  hidden, cache = model.apply({'params': params}, prompts)
  last = jnp.maximum(length - 1, 0)[:, None, None]
  hidden = jnp.take_along_axis(hidden, last, axis=1)[:, 0]
  logits = model.apply({'params': params}, hidden, method='logits')
  room = ((0, 0), (0, 0), (0, max_new_tokens), (0, 0))
  return logits, jax.tree.map(lambda x: jnp.pad(x, room), cache)


def _draw(logits, keys, t, law):
  """One token a row by inverting the cumulative law with one uniform a row."""
  log_probs = law_lib.log_probs(logits, law)
  uniform = jax.vmap(
    lambda key: jax.random.uniform(jax.random.fold_in(key, t))
  )(keys)
  probs = jnp.exp(log_probs)
  # A parallel sum rises and falls in its last bit even where probabilities are
  # 0; without the mask, a token outside of the law is drawn once in 1e7.
  cumulative = jnp.where(probs > 0, jnp.cumsum(probs, axis=-1), 0.0)
  target = uniform[:, None] * jnp.max(cumulative, axis=-1, keepdims=True)
  token = jnp.argmax(cumulative > target, axis=-1).astype(jnp.int32)
  logprob = jnp.take_along_axis(log_probs, token[:, None], axis=-1)[:, 0]
  return token, logprob
