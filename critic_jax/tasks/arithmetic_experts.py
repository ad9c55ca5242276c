"""Experts of the embedded world who each see one defect of a solution.

A mixture of critics after Synthetic-Persona-Chat
(https://arxiv.org/abs/2312.10007): `sums` checks that results are true, `story`
that lines do the story's operations, `ending` that the answer is the last
line's. None of them knows the answer; what passes all three, without errors of
the experts, is right in every line. Each errs with the probability `error`: it
then says the opposite.
"""

from __future__ import annotations

import random

from critic_jax.tasks import arithmetic
from critic_jax.types import Problem


def sums(
  problem: Problem, text: str, rng: random.Random, *, error: float
) -> float:
  """Returns 1.0 if each line's result is true, whatever the story says.

  Args:
    problem: not read.
    text: a solution.
    rng: drawn from once.
    error: the probability of saying the opposite.

  Raises:
    ValueError: `error` is no probability.
  """
  del problem
  steps = arithmetic.read_steps(text)
  right = all(
    step.result == arithmetic.compute(step.left, step.op, step.right)
    for step in steps
  )
  return _say(right, rng, error)


def story(
  problem: Problem, text: str, rng: random.Random, *, error: float
) -> float:
  """Returns 1.0 if the lines are the story's, whatever their results.

  Each line does the operation of its number to the result of the line before;
  none is missing, and none is too many.

  Args:
    problem: a problem of the embedded world.
    text: a solution.
    rng: as of `sums`.
    error: as of `sums`.
  """
  program, steps = arithmetic.read_program(problem), arithmetic.read_steps(text)
  value, right = program.start, len(steps) == len(program.operations)
  for number, (step, (op, operand)) in enumerate(
    zip(steps, program.operations, strict=False), 1
  ):
    right &= step[:4] == (number, value, op, operand)
    value = step.result
  return _say(right, rng, error)


def ending(
  problem: Problem, text: str, rng: random.Random, *, error: float
) -> float:
  """Returns 1.0 if one answer is boxed, and it is the last line's result.

  Args:
    problem: not read.
    text: a solution.
    rng: as of `sums`.
    error: as of `sums`.
  """
  del problem
  steps = arithmetic.read_steps(text)
  last = [str(step.result) for step in steps[-1:]]
  return _say(bool(last) and arithmetic.read_answers(text) == last, rng, error)


def _say(is_right: bool, rng: random.Random, error: float) -> float:
  if not 0 <= error <= 1:
    raise ValueError(f'error: got {error}; expected a probability, 0 to 1')
  return float(is_right != (rng.random() < error))
