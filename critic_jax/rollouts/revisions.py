"""Further rounds of critique and refine: answers are criticised in turn.

In round 2 the refinements of round 1 are criticised as solutions are, and
refined again; and so on. A prompt shows the newest answer in the solution's
place, and nothing of the rounds before. Stages have the number of their round,
`critique_2` and `refine_2`; those of round 1 have none.
"""

from __future__ import annotations

import dataclasses

from critic_jax.types import Record, Stage


def critique_stage(critique: Stage, number: int) -> Stage:
  """Returns the critiques of round `number`, which respond to refinements."""

  def prompt(answer):
    return critique.prompt(_as_solution(answer))

  return critique._replace(name=name(critique.name, number), prompt=prompt)


def refine_stage(refine: Stage, number: int) -> Stage:
  """Returns the refinements of round `number`, which respond to critiques."""

  def prompt(critique):
    parent = _as_solution(critique.parent)
    return refine.prompt(dataclasses.replace(critique, parent=parent))

  return refine._replace(name=name(refine.name, number), prompt=prompt)


def name(stage: str, number: int) -> str:
  """Returns what a stage of round `number` is called, from 1.

  >>> name('refine', 1), name('refine', 2)
  ('refine', 'refine_2')
  """
  return stage if number == 1 else f'{stage}_{number}'


def _as_solution(answer: Record) -> Record:
  """Returns a refinement as if it had been the solution."""
  return dataclasses.replace(answer, stage='solve', parent=None)
