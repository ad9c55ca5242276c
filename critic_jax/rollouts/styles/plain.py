"""Prompts that only label their parts, for models trained from scratch."""

from __future__ import annotations

from critic_jax.rewards import verdicts
from critic_jax.rollouts.stages import Stages, advice, parse_answer
from critic_jax.types import Problem, Record, Stage


def ask_solution(problem: Problem) -> str:
  """Asks for a solution."""
  return f'Problem: {problem.question}\nSolution:'


def ask_critique(solution: Record) -> str:
  """Asks for a critique of a solution."""
  return f'{ask_solution(solution.problem)}\n{solution.text}\nCritique:'


def ask_refinement(critique: Record) -> str:
  """Asks for a refined solution in the light of a critique."""
  solution = critique.ancestor('solve')
  return f'{ask_critique(solution)}\n{advice(critique)}\nRefined solution:'


STAGES = Stages(
  Stage('solve', ask_solution, parse_answer),
  Stage('critique', ask_critique, verdicts.parse),
  Stage('refine', ask_refinement, parse_answer),
)
