"""The stages of the critic loop, and the parts that prompt styles share.

A style is a module of `rollouts/styles/` that exports `STAGES`; its prompts are
pure functions of a Problem or of the Record responded to. The solver is shown a
critique's conclusion only, never its thinking. A style may ask for a refinement
in the conversation in which the solver wrote its solution (`Conversation`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from critic_jax import lookup
from critic_jax.answers import final_answers
from critic_jax.types import Record, Stage


class Stages(NamedTuple):
  """Solve a problem, critique the solution, refine it with the critique."""

  solve: Stage
  critique: Stage
  refine: Stage


def make_stages(style: str) -> Stages:
  """Returns the stages of a prompt style: a module of `rollouts/styles/`.

  Raises:
    ValueError: there is no such style.
  """
  try:
    return lookup.module('rollouts.styles', style).STAGES
  except ValueError as error:
    raise ValueError(f'prompts: {error}') from None


def advice(critique: Record) -> str:
  """Returns the part of a critique that the solver is shown, maybe ''."""
  return critique.parsed.get('conclusion') or ''


def quoted(text: str) -> str:
  """Returns a text with each of its lines quoted.

  >>> quoted('a\\n\\nResponse 2:')
  '> a\\n> \\n> Response 2:'
  """
  return '\n'.join(f'> {line}' for line in text.splitlines() or [''])


def parse_answer(text: str) -> dict[str, Any]:
  """Returns the `answer` of a solution: its final answer, or None."""
  return {'answer': final_answers.extract(text)}
