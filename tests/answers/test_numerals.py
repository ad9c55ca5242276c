"""Plain numbers: read from every spelling, and compared exactly."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critic_jax.answers import numerals, spelling


def read(text):
  number = numerals.read(spelling.plain(text))
  return None if number is None else number.value


@pytest.mark.parametrize(
  ('text', 'value'),
  [
    ('1,234', 1234), ('1 234', 1234), ('1{,}234', 1234), ('-5', -5), ('+5', 5),
    ('.5', '1/2'), ('5.', 5), ('12.50', '25/2'), ('1/3', '1/3'),
    (r'\frac{-1}{3}', '-1/3'), (r'-\frac13', '-1/3'), ('-1./3', '-1/3'),
    (r'\frac{0.5}{2}', '1/4'), (r'2\frac{1}{2}', '5/2'), ('2 1/2', '5/2'),
    ('3e8', 3 * 10**8), ('3E+08', 3 * 10**8), ('1e-07', '1/10000000'),
    (r'3\times 10^8', 3 * 10**8), (r'-1.5\cdot 10^{-2}', '-3/200'),
    ('10^{-2}', '1/100'), ('-10^3', -1000), ('3 × 10⁸', 3 * 10**8),
    ('5 million', 5 * 10**6), (r'2.5\text{ billion}', 25 * 10**8),
    (r'0.\overline{3}', '1/3'), (r'1.1\overline{6}', '7/6'), ('½', '1/2'),
    ('2½', '5/2'),
    # No plain numbers.
    ('2 3', None), ('1,23', None), ('1/0', None), (r'2\frac{-1}{2}', None),
    ('3e', None), ('3e8x', None), ('3 10^{8}', None), ('10^{x}', None),
    ('10^{99999}', None), ('2^3', None), ('', None), ('.', None),
    ('1/2/3', None), ('\uff11\uff12', None), ('1\u200b2', None),
    (r'\overline{3}', None),
    ('million', None), ('x', None),
  ],
)  # fmt: skip
def test_read(text, value):
  assert read(text) == (None if value is None else Fraction(value))


SPELLINGS = (
  '{:d}e{:d}', '{:d}E{:+03d}', r'{:d}\times10^{{{:d}}}', '{:d}*10^{{{:d}}}',
  r'{:d}.0 \cdot 10^{{{:d}}}', r'${:d} \, \times \, 10^{{{:d}}}$',
)  # fmt: skip


@given(st.integers(), st.integers(-400, 400), st.sampled_from(SPELLINGS))
def test_powers_of_ten_are_exact(mantissa, exponent, form):
  assert read(form.format(mantissa, exponent)) == (
    mantissa * Fraction(10) ** exponent
  )


@given(st.fractions(), st.integers(-300, 300), st.integers(1, 10**12))
def test_unequal_numbers_are_never_equal(value, exponent, step):
  # Exact ones by any difference, decimals by more than two millionths.
  value = (abs(value) + 1) * Fraction(10) ** exponent
  other = value * (1 + Fraction(step, 10**12))
  exact = [numerals.Number(x, False, False) for x in (value, other)]
  assert not numerals.equal(*exact)
  decimal = exact[1]._replace(decimal=True)
  if step > 2 * 10**6:
    assert not numerals.equal(decimal, exact[0])
    assert not numerals.equal(exact[0], decimal)


@pytest.mark.parametrize(
  ('left', 'right', 'is_rounded'),
  [
    ('0.333333', '1/3', True),
    ('0.33333', '1/3', False),
    ('0.000012', '1/83333', False),
    ('1.6e-19', '1/7000000000000000000', False),
    ('411522.666667', '1234568/3', True),
    ('411522.66667', '1234568/3', False),
    ('-0.333333', '1/3', False),
    ('0', '1/10000000', False),
  ],
)
def test_rounds(left, right, is_rounded):
  assert numerals.rounds(Fraction(left), Fraction(right)) is is_rounded
