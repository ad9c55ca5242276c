r"""Problem sets as published, in JSON lines -> `Problem`s; and their splits.

A row is in one of three layouts:

  'gsm8k'    question, answer: a worked solution that ends in `#### x`
  'math'     problem, solution that ends in `\boxed{x}`; optional answer
  'generic'  question or problem, answer; optional solution

and may have an `id`. Other fields are ignored. Files are not trusted: a row is
either read completely or is a bad row with a reason, and a row costs bounded
memory whatever it holds.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import reprlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from critic_jax.rewards import answers
from critic_jax.types import Problem

MAX_ROW = 10_000_000  # bytes; a longer row is a bad row
_MAX_ID = 200  # characters

# GSM8K's calculator annotations, `<<48/2=24>>`.
_ANNOTATION = re.compile(r'<<[^<>\n]*>>')


def read_jsonl(
  path: str | os.PathLike,
  *,
  layout: str = 'auto',
  bad_rows: str = 'error',
  report: Callable[[str], None] = print,
) -> list[Problem]:
  """The problems of a JSON-lines file, in its order.

  A bad row is not UTF-8, not JSON, not an object, longer than `MAX_ROW`, not in
  the file's layout, without a question or a final answer, or has the id of an
  earlier row. Empty lines are no rows. A row without an id gets
  '<stem of the path>-<its line's index>', from 0.

  Args:
    path: the file.
    layout: 'gsm8k', 'math', 'generic', or 'auto': that of the first good row.
    bad_rows: 'error', or 'skip' to leave them out.
    report: called with one line of text if rows were skipped.

  Returns:
    The problems, at least one.

  Raises:
    ValueError: a bad row (file, line and reason), no good row, or an unknown
      `layout` or `bad_rows`.
  """
  if layout != 'auto':
    _check('layout', layout, ('auto', *_LAYOUTS))
  _check('bad_rows', bad_rows, ('error', 'skip'))
  path = pathlib.Path(path)
  problems, ids, bad = [], set(), []
  with path.open('rb') as file:
    for index, line in enumerate(_lines(file)):
      if not line.strip():
        continue
      try:
        row = _row(line)
        found = detect(row) if layout == 'auto' else layout
        problem = parse(row, found, default_id=f'{path.stem}-{index}')
        if problem.id in ids:
          raise ValueError(f'id: got {problem.id!r} again; expected a new one')
      except ValueError as error:
        bad.append(f'{path}:{index + 1}: {error}')
        if bad_rows == 'error':
          raise ValueError(f"{bad[0]}; or read with bad_rows='skip'") from error
        continue
      layout = found
      ids.add(problem.id)
      problems.append(problem)
  if not problems:
    reason = bad[0] if bad else 'it is empty'
    raise ValueError(f'{path}: got no good row; expected one; {reason}')
  if bad:
    total = len(problems) + len(bad)
    report(f'{path}: {len(bad)} of {total} rows skipped; the first: {bad[0]}')
  return problems


def parse(row: Mapping[str, Any], layout: str, *, default_id: str) -> Problem:
  r"""The problem that a row holds.

  >>> answer = '96/2 = <<96/2=48>>48\n#### 48'
  >>> row = {'question': 'What is half of 96?', 'answer': answer}
  >>> parse(row, 'gsm8k', default_id='g-0').solution
  '96/2 = 48\nThe answer is \\boxed{48}.'

  Args:
    row: field names to values, as JSON has them.
    layout: 'gsm8k', 'math' or 'generic'.
    default_id: the id of a row that has none.

  Returns:
    The problem; its texts are stripped, not empty (but for the solution) and
    can be encoded in UTF-8.

  Raises:
    ValueError: the row is not a good row of this layout.
  """
  _check('layout', layout, _LAYOUTS)
  question, answer, solution = _LAYOUTS[layout](row)
  return Problem(
    id=default_id if row.get('id') is None else _id(row),
    question=question,
    answer=answer,
    solution=solution,
  )


def detect(row: Mapping[str, Any]) -> str:
  """The first layout in which a row is good; ValueError if there is none."""
  reasons = []
  for layout, read in _LAYOUTS.items():
    try:
      read(row)
    except ValueError as error:
      reasons.append(f'not {layout} ({error})')
    else:
      return layout
  raise ValueError(
    f'fields: got {reprlib.repr(sorted(row))}; expected a known layout: '
    + ', '.join(reasons)
  )


def question_key(question: str) -> str:
  """What two copies of a question share: its words and numbers, case folded."""
  text = unicodedata.normalize('NFKC', question).casefold()
  return ' '.join(re.findall(r'\w+', text))


def split(
  problems: Sequence[Problem], fractions: Mapping[str, float], *, seed: int
) -> dict[str, list[Problem]]:
  """Disjoint parts of about the given sizes.

  The part of a problem depends on `question_key` of its question, the fractions
  and the seed only: copies of a question fall into the same part, and problems
  added later move none.

  Args:
    problems: any number.
    fractions: part -> its share, e.g. `{'train': 0.9, 'dev': 0.1}`; sum 1.
    seed: another seed gives other parts.

  Returns:
    part -> its problems, in the given order.

  Raises:
    ValueError: the fractions are negative or do not sum to 1.
  """
  shares = list(fractions.values())
  if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
    raise ValueError(
      f'fractions: got {dict(fractions)}; expected shares >= 0 that sum to 1'
    )
  ends = list(itertools.accumulate(shares))[:-1]
  names = list(fractions)
  parts = {name: [] for name in names}
  for problem in problems:
    key = f'{seed}\n{question_key(problem.question)}'
    digest = hashlib.sha256(key.encode()).digest()
    place = int.from_bytes(digest[:8], 'big') / 2**64
    parts[names[bisect.bisect_right(ends, place)]].append(problem)
  return parts


def _lines(file: BinaryIO) -> Iterator[bytes]:
  """The lines, each cut a little beyond `MAX_ROW`."""
  while line := file.readline(MAX_ROW + 2):
    rest = line
    while len(rest) == MAX_ROW + 2 and not rest.endswith(b'\n'):
      rest = file.readline(MAX_ROW + 2)
    yield line


def _row(line: bytes) -> dict[str, Any]:
  if len(line.rstrip(b'\r\n')) > MAX_ROW:
    raise ValueError(f'row: got more than {MAX_ROW} bytes; expected fewer')
  try:
    row = json.loads(line.decode('utf-8-sig'))
  except UnicodeDecodeError as error:
    raise ValueError(
      f'row: got invalid UTF-8; expected UTF-8 ({error})'
    ) from None
  except (ValueError, RecursionError) as error:
    raise ValueError(f'row: got broken JSON; expected JSON ({error})') from None
  if not isinstance(row, dict):
    raise ValueError(f'row: got {reprlib.repr(row)}; expected an object')
  return row


def _gsm8k(row: Mapping[str, Any]) -> tuple[str, str, str]:
  question, text = _text(row, 'question'), _text(row, 'answer')
  body, hashes, answer = text.rpartition('####')
  answer = answer.strip().replace(',', '')
  if not hashes or not 0 < len(answer) <= answers.MAX_ANSWER:
    raise ValueError(
      f"answer: got {reprlib.repr(text)}; expected '#### x' last"
    )
  steps = _ANNOTATION.sub('', body).strip()
  ending = f'The answer is \\boxed{{{answer}}}.'
  return question, answer, f'{steps}\n{ending}' if steps else ending


def _math(row: Mapping[str, Any]) -> tuple[str, str, str]:
  question, solution = _text(row, 'problem'), _text(row, 'solution')
  boxed = answers.extract(solution)
  if boxed is None:
    raise ValueError(
      f'solution: got {reprlib.repr(solution)}; expected a \\boxed answer'
    )
  given = row.get('answer') is not None
  return question, _answer(row) if given else boxed, solution


def _generic(row: Mapping[str, Any]) -> tuple[str, str, str]:
  question = _text(row, 'problem' if 'question' not in row else 'question')
  given = row.get('solution') is not None
  return question, _answer(row), _text(row, 'solution') if given else ''


# In the order in which `detect` tries them.
_LAYOUTS = {'gsm8k': _gsm8k, 'math': _math, 'generic': _generic}


def _text(row: Mapping[str, Any], field: str) -> str:
  if field not in row:
    raise ValueError(f'{field}: got no such field; expected a text')
  value = row[field]
  if not isinstance(value, str) or not value.strip():
    raise ValueError(f'{field}: got {reprlib.repr(value)}; expected a text')
  try:
    value.encode()
  except UnicodeEncodeError:  # JSON can spell half a surrogate pair
    raise ValueError(
      f'{field}: got {reprlib.repr(value)}; expected no lone surrogate'
    ) from None
  return value.strip()


def _text_or_number(row: Mapping[str, Any], field: str) -> str:
  value = row.get(field)
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if is_number and math.isfinite(value):
    return str(value)
  return _text(row, field)


def _answer(row: Mapping[str, Any]) -> str:
  answer = _text_or_number(row, 'answer')
  # Else a GSM8K file whose first row lacks its '####' would read as generic.
  is_worked = '\n' in answer or '####' in answer
  if is_worked or len(answer) > answers.MAX_ANSWER:
    raise ValueError(
      f'answer: got {reprlib.repr(answer)}; expected a final answer: one line '
      f'of at most {answers.MAX_ANSWER} characters'
    )
  return answer


def _id(row: Mapping[str, Any]) -> str:
  name = _text_or_number(row, 'id')
  # Ids of records are paths that begin with the problem's: no slash in it.
  if len(name) > _MAX_ID or '/' in name or not name.isprintable():
    raise ValueError(
      f'id: got {reprlib.repr(name)}; expected at most {_MAX_ID} printable '
      "characters without '/'"
    )
  return name


def _check(what: str, value: Any, choices: Sequence[str]) -> None:
  if value not in choices:
    raise ValueError(f'{what}: got {value!r}; expected one of {list(choices)}')
