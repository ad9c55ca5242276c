r"""Final answers: what a solution claims, and whether that is the reference.

Every function takes and returns strings, touches no device and never raises
on a model's text. Two conventions hold throughout. What is not found is not
guessed: a text without a marked answer has none, for "the last number" and
"the whole text" reward answers nobody gave. And math_verify
(https://github.com/huggingface/Math-Verify) decides only what `exact` cannot,
after the false positives it is known for have been refused: it reads '2 3' as
5, '5=6' as 6, 'seat' as 'east', 12 to the base 3 as 12 to the base 4, and
'3 cm' as '3 m'.

`equivalent` may not return: `9^{9^{9^9}}` is a legal answer. Give texts of a
model to `pool.Pool`, which kills what takes too long.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Literal, NamedTuple

Grade = Literal['right', 'wrong', 'unparsable', 'timeout']

MAX_ANSWER = 1000  # characters; a longer "answer" is none
IN_SANDBOX = False  # see `pool`

# What the grader must say of these, or it is broken: see `pool`.
CANARIES = (
  (r'\boxed{1,234}', '1234', 'right'),
  (r'\boxed{1,235}', '1234', 'wrong'),
  (r'\boxed', '1234', 'unparsable'),
  (r'\boxed{\sqrt{8}}', r'2\sqrt{2}', 'right'),
  (r'\boxed{\sqrt{8}}', r'2\sqrt{3}', 'wrong'),
)

# A command that boxes something; "put it in \boxed and stop" does not. Only the
# beginning is looked at, so that many boxes cost no more than their length.
_BOX = re.compile(
  r'\\(?:boxed|fbox)(?![a-zA-Z])[ \t\n]{0,100}'
  r'(?=\{|[-+]?[0-9.\\]|[a-zA-Z](?![a-zA-Z]))',
  re.A,
)
_BRACE = re.compile(r'\\.|[{}]', re.S)
_BARE = re.compile(r'[^\s$]*')  # the form `\boxed 5`
_HASHES = re.compile(r'^####(?!#)(.*)', re.M)


def extract(text: str) -> str | None:
  r"""The final answer of a solution, or None.

  It is what the last `\boxed{...}` or `\fbox{...}` holds; without any box,
  what follows the last line-initial `####` (GSM8K). Two different boxes in a
  text: the last counts, the convention of the field (Hendrycks et al., MATH,
  `last_boxed_only_string`). A last box that is empty, unbalanced or longer
  than `MAX_ANSWER` characters is no answer, and nothing earlier replaces it:
  a text cut inside its final box did not finish. Linear in the text's length.
  """
  box = _last(_BOX.finditer(text))
  if box:
    window = text[box.end() : box.end() + MAX_ANSWER + 2]
    if window[0] == '{':
      return _answer(_braced(window))
    return _answer(_BARE.match(window)[0].rstrip('.,;:'))
  hashes = _last(_HASHES.finditer(text))
  return _answer(hashes[1]) if hashes else None


def _last(matches: Iterator[re.Match]) -> re.Match | None:
  last = None
  for match in matches:  # a list of them could be large
    last = match
  return last


def _answer(text: str | None) -> str | None:
  text = (text or '').strip()
  return text if 0 < len(text) <= MAX_ANSWER else None


def _braced(text: str) -> str | None:
  """What stands between the brace at the beginning and the one closing it."""
  depth = 0
  for match in _BRACE.finditer(text):
    depth += {'{': 1, '}': -1}.get(match[0], 0)  # `\{` and `\}` are neither
    if not depth:
      return text[1 : match.start()]
  return None


def grade(text: str, reference: str) -> Grade:
  """'right', 'wrong' or 'unparsable' (no marked answer); may not return."""
  answer = extract(text)
  if answer is None:
    return 'unparsable'
  return decide(answer, reference)


def decide(answer: str, reference: str) -> Grade:
  """'right' or 'wrong': `equivalent`, as a pool asks its children."""
  return 'right' if equivalent(answer, reference) else 'wrong'


def equivalent(answer: str, reference: str) -> bool:
  r"""Whether an answer means the reference; not symmetric, may not return.

  Numbers written as integers or decimals are equal if they are exactly equal;
  against fractions, roots and constants math_verify allows a difference in
  the seventh decimal. Percent: '50%' is 0.5 and is 50 (data sets drop the
  sign). A unit is read only against no unit or the same one. '1,234' is a
  number, '1, 234' a list; lists are unordered, tuples and intervals are not.
  Subscripted bases must agree where both are given. Where the reference is a
  plain number, a sum or product of numbers ('12*13') is not an answer: it
  restates the question. Prose is compared as a string.
  """
  decided = exact(answer, reference)
  if decided is not None:
    return decided
  return _symbolic(_normalize(answer).body, _normalize(reference).body)


def exact(answer: str, reference: str) -> bool | None:
  """What `equivalent` returns where strings and rationals settle it, or None.

  Cheap and bounded: no sympy, no hang.
  """
  if max(len(answer), len(reference)) > MAX_ANSWER:
    return False
  given, wanted = _normalize(answer), _normalize(reference)
  if given.whole == wanted.whole:
    return bool(given.whole)  # also '3 m' and '3m', whatever m is
  if given.unit and wanted.unit and given.unit != wanted.unit:
    return False
  given, wanted = _drop_name(given, wanted), _drop_name(wanted, given)
  if not given.body or not wanted.body:
    return False
  if given.body == wanted.body:
    return True
  numbers = _number(given.body), _number(wanted.body)
  if None not in numbers:
    return _equal(*numbers)
  if _is_words(given.body) or _is_words(wanted.body):
    return given.body.casefold() == wanted.body.casefold()
  if any(refuse(given.body, wanted.body) for refuse in _REFUSALS):
    return False
  return None


class _Answer(NamedTuple):
  body: str
  unit: str  # '' if none
  whole: str  # with the unit, without spaces but between digits


class _Number(NamedTuple):
  value: Fraction
  percent: bool
  decimal: bool  # written with a decimal point


_REPLACEMENTS = [
  (re.compile(pattern, re.A), replacement)
  for pattern, replacement in [
    (r'(?<!\\)(?:\\!|\\(?:left|right)(?![a-zA-Z]))', ''),
    # Not after a backslash: `\\ ` begins a row of a matrix.
    (r'(?<!\\)\\(?:[,;: ()\[\]]|q?quad(?![a-zA-Z]))|[~\s]', ' '),
    (r'\\?\$', '$'),
    (r'\\[dtc]frac(?![a-zA-Z])', r'\\frac'),
    (r'\\frac ?([0-9]) ?([0-9])', r'\\frac{\1}{\2}'),
    (r'\\(?:text|mathrm|textbf|mathbf|textit|textrm|mbox) ?'
     r'\{([^{}\\]*)\}', r' \1 '),
    (r'\{,\}', ','),
    ('[\u2212\u2010\u2011]', '-'),
    (r'\\%', '%'),
    (r' ?(?:\^ ?\{? ?\\circ ?\}?|°)', ' degrees'),
    (r' +', ' '),
  ]
]  # fmt: skip
# Short words that are units; a longer word is one unless it is in _NOT_UNITS.
_SHORT_UNITS = (
  'mm|cm|dm|km|m|in|ft|yd|mi|mg|kg|g|lb|lbs|oz|ml|cl|l|L|s|ms|sec|min|h|hr|hrs'
  '|mph|kph|am|pm|AM|PM|cup|cups|day|days|men|sq|cu|per|of|the|km/h|m/s|USD|EUR'
)
_NOT_UNITS = frozenset(
  'hundred thousand million billion trillion dozen half halves third thirds'
  ' quarter quarters fifths tenths hundredths hundreds thousands millions'
  ' billions dozens times plus minus over more less than least most factorial'
  ' squared cubed mod modulo base percent percentage infinity sqrt choose'
  ' remainder wrong incorrect false undefined'.split()
)
_UNIT = re.compile(
  rf'(?<=[0-9)}}a-z.]) ((?:{_SHORT_UNITS}|[a-zA-Z]{{4,}}|/)'
  rf'(?: (?:{_SHORT_UNITS}|[a-zA-Z]{{3,}}|/)){{0,5}})'
  r'( ?\^ ?\{?[23]\}?)?$',
  re.A,
)


def _normalize(text: str) -> _Answer:
  r"""One spelling of an answer, split from its unit: '\$5.' -> ('5', ...)."""
  text = f' {text} '
  for pattern, replacement in _REPLACEMENTS:
    text = pattern.sub(replacement, text)
  text = text.strip().rstrip('.').strip()
  unit = ''
  currency = re.match(r'([-+]?) ?[$€£] ?(?=[0-9.])', text)
  if currency and text.count('$') < 2:
    unit = 'dollar' if '$' in currency[0] else currency[0].strip('-+ ')
    text = currency[1] + text[currency.end() :]
  text = re.sub(' +', ' ', text.replace('$', ' ')).strip()
  whole = re.sub(r'(?<![0-9]) | (?![0-9])', '', text) + unit
  match = _UNIT.search(text)
  if match and not _NOT_UNITS.intersection(match[1].lower().split()):
    if re.search(r'[0-9]|\\[a-zA-Z]', text[: match.start()]):
      words = (word.rstrip('s') for word in match[1].lower().split())
      power = re.sub('[^23]', '', match[2] or '')
      unit, text = ' '.join(words) + power, text[: match.start()]
  choice = re.fullmatch(r'\(? ?([A-Z]) ?\)?', text)  # '(A)', 'A)'
  body = choice[1] if choice else text
  body = re.sub(r'(?<=[0-9]) ?%$| percent$', '%', body).strip()
  return _Answer(body, unit, whole)


_INTEGER = r'[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?: [0-9]{3})+|[0-9]+'
_NUMBER = re.compile(
  rf'([-+]?) ?(?:({_INTEGER})?(\.[0-9]+)?'
  rf'|(?:([0-9]+) ?)?\\frac ?\{{ ?(-?[0-9]+) ?\}} ?\{{ ?([0-9]+) ?\}}'
  rf'|(?:([0-9]+) )?([0-9]+) ?/ ?([0-9]+))(%?)',
  re.A,
)


def _number(text: str) -> _Number | None:
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
  return _Number(-value if sign == '-' else value, bool(percent), '.' in text)


def _equal(given: _Number, wanted: _Number) -> bool | None:
  values = {given.value}
  if given.percent != wanted.percent:  # '50%' is 0.5 and is 50
    values |= {given.value / 100 if given.percent else given.value * 100}
  if wanted.value in values:
    return True
  # 0.333333 for 1/3 is a question of rounding: math_verify's.
  rounded = given.decimal != wanted.decimal and not _terminates(given, wanted)
  return None if rounded else False


def _terminates(*numbers: _Number) -> bool:
  """Whether every number can be written as a decimal."""
  for number in numbers:
    bottom = number.value.denominator
    for prime in (2, 5):
      while bottom % prime == 0:
        bottom //= prime
    if bottom != 1:
      return False
  return True


_NAME = r'[a-zA-Z](?:_\{?[a-zA-Z0-9]\}?|\([a-zA-Z]\))?'
_NAMED = re.compile(
  rf'(?:(?<=^)|(?<=,)|(?<=, ))(?:{_NAME}|\({_NAME}(?:, ?{_NAME})+\)) ?= ?', re.A
)


def _drop_name(answer: _Answer, other: _Answer) -> _Answer:
  """'x = 5' becomes '5' where the other side names nothing."""
  if '=' in other.body:
    return answer
  return answer._replace(body=_NAMED.sub('', answer.body))


_LETTERS = re.compile(r"[A-Za-z](?:[A-Za-z' -]*[A-Za-z])?\.?", re.A)
_NOT_PROSE = re.compile(
  r'\\(?:begin|end|operatorname) ?\{[^{}]*\}|\\[a-zA-Z]+', re.A
)
_FUNCTIONS = frozenset('sqrt frac sinh cosh tanh arcsin arccos arctan'.split())


def _is_words(text: str) -> bool:
  """Whether an answer is language: 'yes', 'B', 'not enough information'.

  As algebra a word is a product of its letters, so that 'seat' is 'east'.
  """
  if _LETTERS.fullmatch(text):
    return len(text) > 2 or text[0].isupper()
  words = re.findall(r'[a-zA-Z]{4,}', _NOT_PROSE.sub(' ', text))
  return not _FUNCTIONS.issuperset(words)


def _other_equation(answer: str, reference: str) -> bool:
  return ('=' in answer) != ('=' in reference)


def _spaced_digits(answer: str, reference: str) -> bool:
  """'2 3', which math_verify adds; a mixed number or '1 234' is none."""
  return any(
    re.search(r'[0-9] +\.?[0-9]', side) and not _number(side)
    for side in (answer, reference)
  )


def _other_base(answer: str, reference: str) -> bool:
  base = re.compile(r'[0-9] ?_ ?\{? ?([0-9]+) ?\}?$')
  given, wanted = base.search(answer), base.search(reference)
  return bool(given and wanted and given[1] != wanted[1])


def _other_brackets(answer: str, reference: str) -> bool:
  """A set against a tuple or an interval."""
  kinds = [
    'set' if side.startswith('\\{') else 'tuple' if side[0] in '([' else ''
    for side in (answer, reference)
  ]
  return set(kinds) == {'set', 'tuple'}


def _unevaluated(answer: str, reference: str) -> bool:
  r"""A sum or product of numbers for a plain number; '1.5 \times 10^3' is one.

  math_verify would evaluate it, and a model that repeats the question's
  expression would be paid for the answer.
  """
  number = _number(reference)
  if number is None:
    return False
  if number.decimal and re.search(r'\\(?!frac|times|cdot|div|ast)', answer):
    return False  # '2-\sqrt{3}' for a reference that rounds it
  answer = re.sub(r'(?:\\times|\\cdot|\*|×) ?10 ?\^', 'e', answer)
  answer = re.sub(r'\^ ?\{[^{}]*\}', '', answer)
  operator = r'(?:[-+*×÷]|\\(?:times|cdot|div|ast)(?![a-zA-Z]))'
  product = rf'[0-9)}}!] ?(?:{operator} ?[-+]? ?[0-9({{\\.]|\()'
  return bool(re.search(product, answer))


_REFUSALS = (
  _other_equation,
  _spaced_digits,
  _other_base,
  _other_brackets,
  _unevaluated,
)


def _symbolic(answer: str, reference: str) -> bool:
  parse, verify = _math_verify()
  try:
    wanted = parse(f'${reference}$')
    return bool(wanted and verify(wanted, parse(f'${answer}$')))
  except Exception:  # RecursionError, MemoryError: not shown to be equal
    return False


@functools.cache
def _math_verify() -> tuple[Callable[..., list], Callable[..., bool]]:
  """math_verify's parse and verify without timeouts; the import takes 1 s.

  Its timeouts raise a BaseException from SIGALRM in the main thread; the
  deadline is `pool.Pool`'s, so they are off, and so is its warning about it.
  """
  import math_verify

  logging.getLogger('math_verify').setLevel(logging.ERROR)
  parse = functools.partial(
    math_verify.parse,
    extraction_config=(math_verify.LatexExtractionConfig(),),
    fallback_mode='no_fallback',
    extraction_mode='first_match',
    parsing_timeout=None,
  )
  return parse, functools.partial(math_verify.verify, timeout_seconds=None)
