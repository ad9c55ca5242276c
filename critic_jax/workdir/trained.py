"""A checkpoint of a run by its name: RUN, RUN:PHASE, RUN:best.

RUN is the run as it was at its end, RUN:PHASE at the end of a phase, and
RUN:best when its `best_metric` was best. RUN:PHASE:ROLE names a role of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from critic_jax import strict_json
from critic_jax.types import Params, Roles
from critic_jax.workdir import (
  checkpoint,
  checkpoint_files,
  provenance,
  settings,
)

_SECTIONS = ('models', 'data', 'graders', 'evals', 'seed', 'order', 'phases')


class Trained(NamedTuple):
  """A checkpoint of a run.

  Attributes:
    run: the run's folder.
    step: the steps that were done.
  """

  run: Path
  step: int

  @property
  def config(self) -> dict[str, Any]:
    """Returns the config of the run, which has all its sections."""
    return _read_config(self.run)

  @property
  def inputs(self) -> Mapping[str, str]:
    """Returns the digests of what the run has read, {} if they are unknown."""
    path = self.run / provenance.INPUTS
    return strict_json.read(path) if path.exists() else {}

  @property
  def folder(self) -> Path:
    """Returns the folder of the checkpoint."""
    return self.run / 'checkpoints' / str(self.step)

  def digest(self) -> str:
    """Returns the SHA-256 of the parameters as they are saved.

    Orbax names files at random: a copy has the same, a run that was trained
    again has others, even with equal parameters.
    """
    return checkpoint_files.digest(self.folder, 'roles')

  def read_role(self, role: str) -> Params:
    """Reads one role's parameters, see `checkpoint_files.read_role`."""
    return checkpoint_files.read_role(self.folder, role)

  def restore(self, roles: Roles) -> dict[str, Any]:
    """Restores the roles, in the shapes and shardings of `roles`."""
    path = self.folder.parent
    with checkpoint.make_manager(path, read_only=True) as manager:
      like = {'roles': dict(roles)}
      return checkpoint.restore(manager, self.step, like)['roles']


def find(name: str) -> tuple[Trained, str] | None:
  """Finds the checkpoint that a name is of.

  Args:
    name: RUN, RUN:PHASE or RUN:PHASE:ROLE; any of the three may have colons.

  Returns:
    The checkpoint and the role, '' if none is named; None if the name is not
    that of a run with checkpoints.

  Raises:
    ValueError: the run has no such checkpoint.
  """
  parts = name.split(':')
  for num_parts in range(len(parts), 0, -1):
    run = Path(':'.join(parts[:num_parts]))
    if (run / 'checkpoints').is_dir():
      return _find(run, ':'.join(parts[num_parts:]))
  return None


def _find(run: Path, rest: str) -> tuple[Trained, str]:
  """Finds the checkpoint of a run that PHASE or PHASE:ROLE names."""
  config, folder = _read_config(run), run / 'checkpoints'
  try:
    ends = {
      phase: step
      for phase, step in settings.phase_ends(config).items()
      if (folder / str(step)).is_dir()
    }
    last = config['order'][-1]
  except (TypeError, KeyError, IndexError) as error:
    raise ValueError(
      f'{run}/config.json: got {error!r} in its phases; expected the config of '
      'a run'
    ) from error
  best = checkpoint.best_step(folder)
  if best is not None:
    ends.setdefault('best', best)
  phase, role = rest, ''
  if rest not in ends:
    phase, _, role = rest.rpartition(':') if ':' in rest else (rest, '', '')
  phase = phase or last
  if phase not in ends:
    raise ValueError(
      f'checkpoint: got phase {phase!r} of {run}; expected one that is '
      f"finished, or 'best' where the run has a best_metric: {list(ends)}"
    )
  return Trained(run, ends[phase]), role


def _read_config(run: Path) -> dict[str, Any]:
  path = run / 'config.json'
  if not path.exists():
    raise ValueError(
      f'checkpoint: got no config.json in {run}; expected the folder of a run; '
      'bring it back'
    )
  config = strict_json.read(path)
  if missing := [name for name in _SECTIONS if name not in config]:
    raise ValueError(
      f'checkpoint: got a config.json without {missing} in {run}; expected '
      'that of a run'
    )
  return config
