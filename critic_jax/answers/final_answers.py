r"""Final answers: extracted from solutions, compared with references.

Every function takes and returns strings, touches no device and never raises
on a model's text. No answer is guessed: a text without a marked answer has
none, since "the last number" and "the whole text" would reward answers that the
solver did not give. `spelling`, `structure`, `units` and `numerals` read an
answer, `equivalence` compares, and `symbolic` decides what needs algebra.

`equivalent` may not return: `9^{9^{9^9}}` is a legal answer. Give texts of a
model to `pool.Pool`, which kills a grader that takes too long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from critic_jax.answers import equivalence, symbolic, tolerance

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
  (r'\boxed{\sqrt{8}+3e-30}', r'2\sqrt{2}+2e-30', 'wrong'),
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

  - Integers, decimals and numbers with a power of ten (`3e8`) must be exactly
    equal. A decimal may round a fraction that does not end, a root or a
    constant: six decimals and two millionths of the value must agree.
  - Percent: '50%' is 0.5 and is 50 (data sets drop the sign).
  - A unit (`units`) matches no unit or the same one.
  - '1,234' is a number, '1, 234' a list; lists and sets are unordered, tuples
    and intervals are not.
  - A label (`x = 5`, `\text{Area} = 5`, `\approx 5`) matches no label or the
    same one; '5=6' is none.
  - Subscripted bases must agree if both sides have one.
  - If the reference is a plain number, the answer is one number, fraction,
    power, root or factorial: '12*13' restates the question. So does '3x+7=22'
    if the reference is 'x=5', and '2x+3<13' if it is 'x<5' or an interval.
  - Prose is compared as a string.
  - A reference may state a tolerance: '3.14 (within 0.01)'.
  """
  return bool(_compare(answer, reference, _by_symbols))


def exact(answer: str, reference: str) -> bool | None:
  """Returns `equivalent` if strings and rationals decide it, else None.

  It is cheap and always returns: no sympy, no hang.
  """
  return _compare(answer, reference, _unknown)


def _compare(
  answer: str, reference: str, decide: equivalence.Decide
) -> bool | None:
  if max(len(answer), len(reference)) > MAX_ANSWER:
    return False
  reference, allowed = tolerance.split(reference)
  if allowed is not None and tolerance.within(answer, reference, allowed):
    return True
  return equivalence.compare(answer, reference, decide)


def _by_symbols(answer: str, reference: str, must_round: bool) -> bool:
  return symbolic.equal(answer, reference, must_round=must_round)


def _unknown(answer: str, reference: str, must_round: bool) -> None:
  return None
