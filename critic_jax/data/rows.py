r"""Rows of untrusted files: JSON lines, or one JSON array.

A file may be packed by gzip: it is read as it is unpacked. A row is a JSON
object. A layout is a function that reads a row, or raises ValueError with the
reason why the row is not of that layout. The readers of fields below raise such
errors; they ignore the case of a field's name: `problem`, `Problem`. A file is
either read completely, or each bad row of it is named with its place and a
reason; a row costs bounded memory whatever it holds.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import pathlib
import re
import reprlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

from critic_jax import files

MAX_ROW = 10_000_000  # bytes; a longer line is a bad row
MAX_ARRAY = 200_000_000  # bytes; a longer array must be given as lines
MAX_UNPACKED = 20_000_000_000  # bytes of a gzip file, which may be small
MAX_NAME = 200  # characters of an id

Row = Mapping[str, Any]
Layouts = Mapping[str, Callable[[Row], Any]]
T = TypeVar('T')

_GZIP = b'\x1f\x8b'  # how such a file begins
_TABLES = ('.csv', '.tsv')
# An array of objects; a line may be a bad row that begins with a bracket.
_ARRAY = re.compile(rb'(?:\xef\xbb\xbf)?\s*\[\s*[{\]]')


def read(
  path: str | os.PathLike,
  layouts: Layouts,
  make: Callable[[Row, str, int], T],
  *,
  layout: str = 'auto',
  bad_rows: str = 'error',
  report: Callable[[str], None] = print,
) -> list[T]:
  """Returns `make` of each good row, in the file's order.

  A bad row is not UTF-8, not JSON, not an object, longer than `MAX_ROW`, not in
  the file's layout, or refused by `make` with a ValueError. Empty lines are no
  rows. A broken array has no rows to skip: it is an error.

  Args:
    path: a file of one JSON array of objects, or of an object on each line.
    layouts: layouts by name.
    make: (row, name of its layout, its index in the file from 0) -> anything.
    layout: a name, or 'auto': the layout of the first good row.
    bad_rows: 'error', or 'skip' to leave them out.
    report: called with one line of text if rows were skipped.

  Returns:
    A list that is not empty.

  Raises:
    ValueError: no such file, a bad row (file, place and reason), no good row, a
      broken array, or an unknown `layout` or `bad_rows`.
  """
  if layout != 'auto':
    check('layout', layout, ('auto', *layouts))
  check('bad_rows', bad_rows, ('error', 'skip'))
  path, results, errors = pathlib.Path(path), [], []
  for index, place, content in _contents(path):
    try:
      row = _object(content)
      row_layout = detect(row, layouts) if layout == 'auto' else layout
      results.append(make(row, row_layout, index))
    except ValueError as error:
      errors.append(f'{path}{place}: {error}')
      if bad_rows == 'error':
        raise ValueError(
          f"{errors[0]}; or read with bad_rows='skip'"
        ) from error
    else:
      layout = row_layout
  if not results:
    reason = errors[0] if errors else 'it is empty'
    raise ValueError(f'{path}: got no good row; expected one; {reason}')
  if errors:
    total = len(results) + len(errors)
    report(
      f'{path}: {len(errors)} of {total} rows skipped; the first: {errors[0]}'
    )
  return results


def open_file(path: str | os.PathLike) -> BinaryIO:
  """Opens a file to read.

  Raises:
    ValueError: it cannot be opened.
  """
  try:
    return pathlib.Path(path).open('rb')
  except OSError as error:
    raise ValueError(
      f'{path}: got {error.strerror}; expected a file that can be read'
    ) from error


def detect(row: Row, layouts: Layouts) -> str:
  """Returns the first layout in which a row is good, or raises ValueError."""
  reasons = []
  for name, layout in layouts.items():
    try:
      layout(row)
    except ValueError as error:
      reasons.append(f'not {name} ({error})')
    else:
      return name
  raise ValueError(
    f'fields: got {reprlib.repr(sorted(row))}; expected a known layout: '
    + ', '.join(reasons)
  )


def stem(path: str | os.PathLike) -> str:
  """Returns the name of a file without its ending: 'a' of 'a.jsonl.gz'."""
  path = pathlib.Path(path)
  return path.with_suffix('').stem if path.suffix == '.gz' else path.stem


def _contents(path: pathlib.Path) -> Iterator[tuple[int, str, Any]]:
  """Yields (index, place for error messages, bytes or parsed JSON) of rows."""
  with open_file(path) as file:
    is_packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    if not is_packed:
      yield from _rows(path, file)
      return
    try:
      with gzip.GzipFile(fileobj=file) as unpacked:
        yield from _rows(path, unpacked, MAX_UNPACKED)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
      raise ValueError(
        f'{path}: got a broken gzip file ({error}); expected a whole one; '
        'copy it again'
      ) from None


def _rows(path, file, max_size=math.inf) -> Iterator[tuple[int, str, Any]]:
  """Yields the rows of an open file, at most so many bytes of them."""
  head = file.read(4096)
  other = files.other_format(head)
  if not other and path.suffix in _TABLES:
    other = 'a table', f'pandas.read_csv(path).{files.TO_LINES}'
  if other:
    raise ValueError(
      f'{path}: got {other[0]}; expected JSON lines, or a JSON array; '
      f'{other[1]}'
    )
  file.seek(0)
  if _ARRAY.match(head):
    for index, row in enumerate(_array(file, path)):
      yield index, f'[{index}]', row
    return
  for index, line in enumerate(_lines(file)):
    if file.tell() > max_size:
      raise ValueError(f'{path}: got over {max_size} bytes; expected fewer')
    if line.strip():
      yield index, f':{index + 1}', line


def _lines(file: BinaryIO) -> Iterator[bytes]:
  """Yields the lines, each cut a little beyond `MAX_ROW`."""
  while line := file.readline(MAX_ROW + 2):
    rest = line
    while len(rest) == MAX_ROW + 2 and not rest.endswith(b'\n'):
      rest = file.readline(MAX_ROW + 2)
    yield line


def _array(file: BinaryIO, path: pathlib.Path) -> list[Any]:
  content = file.read(MAX_ARRAY + 1)
  if len(content) > MAX_ARRAY:
    raise ValueError(
      f'{path}: got an array of more than {MAX_ARRAY} bytes; expected '
      'fewer; write one object a line'
    )
  try:
    return _json(content)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def _object(content: Any) -> dict[str, Any]:
  if isinstance(content, bytes):
    if len(content.rstrip(b'\r\n')) > MAX_ROW:
      raise ValueError(f'row: got more than {MAX_ROW} bytes; expected fewer')
    content = _json(content)
  if not isinstance(content, dict):
    raise ValueError(f'row: got {reprlib.repr(content)}; expected an object')
  return content


def _json(content: bytes) -> Any:
  try:
    return json.loads(content.decode('utf-8-sig'))
  except UnicodeDecodeError as error:
    reason = f'invalid UTF-8; expected UTF-8 ({error})'
  except (ValueError, RecursionError) as error:
    reason = f'broken JSON; expected JSON ({error})'
  raise ValueError(f'row: got {reason}')


# ----------------------------------------------------------------- fields


def get(row: Row, field: str) -> Any:
  """Returns a field's value, or None; an exact name goes before `Capitals`."""
  if field in row:
    return row[field]
  return next((row[name] for name in row if name.lower() == field), None)


