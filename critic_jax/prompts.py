"""Every prompt; pure functions of a Problem or of the Record responded to.

Two styles. `plain` labels the parts and leaves the rest to training: for
models trained here from scratch. `instruct` says in words what is wanted: for
instruct models behind their chat template. The solver is shown a critique's
conclusion only, never its thinking.
"""

from __future__ import annotations

from critic_jax.types import Problem, Record


def plain_solve(problem: Problem) -> str:
  """Asks for a solution."""
  return f'Problem: {problem.question}\nSolution:'


def plain_critique(solution: Record) -> str:
  """Asks for a critique of a solution."""
  return f'{plain_solve(solution.problem)}\n{solution.text}\nCritique:'


def plain_refine(critique: Record) -> str:
  """Asks for a refined solution in the light of a critique."""
  solution = critique.ancestor('solve')
  conclusion = critique.parsed.get('conclusion') or ''
  return f'{plain_critique(solution)}\n{conclusion}\nRefined solution:'


def instruct_solve(problem: Problem) -> str:
  """Asks for a solution."""
  return (
    f'{problem.question}\n\nSolve the problem step by step, one step a line. '
    'End with the final answer in \\boxed{}.'
  )


def instruct_critique(solution: Record) -> str:
  """Asks for a critique of a solution."""
  return (
    'Check a solution to a problem.\n\n'
    f'Problem:\n{solution.problem.question}\n\n'
    f'Solution:\n{solution.text}\n\n'
    'Go through the solution step by step and compute each step yourself. '
    'If a step is wrong, say which one and how to put it right. End with one '
    'line that is either "Verdict: correct" or "Verdict: incorrect".'
  )


def instruct_refine(critique: Record) -> str:
  """Asks for a refined solution in the light of a critique."""
  solution = critique.ancestor('solve')
  conclusion = critique.parsed.get('conclusion') or ''
  return (
    'Improve a solution to a problem with the help of a critique.\n\n'
    f'Problem:\n{solution.problem.question}\n\n'
    f'Solution:\n{solution.text}\n\nCritique:\n{conclusion}\n\n'
    'Write the improved solution step by step, one step a line. End with the '
    'final answer in \\boxed{}.'
  )
