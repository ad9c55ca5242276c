"""The embedded world: word problems whose every line can be checked.

A program is a start and K operations with small operands. A problem tells it as
a story (`Problem.question`) and works it out one step a line
(`Problem.solution`). `first_error` finds the first wrong line of any solution.
`arithmetic_lessons` holds the student and the teacher of this world,
`arithmetic_labels` its step labels, `arithmetic_tokenizer` its tokenizer. All
is seeded, and none of it needs a model.

A critique checks a line by quoting it, working it out and marking it:
`Step 2: 11 * 2 = 24? 22. Wrong.` (`write_check`).

Splits are disjoint by construction: the hash of a program decides its split,
whatever the story around it.
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
from collections.abc import Callable
from typing import NamedTuple

from critic_jax.types import Problem

SPLITS = {'train': range(0, 80), 'dev': range(80, 90), 'test': range(90, 100)}
MAX_VALUE = 30
OPERANDS = {'+': range(2, 7), '-': range(2, 7), '*': range(2, 4)}
# Operations outside the training data, to measure generalisation.
UNSEEN = {'+': range(7, 10), '-': range(7, 10), '*': range(4, 6)}

_NAMES = 'Ada Ben Cleo Dan Eve Finn Gia Hugo Ida Jan'.split()
_THINGS = 'apples books coins eggs pens shells stones toys'.split()
_EVENTS = {
  '+': ('finds {} more', 'buys {} more', 'is given {} more'),
  '-': ('loses {} of them', 'sells {} of them', 'gives away {} of them'),
  '*': ('then has {} times as many',),
}
_STEP = re.compile(
  r'Step (\d{1,4}): (-?\d{1,9}) ([-+*]) (-?\d{1,9}) = (-?\d{1,9})'
)

# (left, op, right) -> the result that someone takes the fact to have.
Fact = Callable[[int, str, int], int]


class Program(NamedTuple):
  """A start value and operations `(op, operand)` done to it in turn."""

  start: int
  operations: tuple[tuple[str, int], ...]


class Step(NamedTuple):
  """A line of a solution: `Step number: left op right = result`."""

  number: int
  left: int
  op: str
  right: int
  result: int

  def __str__(self):
    return f'Step {self.number}: {self.equation}'

  @property
  def equation(self) -> str:
    """Returns the line without its number."""
    return f'{self.left} {self.op} {self.right} = {self.result}'


def compute(left: int, op: str, right: int) -> int:
  """Returns the true result of a fact."""
  return {'+': left + right, '-': left - right, '*': left * right}[op]


def digest(text: str) -> int:
  """Returns a hash in [0, 2**64) that is the same in every process."""
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], 'big')


# ---------------------------------------------------------------- problems


def problems(
  split: str,
  num_problems: int,
  *,
  seed: int = 0,
  min_steps: int = 3,
  max_steps: int = 5,
  unseen: bool = False,
) -> list[Problem]:
  """Returns the first problems of a split; a longer list begins with them.

  Args:
    split: 'train', 'dev' or 'test'.
    num_problems: the length of the list.
    seed: another seed gives other problems.
    min_steps: the least number of operations.
    max_steps: the greatest number of operations.
    unseen: whether all operations are drawn from `UNSEEN`.

  Raises:
    ValueError: an unknown split, or steps out of order.
  """
  if split not in SPLITS:
    raise ValueError(f'split: got {split!r}; expected one of {list(SPLITS)}')
  if not 1 <= min_steps <= max_steps:
    raise ValueError(
      f'steps: got min_steps={min_steps}, max_steps={max_steps}; '
      'expected 1 <= min_steps <= max_steps'
    )
  return list(_draw(split, num_problems, seed, min_steps, max_steps, unseen))


@functools.lru_cache(maxsize=4, typed=True)  # 0.0 is another seed than 0
def _draw(
  split: str,
  num_problems: int,
  seed: int,
  min_steps: int,
  max_steps: int,
  unseen: bool,
) -> tuple[Problem, ...]:
  """Draws the problems of a split, once for a run and its evaluations."""
  result = []
  for i in range(num_problems):
    rng = random.Random(f'{seed}/{split}/{i}/{min_steps}-{max_steps}')
    operands = UNSEEN if unseen else OPERANDS
    result.append(
      _draw_problem(
        f'arithmetic-{split}-{i}', rng, split, min_steps, max_steps, operands
      )
    )
  return tuple(result)


def draw_problem(
  id: str, rng: random.Random, *, split: str, min_steps: int, max_steps: int
) -> Problem:
  """Draws a problem of a split, with a number of steps in a range."""
  return _draw_problem(id, rng, split, min_steps, max_steps, OPERANDS)


def _draw_problem(id, rng, split, min_steps, max_steps, operands) -> Problem:
  while True:
    num_steps = rng.randint(min_steps, max_steps)
    program = _draw_any_program(rng, num_steps, operands)
    if split_of(program) == split:
      return _tell(program, id, rng)


def _draw_any_program(rng, num_steps, operands) -> Program:
  start = value = rng.randint(3, 15)
  operations = []
  while len(operations) < num_steps:
    op = rng.choice('++--*')
    right = rng.choice(operands[op])
    if 0 < compute(value, op, right) <= MAX_VALUE:
      value = compute(value, op, right)
      operations.append((op, right))
  return Program(start, tuple(operations))


def split_of(program: Program) -> str:
  """Returns the split of a program, which depends on its hash alone."""
  bucket = digest(repr(tuple(program))) % 100
  return next(name for name, part in SPLITS.items() if bucket in part)


def _tell(program: Program, id: str, rng) -> Problem:
  """Makes a story of a program."""
  name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
  events = [
    f'{name} {rng.choice(_EVENTS[op]).format(right)}.'
    for op, right in program.operations
  ]
  question = ' '.join(
    [f'{name} has {program.start} {thing}.', *events, f'How many {thing}?']
  )
  steps = work(program, compute)
  return Problem(
    id=id,
    question=question,
    answer=str(steps[-1].result),
    solution=write_solution(steps),
  )


# ------------------------------------------------------------------- texts


def work(program: Program, fact: Fact) -> list[Step]:
  """Returns the steps of a program, each with the result that `fact` gives."""
  steps, value = [], program.start
  for number, (op, right) in enumerate(program.operations, 1):
    steps.append(Step(number, value, op, right, fact(value, op, right)))
    value = steps[-1].result
  return steps


def write_solution(steps: list[Step]) -> str:
  """Writes a solution: the steps, then the boxed answer."""
  lines = [str(step) for step in steps]
  return '\n'.join([*lines, f'The answer is \\boxed{{{steps[-1].result}}}.'])


def write_check(step: Step, result: int) -> str:
  """Writes a check of a line: it is quoted, worked out and marked.

  Args:
    step: the line.
    result: what the checker gets in place of the line's result.
  """
  mark = 'Right' if result == step.result else 'Wrong'
  return f'{step}? {result}. {mark}.'


def write_critique(thoughts: list[str], advice: str, verdict: str) -> str:
  """Writes a critique: the thinking, the advice, the verdict."""
  thinking = '\n'.join(['<think>', *thoughts, '</think>'])
  return f'{thinking}\n{advice}\nVerdict: {verdict}'


def read_steps(text: str) -> list[Step]:
  """Reads the steps of a text; other lines are left out."""
  return [
    Step(int(n), int(left), op, int(right), int(result))
    for n, left, op, right, result in _STEP.findall(text)
  ]


def step_ends(text: str) -> list[int]:
  """Returns where each of `read_steps` ends in a text."""
  return [match.end() for match in _STEP.finditer(text)]


def read_answers(text: str) -> list[str]:
  """Reads the boxed answers of a text, as they are written."""
  return re.findall(r'\\boxed\{(-?\d{1,9})\}', text)


def read_program(problem: Problem) -> Program:
  """Reads the program behind a problem of this world.

  Raises:
    ValueError: the problem has no worked solution of this world.
  """
  steps = read_steps(problem.solution)
  if not steps:
    raise ValueError(
      f'problem {problem.id}: got no steps in its solution; expected a problem '
      'of the arithmetic world'
    )
  operations = tuple((step.op, step.right) for step in steps)
  return Program(steps[0].left, operations)


# ----------------------------------------------------------------- checker


def first_error(problem: Problem, text: str) -> int:
  """Returns the index of the first wrong line of a solution, or -1.

  Indices are counted from 0. A line is right if it does the story's next
  operation to the result of the line before and its result is true. Missing
  lines make the line after the last one wrong; so does a wrong boxed answer
  after right lines.
  """
  program, steps = read_program(problem), read_steps(text)
  value = program.start
  for i, (op, right) in enumerate(program.operations):
    expected = Step(i + 1, value, op, right, compute(value, op, right))
    if i >= len(steps) or steps[i] != expected:
      return i
    value = expected.result
  has_extra_steps = len(steps) > len(program.operations)
  wrong_end = has_extra_steps or read_answers(text) != [str(value)]
  return len(program.operations) if wrong_end else -1
