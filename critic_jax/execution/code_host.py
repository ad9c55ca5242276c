"""The processes in a sandbox: a program in one, its tests in another.

The tests' process holds the tests and calls the program through a pipe; the
program's process holds the program and answers calls. Arguments and results
cross as plain data (`encode`), and anything else stays behind as a numbered
object that can be called, read and counted from afar. A function that a test
gives to the program stays behind, too, and is called back. So the program sees
the arguments of calls, as any function does, but no expected value: the tests
are not in its memory, nor on its disk, nor up its stack. A message that it
writes into its pipe can only be a return value, or a call of a function that a
test gave to it, and numbers, texts and lists are compared as python's own.

`sandbox` gives the texts of this module and of `plain_data` to a bare python,
so they import the standard library only. Messages are length-prefixed JSON.
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

from critic_jax.execution.plain_data import SAFE_TYPES, decode, encode

LENGTH = struct.Struct('>I')  # bytes of the message that follows
_MAX_ITEMS = 1_000_000  # of something that is iterated from afar

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


# ------------------------------------------------------------- the program


def serve_program(requests: BinaryIO, responses: BinaryIO) -> None:
  """Runs a program, then answers requests until the pipe ends."""
  objects: list[Any] = []

  def keep(value):
    if isinstance(value, Function):
      return {'function': value.number}
    name = getattr(value, '__name__', None)
    if name in SAFE_TYPES and vars(builtins)[name] is value:
      return {'builtin': name}
    objects.append(value)
    return {'object': len(objects) - 1}

  def find(kind, content):
    if kind == 'function':
      return Function(content, call_back)
    if kind == 'builtin':
      return vars(builtins)[content]
    if kind == 'iterator':
      return iter(decode(content, find))
    return objects[content]

  def named(target):
    if isinstance(target, int):
      return objects[target]
    if target in vars(module):
      return vars(module)[target]
    raise NameError(target)

  def call_back(number, args, keywords):
    message = [number, encode(args, keep), encode(keywords, keep)]
    write(responses, {'call': message})
    kind, content = serve()
    if kind == 'raise':
      raise _error(content)
    return decode(content, find)

  module = types.ModuleType('program')
  sys.modules['program'] = module
  random.seed(0)

  def do(request):
    if isinstance(request, dict):
      for name in ('prelude', 'program'):
        exec(_compile(request[name], name), vars(module))
      return None
    operation, target, *values = request
    return _OPERATIONS[operation](named(target), *decode(values, find))

  def serve():
    while (request := read(requests)) is not None:
      if isinstance(request, list) and request[0] in ('return', 'raise'):
        return request  # of a call back
      try:
        answer = {'value': encode(do(request), keep)}
      except BaseException as error:  # SystemExit as well: it ends no grading
        answer = {'error': type(error).__name__}
      write(responses, answer)
    return 'raise', 'EOFError'

  serve()


class Function:
  """A function of the tests, as it appears in the program's process."""

  def __init__(self, number: int, call_back: Callable):
    self.number, self._call_back = number, call_back

  def __call__(self, *args: Any, **named: Any) -> Any:
    """Calls the function in the tests' process."""
    return self._call_back(self.number, list(args), named)


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
  tests, functions = read(requests), []

  def find(kind, content):
    if kind == 'object':
      return Remote(ask, content)
    if kind == 'function':
      return functions[content]
    if kind == 'builtin' and content in SAFE_TYPES:
      return vars(builtins)[content]
    raise TypeError(kind)

  def keep(value):
    if type(value) is Remote:
      return {'object': object.__getattribute__(value, '_number')}
    name = getattr(value, '__name__', None)
    if isinstance(name, str) and vars(builtins).get(name) is value:
      return {'builtin': name}
    if callable(value):
      functions.append(value)
      return {'function': len(functions) - 1}
    if hasattr(value, '__next__'):
      return {'iterator': [encode(v, keep) for v in _first_items(value)]}
    raise TypeError("only plain data and the program's own can be given to it")

  def called(number, args, keywords):
    try:
      value = functions[number](*decode(args, find), **decode(keywords, find))
      return ['return', encode(value, keep)]
    except Exception as error:
      return ['raise', type(error).__name__]

  def ask(operation, target, *values):
    message = [operation, target, *(encode(v, keep) for v in values)]
    write(responses, ['ask', message])
    while 'call' in (answer := read(requests)):
      write(responses, ['ask', called(*answer['call'])])
    if 'error' in answer:
      raise _error(answer['error'])
    return decode(answer['value'], find)

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
  for name in tests['entry_points']:
    scope[name] = ask('value', name)
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
