"""Saves and restores a run's state: parameters of all roles, optimiser, step.

Random keys and batches are functions of the config and the step, so these three
are the whole state. Checkpoints are orbax's: written beside the last, then
renamed.
"""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp


def make_manager(folder: pathlib.Path, *, keep: int) -> ocp.CheckpointManager:
  """A manager of the newest `keep` checkpoints in a folder."""
  options = ocp.CheckpointManagerOptions(
    max_to_keep=keep, create=True, enable_async_checkpointing=False
  )
  return ocp.CheckpointManager(folder.absolute(), options=options)


def save(manager: ocp.CheckpointManager, step: int, state: Any) -> None:
  """Saves a tree of arrays under a step, and waits for it."""
  manager.save(step, args=ocp.args.StandardSave(state))
  manager.wait_until_finished()


def restore(manager: ocp.CheckpointManager, step: int, like: Any) -> Any:
  """The tree saved under a step, with the shapes and shardings of `like`.

  Raises:
    ValueError: the checkpoint does not have that form.
  """
  abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
  try:
    return manager.restore(step, args=ocp.args.StandardRestore(abstract))
  except (ValueError, KeyError, OSError) as error:
    raise ValueError(
      f'{manager.directory}/{step}: got a checkpoint that does not fit '
      f'({error}); expected one of this config; start in another workdir'
    ) from error
