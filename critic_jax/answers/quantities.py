r"""Numbers in prose: found in any spelling, with their values.

A text of a model may write 42 as `42`, `_42_`, `42.0`, `4\!2`, `42cm`, `40+2`,
`forty-two`, in full-width digits, or with an invisible character inside. Here
every expression of arithmetic in a text becomes a `Quantity` with its value.
Nothing is evaluated that takes long: brackets, powers and factorials are
bounded, and the time is linear in the text's length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from critic_jax.answers.plain_text import Text, normalize
from critic_jax.answers.prose_tokens import Token, labels, tokens, variables

Value = Fraction | float

_MAX_DEPTH = 16  # of brackets
_MAX_POWER = 64
_MAX_FACTORIAL = 20


class Quantity(NamedTuple):
  """An expression of numbers.

  Attributes:
    start: its place in the original text.
    end: the end of this place.
    before: its place in the text in one spelling.
    text: its spelling, without spaces.
    value: its value, or None where it is too large to be computed.
    parts: values of its terms and factors; a fraction or a power is one.
    atoms: all numbers that are written in it; NaN for a very long one.
  """

  start: int
  end: int
  before: int
  text: str
  value: Value | None
  parts: tuple[Value, ...]
  atoms: tuple[Value, ...]


def quantities(text: str, *, max_label: int = 0) -> list[Quantity]:
  """Finds the expressions of arithmetic in a text, in their order.

  Args:
    text: any text.
    max_label: the greatest number of a step, which `Step 2` may refer to.
  """
  return in_normalized(normalize(text), max_label=max_label)


def in_normalized(normal: Text, *, max_label: int = 0) -> list[Quantity]:
  """Finds the quantities of a text that `normalize` returned."""
  pieces = tokens(normal.text)
  ignored = labels(normal.text, pieces, max_label)
  ignored |= variables(pieces)
  parser = _Parser(
    [
      piece._replace(kind='other') if place in ignored else piece
      for place, piece in enumerate(pieces)
    ]
  )
  return [_quantity(normal, *expression) for expression in parser.run()]


def _quantity(normal, pieces, value, parts) -> Quantity:
  # The brackets around it are the text's.
  while (
    len(pieces) > 2 and pieces[0].kind == 'open' and pieces[-1].kind == 'close'
    and _closes_first(pieces)
  ):  # fmt: skip
    pieces = pieces[1:-1]
  numbers = (piece for piece in pieces if piece.kind == 'number')
  return Quantity(
    start=normal.spans[pieces[0].start][0],
    end=normal.spans[pieces[-1].end - 1][1],
    before=pieces[0].start,
    text=''.join(piece.text for piece in pieces),
    value=value,
    parts=tuple(part for part in parts if part is not None),
    atoms=tuple(math.nan if n.value is None else n.value for n in numbers),
  )


def _closes_first(pieces: list[Token]) -> bool:
  depth = 0
  for place, piece in enumerate(pieces):
    depth += {'open': 1, 'close': -1}.get(piece.kind, 0)
    if not depth:
      return place == len(pieces) - 1
  return False


class _Parser:
  """Reads the longest expressions among tokens; nothing is an error.

  Each method takes the place of a token and returns (value, next place), or
  None if nothing begins there. Values are None where they are too large.
  """

  def __init__(self, pieces: list[Token]):
    self.pieces = [piece for piece in pieces if piece.kind != 'space']
    self.parts: list[tuple[int, Value | None]] = []
    self.closing = self._brackets()

  def run(self) -> Iterator[tuple[list[Token], Value | None, list]]:
    place = 0
    while place < len(self.pieces):
      self.parts = []
      result = self.sum(place, 0)
      if result is None:
        place += 1
        continue
      value, end = result
      parts = [part for at, part in self.parts if place <= at < end]
      yield self.pieces[place:end], value, parts
      place = end

  def sum(self, place: int, depth: int):
    result = self.product(place, depth)
    while result:
      value, end = result
      sign = self._text(end)
      operand = sign in ('+', '-') and self.product(end + 1, depth)
      if not operand:
        return value, end
      result = (_add(value, operand[0], sign), operand[1])
    return None

  def product(self, place: int, depth: int):
    first = result = self.signed(place, depth)
    is_tight = True
    while result:
      value, end = result
      sign = self._text(self._past_unit(end))
      if sign in ('*', '/'):
        at = self._past_unit(end)
        operand = self.signed(at + 1, depth)
        if operand:
          tight = sign == '/' and self.pieces[at].end == (
            self.pieces[at + 1].start
          )
          if not (tight and is_tight) and first:
            self.parts += [(place, first[0]), (place, operand[0])]
          is_tight = is_tight and tight
          result = (_multiply(value, operand[0], sign), operand[1])
          continue
      elif end < len(self.pieces) and self._implicit(end):
        is_mixed = self._text(end) == '\\frac'  # a number and a fraction
        if self.pieces[end].kind == 'number':
          is_mixed = True
          operand = self._whole(self._ratio, end, depth)
        else:
          operand = self.power(end, depth)
        if operand and is_mixed:
          result = (_add(value, operand[0], '+'), operand[1])
          continue
        if operand:
          self.parts += [(place, value), (place, operand[0])]
          result = (_multiply(value, operand[0], '*'), operand[1])
          continue
      # A term with its unit: '40 boys + 2 girls'.
      after = self._past_unit(end)
      if self._text(after) in ('+', '-') and self.signed(after + 1, depth):
        end = after
      self.parts.append((place, value))
      return value, end
    return None

  def signed(self, place: int, depth: int):
    if self._text(place) not in ('-', '+'):
      return self.power(place, depth)
    after = self._text(place + 1)
    is_attached = after and self.pieces[place].end == (
      self.pieces[place + 1].start
    )
    before = self.pieces[place - 1] if place else None
    follows = (
      before
      and before.kind in ('word', 'close', 'command', 'other')
      and before.end == self.pieces[place].start
      and before.text not in ('=', ':', ',', '$', '|')
    )
    if not is_attached or follows:
      return None
    result = self.power(place + 1, depth)
    if result and self._text(place) == '-' and result[0] is not None:
      return -result[0], result[1]
    return result

  def power(self, place: int, depth: int):
    result = self.atom(place, depth)
    while result:
      value, end = result
      sign = self._text(end)
      if sign == '^':
        exponent = self.signed(end + 1, depth + 1)
        if not exponent:
          return result
        result = (_raise(value, exponent[0]), exponent[1])
      elif sign == '!' and self.pieces[end - 1].end == self.pieces[end].start:
        if end + 1 < len(self.pieces) and self._text(end + 1) == '=':
          return result
        factorial = _factorial(value)
        if factorial is None:
          return result  # an exclamation
        result = (factorial, end + 1)
      elif sign == '%':
        if value is not None:
          self.parts.append((place, value / 100))
        result = (value, end + 1)
      else:
        return result
    return None

  def atom(self, place: int, depth: int):
    if place >= len(self.pieces) or depth > _MAX_DEPTH:
      return None
    piece = self.pieces[place]
    if piece.kind == 'number':
      return piece.value, place + 1
    if piece.kind == 'open' and place in self.closing:
      inner = self.sum(place + 1, depth + 1)
      if inner and inner[1] == self.closing[place]:
        return inner[0], inner[1] + 1
    elif piece.text == '\\pi':
      return math.pi, place + 1
    elif piece.text == '\\sqrt':
      return self._whole(self._root, place + 1, depth + 1)
    elif piece.text == '\\frac':
      return self._whole(self._fraction, place + 1, depth + 1)
    return None

  def _whole(self, read, place: int, depth: int):
    """Reads something whose terms are no parts of the expression."""
    num_parts = len(self.parts)
    result = read(place, depth)
    del self.parts[num_parts:]
    return result

  def _ratio(self, place: int, depth: int):
    below = self.atom(place + 2, depth)
    top = self.pieces[place].value
    return below and (_multiply(top, below[0], '/'), below[1])

  def _root(self, place: int, depth: int):
    inner = self.atom(place, depth)
    return inner and (_root(inner[0]), inner[1])

  def _fraction(self, place: int, depth: int):
    top = self.atom(place, depth)
    below = top and self.atom(top[1], depth)
    return below and (_multiply(top[0], below[0], '/'), below[1])

  def _implicit(self, place: int) -> bool:
    """Whether a factor begins without a sign, or a mixed number's fraction."""
    piece = self.pieces[place]
    if piece.text in ('\\frac', '\\sqrt', '\\pi'):
      return True
    before = self.pieces[place - 1]
    if piece.kind == 'open':
      return before.end == piece.start and before.kind in ('number', 'close')
    return (
      piece.kind == 'number'
      and before.kind == 'number'
      and piece.start - before.end == 1
      and self._text(place + 1) == '/'
      and self.pieces[place + 1].start == piece.end
    )

  def _past_unit(self, place: int) -> int:
    """Skips a unit before a sign and a number: '40 boys + 2'."""
    if place + 2 < len(self.pieces) and self.pieces[place].kind == 'word':
      is_sign = self._text(place + 1) in ('+', '-', '*', '/')
      spaced = self.pieces[place + 1].end < self.pieces[place + 2].start
      if is_sign and spaced and self.pieces[place + 2].kind == 'number':
        return place + 1
    return place

  def _text(self, place: int) -> str:
    return self.pieces[place].text if place < len(self.pieces) else ''

  def _brackets(self) -> dict[int, int]:
    closing, stack = {}, []
    for place, piece in enumerate(self.pieces):
      if piece.kind == 'open':
        stack.append(place)
      elif piece.kind == 'close' and stack:
        closing[stack.pop()] = place
      elif piece.kind not in ('number', 'operator', 'command'):
        stack.clear()  # no expression has this in it
    return closing


