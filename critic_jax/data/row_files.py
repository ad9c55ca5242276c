"""Files of rows, one row at a time: JSON lines, a JSON array, CSV.

Parquet and Arrow files are read by arrow_rows.py. Any of them may be packed by
gzip. The ending of a file's name says its format, and a file whose content is
of another format is refused with what to type; a name without such an ending
says nothing, and the content decides.

A row costs bounded memory whatever it holds: lines of JSON and of CSV are read
one by one, Parquet and Arrow a thousand rows at a time. An array of JSON, and a
packed Parquet or Arrow file, are held whole, up to `MAX_ARRAY`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import pathlib
import re
import reprlib
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from critic_jax import files
from critic_jax.data import arrow_rows

MAX_ROW = 10_000_000  # bytes; a longer line is a bad row
MAX_ARRAY = 200_000_000  # bytes; a longer array must be given as lines
MAX_UNPACKED = 20_000_000_000  # bytes of a gzip file, which may be small

_GZIP = b'\x1f\x8b'  # how such a file begins
_HEAD = 4096  # bytes of a file by which its format is known
# An array of objects; a line may be a bad row that begins with a bracket.
_ARRAY = re.compile(rb'(?:\xef\xbb\xbf)?\s*\[\s*[{\]]')
_JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*[\[{]')
# Formats by how a file's name ends. JSON is in lines or in one array.
ENDINGS = {
  '.jsonl': 'JSON', '.ndjson': 'JSON', '.json': 'JSON', '.csv': 'CSV',
  '.tsv': 'CSV', '.parquet': 'Parquet', '.arrow': 'Arrow', '.feather': 'Arrow',
}  # fmt: skip
_USUAL = {
  'JSON': '.jsonl', 'CSV': '.csv', 'Parquet': '.parquet', 'Arrow': '.arrow'
}  # fmt: skip
_NAMES = {
  'JSON': 'JSON lines, or a JSON array', 'CSV': 'a table of comma-separated '
  'values', 'Parquet': 'a Parquet file', 'Arrow': 'an Arrow file',
}  # fmt: skip
_DELIMITERS = ',\t;'


class BadRow(NamedTuple):
  """A row that cannot be read, in a file whose other rows can."""

  reason: str


def open_file(path: str | os.PathLike) -> BinaryIO:
  """Opens a file to read.

  Raises:
    ValueError: it is no file, or cannot be opened.
  """
  try:
    return files.opened(path)
  except OSError as error:
    raise ValueError(
      f'{path}: got {error.strerror}; expected a file that can be read'
    ) from error


def ending(path: str | os.PathLike) -> str:
  """Returns the ending of a file's name, that of gzip left out.

  >>> ending('a.jsonl.gz'), ending('b.CSV')
  ('.jsonl', '.csv')
  """
  path = pathlib.Path(path)
  return (path.with_suffix('') if path.suffix == '.gz' else path).suffix.lower()


def contents(path: pathlib.Path) -> Iterator[tuple[int, str, Any]]:
  """Yields (index, place for error messages, content) of the rows of a file.

  A content is a line of JSON as bytes, or what JSON would have; a `BadRow`
  where there is none.

  Args:
    path: a file.

  Raises:
    ValueError: the file, and not a row of it, cannot be read.
  """
  with open_file(path) as file:
    is_packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    if not is_packed:
      yield from _contents(path, file, math.inf)
      return
    try:
      with gzip.GzipFile(fileobj=file) as unpacked:
        yield from _contents(path, unpacked, MAX_UNPACKED)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
      raise ValueError(
        f'{path}: got a broken gzip file ({error}); expected a whole one; '
        'copy it again'
      ) from None


def _contents(path, file, max_size) -> Iterator[tuple[int, str, Any]]:
  """Yields the rows of an open file, at most so many bytes of them."""
  head = file.read(_HEAD)
  form = _form(path, head)
  file.seek(0)
  if form == 'CSV':
    yield from _table(file, path, max_size)
  elif form != 'JSON':
    if max_size < math.inf:
      file = io.BytesIO(_whole(file, path, 'a packed file', 'gunzip it'))
    for index, row in enumerate(arrow_rows.read(path, file, MAX_UNPACKED)):
      size = sum(len(v) for v in row.values() if isinstance(v, str))
      is_long = size > MAX_ROW
      yield index, f'[{index}]', BadRow(_too_long()) if is_long else row
  elif _ARRAY.match(head):
    for index, row in enumerate(_array(file, path)):
      yield index, f'[{index}]', row
  else:
    _check_first(path, head)
    for index, line in enumerate(_lines(file)):
      _check_size(path, file, max_size)
      if line.strip():
        yield index, f':{index + 1}', line


def _form(path: pathlib.Path, head: bytes) -> str:
  """Returns the format of a file, a value of `ENDINGS`.

  Raises:
    ValueError: it is not what its name says, or a format that is not read.
  """
  named, found = ENDINGS.get(ending(path)), None
  if arrow_rows.is_parquet(head):
    found = 'Parquet'
  elif arrow_rows.is_arrow(head):
    found = 'Arrow'
  elif other := files.other_format(head):
    expected = _NAMES[named or 'JSON']
    raise ValueError(f'{path}: got {other[0]}; expected {expected}; {other[1]}')
  elif _JSON.match(head):
    found = 'JSON'
  if found is None and named == 'JSON' and _is_table(head):
    found = 'CSV'
  if found is None and named in ('Parquet', 'Arrow') and head:
    raise ValueError(
      f'{path}: got a file that begins with {reprlib.repr(head[:12])}; '
      f'expected {_NAMES[named]}, as its name says; copy it again'
    )
  if found and named and found != named:
    name = path.name.removesuffix('.gz')
    right = name[: len(name) - len(ending(path))] + _USUAL[found]
    right += '.gz' if path.suffix == '.gz' else ''
    raise ValueError(
      f'{path}: got {_NAMES[found]}; expected {_NAMES[named]}, as its name '
      f'says; rename it: mv {path} {path.with_name(right)}'
    )
  return found or named or 'JSON'


def _is_table(head: bytes) -> bool:
  """Whether a file that should be JSON has cells in each line, and no brace."""
  lines = head.splitlines()[: -1 if len(head) == _HEAD else None]
  return len(lines) > 1 and all(
    b'{' not in line and any(d.encode() in line for d in _DELIMITERS)
    for line in lines
  )


def _check_first(path, head: bytes) -> None:
  """Raises ValueError for an object that goes on after its first line."""
  first, end, _ = head.lstrip(b'\xef\xbb\xbf \t\r\n').partition(b'\n')
  is_open = first.rstrip().endswith((b'{', b'[', b','))
  if end and first.startswith(b'{') and is_open:
    raise ValueError(
      f'{path}: got an object over several lines; expected an object on each '
      f"line, or an array of objects; write: jq -c '.ROWS[]' {path} > "
      f'{path.with_suffix(".jsonl")}'
    )


def _check_size(path, file, max_size) -> None:
  if file.tell() > max_size:
    raise ValueError(f'{path}: got over {max_size} bytes; expected fewer')


def _too_long() -> str:
  return f'row: got more than {MAX_ROW} bytes; expected fewer'


# ------------------------------------------------------------------- JSON


def _lines(file: BinaryIO) -> Iterator[bytes]:
  """Yields the lines, each cut a little beyond `MAX_ROW`."""
  while line := file.readline(MAX_ROW + 2):
    rest = line
    while len(rest) == MAX_ROW + 2 and not rest.endswith(b'\n'):
      rest = file.readline(MAX_ROW + 2)
    yield line


def _whole(file: BinaryIO, path: pathlib.Path, what: str, advice: str) -> bytes:
  content = file.read(MAX_ARRAY + 1)
  if len(content) > MAX_ARRAY:
    raise ValueError(
      f'{path}: got {what} of more than {MAX_ARRAY} bytes; expected fewer; '
      f'{advice}'
    )
  return content


def _array(file: BinaryIO, path: pathlib.Path) -> list[Any]:
  content = _whole(file, path, 'an array', 'write one object a line')
  try:
    return parse(content)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def parse(content: bytes) -> Any:
  """Returns the value of a line of JSON.

  Raises:
    ValueError: it is too long, or no JSON in UTF-8.
  """
  try:
    return json.loads(content.decode('utf-8-sig'))
  except UnicodeDecodeError as error:
    reason = f'invalid UTF-8; expected UTF-8 ({error})'
  except (ValueError, RecursionError) as error:
    reason = f'broken JSON; expected JSON ({error})'
  raise ValueError(f'row: got {reason}')


def as_object(content: Any) -> dict[str, Any]:
  """Returns the row of a content that `contents` has yielded.

  Raises:
    ValueError: it is no object, or cannot be read.
  """
  if isinstance(content, BadRow):
    raise ValueError(content.reason)
  if isinstance(content, bytes):
    if len(content.rstrip(b'\r\n')) > MAX_ROW:
      raise ValueError(_too_long())
    content = parse(content)
  if not isinstance(content, dict):
    raise ValueError(f'row: got {reprlib.repr(content)}; expected an object')
  return content


# -------------------------------------------------------------------- CSV


class _TextLines:
  """Lines of a table as text; those of one row have `MAX_ROW` bytes at most.

  An error at a line ends a row of `csv.reader` and not the file.
  """

  def __init__(self, file: BinaryIO):
    self.file, self.number, self.size = file, 0, 0

  def __iter__(self):
    return self

  def __next__(self) -> str:
    line = next(_lines(self.file), b'')
    if not line:
      raise StopIteration
    self.number += 1
    self.size += len(line)
    if self.size > MAX_ROW:
      raise ValueError(f'{_too_long()}; a quote may not be closed')
    try:
      return line.decode('utf-8-sig' if self.number == 1 else 'utf-8')
    except UnicodeDecodeError as error:
      raise ValueError(
        f'row: got invalid UTF-8 ({error}); expected UTF-8; iconv -f LATIN1 -t '
        'UTF-8 writes it, if another program wrote the table'
      ) from None


def _table(file, path, max_size) -> Iterator[tuple[int, str, Any]]:
  """Yields the rows of a table below its line of names; cells stay texts.

  An empty cell is None. A column without a name, which pandas writes for its
  index, is left out.
  """
  csv.field_size_limit(MAX_ROW)  # of the process; others do not read tables
  first = file.readline(_HEAD).decode(errors='replace')
  file.seek(0)
  lines = _TextLines(file)
  delimiter = max(_DELIMITERS, key=first.count)
  table = csv.reader(lines, delimiter=delimiter, strict=True)
  header: list[str] | None = None
  index = -1
  while True:
    lines.size, place = 0, f':{lines.number + 1}'
    try:
      cells = next(table)
    except StopIteration:
      return
    except (ValueError, csv.Error) as error:
      reason = str(error)
      if isinstance(error, csv.Error):
        reason = (
          f'row: got a quote that is not closed, or text behind one ({error}); '
          'expected a quote within a cell to be doubled'
        )
      if header is None:
        raise ValueError(f'{path}{place}: {reason}') from None
      cells = BadRow(reason)
    _check_size(path, file, max_size)
    if not cells:
      continue
    if header is None:
      header = _header(cells, f'{path}{place}')
      continue
    index += 1
    yield index, place, _cells(cells, header)


def _header(cells: list[str], place: str) -> list[str]:
  header = [cell.strip() for cell in cells]
  names = [name for name in header if name]
  twice = [name for name in names if names.count(name) > 1]
  if twice or not names:
    what = f'the column {twice[0]!r} twice' if twice else 'no name of a column'
    raise ValueError(
      f'{place}: got {what}; expected a first line of different names, one for '
      'each column; write it'
    )
  return header


def _cells(cells: list[str] | BadRow, header: list[str]) -> Any:
  if isinstance(cells, BadRow):
    return cells
  if len(cells) != len(header):
    return BadRow(
      f'row: got {len(cells)} cells, {reprlib.repr(cells)}; expected '
      f'{len(header)}, as the first line has; put a text that holds a comma or '
      'a line break in double quotes'
    )
  pairs = zip(header, cells, strict=True)
  return {name: cell or None for name, cell in pairs if name}
