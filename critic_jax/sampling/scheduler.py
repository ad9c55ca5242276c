"""A queue of prompts through a fixed number of lanes.

Responses end at different times. As soon as a quarter of the lanes have
finished, waiting prompts take their place, and the long responses of others go
on: no row waits for the longest of a batch, as long as there is a queue. A lane
may have fewer rows than its prompt has responses; a row then draws several, one
after another. Prompts that begin alike, such as the refinements of one
solution, have their common beginning computed once (`find_shared_prefixes`).

All arrays have one of few shapes. With L lanes and P columns, these are the
programs, which `compile_one` compiles ahead:

  insert   F = L / 4 prompts of P columns
  insert   F / 4 shared prefixes of P columns, and the rest of F prompts, of
           P / 4 columns
  decode   L lanes

Where rows are split among devices, F and the number of shared prefixes are
rounded up to a multiple of the devices: each device would compute all of an
array that they do not divide.
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
from critic_jax.sampling.lanes import (
  Lanes,
  Samples,
  SharedPrefixes,
  empty_lanes,
)


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
    num_rows: s, responses to a prompt at once, at most n.

  Returns:
    For each number, numpy arrays of the n responses to its prompt.
  """
  settings = dict(eos=eos, sampling_params=sampling_params)
  with sharding.on_mesh_of(params):
    return _run(
      functools.partial(decode.insert, model, params, **settings),
      functools.partial(decode.decode, model, params, **settings),
      empty_lanes(
        model, num_lanes, num_rows, num_samples, columns, max_new_tokens
      ),
      prompts,
      keys,
    )


def _run(insert_fn, decode_fn, lanes: Lanes, prompts, keys):
  """Runs all prompts through lanes, which are empty at first."""
  num_lanes, num_samples = lanes.num_lanes, lanes.num_samples
  num_shards = sharding.num_shards_here('rows')
  # Lanes are refilled by a quarter, whatever the number of devices.
  quarter, size = num_inserted(num_lanes), num_inserted(num_lanes, num_shards)
  queue = collections.deque(prompts)
  prompt_of_lane: dict[int, int] = {}  # without the free lanes
  results: dict[int, Samples] = {}
  clock = 0
  while queue or prompt_of_lane:
    # Fill the free lanes.
    free_lanes = [x for x in range(num_lanes) if x not in prompt_of_lane]
    while queue and len(free_lanes) >= min(quarter, len(queue)):
      count = min(size, len(free_lanes), len(queue))
      numbers = [queue.popleft() for _ in range(count)]
      filled_lanes, free_lanes = free_lanes[:count], free_lanes[count:]
      prompt_of_lane |= zip(filled_lanes, numbers, strict=True)
      tokens, length, shared_prefixes = lay_out(
        [prompts[i] for i in numbers], size, lanes.columns, num_shards
      )
      lanes = insert_fn(
        lanes,
        _padded(filled_lanes, size, num_lanes),
        tokens,
        length,
        _sample_keys(keys, _padded(numbers, size, 0), num_samples),
        shared_prefixes=shared_prefixes,
      )

    # Decode until enough lanes are free.
    lanes = decode_fn(lanes, quarter if queue else num_lanes)
    is_done, samples, steps = jax.device_get(
      (lanes.is_done, lanes.samples, lanes.clock)
    )
    timing.add('slots/all', len(lanes.sample_of_row) * (int(steps) - clock))
    clock = int(steps)

    # Take the results out of the lanes that have finished.
    lane_is_done = is_done.reshape(num_lanes, -1).all(axis=1)
    for lane in [x for x in prompt_of_lane if lane_is_done[x]]:
      rows = slice(lane * num_samples, (lane + 1) * num_samples)
      result = Samples(*(x[rows] for x in samples))
      # The first token is drawn by the insert and takes no step.
      timing.add('slots/busy', int(result.length.sum()) - num_samples)
      results[prompt_of_lane.pop(lane)] = result
  return results


