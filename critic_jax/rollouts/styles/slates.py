"""Prompts of critics that score several responses to a problem in one text.

The lines of responses are quoted, so that none ends its part or begins
another's. For models trained from scratch: parts are only labelled.
"""

from __future__ import annotations

from critic_jax.rewards import ratings
from critic_jax.rollouts.stages import quoted
from critic_jax.rollouts.styles import plain
from critic_jax.types import Record, Stage


def ask_scores(slate: Record) -> str:
  """Asks for a critique of a slate that ends with a score of each response.

  A slate with a hint says which response is best (`ratings.hinted`).

  Raises:
    ValueError: the record is no slate.
  """
  fields = ratings.read(slate)
  parts = [f'Problem: {slate.problem.question}']
  parts += [
    f'Response {number}:\n{quoted(text)}'
    for number, text in enumerate(fields.shown, 1)
  ]
  if hint := slate.parsed.get('hint'):
    parts.append(f'Response {hint} is best.')
  parts.append(f'Scores: {fields.low} to {fields.high}\nCritique:')
  return '\n'.join(parts)


STAGES = plain.STAGES._replace(
  critique=Stage('critique', ask_scores, ratings.parse)
)
