"""References with a tolerance that a data set states: '3.14 (within 0.01)'.

An answer is right if each of its numbers differs from the reference's by no
more than the tolerance, an absolute difference. Only plain numbers, roots,
powers and multiples of pi profit from it: a sum or a product restates the
question.
"""

from __future__ import annotations

import re
from fractions import Fraction

from critic_jax.answers import numerals, quantities, spelling, structure, units

_STATED = re.compile(r'(.*\S) \(within ([0-9.e-]{1,30})\)', re.S)
_NUMBER = re.compile(r'\d{1,12}(?:\.\d{1,20})?(?:e-?\d{1,2})?', re.A | re.I)


def state(answer: str, tolerance: str) -> str:
  """Returns a reference that states a tolerance.

  Raises:
    ValueError: the tolerance is no positive number.
  """
  tolerance = tolerance.strip().lower()
  if not _NUMBER.fullmatch(tolerance) or not Fraction(tolerance):
    raise ValueError(f'got the tolerance {tolerance!r}; expected a number > 0')
  return f'{answer} (within {tolerance})'


def split(reference: str) -> tuple[str, Fraction | None]:
  """Returns a reference without its tolerance, and that, or None."""
  match = _STATED.fullmatch(reference)
  if not match or not _NUMBER.fullmatch(match[2]):
    return reference, None
  return match[1], Fraction(match[2])


def within(answer: str, reference: str, tolerance: Fraction) -> bool:
  """Whether the numbers of an answer are close to those of a reference.

  Lists and sets are compared in any order, and tuples, intervals and matrices
  with their like; units must be the same if both have some.
  """
  texts = [
    structure.unwrapped(spelling.plain(text)) for text in (answer, reference)
  ]
  parsed = [structure.parse(text) for text in texts]
  kinds = [side.kind if side else 'list' for side in parsed]
  is_unordered = set(kinds) <= {'list', 'set'}
  if kinds[0] != kinds[1] and not is_unordered:
    return False
  sides = [_items(*side) for side in zip(texts, parsed, strict=True)]
  if None in sides or len(sides[0]) != len(sides[1]):
    return False
  if is_unordered:
    sides = [sorted(side) for side in sides]
  for (value, unit), (target, other) in zip(*sides, strict=True):
    if abs(value - target) > tolerance or (unit and other and unit != other):
      return False
  return True


def _items(
  text: str, parsed: structure.Structure | None
) -> list[tuple[Fraction, str]] | None:
  """Returns the values of a number or a list, with their units."""
  values = []
  for item in parsed.items if parsed else (text,):
    left, value = structure.label(item)
    if left and value and structure.is_label(left):
      item = value
    item, unit = units.split(item)
    value = _value(structure.unwrapped(item.strip()))
    if value is None:
      return None
    values.append((value, unit))
  return values


def _value(text: str) -> Fraction | None:
  number = numerals.read(text)
  if number:
    return number.value
  found = quantities.quantities(text)
  if len(found) != 1 or (found[0].start, found[0].end) != (0, len(text)):
    return None
  if re.search(r'[+*(\[]|(?<=.)-', found[0].text) or found[0].value is None:
    return None
  return Fraction(found[0].value)
