"""Jitted sampling: prompts are put into lanes, and all lanes decode together.

`insert` computes prompts and draws each row's first token; `decode` goes on
until enough lanes have finished, so that others can be put in their place while
long rows run on (`scheduler.py` does this). Where a lane (`lanes.py`) has fewer
rows than samples, a row whose response has ended starts the next one: the
logits after the prompt were kept.

Each sample has its own key, so that a text does not depend on its neighbours.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from critic_jax.models import sampling_distribution
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.sampling import prefill
from critic_jax.sampling.lanes import (
  Lanes,
  Samples,
  SharedPrefixes,
  constrain,
  empty_lanes,
  indices,
)


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
  sampling_params: SamplingParams,
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
  lanes = empty_lanes(
    model, num_lanes, num_samples, num_samples, columns, max_new_tokens
  )
  settings = dict(eos=eos, sampling_params=sampling_params)
  lane_index = jnp.arange(num_lanes)
  lanes = insert(
    model, params, lanes, lane_index, prompts, length, keys, **settings
  )
  return decode(model, params, lanes, num_lanes, **settings).samples


@functools.partial(jax.jit, static_argnames='model', donate_argnames='lanes')
def insert(
  model: Transformer,
  params,
  lanes: Lanes,
  lane_index: jax.Array,
  prompts: jax.Array,
  length: jax.Array,
  keys: jax.Array,
  *,
  eos: jax.Array,
  sampling_params: SamplingParams,
  shared_prefixes: SharedPrefixes | None = None,
) -> Lanes:
  """Puts prompts into lanes and draws the first token of each of their rows.

  Args:
    model: a transformer with a language head.
    params: its parameters.
    lanes: donated.
    lane_index: int32[F], the lane of each prompt; L or more for no lane.
    prompts: int32[F, T], T at most P: the prompts, or with `shared_prefixes`
      their tokens after the shared prefix.
    length: int32[F], of the whole prompts; 0 for padding of the batch.
    keys: random keys [F * n]; consumed.
    eos: int32[E], the tokens that end a response.
    sampling_params: temperature, top-k and top-p, traced; each a number, or one
      for each sample, [F * n].
    shared_prefixes: beginnings that several of these prompts share.

  Returns:
    The lanes.
  """
  num_rows, num_samples = lanes.num_rows, lanes.num_samples
  logits, cache, lay_out = prefill.compute(
    model, params, prompts, length, shared_prefixes, lanes.columns
  )
  first_tokens, is_done = _draw_first_tokens(
    lanes, logits, length, keys, eos, sampling_params
  )

  # Write into the lanes; prompts of no lane are dropped.
  def put(index, old, new):
    return jax.tree.map(
      lambda a, b: a.at[index].set(b.astype(a.dtype), mode='drop'), old, new
    )

  samples = indices(lane_index, num_samples)
  rows = indices(lane_index, num_rows)
  if lanes.logits is not None:
    lanes = lanes._replace(logits=put(lane_index, lanes.logits, logits))
  return constrain(
    lanes._replace(
      prompts=prefill.put(lane_index, lanes.prompts, cache, lay_out),
      prompt_length=put(lane_index, lanes.prompt_length, length),
      sample_of_row=put(
        rows, lanes.sample_of_row, indices(lane_index, num_samples, num_rows)
      ),
      num_started=put(
        lane_index, lanes.num_started, jnp.full(len(lane_index), num_rows)
      ),
      keys=lanes.keys.at[samples].set(keys, mode='drop'),
      samples=put(samples, lanes.samples, first_tokens),
      is_done=put(samples, lanes.is_done, is_done),
    )
  )


def _draw_first_tokens(lanes, logits, length, keys, eos, sampling_params):
  """Draws the first token of as many samples of each prompt as a lane has rows.

  Returns:
    `Samples` of F * n responses, empty where none was drawn, and bool[F * n],
    True where nothing more is drawn.
  """
  num_samples, limit = lanes.num_samples, lanes.max_new_tokens
  is_absent = jnp.repeat(length == 0, num_samples)
  starts = (jnp.arange(len(keys)) % num_samples < lanes.num_rows) & ~is_absent
  token, logprob = _draw(
    jnp.repeat(logits, num_samples, axis=0), keys, 0, sampling_params
  )
  stopped = _is_in(token, eos) & starts
  is_drawn = (jnp.arange(limit) == 0) & starts[:, None]  # [F * n, R]
  samples = Samples(
    tokens=jnp.where(is_drawn, token[:, None], 0),
    length=starts.astype(jnp.int32),
    logprobs=jnp.where(is_drawn, logprob[:, None], 0.0),
    stopped=stopped,
  )
  return samples, stopped | is_absent | (starts & (limit == 1))


@functools.partial(jax.jit, static_argnames='model', donate_argnames='lanes')
def decode(
  model: Transformer,
  params,
  lanes: Lanes,
  num_free: jax.Array | int,
  *,
  eos: jax.Array,
  sampling_params: SamplingParams,
  last_clock: jax.Array | int | None = None,
) -> Lanes:
  """Draws tokens until all samples of at least `num_free` lanes are done.

  Args:
    model: a transformer with a language head.
    params: its parameters.
    lanes: donated.
    num_free: lanes to wait for, empty ones included; traced.
    eos: int32[E], the tokens that end a response.
    sampling_params: temperature, top-k and top-p, traced; each a number, or one
      for each row, [L * s].
    last_clock: the clock at which it ends all the same; traced. None: never.

  Returns:
    The lanes.
  """
  num_lanes, num_rows = lanes.num_lanes, lanes.num_rows
  limit = lanes.max_new_tokens
  is_prompt = jnp.arange(lanes.columns) < lanes.prompt_length[:, None]  # [L, P]
  prompt_length = jnp.repeat(lanes.prompt_length, num_rows)

  def step(lanes: Lanes) -> Lanes:
    # Feed each row the last token of its sample.
    lanes = _start_next_samples(lanes)
    age = _of_rows(lanes, lanes.samples.length)
    position = jnp.maximum(age - 1, 0)  # in the response
    token = _of_rows(lanes, lanes.samples.tokens, position)[:, None]
    position = position[:, None]
    # A slot's age is that of its token; the token that is fed now has age 0.
    slot_age = (lanes.clock - jnp.arange(limit)) % limit  # [R]
    is_response = slot_age < jnp.maximum(age, 1)[:, None]
    hidden, responses = model.apply(
      {'params': params},
      token,
      positions=prompt_length[:, None] + position,
      mask=is_response[:, None],
      cache=lanes.responses,
      slot=lanes.clock % limit,
      prefix=(lanes.prompts, is_prompt),
      cache_positions=prompt_length[:, None] + position - slot_age,
    )

    # Draw the next token.
    logits = prefill.logits_of(model, params, hidden[:, 0])
    if lanes.logits is not None:  # a row that starts a sample was fed nothing
      prompt_logits = jnp.repeat(lanes.logits, num_rows, axis=0)
      logits = jnp.where((age == 0)[:, None], prompt_logits, logits)
    keys = _of_rows(lanes, lanes.keys)
    token, logprob = _draw(logits, keys, age, sampling_params)
    lanes = lanes._replace(responses=responses, clock=lanes.clock + 1)
    return _append(lanes, age, token, logprob, _is_in(token, eos))

  def is_waiting(lanes: Lanes) -> jax.Array:
    is_free = jnp.all(lanes.is_done.reshape(num_lanes, -1), axis=1)
    waits = jnp.sum(is_free) < num_free
    return waits if last_clock is None else waits & (lanes.clock < last_clock)

  return constrain(jax.lax.while_loop(is_waiting, step, lanes))


def _start_next_samples(lanes: Lanes) -> Lanes:
  """Gives rows whose sample is done the next samples of their lanes."""
  if lanes.logits is None:
    return lanes
  num_lanes, num_samples = lanes.num_lanes, lanes.num_samples
  is_free = _of_rows(lanes, lanes.is_done).reshape(num_lanes, -1)
  number = lanes.num_started[:, None] + jnp.cumsum(is_free, axis=1) - 1
  starts = is_free & (number < num_samples)
  sample = jnp.arange(num_lanes)[:, None] * num_samples + number
  return lanes._replace(
    sample_of_row=jnp.where(
      starts.reshape(-1), sample.reshape(-1), lanes.sample_of_row
    ),
    num_started=lanes.num_started + jnp.sum(starts, axis=1, dtype=jnp.int32),
  )


def _append(lanes: Lanes, age, token, logprob, stopped) -> Lanes:
  """Appends a token to the sample of each row, unless the sample is done."""
  samples, limit = lanes.samples, lanes.max_new_tokens
  put = functools.partial(_put, lanes, _of_rows(lanes, lanes.is_done))
  return lanes._replace(
    samples=Samples(
      tokens=put(samples.tokens, token, age),
      length=put(samples.length, age + 1),
      logprobs=put(samples.logprobs, logprob, age),
      stopped=put(samples.stopped, stopped),
    ),
    is_done=put(lanes.is_done, stopped | (age + 1 == limit)),
  )


def _put(lanes: Lanes, is_done, old, new, column=None):
  """Writes entries of the samples that rows draw: [L * n, ...].

  Rows whose sample is done write to an index that is dropped.
  """
  is_own = lanes.logits is None  # each row draws one sample, its own
  if is_own and column is None:
    return jnp.where(is_done, old, new)
  if is_own:
    place = jnp.where(is_done, lanes.max_new_tokens, column)
    return jax.vmap(lambda x, at, y: x.at[at].set(y, mode='drop'))(
      old, place, new
    )
  number = jnp.where(
    _by_lane(lanes, is_done), lanes.num_samples, _numbers(lanes)
  )
  at = [number] if column is None else [number, _by_lane(lanes, column)]
  written = jax.vmap(lambda x, y, *at: x.at[at].set(y, mode='drop'))(
    _by_lane(lanes, old), _by_lane(lanes, new), *at
  )
  return written.reshape(old.shape)


def _of_rows(lanes: Lanes, x, column=None):
  """Returns entries of the samples that rows draw: [L * n, ...] -> [L * s].

  They are looked for in each lane, so that no device asks others for those of
  its own lanes.
  """
  is_own = lanes.logits is None
  if is_own and column is None:
    return x
  if is_own:
    return jnp.take_along_axis(x, column[:, None], axis=1)[:, 0]
  at = [_numbers(lanes)]
  at += [] if column is None else [_by_lane(lanes, column)]
  return jax.vmap(lambda x, *at: x[at])(_by_lane(lanes, x), *at).reshape(-1)


def _numbers(lanes: Lanes):
  """Returns the number in its lane of each row's sample: int32[L, s]."""
  first = jnp.arange(lanes.num_lanes, dtype=jnp.int32) * lanes.num_samples
  return _by_lane(lanes, lanes.sample_of_row) - first[:, None]


def _by_lane(lanes: Lanes, x):
  """Splits entries by lanes: [L * k, ...] -> [L, k, ...]."""
  return x.reshape(lanes.num_lanes, -1, *x.shape[1:])


def _is_in(token, eos):
  """Whether each token is one of `eos`, bool[F]."""
  return jnp.any(token[:, None] == eos[None], axis=1)


def _draw(logits, keys, age, sampling_params):
  """Draws the token of each row at its age, with its log-probability."""
  uniform = jax.vmap(
    lambda key, t: jax.random.uniform(jax.random.fold_in(key, t))
  )(keys, jnp.broadcast_to(age, keys.shape))
  draw = sampling_distribution.draw
  if jnp.ndim(sampling_params.temperature):  # of each row its own
    draw = jax.vmap(draw)
  return draw(logits, uniform, sampling_params)
