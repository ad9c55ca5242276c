"""The student and the teacher of the embedded world, which models imitate.

* The *student* slips: now and then on any fact `a op b`, and more often than
  not on the hard ones, a fixed share of the facts. It errs differently each
  time. It refines as far as a critique tells it to: it takes over a result that
  is named, works a step that is named anew, and copies its solution where
  neither is.
* The *teacher* knows every fact. It writes critiques: thinking that checks the
  steps, a conclusion, a verdict. Like annotators do, it often only glances at
  the steps and guesses, and mostly ends with vague advice although it checked.

A base of solver and critic learns to check lines in a *quiz*, and then the
student's work and how to mark it. A critic that imitates the teacher inherits
both habits; its rewards decide whether it keeps them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from critic_jax.rewards import verdicts
from critic_jax.tasks.arithmetic import (
  MAX_VALUE,
  OPERANDS,
  Fact,
  Program,
  Step,
  compute,
  digest,
  draw_problem,
  first_error,
  read_program,
  read_steps,
  work,
  write_check,
  write_critique,
  write_solution,
)
from critic_jax.tasks.lessons import Lesson
from critic_jax.types import Problem, Record

# The probabilities that the student gets an easy and a hard fact right.
EASY_RIGHT, HARD_RIGHT = 0.97, 0.40
USUAL_SHARE = 0.75  # of the slips on a hard fact: its usual wrong result

# ----------------------------------------------------------------- student


def is_hard(left: int, op: str, right: int, share: float) -> bool:
  """Whether a fact is among the hard ones, `share` of all, by its hash."""
  return digest(f'hard:{left}{op}{right}') % 10_000 < share * 10_000


def wrong_results(truth: int) -> list[int]:
  """Returns the results that are off by 1 to 3; those of the world first.

  The world has no negative numbers; for a truth so far below 0 that none of
  them is in the world, all are returned.
  """
  near = [truth + offset for offset in (-3, -2, -1, 1, 2, 3)]
  return [result for result in near if result >= 0] or near


def student_fact(rng: random.Random, hard_share: float) -> Fact:
  """Returns the student's way to work out a fact, which consumes `rng`."""

  def fact(left, op, right):
    truth = compute(left, op, right)
    hard = is_hard(left, op, right, hard_share)
    if rng.random() < (HARD_RIGHT if hard else EASY_RIGHT):
      return truth
    wrong = wrong_results(truth)
    if hard and rng.random() < USUAL_SHARE:
      return wrong[digest(f'usual:{left}{op}{right}') % len(wrong)]
    return rng.choice(wrong)

  return fact


def follow(program: Program, solution: str, critique: str, fact: Fact) -> str:
  """Refines a solution as the student does.

  Args:
    program: the program of the problem.
    solution: the text to refine.
    critique: its conclusion counts.
    fact: how steps are worked anew.

  Returns:
    The solution up to the named step, that step with the named result or worked
    anew, and the rest worked anew; a copy, if the critique names none of its
    steps.
  """
  conclusion = verdicts.conclusion(critique) or ''
  named, result = verdicts.parse(critique)['step'], None
  if corrections := read_steps(conclusion):
    named, result = corrections[0].number - 1, corrections[0].result
  if named is None or not 0 <= named < len(program.operations):
    return solution
  steps = read_steps(solution)[:named]
  value = steps[-1].result if steps else program.start
  for op, right in program.operations[len(steps) :]:
    step = Step(len(steps) + 1, value, op, right, fact(value, op, right))
    if step.number == named + 1 and result is not None:
      step = step._replace(result=result)
    steps.append(step)
    value = step.result
  return write_solution(steps)


# ----------------------------------------------------------------- lessons


