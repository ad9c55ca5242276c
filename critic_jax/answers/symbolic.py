r"""Equality of two mathematical expressions, by sympy and math_verify.

latex2sympy reads, math_verify (https://github.com/huggingface/Math-Verify)
decides, and what it calls equal is checked. Its known faults are met here: it
takes a difference below 1e-7 for none (1e-40 is 1.6e-19), one letter of both
cases for one variable (Rr is r^2), a prime for nothing (y' is y), dx/dt for
zero, E for Euler's number and \gamma for his constant. So names are protected
before it reads, decimals are exact, and values are compared in 320 digits,
those of expressions at points.

`equal` may not return: `9^{9^{9^9}}` is a legal expression.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

from critic_jax.answers import numerals

_DIGITS = 350  # of numbers: 1/2^{999} is not lost beside 1
_AGREEING = 320  # digits of numbers that are equal
# Values of the variables of an expression: rationals of no special kind.
_POINTS = tuple(
  tuple(Fraction(sign * (37 * i + 101 * j + 11), 97) for i in range(12))
  for j, sign in enumerate((1, 1, 1, -1, -1))
)
_NUM_POSITIVE = 3  # of _POINTS
_MAX_SIZE = 20_000  # digits of rationals that are compared exactly
_TINY = Fraction(1, 10**5)
_DECIMAL = re.compile(r'[0-9]\.[0-9]|(?<![0-9])\.[0-9]')


def equal(answer: str, reference: str, *, must_round: bool = False) -> bool:
  """Whether two plain spellings mean the same value.

  Args:
    answer: a spelling of `spelling.plain`, without label and unit.
    reference: another.
    must_round: whether the answer is right only as an irrational number that
      the reference rounds.

  Raises:
    MemoryError: nothing is known of the two.
  """
  try:
    target, value = _read(reference), _read(answer)
    if target is None or value is None:
      return False
    if must_round:
      return _rounds(target, value)
    decimals = [bool(_DECIMAL.search(text)) for text in (answer, reference)]
    return _same(target, value, may_round=decimals[0] != decimals[1])
  except MemoryError:  # not shown to be unequal, either
    raise
  except Exception:  # RecursionError: not shown to be equal
    return False


@functools.cache
def libraries() -> SimpleNamespace:
  """Returns the libraries; their import takes 1 s.

  Errors are raised, as a lack of memory is no wrong answer. math_verify's
  timeouts raise a BaseException from SIGALRM in the main thread: the pool has
  the deadline, so they are off, and so is the warning about that.
  """
  import latex2sympy2_extended
  import math_verify
  import sympy

  logging.getLogger('math_verify').setLevel(logging.ERROR)
  return SimpleNamespace(
    sympy=sympy,
    read=functools.partial(
      latex2sympy2_extended.latex2sympy,
      normalization_config=latex2sympy2_extended.NormalizationConfig(
        basic_latex=True, malformed_operators=True, boxed='none'
      ),
      conversion_config=latex2sympy2_extended.latex2sympy2.ConversionConfig(
        lowercase_symbols=False
      ),
    ),
    verify=functools.partial(
      math_verify.verify, timeout_seconds=None, raise_on_error=True
    ),
  )


_SUB = r'(?:_ ?\{([^{}]*)\})?'
_ACCENTS = 'dot|ddot|vec|hat|bar|tilde|overline|widehat|overrightarrow'
_NAMES = [
  (re.compile(pattern, re.A), form)
  for pattern, form in [
    # A derivative as a symbol: d^2 y / dx^2.
    (r'\\frac ?\{ ?(?:d|\\partial) ?(\^ ?\{[0-9]\})? ?([a-zA-Z]|\\[a-zA-Z]+)'
     rf'{_SUB} ?\}} ?\{{ ?(?:d|\\partial) ?([a-zA-Z]) ?(\^ ?\{{[0-9]\}})? ?\}}',
     'derivative'),
    (rf'(?<![\\a-zA-Z])d ?()([a-zA-Z]){_SUB} ?/ ?d ?([a-zA-Z])()(?![a-zA-Z])',
     'derivative'),
    (rf'\\({_ACCENTS}) ?\{{ ?\\?([a-zA-Z]+) ?\}} ?{_SUB}', 'accent'),
    (rf"(?<!\\)\b([a-zA-Z])('+){_SUB}", 'prime'),
    (rf'(?<![\\a-zA-Z])(E){_SUB}(?![a-z])', 'upper'),
    (rf'(\\gamma|\\Delta ?[a-zA-Z]){_SUB}(?![a-zA-Z(])', 'greek'),
    (r'([a-zA-Z]) ?_ ?\{ ?\\(odot|oplus|infty|max|min|perp|parallel) ?\}',
     'sub'),
  ]
]  # fmt: skip


# Signs that latex2sympy leaves out without a word.
_UNREAD = re.compile(r"'|\\ldots")
_DEGREES = re.compile(r'([0-9.]+|[a-zA-Z]) ?"degrees"')


@functools.lru_cache(maxsize=256)
def _read(text: str) -> Any:
  """Returns a sympy object with exact numbers, or None."""
  lib = libraries()
  for pattern, form in _NAMES:
    text = pattern.sub(functools.partial(_variable, form), text)
  if _UNREAD.search(text):
    return None
  text = _DEGREES.sub(r'(\1 \\cdot \\frac{\\pi}{180})', text)
  text = text.replace('"', ' ').replace('%', r'\%')
  value = lib.read(text, is_real=True)
  if value is None:
    return None
  floats = value.atoms(lib.sympy.Float)
  if floats:
    value = value.xreplace({f: lib.sympy.Rational(str(f)) for f in floats})
  imaginary = lib.sympy.Symbol('i', real=True)
  if imaginary in value.free_symbols:
    value = value.xreplace({imaginary: lib.sympy.I})
  return value


def _variable(form: str, match: re.Match) -> str:
  """Returns a name that latex2sympy reads as one symbol."""
  groups = [(part or '').replace("'", 'q') for part in match.groups()]
  parts = [re.sub('[^a-zA-Z0-9]', '', part) for part in groups]
  return rf' \variable{{{form}{"v".join(parts)}}} '


def _same(target: Any, value: Any, may_round: bool) -> bool:
  """Whether two sympy objects are the same, by their types."""
  sp = libraries().sympy
  same = functools.partial(_same, may_round=may_round)
  if isinstance(target, sp.MatrixBase) and isinstance(value, sp.MatrixBase):
    return target.shape == value.shape and all(
      map(same, target.flat(), value.flat())
    )
  if isinstance(target, sp.Interval) and isinstance(value, sp.Interval):
    flags = [(s.left_open, s.right_open) for s in (target, value)]
    return (
      flags[0] == flags[1]
      and same(target.start, value.start)
      and same(target.end, value.end)
    )
  if isinstance(target, sp.Tuple) and isinstance(value, sp.Tuple):
    return len(target) == len(value) and all(map(same, target, value))
  for kind in (sp.FiniteSet, sp.Union, sp.And):
    if isinstance(target, kind) and isinstance(value, kind):
      return _unordered(list(target.args), list(value.args), same)
  if isinstance(target, sp.core.relational.Relational) and isinstance(
    value, sp.core.relational.Relational
  ):
    return _same_relation(target, value)
  if isinstance(target, sp.Expr) and isinstance(value, sp.Expr):
    return _same_expression(target, value, may_round)
  return _verified(target, value)


def _verified(target: Any, value: Any) -> bool:
  """Returns what math_verify says, but no without tiny numbers."""
  sp = libraries().sympy
  numbers = target.atoms(sp.Rational) | value.atoms(sp.Rational)
  is_tiny = any(0 < abs(Fraction(str(n))) < _TINY for n in numbers) or any(
    power.exp.is_number and power.exp < -4
    for power in target.atoms(sp.Pow) | value.atoms(sp.Pow)
  )
  return not is_tiny and bool(libraries().verify(target, value))


def _unordered(left: list, right: list, same: Any) -> bool:
  if len(left) != len(right):
    return False
  for item in left:
    match = next((i for i, x in enumerate(right) if same(item, x)), None)
    if match is None:
      return False
    right.pop(match)
  return True


def _named(expression: Any) -> Any:
  """Returns an expression with symbols for unknown functions of arguments."""
  sp = libraries().sympy
  unknown = expression.atoms(sp.core.function.AppliedUndef)
  return expression.xreplace({f: sp.Symbol(str(f), real=True) for f in unknown})


def _same_expression(target: Any, value: Any, may_round: bool) -> bool:
  target, value = _named(target), _named(value)
  if target == value:
    return not target.has(libraries().sympy.nan, libraries().sympy.zoo)
  if not (target.free_symbols or value.free_symbols):
    return _same_number(target, value, may_round)
  values = _at_points(target, value)
  if values is None:
    return _verified(target, value)
  at_points = [
    bool(x.is_finite and y.is_finite) and _close(x, y)
    for x, y in zip(*values, strict=True)
  ]
  if not all(at_points[:_NUM_POSITIVE]):
    return False
  return all(at_points) or bool(libraries().verify(target, value))


def _same_number(target: Any, value: Any, may_round: bool) -> bool:
  sp = libraries().sympy
  left, right = _evaluated(target), _evaluated(value)
  limit = sp.Integer(10) ** _MAX_SIZE
  if all(x == 0 or 1 / limit < abs(x) < limit for x in (left, right)):
    target, value = target.doit(), value.doit()
  if target.is_Rational and value.is_Rational:
    numbers = [
      numerals.Number(_fraction(x), False, decimal)
      for x, decimal in ((value, True), (target, not may_round))
    ]
    return numerals.equal(*numbers)
  if _close(left, right):
    return True
  return may_round and all(
    numerals.rounds(_fraction(x), _fraction(y))
    for x, y in zip(left.as_real_imag(), right.as_real_imag(), strict=True)
  )


def _evaluated(expression: Any, point: Mapping[Any, Any] | None = None) -> Any:
  """Returns a number with all digits; 0 if none of them can be told."""
  sp = libraries().sympy
  number = expression.evalf(_DIGITS, subs=point)
  if number.is_number and abs(number) < sp.Rational(1, 10**_DIGITS):
    try:
      return expression.evalf(_DIGITS, subs=point, strict=True)
    except sp.core.evalf.PrecisionExhausted:
      return sp.Integer(0)
  return number


def _rounds(target: Any, value: Any) -> bool:
  """Whether a decimal rounds an irrational number, and does not equal it."""
  value = value.doit()
  if value.free_symbols or value.is_rational or not value.is_number:
    return False
  number, rounded = _evaluated(value), _evaluated(target)
  if not number.is_Float or _close(rounded, number):
    return False
  return numerals.rounds(_fraction(number), _fraction(rounded))


def _fraction(number: Any) -> Fraction:
  """Returns a real number that was evaluated as a fraction."""
  return Fraction(str(number))


def _close(left: Any, right: Any) -> bool:
  """Whether two evaluated numbers agree in almost all their digits."""
  sp = libraries().sympy
  if not (left.is_number and right.is_number):
    return False
  if not (left.is_finite and right.is_finite):  # nor are zoo and nan
    return left == right and left in (sp.oo, -sp.oo)
  size = max(abs(left), abs(right))
  return bool(abs(left - right) <= size * sp.Rational(1, 10**_AGREEING))


def _at_points(*expressions: Any) -> list[list[Any]] | None:
  """Returns the values of expressions at all points, None if they have none."""
  sp = libraries().sympy
  if any(
    e.has(sp.Sum, sp.Product, sp.Integral, sp.Limit, sp.Derivative)
    for e in expressions
  ):
    return None  # of sums to n some are slow, and some are wrong
  symbols = sorted(set().union(*(e.free_symbols for e in expressions)), key=str)
  points = [
    {
      symbol: sp.Rational(x.numerator, x.denominator)
      for symbol, x in zip(symbols, point, strict=False)
    }
    for point in _POINTS
  ]
  values = [
    [_evaluated(expression, point) for point in points]
    for expression in expressions
  ]
  return values if all(x.is_number for x in sum(values, [])) else None


def _same_relation(target: Any, value: Any) -> bool:
  """Whether two relations differ by a constant factor only."""
  sp = libraries().sympy
  reversed_types = {sp.Gt: sp.Lt, sp.Ge: sp.Le}
  sides, types = [], []
  for relation in (target, value):
    difference = _named(relation.lhs - relation.rhs)
    if type(relation) in reversed_types:
      difference = -difference
    sides.append(difference)
    types.append(reversed_types.get(type(relation), type(relation)))
  if types[0] is not types[1]:
    return False
  if not sides[0].free_symbols:
    return target == value
  values = _at_points(*sides)
  if values is None:
    return _verified(target, value)
  ratios = [x / y for x, y in zip(*values, strict=True)]
  is_signed = types[0] in (sp.Lt, sp.Le)
  return all(
    x.is_finite and x != 0 and _close(x, ratios[0]) for x in ratios
  ) and (not is_signed or bool(ratios[0] > 0))
