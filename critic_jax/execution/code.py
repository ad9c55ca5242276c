r"""Programs as answers: graded by unit tests, in a sandbox.

The answer of a response is its last fenced block that is marked as python, or
the one before it if the last is example usage; the reference is a text that
`reference` makes of tests, such as those of MBPP and HumanEval. A program is
right if every test runs to its end without an exception. Program and tests run
in two processes behind the same walls (`sandbox`): the program is called
through a pipe and never sees a test (`code_host`), so neither `os._exit(0)`,
nor a printed verdict, nor an object that equals everything, nor reading the
tests scores. A program has python's standard library, one process and no
thread; tests compare its results as plain data.

Limits of these guarantees: a program that knows the tests by heart passes them,
and one that happens to pass is right. A test that passes the program's own
results back to it, or compares two of them, can be deceived by it.
"""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Sequence

from critic_jax.execution import sandbox

MAX_PROGRAM = 100_000  # characters; a longer program is none
IN_SANDBOX = True  # this module is a grader of `pool`
SLOWDOWN = 3  # on a busy machine, a second of computing takes at most so many

_OPEN = re.compile(
  r'([ \t]*)(`{3,})[ \t]*(?:python|py)3?[ \t\r]*', re.IGNORECASE
)
_CLOSE = re.compile(r'([ \t]*)(`{3,})[ \t\r]*')
# A block that defines something; `main` and tests of one's own are usage.
_DEFINES = re.compile(
  r'^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+(?!main\b|test_|Test)\w'
  r'|^\w+[ \t]*=[ \t]*lambda\b',
  re.M,
)


def extract(text: str) -> str | None:
  r"""Returns the program of a response: its last ```python block, or None.

  >>> extract('So:\n```python\nx = 1\n```\nDone.')
  'x = 1\n'

  If the last block defines no function and no class, it is example usage of the
  last block before it that does. A block may be indented as a whole. A last
  block that is not closed, empty or longer than `MAX_PROGRAM` is no program,
  and no earlier one replaces it: a text cut inside its program did not finish.
  Linear in the text's length.
  """
  last = program = fence = None
  for line in text.split('\n'):
    if fence is None:
      if fence := _OPEN.fullmatch(line):
        last, lines = None, []
    elif _closes(_CLOSE.fullmatch(line), fence):
      last = _dedented(lines, len(fence[1].expandtabs(4)))
      program = last if _DEFINES.search(last) else program
      fence = None
    else:
      lines.append(line)
  if fence or not last or not last.strip() or len(last) > MAX_PROGRAM:
    return None
  if _DEFINES.search(last) or not program or len(program) > MAX_PROGRAM:
    return last
  return program


def _closes(line: re.Match | None, fence: re.Match) -> bool:
  """Whether a line closes a block; a fence deeper inside it does not."""
  if not line or len(line[2]) < len(fence[2]):
    return False
  depths = [len(match[1].expandtabs(4)) for match in (line, fence)]
  return depths[0] <= depths[1] + 3


def _dedented(lines: Sequence[str], depth: int) -> str:
  """Joins lines, without the indentation of their fence if all have it."""
  texts = list(lines)
  for place, line in enumerate(lines) if depth else ():
    code = line.lstrip(' \t')
    edge = line[: len(line) - len(code)]  # tabs within the code stay
    texts[place] = edge.expandtabs(4) + code
  edge = ' ' * depth
  if all(text.startswith(edge) for text in texts if text.strip()):
    lines = [text[depth:] for text in texts]
  return ''.join(f'{line}\n' for line in lines)


def exact(program: str, reference: str) -> None:
  """Returns None: no program is graded without running it."""


def reference(
  tests: Sequence[str],
  *,
  setup: str = '',
  prelude: str = '',
  entry_points: Sequence[str] = (),
) -> str:
  """Makes the reference of a problem, a text, of its tests.

  Args:
    tests: python sources that run in order and in one scope.
    setup: runs before them; it may use the program, and only tests see it.
    prelude: runs before the setup and before the program, e.g. the imports and
      helpers of HumanEval's prompt.
    entry_points: names that are the program's in the tests even if the prelude
      or python itself defines them too (`def sum(a, b)`). Other names that
      tests read, and none of these defines, are the program's as well.

  Raises:
    ValueError: there are no tests, or one is not python.
  """
  if not tests:
    raise ValueError('tests: got none; expected one at least')
  for source in (prelude, setup, *tests):
    try:
      ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
      raise ValueError(
        f'tests: got {source[:80]!r}; expected python ({error})'
      ) from None
  return json.dumps(
    dict(
      prelude=prelude,
      setup=setup,
      tests=list(tests),
      entry_points=list(entry_points),
    )
  )


def is_reference(text: str) -> bool:
  """Whether `reference` made a text, which else is a final answer."""
  return text.startswith('{"prelude": ')


def single_tests(reference: str) -> list[str]:
  """Returns a reference for each test of a reference, with nothing but it.

  A test that needs what an earlier one left behind fails alone.

  Raises:
    ValueError: it is a final answer.
  """
  if not is_reference(reference):
    raise ValueError(
      f'answer: got {reference[:80]!r}; expected unit tests; share what passes '
      'of programs only'
    )
  whole = json.loads(reference)
  return [json.dumps({**whole, 'tests': [test]}) for test in whole['tests']]


def decide(
  program: str, reference: str, *, deadline_s: float, walls: sandbox.Walls
) -> str:
  """Grades a program by its tests: 'right', 'wrong' or 'timeout'.

  A program that computes for longer than `deadline_s` is wrong, as one with an
  endless loop is. The time that it waits for a processor, or sleeps, says
  nothing about it: a timeout is what is not decided after `SLOWDOWN` times as
  many seconds by the clock.

  Args:
    program: a result of `extract`.
    reference: a result of `reference`.
    deadline_s: seconds that the program may compute, rounded up.
    walls: the walls of the sandbox (`sandbox.find_walls`).

  Raises:
    ChildProcessError: the sandbox did not start, which says nothing about the
      program.
  """
  with (
    sandbox.Process('program', walls, deadline_s) as program_process,
    sandbox.Process('tests', walls) as test_process,
  ):
    deadline = time.monotonic() + SLOWDOWN * deadline_s
    load = dict(prelude=json.loads(reference)['prelude'], program=program)
    try:
      # Load the program.
      program_process.send(json.dumps(load).encode(), deadline)
      if program_process.receive(deadline) != b'{"value": null}':
        return 'wrong'  # it raised, or wrote into the pipe
      # Run the tests, passing their calls to the program.
      test_process.send(reference.encode(), deadline)
      while True:
        kind, content = json.loads(test_process.receive(deadline))
        if kind == 'verdict':
          return 'right' if content is True else 'wrong'
        program_process.send(json.dumps(content).encode(), deadline)
        test_process.send(program_process.receive(deadline), deadline)
    except TimeoutError:
      return 'timeout'
    except EOFError:  # killed by a limit, or by itself
      return 'wrong'


_TESTS = reference(['assert double(3) == 6', 'assert double([1]) == [1, 1]'])

# Texts, references and grades: `pool` refuses a grader that differs.
CANARIES = (
  ('```python\ndef double(x):\n  return x + x\n```', _TESTS, 'right'),
  ('```python\ndef double(x):\n  return 6\n```', _TESTS, 'wrong'),
  ('```python\nimport os\nos._exit(0)\n```', _TESTS, 'wrong'),
  ('def double(x):\n  return x + x', _TESTS, 'unparsable'),
)
