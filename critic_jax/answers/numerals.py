r"""Plain numbers: read exactly from plain spellings, and compared.

A plain number is an integer, a decimal, a fraction, a mixed number, one of
these times a power of ten (`1.6\times 10^{-19}`, '5 million'), or a decimal
whose last digits repeat (`0.\overline{3}`). `spelling.plain` makes the
spellings that are read here.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple


class Number(NamedTuple):
  """A plain number, exactly."""

  value: Fraction
  percent: bool
  decimal: bool  # written with a decimal point


_INTEGER = r'[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?: [0-9]{3})+|[0-9]+'
_PART = r'-?[0-9]*\.?[0-9]+'  # of a fraction
_NUMBER = re.compile(
  rf'([-+]?) ?(?:({_INTEGER})?(\.[0-9]*)?'
  rf'|(?:([0-9]+) ?)?\\frac ?\{{ ?({_PART}) ?\}} ?\{{ ?({_PART}) ?\}}'
  rf'|(?:([0-9]+) )?([0-9]*\.?[0-9]+) ?/ ?([0-9]*\.?[0-9]+))(%?)',
  re.A,
)
_POWER = re.compile(r'(.*?)(?:\\times )?\b10\^\{(-?[0-9]{1,4})\}', re.A)
_MAX_EXPONENT = 1000  # a larger power of ten is left to the symbolic grader
_WORDS = {
  'hundred': 2, 'thousand': 3, 'million': 6, 'billion': 9, 'trillion': 12
}  # fmt: skip
_WORD = re.compile(rf'(.*?[0-9]) ?"? ?({"|".join(_WORDS)}) ?"?', re.A)
_REPEATING = re.compile(
  r'([-+]?)([0-9]*)\.([0-9]*)\\(?:overline|bar|dot) ?\{ ?([0-9]+) ?\}', re.A
)


def read(text: str) -> Number | None:
  r"""Reads a plain number, like '1,234', '2\frac{1}{2}' or '3\times 10^{8}'."""
  if not re.search('[0-9]', text):
    return None
  repeating = _REPEATING.fullmatch(text)
  if repeating:
    return Number(_repeating(*repeating.groups()), False, False)
  match, exponent = _POWER.fullmatch(text), 0
  if match:
    exponent = int(match[2])
  elif match := _WORD.fullmatch(text):
    exponent = _WORDS[match[2]]
  if abs(exponent) > _MAX_EXPONENT:
    return None
  if not match:
    return _simple(text)
  if match[1].strip() in ('', '-', '+'):  # 10^{5}
    number = _simple(match[1].strip() + '1')
  else:
    number = _simple(match[1].strip())
    if '\\times' not in match[0] and match.re is _POWER:
      return None  # '3 10^{8}' is no number
  if number is None or number.percent:
    return None
  return number._replace(value=number.value * Fraction(10) ** exponent)


def _simple(text: str) -> Number | None:
  """Reads a number without a power of ten."""
  match = _NUMBER.fullmatch(text)
  if not match or not re.search('[0-9]', text):
    return None
  sign, integer, decimals, *fractions, percent = match.groups()
  whole = fractions[0] or fractions[3]
  top, bottom = fractions[1] or fractions[4], fractions[2] or fractions[5]
  if bottom:
    if not Fraction(bottom) or (whole and not (top + bottom).isdigit()):
      return None
    value = int(whole or 0) + Fraction(top) / Fraction(bottom)
  else:
    value = Fraction(re.sub('[, ]', '', integer or '0') + (decimals or ''))
  return Number(-value if sign == '-' else value, bool(percent), '.' in text)


def _repeating(sign: str, integer: str, fixed: str, period: str) -> Fraction:
  digits = int(integer + fixed + period) - int(integer + fixed or '0')
  value = Fraction(digits, 10 ** len(fixed) * (10 ** len(period) - 1))
  return -value if sign == '-' else value


def equal(answer: Number, reference: Number) -> bool:
  """Whether two numbers are equal, or one is a decimal that rounds the other.

  Decimals are exact against integers, decimals and fractions that end; against
  other fractions see `rounds`.
  """
  values = {answer.value}
  if answer.percent != reference.percent:  # '50%' is 0.5 and is 50
    values |= {answer.value / 100 if answer.percent else answer.value * 100}
  if reference.value in values:
    return True
  if answer.decimal == reference.decimal or _terminates(answer, reference):
    return False
  return any(rounds(value, reference.value) for value in values)


def rounds(left: Fraction, right: Fraction) -> bool:
  """Whether two values are one after rounding: '0.333333' is 1/3.

  They agree in six decimals, as math_verify asks for, and to two millionths of
  the larger: six decimals of 1.6e-19 say nothing.
  """
  return round(left, 6) == round(right, 6) and abs(
    left - right
  ) * 500_000 <= max(abs(left), abs(right))


def _terminates(*numbers: Number) -> bool:
  """Whether every number can be written as a decimal."""
  for number in numbers:
    bottom = number.value.denominator
    for prime in (2, 5):
      while bottom % prime == 0:
        bottom //= prime
    if bottom != 1:
      return False
  return True
