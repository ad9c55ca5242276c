"""A judge's verdict, and the reward of being preferred."""

import pytest
from helpers import make_record

from critic_jax.rewards import preferences


@pytest.mark.parametrize(
  ('text', 'better'),
  [
    ('It is right.\nBetter: first', 'first'),
    ('**Better: second**', 'second'),
    ('Better: **Second**.', 'second'),
    ('better: FIRST.  \n', 'first'),
    ('<think>Better: first</think>\nBetter: second', 'second'),
    ('Better: first\nBetter: first', None),  # not once
    ('Better: first\nBetter: second', None),
    ('Better: first or second', None),
    ('Better: not first', None),
    ('Better: firstly', None),
    ('Better: f\u0131rst', None),
    ('Better:', None),
    ('The better one is first', None),
    ('It is a much better: first', 'first'),
    ('<think>Better: first', None),
    ('', None),
  ],
)
def test_a_verdict_is_one_line(text, better):
  assert preferences.parse(text) == {'better': better}


@pytest.mark.parametrize(
  ('wins', 'reward'),
  [
    ([True, True], 1.0),
    ([True, False], 0.5),
    ([False], 0.0),
    ([True, None], None),
    ([], None),
  ],
)
def test_the_reward_is_the_share_of_wins(wins, reward):
  parsed = dict(wins=wins, status='ok', verdict='correct')
  critique = make_record('critique', make_record(), parsed=parsed)
  assert preferences.preferred(critique, []) == reward
  for fields in (
    dict(parsed={**parsed, 'status': 'missing'}),
    dict(parsed=parsed, finish='length'),
  ):
    critique = make_record('critique', make_record(), **fields)
    assert preferences.preferred(critique, []) == 0.0


def test_a_critique_must_be_compared():
  critique = make_record('critique', make_record())
  with pytest.raises(ValueError, match='compare critiques before scoring'):
    preferences.preferred(critique, [])
