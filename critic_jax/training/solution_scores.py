"""Reward models that score solutions of an evaluation, whoever wrote them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
  """Binds what scores the solutions of an evaluation.

  Args:
    section: the evaluation's, with `reward_model` or `step_scores`, or neither.
    lms: by role.

  Returns:
    Parameters by role -> what scores solutions, or None.

  Raises:
    ValueError: a setting is wrong, or both are there.
  """
  settings = section.get('reward_model') or dict(roles=(), name='average')
  reader = reward_models.make_reader(
    lms, settings, weight=float(bool(settings.get('roles')))
  )
  role_checks.check_readers(reader.roles, lms)
  of_steps = section.get('step_scores')
  step_scorers.bind(of_steps, lms)
  if not reader.roles:
    return lambda roles: step_scorers.scorer(of_steps, lms, roles)
  if of_steps and of_steps.get('role'):
    raise ValueError(
      f'reward_model.roles, step_scores.role: got {reader.roles} and '
      f'{of_steps["role"]!r}; expected one kind of score; leave one empty'
    )
  return lambda roles: scorer(reader, lms, roles)


def scorer(
  reader: reward_models.Reader, lms: Mapping[str, LM], roles: Roles
) -> Callable[[Sequence[Record]], list[Record]] | None:
  """Returns what scores solutions; None without reward models.

  Solutions are read in the tokens of the first reward model, and behind its
  prompt: they may be from files, or of a solver of another family. Those that
  it has no room for have no score.

  Args:
    reader: the reward models, of one vocabulary (`role_checks.check_readers`).
    lms: by role.
    roles: parameters by role.
  """
  if not reader.roles:
    return None
  lm = lms[reader.roles[0]]

  def score(solutions):
    scored = []
    for part, _, batch in batching.reread_batches(solutions, lm):
      scored += reader.write(part, batch, roles)
    return rollout.score(
      scored, [], {'score': preferences.scored}, {'score': 1.0}
    )

  return score
