"""A world of screens: forms in text, whose every action can be judged.

A form has two panels of two fields, and one panel is open. A goal gives each
field a value, or wants it empty, and the form saved. An action is a text of two
or three words: `type FIELD VALUE` and `clear FIELD` for a field of the
open panel, `press PANEL`, and `press save`, which the last panel has. Saving
ends it: what is wrong then stays wrong.

An action works if the form is nearer to the goal after it, by `distance`, the
least number of actions that are left. Often several do. One of these is the
`reference`, by an order that the goal does not ask for.

`screens_agent` acts, and errs; `screens_critiques` holds a teacher of critics,
`screens_tokenizer` a tokenizer. Splits are disjoint by the hash of a goal.
"""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Mapping
from typing import NamedTuple

from critic_jax.tasks import arithmetic
from critic_jax.types import Problem

EMPTY, SAVE = 'empty', 'save'
_WORDS = {
  'person': {
    'name': 'Ada Ben Cleo Dan',
    'color': 'blue green red white',
    'pet': 'bird cat dog fish',
  },
  'trip': {
    'city': 'Bern Lima Oslo Rome',
    'month': 'April June March May',
    'seat': 'aisle back front window',
  },
  'meal': {
    'drink': 'juice milk tea water',
    'fruit': 'apple melon pear plum',
    'soup': 'bean leek pea rice',
  },
}
PANEL_OF = {field: p for p, fields in _WORDS.items() for field in fields}
# The words that a field takes, by its name.
VALUES = {
  field: tuple(words.split())
  for fields in _WORDS.values()
  for field, words in fields.items()
}
_NUM_FIELDS = 2  # of a panel
_PANEL = re.compile(
  r'^([a-z]{1,9})( \(open\))?: ([a-z]{1,9}) ([A-Za-z]{1,9}), ([a-z]{1,9})'
  r' ([A-Za-z]{1,9})$',
  re.MULTILINE,
)
_ACTION = re.compile(r'^Action: ([^\n]*)\Z', re.MULTILINE)
_GOAL = re.compile(
  r'Fill in ((?:[a-z]{1,9} [A-Za-z]{1,9}(?:, )?){4})\. Then save\.'
)

Goal = Mapping[str, str]  # field -> its value, or `EMPTY`, panel by panel


class Screen(NamedTuple):
  """What a form shows.

  Attributes:
    values: (field, value) of all fields, panel by panel; `EMPTY` for none.
    open: the panel whose fields can be changed.
    is_saved: whether nothing can be changed any more.
  """

  values: tuple[tuple[str, str], ...]
  open: str
  is_saved: bool = False

  @property
  def panels(self) -> list[str]:
    """Returns the panels, in order."""
    return list(dict.fromkeys(PANEL_OF[field] for field, _ in self.values))

  @property
  def buttons(self) -> list[str]:
    """Returns what can be pressed: other panels, and on the last one save."""
    others = [panel for panel in self.panels if panel != self.open]
    return others + [SAVE] * (self.open == self.panels[-1])

  @property
  def fields(self) -> list[str]:
    """Returns the fields of the open panel."""
    return [field for field, _ in self.values if PANEL_OF[field] == self.open]


# ---------------------------------------------------------------- problems


def problems(split: str, num_problems: int, *, seed: int = 0) -> list[Problem]:
  """Returns the first problems of a split; a longer list begins with them.

  A problem's solution is the reference's actions from an empty form, a line
  each. Its answer is '': what is graded is an action.

  Args:
    split: 'train', 'dev' or 'test'.
    num_problems: the length of the list.
    seed: another seed gives other problems.

  Raises:
    ValueError: an unknown split.
  """
  if split not in arithmetic.SPLITS:
    raise ValueError(
      f'split: got {split!r}; expected one of {list(arithmetic.SPLITS)}'
    )
  return [
    _draw(f'screens-{split}-{i}', random.Random(f'{seed}/{split}/{i}'), split)
    for i in range(num_problems)
  ]


def _draw(id: str, rng: random.Random, split: str) -> Problem:
  while True:
    panels = rng.sample(list(_WORDS), 2)
    fields = [
      field
      for p in panels
      for field in rng.sample(list(_WORDS[p]), _NUM_FIELDS)
    ]
    filled = rng.sample(fields, rng.randint(3, 4))
    goal = {f: rng.choice(VALUES[f]) if f in filled else EMPTY for f in fields}
    if split_of(goal) == split:
      break
  wanted = ', '.join(f'{field} {value}' for field, value in goal.items())
  problem = Problem(id, f'Fill in {wanted}. Then save.', '')
  screen, steps = start(problem), []
  while not screen.is_saved:
    steps.append(reference(screen, goal))
    screen = execute(screen, steps[-1])
  return dataclasses.replace(problem, solution='\n'.join(steps))


def split_of(goal: Goal) -> str:
  """Returns the split of a goal, in whatever order its fields are."""
  bucket = arithmetic.digest(repr(sorted(goal.items()))) % 100
  return next(s for s, part in arithmetic.SPLITS.items() if bucket in part)


def read_goal(problem: Problem) -> dict[str, str]:
  """Reads the goal of a problem.

  Raises:
    ValueError: the problem is none of this world.
  """
  found = _GOAL.fullmatch(problem.question)
  words = found[1].replace(',', '').split() if found else ()
  goal = dict(zip(words[::2], words[1::2], strict=True))
  panels = [PANEL_OF.get(field) for field in goal]
  is_form = (
    len(goal) == 4
    and panels[0] == panels[1] != panels[2] == panels[3]
    and all(v in (*VALUES.get(f, ()), EMPTY) for f, v in goal.items())
  )
  if not is_form:
    raise ValueError(
      f'problem {problem.id}: got no goal in {problem.question[:80]!r}; '
      'expected a problem of the world of screens'
    )
  return goal


