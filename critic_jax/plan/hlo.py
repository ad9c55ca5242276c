"""A reader of optimised HLO, the text of a compiled program.

    read(jitted.lower(*shapes).compile().as_text())

It lists the collectives, the products and the kernels of what one device runs,
each with the loops that it is in, outermost first. Bytes are those of a result
on a device. Operations inside fusions and calls are found where these are used.

A collective is counted once where it is split: on GPUs, and for some kinds on
TPUs, into a `-start` and a `-done`, whose result is the collective's; on TPUs
into three fusions, which share its channel. A reduce-scatter of a TPU is a
fusion of an all-reduce and the slice that a device keeps.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

COLLECTIVES = (
  'all-gather', 'all-reduce', 'all-to-all', 'collective-broadcast',
  'collective-permute', 'ragged-all-to-all', 'reduce-scatter',
)  # fmt: skip
_BITS = {'pred': 8, 'token': 0, 'opaque': 0}

_HEAD = re.compile(r'^(ENTRY )?%?([\w.\-]+) .*\{$')
_INSTRUCTION = re.compile(r'^  +(ROOT )?%?([\w.\-]+) = (.*)$')
_OPCODE = re.compile(r'\s*([a-z][\w\-]*)\(')
_SHAPE = re.compile(r'\b([a-z]+\d*\w*)\[([^\]]*)\]')
_OPERAND = re.compile(r'%([\w.\-]+)')
_CALLED = re.compile(
  r'\b(?:calls|to_apply|called_computations|branch_computations|'
  r'true_computation|false_computation)=(\{[^}]*\}|%?[\w.\-]+)'
)
_GEMMS = '__cublas'
_SCATTERING = 'all-reduce-scatter'  # begins the names of such fusions


class Loop(NamedTuple):
  """A loop that an operation is in.

  Attributes:
    computation: the name of its body.
    op_name: the name that jax gave it, with the path of modules.
    trip_count: turns, taken to be counted from 0 as `jax.lax.scan` and
      `fori_loop` do; None: not known to the compiler.
  """

  computation: str
  op_name: str
  trip_count: int | None


class Collective(NamedTuple):
  """A transfer among devices.

  Attributes:
    kind: one of `COLLECTIVES`.
    dtypes: dtypes of its results as HLO names them: 'bf16', 'f32'.
    num_bytes: bytes of its results on a device.
    loops: the loops that it is in, outermost first.
    op_name: the name that jax gave the operation that it is for.
  """

  kind: str
  dtypes: tuple[str, ...]
  num_bytes: int
  loops: tuple[Loop, ...]
  op_name: str


class Product(NamedTuple):
  """A product of matrices, or a convolution, which TPUs multiply with.

  Attributes:
    operands: dtypes of both operands.
    result: dtype of the result.
    loops: the loops that it is in, outermost first.
    op_name: the name that jax gave it, with the path of modules.
  """

  operands: tuple[str, str]
  result: str
  loops: tuple[Loop, ...]
  op_name: str


class Kernel(NamedTuple):
  """A call of code that is not HLO.

  Attributes:
    target: its name: 'tpu_custom_call' is Mosaic's, '__cudnn...' cuDNN's.
    loops: the loops that it is in, outermost first.
    op_name: the name that jax gave it, with the path of modules.
  """

  target: str
  loops: tuple[Loop, ...]
  op_name: str


class Program(NamedTuple):
  """The operations of a program that a reader asks about."""

  collectives: list[Collective]
  products: list[Product]
  kernels: list[Kernel]


class _Instruction(NamedTuple):
  """A line of a computation; `rest` is what stands after the opcode."""

  name: str
  result: str
  opcode: str
  rest: str
  is_root: bool

  @property
  def operands(self) -> list[str]:
    """Returns the names between the parentheses."""
    return _OPERAND.findall(self.rest[: _end(self.rest)])

  @property
  def op_name(self) -> str:
    """Returns the name in the metadata, '' without one."""
    return attribute(self.rest, 'op_name="([^"]*)"') or ''


def read(text: str) -> Program:
  """Reads a program's text, as `jax.stages.Compiled.as_text` returns it."""
  computations, entry = parse(text)
  program, channels = Program([], [], []), set()
  for instruction, loops, types in _walk(computations, entry, ()):
    place = loops, instruction.op_name
    if kind := _kind(instruction):
      channel = attribute(instruction.rest, r'channel_id=(\d+)')
      if channel is None or (channel, loops) not in channels:
        channels.add((channel, loops))
        dtypes = tuple(dict.fromkeys(_dtypes(instruction.result)))
        num_bytes = result_bytes(instruction.result)
        program.collectives.append(Collective(kind, dtypes, num_bytes, *place))
    elif instruction.opcode == 'custom-call':
      target = attribute(instruction.rest, 'custom_call_target="([^"]*)"')
      if target.startswith(_GEMMS):
        program.products.append(_product(instruction, types, place))
      else:
        program.kernels.append(Kernel(target, *place))
    elif instruction.opcode in ('dot', 'convolution'):
      program.products.append(_product(instruction, types, place))
  return program


