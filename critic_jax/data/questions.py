"""The parts of a question in a row: what stands before it, and its options.

A data set may split a question into several fields: a text that it is about
(`context`, `passage`, `Body`), and options to choose from (`choices`,
`options`). All become the question; the answer of a choice becomes its letter.
Fields that nobody reads but that have long texts are named, so that none of
them is dropped in silence.
"""

from __future__ import annotations

import collections
import re
import reprlib
import string
from collections.abc import Iterable, Mapping
from typing import Any

from critic_jax.data import rows

BEFORE = ('context', 'passage', 'body', 'background', 'story', 'premise')
OPTIONS = ('choices', 'options')
ANSWERS = (
  'answer',
  'answerkey',
  'correct',
)  # 'answerkey': ARC, 'correct': AQuA
_LONG = 60  # characters of a text that may be a part of the question
# '(A) Paris', 'A. Paris', 'a ) Paris'
_LABEL = re.compile(r'\s*\(?\s*([A-Za-z])\s*[).:]\s*(.*\S)\s*', re.S)
# Names under which options are published: MedMCQA's opa, C-Eval's A, SciQ's
# distractor1, HellaSwag's endings, WinoGrande's option1, TruthfulQA's.
_OPTION = re.compile(
  r'(?:op|option|choice|ending|distractor|sol)_?(?:[a-h]|[0-9]|s)|[a-h]'
  r'|mc[0-9]_targets|incorrect_answers', re.I,
)  # fmt: skip
# MathQA's options, one text: 'a ) 38 , b ) 27.675'.
_IN_A_TEXT = re.compile(r'(?:^|,|\n)\s{0,9}(?=\(?[A-Za-z]\s{0,9}[).:])')


def whole(row: rows.Row, *fields: str) -> str:
  """Returns the question: the first of `fields` with what belongs before it."""
  question = rows.first_text(row, *fields)
  before = []
  for field in BEFORE:
    value = rows.get(row, field)
    if value not in (None, '', [], {}):
      before.append(rows.text(row, field))
  return '\n'.join([*before, question])


def options(row: rows.Row) -> dict[str, str]:
  """Returns the options of a row by their letters; {} if it has none.

  Raises:
    ValueError: there are options that cannot be read.
  """
  field, value = _field(row)
  return _options(field, value) if field else {}


def are_numbered(row: rows.Row) -> bool:
  """Whether the labels of the options are digits, as some of ARC's."""
  labels = [str(label) for label, _ in _pairs(_field(row)[1])]
  return bool(labels) and all(
    label.strip('(). ').isdecimal() for label in labels
  )


def _field(row: rows.Row) -> tuple[str, Any]:
  for field in OPTIONS:
    value = rows.get(row, field)
    if value not in (None, '', [], {}):
      return field, value
  return '', None


def _pairs(value: Any) -> list[tuple[Any, Any]]:
  """Returns labels, None where there are none, and texts."""
  if isinstance(value, str):
    value = [part for part in _IN_A_TEXT.split(value) if part.strip()]
  if isinstance(value, Mapping):
    return _of_mapping(value)
  if not isinstance(value, list):
    return []
  if all(isinstance(v, Mapping) for v in value):
    return [(v.get('label'), v.get('text')) for v in value]
  return [(None, text) for text in value]


def _options(field: str, value: Any) -> dict[str, str]:
  pairs = _pairs(value)
  texts = [_text(text) for _, text in pairs]
  letters = string.ascii_uppercase[: len(texts)]
  if not 2 <= len(texts) <= len(letters) or not all(texts):
    raise ValueError(
      f'{field}: got {reprlib.repr(value)}; expected 2 to 26 texts, or texts '
      'by their letters'
    )
  labels = [label for label, _ in pairs]
  written = [_LABEL.fullmatch(text) for text in texts]
  if not any(labels) and all(written):
    spelled = [match[1].upper() for match in written]
    if spelled == list(letters):  # the labels are in the texts
      texts = [match[2] for match in written]
  elif any(labels):
    # Some of ARC's are 1 to 4; a letter keeps its place.
    labels = [str(label).strip().strip('().').upper() for label in labels]
    if labels not in (list(letters), list('123456789'[: len(texts)])):
      raise ValueError(
        f'{field}: got the labels {labels}; expected A, B, C in their order'
      )
  return dict(zip(letters, texts, strict=True))


