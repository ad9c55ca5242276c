"""One list of scores is one list, whatever surrounds it."""

import re

from fuzzing import texts
from hypothesis import given
from hypothesis import strategies as st

from critic_jax.rewards import ratings

PARTS = (
  'Scores:', 'scores: 3, 10', 'Scores: [1, 2].', '**Scores**: ', '3', ',', ' ',
  '\\boxed{3, 4}', '-', '.', '\n', '10',
)  # fmt: skip
LISTS = st.lists(st.integers(-99_999, 99_999), min_size=1, max_size=9)
# Texts that are neither scores nor a tag.
silent = texts().filter(
  lambda text: not re.search('scores|</?think>', text, re.I)
)


def written(numbers):
  return f'Scores: {", ".join(map(str, numbers))}'


@given(texts(*PARTS, max_size=14))
def test_a_text_has_integers_or_none(text):
  parsed = ratings.parse(text)
  assert (parsed['ratings'] is None) == (parsed['status'] != 'ok')
  assert (parsed['conclusion'] is None) == (parsed['status'] == 'unfinished')
  for number in parsed['ratings'] or ():
    assert type(number) is int and str(number) in parsed['conclusion']


@given(silent, LISTS, silent)
def test_what_surrounds_scores_does_not_change_them(before, numbers, after):
  text = f'{before}\n{written(numbers)}\n{after}'
  assert ratings.parse(text)['ratings'] == numbers


@given(silent, LISTS, silent, LISTS, silent)
def test_two_lists_are_none(before, first, between, second, after):
  lines = [before, written(first), between, written(second), after]
  parsed = ratings.parse('\n'.join(lines))
  assert parsed['ratings'] is None and parsed['status'] == 'contradictory'
