r"""Answers in critiques: detected, and masked before a solver reads them.

A critique that states the final answer can make refinements right without any
other merit. It may also have merit, as in 'step 3 should be 14'; the rate of
leaks, and refinements with values masked, tell the two apart.

`leaks` knows the reference and compares values as a grader does: `_42_`,
`40+2`, `forty-two` and `42cm` name 42, and so does a list of numbers from 36 to
47. `masked` must not know the reference, or it would be an oracle: from a list
with one number masked a solver reads the answer. So it masks by what the solver
has before its eyes. Every value of the answer's kind goes, unless it is written
in the question or in the solution, and so do values that are called the answer:

  number    numbers and expressions of them; an expression of known numbers
            stays if it is written in question or solution
  formula   the same, and formulas
  choice    all letters of choices, all numbers, all words of the options
  truth     yes, no, true and false
  words     words that are neither in the question nor in the solution, but for
            the common ones of critiques (`_COMMON`)

For references of one kind the text is the same, whatever their values.

Not seen: an answer in other words than these (digit by digit among words, in
another language, 'one more than 41'), and one that the question or the solution
writes already, unless it is called the answer.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, NamedTuple

from critic_jax.answers import plain_text, prose_tokens, quantities, tolerance
from critic_jax.execution import code
from critic_jax.types import Record

MASK = '?'

Kind = Literal['none', 'number', 'formula', 'choice', 'truth', 'words']

_TRUTH = frozenset('yes no true false'.split())
_CHOICE = re.compile(r'\(?([A-J])[).]?')
_OPTION = re.compile(r'^[ \t]*\(?([A-J])[).:]\s+(.+)$', re.M)
# A letter that chooses; 'A' and 'I' are also words.
_LETTER = re.compile(
  r"(?<![\w'])(?:([B-HJ])(?![\w'])"
  r"|([AI])(?![\w'])(?! (?!(?:is|was|and|or|because|since|not)\b)[a-z]))"
  r'|(?<=\()[a-j](?=\))|(?i:(?<=option )|(?<=choice ))[a-j](?!\w)'
)
_CALLED = re.compile(
  r'(?:\b(?:answers?|results?|total)\b|####)\W{0,3}'
  r'(?:(?:is|are|was|should|must|would|will|be|equals?|to|thus|then|really)\W+'
  r'|[=:]\s*){0,4}[({\[]*\Z',
  re.I,
)
# The rest of a number's answer: its name, brackets, its unit.
_UNITS = re.compile(
  r'(?:[a-zA-Z]\w?\s*=)?[\s(\[{)\]}%.°€£]*'
  r'(?:\^?\s*\\circ\s*\w?|[a-zA-Z]{2,}[\s/\w.^-]*|[mgslLhJNWVKC])?'
)
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
# A formula has letters, commands or signs beside its numbers.
_FORMULA = re.compile(
  r'(?:\\[a-zA-Z]+|(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])'
  r'|(?<=[\d)}])[a-zA-Z]{2,3}(?![a-zA-Z])|[\d.^_*/+|!%(){}\[\]-]'
  r'|(?<=[*/+^-]) (?=[\w\\({])|(?<=[\w)}\]]) (?=[*/+^\\(-]))+'
)
# The rest of a list of numbers: '(1, 2)', 'x=1, y=2'.
_LIST = re.compile(r'(?:[a-zA-Z]\w?\s*=|\\?[{}]|[\s()\[\],;.$])*')
_VARIABLE = re.compile(r'(?<![^\W\d_])[a-zA-Z](?:\s?[_^]\s?\{?\s?)?(\d)(?!\d)')
_COMMON = frozenset(
  # Of the language.
  'a about above after again all also although an and another any are as at be'
  ' because been before being below between both but by can cannot could did do'
  ' does done each either else even every few first for from further get gets'
  ' give gives given go goes had has have he her here his how however i if in'
  ' instead into is it its itself just last least less let like made make makes'
  ' many may me mean means might more most must my need needs neither next nor'
  ' not now of on once one only or other others our out over own per rather'
  ' same say says see seem seems she should since so some such than that the'
  ' their them then there therefore these they this those though through thus'
  ' to together too two under until up upon use used uses using very was we'
  ' well were what when where whether which while who whole whose why will with'
  " within without would you your don't doesn't isn't"
  # Of critiques.
  ' add added adding additional advice algebra already answer answers apply'
  ' applied argument arithmetic assume assumed assumes assumption calculate'
  ' calculated calculation case cases check checked claim claims complete'
  ' conclude conclusion condition consider contains correct correctly count'
  ' counted critique derive derived detail different divide divided division'
  ' equal equals equation error errors expression fact factor false final find'
  ' follow follows formula forgets forgot found fraction ignores incorrect'
  ' incorrectly instead invalid justified lacks line lines look method minus'
  ' misreads missed misses missing mistake mistakes multiply multiplied'
  ' multiplication number numbers operation part place plus point previous'
  ' problem problems proof question read reason reasoning recompute redo'
  ' remember result results right round second sign simplify solution solve'
  ' state stated statement step steps student substitute subtract subtracted'
  ' subtraction sum term terms third times total unit units value values'
  ' variable verdict verify work write written wrong wrongly'.split()
)


def leaks(critique: Record) -> bool:
  """Whether the conclusion names the reference answer, in any spelling.

  '12' is in 'so x = 12.' and in '24 / 2', but in none of '112', '12.5',
  '1,120', '-12', '5/12'. The number of a step is no leak: 'Step 2 is wrong'
  does not name 2.
  """
  conclusion = _conclusion(critique)
  answer, allowed = tolerance.split(critique.problem.answer.strip())
  kind = kind_of(answer)
  if kind == 'none' or not conclusion:
    return False
  normal = plain_text.normalize(conclusion)
  if kind == 'choice':
    letter = _CHOICE.fullmatch(_plain(answer))[1]
    options = _options(critique.problem.question)
    return any(
      letter == match[0].upper() for match in _LETTER.finditer(normal.text)
    ) or (letter in options and _names(normal, options[letter], critique))
  if kind == 'truth':
    said = (normal.text[start:end] for start, end in _truths(normal.text))
    return _plain(answer).casefold() in map(str.casefold, said)
  return _names(normal, answer, critique, allowed)


def masked(critique: Record) -> str:
  """Returns the conclusion with `MASK` for what may be the answer.

  It depends on the reference by its kind alone: see above. A critique of a
  problem without an answer, or of a program, is returned as it is.
  """
  conclusion = _conclusion(critique)
  kind = kind_of(critique.problem.answer)
  if kind == 'none' or not conclusion:
    return conclusion
  normal = plain_text.normalize(conclusion)
  if kind == 'truth':
    spans = [_original(normal, *span) for span in _truths(normal.text)]
  elif kind == 'choice':
    spans = _choices(normal, critique)
  else:
    spans = _new_spans(normal, kind, critique)
  return _replaced(conclusion, spans)


@functools.lru_cache(1024)
def kind_of(answer: str) -> Kind:
  """Returns the kind of an answer: `masked` depends on it alone."""
  answer, _ = tolerance.split(answer)
  plain = _plain(answer)
  if not plain or code.is_reference(answer):
    return 'none'
  if _CHOICE.fullmatch(plain):
    return 'choice'
  if plain.casefold() in _TRUTH:
    return 'truth'
  numbers = quantities.quantities(plain)
  rest = plain
  for number in reversed(numbers):
    rest = rest[: number.start] + rest[number.end :]
  if len(numbers) == 1 and _UNITS.fullmatch(rest):
    return 'number'
  is_prose = re.fullmatch(r"[^\W\d_]{2,}(?:[\s'.,-]+[^\W\d_]+)*\.?", plain)
  return 'words' if is_prose and not numbers else 'formula'


# --------------------------------------------------------------- detection


def _names(
  normal: plain_text.Text,
  answer: str,
  critique: Record,
  allowed: Fraction | None = None,
) -> bool:
  """Whether a text has an answer in it, by value or by its tokens."""
  pattern = r'\s*'.join(
    re.escape(token.text)
    for token in prose_tokens.tokens(_plain(answer))
    if token.kind != 'space'
  )
  numbers = quantities.quantities(answer)
  kind = kind_of(answer)
  if kind in ('formula', 'words', 'choice', 'truth'):
    edge = r'(?<![\w/^-])(?:{})(?![\w/^])' if pattern[-1:].isalnum() else '{}'
    if re.search(edge.format(pattern), normal.text, re.I * (kind == 'words')):
      return True
  if kind not in ('number', 'formula') or not numbers:
    return False
  if kind == 'formula' and not _is_list(answer, numbers):
    return False
  named = quantities.in_normalized(normal, max_label=_num_steps(critique))
  wanted = [_values(number) for number in numbers]
  for place in range(len(named) - len(wanted) + 1):
    window = named[place : place + len(wanted)]
    if all(
      any(_is_among(values, quantity, allowed or 0) for quantity in window)
      for values in wanted
    ):
      return True
  return False


def _values(number: quantities.Quantity) -> list[quantities.Value]:
  """Returns the values of a reference: '50%' is 50 and 0.5."""
  values = [] if number.value is None else [number.value]
  if number.text.endswith('%') and values:
    values.append(number.value / 100)
  return values


def _is_among(values, quantity: quantities.Quantity, allowed) -> bool:
  named = [quantity.value, *quantity.parts]
  return any(
    quantities.same(value, other) or abs(value - other) <= allowed
    for value in values
    for other in named
    if other is not None
  )


def _is_list(answer: str, numbers) -> bool:
  """Whether an answer has numbers, names, brackets and commas only."""
  rest = list(answer)
  for number in numbers:
    rest[number.start : number.end] = ' ' * (number.end - number.start)
  return bool(_LIST.fullmatch(''.join(rest)))


# ----------------------------------------------------------------- masking


class _Known(NamedTuple):
  """What the solver has before its eyes."""

  text: str  # in one spelling, without spaces
  values: frozenset
  expressions: frozenset[str]
  words: frozenset[str]


def _known(critique: Record) -> _Known:
  texts = [critique.problem.question]
  texts += [record.text for record in critique.chain if record is not critique]
  text = '\n'.join(texts)
  normal = plain_text.normalize(text)
  numbers = quantities.in_normalized(normal, max_label=_num_steps(critique))
  return _Known(
    re.sub(r'\s+', '', normal.text),
    frozenset(atom for number in numbers for atom in number.atoms),
    frozenset(number.text for number in numbers),
    frozenset(word.casefold() for word in _WORD.findall(normal.text)),
  )


def _new_spans(normal, kind: Kind, critique) -> list[tuple[int, int]]:
  known = _known(critique)
  if kind == 'words':
    return _new_words(normal, known)
  spans = _new_quantities(normal, known, critique)
  return spans + (_new_formulas(normal, known) if kind == 'formula' else [])


def _new_quantities(normal, known: _Known, critique) -> list[tuple[int, int]]:
  spans = []
  for number in quantities.in_normalized(
    normal, max_label=_num_steps(critique)
  ):
    is_known = known.values.issuperset(number.atoms) and (
      number.value in known.values or number.text in known.expressions
    )
    if not is_known or _is_called_answer(normal.text, number.before):
      spans.append((number.start, number.end))
  # A digit may be hidden in a name that is nobody's, 'v_7', 'x^7'.
  return spans + [
    _original(normal, *match.span(1))
    for match in _VARIABLE.finditer(normal.text)
    if re.sub(r'\s+', '', match[0]) not in known.text
  ]


def _is_called_answer(text: str, start: int) -> bool:
  return bool(_CALLED.search(text[max(0, start - 60) : start]))


def _new_formulas(normal, known: _Known) -> list[tuple[int, int]]:
  spans = []
  for match in _FORMULA.finditer(normal.text):
    start, end = match.span()
    formula = match[0].strip(' -+*.')
    start += match[0].index(formula)
    end = start + len(formula)
    is_formula = re.search(r'[a-zA-Z]', formula) and (
      len(formula) > 2 or not formula.isalpha()
    )
    squashed = re.sub(r'\s+', '', formula)
    is_called = _is_called_answer(normal.text, start)
    if formula and (is_called or (is_formula and squashed not in known.text)):
      spans.append(_original(normal, start, end))
  return spans


def _new_words(normal, known: _Known) -> list[tuple[int, int]]:
  return [
    _original(normal, *match.span())
    for match in _WORD.finditer(normal.text)
    if _is_called_answer(normal.text, match.start())
    or not {match[0].casefold()} & (known.words | _COMMON)
  ]


def _choices(normal, critique: Record) -> list[tuple[int, int]]:
  options = plain_text.normalize(
    ' '.join(_options(critique.problem.question).values())
  )
  words = {word.casefold() for word in _WORD.findall(options.text)} - _COMMON
  spans = [
    _original(normal, *match.span()) for match in _LETTER.finditer(normal.text)
  ]
  spans += [
    _original(normal, *match.span())
    for match in _WORD.finditer(normal.text)
    if match[0].casefold() in words
  ]
  numbers = quantities.in_normalized(normal, max_label=_num_steps(critique))
  return spans + [(number.start, number.end) for number in numbers]


def _truths(text: str) -> Iterator[tuple[int, int]]:
  """Yields the places of words of truth; not 'no' in 'no mistake'."""
  for match in _WORD.finditer(text):
    word = match[0].casefold()
    is_followed = re.match(r' [a-z]', text[match.end() : match.end() + 2])
    if word in _TRUTH and not (word == 'no' and is_followed):
      yield match.span()


def _options(question: str) -> dict[str, str]:
  """Returns the options of a question, by letter: lines like 'A. Paris'."""
  return {match[1]: match[2].strip() for match in _OPTION.finditer(question)}


# ------------------------------------------------------------------- texts


def _num_steps(critique: Record) -> int:
  """Returns the greatest number that a step of the solution may have."""
  text = critique.parent.text if critique.parent else ''
  if not text.strip():
    return 9
  num_lines = sum(bool(line.strip()) for line in text.split('\n'))
  return max(num_lines, len(re.findall(r'[.!?](?:\s|\Z)', text)))


def _replaced(text: str, spans: list[tuple[int, int]]) -> str:
  pieces, last = [], 0
  for start, end in sorted(spans):
    if start >= last:
      pieces += [text[last:start], MASK]
    last = max(last, end)
  return ''.join([*pieces, text[last:]])


def _original(normal: plain_text.Text, start: int, end: int) -> tuple[int, int]:
  return normal.spans[start][0], normal.spans[end - 1][1]


def _plain(text: str) -> str:
  """Returns a reference in one spelling; braces of LaTeX's text are none."""
  text = plain_text.normalize(text).text.strip()
  if '\\' in text:
    return text
  return re.sub('[{}]', ' ', text).strip().rstrip('.').strip()


def _conclusion(critique: Record) -> str:
  return critique.parsed.get('conclusion') or ''
