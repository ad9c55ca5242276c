"""Rows of Parquet and Arrow files, as JSON would have them.

pyarrow reads the files, a thousand rows at a time. Numbers stay numbers, but
for those that JSON has not: a decimal number, a day or a time becomes the text
that a person would write, and a float of 32 bits the shortest number that
rounds to it, 0.1 and not 0.10000000149011612. What is no text, like an image,
stays as it is: no layout reads it.
"""

from __future__ import annotations

import datetime
import decimal
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

_PARQUET = b'PAR1'
_ARROW = b'ARROW1'
_STREAM = b'\xff\xff\xff\xff'  # of an Arrow file of Hugging Face's datasets
_ROWS = 1000  # that are in memory at a time


def is_parquet(head: bytes) -> bool:
  """Whether a file that begins so is a Parquet file."""
  return head.startswith(_PARQUET)


def is_arrow(head: bytes) -> bool:
  """Whether a file that begins so is an Arrow file, or an Arrow stream."""
  return head.startswith((_ARROW, _STREAM))


def read(
  path: pathlib.Path, file: BinaryIO, max_size: float
) -> Iterator[dict[str, Any]]:
  """Yields the rows of a Parquet or Arrow file.

  Args:
    path: the file's, for errors.
    file: the file, from its beginning.
    max_size: the bytes that its columns may say they unpack to.

  Raises:
    ValueError: the file is broken, says that it is larger, or has a column
      twice.
  """
  import pyarrow

  head = file.read(len(_ARROW))
  file.seek(0)
  kind = 'a Parquet' if is_parquet(head) else 'an Arrow'
  try:
    if is_parquet(head):
      batches = _parquet(path, file, max_size)
    elif head.startswith(_ARROW):
      reader = pyarrow.ipc.open_file(file)
      batches = map(reader.get_batch, range(reader.num_record_batches))
    else:
      batches = pyarrow.ipc.open_stream(file)
    for batch in batches:
      _check_names(path, batch.schema.names)
      if not is_parquet(head):
        batch.validate(full=True)  # offsets of a hostile file lead anywhere
      for start in range(0, batch.num_rows, _ROWS):
        yield from _rows(batch.slice(start, _ROWS))
  except (
    pyarrow.ArrowException, OSError, EOFError, UnicodeDecodeError, MemoryError,
    OverflowError,
  ) as error:  # fmt: skip
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise ValueError(
      f'{path}: got a broken {kind.split()[1]} file ({reason[0]}); expected a '
      'whole one; copy it again'
    ) from None


def _parquet(path, file, max_size) -> Iterator[Any]:
  from pyarrow import parquet

  reader = parquet.ParquetFile(file)
  about = reader.metadata
  size = sum(about.row_group(i).total_byte_size for i in range(
    about.num_row_groups))  # fmt: skip
  if size > max_size:
    raise ValueError(f'{path}: got over {max_size} bytes; expected fewer')
  return reader.iter_batches(batch_size=_ROWS)


def _check_names(path, names: list[str]) -> None:
  if len({*names}) < len(names):
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(
      f'{path}: got the column {twice!r} twice; expected different names'
    )


def _rows(batch) -> Iterator[dict[str, Any]]:
  names = batch.schema.names
  columns = [_values(column) for column in batch.columns]
  for values in zip(*columns, strict=True):
    yield dict(zip(names, values, strict=True))


def _values(column) -> list[Any]:
  import pyarrow.types as kinds

  kind = column.type
  try:
    values = column.to_pylist()
  except UnicodeDecodeError:
    values = [_escaped(value) for value in column]
  if kinds.is_string(kind) or kinds.is_boolean(kind) or kinds.is_integer(kind):
    return values
  if kinds.is_float32(kind) or kinds.is_float16(kind):
    short = np.float32 if kinds.is_float32(kind) else np.float16
    return [v if v is None else float(str(short(v))) for v in values]
  return [_plain(value) for value in values]


def _escaped(value) -> str | None:
  """Returns a text that is not UTF-8 so that readers of fields refuse it."""
  if not value.is_valid:
    return None
  return value.as_buffer().to_pybytes().decode(errors='surrogateescape')


def _plain(value: Any) -> Any:
  if isinstance(value, decimal.Decimal):
    text = f'{value:f}'
    return text.rstrip('0').rstrip('.') if '.' in text else text
  if isinstance(value, datetime.date | datetime.time):  # also datetime.datetime
    return value.isoformat()
  if isinstance(value, dict):
    return {str(name): _plain(v) for name, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  if isinstance(value, bytes):  # old writers do not say which bytes are texts
    return _text(value)
  return value


def _text(value: bytes) -> str | bytes:
  try:
    return value.decode()
  except UnicodeDecodeError:
    return value