def _add(left, right, sign):
  if left is None or right is None:
    return None
  return left + right if sign == '+' else left - right


def _multiply(left, right, sign):
  if left is None or right is None or (sign == '/' and not right):
    return None
  try:
    return left * right if sign == '*' else left / right
  except OverflowError:
    return None


def _raise(base, exponent):
  if base is None or exponent is None or abs(exponent) > _MAX_POWER:
    return None
  if isinstance(base, Fraction) and abs(base.numerator) > 10**12:
    return None
  try:
    value = base**exponent
  except (ZeroDivisionError, OverflowError):
    return None
  return None if isinstance(value, complex) else value


def _root(value):
  if value is None or value < 0:
    return None
  if isinstance(value, Fraction):
    roots = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if roots[0] ** 2 == value.numerator and roots[1] ** 2 == value.denominator:
      return Fraction(*roots)
  try:
    return math.sqrt(value)
  except OverflowError:
    return None


def _factorial(value):
  whole = isinstance(value, Fraction) and value.denominator == 1
  if not whole or not 0 <= value <= _MAX_FACTORIAL:
    return None
  return Fraction(math.factorial(int(value)))


def same(left: Value, right: Value) -> bool:
  """Whether two values are equal, up to the rounding of floats."""
  if isinstance(left, Fraction) and isinstance(right, Fraction):
    return left == right
  try:
    return math.isclose(left, right, rel_tol=1e-9)
  except OverflowError:
    return False
