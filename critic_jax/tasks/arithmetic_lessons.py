"""The student and the teacher of the embedded world, which models imitate.

* The *student* has misconceptions: for a fixed share of the facts `a op b` it
  believes a wrong result, the same one every time. A solver trained on its
  work is fallible, and does not mend an error by trying again; it mends it
  when a critique names the step and the right result, which it then follows.
* The *teacher* knows every fact. It writes critiques: thinking that walks the
  steps, a conclusion, a verdict. Like annotators do, it often only glances at
  the steps and guesses, and often ends with vague advice although it checked.

A critic that imitates the teacher inherits both habits; its rewards decide
whether it keeps them.
"""

from __future__ import annotations

import random

from critic_jax.tasks.arithmetic import (
  Fact,
  Program,
  Step,
  compute,
  digest,
  first_error,
  read_program,
  read_steps,
  work,
  write_critique,
  write_solution,
)
from critic_jax.tasks.lessons import Lesson
from critic_jax.types import Problem, Record

# ----------------------------------------------------------------- student


def belief(left: int, op: str, right: int, *, share: float, seed=0) -> int:
  """Returns the result that the student believes `left op right` to have.

  A fact is a misconception with probability `share`, by its hash; the wrong
  result is near the true one.
  """
  truth = compute(left, op, right)
  draw = digest(f'{seed}:{left}{op}{right}')
  if draw % 10_000 >= share * 10_000:
    return truth
  offset = (-10, -3, -2, -1, 1, 2, 3, 10)[draw // 10_000 % 8]
  return truth + offset if truth + offset >= 0 else truth - offset


def solver_lesson(
  problem: Problem, rng: random.Random, *, share: float, refine_share=0.5
) -> Lesson:
  """Writes a solution, or a refinement, as the student does.

  Args:
    problem: a problem of this world.
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
  critique = _critique_to_follow(program, steps, rng)
  refined = follow(program, solution, critique, fact)
  return Lesson(
    problem,
    (('solve', solution), ('critique', critique), ('refine', refined)),
  )


def _critique_to_follow(program, steps, rng) -> str:
  """Writes a critique: mostly concrete, and not always right."""
  errors = [s for s in steps if s.result != compute(s.left, s.op, s.right)]
  step = errors[0] if errors else rng.choice(steps)
  draw, style = rng.random(), 'correct'
  if draw < 0.2:
    style = 'vague' if draw < 0.1 else 'point'
  elif draw < 0.6:  # advice need not be right to be followed
    step = rng.choice(steps)
    step = step._replace(result=max(0, step.result + rng.randint(-9, 9)))
  else:
    step = step._replace(result=compute(step.left, step.op, step.right))
  return f'{conclude(step, style)}\nVerdict: incorrect'


def follow(program: Program, solution: str, critique: str, fact: Fact) -> str:
  """Refines a solution as the student does.

  The student takes over a named step with its result and works the rest anew;
  without a result to take over, it writes the same solution again.
  """
  corrections = read_steps(critique)
  if not corrections:
    return write_solution(work(program, fact))
  number, result = corrections[0].number, corrections[0].result
  steps = read_steps(solution)[: number - 1]
  value = steps[-1].result if steps else program.start
  for op, right in program.operations[len(steps) :]:
    step = Step(len(steps) + 1, value, op, right, fact(value, op, right))
    if step.number == number:
      step = step._replace(result=result)
    steps.append(step)
    value = step.result
  return write_solution(steps)


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
  steps = read_steps(solution.text)
  if rng.random() >= check_share:
    return _glance(rng)
  correction, thoughts = _check(read_program(solution.problem), steps, rng)
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


def _check(program, steps, rng) -> tuple[Step | None, list[str]]:
  """Walks the steps to the first wrong one.

  Returns:
    That step put right, None if all are right; and the thoughts on the way.
  """
  thoughts, value = [], program.start
  for number, (op, right) in enumerate(program.operations, 1):
    expected = Step(number, value, op, right, compute(value, op, right))
    step = steps[number - 1] if number <= len(steps) else None
    claim = f' {step.result}?' if step else ''
    thought = f'Step {number}:{claim} {expected.equation}.'
    if step == expected:
      thoughts.append(f'{thought} Right.')
      value = expected.result
      continue
    if rng.random() < 0.3:  # reflect
      thought = f'{thought} Wait: {expected.equation}.'
    thoughts.append(f'{thought} Wrong.')
    return expected, thoughts
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
