"""A step's solutions: the solver's, a rule's in its place, or given ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from critic_jax import lookup
from critic_jax.rollouts import rollout, written
from critic_jax.types import Key, Problem, Record, Roles

Solve = Callable[[Roles, Sequence[Problem | Record], Key], list[Record]]


def bind(
  lm: Any,
  num_solutions: int,
  *,
  write: written.Write | None = None,
  grade: rollout.Grade | None = None,
) -> Solve:
  """Returns the step from a step's examples to their solutions.

  Args:
    lm: the LM of the role 'solver'; where a rule writes, an LM whose stage it
      is; None where solutions are given.
    num_solutions: solutions of each problem; 0: the examples are solutions.
    write: a rule in the solver's place, `(problem, rng) -> solution`, or None.
    grade: final answers to grades; None leaves the solutions ungraded.

  Returns:
    `(roles, examples, key) -> solutions`; siblings are adjacent, and the key is
    consumed.

  Raises:
    ValueError: `num_solutions` is not a count.
  """
  lookup.check_counts(0, num_solutions=num_solutions)

  def solve(roles, examples, key):
    if not num_solutions:
      solutions = rollout.given(examples)
    elif grade and not write:
      solver, stage = lm.bind(roles['solver']), lm.stages.solve
      return rollout.run_graded(
        stage, solver, examples, key, grade, n=num_solutions
      )
    else:
      solver = None if write else lm.bind(roles['solver'])
      solutions = written.or_sampled(
        lm.stages.solve, solver, examples, write, key, n=num_solutions
      )
    return rollout.grade(solutions, grade) if grade else solutions

  return solve
