"""Bytes that a loop of a compiled program moves to and from a TPU's memory.

Each operation reads its operands and writes its result, unless they are in the
memory of the cores (`S(1)`); what is copied there is read once, by the copy.
An update in place writes what is new, and a lookup reads what it finds.
"""

import re

from critic_jax.plan import hlo

_FREE = (
  'after-all', 'bitcast', 'constant', 'get-tuple-element', 'iota',
  'opt-barrier', 'parameter', 'partition-id', 'tuple',
)  # fmt: skip
_ARRAY = re.compile(r'\b([a-z]+\d*\w*\[[^\]]*\])(\{[^}]*\})?')
_LOOKUPS = 'gather', 'dynamic-slice'


def loop_bytes(text):
  """Returns the bytes of one turn of the one loop of a program's entry."""
  computations, entry = hlo._parse(text)
  [loop] = [line for line in computations[entry] if line.opcode == 'while']
  return _turn(loop, computations)


def copies_in_loops(text):
  """Lists the bytes of what is copied in each turn of a loop."""
  computations, entry = hlo._parse(text)
  return [
    hlo.result_bytes(line.result)
    for line, loops, _ in hlo._walk(computations, entry, ())
    if loops and line.opcode == 'copy'
  ]


def array_bytes(result):
  """Returns the bytes of a type's arrays that are in a device's memory."""
  return sum(
    hlo.result_bytes(array)
    for array, layout in _ARRAY.findall(result)
    if 'S(1)' not in layout
  )


def _turn(loop, computations):
  body = hlo._attribute(loop.rest, r'body=%?([\w.\-]+)')
  return _all(body, computations)


def _all(name, computations):
  lines = computations[name]
  types = {line.name: line.result for line in lines}
  return sum(_one(line, types, computations) for line in lines)


def _one(line, types, computations):
  """Returns the bytes of an operation."""
  kind = line.opcode
  operands = [types[name] for name in line.operands if name in types]
  if kind in _FREE or kind.endswith('-done'):
    return 0
  if kind == 'while':
    return hlo._trip_count(line, computations) * _turn(line, computations)
  if kind == 'conditional':  # the branch that moves most
    return max(_all(name, computations) for name in hlo._called(line))
  if kind == 'call':
    return sum(_all(name, computations) for name in hlo._called(line))
  if kind == 'dynamic-update-slice':
    return 2 * array_bytes(operands[1])
  if kind in _LOOKUPS:
    return 2 * array_bytes(line.result)
  if kind.endswith('-start'):  # its result names the operand, too
    return array_bytes(line.result)
  if kind == 'fusion':
    return _of_fusion(line, operands, computations[hlo._called(line)[0]])
  return array_bytes(line.result) + sum(map(array_bytes, operands))


def _of_fusion(line, operands, lines):
  """Returns the bytes of a fusion, whose operations keep what is between."""
  by_name = {inner.name: inner for inner in lines}

  def source(inner):
    while inner.opcode == 'bitcast':
      inner = by_name[inner.operands[0]]
    return inner

  [root] = [inner for inner in lines if inner.is_root]
  names = root.operands if root.opcode == 'tuple' else [root.name]
  updates = [
    inner
    for inner in (source(by_name[name]) for name in names)
    if inner.opcode == 'dynamic-update-slice'
  ]
  in_place = {source(by_name[u.operands[0]]).name for u in updates}
  total = sum(array_bytes(by_name[u.operands[1]].result) for u in updates)
  total += 0 if updates else array_bytes(line.result)
  parameters = [inner for inner in lines if inner.opcode == 'parameter']
  for parameter in parameters:
    operand = operands[int(parameter.rest.split(')')[0])]
    users = [inner for inner in lines if parameter.name in inner.operands]
    if parameter.name in in_place:
      continue
    if all(u.opcode in _LOOKUPS and u.operands[0] == parameter.name
           for u in users):  # fmt: skip
      found = sum(array_bytes(u.result) for u in users)
      total += min(found, array_bytes(operand))
    else:
      total += array_bytes(operand)
  return total
