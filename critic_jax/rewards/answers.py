r"""Final answers: extracted from solutions, compared with references.

Every function takes and returns strings, touches no device and never raises
on a model's text. Two conventions hold throughout. No answer is guessed: a text
without a marked answer has none, since "the last number" and "the whole text"
would reward answers that the solver did not give. And math_verify
(https://github.com/huggingface/Math-Verify) decides only pairs that `exact`
cannot, after its known false positives have been refused: it reads '2 3' as 5,
'5=6' as 6, 'seat' as 'east', 12 to the base 3 as 12 to the base 4, and '3 cm'
as '3 m'.

`equivalent` may not return: `9^{9^{9^9}}` is a legal answer. Give texts of a
model to `pool.Pool`, which kills a grader that takes too long.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Literal

from critic_jax.rewards import numerals, spelling

Grade = Literal['right', 'wrong', 'unparsable', 'timeout']

MAX_ANSWER = 1000  # characters; a longer "answer" is none
IN_SANDBOX = False  # this module is a grader of `pool`

# Texts, references and grades: `pool` refuses a grader that differs.
CANARIES = (
  (r'\boxed{1,234}', '1234', 'right'),
  (r'\boxed{1,235}', '1234', 'wrong'),
  (r'\boxed', '1234', 'unparsable'),
  (r'\boxed{\sqrt{8}}', r'2\sqrt{2}', 'right'),
  (r'\boxed{\sqrt{8}}', r'2\sqrt{3}', 'wrong'),
)

# A command that boxes something; "put it in \boxed and stop" does not. Only the
# beginning is matched, so that many boxes cost no more than their length.
_BOX = re.compile(
  r'\\(?:boxed|fbox)(?![a-zA-Z])[ \t\n]{0,100}'
  r'(?=\{|[-+]?[0-9.\\]|[a-zA-Z](?![a-zA-Z]))',
  re.A,
)
_BRACE = re.compile(r'\\.|[{}]', re.S)
_BARE = re.compile(r'[^\s$]*')  # the form `\boxed 5`
_HASHES = re.compile(r'^####(?!#)(.*)', re.M)


def extract(text: str) -> str | None:
  r"""Returns the final answer of a solution, or None.

  It is the content of the last `\boxed{...}` or `\fbox{...}`; without any box,
  the text after the last line-initial `####` (GSM8K). The last of several boxes
  counts, by the convention of the field (Hendrycks et al., MATH,
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
  """Returns the text between the opening brace and the one closing it."""
  depth = 0
  for match in _BRACE.finditer(text):
    depth += {'{': 1, '}': -1}.get(match[0], 0)  # `\{` and `\}` are neither
    if not depth:
      return text[1 : match.start()]
  return None


def grade(text: str, reference: str) -> Grade:
  """Grades a text; without a marked answer 'unparsable'; may not return."""
  answer = extract(text)
  if answer is None:
    return 'unparsable'
  return decide(answer, reference)


def decide(answer: str, reference: str) -> Grade:
  """Grades an answer by `equivalent`; the children of a pool call it.

  Raises:
    MemoryError: nothing is known of the answer.
  """
  return 'right' if equivalent(answer, reference) else 'wrong'


def equivalent(answer: str, reference: str) -> bool:
  r"""Whether an answer means the reference; not symmetric, may not return.

  Integers and decimals must be exactly equal; against fractions, roots and
  constants math_verify allows a difference in the seventh decimal. Percent:
  '50%' is 0.5 and is 50 (data sets drop the sign). A unit matches no unit or
  the same one. '1,234' is a number, '1, 234' a list; lists are unordered,
  tuples and intervals are not. Subscripted bases must agree if both sides have
  one. If the reference is a plain number, a sum or product of numbers
  ('12*13') is not an answer: it restates the question. Prose is compared as a
  string.
  """
  decision = exact(answer, reference)
  if decision is not None:
    return decision
  return _symbolic(
    spelling.normalize(answer).body, spelling.normalize(reference).body
  )


def exact(answer: str, reference: str) -> bool | None:
  """Returns `equivalent` if strings and rationals decide it, else None.

  It is cheap and always returns: no sympy, no hang.
  """
  if max(len(answer), len(reference)) > MAX_ANSWER:
    return False
  left, right = spelling.normalize(answer), spelling.normalize(reference)
  if left.whole == right.whole:
    return bool(left.whole)  # also '3 m' and '3m', be m a unit or a variable
  if left.unit and right.unit and left.unit != right.unit:
    return False
  left, right = _drop_name(left, right), _drop_name(right, left)
  if not left.body or not right.body:
    return False
  if left.body == right.body:
    return True
  numbers = numerals.read(left.body), numerals.read(right.body)
  if None not in numbers:
    return numerals.equal(*numbers)
  if _is_words(left.body) or _is_words(right.body):
    return left.body.casefold() == right.body.casefold()
  if any(refuse(left.body, right.body) for refuse in _REFUSALS):
    return False
  return None


_NAME = r'[a-zA-Z](?:_\{?[a-zA-Z0-9]\}?|\([a-zA-Z]\))?'
_NAMED = re.compile(
  rf'(?:(?<=^)|(?<=,)|(?<=, ))(?:{_NAME}|\({_NAME}(?:, ?{_NAME})+\)) ?= ?', re.A
)


def _drop_name(
  answer: spelling.Answer, other: spelling.Answer
) -> spelling.Answer:
  """Shortens 'x = 5' to '5' if the other side has no name."""
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
  """Whether a side is like '2 3', which math_verify adds, and no number."""
  return any(
    re.search(r'[0-9] +\.?[0-9]', side) and not numerals.read(side)
    for side in (answer, reference)
  )


def _other_base(answer: str, reference: str) -> bool:
  base = re.compile(r'[0-9] ?_ ?\{? ?([0-9]+) ?\}?$')
  left, right = base.search(answer), base.search(reference)
  return bool(left and right and left[1] != right[1])


def _other_brackets(answer: str, reference: str) -> bool:
  """Whether one side is a set, the other a tuple or an interval."""
  kinds = [
    'set' if side.startswith('\\{') else 'tuple' if side[0] in '([' else ''
    for side in (answer, reference)
  ]
  return set(kinds) == {'set', 'tuple'}


def _unevaluated(answer: str, reference: str) -> bool:
  r"""Whether the answer is a sum or product, the reference a plain number.

  '1.5 \times 10^3' is a plain number.
  math_verify would evaluate the answer, and so reward a model that repeats the
  expression of the question.
  """
  number = numerals.read(reference)
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
    target = parse(f'${reference}$')
    return bool(target and verify(target, parse(f'${answer}$')))
  except MemoryError:  # not shown to be unequal, either
    raise
  except Exception:  # RecursionError: not shown to be equal
    return False


@functools.cache
def _math_verify() -> tuple[Callable[..., list], Callable[..., bool]]:
  """Returns math_verify's parse and verify, without timeouts.

  Errors are raised, as a lack of memory is no wrong answer. Its timeouts raise
  a BaseException from SIGALRM in the main thread. The pool has the deadline, so
  they are off, and so is its warning about that. The import takes 1 s.
  """
  import math_verify

  logging.getLogger('math_verify').setLevel(logging.ERROR)
  parse = functools.partial(
    math_verify.parse,
    extraction_config=(math_verify.LatexExtractionConfig(),),
    fallback_mode='no_fallback',
    extraction_mode='first_match',
    parsing_timeout=None,
    raise_on_error=True,
  )
  verify = functools.partial(
    math_verify.verify, timeout_seconds=None, raise_on_error=True
  )
  return parse, verify
