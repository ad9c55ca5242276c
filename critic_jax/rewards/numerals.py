"""Plain numbers: read exactly from answers, and compared.

A plain number is an integer, a decimal, a fraction or a mixed number.
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
_NUMBER = re.compile(
  rf'([-+]?) ?(?:({_INTEGER})?(\.[0-9]+)?'
  rf'|(?:([0-9]+) ?)?\\frac ?\{{ ?(-?[0-9]+) ?\}} ?\{{ ?([0-9]+) ?\}}'
  rf'|(?:([0-9]+) )?([0-9]+) ?/ ?([0-9]+))(%?)',
  re.A,
)


def read(text: str) -> Number | None:
  r"""Reads an integer, decimal, fraction or mixed number ('2\frac{1}{2}')."""
  match = _NUMBER.fullmatch(text)
  if not match or not re.search('[0-9]', text):
    return None
  sign, integer, decimals, *fractions, percent = match.groups()
  whole = fractions[0] or fractions[3]
  top, bottom = fractions[1] or fractions[4], fractions[2] or fractions[5]
  if bottom:
    if not int(bottom) or (whole and top.startswith('-')):
      return None
    value = int(whole or 0) + Fraction(int(top), int(bottom))
  else:
    value = Fraction(re.sub('[, ]', '', integer or '0') + (decimals or ''))
  return Number(-value if sign == '-' else value, bool(percent), '.' in text)


def equal(answer: Number, reference: Number) -> bool | None:
  """Whether two numbers are equal; None if rounding must decide it."""
  values = {answer.value}
  if answer.percent != reference.percent:  # '50%' is 0.5 and is 50
    values |= {answer.value / 100 if answer.percent else answer.value * 100}
  if reference.value in values:
    return True
  # math_verify decides whether 0.333333 is 1/3.
  is_rounded = answer.decimal != reference.decimal and not _terminates(
    answer, reference
  )
  return None if is_rounded else False


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
