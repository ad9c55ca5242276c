"""Process reward models that score the steps of an evaluation's solutions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from critic_jax import lookup
from critic_jax.data import batching, step_rows
from critic_jax.loss_fns import scoring
from critic_jax.rewards import step_aggregates
from critic_jax.rollouts import completions
from critic_jax.sampling.lm import LM, get_models
from critic_jax.types import Record, Roles


def bind(settings: Mapping | None, lms: Mapping[str, LM]) -> Callable | None:
  """Returns how the scores of steps are one; None if no role scores them.

  Args:
    settings: `role`, '' for none, and `aggregate`, a function of
      rewards/step_aggregates.py; None is none.
    lms: by role.

  Raises:
    ValueError: no such function or role, or it has no reward head.
  """
  if settings is None:
    return None
  with lookup.naming('step_scores'):
    lookup.check_settings(_combine, settings, 'it')
    combine = _combine(**settings)
    if not settings['role']:
      return None
    get_models(lms, settings['role'])
    scoring.check_head(lms, settings['role'], 'reward')
  return combine


def _combine(*, role: str, aggregate: str) -> Callable:
  """Returns the function that settings name, which its parameters are."""
  del role
  return lookup.function(step_aggregates, aggregate)


def scorer(
  settings: Mapping | None, lms: Mapping[str, LM], roles: Roles
) -> Callable[[Sequence[Record]], list[Record]] | None:
  """Returns what scores the steps of solutions; None if no role does.

  Solutions are read in the tokens of the role and behind its prompt. One that
  it has no room for gets no scores.

  Args:
    settings: as of `bind`.
    lms: by role.
    roles: parameters by role.

  Returns:
    Solutions -> the same with `parsed['step_scores']`, the probability that
    each step is right, and `scores['score']`, to choose the best of several.
  """
  combine = bind(settings, lms)
  if not combine:
    return None
  lm = lms[settings['role']]

  def score(solutions):
    scored = []
    for part, read, batch in batching.reread_batches(solutions, lm):
      logits = scoring.score(
        scoring.Scorer.token_scores,
        scoring.bind(lms, roles, settings['role']),
        batch,
        microbatches=1,
      )
      rights = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
      scored += map(_scored, part, read, rights)
    return scored

  def _scored(solution, read, rights):
    ends = completions.step_ends(solution) if len(read.tokens) else []
    places = step_rows.step_tokens(read, ends, lm)
    if not places:
      return solution
    of_steps = rights[len(read.prompt_tokens) + np.array(places)].tolist()
    return dataclasses.replace(
      solution,
      parsed={**solution.parsed, 'step_scores': of_steps},
      scores={**solution.scores, 'score': combine(of_steps)},
    )

  return score
