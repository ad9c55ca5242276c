"""The compiler's word on a phase: the run's own programs, compiled, not run.

They are compiled for the devices of a mesh, which may be those of a topology
(`topology.py`): an update for each shape of its batch, inserts and decoding for
each number of columns of each stage, and the passes of the reference and the
value model. The plan's own estimate stands beside each.

Layers are alike. Where they are unrolled, a program is compiled with two and
with three, and each further one is taken to add as much as the third did: the
second is the first behind which another one's values are kept. Where they are a
loop it is compiled whole.

A CPU's compiler computes bfloat16 in float32 and orders the work for speed, at
the cost of memory, so its temporaries are an upper bound.
"""

from __future__ import annotations

import functools
import math
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from critic_jax.loss_fns import scoring
from critic_jax.models import cost, forward
from critic_jax.plan import abstract, forward_memory, hlo, memory, workload
from critic_jax.runtime import compilation, sharding
from critic_jax.sampling import scheduler
from critic_jax.sampling.served import local
from critic_jax.training import updates

PROGRAMS = 'update', 'insert', 'decode', 'score'  # their kinds


class Transfer(NamedTuple):
  """The collectives of one kind in one turn of a loop.

  Attributes:
    loop: 'a token', 'a micro-batch', 'an update' or 'a call'; loops inside of
      it are counted with all their turns, where the compiler knows how many.
    kind: one of `hlo.COLLECTIVES`.
    num_bytes: bytes of the results on a device.
    largest: those of the largest one.
  """

  loop: str
  kind: str
  num_bytes: float
  largest: float


class Compiled(NamedTuple):
  """A compiled program; bytes are of one device.

  Attributes:
    kind: one of `PROGRAMS`.
    program: the name of the stage, with what is computed of it.
    role: the role whose model computes.
    shape: the sizes that it was compiled for.
    arguments: bytes of its arguments.
    results: bytes of results that take no argument's place.
    temporaries: bytes of all else.
    flops: of one turn of each loop; None: the compiler does not say.
    bytes_accessed: likewise.
    seconds: to compile it.
    transfers: the collectives by loop.
    planned: the plan's bytes for the same, by what they are; the first is what
      is held before and after.
    refusal: the compiler's words where the program does not fit; ''.
  """

  kind: str
  program: str
  role: str
  shape: str
  arguments: float
  results: float
  temporaries: float
  flops: float | None
  bytes_accessed: float | None
  seconds: float
  transfers: list[Transfer]
  planned: dict[str, int]
  refusal: str = ''

  @property
  def total(self) -> float:
    """Returns the bytes of a device while the program runs."""
    return self.arguments + self.results + self.temporaries

  @property
  def estimate(self) -> int:
    """Returns the plan's bytes for the same."""
    return sum(self.planned.values())

  @property
  def scale(self) -> float:
    """Returns compiled over planned bytes, beside what is held."""
    held = next(iter(self.planned.values()))
    return (self.total - held) / (self.estimate - held)


class Program(NamedTuple):
  """A program to compile.

  Attributes:
    kind: one of `PROGRAMS`.
    name: `Compiled.program`.
    role: the role whose model computes.
    shape: `Compiled.shape`.
    planned: `Compiled.planned`.
    loop: its outermost loop, in words: 'a token', 'a micro-batch' or ''.
    whole: the whole of it, in words.
    lower: LMs by role -> the lowered program.
  """

  kind: str
  name: str
  role: str
  shape: str
  planned: dict[str, int]
  loop: str
  whole: str
  lower: Callable[[dict], jax.stages.Lowered]


def measure(program: Program, lms) -> Compiled:
  """Compiles a program and returns what the compiler says of it."""
  config = lms[program.role].model.config
  are_alike = cost.backward_layers(vars(config)) == config.num_layers
  if _is_loop(config) or config.num_layers <= 3 or not are_alike:
    return _measure(program, lms)
  two, three = (
    _measure(program, _with_layers(lms, number)) for number in (2, 3)
  )
  return _extrapolated(two, three, config.num_layers)


def _is_loop(config) -> bool:
  """Whether the layers of a model are a loop."""
  return config.layers == 'scanned'


def _with_layers(lms, number):
  return lms | {
    role: abstract.changed(lm, num_layers=min(number, _num_layers(lm)))
    for role, lm in local(lms).items()
  }


def _num_layers(lm) -> int:
  return lm.model.config.num_layers


