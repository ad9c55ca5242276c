"""Texts in one spelling: Unicode's NFKC, and LaTeX without its layout.

Each character of the result knows its place in the original text, so that what
is found in one can be replaced in the other.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import NamedTuple


class Text(NamedTuple):
  """A text in one spelling, and where each of its characters comes from."""

  text: str
  spans: list[tuple[int, int]]  # of the original text


MINUS_SIGNS = '\u2010\u2011\u2012\u2013\u2014\u2212\u02d7\u2796\ufe63\uff0d'
TIMES_SIGNS = '\u00b7\u00d7\u2022\u2219\u22c5\u2217\u2715\u2716\u30fb'
_SIGNS = str.maketrans(
  dict.fromkeys(MINUS_SIGNS, '-')
  | dict.fromkeys(TIMES_SIGNS, '*')
  | dict.fromkeys('\u00f7\u2044\u2215', '/')
)
# Fractions in one spelling, with braces: \dfrac12 is \frac{1}{2}.
FRACTIONS = [
  (r'\\[dtc]frac(?![a-zA-Z])', r'\\frac'),
  (r'\\frac ?([0-9]) ?(?=[0-9{])', r'\\frac{\1}'),
  (r'(\\frac ?\{[^{}]*\}) ?([0-9])', r'\1{\2}'),
]
_SUBSTITUTES = [
  (re.compile(pattern, re.A), substitute)
  for pattern, substitute in [
    (r'\\(?:boxed|fbox)(?![a-zA-Z])', '####'),
    (
      r'\\(?:text\w*|math\w+|mbox|operatorname|emph|bf|rm|it|left|right'
      r'|[bB]igg?[lr]?|displaystyle|limits)(?![a-zA-Z])\*?',
      '',
    ),
    (r'\\(?:!|[()\[\]])|\{\}|\\?\$', ''),
    (r'(?<=\d)\\[,;: ~](?=\d)', ''),
    (r'\\[,;: ]|~|\\q?quad(?![a-zA-Z])', ' '),
    (r'\{,\}', ','),
    (r'\\(?:cdot|times|ast)(?![a-zA-Z])', '*'),
    (r'\\div(?![a-zA-Z])', '/'),
    (r'\\%', '%'),
    (r'\u221a', r'\\sqrt '),
    (r'\u03c0', r'\\pi '),
    (r'\u221e|(?i:\binfinity\b)', r'\\infty '),
    (
      r'\u2205|\\varnothing(?![a-zA-Z])|(?i:\b(?:the )?empty set\b)',
      r'\\emptyset ',
    ),
    *FRACTIONS,
    # Marks of emphasis, and underscores within a number.
    (r'(?<=[\d)}])\*\*(?=[-({\d])', '^'),
    (r'\*\*|__|`+', ''),
    (r"(?<=\d)['_](?=\d)", ''),
    (r'(?<![^\s(])(?<!\d )(?<!\) )\*(?=[\w\\-])', ''),
    (r'(?<=\w)\*(?!\s*[\w(\\{+-])', ''),
    (r'(?<![A-Za-z0-9}\\])_|_(?![A-Za-z0-9{\\])', ''),
    (r'(?<=\d)\s*x\s*(?=\d)|\b(?:multiplied by|times)\b', '*'),
    (r'\b(?:divided by|over)\b', '/'),
    (r'\bplus\b', '+'),
    (r'\bminus\b|\b[nN]egative (?=\d)', '-'),
  ]
]


def normalize(text: str) -> Text:
  """Brings a text into one spelling: NFKC, LaTeX without its layout."""
  if text.isascii():
    chars, spans = text, [(i, i + 1) for i in range(len(text))]
  else:
    pieces = [_plain(char) for char in text]
    for i in range(len(pieces) - 1, 0, -1):  # ^42, not ^4^2
      if pieces[i - 1][:1] == '^' == pieces[i][:1] and len(pieces[i]) > 1:
        pieces[i] = pieces[i][1:]
    chars = ''.join(pieces)
    spans = [(i, i + 1) for i, piece in enumerate(pieces) for _ in piece]
  for pattern, substitute in _SUBSTITUTES:
    chars, spans = _substituted(chars, spans, pattern, substitute)
  return Text(chars, spans)


@functools.lru_cache(4096)
def _plain(char: str) -> str:
  """Returns a character in ASCII if it is a digit, a sign or a letter."""
  if unicodedata.category(char) in ('Cf', 'Mn', 'Me'):  # no width
    return ''
  if char.isdecimal():
    return str(unicodedata.decimal(char))
  plain = unicodedata.normalize('NFKC', char)
  if unicodedata.decomposition(char).startswith('<super>'):
    return f'^{plain}'
  if unicodedata.decomposition(char).startswith('<fraction>'):
    plain = f' {plain}'  # 2\u00bd is 2 1/2
  return plain.translate(_SIGNS)


def _substituted(chars, spans, pattern, substitute):
  pieces, places, last = [], [], 0
  for match in pattern.finditer(chars):
    start, end = match.span()
    piece = match.expand(substitute)
    pieces += [chars[last:start], piece]
    places += spans[last:start]
    places += [(spans[start][0], spans[end - 1][1])] * len(piece)
    last = end
  if not last:
    return chars, spans
  return ''.join([*pieces, chars[last:]]), places + spans[last:]