def num_inserted(num_lanes: int, num_shards: int = 1) -> int:
  """Returns F, the prompts of an insert: L / 4 rounded up to the devices.

  Args:
    num_lanes: L.
    num_shards: devices among which the prompts are divided.
  """
  return _round_up(max(1, num_lanes // 4), num_shards)


def num_shared_prefixes(size: int, num_shards: int) -> int:
  """Returns the shared prefixes of an insert; 0 if they spare nothing.

  Args:
    size: F, the prompts of an insert.
    num_shards: devices among which the prefixes are divided.
  """
  number = _round_up(size // 4, num_shards)
  return number if number < size else 0


def _round_up(number, divisor) -> int:
  return -(-number // divisor) * divisor


def compile_one(
  model: Transformer,
  params,
  keys: jax.Array,
  columns: int,
  **settings,
) -> None:
  """Compiles the programs that `run` with these arguments needs.

  Nothing is sampled.

  Args:
    model: a transformer with a language head.
    params: its parameters.
    keys: random keys of prompts.
    columns: P.
    **settings: the others of `lowered`.
  """
  with sharding.on_mesh_of(params):
    size = num_inserted(settings['num_lanes'], sharding.num_shards_here('rows'))
    keys = _sample_keys(keys, _padded([], size, 0), settings['num_samples'])
  for program in lowered(model, params, keys, columns, **settings).values():
    program.compile()


def lowered(
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
) -> dict[str, jax.stages.Lowered]:
  """Lowers the programs that `run` needs for lanes of these sizes, by name.

  Args:
    model: a transformer with a language head.
    params: its parameters, or shapes with shardings.
    keys: random keys [F * n] of an insert, or their shape.
    columns: P.
    eos: int32[E].
    sampling_params: temperature, top-k and top-p.
    num_samples: n.
    max_new_tokens: R.
    num_lanes: L.
    num_rows: s.

  Returns:
    'insert', 'insert behind prefixes' where an insert may share some, 'decode'.
  """
  settings = dict(eos=eos, sampling_params=sampling_params)
  with sharding.on_mesh_of(params):
    num_shards = sharding.num_shards_here('rows')
    size = num_inserted(num_lanes, num_shards)
    distinct = [[i] * columns for i in range(size)]
    batches = {'insert': distinct}
    if num_shared_prefixes(size, num_shards):
      batches['insert behind prefixes'] = distinct[:1]
    lane_index = _padded([], size, 0)
    # All programs lay lanes out alike (`lanes.constrain`).
    lanes = _compile(
      empty_lanes,
      *(model, num_lanes, num_rows, num_samples, columns, max_new_tokens),
    )
    programs = {}
    for name, prompts in batches.items():
      tokens, length, shared_prefixes = lay_out(
        prompts, size, columns, num_shards
      )
      programs[name] = decode.insert.lower(
        model, params, lanes, lane_index, tokens, length, keys,
        shared_prefixes=shared_prefixes, **settings,
      )  # fmt: skip
    programs['decode'] = decode.decode.lower(
      model, params, lanes, num_lanes, **settings
    )
  return programs


def _compile(function, *args):
  """Compiles a jitted function; returns shapes and shardings of its result."""
  program = function.lower(*args)

  def describe(x, layout):
    layout = layout if isinstance(layout, NamedSharding) else None
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout)

  shardings = program.compile().output_shardings
  return jax.tree.map(describe, program.out_info, shardings)


def lay_out(
  prompts: Sequence[Sequence[int]], size: int, columns: int, num_shards: int = 1
):
  """Lays prompts out for `decode.insert`, behind shared prefixes if they fit.

  Args:
    prompts: tokens of at most F prompts.
    size: F, the prompts of a call.
    columns: P.
    num_shards: devices among which the shared prefixes are divided.

  Returns:
    The prompts int32[F, P], or their suffixes int32[F, P / 4] behind shared
    prefixes; the lengths of the whole prompts, int32[F]; the shared prefixes,
    or None.
  """
  length = _padded([len(p) for p in prompts], size, 0)
  max_prefixes = num_shared_prefixes(size, num_shards)
  groups = find_shared_prefixes(prompts, max_prefixes, columns // 4)
  if groups is None:
    return _rows(prompts, size, columns), length, None
  index = [i for i, (_, members) in enumerate(groups) for _ in members]
  prefix_length = [groups[i][0] for i in index]
  prefixes = [prompts[members[0]][:common] for common, members in groups]
  suffixes = [p[n:] for p, n in zip(prompts, prefix_length, strict=True)]
  shared_prefixes = SharedPrefixes(
    tokens=_rows(prefixes, max_prefixes, columns),
    length=_padded([common for common, _ in groups], max_prefixes, 0),
    index=_padded(index, size, 0),
  )
  return _rows(suffixes, size, columns // 4), length, shared_prefixes


def find_shared_prefixes(
  prompts: Sequence[Sequence[int]], max_prefixes: int, max_rest: int
) -> list[tuple[int, range]] | None:
  """Groups adjacent prompts that begin with the same tokens.

  >>> find_shared_prefixes([[1, 2, 3], [1, 2, 4, 5], [9, 9]], 2, 2)
  [(2, range(0, 2)), (1, range(2, 3))]

  Args:
    prompts: tokens, at least one each.
    max_prefixes: the most groups.
    max_rest: the most tokens of a prompt after its shared prefix. It has at
      least one, since logits are computed from the rest only.

  Returns:
    For each group the length of its shared prefix and its prompts, in order;
    None if there would be more than `max_prefixes` groups.
  """
  groups, start, prefix_length, longest = [], 0, 0, 0
  for i, prompt in enumerate(prompts):
    if i > start:
      # The prompt joins the group if the rest of its longest stays short.
      common = min(prefix_length, len(prompt) - 1)
      common = _num_common(prompts[start][:common], prompt)
      longest_with = max(longest, len(prompt))
      if longest_with - common <= max_rest:
        prefix_length, longest = common, longest_with
        continue
      groups.append((prefix_length, range(start, i)))
    if len(groups) >= max_prefixes:
      return None
    start, prefix_length, longest = i, len(prompt) - 1, len(prompt)
  return [*groups, (prefix_length, range(start, len(prompts)))]


def _num_common(first, second) -> int:
  """Counts the tokens that two sequences begin with in common."""
  for i, (a, b) in enumerate(zip(first, second, strict=False)):
    if a != b:
      return i
  return len(first)


def _rows(sequences, size, columns) -> np.ndarray:
  """Pads sequences on the right, int32[size, columns]."""
  rows = np.zeros((size, columns), np.int32)
  for row, sequence in zip(rows, sequences, strict=False):
    row[: len(sequence)] = sequence
  return rows


def _padded(values, size, fill) -> np.ndarray:
  """Pads values with `fill`, int32[size]."""
  padded = np.full(size, fill, np.int32)
  padded[: len(values)] = values
  return padded


@functools.partial(jax.jit, static_argnums=2)
def _sample_keys(keys, numbers, n):
  """Splits the key of each numbered prompt into n: keys [F * n]."""
  split = jax.vmap(lambda key: jax.random.split(key, n))(keys[numbers])
  return split.reshape(-1)
