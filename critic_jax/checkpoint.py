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
  # Without a handler, a new process could not read the metadata.
  return ocp.CheckpointManager(
    folder.absolute(),
    options=options,
    item_handlers=ocp.StandardCheckpointHandler(),
  )


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
    # Compared here, since orbax would cast another dtype without a word.
    saved = _forms(manager.item_metadata(step))
    difference = _difference(saved, _forms(abstract))
    if difference:
      raise ValueError(difference)
    return manager.restore(step, args=ocp.args.StandardRestore(abstract))
  except (ValueError, KeyError, OSError) as error:
    raise ValueError(
      f'{manager.directory}/{step}: got a checkpoint that does not fit '
      f'({error}); expected one of this config; start in another workdir'
    ) from error


def _forms(tree) -> dict[str, str]:
  """The dtype and shape of each leaf, by its path."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      f'{leaf.dtype}{list(leaf.shape)}'
    )
    for path, leaf in leaves
  }


def _difference(saved, expected) -> str:
  """The first leaf that differs, in words; '' if none does."""
  for path in sorted({*saved, *expected}):
    here, wanted = saved.get(path, 'nothing'), expected.get(path, 'nothing')
    if here != wanted:
      return f'{path} is {here}, not {wanted}'
  return ''
