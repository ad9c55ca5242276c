"""The phases of a run: sections of a config, checked before anything compiles.

What a section, or a model, lacks or has wrong is a ValueError that names the
phase.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import optax

from critic_jax import lookup
from critic_jax.inspection import limits
from critic_jax.objectives import masked
from critic_jax.training import optimizer
from critic_jax.types import Recipe
from critic_jax.workdir import run_dir

# Objectives that weigh a token by how likely it is now and was when sampled.
_CORRECTED = ('ppo_clip', 'gspo', 'cispo')


class Phase(NamedTuple):
  """A part of a run, checked and ready.

  Attributes:
    name: of its section in the config.
    config: the section.
    recipe: what it does.
    tx: the optimiser.
    schedule: updates done -> learning rate.
    start: steps of the run before it.
  """

  name: str
  config: Any
  recipe: Recipe
  tx: optax.GradientTransformation
  schedule: optax.Schedule
  start: int


def make_phases(config, lms, grade) -> list[Phase]:
  """The phases in order; checks all their settings.

  Raises:
    ValueError: a setting is wrong.
  """
  phases, start = [], 0
  for name in config.order:
    run_dir.check_name('order', name)
    if name not in config.phases:
      raise ValueError(
        f'order: got {name!r}; expected one of {sorted(config.phases)}'
      )
    section = config.phases[name]
    try:
      _check_roles(section, lms)
      _check_section(section)
      recipe = lookup.module('recipes', section.recipe).make(
        section, lms, grade
      )
      tx, schedule = optimizer.make_optimizer(
        steps=section.steps * section.epochs, **section.optimizer
      )
    except KeyError as error:
      raise ValueError(
        f'phases.{name}: got no {error}; expected it in the section, or a role '
        'of that name in models'
      ) from error
    except (ValueError, AttributeError, TypeError, ArithmeticError) as error:
      raise ValueError(f'phases.{name}: {error}') from error
    phases.append(Phase(name, section, recipe, tx, schedule, start))
    start += section.steps
  return phases


def phase_ends(config) -> dict[str, int]:
  """The step of the run at which each phase ends, in order."""
  ends, step = {}, 0
  for name in config['order']:
    step += config['phases'][name]['steps']
    ends[name] = step
  return ends


def _check_roles(section, lms) -> None:
  """Raises ValueError for roles that are not there, or can not be trained."""
  named = [*section.train, *section.copy, *section.copy.values()]
  if missing := [role for role in named if role not in [*lms]]:
    raise ValueError(f'got the roles {missing}; expected {sorted(lms)}')
  in_int8 = [r for r in section.train if lms[r].model.config.is_int8]
  if in_int8:
    raise ValueError(
      f'train: got {in_int8}, held in int8; expected roles of floats; set '
      f"models.{in_int8[0]}.param_dtype to 'float32'"
    )


def _check_section(section) -> None:
  """Raises ValueError for what would only be met at the first step."""
  for name in (
    'steps', 'epochs', 'microbatches', 'batch_size', 'records_every',
    'checkpoint_every',
  ):  # fmt: skip
    if not 1 <= section[name] < 2**31:
      raise ValueError(f'{name}: got {section[name]}; expected 1 to 2^31 - 1')
  if section.staleness not in (0, 1):
    raise ValueError(f'staleness: got {section.staleness}; expected 0 or 1')
  objective = section.get('objective', {}).get('name')
  if section.staleness and objective not in _CORRECTED:
    raise ValueError(
      f'staleness: got {section.staleness} with the objective {objective!r}, '
      f'which does not correct for it; expected one of {list(_CORRECTED)}'
    )
  masked.loss_weights(np.ones((1, 1), bool), section.aggregate, max_len=1)
  limits.check(section.limits, section.limit_action, section.limit_window)
