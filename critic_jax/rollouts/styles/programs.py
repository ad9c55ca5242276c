"""The `instruct` style for problems whose answers are programs."""

from __future__ import annotations

from typing import Any

from critic_jax.execution import code
from critic_jax.rewards import verdicts
from critic_jax.rollouts.stages import Stages, advice
from critic_jax.types import Conversation, Problem, Record, Stage

_FORM = (
  'Write the whole program in one block, which begins with a line ```python '
  'and ends with a line ```. Use the standard library only.'
)


def ask_solution(problem: Problem) -> str:
  """Asks for a program."""
  return f'{problem.question}\n\n{_FORM}'


def ask_critique(solution: Record) -> str:
  """Asks for a critique of a program."""
  return (
    f'Problem:\n{solution.problem.question}\n\n'
    f'A student wrote this program:\n{solution.text}\n\n'
    'You are the teacher. Go through the program and say what it does wrong, '
    'if anything, and how to put it right. Then write the verdict on a line of '
    'its own.\n\n'
    'Example of an answer:\nThe loop leaves out the last item.\n'
    'Verdict: incorrect\n\n'
    'Another example:\nIt does what is asked.\nVerdict: correct'
  )


def ask_refinement(critique: Record) -> Conversation:
  """Asks for a refined program in the light of a critique."""
  solution = critique.ancestor('solve')
  return Conversation(
    ask_solution(solution.problem),
    solution,
    f'A teacher says about your program:\n{advice(critique)}\n\n'
    'Write a better program, in the same form: the whole of it in one block.',
  )


def parse_program(text: str) -> dict[str, Any]:
  """Returns the `answer` of a solution: its program, or None."""
  return {'answer': code.extract(text)}


STAGES = Stages(
  Stage('solve', ask_solution, parse_program),
  Stage('critique', ask_critique, verdicts.parse),
  Stage('refine', ask_refinement, parse_program),
)
