"""The processes in a sandbox: a program in one, its tests in another.

The tests' process holds the tests and calls the program through a pipe; the
program's process holds the program and answers calls. Arguments and results
cross as plain data (`encode`), and anything else stays behind as a numbered
object that can be called, read and counted from afar. So the program sees the
arguments of calls, as any function does, but no expected value: the tests are
not in its memory, nor on its disk, nor up its stack. A message that it writes
into its pipe can only be a return value, and numbers, texts and lists are
compared as python's own.

`sandbox.start` gives the text of this module to a bare python, so it imports
the standard library only. Messages are length-prefixed JSON.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import ctypes
import json
import os
import random
import resource
import signal
import struct
import sys
import types
from collections.abc import Callable
from typing import Any, BinaryIO

LENGTH = struct.Struct('>I')  # bytes of the message that follows
_PLAIN = (str, float, bool, type(None))
_MAX_ITEMS = 1_000_000  # of something that is iterated from afar
_SMALL = 2**63  # larger integers cross in hexadecimal: no limit on digits

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_CHILD_SUBREAPER = 1, 22, 36
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2


# ------------------------------------------------------------------ limits


class _Filter(ctypes.Structure):
  """The kernel's `struct sock_fprog`."""

  _fields_ = [('size', ctypes.c_ushort), ('program', ctypes.c_char_p)]


def confine(limits: dict[str, int], syscall_filter: bytes = b'') -> None:
  """Limits this process for good.

  Args:
    limits: names in `resource` without 'RLIMIT_', e.g. {'AS': 2**29}.
    syscall_filter: a result of `syscalls.make_filter`; b'' for none.

  Raises:
    OSError: the kernel refused.
  """
  for name, limit in limits.items():
    kind = getattr(resource, f'RLIMIT_{name}')
    hard = resource.getrlimit(kind)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, limit))
  _prctl(_PR_SET_NO_NEW_PRIVS, 1)
  if syscall_filter:
    program = _Filter(len(syscall_filter) // 8, syscall_filter)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))


def adopt_orphans() -> None:
  """Makes this process the parent of its children's orphans."""
  _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, *values: Any) -> None:
  libc = ctypes.CDLL(None, use_errno=True)
  values = [ctypes.c_ulong(v) if isinstance(v, int) else v for v in values]
  zeros = [ctypes.c_ulong(0)] * (4 - len(values))
  if libc.prctl(option, *values, *zeros):
    code = ctypes.get_errno()
    raise OSError(code, f'prctl {option}: {os.strerror(code)}')


# ---------------------------------------------------------------- messages


def write(file: BinaryIO, message: Any) -> None:
  """Writes a message; ASCII, so that lone surrogates are escaped."""
  data = json.dumps(message).encode()
  file.write(LENGTH.pack(len(data)) + data)
  file.flush()


def read(file: BinaryIO) -> Any:
  """Reads the next message; None at the end of the file."""
  head = file.read(LENGTH.size)
  if len(head) < LENGTH.size:
    return None
  return json.loads(file.read(LENGTH.unpack(head)[0]))


def encode(value: Any, keep: Callable[[Any], int]) -> Any:
  """Returns a value as JSON: plain data, or the number that `keep` gives it.

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
  return {'object': keep(value)}


def decode(message: Any, find: Callable[[int], Any]) -> Any:
  """Returns the value that `encode` made a message of, in python's types."""
  if isinstance(message, list):
    return [decode(item, find) for item in message]
  if not isinstance(message, dict):
    return message
  [(kind, content)] = message.items()
  if kind == 'object':
    return find(content)
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


# ------------------------------------------------------------- the program


def serve_program(requests: BinaryIO, responses: BinaryIO) -> None:
  """Runs a program, then answers requests until the pipe ends."""
  objects: list[Any] = []

  def keep(value):
    objects.append(value)
    return len(objects) - 1

  def find(target):
    if isinstance(target, int):
      return objects[target]
    if target in vars(module):
      return vars(module)[target]
    raise NameError(target)

  module = types.ModuleType('program')
  sys.modules['program'] = module
  random.seed(0)

  def do(request):
    if isinstance(request, dict):
      for name in ('prelude', 'program'):
        exec(_compile(request[name], name), vars(module))
      return None
    operation, target, *values = request
    return _OPERATIONS[operation](find(target), *decode(values, find))

  while (request := read(requests)) is not None:
    try:
      answer = {'value': encode(do(request), keep)}
    except BaseException as error:  # SystemExit as well: it ends no grading
      answer = {'error': type(error).__name__}
    write(responses, answer)


def _compile(source: str, name: str) -> types.CodeType:
  return compile(source, name, 'exec', dont_inherit=True)