def _measure(program, lms) -> Compiled:
  """Compiles a program as it is."""
  start = time.perf_counter()
  facts = dict(
    kind=program.kind, program=program.name, role=program.role,
    shape=program.shape, arguments=0, results=0, temporaries=0, flops=None,
    bytes_accessed=None, transfers=[], planned=program.planned,
  )  # fmt: skip
  try:
    with compilation.without_cache():  # lowering compiles, too
      compiled, text = compile_with_text(program.lower(lms))
  except jax.errors.JaxRuntimeError as error:
    refusal = _refusal(str(error))
    if refusal is None:
      raise
    seconds = time.perf_counter() - start
    return Compiled(**facts, seconds=seconds, refusal=refusal)
  facts['seconds'] = time.perf_counter() - start
  sizes, costs = compiled.memory_analysis(), compiled.cost_analysis() or {}
  facts |= dict(
    arguments=sizes.argument_size_in_bytes,
    results=sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
    temporaries=sizes.temp_size_in_bytes,
    flops=_positive(costs.get('flops')),
    bytes_accessed=_positive(costs.get('bytes accessed')),
    transfers=transfers(hlo.read(text), program),
  )
  return Compiled(**facts)


def compile_with_text(lowered) -> tuple[jax.stages.Compiled, str]:
  """Compiles a program; returns it with its optimised HLO.

  The compiler writes that into a folder: jax's `as_text` can not read what
  libtpu returns for large programs of v5p (asynchronous operations of several
  operands).
  """
  # A program from jax's cache would not be written there.
  with tempfile.TemporaryDirectory() as folder, compilation.without_cache():
    options = {'xla_dump_to': folder, 'xla_dump_hlo_as_text': True}
    compiled = lowered.compile(compiler_options=options)
    paths = pathlib.Path(folder).glob('*after_optimizations.txt')
    largest = max(paths, key=lambda path: path.stat().st_size)
    return compiled, largest.read_text()


def _positive(number: float | None) -> float | None:
  """Returns a number that may be a count, and None for others."""
  return number if number and 0 < number < math.inf else None


def _refusal(message: str) -> str | None:
  """Returns the compiler's words for a program that has no room, or None."""
  if 'RESOURCE_EXHAUSTED' not in message:
    return None
  sentences = message.replace('\n', ' ').split('. ')
  return next((x for x in sentences if x.startswith('Used ')), sentences[0])


def transfers(text: hlo.Program, program: Program) -> list[Transfer]:
  """Adds up the collectives of a program by loop and kind, largest first."""
  sums: dict[tuple[str, str], Transfer] = {}
  for collective in text.collectives:
    inner, loop = list(collective.loops), program.whole
    if program.loop and inner:
      inner, loop = inner[1:], program.loop
    turns = math.prod(x.trip_count or 1 for x in inner)
    key, size = (loop, collective.kind), collective.num_bytes
    old = sums.get(key, Transfer(*key, 0, 0))
    sums[key] = old._replace(
      num_bytes=old.num_bytes + turns * size, largest=max(old.largest, size)
    )
  return sorted(sums.values(), key=lambda x: -x.num_bytes)


def _extrapolated(two: Compiled, three: Compiled, number: int) -> Compiled:
  """Returns a program of so many layers from those of two and of three."""
  if two.refusal or three.refusal:
    return three._replace(refusal=two.refusal or three.refusal)

  def line(a, b):
    return None if a is None or b is None else a + (number - 2) * (b - a)

  names = 'arguments', 'results', 'temporaries', 'flops', 'bytes_accessed'
  sums = {(t.loop, t.kind): t.num_bytes for t in two.transfers}
  return three._replace(
    seconds=two.seconds + three.seconds,
    transfers=[
      t._replace(
        num_bytes=line(sums.get((t.loop, t.kind), t.num_bytes), t.num_bytes)
      )
      for t in three.transfers
    ],
    **{name: line(getattr(two, name), getattr(three, name)) for name in names},
  )


