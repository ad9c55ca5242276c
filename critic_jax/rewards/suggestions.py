"""Hints of critiques: an action that a critique suggests for the judged one.

A critique of an action has in its conclusion one sentence `Hint: ACTION`, or
`Hint: none`, on a line of its own; bold, backticks and a full stop around the
action are free. Two such sentences, equal ones too, are no hint, and an action
is compared as a whole: a hint of two actions is neither of them.

A given action is a record in a solution's place. `parsed['suggestions']` of it
has the action that counts as the `reference`, and all that are `working`: those
that, executed, bring the goal nearer by the world's own rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from critic_jax.rewards import verdicts
from critic_jax.types import Record

NONE = 'none'
_LABEL = re.compile(
  r'(?<![a-z0-9])hint[*_`]{0,3}[ \t]{0,8}:', re.IGNORECASE | re.ASCII
)
# Around an action; letters of other alphabets and invisible ones are not.
_MARKS = ' \t\r*_`'


class Suggestions(NamedTuple):
  """What could be done in an action's place.

  Attributes:
    reference: the action that counts as the right one.
    working: all actions that bring the goal nearer.
  """

  reference: str
  working: Sequence[str]


def read(record: Record) -> Suggestions:
  """Returns what is known of a given action, checked: it may be of a file.

  Raises:
    ValueError: it has no `suggestions`, or they are not texts.
  """
  fields = record.parsed.get('suggestions')
  is_whole = isinstance(fields, Mapping) and {*fields} == {
    'reference',
    'working',
  }
  if not is_whole or not (
    isinstance(fields['reference'], str)
    and isinstance(fields['working'], list | tuple)
    and all(isinstance(action, str) for action in fields['working'])
  ):
    raise ValueError(
      f"parsed['suggestions'] of {record.id}: got {fields!r}; expected the "
      "text 'reference' and the list 'working'; take a source of given actions,"
      " such as data.name='screens'"
    )
  return Suggestions(**fields)


def hint(text: str) -> str | None:
  r"""Returns the action that a critique suggests; never raises.

  >>> hint('<think>\nHint: press save\n</think>\nHint: `type name Ada`.')
  'type name Ada'

  Returns:
    The action, 'none' if the critique says so, None without exactly one hint.
  """
  conclusion = verdicts.conclusion(text) or ''
  labels = list(_LABEL.finditer(conclusion))
  if len(labels) != 1:
    return None
  # The whole line: what follows an action must not be cut off.
  line = conclusion[labels[0].end() :].split('\n')[0].strip(_MARKS)
  action = line.removesuffix('.').strip(_MARKS)
  words = [word for word in re.split('[ \t]+', action) if word]
  return ' '.join(words) or None


def suggested(critique: Record) -> str | None:
  """Returns the action that a whole critique suggests; None for none."""
  action = hint(critique.text) if critique.finish == 'stop' else None
  return None if action == NONE else action
