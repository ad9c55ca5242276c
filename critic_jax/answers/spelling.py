r"""One spelling of an answer: LaTeX, Unicode signs, spaces.

`plain` maps the spellings that a reader takes for the same to one of them, and
knows neither references nor meaning: `\dfrac12`, `½` and `{\frac 1 2}` become
`\frac{1}{2}`. In its result words of `\text{...}` stand between double quotes,
scripts have braces, and a number of the form `3e8` is `3\times 10^{8}`. Nothing
here raises on a model's text, and all of it is linear in the text's length.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from critic_jax.answers import plain_text

_SIGNS = str.maketrans(
  dict.fromkeys(plain_text.MINUS_SIGNS, '-')
  | dict.fromkeys(plain_text.TIMES_SIGNS, r'\cdot ')
  | {
    '"': ' ', '\u00a0': ' ', '\u2002': ' ', '\u2003': ' ', '\u2009': ' ',
    '\u202f': ' ', '\u2044': '/', '\u2032': "'", '\u2019': "'",
    '×': r'\times ', '÷': r'\div ', '√': r'\sqrt ', '±': r'\pm ',
    '∞': r'\infty ', '≤': r'\leq ', '≥': r'\geq ', '≠': r'\neq ',
    '≈': r'\approx ', '≡': r'\equiv ', '∈': r'\in ',
    '∪': r'\cup ', '∩': r'\cap ', '∅': r'\emptyset ', '∠': r'\angle ',
    '°': r'\degree ', 'µ': r'\mu ', '⟨': r'\langle ', '⟩': r'\rangle ',
    '∖': r'\setminus ', 'ℝ': r'\mathbb{R}', '…': r'\ldots ',
  }
  | {ord(char): '\\frac{%s}{%s}' % tuple(unicodedata.normalize('NFKC', char)
                                         .split('\u2044'))
     for char in '½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒'}
  | {
    letter: f'\\{name} '
    for letter, name in zip(
      'αβγδεζηθικλμνξπρστφχψωΓΔΘΛΞΠΣΦΨΩϕ',
      'alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu'
      ' xi pi rho sigma tau varphi chi psi omega Gamma Delta Theta Lambda Xi Pi'
      ' Sigma Phi Psi Omega phi'.split(),
      strict=True,
    )
  }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans('⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ', '0123456789-n')
_SUBSCRIPTS = str.maketrans('₀₁₂₃₄₅₆₇₈₉ₙ', '0123456789n')

_END = '(?![a-zA-Z])'  # of a command
# The order matters: later rules read what earlier ones wrote.
_RULES = [
  (re.compile(pattern, re.A), replacement)
  for pattern, replacement in [
    # Sizes, fonts and spaces.
    (r'(?<!\\)(?:\\! *|\\(?:left|right|displaystyle|textstyle|limits'
     rf'|[bB]igg?[lrm]?){_END} ?)', ''),
    # Not after a backslash: `\\ ` begins a row of a matrix.
    (rf'(?<!\\)\\(?:[,;:> ()\[\]]|(?:q?quad|enspace|thinspace){_END})|[~\s]',
     ' '),
    (r'(?<=[0-9])\\(?:mathrm|text|rm) ?\{ ?[eE] ?\} ?(?=[-+]?[0-9])', 'e'),
    (r'\{ ?\\(?:rm|mathrm|text) ([^{}\\]{1,40})\}', r' "\1" '),
    (rf'\\(?:bf|it|rm|sf|tt|boldmath){_END} ?', ''),
    (r'\\(?:text(?:normal|bf|it|rm|sf|tt)?|mathrm|mathsf|mathbf|mathit|mbox'
     r'|boldsymbol|bm|operatorname\*?) ?\{([^{}\\]*)\}', r' "\1" '),
    (r'(?<![a-zA-Z])"([a-zA-Z])"(?=_)', r'\1'),
    # Other names of a sign.
    (r'\\?\$', '$'),
    (r'\{,\}', ','),
    (rf'\\leq?(?:slant)?{_END}|<=|\\leqq{_END}', r'\\leq '),
    (rf'\\geq?(?:slant)?{_END}|>=|\\geqq{_END}', r'\\geq '),
    (rf'\\neq?{_END}|!=|\\not ?=', r'\\neq '),
    (rf'\\lt{_END}', '<'),
    (rf'\\gt{_END}', '>'),
    (rf'\\lbrace{_END}', r'\\{'),
    (rf'\\rbrace{_END}', r'\\}'),
    (rf'\\(?:[lr]?vert|mid){_END}|\\\|', '|'),
    (rf'\\varnothing{_END}|\\\{{ ?\\\}}', r'\\emptyset '),
    (rf'\\(?:[cl]?dots|dotsc|dotsb){_END}', r'\\ldots '),
    (rf'\\ast{_END}', '*'),
    (r' ?\\?%| ?"? ?\b(?:percent(?:age)?|pct)\b ?"?', '%'),
    (r' ?(?:\^ ?\{? ?\\circ ?\}?|\\degree) ?', ' "degrees" '),
    (r'\^ ?\{? ?\\prime ?\}?', "'"),
    (r'\(? ?(?:\\[pb]?mod|\\?"?\bmod"?) ?\{? ?([0-9]{1,9}) ?\}? ?\)? ?$',
     r' "mod" \1'),
    # Functions as programs write them.
    (r'(?<![a-zA-Z.])(?:np|math)\.(?=[a-z])', ''),
    (r'(?<![\\a-zA-Z"])(a?rc(?:sin|cos|tan)|sinh|cosh|tanh|sin|cos|tan|log|ln'
     r'|exp|sqrt)(?= ?[({])', r'\\\1'),
    (r'\\sqrt ?\(([^()]*)\)', r'\\sqrt{\1}'),
    # Arguments without braces.
    *plain_text.FRACTIONS,
    (r'\\sqrt ?([0-9a-zA-Z])', r'\\sqrt{\1}'),
    (r'([\^_]) ?(-?[0-9]+|-?[a-zA-Z])(?![0-9])', r'\1{\2}'),
    (r'([\^_]) ?\{ ?([^{}]*?) ?\}', r'\1{\2}'),
    (r'(?<![\\a-zA-Z0-9_^}\]])\{([^{}\\]*)\}', r'\1'),
    # Powers of ten.
    (r'(?<![A-Za-z0-9_.\\}])([0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE]([-+]?)0*'
     r'([0-9]{1,4})(?![0-9A-Za-z_^{(]|\.[0-9])', r'\1\\times 10^{\2\3}'),
    (r'(?<=[0-9]) ?(?:\\times|\\cdot|\*|\bx\b)'
     r' ?10 ?\^ ?\{ ?(-?)\+?0*([0-9]+) ?\}', r'\\times 10^{\1\2}'),
    (r'(?<=[0-9])\.(?=[/}])', ''),
    (r'\^\{\+', r'^{'),
    # Spaces.
    (r'" +|"(?=")', '"'),
    (r' +"', '"'),
    (r'"([^"]*)"', r' "\1" '),
    (r' +', ' '),
    (r' ?([,;]) ?$', ''),
  ]
]  # fmt: skip
_CURRENCY = re.compile(r'([-+]?) ?([$€£¥]) ?(?=[0-9.])')
_NAMES = {'$': 'dollars', '€': 'euros', '£': 'pounds sterling', '¥': 'yen'}


@functools.lru_cache(maxsize=4096)
def plain(text: str) -> str:
  r"""Returns one spelling of an answer: '\$5.' is '5 "dollars"'."""
  text = text.strip().rstrip('.').rstrip()
  if re.fullmatch('[-+]?[0-9]+(?:[.,][0-9]+)*', text, re.A):
    return text
  text = re.sub('[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ]+', _superscript, text)
  text = re.sub('[₀₁₂₃₄₅₆₇₈₉ₙ]+', _subscript, text)
  text = f' {text.translate(_SIGNS)} '
  if '\\begin' not in text:  # rows of a matrix begin with two backslashes
    text = text.replace('\\\\', '\\')
  for pattern, replacement in _RULES:
    text = pattern.sub(replacement, text)
  text = text.strip().rstrip('.').strip()
  # A sign of a currency becomes a unit; two of them are marks of mathematics.
  match = _CURRENCY.match(text)
  if match and text.count('$') < 2:
    text = f'{match[1]}{text[match.end() :]} "{_NAMES[match[2]]}"'
  text = re.sub(' +', ' ', text.replace('$', ' ')).strip()
  for _ in range(9):
    if not _is_in_braces(text):
      break
    text = text[1:-1].strip()
  return text


def _is_in_braces(text: str) -> bool:
  """Whether one pair of braces is around all of a text."""
  if not (text.startswith('{') and text.endswith('}')):
    return False
  depth = 0
  for match in re.finditer(r'\\.|[{}]', text):
    depth += {'{': 1, '}': -1}.get(match[0], 0)
    if not depth:
      return match.end() == len(text)
  return False


def _superscript(match: re.Match) -> str:
  return '^{' + match[0].translate(_SUPERSCRIPTS) + '}'


def _subscript(match: re.Match) -> str:
  return '_{' + match[0].translate(_SUBSCRIPTS) + '}'


def bare(text: str) -> str:
  """Returns a plain spelling without quotes, and spaces but between digits."""
  return re.sub(r'(?<![0-9]) | (?![0-9])|"', '', text.replace('" ', '"'))
