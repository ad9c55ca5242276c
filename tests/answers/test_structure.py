"""Structures and labels of answers, by tables."""

import pytest

from critic_jax.answers import spelling, structure


@pytest.mark.parametrize(
  ('text', 'kind', 'items'),
  [
    ('1, 2', 'list', ['1', '2']),
    ('1,2', 'list', ['1', '2']),
    ('1,234, 5', 'list', ['1,234', '5']),
    ('1,2,300', 'list', ['1', '2', '300']),
    ('1; 2', 'list', ['1', '2']),
    (r'1 \text{ or } 2', 'list', ['1', '2']),
    ('1 and 2', 'list', ['1', '2']),
    ('x = 1 or x = 2', 'list', ['x = 1', 'x = 2']),
    (r'\pm 5', 'list', ['5', '-5']),
    (r'1 \pm \sqrt{2}', 'list', ['1+\\sqrt{2}', '1-\\sqrt{2}']),
    (r'\{1, 2\}', 'set', ['1', '2']),
    (r'\{(1,2),(3,4)\}', 'set', ['(1,2)', '(3,4)']),
    ('(1, 2)', '()', ['1', '2']),
    ('[1, 2)', '[)', ['1', '2']),
    (r'\left(\frac12, f(1,2)\right)', '()', [r'\frac{1}{2}', 'f(1,2)']),
    ('(1,2),(3,4)', 'list', ['(1,2)', '(3,4)']),
    (r'(1,2) \cup [3,4]', 'union', ['(1,2)', '[3,4]']),
    (r'\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}', 'matrix 2',
     ['1', '2', '3', '4']),
    (r'\left[\begin{array}{c} 1 \\ 2 \end{array}\right]', 'matrix 1',
     ['1', '2']),
  ],
)  # fmt: skip
def test_structures(text, kind, items):
  assert structure.parse(spelling.plain(text)) == (kind, tuple(items))


@pytest.mark.parametrize(
  'text',
  [
    '1,234', '1,234 dollars', '5', '(5)', 'x+1', 'f(1,2)', r'\frac{1,2}{3}',
    '2(1,2)', '(1,2)(3,4)', '[5]', r'\begin{pmatrix} 1 & 2 \\ 3 \end{pmatrix}',
    '', '(', ')', r'\{', '(1,2', r'\pm\pm 1', r'\begin{vmatrix}1\end{vmatrix}',
  ],
)  # fmt: skip
def test_no_structure(text):
  assert structure.parse(spelling.plain(text)) is None


@pytest.mark.parametrize(
  ('text', 'left', 'value'),
  [
    ('x = 5', 'x', '5'),
    (r'\theta=30', r'\theta', '30'),
    (r'\approx 5', '"approximately"', '5'),
    (r'x \in [1,2]', 'x', '[1,2]'),
    ('P(X=3) = 1/2', 'P(X=3)', '1/2'),
    ('AB = BC = 5', 'AB', '5'),
    ('x = 2+3 = 5', '', 'x = 2+3 = 5'),
    ('5', '', '5'),
    ('x <= 5', '', r'x \leq 5'),
  ],
)
def test_label(text, left, value):
  assert structure.label(spelling.plain(text)) == (left, value)


@pytest.mark.parametrize(
  ('left', 'is_label'),
  [
    ('x', True), ('AB', True), (r'\theta', True), ('f(2)', True),
    ('a_{10}', True), ('"Area"', True), ("f'(2)", True), ('(x, y)', True),
    (r'\angle ABC', True), (r'|AB|', True), (r'\frac{NO}{BO}', True),
    (r'm\angle A', True), (r'\overline{AB}', True), ('S_{MBCN}:S', True),
    (r'\tan \theta', True), ('[ABC]', True), ('P(A)', True),
    ('5', False), ('2x', False), ('x+3', False), ('-x', False),
    ('x^{2}', False), (r'\sqrt{x}', False), ('"not" x', False), ('', False),
    ('x-y', False), (r'x \neq y', False), ('12*13', False), ('x,', False),
    ('1/x', False), (r'\frac{1}{x}', False), ('(x, 2)', False),
    ('(x+1)', False),
  ],
)  # fmt: skip
def test_is_label(left, is_label):
  assert structure.is_label(left) is is_label
