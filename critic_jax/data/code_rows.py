"""Rows of MBPP and HumanEval, whose answers are unit tests.

Each function reads a published row and returns (question, answer, solution):
the answer is a reference of `rewards.code`, the solution a program in a block.
The question shows a call of the function without its result, since a program
that repeats a result from the question would pass.
"""

from __future__ import annotations

import ast
import builtins

from critic_jax.data import rows
from critic_jax.rewards import code


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
  answer = code.reference(tests, setup=setup)
  # Paper: three tests with their results are shown; here: one call without.
  if call := _call(tests[0]):
    question += f'\n\nIt is called like this: `{call}`'
  return question, answer, _block(_source(row, 'code'))


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
    entry_point=entry_point,
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


def _call(test: str) -> str | None:
  """Returns the outermost call in a test that is not of a built-in, or None."""
  for node in ast.walk(ast.parse(test)):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
      if not hasattr(builtins, node.func.id):
        return ast.unparse(node)
  return None
