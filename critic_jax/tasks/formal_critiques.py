"""Critiques of statements: a teacher's, whom a critic imitates.

The teacher goes along the problem, lays beside each part of it the hypothesis
that tells it, or the claim, and marks the pair: `n2 = n1 + 3? n2 = 3 + n1.
Right.` Or it only glances, and then guesses the verdict. What a checker refused
it does not read.
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
  told = {}
  for _, equation in statement.hypotheses:
    told.setdefault(formal_statements.definition(equation)[0], equation)
  parts = [(e, told.get(e[1])) for _, e in intended.hypotheses]
  parts.append((intended.goal, statement.goal))
  lines = []
  for expected, found in parts:
    is_right = found is not None and formal_statements.definition(
      found
    ) == formal_statements.definition(expected)
    quoted = NONE if found is None else formal_language.show(found)
    shown = formal_language.show(expected)
    lines.append(f'{shown}? {quoted}. {_mark(is_right)}')
  return lines


def _mark(is_right: bool) -> str:
  return 'Right.' if is_right else 'Wrong.'
