"""Files that appear whole, and folders that one process at a time writes.

A failure to write is one kind of error, whatever the reason: a full disk, a
folder that is read-only, a mount that is gone. A folder may be somebody else's:
no link in it is written through, and nothing in it that is no file is waited
for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

WRITER = '.writer'  # a file that the folder's writer holds a lock on
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Formats of files that are often given in place of another one, by how they
# begin, and what makes the other of them.
TO_LINES = (
  "to_json('rows.jsonl', orient='records', lines=True) makes rows of it"
)
_FORMATS = {
  b'PAR1': ('a Parquet file', f'pandas.read_parquet(path).{TO_LINES}'),
  b'ARROW1': ('an Arrow file', f'pandas.read_feather(path).{TO_LINES}'),
  b'\x1f\x8b': ('a gzip file', 'gunzip unpacks it'),
  b'BZh': ('a bzip2 file', 'bunzip2 unpacks it'),
  b'\xfd7zXZ\0': ('an xz file', 'unxz unpacks it'),
  b'\x28\xb5\x2f\xfd': ('a Zstandard file', 'unzstd unpacks it'),
  b'PK\x03\x04': ('a zip file', 'unzip unpacks it'),
  b'7z\xbc\xaf': ('a 7z file', '7z x unpacks it'),
  b'\xff\xfe': ('UTF-16', 'iconv -f UTF-16 -t UTF-8 writes UTF-8'),
  b'\xfe\xff': ('UTF-16', 'iconv -f UTF-16 -t UTF-8 writes UTF-8'),
  b'\x80': ('a pickle', 'nothing is unpickled: write it as text'),
  b'version https://git-lfs': (
    "a pointer of git's large files", 'git lfs pull downloads the file'
  ),
  b'<!DOCTYPE': ('a page of the web', 'download the file that it shows'),
  b'<!doctype': ('a page of the web', 'download the file that it shows'),
  b'<html': ('a page of the web', 'download the file that it shows'),
}  # fmt: skip
_TAR = 257, b'ustar'  # the place of its mark
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
  try:
    path.encode()
    path = os.path.realpath(path)  # as orbax is given it
    bad = ' '.join(sorted({*path} & {*_PATTERN}))
  except UnicodeEncodeError as error:
    bad = ascii(path[error.start : error.end])
  if bad:
    raise ValueError(
      f'workdir: got {bad} in {ascii(path)}; expected a path in UTF-8 without '
      f'{" ".join(_PATTERN)}, in which checkpoints can be read back; give '
      'another folder'
    )


def opened(path: str | Path) -> BinaryIO:
  """Opens a file to read it; a pipe or a device would be waited for.

  Raises:
    ValueError: it is no file, or cannot be opened.
    FileNotFoundError: there is none.
  """
  try:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
  except FileNotFoundError:
    raise
  except OSError as error:
    raise ValueError(
      f'{path}: got {error}; expected a file that can be read'
    ) from error
  if not stat.S_ISREG(os.fstat(descriptor).st_mode):
    os.close(descriptor)
    raise ValueError(
      f'{path}: got a folder, a pipe or a device; expected a file; remove it'
    )
  return os.fdopen(descriptor, 'rb')


def head(path: str | Path, size: int) -> bytes:
  """Returns a file, or its first `size` bytes; b'' if there is none.

  Raises:
    ValueError: it is no file, or cannot be opened.
  """
  try:
    with opened(path) as f:
      return f.read(size)
  except FileNotFoundError:
    return b''


def other_format(content: bytes) -> tuple[str, str] | None:
  """Names the format of a file that is no text of ours, by how it begins.

  Args:
    content: the first 512 bytes of the file, or more.

  Returns:
    The format, and what to do with the file; None for any other.
  """
  place, mark = _TAR
  if content[place:].startswith(mark):
    return 'a tar file', 'tar -xf unpacks it'
  for start, answer in _FORMATS.items():
    if content.startswith(start):
      return answer
  return None


def open_to_add(path: str | Path) -> IO:
  """Opens a file of text to add to it; a link is an OSError."""
  return open(path, 'a+', opener=_open)


def _open(path: str | Path, flags: int) -> int:
  return os.open(path, flags | _SAFELY, 0o666)


def open_lock(path: Path) -> int:
  """Opens a file to hold a lock on it, and makes it if there is none."""
  return _open(path, os.O_RDWR | os.O_CREAT)


def inside(folder: Path, name: str | Path) -> Path:
  """Returns the path of a name in a folder, to write there.

  Raises:
    ValueError: the name leads out of the folder, or by a link to another.
  """
  path = folder
  for part in Path(name).parts:
    if part == '..' or Path(part).is_absolute():
      raise ValueError(
        f'name: got {str(name)!r}; expected a path within {folder}; give the '
        'phase or the evaluation another name'
      )
    path = path / part
    if path.is_symlink() and path.is_dir():
      raise ValueError(
        f'{path}: got a link to a folder; expected a folder, as a run writes '
        'nothing outside of its own; remove the link'
      )
  return path


def replace(path: Path, content: bytes) -> None:
  """Writes a file so that a reader sees the old one or the new one whole.

  A link of this name is replaced, and leads to the same file as before.

  Raises:
    ValueError: it cannot be written; the old one is as it was.
  """
  temporary = path.with_name(f'.{path.name}.tmp')
  with writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)  # of a run that was killed, or a link
    create = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(_open(temporary, create), 'wb') as f:
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
  add = os.O_WRONLY | os.O_CREAT | os.O_APPEND
  with writing(path), os.fdopen(_open(path, add), 'ab') as f:
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
    f = open_to_add(path)
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
    with os.fdopen(_open(path, os.O_RDONLY)) as f:
      fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return False
  except BlockingIOError:
    return True
  except OSError:  # no such file, or no locks
    return False
