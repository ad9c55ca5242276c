"""The embedded world: word problems whose every line can be checked.

A program is a start and K operations with small operands. It is told as a story
(`Problem.question`) and worked out one step a line (`Problem.solution`). Three
characters live in this world; all are seeded, none needs a model:

* The *student* has misconceptions: for a fixed share of the facts `a op b` it
  believes a wrong result, the same one every time. A solver trained on its
  work is fallible, and does not mend an error by trying again; it mends it
  when a critique names the step and the right result, which it then follows.
* The *teacher* knows every fact. It writes critiques: thinking that walks the
  steps, a conclusion, a verdict. Like annotators do, it often only glances at
  the steps and guesses, and often ends with vague advice although it checked.
* The *checker* (`first_error`) finds the first wrong line of a solution.

A critic that imitates the teacher inherits both habits; whether it keeps them
is what its rewards decide.

Splits are disjoint by construction: a program belongs to the split that its
hash says, whatever the story around it.
"""

from __future__ import annotations

import hashlib
import random
import re
from typing import NamedTuple

from critic_jax.tasks.lessons import Lesson
from critic_jax.text.tokenizer import (
  Tokenizer,
  from_sentencepiece,
  train_sentencepiece,
)
from critic_jax.types import Problem, Record

SPLITS = {'train': range(0, 80), 'dev': range(80, 90), 'test': range(90, 100)}
MAX_VALUE = 30
OPERANDS = {'+': range(2, 7), '-': range(2, 7), '*': range(2, 4)}
# Operations that nobody is trained on, to see what generalises.
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
    """The line without its number."""
    return f'{self.left} {self.op} {self.right} = {self.result}'


def compute(left: int, op: str, right: int) -> int:
  """The true result of a fact."""
  return {'+': left + right, '-': left - right, '*': left * right}[op]


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
  """The first `num_problems` problems of a split; more extend the list.

  Args:
    split: 'train', 'dev' or 'test'.
    num_problems: how many.
    seed: of the world; problems of another seed are others.
    min_steps: the least number of operations.
    max_steps: the greatest.
    unseen: whether the operations are those of `UNSEEN`, all of them.

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
  made = []
  for i in range(num_problems):
    rng = random.Random(f'{seed}/{split}/{i}/{min_steps}-{max_steps}')
    operands = UNSEEN if unseen else OPERANDS
    program = _draw_program(rng, split, min_steps, max_steps, operands)
    made.append(_tell(program, f'arithmetic-{split}-{i}', rng))
  return made


def _draw_program(rng, split, min_steps, max_steps, operands) -> Program:
  while True:
    num_steps = rng.randint(min_steps, max_steps)
    program = _draw_any_program(rng, num_steps, operands)
    if split_of(program) == split:
      return program


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
  """The split a program belongs to, by its hash."""
  bucket = _hash(repr(tuple(program))) % 100
  return next(name for name, part in SPLITS.items() if bucket in part)


def _hash(text: str) -> int:
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], 'big')


def _tell(program: Program, id: str, rng) -> Problem:
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


def work(program: Program, fact) -> list[Step]:
  """The steps of a program under `fact(left, op, right) -> result`."""
  steps, value = [], program.start
  for number, (op, right) in enumerate(program.operations, 1):
    steps.append(Step(number, value, op, right, fact(value, op, right)))
    value = steps[-1].result
  return steps


def write_solution(steps: list[Step]) -> str:
  """A solution's text: the steps, then the boxed answer."""
  lines = [str(step) for step in steps]
  return '\n'.join([*lines, f'The answer is \\boxed{{{steps[-1].result}}}.'])


def read_steps(text: str) -> list[Step]:
  """The steps of a solution's text; lines that are none are left out."""
  return [
    Step(int(n), int(left), op, int(right), int(result))
    for n, left, op, right, result in _STEP.findall(text)
  ]