def result_bytes(result: str) -> int:
  """Returns the bytes of a result's type, the sum of a tuple's.

  >>> result_bytes('(bf16[2,512]{1,0:T(8,128)}, f32[])')
  2052
  """
  num_bits = 0
  for dtype, sizes in _SHAPE.findall(result):
    bits = _bits(dtype)
    for size in sizes.replace('<=', '').split(','):
      bits *= int(size) if size else 1
    num_bits += bits
  return -(-num_bits // 8)


@functools.cache
def _bits(dtype: str) -> int:
  """Returns the bits of a number: 16 of 'bf16', 8 of 'f8e4m3fn'."""
  if dtype in _BITS:
    return _BITS[dtype]
  return int(re.sub(r'^[a-z]+', '', dtype).split('e')[0].split('m')[0])


def _dtypes(result: str) -> list[str]:
  return [dtype for dtype, _ in _SHAPE.findall(result)]


def _kind(instruction: _Instruction) -> str | None:
  """Returns the kind of a collective; None for others, and for its start."""
  kind = instruction.opcode.removesuffix('-done')
  return kind if kind in COLLECTIVES else None


def _product(instruction, types, place) -> Product:
  """Makes a product of a line; `types` are those of its computation."""
  lhs, rhs = (_dtypes(types[name])[0] for name in instruction.operands[:2])
  return Product((lhs, rhs), _dtypes(instruction.result)[0], *place)


def _walk(
  computations, name: str, loops: tuple[Loop, ...]
) -> Iterator[tuple[_Instruction, tuple[Loop, ...], dict[str, str]]]:
  """Yields what a computation runs: each line, its loops, and all types."""
  instructions = computations[name]
  types = {line.name: line.result for line in instructions}
  for line in instructions:
    yield line, loops, types
    if line.opcode == 'while':
      body = attribute(line.rest, r'body=%?([\w.\-]+)')
      loop = Loop(body, line.op_name, trip_count(line, computations))
      yield from _walk(computations, body, (*loops, loop))
    elif line.opcode not in _APPLYING:
      for called in callees(line):
        if called.startswith(_SCATTERING):
          yield _reduce_scatter(line, computations[called]), loops, types
        elif called in computations:
          yield from _walk(computations, called, loops)


def _reduce_scatter(fusion: _Instruction, lines) -> _Instruction:
  """Makes a reduce-scatter of a fusion and of the lines that it calls."""
  [reduction] = [line for line in lines if line.opcode == 'all-reduce']
  channel = attribute(reduction.rest, r'(channel_id=\d+)')
  rest = f'{fusion.rest}, {channel}'
  return fusion._replace(opcode='reduce-scatter', rest=rest)


# They apply a function of two numbers, which has none of what is looked for.
_APPLYING = (
  *COLLECTIVES, *(f'{kind}-start' for kind in COLLECTIVES),
  'reduce', 'reduce-window', 'scatter', 'select-and-scatter', 'sort', 'map',
)  # fmt: skip


def callees(line: _Instruction) -> list[str]:
  """Returns the computations that a line calls."""
  groups = _CALLED.findall(line.rest[_end(line.rest) :])
  return [name for group in groups for name in re.findall(r'[\w.\-]+', group)]


def trip_count(line: _Instruction, computations) -> int | None:
  """Returns the turns of a loop: known, or those of `i < constant`."""
  known = attribute(line.rest, r'"known_trip_count":\{"n":"(\d+)"')
  if known is not None:
    return int(known)
  condition = attribute(line.rest, r'condition=%?([\w.\-]+)')
  lines = {other.name: other for other in computations[condition]}
  [root] = [other for other in lines.values() if other.is_root]
  if root.opcode != 'compare' or 'direction=LT' not in root.rest:
    return None
  counter, limit = (lines[name] for name in root.operands)
  is_counted = counter.opcode == 'get-tuple-element'
  if not is_counted or limit.opcode != 'constant':
    return None
  return int(limit.rest[: _end(limit.rest)])


def attribute(rest: str, pattern: str) -> str | None:
  """Returns the group of a pattern's first match, None without one."""
  match = re.search(pattern, rest)
  return match and match[1]


def _end(rest: str) -> int:
  """Returns the index of the parenthesis that closes the operands."""
  depth = 1
  for match in re.finditer(r'[()]', rest):
    depth += 1 if match[0] == '(' else -1
    if depth == 0:
      return match.start()
  return len(rest)


def parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
  """Returns the lines of all computations, and the name of the entry."""
  computations: dict[str, list[_Instruction]] = {}
  entry, lines = '', []
  for text_line in text.splitlines():
    if head := _HEAD.match(text_line):
      lines = computations[head[2]] = []
      if head[1]:
        entry = head[2]
    elif match := _INSTRUCTION.match(text_line):
      if instruction := _instruction(match):
        lines.append(instruction)
  if not entry:
    raise ValueError(
      f'HLO: got a text without an entry: {text[:60]!r}; expected that of '
      '`compiled.as_text()`'
    )
  return computations, entry


def _instruction(match) -> _Instruction | None:
  """Splits a line into result, opcode and the rest."""
  is_root, name, line = match.groups()
  if line.startswith('('):
    size = _end(line[1:]) + 2
  else:
    size = line.find(' ')
  opcode = _OPCODE.match(line, size)
  if not opcode:
    return None
  rest = line[opcode.end() :]
  return _Instruction(name, line[:size], opcode[1], rest, bool(is_root))
