"""Prompts in full sentences, for instruct models with their chat template.

A refinement is the solver's next turn after its solution.
"""

from __future__ import annotations

from critic_jax.rewards import verdicts
from critic_jax.rollouts.stages import Stages, advice, parse_answer
from critic_jax.types import Conversation, Problem, Record, Stage


def ask_solution(problem: Problem) -> str:
  """Asks for a solution."""
  return (
    f'{problem.question}\n\nSolve the problem step by step, one step a line. '
    'End with a line like this one: The answer is \\boxed{7}.'
  )


def ask_critique(solution: Record) -> str:
  """Asks for a critique; two examples show its form to small models."""
  return (
    f'Problem:\n{solution.problem.question}\n\n'
    f'A student wrote this solution:\n{solution.text}\n\n'
    'You are the teacher. Go through the solution step by step. Say which step '
    'is wrong, if any, and how to put it right. Then write the verdict on a '
    'line of its own.\n\n'
    'Example of an answer:\nStep 2 is wrong. 3 times 4 is 12, not 10.\n'
    'Verdict: incorrect\n\n'
    'Another example:\nEvery step is right.\nVerdict: correct'
  )


def ask_refinement(critique: Record) -> Conversation:
  """Asks for a refined solution in the light of a critique."""
  solution = critique.ancestor('solve')
  return Conversation(
    ask_solution(solution.problem),
    solution,
    f'A teacher says about your solution:\n{advice(critique)}\n\n'
    'Write a better solution step by step, one step a line. End with a line '
    'like this one: The answer is \\boxed{7}.',
  )


STAGES = Stages(
  Stage('solve', ask_solution, parse_answer),
  Stage('critique', ask_critique, verdicts.parse),
  Stage('refine', ask_refinement, parse_answer),
)
