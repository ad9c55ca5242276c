"""Critiques of the world of screens: a teacher's, and what critiques suggest.

The teacher, whose critiques a critic imitates, compares every field with the
goal, lists the actions that work, and suggests any of them. Or it only glances,
and then guesses the verdict and suggests any action of the screen.
"""

from __future__ import annotations

import random

from critic_jax.rewards import suggestions
from critic_jax.tasks import arithmetic, screens
from critic_jax.types import Record


def critique(
  solution: Record, rng: random.Random, *, check_share: float
) -> str:
  """Writes a critique of a given action as the teacher does.

  Args:
    solution: an action of a problem of this world.
    rng: consumed.
    check_share: the probability that the teacher compares; else it glances.
  """
  goal = screens.read_goal(solution.problem)
  screen = screens.read(solution.text)
  action = screens.read_action(solution.text)
  if rng.random() < check_share:
    helpful = screens.working(screen, goal)
    is_right = action in helpful
    thoughts = [
      f'{field} {value}? {goal[field]}. {_mark(value == goal[field])}'
      for field, value in screen.values
    ]
    thoughts += [
      f'Next: {" or ".join(helpful)}.',
      f'{action}? {_mark(is_right)}',
    ]
    hint = rng.choice(helpful)
  else:
    thoughts = ['It looks fine.']
    is_right = rng.random() < 0.5
    hint = rng.choice(screens.actions(screen))
  advice = f'Hint: {suggestions.NONE if is_right else hint}'
  verdict = 'correct' if is_right else 'incorrect'
  return arithmetic.write_critique(thoughts, advice, verdict)


def _mark(is_right: bool) -> str:
  return 'Right.' if is_right else 'Wrong.'


def describe(critique: Record) -> dict[str, bool]:
  """Tells what a critique of this world suggests.

  Returns:
    'hints': it suggests one action; 'hint_on_screen': one that the screen has;
    'hint_restates': the judged action; 'hint_is_reference': the reference;
    'hint_works': one that, executed, brings the goal nearer.
  """
  screen = screens.read(critique.parent.text)
  goal = screens.read_goal(critique.problem)
  action = suggestions.suggested(critique) or ''
  judged = screens.read_action(critique.parent.text)
  return {
    'hints': bool(action),
    'hint_on_screen': screens.execute(screen, action) is not None,
    'hint_restates': bool(action) and action == judged,
    'hint_is_reference': action == screens.reference(screen, goal),
    'hint_works': screens.works(screen, goal, action),
  }
