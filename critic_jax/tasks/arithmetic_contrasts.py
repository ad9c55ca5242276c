"""Critiques of paths in the embedded world, in contrast to a right one or not.

After MMC (https://arxiv.org/abs/2504.11009), where a model lays a wrong path
beside a right one and writes what is wrong at the step at which they part. Two
annotators write the same text here, and differ in what a path is laid beside:

* `contrasted`: the right path that the solver sampled (rewards/contrasts.py);
* `alone`: what the annotator works out itself, who is no better at it than the
  student of this world, and has the same facts wrong most of the time.
"""

from __future__ import annotations

import random

from critic_jax.rewards import contrasts
from critic_jax.tasks import arithmetic, arithmetic_lessons
from critic_jax.types import Record


def contrasted(solution: Record, rng: random.Random) -> str:
  """Writes a critique of a solution beside the nearest right one.

  Args:
    solution: a 'solve' record with `parsed['contrast']`.
    rng: not used; the contrast has one text.
  """
  del rng
  return _compare(solution.text, solution.parsed['contrast'])


def alone(solution: Record, rng: random.Random, *, hard_share: float) -> str:
  """Writes a critique of a solution from the path alone, without its contrast.

  Args:
    solution: a 'solve' record of a problem of this world.
    rng: consumed.
    hard_share: the share of facts that are hard for the annotator, as of
      `arithmetic_lessons.student_fact`.
  """
  program = arithmetic.read_program(solution.problem)
  fact = arithmetic_lessons.student_fact(rng, hard_share)
  own = arithmetic.write_solution(arithmetic.work(program, fact))
  return _compare(solution.text, own)


def _compare(text: str, other: str) -> str:
  """Writes a critique of a solution that takes another one for right.

  Its thinking checks the steps up to the one at which they part; its advice
  names that step, and says what the other solution has there. An answer is not
  given away: of the line after the last step only the number is named.
  """
  path, right = contrasts.steps(text), contrasts.steps(other)
  thoughts = arithmetic_lessons.check_steps(
    arithmetic.read_steps(other),
    arithmetic.read_steps(text),
    arithmetic.write_check,
  )[1]
  if path == right:
    return arithmetic.write_critique(
      thoughts, 'Every step is right.', 'correct'
    )
  at, _ = contrasts.divergence(path, [right])
  advice = f'Step {at + 1} is wrong.'
  if corrections := arithmetic.read_steps('\n'.join(right[at : at + 1])):
    advice += f' It should be\n{corrections[0]}'
  return arithmetic.write_critique(thoughts, advice, 'incorrect')