def _of_mapping(value: Mapping) -> list[tuple[Any, Any]]:
  """Reads {'A': 'Paris', ...} or ARC's {'text': [...], 'label': [...]}."""
  texts, labels = value.get('text'), value.get('label')
  if isinstance(texts, list) and isinstance(labels, list):
    if len(texts) == len(labels):
      return list(zip(labels, texts, strict=True))
  return list(value.items())


def _text(value: Any) -> str:
  if isinstance(value, bool) or not isinstance(value, str | int | float):
    return ''
  return str(value).strip()


def choice(
  answer: str, choices: Mapping[str, str], *, is_index: bool, is_label: bool
) -> str:
  """Returns the letter of an answer: a letter, a text, or an index from 0.

  Args:
    answer: the row's answer as text.
    choices: a result of `options`.
    is_index: whether the row has an integer (MMLU's), which is a place.
    is_label: whether digits are labels (ARC's); else a text of digits may count
      from 0 or from 1, and is refused.

  Raises:
    ValueError: the answer is none of the options.
  """
  letters = list(choices)
  if is_index and 0 <= int(answer) < len(letters):
    return letters[int(answer)]
  letter = re.fullmatch(r'\(?([A-Za-z])[).:]?', answer)
  if letter and letter[1].upper() in choices:
    return letter[1].upper()
  labelled = _LABEL.fullmatch(answer)
  texts = [answer, labelled[2]] if labelled else [answer]
  for text in texts:
    places = [key for key, option in choices.items() if _same(option, text)]
    if len(places) == 1:
      return places[0]
  if is_label and answer.isdecimal() and 1 <= int(answer) <= len(letters):
    return letters[int(answer) - 1]
  raise ValueError(
    f'answer: got {reprlib.repr(answer)}; expected one of the options '
    f'{reprlib.repr(dict(choices))}, its letter, or an integer, from 0'
  )


def _same(left: str, right: str) -> bool:
  return left.split() == right.split()


def with_options(question: str, choices: Mapping[str, str]) -> str:
  """Returns a question that ends in its options."""
  lines = [f'{letter}. {text}' for letter, text in choices.items()]
  ending = 'Answer with the letter of the right option.'
  return '\n'.join([question, *lines, ending])


def unread(row: rows.Row, fields: Iterable[str]) -> list[str]:
  """Returns the fields beside those read that have long texts, or options."""
  names = [
    name for name, value in row.items()
    if name.lower() not in set(fields) and value not in (None, '', [], {})
  ]  # fmt: skip
  parts = [name for name in names if _OPTION.fullmatch(name)]
  if len(parts) == 1 and not isinstance(row[parts[0]], list | Mapping):
    parts = []
  return [n for n in names if n in parts or _longest(row[n]) >= _LONG]


def _longest(value: Any) -> int:
  """Returns the length of the longest text of several words in a value."""
  if isinstance(value, str):
    return len(value) if len(value.split()) >= 6 else 0
  if isinstance(value, Mapping):
    value = list(value.values())
  if isinstance(value, list):
    return max((_longest(v) for v in value if isinstance(v, str)), default=0)
  return 0


def unread_report(counts: collections.Counter[str], total: int) -> str:
  """Says which fields with long texts or options were not read."""
  names = [f'{name!r} ({n} rows)' for name, n in counts.most_common(8)]
  return (
    f'long texts or options of {total} rows are in fields that are not read: '
    f'{", ".join(names)}; if one belongs to the question, name it '
    f'{BEFORE[0]!r}, or make a list {OPTIONS[0]!r} of the options'
  )
