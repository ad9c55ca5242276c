"""Plain data <-> JSON, for what programs and their tests give to each other.

Numbers, texts, containers and some values of the standard library cross the
pipe between two processes (`code_host`) as what they are.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

_PLAIN = (str, float, bool, type(None))
_SMALL = 2**63  # larger integers cross in hexadecimal: no limit on digits
# Values of the standard library that cross as the arguments that make them. A
# subclass stands before its base.
_MADE = {
  'range': ('builtins', lambda value: [value.start, value.stop, value.step]),
  'deque': ('collections', lambda value: [list(value), value.maxlen]),
  'Fraction': ('fractions', lambda value: [value.numerator, value.denominator]),
  'Decimal': ('decimal', lambda value: [str(value)]),
  'timedelta': (
    'datetime',
    lambda value: [value.days, value.seconds, value.microseconds],
  ),
  'datetime': ('datetime', lambda value: [*value.timetuple()[:6],
                                          value.microsecond]),
  'date': ('datetime', lambda value: [value.year, value.month, value.day]),
}  # fmt: skip
# Types that a program may give to a test: nothing runs what they are given.
SAFE_TYPES = (
  'bool bytearray bytes complex dict float frozenset int list object range set'
  ' str tuple'
).split()


def encode(value: Any, keep: Callable[[Any], Any]) -> Any:
  """Returns a value as JSON: plain data, or the message that `keep` returns.

  An instance of a subclass of a plain type (Counter, namedtuple) is plain.
  """
  if isinstance(value, _PLAIN):
    return value
  if isinstance(value, int):
    return int(value) if abs(value) < _SMALL else {'int': hex(value)}
  if isinstance(value, list):
    return [encode(item, keep) for item in value]
  for kind in (tuple, set, frozenset):
    if isinstance(value, kind):
      return {kind.__name__: [encode(item, keep) for item in value]}
  if isinstance(value, dict):
    pairs = [[encode(k, keep), encode(v, keep)] for k, v in value.items()]
    return {'dict': pairs}
  if isinstance(value, bytes | bytearray):
    return {'bytes': value.hex()}
  if isinstance(value, complex):
    return {'complex': [value.real, value.imag]}
  for name, (module, arguments) in _MADE.items():
    kind = getattr(sys.modules.get(module), name, None)
    is_naive = getattr(value, 'tzinfo', None) is None
    if isinstance(kind, type) and isinstance(value, kind) and is_naive:
      return {name: encode(arguments(value), keep)}
  return keep(value)


def decode(message: Any, find: Callable[[str, Any], Any]) -> Any:
  """Returns the value that `encode` made a message of, in python's types.

  Args:
    message: what was read.
    find: (kind, content) of a message of `keep` -> the value.
  """
  if isinstance(message, list):
    return [decode(item, find) for item in message]
  if not isinstance(message, dict):
    return message
  [(kind, content)] = message.items()
  if kind in ('object', 'function', 'builtin', 'iterator'):
    return find(kind, content)
  if kind in _MADE:
    make = getattr(importlib.import_module(_MADE[kind][0]), kind)
    return make(*decode(content, find))
  if kind == 'int':
    return int(content, 16)
  if kind == 'bytes':
    return bytes.fromhex(content)
  if kind == 'complex':
    return complex(*content)
  items = decode(content, find)
  return {'tuple': tuple, 'set': set, 'frozenset': frozenset, 'dict': dict}[
    kind
  ](items)
