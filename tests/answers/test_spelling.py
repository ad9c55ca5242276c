"""One spelling of what a reader takes for the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critic_jax.answers import spelling

SAME = [
  [r'\frac{1}{2}', r'\dfrac{1}{2}', r'\frac12', r'\frac{1}2', r'\frac 1 2',
   r'{\frac{1}{2}}', '½', r'\tfrac12', r'$\frac12$', r'\(\frac12\)',
   r'\frac12.'],
  ['(1,2)', r'\left(1,2\right)', r'\bigl(1,2\bigr)', r'\Big(1,2\Big)',
   r'\left(1,\,2\right)', r'\left( 1 , 2 \right)', r'\biggl(1,\;2\biggr)'],
  ['x^{2}', 'x^2', 'x²', r'x^{ 2 }', r'{\bf x^2}', r'x\!^2'],
  ['10,000', r'10,\!000', r'10,\! 000', '10{,}000'],
  [r'3\times 10^{8}', '3e8', '3E8', '3e+08', r'3 \times 10^8', r'3\cdot10^{8}',
   '3*10^8', '3 × 10⁸', '3 x 10^8', r'3\mathrm{e}8'],
  [r'\emptyset', r'\varnothing', '∅', r'\{\}'],
  [r'\sqrt{3}', r'\sqrt3', r'\sqrt 3', '√3', 'sqrt(3)', 'np.sqrt(3)',
   'sqrt{3}'],
  [r'\pi', 'π', r'\pi '],
  [r'x \leq 5', r'x \le 5', 'x ≤ 5', 'x <= 5', r'x \leqslant 5'],
  [r'x \neq 5', r'x \ne 5', 'x ≠ 5', 'x != 5'],
  ['5%', r'5\%', '5 %', '5 percent', r'5\text{ percent}', '5 pct'],
  ['30 "degrees"', r'30^\circ', '30°', r'30\degree', r'30^{\circ}',
   r'30\text{ degrees}'],
  ['-5', '−5', '‐5'],
  ['x_{1}', 'x_1', 'x₁'],
  [r'\frac{4}{3}', r'\\frac{4}{3}'],
]  # fmt: skip


@pytest.mark.parametrize('spellings', SAME, ids=lambda x: x[0])
def test_spellings_are_one(spellings):
  found = {spelling.bare(spelling.plain(text)) for text in spellings}
  assert len(found) == 1, found


def test_other_things_have_other_spellings():
  found = [spelling.bare(spelling.plain(texts[0])) for texts in SAME]
  assert len(set(found)) == len(found)


@pytest.mark.parametrize(
  ('text', 'other'),
  [
    ('2 3', '23'), ('2²', '22'), ('2½', '21/2'), ('1\u200b2', '12'),
    ('\uff11', '1'), ('3e', '3'), ('x_1', 'x1'), ('x^2', 'x2'), ('1 2', '1,2'),
    ('3e8', '3e-8'), ('2e3x', '2000x'), (r'\frac{12}{3}', r'\frac{1}{23}'),
  ],
)  # fmt: skip
def test_spellings_that_are_not_one(text, other):
  left, right = spelling.plain(text), spelling.plain(other)
  assert spelling.bare(left) != spelling.bare(right)


@given(st.text(max_size=60))
def test_no_text_is_an_error(text):
  assert isinstance(spelling.bare(spelling.plain(text)), str)
