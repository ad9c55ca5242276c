"""The names of a config's settings, checked before anything else is done.

A section's settings are the keyword-only parameters of the function that takes
them, so an unknown, misspelt or missing one is an error with the nearest names.
Models, phases and evaluations check their own sections when they are made.
"""

from __future__ import annotations

import datetime
import re

from critic_jax import lookup
from critic_jax.graders.pool import Pool
from critic_jax.models import layer_stack
from critic_jax.runtime import sharding
from critic_jax.training import data_sections
from critic_jax.workdir import trackers

SETTINGS = (
  'seed', 'date', 'data', 'models', 'mesh', 'sample_mesh', 'graders',
  'keep_checkpoints', 'best_metric', 'compile_ahead', 'compilation_cache',
  'phases', 'order', 'evals', 'trackers',
)  # fmt: skip


def check_names(config, also: tuple[str, ...] = ()) -> None:
  """Checks the names of a config, and those of its sections of a fixed form.

  Args:
    config: the config of a run or of an evaluation.
    also: other names that the config has, such as 'checkpoint'.

  Raises:
    ValueError: a name is unknown, or is missing.
  """
  for name in config:
    lookup.check_name('config', name, {*SETTINGS, *also})
  for name in SETTINGS:
    lookup.check_has(name, config, 'config')
  lookup.check_counts(0, seed=config.seed)
  if not _is_day(config.date):
    raise ValueError(
      f"date: got {config.date!r}; expected a day such as '2026-01-31'"
    )
  for role in config.models:
    _check_role(role)
  lookup.check_counts(keep_checkpoints=config.keep_checkpoints)
  trackers.names(config.trackers)
  for section in ('mesh', 'sample_mesh'):
    for name in config[section]:
      lookup.check_name(f'axis of {section}', name, sharding.AXES)
  graders = {*lookup.settings_of(Pool), 'num_workers'}
  for name in config.graders:
    lookup.check_name('setting of graders', name, graders)
  if config.data:
    data_sections.check_section(config.data)


def _check_role(role) -> None:
  """Raises ValueError for a role's name that a tree of parameters cannot have.

  In a checkpoint it stands between the names of other parts.
  """
  is_word = isinstance(role, str) and re.fullmatch(r'\w[\w-]*', role)
  if not is_word or re.fullmatch(rf'{layer_stack.LAYERS}(_\d+)?', role):
    raise ValueError(
      f'models: got the role {role!r}; expected a word, but not '
      f'{layer_stack.LAYERS!r}, which names the layers of a model; rename it'
    )


def _is_day(date) -> bool:
  try:
    return datetime.date.fromisoformat(date).isoformat() == date
  except (ValueError, TypeError):
    return False
