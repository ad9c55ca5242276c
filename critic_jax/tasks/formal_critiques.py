"""Critiques of statements: a teacher's, whom a critic imitates.

The teacher goes along the problem, lays beside each part of it the hypothesis
that tells it, or the claim, in the same order of sides, and marks the pair:
`Part 2: n1 + 3? n1 + 4. Wrong.` Or it only glances, and then guesses the
verdict. What a checker refused it does not read.
"""

from __future__ import annotations

import random

from critic_jax.tasks import (
  arithmetic,
  formal_drafts,
  formal_language,
  formal_statements,
)
from critic_jax.types import Record

NONE = 'none'  # in the place of a hypothesis that is not there


def critique(
  solution: Record, rng: random.Random, *, check_share: float
) -> str:
  """Writes a critique of a given statement as the teacher does.

  Args:
    solution: a statement of a problem of this world.
    rng: consumed.
    check_share: the probability that the teacher compares; else it glances.
  """
  if rng.random() < check_share:
    thoughts = compare(solution)
    is_right = all(line.endswith(_mark(True)) for line in thoughts)
  else:
    thoughts = ['It looks fine.']
    is_right = rng.random() < 0.5
  advice = 'I find no mistake.' if is_right else 'There is a mistake.'
  verdict = 'correct' if is_right else 'incorrect'
  return arithmetic.write_critique(thoughts, advice, verdict)


def compare(solution: Record) -> list[str]:
  """Returns the lines of a comparison, one for each part of the problem."""
  text, refused, _ = solution.text.partition(formal_drafts.MESSAGE)
  statement, _ = formal_language.read(text)
  if refused or statement is None:
    return [f'Checker? {_mark(False)}']
  said = formal_statements.intended(solution.problem)
  intended = formal_statements.plain(said)
  definition = formal_statements.definition
  told = dict(definition(e) for _, e in reversed(statement.hypotheses))
  lines = []
  for number, (_, equation) in enumerate(intended.hypotheses, 1):
    name, value = definition(equation)
    pair = value, told.get(name, NONE)
    lines.append(_line(f'Part {number}', *map(formal_language.show, pair)))
  goals = [('=', *definition(s.goal)) for s in (intended, statement)]
  return [*lines, _line('Claim', *map(formal_language.show, goals))]


def _line(part: str, expected: str, found: str) -> str:
  return f'{part}: {expected}? {found}. {_mark(found == expected)}'


def _mark(is_right: bool) -> str:
  return 'Right.' if is_right else 'Wrong.'
