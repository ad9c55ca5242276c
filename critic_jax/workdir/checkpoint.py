"""Saves and restores a run's state, and detects damaged checkpoints.

Random keys and batches are functions of the config and the step, so this is the
whole state, a dict of items, each of which can be restored without the others:

    roles      parameters of all roles
    opt_state  the optimiser's state in the phase under way
    before     parameters of the trained roles before the last update, which
               write the next batch; only if a stale phase was stopped between
               its checkpoints
    grades     the graders' cache

Checkpoints are orbax's, one folder a step. A thread writes them while the run
goes on, beside the last, reads back which arrays they hold, adds the SHA-256 of
every file, and then renames them. So nothing is called saved that could not be
restored, and a checkpoint with another content was damaged later.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from critic_jax import files
from critic_jax.models import layer_stack
from critic_jax.runtime import distributed
from critic_jax.workdir import checkpoint_files
from critic_jax.workdir.checkpoint_files import TREES, UNFINISHED, DamagedError

_VALUE = 'value'


def make_manager(
  folder: Path,
  *,
  keep: int = 1,
  always: Sequence[int] = (),
  keep_best: bool = False,
  read_only: bool = False,
) -> ocp.CheckpointManager:
  """Makes the manager of the checkpoints in a folder.

  Args:
    folder: the folder, made if it is missing.
    keep: the number of newest checkpoints that are kept.
    always: steps whose checkpoints are kept too.
    keep_best: whether the checkpoint of the largest value is kept too.
    read_only: whether nothing is made, saved or deleted.

  Raises:
    ValueError: what is saved in such a folder could not be read back.
  """
  if not read_only:
    files.check_checkpoints_path(folder)
  policies = [
    preservation_policy.LatestN(keep),
    preservation_policy.CustomSteps(list(always)),
  ]
  if keep_best:
    policies.append(
      preservation_policy.BestN(
        get_metric_fn=_value, n=1, keep_checkpoints_without_metrics=False
      )
    )
  options = ocp.CheckpointManagerOptions(
    preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
    best_fn=_value if keep_best else None,  # without, no metrics are written
    create=not read_only,
    read_only=read_only,
    async_options=ocp.AsyncOptions(
      post_finalization_callback=functools.partial(
        checkpoint_files.write_digests, folder
      ),
      # Or threads would wait for a folder that could not be made.
      create_directories_asynchronously=False,
    ),
  )
  # Without handlers, a new process could not read the metadata.
  handlers = {name: ocp.StandardCheckpointHandler() for name in TREES}
  return ocp.CheckpointManager(
    folder.resolve(),
    options=options,
    item_names=(*handlers, 'grades'),
    item_handlers=handlers | {'grades': ocp.JsonCheckpointHandler()},
  )


@contextlib.contextmanager
def opened(
  folder: Path, report: Callable[[str], None], **settings
) -> Iterator[ocp.CheckpointManager]:
  """Yields the manager of a run that begins after its last whole checkpoint.

  Args:
    folder: the folder of the checkpoints.
    report: called with a line about each one that was damaged.
    **settings: keywords of `make_manager`.

  Raises:
    ValueError: as `recover`, `make_manager` and `close`.
  """
  if distributed.is_first():
    for problem in recover(folder):
      report(f'warning: {problem}; the checkpoint before it is used')
  distributed.wait('checkpoints')
  manager = make_manager(folder, **settings)
  try:
    yield manager
  finally:
    close(manager)


def save(
  manager: ocp.CheckpointManager,
  step: int,
  state: Mapping[str, Any],
  value: float | None = None,
) -> None:
  """Begins to save items under a step; the arrays may be donated at once.

  Args:
    manager: the manager of the folder.
    step: a step under which nothing was saved.
    state: the items, trees of arrays; 'grades' is a value that JSON has.
    value: the larger, the better the checkpoint; None: it is never the best.

  Raises:
    ValueError: this checkpoint, or the last, cannot be written.
  """
  items = {
    name: ocp.args.StandardSave(tree) if name in TREES
    else ocp.args.JsonSave(tree)
    for name, tree in state.items()
  }  # fmt: skip
  metrics = None if value is None else {_VALUE: value}
  with _saving(manager):
    manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)


def is_overdue(saved_s: float, minutes: float) -> bool:
  """Whether the last save is that old; all processes say the same.

  Args:
    saved_s: when it began, in seconds of `time.monotonic`.
    minutes: the age; 0: nothing is overdue.
  """
  if not minutes:
    return False
  age_s = time.monotonic() - saved_s
  return distributed.agreed('overdue', age_s >= 60 * minutes)


def wait(manager: ocp.CheckpointManager) -> None:
  """Waits until the last checkpoint is whole; raises what `save` raises."""
  with _saving(manager):
    manager.wait_until_finished()


def close(manager: ocp.CheckpointManager) -> None:
  """Waits as `wait` does, and ends the manager."""
  with _saving(manager):
    manager.close()


@contextlib.contextmanager
def _saving(manager):
  with files.writing(Path(manager.directory)):
    try:
      yield
    except ValueError as error:  # tensorstore's form of an OSError
      if 'os_error_code' not in str(error):
        raise
      raise OSError(str(error)) from error


def recover(folder: Path) -> list[str]:
  """Moves damaged checkpoints aside, so that the newest one is whole.

  Damaged ones are moved to 'damaged/' beside the folder, and unfinished ones of
  a killed run are deleted; so no other process may write there.

  Returns:
    The problem of each checkpoint that was moved, in words.

  Raises:
    DamagedError: none is whole; nothing was moved.
  """
  for unfinished in folder.glob(UNFINISHED):
    shutil.rmtree(unfinished)
  problems = {}
  steps = [path for path in folder.glob('*') if path.name.isdecimal()]
  for path in sorted(steps, key=lambda path: int(path.name), reverse=True):
    problem = checkpoint_files.damage(path)
    if not problem:
      break
    problems[path] = problem
  words = [f'{path}: got {problem}' for path, problem in problems.items()]
  if steps and len(problems) == len(steps):
    raise DamagedError(
      f'{"; ".join(words)}; expected a checkpoint that is whole; bring back '
      f'its files, or delete {folder} to start at the first step'
    )
  for path in problems:
    _put_aside(path)
  return words


def restore(
  manager: ocp.CheckpointManager, step: int, template: Mapping[str, Any]
) -> dict[str, Any]:
  """Restores the items of `template`, in its shapes and shardings.

  The item 'before' is left out if it was not saved. Layers that were saved
  unrolled are stacked if the template's are, and the other way round.

  Raises:
    DamagedError: the checkpoint is not as it was written.
    ValueError: it does not have that form.
  """
  folder = Path(manager.directory) / str(step)
  if not folder.is_dir():
    raise ValueError(
      f'{folder}: got no checkpoint; expected one of {manager.all_steps()}'
    )
  problem = checkpoint_files.damage(folder) if distributed.is_first() else ''
  if problem := distributed.agreed('damage', problem):
    raise DamagedError(
      f'{folder}: got {problem}; expected the files that were written; bring '
      'them back, or train again in another workdir'
    )
  if not (folder / 'before').exists():
    template = {k: tree for k, tree in template.items() if k != 'before'}
  trees = {name: template[name] for name in template if name in TREES}
  abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, trees)
  try:
    # Compared here, since orbax would cast another dtype without a word.
    metadata = manager.item_metadata(step)
    saved = _forms({name: metadata[name] for name in trees})
    abstract = _with_layers_as_saved(abstract, saved)
    difference = _difference(saved, _forms(abstract))
    if difference:
      raise ValueError(difference)
    items = {n: ocp.args.StandardRestore(tree) for n, tree in abstract.items()}
    if 'grades' in template:
      items['grades'] = ocp.args.JsonRestore()
    restored = dict(manager.restore(step, args=ocp.args.Composite(**items)))
    restored |= _with_layers_as_in(trees, {n: restored[n] for n in trees})
    return {name: restored[name] for name in template}
  except (ValueError, KeyError, OSError) as error:
    raise ValueError(
      f'{folder}: got a checkpoint that does not fit ({error}); expected one '
      'of this config; start in another workdir'
    ) from error


def best_step(folder: Path) -> int | None:
  """Returns the step whose checkpoint has the largest value, if any has."""
  values = {
    int(path.parts[-3]): _value(json.loads(path.read_text()))
    for path in folder.glob('*/metrics/metrics')
  }
  return max(values, key=lambda step: (values[step], step), default=None)


def _value(metrics: Mapping[str, float]) -> float:
  return metrics[_VALUE]


def _put_aside(folder: Path) -> None:
  target = folder.parents[1] / 'damaged' / folder.name
  number = 0
  while target.exists():
    number += 1
    target = target.with_name(f'{folder.name}.{number}')
  target.parent.mkdir(exist_ok=True)
  shutil.move(folder, target)  # checkpoints/ may be a link to another disk


def _has_layers(node) -> bool:
  return layer_stack.is_stacked(node) or layer_stack.is_unrolled(node)


def _with_layers_as_saved(tree, saved: Mapping[str, str]):
  """Returns a tree of shapes with layers stacked where a role's saved are."""

  def choose(path, node, stacked, unrolled):
    if not _has_layers(node):
      return node
    role = jax.tree_util.keystr(path[-1:], simple=True, separator='/')
    layers = f'/{role}/{layer_stack.LAYERS}/'
    return stacked if any(layers in name for name in saved) else unrolled

  return jax.tree_util.tree_map_with_path(
    choose,
    tree,
    layer_stack.stack(tree),
    layer_stack.unstack(tree),
    is_leaf=_has_layers,
  )


def _with_layers_as_in(template, tree):
  """Returns a tree with layers stacked where the template's are."""
  return jax.tree.map(
    lambda node, x: (
      layer_stack.like(x, node) if jax.tree.leaves(node) else node
    ),
    template,
    tree,
    is_leaf=_has_layers,
  )


def _forms(tree) -> dict[str, str]:
  """Returns the dtype and shape of each leaf, by its path."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      f'{leaf.dtype}{list(leaf.shape)}'
    )
    for path, leaf in leaves
  }


def _difference(saved, expected) -> str:
  """Returns the first leaf that differs in words, '' if none does."""
  for path in sorted({*saved, *expected}):
    form, other = saved.get(path, 'nothing'), expected.get(path, 'nothing')
    if form != other:
      return f'{path} is {form}, not {other}'
  return ''