def read_program(problem: Problem) -> Program:
  """The program behind a problem of this world.

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
  """The 0-based index of the first wrong line of a solution, -1 if none is.

  A line is right if it does the story's next operation to the result of the
  line before and its result is true. Missing lines make the line after the
  last one wrong; a wrong boxed answer after right lines likewise.
  """
  program, steps = read_program(problem), read_steps(text)
  value = program.start
  for i, (op, right) in enumerate(program.operations):
    expected = Step(i + 1, value, op, right, compute(value, op, right))
    if i >= len(steps) or steps[i] != expected:
      return i
    value = expected.result
  boxed = re.findall(r'\\boxed\{(-?\d{1,9})\}', text)
  extra = len(steps) > len(program.operations)
  wrong_end = extra or boxed != [str(value)]
  return len(program.operations) if wrong_end else -1


# ----------------------------------------------------------------- student


def belief(left: int, op: str, right: int, *, share: float, seed=0) -> int:
  """What the student takes `left op right` to be.

  A fact is a misconception with probability `share`, by its hash; the wrong
  result is near the true one.
  """
  true = compute(left, op, right)
  draw = _hash(f'{seed}:{left}{op}{right}')
  if draw % 10_000 >= share * 10_000:
    return true
  offset = (-10, -3, -2, -1, 1, 2, 3, 10)[draw // 10_000 % 8]
  return true + offset if true + offset >= 0 else true - offset


def solver_lesson(
  problem: Problem, rng: random.Random, *, share: float, refine_share=0.5
) -> Lesson:
  """A lesson in the student's hand: a solution, or a refinement.

  Args:
    problem: the problem.
    rng: consumed.
    share: the share of facts that are misconceptions.
    refine_share: the probability of a refinement.
  """

  def fact(left, op, right):
    return belief(left, op, right, share=share)

  program = read_program(problem)
  steps = work(program, fact)
  solution = write_solution(steps)
  if rng.random() >= refine_share:
    return Lesson(problem, (('solve', solution),))
  critique = _advice(program, steps, rng)
  refined = follow(program, solution, critique, fact)
  return Lesson(
    problem,
    (('solve', solution), ('critique', critique), ('refine', refined)),
  )


def _advice(program, steps, rng) -> str:
  """A critique to learn following from: mostly concrete, not always right."""
  errors = [s for s in steps if s.result != compute(s.left, s.op, s.right)]
  step = errors[0] if errors else rng.choice(steps)
  kind, style = rng.random(), 'correct'
  if kind < 0.2:
    style = 'vague' if kind < 0.1 else 'point'
  elif kind < 0.6:  # advice need not be right to be followed
    step = rng.choice(steps)
    step = step._replace(result=max(0, step.result + rng.randint(-9, 9)))
  else:
    step = step._replace(result=compute(step.left, step.op, step.right))
  return f'{conclude(step, style)}\nVerdict: incorrect'


def follow(program: Program, solution: str, critique: str, fact) -> str:
  """What the student makes of a critique.

  A named step with a result is taken over and the rest worked anew; without a
  result to take over, the student finds what it found before.
  """
  corrections = read_steps(critique)
  if not corrections:
    return write_solution(work(program, fact))
  number, result = corrections[0].number, corrections[0].result
  kept = read_steps(solution)[: number - 1]
  value = kept[-1].result if kept else program.start
  for op, right in program.operations[len(kept) :]:
    step = Step(len(kept) + 1, value, op, right, fact(value, op, right))
    kept.append(step._replace(result=result) if step.number == number else step)
    value = kept[-1].result
  return write_solution(kept)


# ----------------------------------------------------------------- teacher


def teacher_critique(
  solution: Record,
  rng: random.Random,
  *,
  check_share: float,
  correct_share: float,
  point_share: float,
) -> str:
  """A critique in the teacher's hand.

  Args:
    solution: a 'solve' record of a problem of this world.
    rng: consumed.
    check_share: how often the teacher computes the steps; otherwise it glances
      at them and guesses the verdict.
    correct_share: after a check that found an error, how often the conclusion
      gives the step and its right result.
    point_share: how often it gives the step alone; otherwise neither.
  """
  steps = read_steps(solution.text)
  if rng.random() >= check_share:
    return _glance(rng)
  error, thoughts = _check(read_program(solution.problem), steps, rng)
  if first_error(solution.problem, solution.text) < 0:
    return write_critique(thoughts, 'Every step is right.', 'correct')
  if error is None:  # right steps, then one too many or another answer
    return write_critique(thoughts, conclude(None, 'vague'), 'incorrect')
  kind = rng.random()
  style = (
    'correct' if kind < correct_share
    else 'point' if kind < correct_share + point_share
    else 'vague'
  )  # fmt: skip
  return write_critique(thoughts, conclude(error, style), 'incorrect')


def _glance(rng) -> str:
  thoughts = ['The steps look right.']
  if rng.random() < 0.5:
    return write_critique(thoughts, 'Every step is right.', 'correct')
  return write_critique(thoughts, conclude(None, 'vague'), 'incorrect')


def _check(program, steps, rng) -> tuple[Step | None, list[str]]:
  """Walks the steps to the first wrong one; returns it put right, or None."""
  thoughts, value = [], program.start
  for number, (op, right) in enumerate(program.operations, 1):
    true = Step(number, value, op, right, compute(value, op, right))
    given = steps[number - 1] if number <= len(steps) else None
    said = f' {given.result}?' if given else ''
    thought = f'Step {number}:{said} {true.equation}.'
    if given == true:
      thoughts.append(f'{thought} Right.')
      value = true.result
      continue
    if rng.random() < 0.3:  # reflect
      thought = f'{thought} Wait: {true.equation}.'
    thoughts.append(f'{thought} Wrong.')
    return true, thoughts
  return None, thoughts


def conclude(step: Step | None, style: str) -> str:
  """The advice of a conclusion: 'correct', 'point' or 'vague'."""
  if style == 'vague':
    return 'There is a mistake.'
  if style == 'point':
    return f'Step {step.number} is wrong.'
  return f'Step {step.number} is wrong. It should be\n{step}'


def write_critique(thoughts: list[str], advice: str, verdict: str) -> str:
  """A critique's text: the thinking, the advice, the verdict."""
  thinking = '\n'.join(['<think>', *thoughts, '</think>'])
  return f'{thinking}\n{advice}\nVerdict: {verdict}'


