"""Spellings of answers: one for LaTeX and spaces, and the unit apart.

Nothing here knows a reference, and nothing raises on a model's text.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Answer(NamedTuple):
  """An answer in one spelling."""

  body: str
  unit: str  # '' if none
  whole: str  # with the unit; spaces only between digits


_REPLACEMENTS = [
  (re.compile(pattern, re.A), replacement)
  for pattern, replacement in [
    (r'(?<!\\)(?:\\!|\\(?:left|right)(?![a-zA-Z]))', ''),
    # Not after a backslash: `\\ ` begins a row of a matrix.
    (r'(?<!\\)\\(?:[,;: ()\[\]]|q?quad(?![a-zA-Z]))|[~\s]', ' '),
    (r'\\?\$', '$'),
    (r'\\[dtc]frac(?![a-zA-Z])', r'\\frac'),
    (r'\\frac ?([0-9]) ?([0-9])', r'\\frac{\1}{\2}'),
    (r'\\(?:text|mathrm|textbf|mathbf|textit|textrm|mbox) ?'
     r'\{([^{}\\]*)\}', r' \1 '),
    (r'\{,\}', ','),
    ('[\u2212\u2010\u2011]', '-'),
    (r'\\%', '%'),
    (r' ?(?:\^ ?\{? ?\\circ ?\}?|°)', ' degrees'),
    (r' +', ' '),
  ]
]  # fmt: skip
# Short words that are units; a longer word is one unless it is in _NOT_UNITS.
_SHORT_UNITS = (
  'mm|cm|dm|km|m|in|ft|yd|mi|mg|kg|g|lb|lbs|oz|ml|cl|l|L|s|ms|sec|min|h|hr|hrs'
  '|mph|kph|am|pm|AM|PM|cup|cups|day|days|men|sq|cu|per|of|the|km/h|m/s|USD|EUR'
)
_NOT_UNITS = frozenset(
  'hundred thousand million billion trillion dozen half halves third thirds'
  ' quarter quarters fifths tenths hundredths hundreds thousands millions'
  ' billions dozens times plus minus over more less than least most factorial'
  ' squared cubed mod modulo base percent percentage infinity sqrt choose'
  ' remainder wrong incorrect false undefined'.split()
)
_UNIT = re.compile(
  rf'(?<=[0-9)}}a-z.]) ((?:{_SHORT_UNITS}|[a-zA-Z]{{4,}}|/)'
  rf'(?: (?:{_SHORT_UNITS}|[a-zA-Z]{{3,}}|/)){{0,5}})'
  r'( ?\^ ?\{?[23]\}?)?$',
  re.A,
)


def normalize(text: str) -> Answer:
  r"""Returns one spelling of an answer, split from its unit: '\$5.' is '5'."""
  # One spelling of LaTeX and of spaces.
  text = f' {text} '
  for pattern, replacement in _REPLACEMENTS:
    text = pattern.sub(replacement, text)
  text = text.strip().rstrip('.').strip()
  # Split off a currency, then another unit.
  unit = ''
  currency = re.match(r'([-+]?) ?[$€£] ?(?=[0-9.])', text)
  if currency and text.count('$') < 2:
    unit = 'dollar' if '$' in currency[0] else currency[0].strip('-+ ')
    text = currency[1] + text[currency.end() :]
  text = re.sub(' +', ' ', text.replace('$', ' ')).strip()
  whole = re.sub(r'(?<![0-9]) | (?![0-9])', '', text) + unit
  match = _UNIT.search(text)
  if match and not _NOT_UNITS.intersection(match[1].lower().split()):
    if re.search(r'[0-9]|\\[a-zA-Z]', text[: match.start()]):
      words = (word.rstrip('s') for word in match[1].lower().split())
      power = re.sub('[^23]', '', match[2] or '')
      unit, text = ' '.join(words) + power, text[: match.start()]
  # Strip brackets of a choice, and spell percent one way.
  choice = re.fullmatch(r'\(? ?([A-Z]) ?\)?', text)  # '(A)', 'A)'
  body = choice[1] if choice else text
  body = re.sub(r'(?<=[0-9]) ?%$| percent$', '%', body).strip()
  return Answer(body, unit, whole)
