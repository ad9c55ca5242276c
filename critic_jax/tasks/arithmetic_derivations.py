"""Derivations of the embedded world: solutions by who was told the answer.

In SciGLM's third attempt (https://arxiv.org/abs/2401.07950) a model is given
the true answer and asked how to get there. The student of this world works the
problem anew; where that does not end in the answer, it forges: its last line
says the answer, whatever its operation gives. So each derivation has the right
answer, and as many are unfaithful as a student's solutions are wrong.
"""

from __future__ import annotations

import random

from critic_jax.tasks import arithmetic, arithmetic_lessons, labels
from critic_jax.tasks.lessons import Lesson
from critic_jax.types import Problem, Record


def derive(
  program: arithmetic.Program, answer: int, fact: arithmetic.Fact
) -> str:
  r"""Writes a solution that ends in an answer, by force if it must.

  >>> program = arithmetic.Program(5, (('+', 2), ('*', 2)))
  >>> derive(program, 14, lambda left, op, right: 8)
  'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 14\nThe answer is \\boxed{14}.'

  Args:
    program: the program of the problem.
    answer: what is to be derived.
    fact: how steps are worked.
  """
  steps = arithmetic.work(program, fact)
  steps[-1] = steps[-1]._replace(result=answer)
  return arithmetic.write_solution(steps)


def lesson(
  problem: Problem,
  rng: random.Random,
  *,
  hard_share: float,
  derive_share: float,
  max_steps: int,
  refine_share: float,
  mark_share: float,
  correct_share: float,
  point_share: float,
) -> Lesson:
  """Writes a derivation, or another lesson of the solver.

  Args:
    problem: a problem of this world, in the train split.
    rng: consumed.
    hard_share: the share of facts that are hard.
    derive_share: the probability of a derivation, in the light of the critique
      `labels.leaked_answer` of a wrong solution.
    max_steps: as of `arithmetic_lessons.solver_lesson`, and so are the others,
      whose shares are of what is no derivation.

  Returns:
    The lesson; of its messages only the last is learned.
  """
  other = arithmetic_lessons.solver_lesson(
    problem, rng, hard_share=hard_share, refine_share=refine_share,
    mark_share=mark_share, correct_share=correct_share,
    point_share=point_share, max_steps=max_steps,
  )  # fmt: skip
  if rng.random() >= derive_share:
    return other
  problem = other.problem
  program = arithmetic.read_program(problem)
  fact = arithmetic_lessons.student_fact(rng, hard_share)
  solution = arithmetic.write_solution(arithmetic.work(program, fact))
  record = Record(
    problem, 'solve', None, 0, (), (), (), solution, parsed={'correct': False}
  )
  told = labels.leaked_answer(record, rng)
  refined = derive(program, int(problem.answer), fact)
  messages = ('solve', solution), ('critique', told), ('refine', refined)
  return Lesson(problem, messages)
