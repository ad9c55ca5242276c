"""No mutation of a reference is graded right: 3,000 of them, in a slow test.

A mutation changes the meaning of an answer: a digit, a sign, a variable, a
bracket, an exponent, an item, a word behind it, or it restates a number as a
sum. A policy is paid by the grader, so a false positive is worse than a right
answer that is missed. `REFERENCES=FILE` adds references, one a line, or rows
with an `answer` or a boxed `solution`:

  REFERENCES=math.jsonl python -m pytest -m slow \
      tests/answers/test_answer_mutations.py

A mutation that is right by chance (a digit of `0 \\cdot 5`) is a case for
`is_other` below.
"""

import json
import os
import random
import re

import pytest

from critic_jax.answers import final_answers, spelling
from critic_jax.graders.pool import Pool

REFERENCES = r"""
7
-12
156
1,234
10000
0.25
-0.375
3.14159
12.5\%
3e8
1.6 \times 10^{-19}
6.02 \times 10^{23}
4.5e-7
10^{-16}
\frac{3}{4}
-\frac{17}{6}
5/6
2\frac{1}{3}
\frac{1}{2^{99}}
\frac{1}{3^{40}}
2^{31}
7!
\sqrt{2}
3\sqrt{5}
\frac{\sqrt{3}}{2}
\sqrt[3]{7}
\frac{1+\sqrt{5}}{2}
2 - \sqrt{3}
\pi
\frac{5\pi}{12}
4\pi + 6
12\pi\text{ cm}^2
e^{-3}
\ln 2
\log_2 3
\frac{\ln 5}{\ln 3}
\sin 40^\circ
2^3 \cdot 3^2 \cdot 5
3 + 4i
-2 + 2\sqrt{3}i
45^\circ
15\text{ cm}
\$18.50
72 \text{ miles per hour}
9.8 \mathrm{~m/s^2}
5 \text{ million}
0.\overline{27}
1011_2
3 \pmod{7}
12:30
5:7
x + 1
2x - 3
x^2 - 5x + 6
(x-2)(x+7)
\frac{x+2}{x-3}
\frac{a}{b}
6ab
3x^2y
\frac{37}{4} m
\sqrt{x^2+9}
e^{-2t}\cos 3t
\frac{1}{s+a}
x^{2/3}
\sin 2x
\tan^2 y + 1
c x^{-2} - \frac{\cos 2x}{2x^2}
\frac{E_1 + 2 E_2}{3}
\gamma^2 - 1
Rr
A\cos(\omega t - \phi)
n(n+1)/2
\binom{n}{3}
2^{n+1} - 1
x + 10^{-12}
(1, 2)
(3, -4)
(1, 2, 3)
\left(\frac{1}{2}, 5\right)
(\sqrt{2}, \pi)
(1.6 \times 10^{-19}, 4)
[0, 3)
(-\infty, 4]
(-\infty, 1) \cup (5, \infty)
[-2, 7]
1, 2
3, 5, 8
-4, 4
\pm 7
1 \pm \sqrt{6}
\{1, 3, 9\}
\{(1,2),(3,5)\}
\{\frac{1}{2}, 6\}
x = 4
y = 2x + 1
f(x) = 3x - 2
x = 1 \text{ or } x = 6
a = 3, b = 8
2x + 3y = 7
x^2 + y^2 = 25
x < 5
x \geq -3
-2 \leq x < 9
0 < x < 1
\begin{pmatrix} 1 & 2 \\ 3 & 5 \end{pmatrix}
\begin{pmatrix} -3 \\ 8 \end{pmatrix}
\frac{dx}{dt} = kx - a
y' + 3y = 0
\sum_{k=1}^{n} k^3
\text{Tuesday}
\text{odd}
\text{B}
C
\text{no solution}
\emptyset
""".strip().splitlines()


def places(text, pattern):
  """Matches outside of the arguments of \\begin, and of words."""
  words = [m.span() for m in re.finditer(r'\\[a-z]+|\{p?matrix\}', text)]
  return [
    match
    for match in re.finditer(pattern, text)
    if not any(a < match.end() and match.start() < b for a, b in words)
  ]