def start(problem: Problem) -> Screen:
  """Returns the form of a problem as nobody has touched it."""
  fields = list(read_goal(problem))
  return Screen(tuple((f, EMPTY) for f in fields), PANEL_OF[fields[0]])


# ------------------------------------------------------------------- texts


def write(screen: Screen, action: str = '') -> str:
  """Writes a screen, and an action that may be done to it.

  >>> values = ('name', 'Ada'), ('pet', EMPTY), ('city', EMPTY), ('seat', EMPTY)
  >>> print(write(Screen(values, 'person'), 'press trip'))
  person (open): name Ada, pet empty
  trip: city empty, seat empty
  Buttons: trip
  Action: press trip
  """
  lines = []
  for panel in screen.panels:
    mark = ' (open)' if panel == screen.open else ''
    shown = [f'{f} {v}' for f, v in screen.values if PANEL_OF[f] == panel]
    lines.append(f'{panel}{mark}: {", ".join(shown)}')
  lines.append(f'Buttons: {", ".join(screen.buttons)}')
  return '\n'.join(lines + [f'Action: {action}'] * bool(action))


def read(text: str) -> Screen:
  """Reads the screen of a text, which is not saved.

  Raises:
    ValueError: it has none.
  """
  lines = _PANEL.findall(text)
  opened = [panel for panel, mark, *_ in lines if mark]
  values = {f: v for _, _, *w in lines for f, v in (w[:2], w[2:])}
  is_whole = (
    len({panel for panel, *_ in lines}) == len(lines) == 2
    and len(opened) == 1
    and len(values) == 4
    and [PANEL_OF.get(f) for f in values]
    == [p for p, *_ in lines for _ in '12']
    and all(v in (*VALUES[f], EMPTY) for f, v in values.items())
  )
  if not is_whole:
    raise ValueError(
      f'screen: got {text[:80]!r}; expected two panels of the world of screens,'
      ' one of them open'
    )
  return Screen(tuple(values.items()), opened[0])


def read_action(text: str) -> str:
  """Reads the action at the end of a text; '' without one."""
  found = _ACTION.search(text)
  return found[1] if found else ''


# ------------------------------------------------------------------- rules


def actions(screen: Screen) -> list[str]:
  """Returns all actions that a screen has; none when it is saved."""
  if screen.is_saved:
    return []
  return [
    *(f'type {f} {value}' for f in screen.fields for value in VALUES[f]),
    *(f'clear {field}' for field in screen.fields),
    *(f'press {button}' for button in screen.buttons),
  ]


def execute(screen: Screen, action: str) -> Screen | None:
  """Returns the screen after an action; None if it has no such action."""
  if action not in actions(screen):
    return None
  kind, name, *value = action.split(' ')
  if kind == 'press':
    if name == SAVE:
      return screen._replace(is_saved=True)
    return screen._replace(open=name)
  changed = dict(screen.values) | {name: value[0] if value else EMPTY}
  return screen._replace(values=tuple(changed.items()))


def wrong_fields(screen: Screen, goal: Goal) -> list[str]:
  """Returns the fields that are not as a goal wants them."""
  return [f for f, value in screen.values if value != goal[f]]


def is_reached(screen: Screen, goal: Goal) -> bool:
  """Whether a form is saved as a goal wants it."""
  return screen.is_saved and not wrong_fields(screen, goal)


def distance(screen: Screen, goal: Goal) -> float:
  """Returns the least number of actions to a goal; inf where none are left.

  Each wrong field takes one, each panel that must be opened one, and saving
  one. Panels to open are those of wrong fields and the last, which saves; it is
  opened again if it is open now and another has to be.
  """
  wrong = wrong_fields(screen, goal)
  if screen.is_saved:
    return math.inf if wrong else 0
  last = screen.panels[-1]
  closed = {PANEL_OF[field] for field in wrong} - {screen.open}
  again = screen.open == last and bool(closed)
  return len(wrong) + len((closed | {last}) - {screen.open}) + again + 1


def works(screen: Screen, goal: Goal, action: str) -> bool:
  """Whether an action, executed, brings a form nearer to a goal."""
  after = execute(screen, action)
  return after is not None and distance(after, goal) < distance(screen, goal)


def working(screen: Screen, goal: Goal) -> list[str]:
  """Returns all actions of a screen that work."""
  return [a for a in actions(screen) if works(screen, goal, a)]


def reference(screen: Screen, goal: Goal) -> str:
  """Returns the one action of a screen that counts as its reference.

  The first wrong field of the open panel is put right; then the first panel is
  opened that has a wrong field, then the last; then the form is saved.

  Raises:
    ValueError: the form is saved.
  """
  if screen.is_saved:
    raise ValueError('reference: got a form that is saved; expected another')
  wrong = wrong_fields(screen, goal)
  for field in wrong:
    if field in screen.fields:
      value = goal[field]
      return f'clear {field}' if value == EMPTY else f'type {field} {value}'
  if wrong:
    return f'press {PANEL_OF[wrong[0]]}'
  return f'press {SAVE if SAVE in screen.buttons else screen.panels[-1]}'
