r"""Units of answers: a closed list, so that no other word passes for one.

A unit is a measure (cm, kg, m/s^2), a currency, or a noun that is counted
('12 apples'). Any other word after a number is part of the answer: '5 maybe
not' is not 5. `split` reads plain spellings (`spelling.plain`).
"""

from __future__ import annotations

import collections
import re

# Each line: the symbol, then the words for it; a plural's s is not listed.
_MEASURES = """
m meter metre
cm centimeter centimetre
mm millimeter millimetre
km kilometer kilometre
nm nanometer nanometre
pm picometer
in inch inches
ft foot feet
yd yard
mi mile
pc parsec
ly light-year lightyear
AU
au
g gm gram
kg kgs kilogram
mg milligram
lb lbs pound
oz ounce
ton tonne
amu
s sec second
ms millisecond
ns nanosecond
min mins minute
h hr hrs hour
day
week
month
yr yrs year
L l liter litre
mL ml milliliter millilitre
cL cl
gal gallon
qt quart
pt pint
J joule
kJ kilojoule
eV electron-volt
keV
MeV
erg ergs
cal calorie
kcal
W watt
kW kilowatt
MW
kWh
V volt
A amp ampere
C coulomb
F farad
H henry
ohm
N newton
Pa pascal
kPa
atm
T tesla
Hz hertz
kHz
MHz
GHz
K kelvin
mol mole
M
degree deg
celsius
fahrenheit
rad radian
sr steradian
bit
byte
mph
kph kmph
arcsecond arcsec
arcminute arcmin
angstrom
dollar USD usd
euro EUR eur
cent
rupee Rs rs
yen
acre
hectare ha
unit
am a.m AM A.M
pm p.m PM P.M
mod
"""
# Nouns that problems count, in the singular.
_COUNTED = """
animal ant apple apartment baby bag bale ball balloon banana bar basket
basketball bat batch bead bean bear bee bike bill bird block boat book bottle
bouquet bowl box boxes boy bracelet bread brick brownie bucket bug bulb burger
bus buses bushel button cake calf can candle candy candies cap car card carrot
carton case cat chair chapter chicken child children chip chocolate class
classes coin container cookie corn cow cracker crate crayon cup cupcake
customer decoration diamond digit dime dish dishes dog doll donut doughnut dress
dresses drink duck egg employee eraser face fish fishes flight floor
flower frog fruit game gift girl glass glasses glove goal goat grape group guest
gumball hat hen horse house inhabitant integer item jar jellybean job jump
kitten lap leg lemon lesson letter light lollipop loaf loaves lunch lunches man
marble marker match matches meal member men message mango mangoes muffin nail
necklace newspaper nickel night notebook number nut onion orange order oyster
pack package packet page pair pancake paper parent part participant passenger
peach peaches pear pen pencil pennies penny people pepper permutation person
phone photo photograph pie piece pig pill pizza place plane plant plate player
point potato potatoes pot prize problem puppies puppy question rabbit
ribbon room root rose round row sandwich sandwiches scoop seashell seat seed
serving set share sheep sheet shell shelf shelves shirt shoe shot side slice
snack sock soldier solution song spoon square stair stamp star step stick
sticker stone story stories strawberries strawberry student sweet table tablet
tablespoon task teacher team teaspoon text ticket tile tire tomato
tomatoes toy train tray tree triangle trip truck turtle value vehicle vertices
visitor vote voter walnut watermelon way wheel widget win window wing woman
women word worker zebra
"""
_WORDS = {
  word: names[0]
  for names in map(str.split, _MEASURES.strip().splitlines())
  for word in names
} | {word: word for word in _COUNTED.split()}
# Symbols of one letter are variables, unless they are set as text or stand,
# after a space, behind a plain number: '3 m', but not '\frac{1}{2} m'.
_BARE_LETTERS = frozenset('mgshLlJNWVK')
# Signs of a unit: a word, a power, a quotient, a product, a word of order.
_TOKEN = re.compile(
  r'[a-zA-Z](?:[a-zA-Z.-]*[a-zA-Z])?|\^\{-?[0-9]\}|\\cdot ?|\\times ?|\\mu ?'
  r'|[/*·"() ]|[0-9]+|\S',
  re.A,
)
_ORDERS = {'square': 2, 'sq': 2, 'cubic': 3, 'cu': 3, 'squared': 2, 'cubed': 3}
_LINKS = frozenset(('/', '*', '·', ' ', '"', '-', '\\cdot', '\\times'))
_TAIL = 100  # characters; a longer unit is none
_FUNCTION = re.compile(r'\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])')
_PLAIN = re.compile(r'[-+]?[0-9][0-9., ]*', re.A)


