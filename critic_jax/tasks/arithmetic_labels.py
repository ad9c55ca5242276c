"""Step labels of the embedded world: solutions with slips, and critiques.

The parts of a benchmark of first errors, made by rule: solutions that no solver
wrote, each with the index of its first wrong step; the critiques from which a
critic learns labels alone; and a description of any critique.

Of Critic-V (https://arxiv.org/abs/2411.18203) here are its planted errors:
solutions with several slips, the exact set of wrong steps of any solution, and
critiques that list some of them.
"""

from __future__ import annotations

import random
import re

from critic_jax.answers import final_answers
from critic_jax.rewards import verdicts
from critic_jax.tasks import arithmetic
from critic_jax.tasks.lessons import Lesson
from critic_jax.types import Problem, Record, given_record

# A line that is quoted and worked out, as `arithmetic.write_check` does.
_CHECK = re.compile(r'= -?\d{1,9}\? -?\d')


def solution(
  problem: Problem, slips: bool, rng: random.Random, *, max_slips: int = 1
) -> Record:
  """Returns the problem's solution, right or with slips, labelled.

  Args:
    problem: a problem of the embedded world.
    slips: whether steps of it are wrong.
    rng: consumed.
    max_slips: the greatest number of such steps, any number alike.

  Returns:
    A 'solve' record without tokens, with `parsed` as data/solutions.py has it.
  """
  text = problem.solution
  if slips:
    # One alone takes no draw: benchmarks of one slip are as they were.
    text = (
      plant(problem, rng, max_slips=max_slips, right_share=0.0)
      if max_slips > 1
      else slip(arithmetic.read_program(problem), rng)
    )
  answer = final_answers.extract(text)
  right = answer == problem.answer
  return given_record(
    problem,
    text,
    parsed={
      'answer': answer,
      'correct': right,
      'grade': 'right' if right else 'wrong',
      'first_error': arithmetic.first_error(problem, text),
      'num_steps': len(arithmetic.read_steps(text)),
      'part': 'slips',
    },
  )


def slip(
  program: arithmetic.Program, rng: random.Random, num_slips: int = 1
) -> str:
  """Writes a solution with wrong results, near the true ones, at any steps.

  The later steps are worked out from the wrong results, and stay in the range
  of the world's numbers. The answer is wrong: slips do not cancel out.

  Args:
    program: the program of the problem.
    rng: consumed.
    num_slips: wrong steps, at most as many as the program has.
  """
  answer = arithmetic.work(program, arithmetic.compute)[-1].result
  # Try until no later result leaves the range of the world's numbers.
  while True:
    wrong = rng.sample(range(len(program.operations)), num_slips)
    offsets = {step: rng.choice((-3, -2, -1, 1, 2, 3)) for step in wrong}
    steps, value = [], program.start
    for i, (op, right) in enumerate(program.operations):
      result = arithmetic.compute(value, op, right) + offsets.get(i, 0)
      steps.append(arithmetic.Step(i + 1, value, op, right, result))
      value = result
    in_range = all(0 <= s.result <= arithmetic.MAX_VALUE for s in steps)
    if in_range and value != answer:
      return arithmetic.write_solution(steps)


def plant(
  problem: Problem, rng: random.Random, *, max_slips: int, right_share: float
) -> str:
  """Writes a solution with one slip or more, any number alike.

  Args:
    problem: a problem of the embedded world.
    rng: consumed.
    max_slips: the greatest number of slips, at least 1; a short problem has
      one for each of its steps at most.
    right_share: the probability that there is none.
  """
  if rng.random() < right_share:
    return problem.solution
  program = arithmetic.read_program(problem)
  num_slips = rng.randint(1, min(max_slips, len(program.operations)))
  return slip(program, rng, num_slips)


def step_marks(problem: Problem, text: str) -> list[bool]:
  """Returns whether each line of a solution is wrong, by itself.

  A line is right if it does the story's operation of its number to the result
  of the line before, be that right or wrong, and its result is true. Missing
  lines are one wrong line after the last one; so are a wrong answer, and lines
  that the story does not have. The first wrong line is
  `arithmetic.first_error`.
  """
  program, steps = arithmetic.read_program(problem), arithmetic.read_steps(text)
  marks, before = [], program.start
  for i, (op, right) in enumerate(program.operations):
    if i >= len(steps):
      return [*marks, True]
    truth = arithmetic.compute(before, op, right)
    marks.append(steps[i] != arithmetic.Step(i + 1, before, op, right, truth))
    before = steps[i].result
  boxed = re.findall(r'\\boxed\{(-?\d{1,9})\}', text)
  has_extra_steps = len(steps) > len(program.operations)
  return [*marks, *[True] * (has_extra_steps or boxed != [str(before)])]


def share_right(problem: Problem, text: str) -> float:
  """Returns the share of a solution's lines that are right (`step_marks`).

  >>> problem = next(iter(arithmetic.problems('train', 1)))
  >>> share_right(problem, problem.solution)
  1.0
  """
  marks = step_marks(problem, text)
  return 1 - sum(marks) / len(marks)


