r"""A small formal language, a fragment of Lean 4: read, checked and written.

    theorem t (a b : Nat) (h1 : a = 5) (h2 : b = a + 3) : b = 8

A statement declares names and hypotheses in parentheses and ends with what it
claims. Its checker asks for syntax, names and types, and for nothing else: a
statement that passes may be false, or of another problem.

It accepts what Lean 4 would of sums, products, equations and binders of Nat,
Prop and propositions, from memory of its manual: Lean was not run on it. It is
stricter than Lean in two places: a name is declared once, and neither types nor
proofs are compared. A text may begin with `set_option` lines and end with
`:= by sorry`, as a file for Lean does.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_MAX_TEXT, _MAX_DEPTH = 2000, 40
_RESERVED = {'theorem', 'by', 'sorry', 'Nat', 'Prop'}
_OPTION = re.compile(r'set_option[ \t]+[A-Za-z.]{1,80}[ \t]+\w{1,20}[ \t]*\n')
_TOKEN = re.compile(
  r'\s*(?:([A-Za-z_][A-Za-z0-9_]*|[0-9]{1,9}(?![0-9])|:=|[-+*=:()])|(\S))',
  re.ASCII,
)
_LEVELS = ('+', '-'), ('*',)  # of operators, the weakest first

# A number, a name, or an operator and its two sides.
Expression = int | str | tuple[str, 'Expression', 'Expression']


class Statement(NamedTuple):
  """A statement whose names and types are right.

  Attributes:
    numbers: the declared names of type Nat.
    hypotheses: (name, proposition), in order.
    goal: the proposition that is claimed.
  """

  numbers: tuple[str, ...]
  hypotheses: tuple[tuple[str, Expression], ...]
  goal: Expression


def write(statement: Statement) -> str:
  """Writes a statement.

  >>> write(Statement(('a',), (('h1', ('=', 'a', 5)),), ('=', 5, 'a')))
  'theorem t (a : Nat) (h1 : a = 5) : 5 = a'
  """
  binders = [f'({" ".join(statement.numbers)} : Nat)'] * bool(statement.numbers)
  binders += [f'({name} : {show(e)})' for name, e in statement.hypotheses]
  return ' '.join(['theorem t', *binders, ':', show(statement.goal)])


def show(expression: Expression) -> str:
  """Writes an expression, with parentheses around operations in others."""
  if not isinstance(expression, tuple):
    return str(expression)
  op, *sides = expression
  texts = [
    f'({show(side)})'
    if isinstance(side, tuple) and (op != '=' or side[0] == '=')
    else show(side)
    for side in sides
  ]
  return f'{texts[0]} {op} {texts[1]}'


def read(text: str) -> tuple[Statement | None, str]:
  """Reads a statement, and checks its names and types; never raises.

  >>> read('theorem t (a : Nat) : b = 5')
  (None, "1:22: error: unknown identifier 'b'")

  Returns:
    The statement and '', or None and the first error, with its line and its
    column, from 0, as Lean counts.
  """
  reader = _Reader(text)
  try:
    return reader.statement(), ''
  except _Error as error:
    place, message = error.args
    line = text.count('\n', 0, place) + 1
    column = place - (text.rfind('\n', 0, place) + 1)
    return None, f'{line}:{column}: error: {message}'


def check(text: str) -> str:
  """Returns the first error of a text, '' for a statement; never raises."""
  return read(text)[1]


class _Error(Exception):
  """An error of a text: where it is, and what."""


class _Reader:
  """Reads the tokens of a text from left to right.

  An expression comes with its type: 'Nat', 'Prop', 'proof' (of a hypothesis),
  or 'Type' (of Nat and Prop themselves).
  """

  def __init__(self, text: str):
    self.scope = {'Nat': 'Type', 'Prop': 'Type'}
    self.text, self.place, self.depth = text, 0, 0
    self.token, self.start = '', 0

  def statement(self) -> Statement:
    """Reads the whole text."""
    if len(self.text) > _MAX_TEXT:
      raise _Error(_MAX_TEXT, f'more than {_MAX_TEXT} characters')
    while option := _OPTION.match(self.text, self.place):
      self.place = option.end()
    self.advance()
    self.take('theorem')
    self.name()
    numbers, hypotheses = [], []
    while self.token == '(':
      names, kind, expression = self.binder()
      if kind == 'Type':
        numbers += names if expression == 'Nat' else []
      else:
        hypotheses += [(name, expression) for name in names]
    self.take(':')
    goal = self.proposition('a proposition')
    if self.token == ':=':
      self.advance()
      if self.token == 'by':
        self.advance()
      self.take('sorry')
    self.take('')
    return Statement(tuple(numbers), tuple(hypotheses), goal)

  def advance(self) -> None:
    """Goes to the next token; '' is the end."""
    found = _TOKEN.match(self.text, self.place)
    if not found:  # blanks are left, or nothing
      self.token, self.start = '', len(self.text)
      return
    self.start = found.start(1) if found[1] else found.start(2)
    if found[2]:
      raise _Error(self.start, f'unexpected character {found[2]!r}')
    self.token, self.place = found[1], found.end()

  def take(self, expected: str) -> None:
    """Goes on behind an expected token."""
    if self.token != expected:
      self.unexpected(repr(expected) if expected else 'the end')
    if expected:
      self.advance()

  def unexpected(self, expected: str):
    """Raises the error of a token that does not fit."""
    shown = repr(self.token) if self.token else 'the end'
    raise _Error(self.start, f'unexpected {shown}; expected {expected}')

  def name(self) -> str:
    """Reads a name that is declared."""
    name = self.token
    if not name[:1].isalpha() and name[:1] != '_' or name in _RESERVED:
      self.unexpected('a name')
    self.advance()
    return name

  def binder(self) -> tuple[list[str], str, Expression]:
    """Reads `(NAME ... : TYPE)`; returns names, the type's type, the type."""
    self.take('(')
    places, names = [self.start], [self.name()]
    while self.token != ':':
      places.append(self.start)
      names.append(self.name())
    self.take(':')
    start = self.start
    expression, kind = self.expression()
    if kind not in ('Type', 'Prop'):
      raise _Error(start, f'type expected, got a {kind}')
    self.take(')')
    for place, name in zip(places, names, strict=True):
      if name in self.scope:
        raise _Error(place, f'{name!r} is declared twice')
      self.scope[name] = expression if kind == 'Type' else 'proof'
    return names, kind, expression

  def proposition(self, expected: str) -> Expression:
    """Reads an expression of type Prop."""
    start = self.start
    expression, kind = self.expression()
    if kind != 'Prop':
      raise _Error(start, f'type mismatch: got a {kind}; expected {expected}')
    return expression

  def expression(self) -> tuple[Expression, str]:
    """Reads a sum, or an equation of two; returns it with its type."""
    left, kind = self.operation(0)
    if self.token != '=':
      return left, kind
    place = self.start
    self.advance()
    right, other = self.operation(0)
    if kind != other or kind not in ('Nat', 'Prop'):
      raise _Error(place, f'type mismatch: a {kind} = a {other}')
    return ('=', left, right), 'Prop'

  def operation(self, level: int) -> tuple[Expression, str]:
    """Reads operators of a level, from the left."""
    if level == len(_LEVELS):
      return self.atom()
    left, kind = self.operation(level + 1)
    while self.token in _LEVELS[level]:
      op, place = self.token, self.start
      self.advance()
      right, other = self.operation(level + 1)
      if (kind, other) != ('Nat', 'Nat'):
        raise _Error(place, f'type mismatch: a {kind} {op} a {other}')
      left = op, left, right
    return left, kind

  def atom(self) -> tuple[Expression, str]:
    """Reads a number, a name, or an expression in parentheses."""
    token = self.token
    if token.isdigit():
      self.advance()
      return int(token), 'Nat'
    if token in self.scope:
      self.advance()
      return token, self.scope[token]
    if token == '(':
      self.depth += 1
      if self.depth > _MAX_DEPTH:
        raise _Error(self.start, 'too many parentheses')
      self.advance()
      inside = self.expression()
      self.take(')')
      self.depth -= 1
      return inside
    if (token[:1].isalpha() or token[:1] == '_') and token not in _RESERVED:
      raise _Error(self.start, f'unknown identifier {token!r}')
    self.unexpected('an expression')