def replaced(rng, text, pattern, new):
  """Replaces one place, or returns None if there is none."""
  matches = places(text, pattern)
  if not matches:
    return None
  match = rng.choice(matches)
  return text[: match.start()] + new(match[0]) + text[match.end() :]


def digit(rng, text):
  return replaced(
    rng, text, '[0-9]',
    lambda old: rng.choice([d for d in '123456789' if d != old]),
  )  # fmt: skip


def inserted_digit(rng, text):
  if re.search(r'\\(?:sqrt|frac) ?[0-9]', text):  # \sqrt61 is \sqrt{6}1
    return None
  return replaced(rng, text, '[1-9]', lambda old: old + rng.choice('1379'))


def sign(rng, text):
  return replaced(rng, text, '[+-]', lambda old: '-' if old == '+' else '+')


def negated(rng, text):
  if re.search(r'[=<>,;:_!]|\\(?:leq|geq|pm|text|begin|cup|pmod)', text):
    return None
  return text[1:] if text.startswith('-') else f'-({text})'


def variable(rng, text):
  return replaced(
    rng, text, r'(?<![\\a-zA-Z])[a-df-hj-np-zA-Z](?![a-zA-Z])', lambda _: 'w'
  )


def command(rng, text):
  pairs = {
    r'\sin': r'\cos', r'\cos': r'\sin', r'\ln': r'\exp', r'\pi': 'e',
    r'\sqrt{': r'\sqrt[5]{', r'\cup': r'\cap', r'\leq': r'\geq',
    r'\geq': r'\leq', r'\infty': '9', r'\cdot': '+', r'\times': '+',
    r'\omega': r'\theta', r'\gamma': r'\beta', r'\pm': '', r'\emptyset': '0',
  }  # fmt: skip
  keys = [key for key in pairs if key in text]
  if not keys:
    return None
  key = rng.choice(keys)
  return text.replace(key, f' {pairs[key]} ', 1)


def bracket(rng, text):
  pairs = {'(': '[', '[': '(', ')': ']', ']': ')'}
  if not re.match(r'(?:\\left)?[(\[].*,', text):
    return None
  # A closed bracket at infinity is odd, and means the open one.
  ends = r'^[(\[](?!-?\\infty)|(?<!\\infty)(?<!\\infty\\right)[)\]]$'
  return replaced(rng, text, ends, pairs.get)


def relation(rng, text):
  return replaced(rng, text, '[<>]', {'<': '>', '>': '<'}.get)


def fraction(rng, text):
  match = re.search(r'\\frac\{([^{}]+)\}\{([^{}]+)\}', text)
  if not match or match[1] == match[2]:
    return None
  turned = f'\\frac{{{match[2]}}}{{{match[1]}}}'
  return text[: match.start()] + turned + text[match.end() :]


def items(rng, text):
  """Drops, adds or repeats an item of a list, or turns a tuple around."""
  if ',' not in text or re.fullmatch('[0-9,]+', text):
    return None
  if re.fullmatch(r'\([^()]*\)', text) and rng.random() < 0.5:
    parts = text[1:-1].split(',')
    return f'({",".join(parts[::-1])})' if parts != parts[::-1] else None
  return rng.choice([text.partition(',')[0], f'{text}, 77', f'77, {text}'])


def words(rng, text):
  tails = (
    ' maybe not', ' or 77', ', 77', '= 77', ' wrong', '+ 77', '77', ' x w',
    r'\text{ million}', r'\%\%', '!', '^{7}', r'\text{ or so}', '_{7}',
  )  # fmt: skip
  return text + rng.choice(tails)


def marked(rng, text):
  """Adds a mark that a parser of LaTeX may leave out."""
  if '=' in text or '<' in text or 'text' in text:
    return None
  return rng.choice([
    f"{text}'", f"({text})''", f'{text}\\ldots', f'\\ldots {text}',
    f'\\infty {text}', f'\\lnot {text}', f'{text}^*', f'\\hat{{{text}}}',
    f'\\frac{{d}}{{dx}} {text}', f'{text} \\% x', f'\\dot{{{text}}}',
    f'{text} \\mid 7', f'|{text}|+7', f'{text}_0', f'\\Delta {text}',
  ])  # fmt: skip


