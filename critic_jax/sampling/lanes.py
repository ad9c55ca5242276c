"""The state of sampling: lanes, each a prompt and the rows of its responses.

A lane holds one prompt, whose keys and values its rows share, and for each row
the keys and values of its own response. Arrays are flat: lane l has the rows
`l * s + 0 .. s - 1` and the samples `l * n + 0 .. n - 1`.

The tokens that the rows are fed at one step of the clock have their keys in
slot `clock % R`, the same slot for every row however old its response, so that
a step writes one slice. A response has at most R tokens: older entries of the
ring belong to an earlier response, and the row's age masks them. Positions
carry the lengths.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from critic_jax.models import transformer
from critic_jax.models.transformer import Cache, Transformer
from critic_jax.runtime import sharding


class Samples(NamedTuple):
  """Sampled responses; those to one prompt are adjacent.

  Attributes:
    tokens: int32[B * n, R], end-of-sequence tokens included, then 0.
    length: int32[B * n], the number of tokens.
    logprobs: float32[B * n, R], under the sampling distribution; 0 after
      `length`.
    stopped: bool[B * n], whether an end-of-sequence token ended the response.
  """

  tokens: jax.Array
  length: jax.Array
  logprobs: jax.Array
  stopped: jax.Array


class Lanes(NamedTuple):
  """L lanes of s rows each, which draw n samples of at most R tokens.

  Attributes:
    prompts: keys and values, a layer [L, Hkv, P, Dh]; where layers are scanned,
      a first axis has all of them.
    prompt_length: int32[L]; 0 is an empty lane.
    logits: float32[L, V], after the prompts; None where s = n.
    responses: keys and values, a layer [L * s, Hkv, R, Dh], as those of
      prompts; a ring of slots.
    sample_of_row: int32[L * s], the sample that a row draws, of L * n.
    num_started: int32[L], samples whose first token was drawn.
    clock: int32[], decode steps so far.
    keys: random keys [L * n].
    samples: the L * n samples so far; the keys and values of their last tokens
      are not yet computed.
    is_done: bool[L * n], True where nothing more is drawn for the sample.
  """

  prompts: Cache
  prompt_length: jax.Array
  logits: jax.Array | None
  responses: Cache
  sample_of_row: jax.Array
  num_started: jax.Array
  clock: jax.Array
  keys: jax.Array
  samples: Samples
  is_done: jax.Array

  @property
  def num_lanes(self) -> int:
    """Returns L."""
    return len(self.prompt_length)

  @property
  def num_rows(self) -> int:
    """Returns s, the rows of a lane."""
    return len(self.sample_of_row) // self.num_lanes

  @property
  def num_samples(self) -> int:
    """Returns n, the samples of a lane."""
    return len(self.is_done) // self.num_lanes

  @property
  def columns(self) -> int:
    """Returns P, the most tokens of a prompt."""
    return self.prompts[0][0].shape[-2]

  @property
  def max_new_tokens(self) -> int:
    """Returns R, the most tokens of a response."""
    return self.samples.tokens.shape[1]


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


@functools.partial(jax.jit, static_argnums=range(6))
def empty_lanes(
  model: Transformer,
  num_lanes: int,
  num_rows: int,
  num_samples: int,
  columns: int,
  max_new_tokens: int,
) -> Lanes:
  """Makes L lanes of s rows for n samples, without prompts.

  Args:
    model: the transformer whose keys and values they hold.
    num_lanes: L.
    num_rows: s, at most n.
    num_samples: n.
    columns: P.
    max_new_tokens: R.
  """
  c, all_samples = model.config, num_lanes * num_samples

  def cache(rows, slots):
    return transformer.empty_cache(c, rows, slots)

  # A row that starts a later sample needs the logits after its prompt.
  logits = None
  if num_rows < num_samples:
    logits = jnp.zeros((num_lanes, c.vocab_size), jnp.float32)
  # Empty lanes count as done: nothing waits for them.
  return constrain(
    Lanes(
      prompts=cache(num_lanes, columns),
      prompt_length=jnp.zeros(num_lanes, jnp.int32),
      logits=logits,
      responses=cache(num_lanes * num_rows, max_new_tokens),
      sample_of_row=indices(jnp.arange(num_lanes), num_samples, num_rows),
      num_started=jnp.full(num_lanes, num_samples, jnp.int32),
      clock=jnp.zeros((), jnp.int32),
      keys=jax.random.split(jax.random.key(0), all_samples),
      samples=Samples(
        tokens=jnp.zeros((all_samples, max_new_tokens), jnp.int32),
        length=jnp.zeros(all_samples, jnp.int32),
        logprobs=jnp.zeros((all_samples, max_new_tokens), jnp.float32),
        stopped=jnp.zeros(all_samples, bool),
      ),
      is_done=jnp.ones(all_samples, bool),
    )
  )


def indices(lanes, size: int, count: int | None = None) -> jax.Array:
  """Returns the indices of some lanes in arrays of `size` entries a lane.

  Args:
    lanes: int32[F], numbers of lanes.
    size: entries of a lane.
    count: the first `count` entries of each lane only; by default all.

  Returns:
    int32[F * count].
  """
  entries = lanes[:, None] * size + jnp.arange(count or size)
  return entries.reshape(-1).astype(jnp.int32)


def constrain(lanes: Lanes) -> Lanes:
  """Lays lanes out on the mesh: rows split, keys and values also by heads.

  The layout is always the same, so that each function is compiled once.
  """

  def lay_out(x):
    names = {4: ('rows', 'kv_heads'), 5: (None, 'rows', 'kv_heads')}
    return sharding.constrain(x, *names.get(x.ndim, ('rows',))[: x.ndim])

  logits = lanes.logits
  if logits is not None:
    logits = sharding.constrain(logits, 'rows', 'vocab')
  lanes = jax.tree.map(lay_out, lanes._replace(logits=None))
  return lanes._replace(logits=logits)
