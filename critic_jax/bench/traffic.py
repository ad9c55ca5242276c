"""Bytes that a compiled program moves, counted in its optimised HLO.

A compiler's own count takes a loop for one turn. Here an operation counts as
often as its loops turn, by the bytes of its operands and results in the
device's main memory: not those that the compiler keeps in faster memory (`S(1)`
in their layout), nor what is only viewed or passed on. A slice counts as long
as it is, also inside a fusion, and so does an update of a slice in place. A
collective that runs beside the fusions of its channel counts once, even where
they are in the bodies of several loops.
"""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from critic_jax.plan import hlo

_FREE = frozenset([
  'after-all', 'bitcast', 'constant', 'get-tuple-element', 'iota',
  'opt-barrier', 'parameter', 'partition-id', 'replica-id', 'tuple',
])  # fmt: skip
_SLICES = ('dynamic-slice', 'gather', 'slice')
_FAST = re.compile(r'\b\w+\[[^\]]*\]\{[^}]*S\([1-9]\d*\)[^}]*\}')


class _Run(NamedTuple):
  """The program, and where its run is.

  Attributes:
    computations: lines by the name of the computation.
    spread: the bytes of collectives that count once, by channel; filled in.
    turns: those of a loop whose turns are not known.
  """

  computations: Mapping[str, Sequence]
  spread: dict[str, int]
  turns: float = 1


def count(text: str) -> int:
  """Counts the bytes that one device reads and writes in a run.

  A branch counts as the dearest. A loop whose turns are not known is taken to
  turn half as often as the loop that it is in, as causal attention does.

  Args:
    text: optimised HLO, of `compiled.as_text()`.
  """
  computations, entry = hlo.parse(text)
  return _count(computations, entry)


def count_turn(text: str) -> int:
  """Counts the bytes of one turn of a program's one loop, as of a token.

  Args:
    text: optimised HLO of a program whose entry has one loop.
  """
  computations, entry = hlo.parse(text)
  [loop] = [line for line in computations[entry] if line.opcode == 'while']
  return _count(computations, hlo.attribute(loop.rest, r'body=%?([\w.\-]+)'))


def _count(computations, name) -> int:
  run = _Run(computations, dict.fromkeys(_spread(computations), 0))
  return round(_of_computation(run, name)) + sum(run.spread.values())


def _spread(computations) -> Iterator[str]:
  """Yields the channels whose fusions are in more than one computation."""
  homes: dict[str, set[str]] = collections.defaultdict(set)
  for name, lines in computations.items():
    for line in lines:
      called = hlo.callees(line) if line.opcode == 'fusion' else ()
      for inner in itertools.chain(*(computations[x] for x in called)):
        if inner.opcode in hlo.COLLECTIVES:
          homes[_channel(inner)].add(name)
  return (channel for channel, names in homes.items() if len(names) > 1)


def _channel(line) -> str:
  return hlo.attribute(line.rest, r'channel_id=(\d+)') or line.name


def _of_computation(run: _Run, name: str) -> float:
  """Counts the bytes of one run of a computation."""
  lines = run.computations[name]
  types = {line.name: line.result for line in lines}
  channels: set[str] = set()
  return sum(_of_line(run, line, types, channels) for line in lines)


def _of_line(run: _Run, line, types, channels) -> float:
  operands = [_size(types[name]) for name in line.operands if name in types]
  opcode = line.opcode
  if opcode in _FREE:
    return 0
  if opcode == 'while':
    body = hlo.attribute(line.rest, r'body=%?([\w.\-]+)')
    known = hlo.trip_count(line, run.computations)
    turns = run.turns if known is None else known
    inside = run._replace(turns=(1 + turns) / 2)
    return turns * _of_computation(inside, body)
  if opcode in ('call', 'conditional'):
    counts = [_of_computation(run, name) for name in hlo.callees(line)]
    return sum(counts) if opcode == 'call' else max(counts)
  if opcode == 'fusion':
    [called] = hlo.callees(line)
    return _of_fusion(run, run.computations[called], operands, channels)
  if opcode.endswith('-start'):
    return sum(operands)  # its result is read by the operation that ends it
  if opcode.endswith('-done'):
    return _size(line.result)
  if opcode in _SLICES:
    return 2 * _size(line.result)
  if opcode == 'dynamic-update-slice':
    return 2 * operands[1]
  return sum(operands) + _size(line.result)


def _of_fusion(
  run: _Run, lines: Sequence, operands: Sequence[int], channels: set[str]
) -> int:
  """Counts what a fusion reads of its operands, and what it writes.

  Args:
    run: the program.
    lines: those of the fusion.
    operands: the bytes of each operand.
    channels: those of other collectives that were counted; added to.
  """
  by_name = {line.name: line for line in lines}
  [root] = [line for line in lines if line.is_root]
  roots = [root]
  if root.opcode == 'tuple':
    roots = [by_name[name] for name in root.operands]
  total = sum(_written(line, by_name) for line in roots)
  for line in lines:
    if line.opcode == 'parameter':
      whole = operands[_number(line)]
      total += min(whole, _read(line, lines, run.computations))
    elif line.opcode in hlo.COLLECTIVES:
      channel = _channel(line)
      sources = [by_name[name] for name in line.operands if name in by_name]
      moved = sum(_size(x.result) for x in (line, *sources))
      if channel in run.spread:
        run.spread[channel] = moved
      elif channel not in channels:
        channels.add(channel)
        total += moved
  return total


def _written(line, by_name: Mapping) -> int:
  """Returns the bytes that a root writes: its own, or an update's."""
  while line.opcode in ('bitcast', 'copy') and line.operands[0] in by_name:
    line = by_name[line.operands[0]]
  if line.opcode == 'dynamic-update-slice':
    return _size(by_name[line.operands[1]].result)
  if line.opcode == 'parameter' or line.opcode in hlo.COLLECTIVES:
    return 0
  return _size(line.result)


def _number(parameter) -> int:
  """Returns the place of a parameter among those of its computation."""
  return int(parameter.rest.split(')')[0])


def _read(parameter, lines, computations) -> int:
  """Returns the bytes that are read of a fusion's operand."""
  total, names = 0, [parameter.name]
  while names:
    name = names.pop()
    for line in lines:
      if name not in line.operands:
        continue
      if line.opcode in hlo.COLLECTIVES or (
        line.opcode == 'tuple' and line.is_root
      ):
        continue
      if line.opcode == 'bitcast':
        names.append(line.name)
      elif line.opcode in _SLICES and line.operands[0] == name:
        total += _size(line.result)
      elif line.opcode == 'dynamic-update-slice' and line.operands[0] == name:
        continue  # only its slice is written
      elif line.opcode == 'fusion':  # one inside the fusion, on TPUs
        [called] = hlo.callees(line)
        inner = computations[called]
        if {x.opcode for x in inner} <= {'parameter', 'bitcast'}:
          names.append(line.name)
          continue
        total += sum(
          _read(x, inner, computations)
          for x in inner
          if x.opcode == 'parameter' and line.operands[_number(x)] == name
        )
      else:
        return _size(parameter.result)
  return total


def _size(result: str) -> int:
  """Returns the bytes of a type that are in the device's main memory."""
  return hlo.result_bytes(_FAST.sub('', result))