def split(text: str) -> tuple[str, str]:
  r"""Returns an answer without its unit, and the unit, '' if there is none.

  Units are the same if they are written with the same symbols: 'm/s', 'meters
  per second' and 'm s^{-1}' are one. Lengths are not converted.
  """
  start, tokens = _tail(text)
  while tokens:
    body = text[:start].rstrip(' "')
    unit = _canonical(tokens)
    is_angle = unit == 'degree' and _FUNCTION.search(body)  # \sin 40 degrees
    is_unit = unit and not is_angle and not _is_variable(body, text[start:])
    if is_unit and _has_value(body):
      return body, unit
    dropped = tokens.pop(0)  # the longest tail that is a unit
    start += len(dropped)
  return text, ''


def _tail(text: str) -> tuple[int, list[str]]:
  """Returns the tokens at the end that a unit may have, and their start."""
  first = max(0, len(text) - _TAIL)
  matches = [m for m in _TOKEN.finditer(text) if m.start() >= first]
  start, tokens = len(text), []
  for match in reversed(matches):
    token = match[0]
    is_modulus = token.isdigit() and start == len(text) and '"mod"' in text
    if not (
      is_modulus
      or token.strip() in _LINKS | {'', 'per', 'of', '\\mu'}
      or token.startswith('^{')
      or token in _ORDERS
      or _symbol(token)
    ):
      break
    start, tokens = match.start(), [token, *tokens]
  return start, tokens


def _symbol(word: str) -> str:
  """Returns the symbol of a unit's word, '' if it is none."""
  for form in (word, word.lower() if len(word) > 3 else word):
    for singular in (form, form.removesuffix('s') if len(form) > 3 else form):
      if singular in _WORDS:
        return _WORDS[singular]
  return ''


def _canonical(tokens: list[str]) -> str:
  """Returns one spelling of a unit: its symbols, sorted, with powers."""
  powers: collections.Counter[str] = collections.Counter()
  last, sign, order, prefix = '', 1, 1, ''
  for token in map(str.strip, tokens):
    if token in ('', '"', '*', '·', '\\cdot', '\\times', 'of'):
      continue
    if token in ('/', 'per'):
      sign = -1
    elif token == '\\mu':
      prefix = 'u'
    elif token in ('square', 'sq', 'cubic', 'cu'):
      order = _ORDERS[token]
    elif token in ('squared', 'cubed') or token.startswith('^{'):
      if not last:
        return ''
      power = _ORDERS.get(token) or int(token.strip('^{}'))
      powers[last] *= power
    elif token.isdigit():
      last = f'{last} {token}'
      powers = collections.Counter({last: 1})
    elif symbol := _symbol(token):
      last = prefix + symbol
      powers[last] += sign * order
      sign, order, prefix = 1, 1, ''
    else:
      return ''
  if sign * order != 1:  # nothing follows
    return ''
  if powers.get('degree') and len(powers) == 2:  # of a temperature
    powers.pop('degree')
  return ' '.join(
    name if power == 1 else f'{name}^{power}'
    for name, power in sorted(powers.items())
    if power
  )


def _has_value(body: str) -> bool:
  r"""Whether a text ends as a value does: with a digit, `\pi`, a bracket."""
  return bool(
    re.search(r'[0-9]|\\[a-zA-Z]', body)
    and re.search(r'(?:[0-9.%})\]!]|[a-z])$', body)
  )


def _is_variable(body: str, unit: str) -> bool:
  """Whether a unit of one letter may be a variable."""
  letters = re.sub('[^a-zA-Z]', '', unit)
  if len(letters) != 1 or '"' in unit:
    return False
  is_number = _PLAIN.fullmatch(body) or re.fullmatch(
    r'[-+]?[0-9.]+\\times 10\^\{-?[0-9]+\}', body
  )
  return not (is_number and unit[0] == ' ' and letters in _BARE_LETTERS)
