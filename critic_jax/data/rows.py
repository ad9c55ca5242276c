r"""Rows of untrusted files, read by a layout.

A file is JSON lines, JSON, CSV, Parquet or Arrow (row_files.py). A row is an
object, as JSON has it. A layout is a function that reads a row, or raises
ValueError with the reason why the row is not of that layout. The readers of
fields below raise such errors; they ignore the case of a field's name:
`problem`, `Problem`. A file is either read completely, or each bad row of it is
named with its place and a reason.
"""

from __future__ import annotations

import decimal
import math
import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from critic_jax.data import column_names, file_sets, row_files
from critic_jax.data.file_sets import FileSet

MAX_NAME = 200  # characters of an id
# Numbers beyond these have an exponent, as a person would write them.
_WRITTEN_OUT = 1e-9, 1e22

_TRUTHS = {
  'true': True, 'false': False, '1': True, '0': False, 'yes': True, 'no': False,
  'right': True, 'wrong': False, 'correct': True, 'incorrect': False,
}  # fmt: skip

_NAMES = 'question', 'answer'

Row = Mapping[str, Any]
Layouts = Mapping[str, Callable[[Row], Any]]
T = TypeVar('T')


def read(
  source: str | os.PathLike | Sequence[FileSet],
  layouts: Layouts,
  make: Callable[[Row, str, FileSet, int], T],
  *,
  layout: str = 'auto',
  columns: str = '',
  names: Sequence[str] = _NAMES,
  bad_rows: str = 'error',
  report: Callable[[str], None] = print,
) -> list[T]:
  """Returns `make` of each good row, in the files' order.

  A bad row is no row of its format, not UTF-8, not an object, longer than
  `row_files.MAX_ROW`, not in the files' layout, or refused by `make` with a
  ValueError. Empty lines are no rows. A file that is broken as a whole has no
  rows to skip: it is an error.

  Args:
    source: a file, or sets of files.
    layouts: layouts by name.
    make: (row, name of its layout, its set of files, its index in the set from
      0) -> anything.
    layout: a name, or 'auto': the layout of the first good row.
    columns: names of ours for columns of the files, as `column_names.parse`
      reads them.
    names: the fields that advice is about, if the first row has no layout.
    bad_rows: 'error', or 'skip' to leave them out.
    report: called with one line of text if rows were skipped.

  Returns:
    A list that is not empty.

  Raises:
    ValueError: no such file, a bad row (file, place and reason), no good row, a
      broken file, or an unknown `layout` or `bad_rows`.
  """
  if layout != 'auto':
    check('layout', layout, ('auto', *layouts))
  check('bad_rows', bad_rows, ('error', 'skip'))
  by_name = column_names.parse(columns)
  sets, results, errors = file_sets.of(source), [], []
  for file_set, index, place, content in _contents(sets):
    try:
      row = column_names.renamed(row_files.as_object(content), by_name)
      is_known = layout != 'auto'
      row_layout = layout if is_known else detect(row, layouts, names)
      results.append(make(row, row_layout, file_set, index))
    except ValueError as error:
      errors.append(f'{place}: {error}')
      if bad_rows == 'error':
        raise ValueError(
          f'{errors[0]}; or leave such rows out: --config.data.bad_rows=skip'
        ) from error
    else:
      layout = row_layout
  label = file_sets.label(sets)
  if not results:
    reason = errors[0] if errors else 'it is empty'
    raise ValueError(f'{label}: got no good row; expected one; {reason}')
  if errors:
    total = len(results) + len(errors)
    report(
      f'{label}: {len(errors)} of {total} rows skipped; the first: {errors[0]}'
    )
  return results


def _contents(sets: Sequence[FileSet]):
  """Yields (set, index in the set, path and place, content) of all rows."""
  for file_set in sets:
    start = 0
    for path in file_set.paths:
      index = -1
      for index, place, content in row_files.contents(path):
        yield file_set, start + index, f'{path}{place}', content
      start += index + 1


def detect(row: Row, layouts: Layouts, names: Sequence[str] = _NAMES) -> str:
  """Returns the first layout in which a row is good, or raises ValueError.

  Args:
    row: a row.
    layouts: layouts by name.
    names: the fields that advice is about, if there is no such layout.
  """
  reasons = []
  for name, layout in layouts.items():
    try:
      layout(row)
    except ValueError as error:
      reasons.append(f'not {name} ({error})')
    else:
      return name
  raise ValueError(
    f'fields: got {reprlib.repr(sorted(row))}; expected a known layout'
    f'{column_names.advice(row, names)} ({", ".join(reasons)})'
  )


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
    is_there = any(name.lower() == field for name in row)
    what = 'nothing' if is_there else 'no such field'
    raise ValueError(f'{field}: got {what}; expected a text')
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
  """Returns a text, or a finite number as a person would write it.

  >>> [text_or_number({'x': x}, 'x') for x in (27.0, 1e-7, 1e300, '1e3')]
  ['27', '0.0000001', '1e300', '1e3']
  """
  value = get(row, field)
  if isinstance(value, int) and not isinstance(value, bool):
    return str(value)  # it may be beyond floats
  if isinstance(value, float) and math.isfinite(value):
    return _number(value)
  return text(row, field)


def _number(value: float) -> str:
  low, high = _WRITTEN_OUT
  if value and not low <= abs(value) < high:
    mantissa, _, exponent = f'{value!r}'.partition('e')
    return f'{mantissa.removesuffix(".0")}e{int(exponent)}'
  written = f'{decimal.Decimal(repr(value)):f}'
  whole, _, part = written.partition('.')
  return written if part.strip('0') else whole.removeprefix('-0') or '0'


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


def truth(row: Row, field: str) -> bool:
  """Returns a boolean as people write it: true, 1, 'yes', 'right'."""
  value = get(row, field)
  word = str(value).strip().lower() if isinstance(value, str | int) else ''
  if word not in _TRUTHS:
    raise ValueError(
      f'{field}: got {reprlib.repr(value)}; expected one of '
      f'{", ".join(_TRUTHS)}'
    )
  return _TRUTHS[word]


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
