"""The `instruct` style with a short question for a critique.

Its words are few, for critics that read on a CPU: what is asked is learned by
imitation, and not shown by examples.
"""

from __future__ import annotations

from critic_jax.rewards import verdicts
from critic_jax.rollouts.styles import instruct
from critic_jax.types import Record, Stage


def ask_critique(solution: Record) -> str:
  """Asks for a verdict on a solution."""
  return (
    f'Problem: {solution.problem.question}\n\nSolution:\n{solution.text}\n\n'
    'Is the solution correct or incorrect?'
  )


STAGES = instruct.STAGES._replace(
  critique=Stage('critique', ask_critique, verdicts.parse)
)
