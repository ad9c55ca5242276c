"""Answers in critiques: finding them, and hiding them from the solver.

A critique that states the final answer makes refinements right whatever else
it says. That may be its merit, as in 'step 3 should be 14', or all it does; the
rate of leaks, and refinements with the answer masked, tell the two apart.
"""

from __future__ import annotations

import re

from critic_jax.types import Record

MASK = '?'


def leaks(critique: Record) -> bool:
  """Whether the conclusion has the reference answer as a token of its own.

  '12' is in 'so x = 12.' but in none of '112', '12.5', '1,120', '-12', '5/12'.
  Commas that group thousands are left out on both sides.
  """
  return _replaced(critique)[1] > 0


def masked(critique: Record) -> str:
  """The conclusion with each occurrence of the reference answer as `MASK`."""
  return _replaced(critique)[0]


def _replaced(critique: Record) -> tuple[str, int]:
  """The masked conclusion, and how many answers were masked in it."""
  answer, conclusion = critique.problem.answer.strip(), _conclusion(critique)
  if not answer:
    return conclusion, 0
  pattern = rf'(?<![\w/-])(?<!\d[.,]){_grouped(answer)}(?!\w|[.,/]\d)'
  return re.subn(pattern, MASK, conclusion)


def _conclusion(critique: Record) -> str:
  return critique.parsed.get('conclusion') or ''


def _grouped(answer: str) -> str:
  """A pattern of the answer, with or without commas that group thousands."""
  plain = re.sub(r'(?<=\d),(?=\d{3}(?!\d))', '', answer)
  parts = re.split(r'(\d+)', plain)
  return ''.join(
    ',?'.join(_thousands(part)) if part.isdigit() else re.escape(part)
    for part in parts
  )


def _thousands(digits: str) -> list[str]:
  """'1234567' as ['1', '234', '567']."""
  first = len(digits) % 3
  rest = [digits[i : i + 3] for i in range(first, len(digits), 3)]
  return [digits[:first], *rest] if first else rest
