"""The stages of the critic loop: a prompt with its parser, by prompt style."""

from __future__ import annotations

from typing import Any, NamedTuple

from critic_jax import prompts
from critic_jax.rewards import answers, verdicts
from critic_jax.types import Stage


class Stages(NamedTuple):
  """Solve a problem, critique the solution, refine it with the critique."""

  solve: Stage
  critique: Stage
  refine: Stage


def parse_answer(text: str) -> dict[str, Any]:
  """What is read from a solution: its final answer, or None."""
  return {'answer': answers.extract(text)}


PLAIN = Stages(
  Stage('solve', prompts.plain_solve, parse_answer),
  Stage('critique', prompts.plain_critique, verdicts.parse),
  Stage('refine', prompts.plain_refine, parse_answer),
)
INSTRUCT = Stages(
  Stage('solve', prompts.instruct_solve, parse_answer),
  Stage('critique', prompts.instruct_critique, verdicts.parse),
  Stage('refine', prompts.instruct_refine, parse_answer),
)


def make_stages(style: str) -> Stages:
  """The stages in a prompt style.

  Raises:
    ValueError: an unknown style.
  """
  styles = {'plain': PLAIN, 'instruct': INSTRUCT}
  if style not in styles:
    raise ValueError(f'prompts: got {style!r}; expected one of {list(styles)}')
  return styles[style]
