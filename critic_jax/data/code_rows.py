"""Rows of MBPP and HumanEval, whose answers are unit tests.

Each function reads a published row and returns (question, answer, solution):
the answer is a reference of `execution.code`, the solution a program in a
block. The question shows a call of the function without its result, since a
program that repeats a result from the question would pass.

`uncomparable` says which values in tests the grader cannot compare or give to a
program, so that a file that has some is reported when it is loaded.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import json
import operator
import warnings
from collections.abc import Iterator

from critic_jax.data import rows
from critic_jax.execution import code


def mbpp(row: rows.Row) -> tuple[str, str, str]:
  """Reads a row of MBPP (https://arxiv.org/abs/2108.07732), also sanitised.

  Its fields: `text` (or `prompt`), `code`, `test_list`; optional are
  `challenge_test_list`, and `test_setup_code` or `test_imports`.
  """
  question = rows.first_text(row, 'text', 'prompt')
  tests = rows.texts(row, 'test_list')
  if rows.get(row, 'challenge_test_list'):
    tests += rows.texts(row, 'challenge_test_list')
  setup = _source(row, 'test_setup_code', default='')
  if rows.get(row, 'test_imports'):
    setup = '\n'.join([*rows.texts(row, 'test_imports'), setup])
  program = _source(row, 'code')
  # Functions that are named like python's own: `def sum(a, b)`.
  own = sorted(_defined(program) & vars(builtins).keys())
  answer = code.reference(tests, setup=setup, entry_points=own)
  # Paper: three tests with their results are shown; here: one call without.
  if call := _call(tests[0], own):
    question += f'\n\nIt is called like this: `{call}`'
  return question, answer, _block(program)


def humaneval(row: rows.Row) -> tuple[str, str, str]:
  """Reads a row of HumanEval (https://arxiv.org/abs/2107.03374).

  Its fields: `prompt`, `entry_point`, `canonical_solution`, `test`: a function
  `check`. A program is whole, not a completion; it may leave out parts that the
  prompt has.
  """
  prompt, entry_point = _source(row, 'prompt'), rows.text(row, 'entry_point')
  if not entry_point.isidentifier():
    raise ValueError(f'entry_point: got {entry_point!r}; expected a name')
  answer = code.reference(
    [_source(row, 'test'), f'check({entry_point})'],
    prelude=prompt,
    entry_points=[entry_point],
  )
  solution = prompt + _source(row, 'canonical_solution')
  return prompt.strip(), answer, _block(solution)


def _source(row: rows.Row, field: str, *, default: str | None = None) -> str:
  """Returns a field of python, not stripped: its indentation counts."""
  value = rows.get(row, field)
  if default is not None and value in (None, ''):
    return default
  rows.text(row, field)  # raises if it is none
  return value.replace('\r\n', '\n')


def _block(source: str) -> str:
  return f'```python\n{source.strip()}\n```'


def _call(test: str, own: list[str]) -> str | None:
  """Returns the outermost call in a test that is not of a built-in, or None."""
  for node in ast.walk(ast.parse(test)):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
      if node.func.id in own or not hasattr(builtins, node.func.id):
        return ast.unparse(node)
  return None


def _defined(program: str) -> set[str]:
  """Returns the functions and classes that a program defines at its top."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # about escapes in somebody's program
      nodes = ast.parse(program).body
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return set()  # e.g. Python 2's
  kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
  return {node.name for node in nodes if isinstance(node, kinds)}


# ------------------------------------------------------------------ values

# Modules whose results are plain data or cross as values
# (execution/plain_data).
_PLAIN_MODULES = frozenset(
  'math cmath fractions decimal datetime collections itertools functools'
  ' operator statistics string random copy json bisect heapq typing re sys'
  ' time os'.split()
)
# Of these, values that do not cross.
_NOT_PLAIN = frozenset('compile finditer match search fullmatch'.split())


def uncomparable(reference: str) -> list[str]:
  """Returns values in tests that no program can return, or be given.

  Args:
    reference: a result of `code.reference`.

  Returns:
    Python expressions: instances of a class that the tests define, or values of
    modules that are not of the standard library (`np.array([1])`), where they
    are compared with a result or are arguments of the program.
  """
  tests = json.loads(reference)
  sources = [tests['setup'], *tests['tests']]
  prelude = ast.parse(tests['prelude'])
  trees = [prelude, *map(ast.parse, sources)]
  foreign = {name for tree in trees for name in _foreign(tree)}
  known = {name for tree in trees for name in _bound(tree)} | set(foreign)
  known = (known | vars(builtins).keys()) - set(tests['entry_points'])
  expressions = []
  for tree in trees[1:]:
    for value in _values_beside_calls(tree, known):
      expressions += [
        ast.unparse(node)
        for node in ast.walk(value)
        if isinstance(node, ast.Call) and _is_foreign(node.func, foreign)
      ]
  return list(dict.fromkeys(expressions))


def _is_foreign(function: ast.expr, foreign: set[str]) -> bool:
  """Whether the results of a function do not cross."""
  attribute = getattr(function, 'attr', '')
  root = _root(function)
  return root in foreign | {'object'} or (
    root == 're' and attribute in _NOT_PLAIN
  )


def _foreign(tree: ast.Module) -> Iterator[str]:
  """Yields names of modules, their contents and classes that do not cross."""
  for node in ast.walk(tree):
    if isinstance(node, ast.ClassDef):
      yield node.name
    elif isinstance(node, ast.Import):
      for alias in node.names:
        if alias.name.split('.')[0] not in _PLAIN_MODULES:
          yield (alias.asname or alias.name).split('.')[0]
    elif isinstance(node, ast.ImportFrom):
      is_plain = (node.module or '').split('.')[0] in _PLAIN_MODULES
      for alias in node.names:
        if not is_plain or alias.name in _NOT_PLAIN:
          yield alias.asname or alias.name


def _bound(tree: ast.Module) -> Iterator[str]:
  """Yields the names of functions and modules that a source defines."""
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
      for alias in node.names:
        yield (alias.asname or alias.name).split('.')[0]


def _values_beside_calls(tree: ast.Module, known) -> Iterator[ast.expr]:
  """Yields arguments of calls of the program, and what results must equal."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Call) and _root(node.func) not in {None, *known}:
      yield from node.args
      yield from (keyword.value for keyword in node.keywords)
    elif isinstance(node, ast.Compare):
      sides = [node.left, *node.comparators]
      calls = [
        any(
          isinstance(part, ast.Call) and _root(part.func) not in {None, *known}
          for part in ast.walk(side)
        )
        for side in sides
      ]
      if any(calls):
        yield from itertools.compress(sides, map(operator.not_, calls))


def _root(node: ast.expr) -> str | None:
  """Returns the first name of `a.b.c`."""
  while isinstance(node, ast.Attribute):
    node = node.value
  return node.id if isinstance(node, ast.Name) else None