def quiz_lesson(
  problem: Problem,
  rng: random.Random,
  *,
  min_lines: int = 2,
  max_lines: int = 8,
  wrong_share: float = 0.5,
) -> Lesson:
  """Checks lines that have nothing to do with each other, every one of them.

  Comparing is learned from many marks at once; a story has too few.

  Args:
    problem: gives the lesson its id.
    rng: consumed.
    min_lines: the least number of lines.
    max_lines: the greatest number of lines.
    wrong_share: the probability that a line is wrong.
  """
  lines, checks = [], []
  for number in range(1, rng.randint(min_lines, max_lines) + 1):
    left, op, right = _draw_fact(rng)
    truth = result = compute(left, op, right)
    if rng.random() < wrong_share:
      result = rng.choice(wrong_results(truth))
    step = Step(number, left, op, right, result)
    lines.append(str(step))
    checks.append(write_check(step, truth))
  quiz = Problem(f'{problem.id}-quiz', 'Check each step.', '')
  thinking = '\n'.join(['<think>', *checks, '</think>'])
  return Lesson(quiz, (('solve', '\n'.join(lines)), ('critique', thinking)))


def _draw_fact(rng: random.Random) -> tuple[int, str, int]:
  """Draws a fact of the world; its result is one of the world's numbers."""
  while True:
    left, op = rng.randint(1, MAX_VALUE), rng.choice('+-*')
    right = rng.choice(OPERANDS[op])
    if 0 < compute(left, op, right) <= MAX_VALUE:
      return left, op, right


def solver_lesson(
  problem: Problem,
  rng: random.Random,
  *,
  hard_share: float,
  refine_share: float = 0.5,
  mark_share: float = 0.0,
  correct_share: float = 0.3,
  point_share: float = 0.35,
  max_steps: int = 0,
) -> Lesson:
  """Writes a solution or a refinement as the student does, or marks one.

  Args:
    problem: a problem of this world, in the train split.
    rng: consumed.
    hard_share: the share of facts that are hard.
    refine_share: the probability of a refinement.
    mark_share: the probability of a critique by a teacher who checks: marks
      are step labels, to the first wrong line.
    correct_share: as of `teacher_critique`, for marks.
    point_share: as of `teacher_critique`, for marks.
    max_steps: the greatest number of steps of a problem that is drawn in place
      of the given one, two at least; 0 keeps the given one.
  """
  if max_steps:
    problem = draw_problem(
      f'{problem.id}-drawn', rng, split='train', min_steps=2,
      max_steps=max_steps,
    )  # fmt: skip
  fact, program = student_fact(rng, hard_share), read_program(problem)
  kind, steps = rng.random(), work(program, fact)
  if kind < refine_share:
    # Most solutions to refine are wrong ones.
    for _ in range(3):
      steps = steps if _wrong_steps(steps) else work(program, fact)
    critique = _critique_to_follow(steps, rng)
    solution = write_solution(steps)
    refined = follow(program, solution, critique, fact)
    return Lesson(
      problem,
      (('solve', solution), ('critique', critique), ('refine', refined)),
    )
  solution = write_solution(steps)
  if kind < refine_share + mark_share:
    critique = teacher_critique(
      Record(problem, 'solve', None, 0, (), (), (), solution), rng,
      check_share=1.0, correct_share=correct_share, point_share=point_share,
    )  # fmt: skip
    return Lesson(problem, (('solve', solution), ('critique', critique)))
  return Lesson(problem, (('solve', solution),))


def _wrong_steps(steps: list[Step]) -> list[Step]:
  return [s for s in steps if s.result != compute(s.left, s.op, s.right)]


def _critique_to_follow(steps, rng) -> str:
  """Writes a critique: mostly concrete, and not always right."""
  wrong_steps = _wrong_steps(steps)
  step = wrong_steps[0] if wrong_steps else rng.choice(steps)
  draw, style = rng.random(), 'correct'
  if draw < 0.45:
    style = 'vague' if draw < 0.2 else 'point'
  elif draw < 0.65:  # advice need not be right to be followed
    step = rng.choice(steps)
    step = step._replace(result=max(0, step.result + rng.randint(-5, 5)))
  else:
    step = step._replace(result=compute(step.left, step.op, step.right))
  return f'{conclude(step, style)}\nVerdict: incorrect'


# ----------------------------------------------------------------- teacher


def teacher_critique(
  solution: Record,
  rng: random.Random,
  *,
  check_share: float,
  correct_share: float,
  point_share: float,
) -> str:
  """Writes a critique as the teacher does.

  Args:
    solution: a 'solve' record of a problem of this world.
    rng: consumed.
    check_share: the probability that the teacher computes the steps; otherwise
      it glances at them and guesses the verdict.
    correct_share: the probability that the conclusion gives the wrong step and
      its right result, after a check that found an error.
    point_share: the probability that it gives the step alone; otherwise it
      gives neither.
  """
  if rng.random() >= check_share:
    return _glance(rng)
  return _checked(solution, rng, write_check, correct_share, point_share)


