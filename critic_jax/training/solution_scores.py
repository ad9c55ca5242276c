"""Reward models that score records of an evaluation, whoever wrote them.

They read solutions, to choose among them, or critiques, to choose among votes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import reward_models
from critic_jax.rewards import preferences
from critic_jax.rollouts import rollout
from critic_jax.sampling.lm import LM
from critic_jax.training import role_checks, step_scorers
from critic_jax.types import Record, Roles


def bind(
  section: Mapping, lms: Mapping[str, LM]
) -> Callable[[Roles], Callable | None]:
  """Binds what scores the solutions or the critiques of an evaluation.

  Args:
    section: the evaluation's, with `reward_model` or `step_scores`, or neither.
      `reward_model.stage` is 'solve', or 'critique'.
    lms: by role.

  Returns:
    Parameters by role -> what scores records of one stage, or None. It returns
    those of others as they are.

  Raises:
    ValueError: a setting is wrong, or both are there.
  """
  settings = dict(section.get('reward_model') or dict(roles=(), name='average'))
  stage = settings.pop('stage', 'solve')
  with lookup.naming('reward_model'):
    lookup.check_name('stage', stage, ('solve', 'critique'))
  reader = reward_models.make_reader(
    lms, settings, weight=float(bool(settings.get('roles')))
  )
  role_checks.check_readers(reader.roles, lms)
  of_steps = section.get('step_scores')
  step_scorers.bind(of_steps, lms)
  if not reader.roles:
    return lambda roles: _only(
      'solve', step_scorers.scorer(of_steps, lms, roles)
    )
  if of_steps and of_steps.get('role'):
    raise ValueError(
      f'reward_model.roles, step_scores.role: got {reader.roles} and '
      f'{of_steps["role"]!r}; expected one kind of score; leave one empty'
    )
  return lambda roles: _only(stage, scorer(reader, lms, roles))


def _only(stage: str, score: Callable | None) -> Callable | None:
  """Returns what scores records of a stage, and returns others as they are."""
  if not score:
    return None

  def score_stage(records):
    is_scored = bool(records) and records[0].stage == stage
    return score(records) if is_scored else list(records)

  return score_stage


def scorer(
  reader: reward_models.Reader, lms: Mapping[str, LM], roles: Roles
) -> Callable[[Sequence[Record]], list[Record]] | None:
  """Returns what scores records of one stage; None without reward models.

  They are read in the tokens of the first reward model, and behind its prompt:
  they may be from files, or of a model of another family. Those that it has no
  room for have no score.

  Args:
    reader: the reward models, of one vocabulary (`role_checks.check_readers`).
    lms: by role.
    roles: parameters by role.
  """
  if not reader.roles:
    return None
  lm = lms[reader.roles[0]]

  def score(records):
    scored = []
    for part, _, batch in batching.reread_batches(records, lm):
      scored += reader.write(part, batch, roles)
    return rollout.score(
      scored, [], {'score': preferences.scored}, {'score': 1.0}
    )

  return score