def rewarded_operations(problem: Problem, text: str) -> list[tuple[int, float]]:
  """Rewards each line that does the story's next operation, 1.0; others -1.0.

  The line goes on from the result of the line before, be that right or wrong;
  whether its own result is true does not matter. Lines that the story does not
  have do none.

  Returns:
    Where each line ends in the text, and its reward.
  """
  program, steps = arithmetic.read_program(problem), arithmetic.read_steps(text)
  befores = [program.start, *(step.result for step in steps)]
  expected = [
    (i + 1, before, op, right)
    for i, ((op, right), before) in enumerate(
      zip(program.operations, befores, strict=False)
    )
  ]
  rewards = [
    1.0 if i < len(expected) and step[:4] == expected[i] else -1.0
    for i, step in enumerate(steps)
  ]
  return list(zip(arithmetic.step_ends(text), rewards, strict=True))


def rewarded_results(problem: Problem, text: str) -> list[tuple[int, float]]:
  """Rewards each line whose equation is true, 1.0; others -1.0.

  It need not be the story's; but a line beyond the story's number of lines
  counts as a false one, so that more lines do not earn more.

  Returns:
    Where each line ends in the text, and its reward.
  """
  num_lines = len(arithmetic.read_program(problem).operations)
  rewards = [
    1.0 if i < num_lines and result == arithmetic.compute(*fact) else -1.0
    for i, (_, *fact, result) in enumerate(arithmetic.read_steps(text))
  ]
  return list(zip(arithmetic.step_ends(text), rewards, strict=True))


def step_label(solution: Record, rng: random.Random) -> str:
  """Writes a critique that is its label: the first wrong step, no thinking."""
  error = arithmetic.first_error(solution.problem, solution.text)
  if error < 0:
    return arithmetic.write_critique([], 'Every step is right.', 'correct')
  return arithmetic.write_critique(
    [], f'Step {error + 1} is wrong.', 'incorrect'
  )


def list_errors(
  solution: Record,
  rng: random.Random,
  *,
  check_share: float,
  name_share: float,
) -> str:
  """Writes a critique that names wrong steps, but seldom all and only those.

  Args:
    solution: a 'solve' record of a problem of this world.
    rng: consumed.
    check_share: the probability that it works all lines out; otherwise it
      glances at them, and names each of them in one of three cases.
    name_share: the probability that it names a line that it found wrong.
  """
  marks = step_marks(solution.problem, solution.text)
  steps = arithmetic.read_steps(solution.text)
  if rng.random() < check_share:
    thoughts = _checks(solution.problem, steps)
    named = [i for i, x in enumerate(marks) if x and rng.random() < name_share]
  else:
    thoughts = ['The steps look right.']
    named = [i for i in range(len(steps)) if rng.random() < 1 / 3]
  if not named:
    return arithmetic.write_critique(
      thoughts, 'Every step is right.', 'correct'
    )
  advice = '\n'.join(f'Step {i + 1} is wrong.' for i in named)
  return arithmetic.write_critique(thoughts, advice, 'incorrect')


def _checks(problem, steps) -> list[str]:
  """Checks every line by itself, and not only up to the first wrong one."""
  operations = arithmetic.read_program(problem).operations
  return [
    arithmetic.write_check(step, arithmetic.compute(step.left, op, right))
    for step, (op, right) in zip(steps, operations, strict=False)
  ]


def errors_lesson(
  problem: Problem,
  rng: random.Random,
  *,
  max_slips: int,
  right_share: float,
  check_share: float,
  name_share: float,
) -> Lesson:
  """Lists errors of a planted solution; see `plant` and `list_errors`."""
  text = plant(problem, rng, max_slips=max_slips, right_share=right_share)
  solution = Record(problem, 'solve', None, 0, (), (), (), text)
  critique = list_errors(
    solution, rng, check_share=check_share, name_share=name_share
  )
  return Lesson(problem, (('solve', text), ('critique', critique)))


def attack_lesson(
  problem: Problem, rng: random.Random, *, order: str
) -> Lesson:
  """Makes a step of the problem's solution wrong, as it is told.

  What an attacker begins with (rollouts/attacks.py): a slip at any step, the
  later steps worked out from it.

  Args:
    problem: a problem of the embedded world.
    rng: consumed.
    order: the text, with {} for the number of the step, from 1.
  """
  text = slip(arithmetic.read_program(problem), rng)
  told = order.format(arithmetic.first_error(problem, text) + 1)
  messages = ('solve', problem.solution), ('critique', told), ('refine', text)
  return Lesson(problem, messages)


def describe(critique: Record) -> dict[str, bool]:
  """Tells the form of a critique of this world.

  Returns:
    'computes': its thinking works steps out anew; 'names_step': its conclusion
    says which step is wrong; 'gives_result': and its right result.
  """
  conclusion = verdicts.conclusion(critique.text) or ''
  thinking = critique.text[: critique.text.rfind(conclusion or '\0')]
  return {
    'computes': bool(_CHECK.search(thinking)),
    'names_step': ' is wrong' in conclusion,
    'gives_result': bool(arithmetic.read_steps(conclusion)),
  }