# --------------------------------------------------------------- tokenizer


def corpus(num_problems: int, *, seed: int = 0) -> list[str]:
  """Texts of this world to train a tokenizer on, from the train split."""
  rng = random.Random(f'{seed}/corpus')
  texts = []
  for problem in problems('train', num_problems, seed=seed):
    lesson = solver_lesson(problem, rng, share=0.2)
    solution = lesson.messages[0][1]
    record = Record(problem, 'solve', None, 0, (), (), (), solution)
    critique = teacher_critique(
      record, rng, check_share=0.7, correct_share=0.4, point_share=0.3
    )
    texts += [problem.question, solution, critique]
  return texts


def tokenizer(*, vocab_size: int = 768, num_problems: int = 2000) -> Tokenizer:
  """A tokenizer for this world, trained on its texts; any text round-trips.

  Numbers below 100, with and without a space before them, and the fixed parts
  of a line are one token each; so lines are short.
  """
  numbers = [space + str(n) for n in range(100) for space in ('', ' ')]
  lines = [
    start + f'Step {n}' + end
    for n in range(1, 10)
    for start, end in (('', ':'), ('\n', ':'), ('', ' is wrong'))
  ]
  others = ['\nThe answer is \\boxed{', '}.', '. Right.', '. Wrong.']
  others += [
    '. It should be',
    '<think>',
    '\n</think>\n',
    '\nVerdict:',
    'Problem: ',
  ]
  others += ['\nSolution:\n', '\nCritique:\n', '\nRefined solution:\n']
  return from_sentencepiece(
    train_sentencepiece(
      corpus(num_problems),
      vocab_size,
      pieces=[*numbers, *lines, *others],
      across_words=True,
    )
  )
