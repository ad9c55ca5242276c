"""Tokens of a text in one spelling: numbers, signs, brackets and words.

Numbers in words are numbers. Digits that only label something (`Step 2`, `2nd`,
`2.` before an item of a list, `x_1`, `x^2`) can be told from the others.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

_MAX_DIGITS = 60  # of a number that is calculated with


class Token(NamedTuple):
  """A piece of a text in one spelling; `start` and `end` are its place."""

  kind: str  # number, word, command, operator, open, close, space, other
  text: str
  start: int
  end: int
  value: Fraction | None = None  # of a number, unless it is very long


_NUMBER = (
  r'(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d{1,3}(?: \d{3})+(?! ?\d)'
  r'|\d(?: \d)+(?![\d.]| ?/)|\d+)(?:\.\d+)?|\.\d+'
)
_TOKEN = re.compile(
  rf'(?P<number>(?:{_NUMBER})(?:[eE][-+]?\d{{1,3}}(?![\d\w]))?)'
  r'|(?P<command>\\[a-zA-Z]+)'
  r"|(?P<word>[^\W\d_]+(?:['-][^\W\d_]+)*)"
  r'|(?P<operator>[-+*/^!%])|(?P<open>[({\[])|(?P<close>[)}\]])'
  r'|(?P<space>\s+)|(?P<other>.)',
  re.A | re.S,
)
_ONES = (
  'zero one two three four five six seven eight nine ten eleven twelve thirteen'
  ' fourteen fifteen sixteen seventeen eighteen nineteen'
).split()
_TENS = 'twenty thirty forty fifty sixty seventy eighty ninety'.split()
_SCALES = {'hundred': 100, 'thousand': 1000, 'million': 10**6, 'billion': 10**9}
_WORDS = {
  **{word: number for number, word in enumerate(_ONES)},
  **{word: 10 * number for number, word in enumerate(_TENS, 2)},
  **_SCALES,
  'dozen': 12,
  'fourty': 40,
}
_TOGETHER = re.compile(f'({"|".join(_TENS)}|fourty)(?={"|".join(_ONES[1:10])})')
_COUNTING = frozenset(_ONES[:11])  # 'the two terms', 'one of them'
_STATES = re.compile(
  r'(?:\b(?:is|are|be|was|equals?|gets?|gives?|makes?|answer|to|not|exactly)'
  r'|[=:+*/-])\W*\Z',
  re.I,
)


def tokens(text: str) -> list[Token]:
  """Cuts a normalised text; numbers in words become numbers."""
  pieces = [
    Token(match.lastgroup, match[0], *match.span())
    for match in _TOKEN.finditer(text)
  ]
  results, place = [], 0
  while place < len(pieces):
    piece = pieces[place]
    if piece.kind == 'number':
      digits = re.sub('[, ]', '', piece.text)
      value = Fraction(digits) if len(digits) <= _MAX_DIGITS else None
      piece = piece._replace(value=value)
    elif piece.kind == 'word':
      piece, place = _number_in_words(text, pieces, place)
    results.append(piece)
    place += 1
  return results


def _number_in_words(text, pieces, place):
  """Returns the number that words from `place` on say, or the word there."""
  first, last, words = pieces[place], place, []
  while place < len(pieces):
    piece = pieces[place]
    parts = _TOGETHER.sub(r'\1-', piece.text.lower()).split('-')
    if piece.kind == 'word' and _continues(words, parts):
      words, last = words + parts, place
    elif not words or (piece.kind != 'space' and parts != ['and']):
      break
    place += 1
  if not words:
    return first, last
  if words[0] in _COUNTING and len(words) == 1:
    after = text[pieces[last].end : pieces[last].end + 2]
    states = _STATES.search(text[max(0, first.start - 20) : first.start])
    if words == ['one'] and text[pieces[last].end :][:4] == ' of ':
      return first, last
    if not states and (words == ['one'] or re.match(r'[ -]\w', after)):
      return first, last
  total = part = 0
  if len(words) > 1 and _COUNTING.issuperset(words):  # 'four-two'
    words, total = [], int(''.join(str(_WORDS[word]) for word in words))
  for word in words:
    number = _WORDS[word]
    if word == 'dozen' or number == 100:
      part = max(part, 1) * number
    elif word in _SCALES:
      total, part = total + max(part, 1) * number, 0
    else:
      part += number
  end = pieces[last].end
  return (
    Token('number', text[first.start : end], first.start, end,
          Fraction(total + part)),
    last,
  )  # fmt: skip


def _continues(words: list[str], parts: list[str]) -> bool:
  """Whether words go on with a number: 'forty', 'two'; not 'five', 'six'."""
  if not words and len(parts) > 1 and _COUNTING.issuperset(parts):
    return True  # digits, as in 'four-two'
  if not _WORDS.keys() >= set(parts) or len(words) > 8:
    return False
  below = words[-1] if words else 'hundred'
  for part in parts:
    is_scale = part in _SCALES or part == 'dozen'
    if below in _SCALES:
      pass
    elif not is_scale and not (
      _WORDS[below] in range(20, 100, 10) and _WORDS[part] in range(1, 10)
    ):
      return False
    below = part
  return True


# ------------------------------------------------------------------ labels

_LABELS = frozenset(
  'step line equation eq part case paragraph sentence point item row error'
  ' mistake claim operation stage statement section bullet theorem'.split()
)
_BETWEEN = frozenset('and or to through until & , # - ( [ { no number'.split())
_MARKER = re.compile(r'(?:^|\n)[ \t]*\(?(\d{1,3})[.)](?=\s)')


def labels(text: str, pieces: list[Token], max_label: int) -> set[int]:
  """Returns the places, among the tokens, of numbers that label a step.

  Args:
    text: a normalised text.
    pieces: its tokens.
    max_label: the greatest number of a step.
  """
  places, is_label = set(), False
  markers, number = set(), 0
  for match in _MARKER.finditer(text):
    if int(match[1]) == number + 1:  # 1. 2. 3., not 40. 42.
      number += 1
      markers.add(match.start(1))
  for place, piece in enumerate(pieces):
    if piece.kind == 'word':
      word = piece.text.lower()
      stem = word.removesuffix('s')
      is_label = stem in _LABELS or (is_label and word in _BETWEEN)
    elif piece.kind == 'number':
      after = pieces[place + 1].text if place + 1 < len(pieces) else ''
      is_ordinal = after in ('st', 'nd', 'rd', 'th')
      is_marker = piece.start in markers
      if is_label or is_ordinal or is_marker:
        if piece.value is not None and piece.value <= max_label:
          places.add(place)
    elif piece.kind != 'space' and piece.text not in _BETWEEN:
      is_label = False
  return places


def variables(pieces: list[Token]) -> set[int]:
  """Returns the places of digits that belong to a name: `x1`, `a_2`, `x^2`."""
  places = set()
  for place, piece in enumerate(pieces):
    if piece.kind != 'number' or len(piece.text) > 1 or not place:
      continue
    above = place - 1
    while above and pieces[above].text in ('_', '^', '{') and place - above < 3:
      above -= 1
    word = pieces[above]
    if word.kind == 'word' and len(word.text) == 1:
      places.add(place)
  return places
