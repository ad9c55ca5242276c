"""Units are a closed list, and one unit has one spelling."""

import pytest

from critic_jax.answers import spelling, units

ONE_UNIT = [
  ['5 m/s', r'5\text{ m/s}', r'5\,\mathrm{m}\,\mathrm{s}^{-1}',
   '5 meters per second', r'5\text{ metres/sec}'],
  ['5 cm^2', '5 square centimeters', r'5\text{ cm}^2', '5 sq cm',
   r'5\mathrm{~cm}^{2}', '5 cm²', '5 centimeters squared'],
  ['5 cm^3', '5 cubic centimeters', '5 cu cm', '5 cm cubed', '5 cm³'],
  [r'\$5', '5 dollars', '5 USD'],
  ['5 J', r'5\text{ J}', '5 joules'],
  ['5 Hz', r'5\,\mathrm{Hz}', '5 hertz'],
  ['5 mL', '5 ml', '5 milliliters'],
  ['5°', r'5^\circ', r'5\degree', '5 degrees'],
  ['5 apples', '5 apple', r'5 \text{ apples}'],
  [r'5 \pmod{7}', r'5 \pmod 7', r'5 \bmod 7', '5 (mod 7)', '5 mod 7'],
  ['5 kg m^2', r'5\text{ kg}\cdot\text{m}^2', r'5\,\mathrm{m}^2\,\mathrm{kg}'],
]  # fmt: skip


def split(text):
  return units.split(spelling.plain(text))


@pytest.mark.parametrize('spellings', ONE_UNIT, ids=lambda x: x[0])
def test_one_unit_has_one_spelling(spellings):
  found = {split(text) for text in spellings}
  assert len(found) == 1
  ((body, unit),) = found
  assert body == '5' and unit


def test_units_differ():
  symbols = [split(spellings[0])[1] for spellings in ONE_UNIT]
  assert len(set(symbols)) == len(symbols)


@pytest.mark.parametrize(
  'text',
  [
    '5 maybe not', '5 or so', '5 total', '5 wrong', '5 xyz', '5 hundred',
    '5 times', '5 squared', '5 per', '5 of', '5 /', '5 million', '5 dozen',
    '5 half', 'apples', 'five apples', 'm', '5x', '5 xy',
    r'\frac{37}{4} m', '3x m', '7.6 Z', r'2.2 \tau', '5 A', '5 e', '5 i',
    r'\sin 40^\circ', '5 square', r'5\text{ maybe}', '5 apples maybe', '3m',
  ],
)  # fmt: skip
def test_no_unit(text):
  plain = spelling.plain(text)
  assert units.split(plain) == (plain, '')


@pytest.mark.parametrize(
  ('text', 'body'),
  [
    ('3 m', '3'),
    (r'\frac{37}{4}\text{ m}', r'\frac{37}{4}'),
    (r'2\pi\text{ cm}', r'2\pi'),
    (r'3 \times 10^8 \text{ m/s}', r'3\times 10^{8}'),
    ('42cm', '42'),
    ('5 million dollars', '5 million'),
    (r'\sqrt{2}\,\mathrm{km}', r'\sqrt{2}'),
  ],
)
def test_what_is_left(text, body):
  assert split(text)[0] == body
