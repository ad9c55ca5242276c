"""Saves and restores a run's state: parameters of all roles, optimiser, step.

Random keys and batches are functions of the config and the step, so these three
are the whole state. It is a dict of items, {'roles': ..., 'opt_state': ...},
each of which can be restored without the others. Checkpoints are orbax's:
written beside the last, then renamed.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

ITEMS = ('roles', 'opt_state')


def make_manager(
  folder: pathlib.Path, *, keep: int, always: Sequence[int] = ()
) -> ocp.CheckpointManager:
  """A manager of the checkpoints in a folder.

  Args:
    folder: made if it is not there.
    keep: how many of the newest are kept.
    always: steps whose checkpoints are kept too.
  """
  options = ocp.CheckpointManagerOptions(
    preservation_policy=preservation_policy.AnyPreservationPolicy(
      [
        preservation_policy.LatestN(keep),
        preservation_policy.CustomSteps(list(always)),
      ]
    ),
    create=True,
    enable_async_checkpointing=False,
  )
  # Without handlers, a new process could not read the metadata.
  return ocp.CheckpointManager(
    folder.absolute(),
    options=options,
    item_names=ITEMS,
    item_handlers={name: ocp.StandardCheckpointHandler() for name in ITEMS},
  )


def save(
  manager: ocp.CheckpointManager, step: int, state: Mapping[str, Any]
) -> None:
  """Saves trees of arrays under a step, and waits for it."""
  items = {name: ocp.args.StandardSave(tree) for name, tree in state.items()}
  manager.save(step, args=ocp.args.Composite(**items))
  manager.wait_until_finished()


def restore(
  manager: ocp.CheckpointManager, step: int, like: Mapping[str, Any]
) -> dict[str, Any]:
  """The items of `like` as saved under a step, with its shapes and shardings.

  Raises:
    ValueError: the checkpoint does not have that form.
  """
  abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, dict(like))
  try:
    # Compared here, since orbax would cast another dtype without a word.
    metadata = manager.item_metadata(step)
    saved = _forms({name: metadata[name] for name in like})
    difference = _difference(saved, _forms(abstract))
    if difference:
      raise ValueError(difference)
    items = {n: ocp.args.StandardRestore(tree) for n, tree in abstract.items()}
    found = manager.restore(step, args=ocp.args.Composite(**items))
    return {name: found[name] for name in like}
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
