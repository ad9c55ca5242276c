"""One hint is one hint, whatever surrounds it; screens read what they write."""

import contextlib
import re

from fuzzing import texts
from hypothesis import given
from hypothesis import strategies as st

from critic_jax.rewards import suggestions
from critic_jax.tasks import screens

PARTS = (
  'Hint:', 'hint: press save', 'Hint: `type name Ada`.', '**Hint**: ', 'none',
  '.', ' ', '\t', '`', '\n', 'Verdict: incorrect',
)  # fmt: skip
SCREEN_PARTS = (
  'person', ' (open)', ': ', 'name Ada', 'pet empty', ', ', 'trip',
  'city empty', 'seat back', '\n', 'Buttons: ', 'Action: ', 'press save',
)  # fmt: skip
ACTIONS = st.sampled_from(
  ['press save', 'press trip', 'clear pet', 'type name Ada', 'none']
)
# Texts that are neither hints nor a tag.
silent = texts().filter(
  lambda text: not re.search('hint|</?think>', text, re.I)
)
VALUES = ('name', 'Ada'), ('pet', 'empty'), ('city', 'empty'), ('seat', 'empty')
SCREEN = screens.Screen(VALUES, 'person')


@given(texts(*PARTS, max_size=14))
def test_a_hint_is_in_the_text(text):
  hint = suggestions.hint(text)
  assert hint is None or re.sub('[ \t]', '', hint) in re.sub('[ \t]', '', text)


@given(silent, ACTIONS, silent)
def test_what_surrounds_a_hint_does_not_change_it(before, action, after):
  text = f'{before}\nHint: {action}.\n{after}'
  assert suggestions.hint(text) == action


@given(silent, ACTIONS, silent, ACTIONS, silent)
def test_two_hints_are_none(before, first, between, second, after):
  lines = [before, f'Hint: {first}', between, f'Hint: {second}', after]
  assert suggestions.hint('\n'.join(lines)) is None


@given(ACTIONS, texts().filter(lambda text: text.strip(' \t\r*_`.')))
def test_more_on_the_line_of_a_hint_is_another_action(action, more):
  line = more.split('\n')[0]
  if line.strip(' \t\r*_`.'):
    assert suggestions.hint(f'Hint: {action} {line}') != action


@given(texts(*PARTS, *SCREEN_PARTS, max_size=24))
def test_any_text_is_an_action_or_none(text):
  after = screens.execute(SCREEN, text)
  assert (after is not None) == (text in screens.actions(SCREEN))


@given(texts(*SCREEN_PARTS, max_size=24))
def test_what_is_read_is_a_screen(text):
  with contextlib.suppress(ValueError):
    screen = screens.read(text)
    assert screens.read(screens.write(screen)) == screen
