"""Roles that have adapters (models/lora.py): what is trained, and saved.

The base of such a role is that of its source, which is never changed; so roles
of one source have one copy of it (`roles.init_params`), a checkpoint has the
adapters alone, and the run knows the base by its content (`inputs.py`). A role
that is the base as it is, such as a frozen solver or a reference, is not saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from critic_jax import lookup
from critic_jax.models import lora
from critic_jax.models.config import Lora
from critic_jax.sampling import served
from critic_jax.training import model_sources
from critic_jax.types import Params, Roles
from critic_jax.workdir import checkpoint
from critic_jax.workdir.trained import Trained


def make(settings: Mapping[str, Any] | None) -> Lora | None:
  """Makes the adapters of a role from the section `lora` of its model.

  Raises:
    ValueError: a name or a value is wrong.
  """
  if not settings:
    return None
  with lookup.naming('lora'):
    lookup.check_settings(Lora, settings, 'lora')
    made = Lora(**settings)
  return made if made.rank else None


def check(
  settings: Mapping[str, Any] | None, source: str, head: str, param_dtype: str
) -> None:
  """Checks that a model may have adapters.

  Args:
    settings: the section `lora` of the model.
    source: the model's.
    head: the model's.
    param_dtype: the model's.

  Raises:
    ValueError: it may not.
  """
  if make(settings) is None:
    return
  if not source:
    raise ValueError(
      'lora: got a model that is drawn; expected the source of weights that '
      'adapters change; set source, or lora.rank=0'
    )
  if head != 'lm' and param_dtype == 'int8':
    raise ValueError(
      f'lora: got head={head!r}, which is trained, in int8; expected floats; '
      "set param_dtype to 'bfloat16' or 'float32'"
    )


def check_used(config) -> None:
  """Raises ValueError for adapters that no phase of a run changes.

  Such are those of two roles whose sections were made of one dict.
  """
  used = model_sources.touched_roles(config)
  for role, section in config.models.items():
    if model_sources.has_adapters(section) and role not in used:
      raise ValueError(
        f'models.{role}.lora: got rank={section.lora.rank} of a role that no '
        f'phase trains; expected 0; set models.{role}.lora.rank=0, and give '
        'each role a section of its own'
      )


def check_copies(models: Mapping[str, Any], copies: Mapping[str, str]) -> None:
  """Checks that adapters are copied to like adapters of the same base.

  Args:
    models: the sections of a run's models.
    copies: the source of each target role.

  Raises:
    ValueError: they are not.
  """
  for target, source in copies.items():
    pair = target, source
    ours, theirs = (make(models[role].get('lora')) for role in pair)
    if not ours and not theirs:
      continue
    origins = {model_sources.find(models[r]['source'], r) for r in pair}
    if ours != theirs or len(origins) > 1:
      raise ValueError(
        f'copy: got {target}={source}, of which one has adapters that the '
        'other has not, or has on another base; expected roles of one source '
        f'with the same lora; set models.{target}.source and '
        f'models.{target}.lora to those of {source}'
      )


def split_roles(
  roles: Roles, names: Iterable[str]
) -> tuple[dict[str, Params], dict[str, Params]]:
  """Divides the parameters of roles into what is trained, and the others.

  Args:
    roles: parameters by role.
    names: the roles that are trained.

  Returns:
    The trained parameters by role, and the bases of the roles with adapters.
  """
  parts = {role: lora.split(roles[role]) for role in names}
  trained = {role: part for role, (part, _) in parts.items()}
  return trained, {role: base for role, (_, base) in parts.items() if base}


def join_roles(roles: Roles, parts: Roles) -> dict[str, Params]:
  """Returns roles with other values of some parameters.

  Args:
    roles: parameters by role.
    parts: parameters of some roles, all or a part of each.
  """
  joined = {role: lora.join(roles.get(role, {}), parts[role]) for role in parts}
  return {**roles, **joined}


def saved(roles: Roles, config: Mapping[str, Any]) -> dict[str, Params]:
  """Returns the parameters that a checkpoint has.

  Args:
    roles: parameters by role, or their shapes.
    config: the config of the run, a ConfigDict or as JSON has it.
  """
  left_out = model_sources.unsaved_roles(config)
  return {
    role: lora.split(params)[0]
    for role, params in roles.items()
    if role not in left_out
  }


def sources_of(config: Mapping[str, Any]) -> set[str]:
  """Returns the roles of a run whose sources its checkpoints need."""
  models = config['models']
  adapted = {r for r in models if model_sources.has_adapters(models[r])}
  return adapted | model_sources.unsaved_roles(config)


def restore(manager, step: int, roles: Roles, config, **like) -> dict[str, Any]:
  """Restores roles, and other items of a checkpoint.

  Args:
    manager: the manager of the run's checkpoints.
    step: the checkpoint's.
    roles: parameters by role; what is not saved of them stays.
    config: the config of the run.
    **like: templates of other items, see `checkpoint.restore`.

  Raises:
    ValueError: as `checkpoint.restore`.
  """
  like = {'roles': saved(roles, config), **like}
  items = checkpoint.restore(manager, step, like)
  return {**items, 'roles': join_roles(roles, items['roles'])}


def restore_trained(trained: Trained, roles: Roles) -> dict[str, Params]:
  """Restores the roles of another run, whose sources have been loaded."""
  return join_roles(roles, trained.restore(saved(roles, trained.config)))


def lenders(config, lms: Mapping[str, Any]) -> dict[str, str]:
  """Returns the roles that have arrays of another one, by that one's name.

  They are those that `roles.init_params` shares, where no phase changes them.

  Args:
    config: the config of a run.
    lms: by role.
  """
  changed = model_sources.changed_roles(config)
  first: dict[Any, str] = {}
  result = {}
  for role in sorted({*served.local(lms)} - changed):
    source, model = config.models[role].source, lms[role].model.config
    if source:
      origin = model_sources.find(source, role)
      place = origin, model.param_dtype, model.layers
      result[role] = first.setdefault(place, role)
  return {role: other for role, other in result.items() if role != other}