def restated(rng, text):
  if not re.fullmatch(r'-?[0-9]+', text):
    return None
  n = int(text)
  forms = (
    f'{n - 3}+3', f'{n}*1', f'{n} \\cdot 1', f'|{n}|', f'{2 * n}-{n}',
    f'e^{{\\ln({n})}}', f'{n}/(1/1)', f'{n} + [0]', f'\\lfloor {n}.5 \\rfloor',
    f'{n}^1 1', f'\\frac{{{n}*7}}{{7}}', f'{n}\\div 1', f'({n})(1)',
    f'\\sum_{{k=1}}^{{1}} {n}', f'\\binom{{{n}}}{{1}}', f'\\max(1,{n})',
    f'\\int_0^{{{n}}} 1 dx', f'\\log_{{2}} 2^{{{n}}}', f'{n}={n}',
    f'{n - 1},{n}', f'{n} \\text{{ or }} {n + 1}', f'{n}.000001',
  )  # fmt: skip
  return rng.choice(forms)


def tiny(rng, text):
  if re.search(r'[=<>,;:_!%]|\\(?:leq|geq|pm|text|begin|cup|pmod|over)', text):
    return None
  power = rng.randrange(20, 60)
  if spelling.plain(text).count('10^{-') == 1 and rng.random() < 0.5:
    return re.sub(r'10\^\{-[0-9]+\}', f'10^{{-{power}}}', text)
  return f'{text} + 10^{{-{power}}}'


MUTATORS = (
  digit, digit, inserted_digit, sign, negated, variable, command, bracket,
  relation, fraction, items, words, marked, restated, tiny,
)  # fmt: skip


def is_other(mutation, reference):
  """Whether a mutation means another thing, as far as a glance tells."""
  if spelling.bare(spelling.plain(mutation)) == spelling.bare(
    spelling.plain(reference)
  ):
    return False
  if re.search(r'(?:^|[^0-9])[12]!$|(?:^|[^0-9])1\^\{7\}$', mutation):
    return False  # 2! is 2
  # A sign before what is zero or may have both signs; +5 is 5.
  if mutation.replace('+', '') == reference.replace('+', ''):
    return False
  return not re.search(r'(?<![0-9.])0(?![0-9.])', reference)


def mutations(references, number, seed=0):
  """Makes pairs of a mutation and its reference, all of them different."""
  rng = random.Random(seed)
  pairs = {}
  for _ in range(50 * number):
    reference = rng.choice(references)
    mutation = rng.choice(MUTATORS)(rng, reference)
    if mutation and is_other(mutation, reference):
      pairs[mutation, reference] = None
    if len(pairs) == number:
      break
  return list(pairs)


def more_references():
  """Reads the file that REFERENCES names."""
  path = os.environ.get('REFERENCES')
  if not path:
    return []
  with open(path, encoding='utf-8') as file:
    lines = file.read().splitlines()
  if not path.endswith('.jsonl'):
    return lines
  rows = map(json.loads, lines)
  texts = [
    str(row['answer'])
    if 'answer' in row
    else final_answers.extract(row['solution'])
    for row in rows
  ]
  return [text for text in texts if text and len(text) < 200]


def false_positives(pairs):
  boxed = [
    (f'\\boxed{{{mutation}}}', reference) for mutation, reference in pairs
  ]
  with Pool(2) as pool:
    grades = pool.grade(boxed)
  return [
    pair for pair, grade in zip(pairs, grades, strict=True) if grade == 'right'
  ]


def test_every_mutator_has_work():
  rng = random.Random(0)
  for mutator in MUTATORS:
    assert any(mutator(rng, reference) for reference in REFERENCES)
  assert not [r for r in REFERENCES if not final_answers.equivalent(r, r)]


def test_no_mutation_is_right_by_strings():
  pairs = mutations(REFERENCES, 600)
  assert [pair for pair in pairs if final_answers.exact(*pair)] == []


@pytest.mark.slow
def test_no_mutation_is_right():
  assert false_positives(mutations(REFERENCES, 3_000)) == []


@pytest.mark.slow
@pytest.mark.skipif(
  'REFERENCES' not in os.environ, reason='REFERENCES names no file'
)
def test_no_mutation_of_more_references_is_right():
  assert false_positives(mutations(more_references(), 3_000)) == []
