"""The stages and the batch of a phase, with lengths, as its recipe says.

A problem is taken to be as long as the first column of `lengths`, a response as
its limit times `length_share`, a later prompt as the problem and the responses
before it, up to the last column. Every critique is refined. What a server
samples is left out.
"""

from __future__ import annotations

from typing import NamedTuple

from critic_jax.sampling.lm import LM
from critic_jax.sampling.served import Served
from critic_jax.types import Recipe


class Sampled(NamedTuple):
  """One stage of sampling.

  Attributes:
    stage: the name of the stage in records.
    role: the role that writes it.
    prompts: number of prompts.
    samples: responses to each prompt.
    prompt: tokens of each prompt.
    new: tokens of each response.
  """

  stage: str
  role: str
  prompts: int
  samples: int
  prompt: int
  new: int


class Learned(NamedTuple):
  """The batch of an update: rows, columns, and whether they are packed."""

  rows: int
  columns: int
  packed: bool


def sampled(
  recipe: Recipe, lms: dict[str, LM], length_share: float = 1.0
) -> list[Sampled]:
  """Returns the stages of a phase in order.

  Args:
    recipe: the phase's recipe.
    lms: LMs by role.
    length_share: mean length of responses over their limit.
  """
  stages, length = [], 0  # tokens of a problem and of the responses to it
  for stage in recipe.sampled:
    lm = lms[stage.role]
    if isinstance(lm, Served):  # takes no time and no memory here
      length += round(lm.max_new_tokens * length_share)
      continue
    prompt = min(max(length, lm.lengths[0]), lm.lengths[-1])
    new = max(1, round(lm.max_new_tokens * length_share))
    stages.append(Sampled(*stage, prompt, new))
    length = prompt + new
  return stages


def overlong(
  recipe: Recipe, lms: dict[str, LM], problem: int = 0
) -> dict[str, tuple[int, int]]:
  """Returns the stages of which some prompts may be refused.

  A prompt holds the responses above it, which may all be as long as their
  limit. It needs room for the problem and for the words around them, too.
  Stages of one name, as of several refiners, begin alike.

  Args:
    recipe: the phase's recipe.
    lms: LMs by role.
    problem: tokens that are kept for the problem.

  Returns:
    By stage the tokens that a prompt may have, and the most that it can have.
  """
  stages, begins, length = {}, {}, problem
  for stage in recipe.sampled:
    lm = lms[stage.role]
    begin = begins.setdefault(stage.stage, length)
    if isinstance(lm, LM) and begin and begin >= lm.lengths[-1]:
      stages[stage.stage] = begin, lm.lengths[-1]
    length = max(length, begin + lm.max_new_tokens)
  return stages


def learned(row_shapes, recipe: Recipe, lms: dict[str, LM]) -> Learned:
  """Returns the largest batch that the phase packs, or its plain rows."""
  if row_shapes:
    return Learned(*row_shapes[-1], packed=True)
  columns = max(
    lms[role].lengths[-1] + lms[role].max_new_tokens for role in recipe.trained
  )
  return Learned(recipe.num_rows, columns, packed=False)