def text(row: Row, field: str) -> str:
  """Returns a text, stripped; it is not blank and valid in UTF-8."""
  value = get(row, field)
  if value is None:
    raise ValueError(f'{field}: got no such field; expected a text')
  return _text(field, value).strip()


def first_text(row: Row, *fields: str) -> str:
  """Returns the text of the first field that the row has, as `text` does."""
  present = (field for field in fields if get(row, field) is not None)
  return text(row, next(present, fields[-1]))


def optional_text(row: Row, field: str) -> str:
  """Returns a text as `text` does, '' if the row has none or an empty one."""
  return '' if get(row, field) in (None, '') else text(row, field)


def texts(row: Row, field: str) -> list[str]:
  """Returns a list of texts, unchanged; at least one, and none is blank."""
  value = get(row, field)
  if not isinstance(value, list) or not value:
    raise ValueError(
      f'{field}: got {reprlib.repr(value)}; expected a list of texts'
    )
  return [_text(f'{field}[{i}]', item) for i, item in enumerate(value)]


def text_or_number(row: Row, field: str) -> str:
  """Returns a text, or a finite number as text: 27.0 is '27'."""
  value = get(row, field)
  if isinstance(value, int) and not isinstance(value, bool):
    return str(value)  # it may be beyond floats
  if isinstance(value, float) and math.isfinite(value):
    return str(int(value) if value == int(value) else value)
  return text(row, field)


def integer(row: Row, field: str) -> int:
  """Returns a whole number that is written as one."""
  value = get(row, field)
  if not isinstance(value, int) or isinstance(value, bool):
    raise ValueError(f'{field}: got {reprlib.repr(value)}; expected an integer')
  return value


def boolean(row: Row, field: str) -> bool:
  """Returns a boolean."""
  value = get(row, field)
  if not isinstance(value, bool):
    raise ValueError(
      f'{field}: got {reprlib.repr(value)}; expected true or false'
    )
  return value


def name(row: Row, field: str) -> str | None:
  """Returns an id that fits into a record's id; None if the row has none."""
  if get(row, field) is None:
    return None
  return check_name(field, text_or_number(row, field))


def check_name(field: str, value: str) -> str:
  """Returns the value if it fits into a record's id, else raises ValueError."""
  # Ids of records are paths that begin with the problem's: no slash in it.
  if len(value) > MAX_NAME or '/' in value or not value.isprintable():
    raise ValueError(
      f'{field}: got {reprlib.repr(value)}; expected at most {MAX_NAME} '
      "printable characters without '/'"
    )
  return value


def check(setting: str, value: Any, choices: Sequence[str]) -> None:
  """Raises ValueError unless a value is one of the choices."""
  if value not in choices:
    raise ValueError(
      f'{setting}: got {value!r}; expected one of {list(choices)}'
    )


def _text(field: str, value: Any) -> str:
  if not isinstance(value, str) or not value.strip():
    raise ValueError(f'{field}: got {reprlib.repr(value)}; expected a text')
  try:
    value.encode()
  except UnicodeEncodeError:  # JSON can spell half a surrogate pair
    raise ValueError(
      f'{field}: got {reprlib.repr(value)}; expected no lone surrogate'
    ) from None
  return value
