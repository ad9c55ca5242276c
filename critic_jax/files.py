"""Files that appear whole, and folders that one process at a time writes.

A failure to write is one kind of error, whatever the reason: a full disk, a
folder that is read-only, a mount that is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

WRITER = '.writer'  # a file that the folder's writer holds a lock on
_PATTERN = '*?[\\'  # characters that a pattern of paths does not read as such


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
  """Turns an OSError of the block into a ValueError about `path`."""
  try:
    yield
  except OSError as error:
    raise ValueError(
      f'{path}: got {error}; expected a place that can be written; what was '
      'saved before is whole: make room there and start the run again'
    ) from error


def check_checkpoints_path(folder: str | Path) -> None:
  r"""Raises ValueError for a folder whose checkpoints could not be read.

  Orbax looks for what it has written by a pattern that begins with the folder's
  path: in `runs[1]` it would find nothing, in `run*` the files of another run.

  Args:
    folder: the folder of a run, or one of several; it need not exist.
  """
  path = str(Path(folder).absolute())
  bad = ' '.join(sorted({*path} & {*_PATTERN}))
  try:
    path.encode()
  except UnicodeEncodeError as error:
    bad = ascii(path[error.start : error.end])
  if bad:
    raise ValueError(
      f'workdir: got {bad} in {ascii(path)}; expected a path in UTF-8 without '
      f'{" ".join(_PATTERN)}, in which checkpoints can be read back; give '
      'another folder'
    )


def replace(path: Path, content: bytes) -> None:
  """Writes a file so that a reader sees the old one or the new one whole.

  Raises:
    ValueError: it cannot be written; the old one is as it was.
  """
  temporary = path.with_name(f'.{path.name}.tmp')
  with writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open('wb') as f:
      f.write(content)
      _sync(f)
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
      os.fsync(folder)  # or a power cut may undo the new name
    finally:
      os.close(folder)


def append(path: Path, content: bytes) -> None:
  """Adds to a file, and waits until the disk has it.

  Raises:
    ValueError: it cannot be written; a part of it may be.
  """
  with writing(path), path.open('ab') as f:
    f.write(content)
    _sync(f)


def _sync(f: IO) -> None:
  f.flush()
  os.fsync(f.fileno())


def lock(folder: Path) -> IO:
  """Makes this process the writer of a folder until it closes the result.

  The lock ends with the process, however it ends. File systems without locks
  (some mounts of buckets) give none.

  Raises:
    ValueError: another process has the folder.
  """
  path = folder / WRITER
  with writing(path):
    f = path.open('a+')
  try:
    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    f.seek(0)
    holder = f.read()
    f.close()
    raise ValueError(
      f'{folder}: got a folder that {holder} is writing to; expected one that '
      'nobody writes to; wait until it has ended, or give another folder'
    ) from None
  except OSError:
    return f
  f.truncate(0)
  f.write(f'process {os.getpid()} on {socket.gethostname()}')
  f.flush()
  return f


def is_locked(path: Path) -> bool:
  """Whether a process holds a lock on a file."""
  try:
    with path.open('r') as f:
      fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return False
  except BlockingIOError:
    return True
  except OSError:  # no such file, or no locks
    return False