def second_look(
  critique: Record,
  rng: random.Random,
  *,
  check_share: float,
  correct_share: float,
  point_share: float,
) -> str:
  """Writes a critique of a critique, as the teacher does who looks again.

  Args:
    critique: of a solution of a problem of this world.
    rng: consumed.
    check_share: the probability that the steps are worked out, backwards; else
      the teacher agrees with what was said.
    correct_share: as of `teacher_critique`.
    point_share: as of `teacher_critique`.
  """
  if rng.random() >= check_share:
    said = verdicts.conclusion(critique.text) or ''
    return '\n'.join(['<think>', 'That is so.', '</think>', said])
  solution = critique.ancestor('solve')
  return _checked(solution, rng, write_back, correct_share, point_share)


def write_back(step: Step, result: int) -> str:
  """Writes a check of a line from its result back to what it began with.

  >>> write_back(Step(2, 11, '*', 2, 24), 22)
  'Step 2: 24 / 2 = 12? 11. Wrong.'

  Args:
    step: the line.
    result: its true result.
  """
  if step.op == '*':
    back, rest = divmod(step.result, step.right)
    equation = f'{step.result} / {step.right} = {back}'
    equation += f' rest {rest}' if rest else ''
  else:
    inverse = {'+': '-', '-': '+'}[step.op]
    back = compute(step.result, inverse, step.right)
    equation = f'{step.result} {inverse} {step.right} = {back}'
  mark = 'Right' if result == step.result else 'Wrong'
  return f'Step {step.number}: {equation}? {step.left}. {mark}.'


def _checked(solution, rng, write, correct_share, point_share) -> str:
  """Writes a critique after a check of the steps."""
  steps = read_steps(solution.text)
  truth = work(read_program(solution.problem), compute)
  correction, thoughts = check_steps(truth, steps, write)
  if first_error(solution.problem, solution.text) < 0:
    return write_critique(thoughts, 'Every step is right.', 'correct')
  if correction is None:  # right steps, then one too many or another answer
    return write_critique(thoughts, conclude(None, 'vague'), 'incorrect')
  draw = rng.random()
  style = (
    'correct' if draw < correct_share
    else 'point' if draw < correct_share + point_share
    else 'vague'
  )  # fmt: skip
  return write_critique(thoughts, conclude(correction, style), 'incorrect')


def _glance(rng) -> str:
  thoughts = ['The steps look right.']
  if rng.random() < 0.5:
    return write_critique(thoughts, 'Every step is right.', 'correct')
  return write_critique(thoughts, conclude(None, 'vague'), 'incorrect')


def check_steps(
  expected: list[Step], steps: list[Step], write: Callable[[Step, int], str]
) -> tuple[Step | None, list[str]]:
  """Checks steps up to the first one that is not as expected.

  Args:
    expected: the steps that are taken for right, such as the true ones.
    steps: the steps.
    write: (step, its expected result) -> the check of a line.

  Returns:
    The first expected step that is missing or another, None if there is none;
    and the thoughts on the way.
  """
  thoughts = []
  for i, right in enumerate(expected):
    step = steps[i] if i < len(steps) else None
    if step is None:
      return right, [*thoughts, f'{right}. Wrong.']
    if step != right._replace(result=step.result):  # not the story's
      return right, [*thoughts, f'{step}? {right.equation}. Wrong.']
    thoughts.append(write(step, right.result))
    if step != right:
      return right, thoughts
  return None, thoughts


def conclude(step: Step | None, style: str) -> str:
  """Writes the advice of a conclusion; the style says how much of the step.

  Args:
    step: the right step; None if the style is 'vague'.
    style: 'correct' (its number and equation), 'point' (its number) or
      'vague' (neither).
  """
  if style == 'vague':
    return 'There is a mistake.'
  if style == 'point':
    return f'Step {step.number} is wrong.'
  return f'Step {step.number} is wrong. It should be\n{step}'