def _first_items(value: Any) -> list[Any]:
  items = []
  for item in value:
    items.append(item)
    if len(items) > _MAX_ITEMS:
      raise OverflowError('too many items')
  return items


_OPERATIONS = {
  'value': lambda value: value,
  'call': lambda value, args, named: value(*args, **named),
  'get': getattr,
  'set': setattr,
  'items': _first_items,
  'next': next,
  'len': len,
  'item': lambda value, key: value[key],
  'bool': bool,
  'str': str,
}


# --------------------------------------------------------------- the tests


def serve_tests(requests: BinaryIO, responses: BinaryIO) -> None:
  """Runs tests of a program that is called through the pipe.

  It writes `['ask', request]`, a request to the program, any number of times,
  and at last `['verdict', whether all tests passed]`.
  """
  tests = read(requests)

  def ask(operation, target, *values):
    message = [operation, target, *(encode(v, _number) for v in values)]
    write(responses, ['ask', message])
    answer = read(requests)
    if 'error' in answer:
      raise _error(answer['error'])
    return decode(answer['value'], lambda number: Remote(ask, number))

  passed = True
  try:
    _run_tests(tests, ask)
  except BaseException:  # an assertion, or any error of the program
    passed = False
  write(responses, ['verdict', passed])


def _run_tests(tests: dict[str, Any], ask: Callable) -> None:
  scope = {'__name__': 'tests'}
  exec(_compile(tests['prelude'], 'prelude'), scope)
  sources = [tests['setup'], *tests['tests']]
  for source in sources:
    for name in _names(source) - {*scope, *vars(builtins)}:
      with contextlib.suppress(NameError):  # a test defines it itself
        scope[name] = ask('value', name)
  if tests['entry_point']:
    scope[tests['entry_point']] = ask('value', tests['entry_point'])
  for source in sources:
    exec(_compile(source, 'tests'), scope)


def _names(source: str) -> set[str]:
  """Returns the names that a source reads."""
  return {
    node.id
    for node in ast.walk(ast.parse(source))
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
  }


def _error(name: Any) -> Exception:
  """Returns the built-in exception of a name, or a RuntimeError."""
  kind = vars(builtins).get(name) if isinstance(name, str) else None
  if isinstance(kind, type) and issubclass(kind, Exception):
    with contextlib.suppress(TypeError):  # UnicodeDecodeError wants arguments
      return kind()
  return RuntimeError(name)


def _number(value: Any) -> Any:
  if type(value) is Remote:
    return object.__getattribute__(value, '_number')
  raise TypeError("only plain data and the program's own can be given to it")


class Remote:
  """An object of the program, as it appears in the tests' process.

  It equals itself only. The program answers for all its other properties, and
  may answer anything, as a function may return anything.
  """

  def __init__(self, ask: Callable, number: int):
    object.__setattr__(self, '_ask', ask)
    object.__setattr__(self, '_number', number)

  def _do(self, operation: str, *values: Any) -> Any:
    return self._ask(operation, self._number, *values)

  def __call__(self, *args: Any, **named: Any) -> Any:
    """Calls the object in the program's process."""
    return self._do('call', list(args), named)

  def __getattr__(self, name: str) -> Any:
    if name.startswith('__'):
      raise AttributeError(name)
    return self._do('get', name)

  def __setattr__(self, name: str, value: Any) -> None:
    self._do('set', name, value)

  def __iter__(self) -> Any:
    return iter(self._do('items'))

  def __next__(self) -> Any:
    return self._do('next')

  def __len__(self) -> int:
    return self._do('len')

  def __getitem__(self, key: Any) -> Any:
    return self._do('item', key)

  def __bool__(self) -> bool:
    return self._do('bool')

  def __str__(self) -> str:
    return self._do('str')


# -------------------------------------------------------------------- main


def main(role: str, settings: str) -> None:
  """Runs a process in the sandbox; its standard streams become the pipe.

  Args:
    role: 'program' or 'tests'.
    settings: JSON of `limits` and, in hexadecimal, `filter` for `confine`.
  """
  requests, responses = os.fdopen(os.dup(0), 'rb'), os.fdopen(os.dup(1), 'wb')
  settings = json.loads(settings)
  null = os.open('/dev/null', os.O_RDWR)
  _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  confine(settings['limits'], bytes.fromhex(settings['filter']))
  for stream in range(3):  # prints go nowhere, and nothing is read
    os.dup2(null, stream)
  write(responses, 'ready')
  {'program': serve_program, 'tests': serve_tests}[role](requests, responses)


if __name__ == '__main__':
  main(*sys.argv[1:])
