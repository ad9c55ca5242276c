"""A queue of prompts through a fixed number of lanes.

Responses end at different times. As soon as a quarter of the lanes have
finished, prompts that wait take their place, and the long responses of others
go on: no row waits for the longest of a batch, as long as there is a queue. A
lane may have fewer rows than its prompt wants responses, one after another.
Prompts that begin alike, such as the refinements of one solution, have their
common beginning computed once (`find_shared_prefixes`).

All arrays have one of few shapes. With L lanes and columns P, these are the
programs, which `compile_one` compiles ahead:

  insert   F = L / 4 prompts of P columns
  insert   F prompts behind F / 4 shared prefixes of P columns, and P / 4
           columns for what comes after them
  decode   L lanes

Where rows are split among devices, F and the shared prefixes are rounded up to
a multiple of them: of what they do not divide, each device computes all.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import NamedSharding

from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.runtime import sharding, timing
from critic_jax.sampling import decode
from critic_jax.sampling.decode import Samples


def run(
  model: Transformer,
  params,
  prompts: Mapping[int, Sequence[int]],
  keys: jax.Array,
  *,
  eos: jax.Array,
  sampling_params: SamplingParams,
  num_samples: int,
  max_new_tokens: int,
  columns: int,
  num_lanes: int,
  num_rows: int,
) -> dict[int, Samples]:
  """Samples responses to any number of prompts.

  Args:
    model: a transformer with a language head.
    params: its parameters.
    prompts: tokens by number, 1 to `columns` of them each. Prompts that begin
      alike should be adjacent.
    keys: random keys; `keys[i]` is consumed for prompt i.
    eos: int32[E], the tokens that end a response.
    sampling_params: temperature, top-k and top-p.
    num_samples: n, responses to each prompt.
    max_new_tokens: R.
    columns: P.
    num_lanes: L, prompts at once; a power of two.
    num_rows: s, responses to each of them at once, at most n.

  Returns:
    By the same numbers, numpy arrays of the n rows of each prompt.
  """
  with sharding.on_mesh_of(params):
    return _run(
      functools.partial(
        decode.insert, model, params, eos=eos, sampling_params=sampling_params
      ),
      functools.partial(
        decode.decode, model, params, eos=eos, sampling_params=sampling_params
      ),
      decode.empty(
        model, num_lanes, num_rows, num_samples, columns, max_new_tokens
      ),
      prompts,
      keys,
    )


def _run(insert, decode, lanes, prompts, keys):
  """`run`, by functions of lanes and from empty ones."""
  num_lanes, columns = len(lanes.prompt_length), lanes.prompts[0][0].shape[2]
  num_samples, num_shards = (
    len(lanes.done) // num_lanes,
    sharding.num_shards_here('rows'),
  )
  few, size = num_inserted(num_lanes), num_inserted(num_lanes, num_shards)
  waiting = collections.deque(prompts)
  held: dict[int, int] = {}  # lane -> prompt
  results: dict[int, Samples] = {}
  clock = 0
  while waiting or held:
    free = [lane for lane in range(num_lanes) if lane not in held]
    while waiting and len(free) >= min(few, len(waiting)):
      most = min(size, len(free), len(waiting))
      chosen = [waiting.popleft() for _ in range(most)]
      index, free = free[: len(chosen)], free[len(chosen) :]
      held |= zip(index, chosen, strict=True)
      tokens, length, shared_prefixes = lay_out(
        [prompts[i] for i in chosen], size, columns, num_shards
      )
      lanes = insert(
        lanes,
        _padded(index, size, num_lanes),
        tokens,
        length,
        _sample_keys(keys, _padded(chosen, size, 0), num_samples),
        shared_prefixes=shared_prefixes,
      )
    lanes = decode(lanes, few if waiting else num_lanes)
    done, samples, steps = jax.device_get(
      (lanes.done, lanes.samples, lanes.clock)
    )
    timing.add('slots/all', len(lanes.drawn) * (int(steps) - clock))
    clock = int(steps)
    for lane in [x for x in held if done.reshape(num_lanes, -1)[x].all()]:
      rows = slice(lane * num_samples, (lane + 1) * num_samples)
      result = Samples(*(x[rows] for x in samples))
      # The first token takes no place in a slot.
      timing.add('slots/busy', int(result.length.sum()) - num_samples)
      results[held.pop(lane)] = result
  return results


def num_inserted(num_lanes: int, num_shards: int = 1) -> int:
  """F, the prompts of an insert: a quarter of the lanes, or a few more.

  Args:
    num_lanes: L.
    num_shards: devices that F is to be divided among.
  """
  return _round_up(max(1, num_lanes // 4), num_shards)


def num_shared_prefixes(size: int, num_shards: int = 1) -> int:
  """Shared prefixes of an insert of F prompts; 0 if they spare nothing."""
  number = _round_up(size // 4, num_shards)
  return number if number < size else 0


def _round_up(number, of) -> int:
  return -(-number // of) * of


def compile_one(
  model: Transformer,
  params,
  keys: jax.Array,
  columns: int,
  *,
  eos: jax.Array,
  sampling_params: SamplingParams,
  num_samples: int,
  max_new_tokens: int,
  num_lanes: int,
  num_rows: int,
) -> None:
  """Compiles what `run` with these arguments calls; nothing is sampled."""
  with sharding.on_mesh_of(params):
    num_shards = sharding.num_shards_here('rows')
    size = num_inserted(num_lanes, num_shards)
    different = [[i] * columns for i in range(size)]
    kinds = [different]  # whole
    if num_shared_prefixes(size, num_shards):
      kinds.append(different[:1])  # behind a shared prefix
    index = _padded([], size, 0)
    keys = _sample_keys(keys, index, num_samples)
    lanes = _compiled(
      decode.empty,
      *(model, num_lanes, num_rows, num_samples, columns, max_new_tokens),
    )
    for prompts in kinds:
      tokens, length, shared_prefixes = lay_out(
        prompts, size, columns, num_shards
      )
      lanes = _compiled(
        decode.insert, model, params, lanes, index, tokens, length, keys,
        eos=eos, sampling_params=sampling_params,
        shared_prefixes=shared_prefixes,
      )  # fmt: skip
    _compiled(
      decode.decode,
      model,
      params,
      lanes,
      num_lanes,
      eos=eos,
      sampling_params=sampling_params,
    )


def _compiled(function, *args, **kwargs):
  """Compiles a jitted function; returns the shapes of what it gives."""
  lowered = function.lower(*args, **kwargs)

  def describe(x, of):
    of = of if isinstance(of, NamedSharding) else None
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=of)

  shardings = lowered.compile().output_shardings
  return jax.tree.map(describe, lowered.out_info, shardings)


def lay_out(
  prompts: Sequence[Sequence[int]], size: int, columns: int, num_shards: int = 1
):
  """What `decode.insert` is given for prompts, whole or behind shared prefixes.

  Args:
    prompts: tokens of at most `size` prompts.
    size: F, the prompts of a call.
    columns: P.
    num_shards: devices that shared prefixes are to be divided among.

  Returns:
    int32[F, T] and int32[F], see `decode.insert`, and the shared prefixes or
    None.
  """
  length = _padded([len(p) for p in prompts], size, 0)
  max_prefixes = num_shared_prefixes(size, num_shards)
  found = find_shared_prefixes(prompts, max_prefixes, columns // 4)
  if found is None:
    return _rows(prompts, size, columns), length, None
  index = [i for i, (_, members) in enumerate(found) for _ in members]
  prefix_length = [found[i][0] for i in index]
  firsts = [prompts[members[0]][:shared] for shared, members in found]
  rest = [p[shared:] for p, shared in zip(prompts, prefix_length, strict=True)]
  shared_prefixes = decode.SharedPrefixes(
    tokens=_rows(firsts, max_prefixes, columns),
    length=_padded([shared for shared, _ in found], max_prefixes, 0),
    index=_padded(index, size, 0),
  )
  return _rows(rest, size, columns // 4), length, shared_prefixes


def find_shared_prefixes(
  prompts: Sequence[Sequence[int]], max_prefixes: int, max_rest: int
) -> list[tuple[int, range]] | None:
  """Beginnings that adjacent prompts share.

  >>> find_shared_prefixes([[1, 2, 3], [1, 2, 4, 5], [9, 9]], 2, 2)
  [(2, range(0, 2)), (1, range(2, 3))]

  Args:
    prompts: tokens, at least one each.
    max_prefixes: shared prefixes at most.
    max_rest: tokens after its shared prefix that a prompt may have; it has at
      least one, since a shared prefix alone predicts nothing.

  Returns:
    For each shared prefix its length and the prompts that begin with it, in
    order; None if so few are not enough.
  """
  found, start, shared, longest = [], 0, 0, 0
  for i, prompt in enumerate(prompts):
    if i > start:
      common = min(shared, len(prompt) - 1)
      common = _num_common(prompts[start][:common], prompt)
      longer = max(longest, len(prompt))
      if longer - common <= max_rest:
        shared, longest = common, longer
        continue
      found.append((shared, range(start, i)))
    if len(found) >= max_prefixes:
      return None
    start, shared, longest = i, len(prompt) - 1, len(prompt)
  return [*found, (shared, range(start, len(prompts)))]


def _num_common(first, second) -> int:
  """How many tokens two sequences begin with in common, up to the first's."""
  for i, (a, b) in enumerate(zip(first, second, strict=False)):
    if a != b:
      return i
  return len(first)


def _rows(sequences, size, columns) -> np.ndarray:
  rows = np.zeros((size, columns), np.int32)
  for row, sequence in zip(rows, sequences, strict=False):
    row[: len(sequence)] = sequence
  return rows


def _padded(values, size, fill) -> np.ndarray:
  padded = np.full(size, fill, np.int32)
  padded[: len(values)] = values
  return padded


@functools.partial(jax.jit, static_argnums=2)
def _sample_keys(keys, picked, n):
  """Keys [F * n]: n of each picked prompt's own."""
  split = jax.vmap(lambda key: jax.random.split(key, n))(keys[picked])
  return split.reshape(-1)
