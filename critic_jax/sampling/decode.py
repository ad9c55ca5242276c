"""Jitted sampling: prompts are put into lanes, and all lanes decode together.

A lane holds one prompt, whose keys and values its rows share, and for each row
the keys and values of its own response. `insert` computes prompts and draws
each row's first token; `decode` goes on until enough lanes have finished, so
that others can be put in their place while long rows run on (lanes.py does).
Where a lane has fewer rows than responses are wanted, a row whose response has
ended begins the next one: the logits after the prompt were kept.

The tokens that a row is fed at a step of the clock have their keys in slot
`clock % R`, the same slot for every row however old its response, so that a
step writes one slice. A response has at most R tokens: what is older in the
ring belongs to an earlier response, and the row's age masks it. Positions carry
the lengths. Each row has its own key, so that a row's text does not depend on
its neighbours.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from critic_jax.models import sampling_distribution
from critic_jax.models.transformer import Cache, Transformer
from critic_jax.runtime import sharding


class Samples(NamedTuple):
  """What was sampled, rows of one prompt adjacent.

  Attributes:
    tokens: int32[B * n, R], end-of-sequence tokens included, then 0.
    length: int32[B * n], how many of them count.
    logprobs: float32[B * n, R], under the sampling distribution; 0 after
      `length`.
    stopped: bool[B * n], whether an end-of-sequence token ended the row.
  """

  tokens: jax.Array
  length: jax.Array
  logprobs: jax.Array
  stopped: jax.Array


class Lanes(NamedTuple):
  """The state of sampling: L lanes of s rows each, which draw n samples.

  Attributes:
    prompts: keys and values, a layer [L, Hkv, P, Dh].
    prompt_length: int32[L]; 0 is an empty lane.
    logits: float32[L, V], after the prompts; None where s = n.
    responses: keys and values, a layer [L * s, Hkv, R, Dh]; a ring of slots.
    drawn: int32[L * s], the sample that a row draws, of L * n.
    num_started: int32[L], samples whose first token was drawn.
    clock: int32[], decode steps done.
    keys: random keys [L * n].
    samples: as they are; the last token is not yet computed.
    done: bool[L * n], nothing more is drawn for the sample.
  """

  prompts: Cache
  prompt_length: jax.Array
  logits: jax.Array | None
  responses: Cache
  drawn: jax.Array
  num_started: jax.Array
  clock: jax.Array
  keys: jax.Array
  samples: Samples
  done: jax.Array


class SharedPrefixes(NamedTuple):
  """Beginnings of prompts, computed once for all prompts that share them.

  Attributes:
    tokens: int32[M, P], right-padded.
    length: int32[M].
    index: int32[F], the shared prefix that each prompt begins with.
  """

  tokens: jax.Array
  length: jax.Array
  index: jax.Array


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
  sampling_params: sampling_distribution.SamplingParams,
  max_new_tokens: int,
  num_samples: int = 1,
) -> Samples:
  """Samples `num_samples` responses to each prompt, all prompts at once.

  Args:
    model: a transformer with a language head.
    params: its parameters.
    prompts: int32[B, P], right-padded.
    length: int32[B], at least 1; 0 marks a row that is only padding of the
      batch, for which nothing is sampled.
    keys: random keys [B * num_samples], one a response; consumed.
    eos: int32[E], the tokens that end a response.
    sampling_params: temperature, top-k and top-p, traced.
    max_new_tokens: R.
    num_samples: n.

  Returns:
    `Samples` of B * num_samples rows.
  """
  num_lanes, columns = prompts.shape
  lanes = empty(
    model, num_lanes, num_samples, num_samples, columns, max_new_tokens
  )
  every = jnp.arange(num_lanes)
  lanes = insert(
    model,
    params,
    lanes,
    every,
    prompts,
    length,
    keys,
    eos=eos,
    sampling_params=sampling_params,
  )
  lanes = decode(
    model, params, lanes, num_lanes, eos=eos, sampling_params=sampling_params
  )
  return lanes.samples


@functools.partial(jax.jit, static_argnums=range(6))
def empty(
  model: Transformer,
  num_lanes: int,
  num_rows: int,
  num_samples: int,
  columns: int,
  max_new_tokens: int,
) -> Lanes:
  """Lanes without prompts: L of s rows for n samples; P columns, R tokens."""
  c, every = model.config, num_lanes * num_samples

  def cache(rows, slots):
    shape = (rows, c.num_kv_heads, slots, c.head_dim)
    layer = jnp.zeros(shape, c.dtype), jnp.zeros(shape, c.dtype)
    return (layer,) * c.num_layers

  logits = None
  if num_rows < num_samples:
    logits = jnp.zeros((num_lanes, c.vocab_size), jnp.float32)
  lanes = Lanes(
    prompts=cache(num_lanes, columns),
    prompt_length=jnp.zeros(num_lanes, jnp.int32),
    logits=logits,
    responses=cache(num_lanes * num_rows, max_new_tokens),
    drawn=_rows_of(jnp.arange(num_lanes), num_samples, num_rows),
    num_started=jnp.full(num_lanes, num_samples, jnp.int32),
    clock=jnp.zeros((), jnp.int32),
    keys=jax.random.split(jax.random.key(0), every),
    samples=Samples(
      tokens=jnp.zeros((every, max_new_tokens), jnp.int32),
      length=jnp.zeros(every, jnp.int32),
      logprobs=jnp.zeros((every, max_new_tokens), jnp.float32),
      stopped=jnp.zeros(every, bool),
    ),
    done=jnp.ones(every, bool),
  )
  return _laid_out(lanes)


def _rows_of(index, size, first=None) -> jax.Array:
  """Rows of arrays that have `size` a lane: those of lanes, or the first."""
  rows = index[:, None] * size + jnp.arange(first or size)
  return rows.reshape(-1).astype(jnp.int32)


def _laid_out(lanes: Lanes) -> Lanes:
  """Lanes on the mesh: rows split, and keys and values by heads.

  Always in one way, so that each function is compiled once.
  """

  def lay_out(x):
    names = ('rows', 'kv_heads') if x.ndim == 4 else ('rows',)
    return sharding.constrain(x, *names[: x.ndim])

  return jax.tree.map(lay_out, lanes)


@functools.partial(jax.jit, static_argnames='model', donate_argnames='lanes')
def insert(
  model: Transformer,
  params,
  lanes: Lanes,
  index: jax.Array,
  prompts: jax.Array,
  length: jax.Array,
  keys: jax.Array,
  *,
  eos: jax.Array,
  sampling_params: sampling_distribution.SamplingParams,
  shared_prefixes: SharedPrefixes | None = None,
) -> Lanes:
  """Puts prompts into lanes and draws the first token of each of their rows.

  Args:
    model: see `sample`.
    params: its parameters.
    lanes: donated.
    index: int32[F], the lane of each prompt; L or more for no lane.
    prompts: int32[F, T], T at most P: the prompt, or with `shared_prefixes`
      what comes after its shared prefix.
    length: int32[F], of the whole prompts; 0 for none.
    keys: random keys [F * n].
    eos: see `sample`.
    sampling_params: see `sample`.
    shared_prefixes: beginnings that several of these prompts share.

  Returns:
    The lanes.
  """
  columns = lanes.prompts[0][0].shape[2]
  num_lanes, limit = len(lanes.prompt_length), lanes.samples.tokens.shape[1]
  num_rows, num_samples = (
    len(x) // num_lanes for x in (lanes.drawn, lanes.keys)
  )
  logits, cache = _prefill(
    model, params, prompts, length, shared_prefixes, columns
  )
  absent = jnp.repeat(length == 0, num_samples)
  begins = (jnp.arange(len(keys)) % num_samples < num_rows) & ~absent
  token, logprob = _draw(
    jnp.repeat(logits, num_samples, axis=0), keys, 0, sampling_params
  )
  stopped = _is_any(token, eos) & begins
  begin = (jnp.arange(limit) == 0) & begins[:, None]
  first = Samples(
    tokens=jnp.where(begin, token[:, None], 0),
    length=begins.astype(jnp.int32),
    logprobs=jnp.where(begin, logprob[:, None], 0.0),
    stopped=stopped,
  )

  def put(where, old, new):
    return jax.tree.map(
      lambda a, b: a.at[where].set(b.astype(a.dtype), mode='drop'), old, new
    )

  every = _rows_of(index, num_samples)
  rows = _rows_of(index, num_rows)
  if lanes.logits is not None:
    lanes = lanes._replace(logits=put(index, lanes.logits, logits))
  return _laid_out(
    lanes._replace(
      prompts=put(index, lanes.prompts, cache),
      prompt_length=put(index, lanes.prompt_length, length),
      drawn=put(rows, lanes.drawn, _rows_of(index, num_samples, num_rows)),
      num_started=put(index, lanes.num_started, jnp.full(len(index), num_rows)),
      keys=lanes.keys.at[every].set(keys, mode='drop'),
      samples=put(every, lanes.samples, first),
      done=put(every, lanes.done, stopped | absent | (begins & (limit == 1))),
    )
  )


def _prefill(model, params, prompts, length, shared_prefixes, columns):
  """Logits after each prompt, [F, V], and its keys and values, P columns."""
  if shared_prefixes is None:
    hidden, cache = model.apply({'params': params}, prompts)
    room = ((0, 0), (0, 0), (0, columns - prompts.shape[1]), (0, 0))
    cache = jax.tree.map(lambda x: jnp.pad(x, room), cache)
    last = length - 1
  else:
    prefix_length = shared_prefixes.length[shared_prefixes.index]
    hidden, *parts = _prefill_behind(
      model, params, prompts, shared_prefixes, prefix_length
    )
    cache = _joined(*parts, prefix_length, columns)
    last = length - 1 - prefix_length
  last = jnp.maximum(last, 0)[:, None, None]
  hidden = jnp.take_along_axis(hidden, last, axis=1)[:, 0]
  return model.apply({'params': params}, hidden, method='logits'), cache


def _prefill_behind(model, params, rest, shared_prefixes, prefix_length):
  """Hidden states of what follows shared prefixes; keys and values of both."""
  _, cache = model.apply({'params': params}, shared_prefixes.tokens)
  cache = jax.tree.map(lambda x: x[shared_prefixes.index], cache)
  is_prefix = (
    jnp.arange(shared_prefixes.tokens.shape[1]) < prefix_length[:, None]
  )
  hidden, rest_cache = model.apply(
    {'params': params},
    rest,
    positions=prefix_length[:, None] + jnp.arange(rest.shape[1]),
    prefix=(cache, is_prefix),
  )
  return hidden, cache, rest_cache


def _joined(prefix: Cache, rest: Cache, prefix_length, columns) -> Cache:
  """Keys and values without a gap: `prefix_length` shared, then the rest."""
  width, slots = prefix[0][0].shape[2], jnp.arange(columns)
  end = width + rest[0][0].shape[2] - 1
  after = jnp.minimum(width + slots - prefix_length[:, None], end)
  source = jnp.where(slots < prefix_length[:, None], slots, after)[
    :, None, :, None
  ]

  def join(a, b):
    both = jnp.concatenate([a, b], axis=2)
    return jnp.take_along_axis(both, source, axis=2)

  return jax.tree.map(join, prefix, rest)


@functools.partial(jax.jit, static_argnames='model', donate_argnames='lanes')
def decode(
  model: Transformer,
  params,
  lanes: Lanes,
  wanted: jax.Array | int,
  *,
  eos: jax.Array,
  sampling_params: sampling_distribution.SamplingParams,
) -> Lanes:
  """Draws tokens until all rows of at least `wanted` lanes are done.

  Args:
    model: see `sample`.
    params: its parameters.
    lanes: donated.
    wanted: lanes to wait for, empty ones included; traced.
    eos: see `sample`.
    sampling_params: see `sample`.

  Returns:
    The lanes.
  """
  num_lanes = len(lanes.prompt_length)
  num_rows = len(lanes.drawn) // num_lanes
  slots = jnp.arange(lanes.prompts[0][0].shape[2])
  limit = lanes.samples.tokens.shape[1]
  ring = jnp.arange(limit)
  is_prompt = slots < lanes.prompt_length[:, None]  # [L, P]
  prompt_length = jnp.repeat(lanes.prompt_length, num_rows)

  def step(lanes: Lanes) -> Lanes:
    lanes = _begin_next(lanes)
    drawn, samples = lanes.drawn, lanes.samples
    age = samples.length[drawn]
    last = jnp.maximum(age - 1, 0)[:, None]
    token = samples.tokens[drawn[:, None], last]
    # Age of what a slot holds; the token that is fed now has age 0.
    is_response = (lanes.clock - ring) % limit < jnp.maximum(age, 1)[:, None]
    hidden, responses = model.apply(
      {'params': params},
      token,
      positions=prompt_length[:, None] + last,
      mask=is_response[:, None],
      cache=lanes.responses,
      slot=lanes.clock % limit,
      prefix=(lanes.prompts, is_prompt),
    )
    logits = model.apply({'params': params}, hidden[:, 0], method='logits')
    if lanes.logits is not None:  # a row that begins was fed nothing
      first = jnp.repeat(lanes.logits, num_rows, axis=0)
      logits = jnp.where((age == 0)[:, None], first, logits)
    token, logprob = _draw(logits, lanes.keys[drawn], age, sampling_params)
    stopped = _is_any(token, eos)
    # A row without a sample to draw writes nowhere.
    at = jnp.where(lanes.done[drawn], len(lanes.done), drawn)

    def put(old, new, *place):
      return old.at[(at, *place)].set(new, mode='drop')

    return lanes._replace(
      responses=responses,
      clock=lanes.clock + 1,
      samples=Samples(
        tokens=put(samples.tokens, token, age),
        length=put(samples.length, age + 1),
        logprobs=put(samples.logprobs, logprob, age),
        stopped=put(samples.stopped, stopped),
      ),
      done=put(lanes.done, stopped | (age + 1 == limit)),
    )

  def unfinished(lanes: Lanes) -> jax.Array:
    is_free = jnp.all(lanes.done.reshape(num_lanes, -1), axis=1)
    return jnp.sum(is_free) < wanted

  return _laid_out(jax.lax.while_loop(unfinished, step, lanes))


def _begin_next(lanes: Lanes) -> Lanes:
  """Gives rows whose sample is done the next ones of their lanes."""
  if lanes.logits is None:
    return lanes
  num_lanes = len(lanes.num_started)
  num_samples = len(lanes.done) // num_lanes
  free = lanes.done[lanes.drawn].reshape(num_lanes, -1)
  number = lanes.num_started[:, None] + jnp.cumsum(free, axis=1) - 1
  begins = free & (number < num_samples)
  sample = jnp.arange(num_lanes)[:, None] * num_samples + number
  drawn = jnp.where(begins.reshape(-1), sample.reshape(-1), lanes.drawn)
  return lanes._replace(
    drawn=drawn,
    num_started=lanes.num_started + jnp.sum(begins, axis=1, dtype=jnp.int32),
  )


def _is_any(token, eos):
  return jnp.any(token[:, None] == eos[None], axis=1)


def _draw(logits, keys, age, sampling_params):
  """The token of each row at its age, and its log-probability."""
  uniform = jax.vmap(
    lambda key, t: jax.random.uniform(jax.random.fold_in(key, t))
  )(keys, jnp.broadcast_to(age, keys.shape))
  return sampling_distribution.draw(logits, uniform, sampling_params)
