"""Statements of stories: what one says, and whether that is the problem's.

A statement (`formal_language`) declares numbers, tells the story in hypotheses,
and claims the answer. Three things can be asked of a text, each more than the
one before:

  formal_language.check   is it a statement? Syntax, names and types
  meaning                 which story does it tell, and what does it claim?
  faithful                is that the problem's? A critic is asked this

None of them is truth: a statement of another story may be true, and a critic
has to refuse it.

Problems are the embedded world's (`arithmetic`) with the answer behind their
question; the solution of one is a faithful statement. `formal_drafts` writes
statements, and errs; `formal_critiques` holds a teacher, `formal_trials` the
gate, `formal_tokenizer` a tokenizer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from critic_jax.tasks import arithmetic, formal_language
from critic_jax.tasks.formal_language import Expression, Statement
from critic_jax.types import Problem

# Of numbers, in the order of the story; prose has no such word.
NAMES = tuple(f'n{i}' for i in range(1, 8))


class Meaning(NamedTuple):
  """What a statement says.

  Attributes:
    program: the story that its hypotheses tell.
    answer: the number that it claims for the end of the story.
  """

  program: arithmetic.Program
  answer: int


# ---------------------------------------------------------------- problems


def problems(
  split: str,
  num_problems: int,
  *,
  seed: int = 0,
  min_steps: int = 2,
  max_steps: int = 3,
) -> list[Problem]:
  """Returns the first problems of a split; a longer list begins with them.

  The answer stands behind the question, as it is a part of what a statement
  claims. `Problem.answer` is '': what is judged is a statement.

  Args:
    split: 'train', 'dev' or 'test'.
    num_problems: the length of the list.
    seed: another seed gives other problems.
    min_steps: the least number of operations, 2 or more: drafts err in one
      that is not the first.
    max_steps: the greatest number of operations.

  Raises:
    ValueError: an unknown split, or too few or too many steps.
  """
  if not 2 <= min_steps <= max_steps < len(NAMES):
    raise ValueError(
      f'steps: got min_steps={min_steps}, max_steps={max_steps}; expected '
      f'2 <= min_steps <= max_steps <= {len(NAMES) - 1}'
    )
  told = arithmetic.problems(
    split, num_problems, seed=seed, min_steps=min_steps, max_steps=max_steps
  )
  return [
    dataclasses.replace(
      problem,
      id=problem.id.replace('arithmetic', 'formal'),
      question=f'{problem.question} {problem.answer}.',
      answer='',
      solution=formal_language.write(
        plain(Meaning(arithmetic.read_program(problem), int(problem.answer)))
      ),
    )
    for problem in told
  ]


def intended(problem: Problem) -> Meaning:
  """Returns what a problem says, by its solution.

  Raises:
    ValueError: its solution is no statement of a story.
  """
  statement, _ = formal_language.read(problem.solution)
  said = meaning(statement) if statement else None
  if said is None:
    raise ValueError(
      f'problem {problem.id}: got no statement in its solution; expected a '
      'problem of tasks/formal_statements.py'
    )
  return said


def faithful(problem: Problem, text: str) -> bool:
  """Whether a text is a statement that says what a problem says."""
  statement, _ = formal_language.read(text)
  return bool(statement) and meaning(statement) == intended(problem)


def plain(said: Meaning) -> Statement:
  """Returns the plainest statement of a story: an operation a hypothesis."""
  names = NAMES[: len(said.program.operations) + 1]
  equations = [('=', names[0], said.program.start)]
  for (op, right), name, before in zip(
    said.program.operations, names[1:], names, strict=False
  ):
    equations.append(('=', name, (op, before, right)))
  return Statement(
    tuple(names), named(equations), ('=', names[-1], said.answer)
  )


def named(
  equations: Iterable[Expression],
) -> tuple[tuple[str, Expression], ...]:
  """Returns equations as hypotheses h1, h2, ..."""
  return tuple((f'h{i}', e) for i, e in enumerate(equations, 1))


def meaning(statement: Statement) -> Meaning | None:
  """Returns the story of a statement; None if it tells none.

  The order of hypotheses, the sides of an equation, the sides of a sum or a
  product, the names, and numbers that nothing is said of do not matter. Each
  hypothesis defines one number, by a constant or by one operation on another
  number and a constant, and each number is used by one at most: a longer way to
  say the same is no story here, and the drafts have none.
  """
  defined = {}
  for _, equation in statement.hypotheses:
    name, value = definition(equation)
    if name is None or defined.setdefault(name, value) != value:
      return None
  starts = [name for name, value in defined.items() if isinstance(value, int)]
  users = {v[1]: name for name, v in defined.items() if not isinstance(v, int)}
  if len(starts) != 1:
    return None
  # Walk along the story; a circle, or a second use, leaves hypotheses over.
  last, operations = starts[0], []
  while last in users:
    last = users.pop(last)
    op, _, right = defined[last]
    operations.append((op, right))
  name, answer = definition(statement.goal)
  is_whole = len(operations) + 1 == len(defined)
  if not is_whole or name != last or not isinstance(answer, int):
    return None
  program = arithmetic.Program(defined[starts[0]], tuple(operations))
  return Meaning(program, answer)


def definition(equation: Expression) -> tuple[str | None, Expression]:
  """Returns a number's name and its value: a constant, or (op, name, int).

  >>> definition(('=', ('+', 3, 'a'), 'b'))
  ('b', ('+', 'a', 3))

  Returns:
    The two, whatever side they are on; the name is None if it is no such
    equation.
  """
  if not (isinstance(equation, tuple) and equation[0] == '='):
    return None, 0
  _, left, right = equation
  name, value = (left, right) if isinstance(left, str) else (right, left)
  if not isinstance(name, str):
    return None, 0
  if isinstance(value, tuple) and value[0] in ('+', '*'):
    op, first, second = value
    value = (op, second, first) if isinstance(first, int) else value
  is_operation = (
    isinstance(value, tuple)
    and isinstance(value[1], str)
    and isinstance(value[2], int)
  )
  return (name, value) if isinstance(value, int) or is_operation else (None, 0)
