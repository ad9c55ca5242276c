r"""The structure of an answer: lists, tuples, intervals, matrices, labels.

All functions read plain spellings (`spelling.plain`) and look at the outermost
level: separators inside brackets, braces or quotes belong to what they enclose.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from critic_jax.answers import numerals, units


class Structure(NamedTuple):
  """A kind and its items.

  `kind` is 'list' (unordered, without brackets), 'set', 'union', the two
  brackets of a tuple or an interval, as in '[)', or 'matrix', with its number
  of columns.
  """

  kind: str
  items: tuple[str, ...]


_TOKEN = re.compile(
  r'\\[{}]|\\(?:cup|langle|rangle|begin|end|lor|land|pm)(?![a-zA-Z])|\\[a-zA-Z]+'
  r'|\\.|"[^"]*"|[a-zA-Z]+|[0-9]+|.',
  re.S | re.A,
)
_OPENING = frozenset(('(', '[', '{', '\\{', '\\langle', '\\begin'))
_CLOSING = frozenset((')', ']', '}', '\\}', '\\rangle', '\\end'))
_SEPARATORS = frozenset((',', ';', '"or"', '"and"', 'or', 'and', '\\lor'))
_MATRIX = re.compile(
  r'\\begin ?\{((?:[pbB]|small)?matrix|array)\} ?(?:\{[clr| ]*\})?(.*)'
  r'\\end ?\{\1\}',
  re.S,
)


def outermost(text: str) -> list[tuple[str, int, int]]:
  """Returns the tokens outside of brackets, each with its start and end."""
  depth, tokens = 0, []
  for match in _TOKEN.finditer(text):
    token = match[0]
    if token in _CLOSING:
      depth = max(0, depth - 1)
    if not depth:
      tokens.append((token, match.start(), match.end()))
    if token in _OPENING:
      depth += 1
  return tokens


def parse(text: str) -> Structure | None:
  """Returns the structure of an answer, None of a single value."""
  if _is_number(text):
    return None
  items = _split(text)
  if len(items) > 1:
    both = [value for item in items for value in _pm(item)]
    return Structure('list', tuple(both))
  if len(signs := _pm(text)) > 1:
    return Structure('list', tuple(signs))
  pieces = _cut(text, {'\\cup'})
  if len(pieces) > 1:
    return Structure('union', tuple(pieces))
  matrix = re.fullmatch(r'[(\[]? ?(\\begin.*\\end ?\{[a-z]+\}) ?[)\]]?', text)
  if match := matrix and _MATRIX.fullmatch(matrix[1]):
    rows = [row for row in re.split(r'\\\\', match[2]) if row.strip()]
    cells = [[cell.strip() for cell in row.split('&')] for row in rows]
    widths = {len(row) for row in cells}
    if len(widths) == 1:
      return Structure(f'matrix {widths.pop()}', tuple(sum(cells, [])))
    return None
  return _bracketed(text)


def _is_number(text: str) -> bool:
  return numerals.read(units.split(text)[0]) is not None


def _bracketed(text: str) -> Structure | None:
  """Returns the structure of a set, a tuple or an interval."""
  tokens = outermost(text)
  if len(tokens) != 2:
    return None
  (opening, _, start), (closing, end, _) = tokens
  inside = text[start:end].strip()
  if (opening, closing) == ('\\{', '\\}'):
    kind = 'set'
  elif opening in '([' and closing in ')]':
    kind = opening + closing
  else:
    return None
  if kind != 'set' and len(_cut(inside, {',', ';'})) == 1:
    return None  # parentheses around a value
  items = _split(inside) if kind == 'set' else _cut(inside, {',', ';'})
  if kind == 'set':
    items = [both for item in items for both in _pm(item)]
  return Structure(kind, tuple(items))


def unwrapped(text: str) -> str:
  """Returns a value without parentheses around all of it."""
  for _ in range(3):
    tokens = outermost(text)
    if [token for token, _, _ in tokens] not in (['(', ')'], ['{', '}']):
      break
    inside = text[tokens[0][2] : tokens[1][1]].strip()
    if len(_cut(inside, {',', ';'})) > 1:
      break
    text = inside
  return text


def _split(text: str) -> list[str]:
  """Splits a list; '1,234, 5' has two items and '1,2,300' has three."""
  items = []
  for piece in _cut(text, _SEPARATORS - {','}):
    spaced = _cut(piece, {', '})
    for item in spaced if len(spaced) > 1 else [piece]:
      items += [item] if _is_number(item) else _cut(item, {','})
  return items


def _cut(text: str, separators: frozenset[str] | set[str]) -> list[str]:
  """Cuts a text at separators; items are stripped, empty ones are left out."""
  items, start = [], 0
  for token, first, last in outermost(text):
    is_spaced = token == ',' and text[last : last + 1] == ' '
    if token in separators or (is_spaced and ', ' in separators):
      items.append(text[start:first])
      start = last
  items = [item.strip() for item in [*items, text[start:]]]
  return [item for item in items if item] or [text]


def _pm(text: str) -> list[str]:
  r"""Returns both values of '1 \pm \sqrt{2}', and of all else that itself."""
  places = [place for place in outermost(text) if place[0] == '\\pm']
  if len(places) != 1 or text.count('\\pm') != 1:
    return [text]
  _, start, end = places[0]
  before, after = text[:start].rstrip(), text[end:].lstrip()
  plus = '+' if before and not before.endswith('=') else ''
  return [f'{before}{plus}{after}', f'{before}-{after}']


# A name: letters, words, commands, with scripts, primes, bars, arguments.
_RELATIONS = {'=': '=', '\\approx': '=', '\\in': '\\in', '\\equiv': '='}
_LABEL = re.compile(
  r'(?>\\frac ?\{[a-zA-Z ]+\} ?\{[a-zA-Z ]+\}|\\[a-zA-Z]++(?: ?\{[a-zA-Z ]*\})?'
  r'|[a-zA-Z]++|"[a-zA-Z ,.()-]*"|[_^]\{[^{}]*\}'
  r"|'|\||\([^()]*\)|\[[a-zA-Z ]*\]|[ :/])++",
  re.A,
)
_NOT_LABELS = re.compile(
  r'\\(?:sqrt|pm|times|cdot|div|int|sum|prod|lim|neq|leq|geq|approx|not|binom)'
  r'(?![a-zA-Z])|\b(?:not|no|wrong|never|except|false)\b|\^\{[^{}]*[a-zA-Z0-9]',
  re.A,
)


def label(text: str) -> tuple[str, str]:
  r"""Splits a label from a value: 'f(2) = 5', '\theta \in [0,1]', '\approx 5'.

  Returns ('', text) without a relation, and (left, value) with one, where left
  is the whole left-hand side; `is_label` tells whether it only names the value.
  """
  places = [
    (start, end)
    for token, start, end in outermost(text)
    if token in _RELATIONS and not text[:start].endswith(('<', '>', '!', '\\'))
  ]
  if not places:
    return '', text
  start, end = places[-1]
  # A chain is one label if all but its last side name the value: AB = BC = 5.
  sides = [
    text[first:last]
    for (_, first), (last, _) in zip(places[:-1], places[1:], strict=True)
  ]
  if not all(is_label(side.strip()) for side in sides):
    return '', text
  return text[: places[0][0]].strip() or '"approximately"', text[end:].strip()


def is_label(left: str) -> bool:
  """Whether a left-hand side names a value, and does not state another."""
  tokens = outermost(left)
  if len(tokens) == 2 and tokens[0][0] == '(' and tokens[1][0] == ')':
    names = _cut(left[tokens[0][2] : tokens[1][1]], {','})  # (x, y) = (1, 2)
    return all('(' not in name and is_label(name) for name in names)
  return bool(
    _LABEL.fullmatch(left)
    and re.search('[a-zA-Z]', left)
    and not _NOT_LABELS.search(left)
  )
