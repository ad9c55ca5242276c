"""Numbers in prose: their values, and the numbers they are written with."""

from fractions import Fraction

import pytest

from critic_jax.answers import quantities


@pytest.mark.parametrize(
  ('text', 'value', 'atoms'),
  [
    (r'\frac12', Fraction(1, 2), (1, 2)),
    (r'\dfrac 1 2', Fraction(1, 2), (1, 2)),
    (r'\tfrac1{20}', Fraction(1, 20), (1, 20)),
    (r'\frac{34}5', Fraction(34, 5), (34, 5)),
    (r'2\frac12', Fraction(5, 2), (2, 1, 2)),
    ('12 \u2014 3', 9, (12, 3)),
    ('2 \u2217 3', 6, (2, 3)),
    # Roots of squares are exact, and what is large is not computed.
    (r'\sqrt{4/9}', Fraction(2, 3), (4, 9)),
    (f'{10**12}^2', 10**24, (10**12, 2)),
    (f'{10**12 + 1}^2', None, (10**12 + 1, 2)),
    ('2^64', 2**64, (2, 64)),
    ('2^65', None, (2, 65)),
    ('0!', 1, (0,)),
    ('3!', 6, (3,)),
    ('21!', 21, (21,)),
  ],
)
def test_one_quantity(text, value, atoms):
  [quantity] = quantities.quantities(text)
  assert (quantity.value, quantity.atoms) == (value, atoms)


@pytest.mark.parametrize('text', ['x_1', 'x^2', 'a^{3}', 'v\u2087', 'y1'])
def test_digits_of_names_are_no_quantities(text):
  assert quantities.quantities(text) == []


@pytest.mark.parametrize(
  ('text', 'value'), [('2^3', 8), ('(2)^2', 4), ('x^12', 12), ('x^2 + 5', 5)]
)
def test_digits_of_numbers_are_quantities(text, value):
  assert [q.value for q in quantities.quantities(text)] == [value]
