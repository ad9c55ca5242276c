"""The files of a checkpoint: as they were written, and whole.

Orbax's thread writes them (`checkpoint.py`). Before they get their place,
`write_digests` reads back which arrays they hold, and writes the SHA-256 of
each file to sha256.json, by which `damage` finds what has changed since.
"""

from __future__ import annotations

import collections
import hashlib
import json
import math
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from critic_jax.runtime import distributed
from critic_jax.types import Params

TREES = ('roles', 'opt_state', 'before')  # the items that hold arrays
UNFINISHED = '*.orbax-checkpoint-tmp*'
_DIGESTS = 'sha256.json'
# Orbax notes the time of the renaming in the first, and writes the other last.
_WRITTEN_LATER = ('_CHECKPOINT_METADATA', 'commit_success.txt')


class DamagedError(ValueError):
  """A checkpoint is not as it was written."""


def write_digests(folder: Path) -> None:
  """Writes the digests of the checkpoint that is about to be renamed.

  Raises:
    DamagedError: it could not be restored, so it must not be called saved.
  """
  [unfinished] = folder.glob(UNFINISHED)
  for item in TREES:
    path = (unfinished / item).resolve()  # tensorstore knows no ..
    if path.exists() and (gap := _gap(path)):
      raise DamagedError(
        f'{path}: got {gap}; expected all arrays that were saved; '
        'the checkpoint before it is whole: start again where all processes '
        'see one folder'
      )
  path = unfinished / _DIGESTS
  path.write_text(json.dumps(_digests(unfinished), indent=2))


def _gap(item: Path) -> str:
  """Returns the first thing that a written tree lacks in words, '' if none.

  Each process writes its parts of the arrays into a database of its own, and
  these are merged into one, which is read here as it is restored: by the names
  of the arrays, their shapes, and the keys of their parts.
  """
  try:
    tree = ocp.StandardCheckpointHandler().metadata(item)
    base = {'driver': 'file', 'path': f'{item}/'}
    store = tensorstore.KvStore.open({'driver': 'ocdbt', 'base': base})
    keys = [key.decode() for key in store.result().list().result()]
  except (ValueError, OSError) as error:
    return f'no arrays that can be read ({error})'
  num_keys = collections.Counter(key.rpartition('/')[0] for key in keys)
  for leaf in jax.tree.leaves(tree):
    grid = zip(leaf.shape, leaf.storage.chunk_shape, strict=True)
    num_parts = math.prod(-(-size // part) for size, part in grid)
    if num_keys[leaf.name] != num_parts + 1:  # and the array's own entry
      return f'{num_keys[leaf.name] - 1} of {num_parts} parts of {leaf.name}'
  return ''


def damage(folder: Path, item: str = '') -> str:
  """Returns the first problem of a checkpoint's files in words, '' if none.

  Args:
    folder: the folder of the checkpoint.
    item: the item whose files are read; '' is all.
  """
  try:
    expected = _read_digests(folder, item)
    json.loads((folder / _WRITTEN_LATER[0]).read_text())
    actual = _digests(folder, item)
  except (OSError, ValueError) as error:
    return f'{type(error).__name__}: {error}'
  for name in sorted({*expected, *actual}):
    if name not in actual:
      return f'no {name}'
    if actual[name] != expected.get(name):
      return f'another content of {name} than was written'
  return ''


def digest(folder: Path, item: str) -> str:
  """Returns the SHA-256 of an item of a checkpoint, by those of its files.

  Args:
    folder: the folder of the checkpoint.
    item: an item that was saved.

  Raises:
    DamagedError: there are no digests.
  """
  try:
    digests = _read_digests(folder, item)
  except (OSError, ValueError) as error:
    raise DamagedError(
      f'{folder}: got {type(error).__name__}: {error}; expected {_DIGESTS} as '
      'it was written; bring it back'
    ) from error
  lines = [f'{name} {digests[name]}' for name in sorted(digests)]
  return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


def read_role(folder: Path, role: str) -> Params:
  """Reads the parameters of one role of a checkpoint, on the host.

  Args:
    folder: the folder of the checkpoint.
    role: a role of the run.

  Returns:
    A tree of numpy arrays, of the types that were saved.

  Raises:
    DamagedError: the files are not as they were written.
    ValueError: there is no such role.
  """
  problem = damage(folder, 'roles') if distributed.is_first() else ''
  if problem := distributed.agreed('damage', problem):
    raise DamagedError(
      f'{folder}: got {problem}; expected the files that were written; bring '
      'them back'
    )
  path = (folder / 'roles').resolve()
  handler = ocp.PyTreeCheckpointHandler()
  tree = handler.metadata(path).tree
  if role not in tree:
    raise ValueError(
      f'{folder}: got the role {role!r}; expected one of {sorted(tree)}'
    )
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), {role: tree[role]}
  )
  on_host = jax.tree.map(
    lambda x: ocp.RestoreArgs(restore_type=np.ndarray), abstract
  )
  args = ocp.args.PyTreeRestore(
    item=abstract, restore_args=on_host, partial_restore=True
  )
  return handler.restore(path, args=args)[role]


def _read_digests(folder: Path, item: str) -> dict[str, str]:
  digests = json.loads((folder / _DIGESTS).read_text())
  return {name: digests[name] for name in digests if _is_of(name, item)}


def _digests(folder: Path, item: str = '') -> dict[str, str]:
  """Returns the SHA-256 of the files of a checkpoint, by their path in it."""
  digests = {}
  for path in sorted((folder / item).rglob('*')):
    name = str(path.relative_to(folder))
    if path.is_file() and name not in (*_WRITTEN_LATER, _DIGESTS):
      with path.open('rb') as file:
        digests[name] = hashlib.file_digest(file, 'sha256').hexdigest()
  return digests


def _is_of(name: str, item: str) -> bool:
  """Whether the file is of an item; every file is of ''."""
  return not item or name.startswith(f'{item}/')
