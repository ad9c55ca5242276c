"""What is known of graded solutions, written as short critiques.

`critique` is a label, to be imitated or followed, and `second_look` the same
of a critique's solution; `leaked_answer` gives the
answer away, and is a measure of what that is worth.
"""

from __future__ import annotations

import random

from critic_jax.rewards import refinement
from critic_jax.types import Record


def critique(
  solution: Record, rng: random.Random, *, verdict_first: bool
) -> str:
  r"""Writes what is known of a given solution, in the form that is rewarded.

  The first wrong step is named where it is labelled, and counted from 1. A
  solution that `refinement.is_right` calls right although a step is labelled
  wrong gets a critique that the reward for verdicts refuses, so that a cold
  start leaves it out.

  >>> solution = Record(None, 'solve', None, 0, (), (), (), '', parsed={
  ...   'correct': False, 'first_error': 1})
  >>> critique(solution, random.Random(0), verdict_first=True)
  'Verdict: incorrect\nStep 2 is wrong.'

  Args:
    solution: a graded solution.
    rng: not used; the label is one text.
    verdict_first: whether the verdict comes before the advice: the whole
      solution is then the last thing read before it, and the first token of a
      response decides.
  """
  del rng
  return _label(solution, verdict_first)


def _label(solution: Record, verdict_first: bool) -> str:
  first_error = solution.parsed.get('first_error')
  is_right = refinement.is_right(solution)
  if first_error is not None and first_error >= 0:
    is_right, advice = False, f'Step {first_error + 1} is wrong.'
  elif is_right:
    advice = 'I find no mistake.'
  else:
    advice = 'There is a mistake.'
  verdict = f'Verdict: {"correct" if is_right else "incorrect"}'
  lines = (verdict, advice) if verdict_first else (advice, verdict)
  return '\n'.join(lines)


def leaked_answer(solution: Record, rng: random.Random) -> str:
  r"""Writes the verdict and the reference answer, which no critic should know.

  Who follows it need not find the error, nor even read the solution.

  >>> from critic_jax.types import Problem
  >>> problem = Problem('', '6 * 7?', '42')
  >>> solution = Record(problem, 'solve', None, 0, (), (), (), '', parsed={
  ...   'correct': False})
  >>> leaked_answer(solution, random.Random(0))
  'The answer is \\boxed{42}.\nVerdict: incorrect'

  Args:
    solution: a graded solution.
    rng: not used.
  """
  del rng
  verdict = 'correct' if refinement.is_right(solution) else 'incorrect'
  answer = solution.problem.answer
  return f'The answer is \\boxed{{{answer}}}.\nVerdict: {verdict}'


def second_look(critique: Record, rng: random.Random) -> str:
  r"""Writes the label of a solution as a second look at a critique of it.

  It takes the place of a stronger model that looks again until it is right: the
  label says what it would come to, and none of its reasons.

  Args:
    critique: of a graded solution.
    rng: not used.
  """
  return _label(critique.parent, verdict_first=False)
