r"""Whether two answers mean the same, by their structure.

Lists, sets, tuples, intervals and matrices are taken apart, labels and units
are split off, and single values are compared: plain numbers exactly, words as
strings, all else by a function that is given, `symbolic.equal` or one that
knows nothing. Forms that would be read wrongly are refused before it is asked.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterable

from critic_jax.answers import numerals, spelling, structure, units

# (answer, reference, must_round) of single values: equal or not, or unknown.
Decide = Callable[[str, str, bool], bool | None]

_MAX_DEPTH = 8
_MAX_DIFFERENT = 20  # items of a list in other spellings than the reference's


def compare(answer: str, reference: str, decide: Decide) -> bool | None:
  """Compares two answers; None if that depends on what `decide` does not know.

  It is symmetric but for restatements (`is_plain_form`), bases and operators,
  and returns if `decide` does.
  """
  left, right = spelling.plain(answer), spelling.plain(reference)
  return _compare(left, right, decide, _MAX_DEPTH)


def _compare(left: str, right: str, decide: Decide, depth: int) -> bool | None:
  if spelling.bare(left) == spelling.bare(right):
    return bool(spelling.bare(left))
  left, right = structure.unwrapped(left), structure.unwrapped(right)
  sides = structure.parse(left), structure.parse(right)
  if sides == (None, None):
    left, right = _choice(left), _choice(right)
    left, right = _unlabelled(left, right), _unlabelled(right, left)
    unit, other_unit = units.split(left)[1], units.split(right)[1]
    if unit and other_unit and unit != other_unit:
      return False
    left, right = units.split(left)[0], units.split(right)[0]
    left, right = structure.unwrapped(left), structure.unwrapped(right)
    if not left or not right:
      return False
    sides = structure.parse(left), structure.parse(right)
  if sides == (None, None) or not depth:
    return _values(left, right, decide)
  return _structures(left, right, sides, decide, depth)


def _choice(text: str) -> str:
  """Returns the letter of '(A)', 'A)' and '"A"'."""
  match = re.fullmatch(r'"? ?\(? ?([A-Z]) ?\)? ?"?', text)
  return match[1] if match else text


def _unlabelled(text: str, other: str) -> str:
  """Shortens 'x = 5' to '5' if the other side has no such label."""
  left, value = structure.label(text)
  if not left or not value or not structure.is_label(left):
    return text
  other_left, _ = structure.label(other)
  if other_left:
    is_same = spelling.bare(left) == spelling.bare(other_left)
    return value if is_same or '"approximately"' in left else text
  return value


def _structures(
  left: str,
  right: str,
  sides: tuple[structure.Structure | None, structure.Structure | None],
  decide: Decide,
  depth: int,
) -> bool | None:
  """Compares answers of which one at least has items."""
  if None in sides:
    # A value may be named, have a unit, or be an interval as a relation.
    single = _unlabelled(left, right), _unlabelled(right, left)
    single = tuple(
      text if side else units.split(text)[0]
      for text, side in zip(single, sides, strict=True)
    )
    if single != (left, right):
      return _compare(*single, decide, depth - 1)
    if re.search(r'[<>]|\\[lg]eq|\\neq', left + right):
      return _algebra(left, right, decide)
  if None in sides and left.count('\\begin') == right.count('\\begin') == 1:
    return _algebra(left, right, decide)  # a matrix with a coefficient
  kinds = [side.kind if side else 'list' for side in sides]
  items = [
    side.items if side else (text,)
    for side, text in zip(sides, (left, right), strict=True)
  ]
  if kinds[1] == '()' and kinds[0] in ('list', '()'):
    items[0] = _by_axes(items[0])
  if ['\\emptyset'] in [[item.strip() for item in side] for side in items]:
    return False  # a set that has the empty set in it
  if len(items[0]) != len(items[1]) and set(kinds) <= {'list', 'set'}:
    if 1 not in map(len, items):
      items = [_distinct(side) for side in items]
  if len(items[0]) != len(items[1]) and 'union' not in kinds:
    return False
  if set(kinds) <= {'list', 'set'} or kinds == ['union', 'union']:
    answer = _unordered(*items, decide, depth)
    if answer is False and kinds == ['union', 'union']:
      return _algebra(left, right, decide)  # they may overlap
    return answer
  if kinds[0] == kinds[1] or set(kinds) == {'list', '()'}:
    return _all(
      _compare(x, y, decide, depth - 1) for x, y in zip(*items, strict=True)
    )
  return 'union' in kinds and _algebra(left, right, decide)


def _by_axes(items: tuple[str, ...]) -> tuple[str, ...]:
  """Returns 'y=5, x=6' in the order of a point, x, y, z."""
  names = [structure.label(item)[0] for item in items]
  if not set(names) <= {'x', 'y', 'z'} or len(set(names)) != len(names):
    return items
  return tuple(item for _, item in sorted(zip(names, items, strict=True)))


def _distinct(items: tuple[str, ...]) -> tuple[str, ...]:
  return tuple({spelling.bare(item): item for item in items}.values())


def _all(decisions: Iterable[bool | None]) -> bool | None:
  """Returns False if any is, else None if any is, else True."""
  is_unknown = False
  for decision in decisions:
    if decision is False:
      return False
    is_unknown |= decision is None
  return None if is_unknown else True


def _unordered(
  left: tuple[str, ...], right: tuple[str, ...], decide: Decide, depth: int
) -> bool | None:
  """Compares lists of one length in any order."""
  if len(left) != len(right):
    return False
  answers, references = _without(left, right), _without(right, left)
  if len(answers) > _MAX_DIFFERENT:
    return False
  is_unknown = False
  for reference in references:
    decisions = []
    for i, answer in enumerate(answers):
      decisions.append(_compare(answer, reference, decide, depth - 1))
      if decisions[-1]:
        answers.pop(i)
        break
    else:
      if None not in decisions:
        return False
      is_unknown = True
  return None if is_unknown else True


def _without(items: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
  """Returns the items that are left if each of the others takes away one."""
  counts = collections.Counter(map(spelling.bare, others))
  rest = []
  for item in items:
    counts[spelling.bare(item)] -= 1
    if counts[spelling.bare(item)] < 0:
      rest.append(item)
  return rest


def _values(left: str, right: str, decide: Decide) -> bool | None:
  """Compares single values without labels and units."""
  if spelling.bare(left) == spelling.bare(right):
    return bool(spelling.bare(left))
  numbers = numerals.read(left), numerals.read(right)
  if None not in numbers:
    return numerals.equal(*numbers)
  if _is_words(left) or _is_words(right):
    is_other = _is_variable(right) and left.strip('" ') != right
    return not is_other and _words(left) == _words(right) != ''
  if numbers[1] and not is_plain_form(left):
    return _may_round(left, right) and decide(left, right, True)
  return _algebra(left, right, decide)


def _algebra(left: str, right: str, decide: Decide) -> bool | None:
  """Asks `decide` about mathematics that it reads rightly."""
  is_refused = (
    _is_words(left)
    or _is_words(right)
    or any(refuses(left, right) for refuses in _REFUSALS)
  )
  return False if is_refused else decide(left, right, False)


def _is_variable(text: str) -> bool:
  """Whether a letter is a variable: R is not r, but b may choose B."""
  return bool(re.fullmatch('[K-Za-z]', text))


def _words(text: str) -> str:
  return ' '.join(text.replace('"', ' ').casefold().rstrip('.').split())


_LETTERS = re.compile(r"(?:[A-Za-z]++(?:[' -]+(?=[A-Za-z]))?)+\.?", re.A)
_NOT_PROSE = re.compile(
  r'\\(?:begin|end|operatorname|mathbb|mathcal) ?\{[^{}]*\}|\\[a-zA-Z]+'
  r'|_\{[^{}]*\}', re.A,
)  # fmt: skip
_FUNCTIONS = frozenset('sqrt frac sinh cosh tanh arcsin arccos arctan'.split())


def _is_words(text: str) -> bool:
  """Whether an answer is language: 'yes', 'B', 'not enough information'.

  As algebra a word is a product of its letters, so that 'seat' is 'east'.
  """
  unquoted = text.replace('"', ' ').strip()
  if _LETTERS.fullmatch(unquoted):
    return bool(
      re.search('[A-Za-z]{3}', unquoted)
      or ('"' in text and len(unquoted) > 1)
      or unquoted[0].isupper()
    )
  prose = _NOT_PROSE.sub(' ', text.replace('"degrees"', ' '))
  if re.search(r'" ?[^"]*[a-zA-Z]{2}[^"]*"', prose):
    return True
  return not _FUNCTIONS.issuperset(re.findall(r'[a-zA-Z]{4,}', prose))


def _other_equation(left: str, right: str) -> bool:
  return ('=' in left) != ('=' in right)


def _spaced_digits(left: str, right: str) -> bool:
  """Whether a side is like '2 3', which math_verify adds, and no number."""
  return any(
    re.search(r'[0-9] +\.?[0-9]', side) and not numerals.read(side)
    for side in (left, right)
  )


_BASE = re.compile(r'[0-9})] ?_ ?\{[^{}]*\}')


def _other_base(left: str, right: str) -> bool:
  """Whether the answer has another base; a reference's may be left out.

  latex2sympy ignores the subscript of a number.
  """
  bases, expected = ([m[0] for m in _BASE.finditer(x)] for x in (left, right))
  if bases:
    return bases != expected
  return bool(expected) and not re.fullmatch('[0-9A-F]+_{[0-9]+}', right)


_OPERATORS = re.compile(
  r'\\(i?int|oint|sum|prod|lim|det|[dt]?binom|max|min|gcd|lcm|operatorname'
  r'|nabla|begin ?\{vmatrix|frac ?\{ ?(?:d|\\partial)(?![a-z]).*\{ ?(?:d'
  r'|\\partial) ?[a-z]\})(?![a-zA-Z])', re.A,
)  # fmt: skip


def _unevaluated_operator(left: str, right: str) -> bool:
  r"""Whether the answer has a sum, integral or limit that the reference lacks.

  sympy would evaluate it, and so reward a model that repeats the question.
  """
  return not set(_OPERATORS.findall(left)) <= set(_OPERATORS.findall(right))


_RELATION = re.compile(r'[=<>]|\\(?:leq|geq|neq)(?![a-zA-Z])')
_VARIABLE = re.compile(r'(?<![\\a-zA-Z])[a-df-hj-zA-Z]')  # not e and i


def _unsolved(left: str, right: str) -> bool:
  """Whether an answer is 'x+7=12' or 'x+7<12' for 'x=5', 'x<5', an interval.

  An equation of the question has the same solutions, and is not solved.
  """
  if not _RELATION.search(left):
    return False
  sides, expected = (
    [side.strip() for side in _RELATION.split(text)] for text in (left, right)
  )
  values = [side for side in expected if not structure.is_label(side)]
  if any(map(_VARIABLE.search, values)):
    return False
  must_be_plain = len(expected) > 1 and all(map(_is_bound, values))
  return not all(
    structure.is_label(side)
    or (_is_bound(side) if must_be_plain else not _VARIABLE.search(side))
    for side in sides
  )


def _is_bound(text: str) -> bool:
  return is_plain_form(text) or text.lstrip('+-') == '\\infty'


_REFUSALS = (
  _other_equation,
  _unsolved,
  _spaced_digits,
  _other_base,
  _unevaluated_operator,
)


def is_plain_form(answer: str) -> bool:
  r"""Whether an answer is one of the forms that a plain number may have.

  They are a number, a fraction of two numbers or powers, a power, a root and a
  factorial of numbers, each with a sign. All else, '12*13', '12|13|' and
  '12/(1/13)' for 156, restates the question, and is not an answer.
  """
  text = structure.unwrapped(re.sub(r'^[-+] ?', '', answer))
  if text.endswith('!'):
    return _is_number(text[:-1])
  root = re.fullmatch(r'\\sqrt ?(?:\[ ?[0-9]+ ?\])? ?\{([^{}]*)\}', text)
  if root:
    return _is_number(root[1])
  quotient = re.fullmatch(
    r'\\frac ?\{((?:[^{}]|\{[^{}]*\})*)\} ?\{((?:[^{}]|\{[^{}]*\})*)\}', text
  ) or re.fullmatch(r'([^/]*)/([^/]*)', text)
  if quotient:
    return all(_is_whole(x) or _is_power(x) for x in quotient.groups())
  return _is_number(text) or _is_power(text)


def _is_number(text: str) -> bool:
  return numerals.read(structure.unwrapped(text.strip())) is not None


def _is_whole(text: str) -> bool:
  """Whether a text is a number, and no fraction."""
  return _is_number(text) and not re.search('/|frac', text)


def _is_power(text: str) -> bool:
  match = re.fullmatch(
    r'([^{}^]*|\(?\\frac\{[^{}]*\}\{[^{}]*\}\)?) ?\^ ?\{([^{}]*)\}',
    text.strip(),
  )
  return bool(match and all(_is_number(part) for part in match.groups()))


def _may_round(answer: str, reference: str) -> bool:
  r"""Whether a reference of six decimals or more may round '2-\sqrt{3}'."""
  return bool(
    re.search(r'\.[0-9]{6}', reference)
    and re.search(r'\\(?!frac|times|cdot|div|ast)[a-zA-Z]', answer)
  )