def programs(
  name: str, config, lms, mesh, *, sample_sizes, processes=1, length_share=1.0,
  kinds=PROGRAMS,
) -> Iterator[Program]:  # fmt: skip
  """Yields the programs of a phase.

  Args:
    name: the phase's name.
    config: the config of the run.
    lms: LMs by role.
    mesh: the mesh of the training.
    sample_sizes: sizes by axis of the mesh that a process samples on.
    processes: number of processes.
    length_share: mean length of responses over their limit.
    kinds: those that are wanted, of `PROGRAMS`.
  """
  phase = abstract.phase(config, lms, name)
  sample_mesh = _sample_mesh(mesh, sample_sizes)
  # Parameters that are laid out anew are cast, too.
  params_fn = functools.partial(
    abstract.params if sample_mesh is mesh else abstract.sampled_params,
    mesh=sample_mesh,
  )
  num_rows, packed = phase.recipe.num_rows, bool(phase.config.row_shapes)
  shapes = updates.batch_shapes(phase, lms, num_rows)
  for shape in shapes if 'update' in kinds else ():
    learned = workload.Learned(*shape, packed)
    yield _update(phase, config, lms, mesh, learned)
  for stage in workload.sampled(phase.recipe, lms, length_share):
    share = stage._replace(prompts=-(-stage.prompts // processes))
    for columns in lms[stage.role].lengths:
      yield from _sampling(
        share, lms[stage.role], sample_mesh, columns, params_fn, kinds
      )
  for role in phase.recipe.scored if 'score' in kinds else ():
    is_lm = lms[role].model.config.head == 'lm'  # values are of plain rows
    read = shapes if is_lm else updates.plain_shapes(phase, lms, num_rows)
    for shape in read:
      learned = workload.Learned(*shape, packed and is_lm)
      most_rows = learned.rows // phase.config.microbatches
      if learned.rows % processes == 0:
        learned = learned._replace(rows=learned.rows // processes)
      parts = scoring.num_parts(learned.rows, most_rows)
      yield _score(role, lms, sample_mesh, learned, parts, params_fn)


def _sample_mesh(mesh, sizes):
  """Makes the mesh that the first process samples on."""
  if sizes == dict(mesh.shape):
    return mesh
  shape = tuple(sizes[axis] for axis in sharding.AXES)
  devices = mesh.devices.flat[: math.prod(shape)].reshape(shape)
  return jax.sharding.Mesh(devices, mesh.axis_names, axis_types=mesh.axis_types)


def _update(phase, config, lms, mesh, learned) -> Program:
  """Makes the program of an update."""

  def lower(lms):
    own = abstract.phase(config, lms, phase.name)
    state = memory.state(own, lms, mesh)
    batch = abstract.batch(*learned, mesh)
    return updates.lowered(own, state, batch, memory.bases(own, lms, mesh))

  microbatches = phase.config.microbatches
  rows = learned.rows // microbatches
  row_bytes = memory.activations(phase.name, config, lms, mesh, learned)
  parts = memory.update(phase, lms, mesh, learned) | memory.micro_batch(
    phase, lms, mesh, row_bytes, rows, learned.columns
  )
  state = memory.state(phase, lms, mesh), memory.bases(phase, lms, mesh)
  return Program(
    'update', 'update', phase.config.train[0],
    f'{microbatches:,} x {rows:,} rows of {learned.columns:,}',
    {'parameters and optimiser': abstract.device_bytes(state)} | parts,
    'a micro-batch' if microbatches > 1 else '', 'an update', lower,
  )  # fmt: skip


def _sampling(stage, lm, mesh, columns, params_fn, kinds) -> Iterator[Program]:
  """Yields the programs of a stage for one number of columns."""
  shape = lm.shape(stage.prompts, stage.samples)
  num_shards = sharding.num_shards(mesh, 'rows')
  size = scheduler.num_inserted(shape.num_lanes, num_shards)
  keys = jax.ShapeDtypeStruct((size * stage.samples,), jax.random.key(0).dtype)
  lowered_by_model: dict[Any, dict[str, jax.stages.Lowered]] = {}

  def lower(name, lms):
    lm = lms[stage.role]
    if lm.model not in lowered_by_model:
      lowered_by_model[lm.model] = scheduler.lowered(
        lm.model, params_fn(lm), keys, columns,
        eos=np.zeros(1, np.int32), sampling_params=lm.sampling_params,
        num_samples=stage.samples, max_new_tokens=lm.max_new_tokens,
        **shape._asdict(),
      )  # fmt: skip
    return lowered_by_model[lm.model][name]

  params = abstract.device_bytes(params_fn(lm))
  for name in [*forward_memory.inserts(shape.num_lanes, mesh), 'decode']:
    if name.split()[0] not in kinds:
      continue
    parts = forward_memory.sampler(
      lm, mesh, lanes=shape.num_lanes, rows=shape.num_rows,
      samples=stage.samples, columns=columns, program=name,
    )  # fmt: skip
    yield Program(
      name.split()[0], f'{stage.stage}: {name}', stage.role,
      f'{shape.num_lanes:,} x {shape.num_rows:,} rows behind {columns:,}',
      {'parameters': params} | parts, 'a token' if name == 'decode' else '',
      'a call', functools.partial(lower, name),
    )  # fmt: skip


def _score(role, lms, mesh, learned, num_parts, params_fn) -> Program:
  """Makes the program with which a role reads a batch."""
  is_lm = lms[role].model.config.head == 'lm'
  statistic = (
    scoring.Scorer.logprobs if is_lm else scoring.Scorer.values_and_final
  )

  def lower(lms):
    params = {role: params_fn(lms[role])}
    batch = abstract.batch(*learned)  # of the host
    keys = 'tokens', 'mask', *forward.Layout._fields
    with sharding.on_mesh_of(params):
      return scoring.in_parts.lower(
        statistic,
        scoring.bind(lms, params, role, lms[role].sampling_params),
        {key: batch[key] for key in keys if key in batch},
        num_parts,
      )

  rows = learned.rows // num_parts
  params = abstract.device_bytes(params_fn(lms[role]))
  parts = forward_memory.scorer(lms[role], mesh, learned, num_parts)
  return Program(
    'score', 'score', role,
    f'{num_parts:,} x {rows:,} rows of {learned.columns:,}',
    {'parameters': params} | parts,
    'a micro-batch' if num_parts > 1 else '', 'a batch', lower,
  )  # fmt: skip
