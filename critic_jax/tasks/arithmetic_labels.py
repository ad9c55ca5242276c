"""Step labels of the embedded world: solutions with slips, and critiques.

The parts of a benchmark of first errors, made by rule: solutions that no solver
wrote, each with the index of its first wrong step; the critiques from which a
critic learns labels alone; and a description of any critique.
"""

from __future__ import annotations

import random
import re

import numpy as np

from critic_jax.answers import final_answers
from critic_jax.rewards import verdicts
from critic_jax.tasks import arithmetic
from critic_jax.types import Problem, Record

# A line that is quoted and worked out, as `arithmetic.write_check` does.
_CHECK = re.compile(r'= -?\d{1,9}\? -?\d')


def solution(problem: Problem, slips: bool, rng: random.Random) -> Record:
  """Returns the problem's solution, right or with a slip, labelled.

  Args:
    problem: a problem of the embedded world.
    slips: whether one of its steps is wrong.
    rng: consumed.

  Returns:
    A 'solve' record without tokens, with `parsed` as data/solutions.py has it.
  """
  text = problem.solution
  if slips:
    text = slip(arithmetic.read_program(problem), rng)
  answer = final_answers.extract(text)
  right = answer == problem.answer
  return Record(
    problem=problem,
    stage='solve',
    parent=None,
    index=0,
    prompt_tokens=np.zeros(0, np.int32),
    tokens=np.zeros(0, np.int32),
    logprobs=np.zeros(0, np.float32),
    text=text,
    parsed={
      'answer': answer,
      'correct': right,
      'grade': 'right' if right else 'wrong',
      'first_error': arithmetic.first_error(problem, text),
      'num_steps': len(arithmetic.read_steps(text)),
      'part': 'slips',
    },
  )


def slip(program: arithmetic.Program, rng: random.Random) -> str:
  """Writes a solution with one wrong result, near the true one, at any step.

  The later steps are worked out from the wrong result, and stay in the range
  of the world's numbers.
  """
  # Try until no later result leaves the range of the world's numbers.
  while True:
    wrong_step = rng.randrange(len(program.operations))
    offset = rng.choice((-3, -2, -1, 1, 2, 3))
    steps, value = [], program.start
    for i, (op, right) in enumerate(program.operations):
      result = arithmetic.compute(value, op, right) + (i == wrong_step) * offset
      steps.append(arithmetic.Step(i + 1, value, op, right, result))
      value = result
    if all(0 <= step.result <= arithmetic.MAX_VALUE for step in steps):
      return arithmetic.write_solution(steps)


def step_label(solution: Record, rng: random.Random) -> str:
  """Writes a critique that is its label: the first wrong step, no thinking."""
  error = arithmetic.first_error(solution.problem, solution.text)
  if error < 0:
    return arithmetic.write_critique([], 'Every step is right.', 'correct')
  return arithmetic.write_critique(
    [], f'Step {error + 1} is wrong.', 'incorrect'
  )


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
