"""Answers in critiques: detected, and masked before a solver reads them.

A critique that states the final answer can make refinements right without any
other merit. It may also have merit, as in 'step 3 should be 14'; the rate of
leaks, and refinements with the answer masked, tell the two apart.
"""

from __future__ import annotations

import re

from critic_jax.types import Record

MASK = '?'


def leaks(critique: Record) -> bool:
  """Whether the conclusion has the reference answer as a token of its own.

  '12' is in 'so x = 12.' but in none of '112', '12.5', '1,120', '-12', '5/12'.
  Commas that group thousands are ignored on both sides.
  """
  return _replaced(critique)[1] > 0


def masked(critique: Record) -> str:
  """Returns the conclusion with each reference answer replaced by `MASK`."""
  return _replaced(critique)[0]


def _replaced(critique: Record) -> tuple[str, int]:
  """Returns the masked conclusion and the number of answers masked in it."""
  answer, conclusion = critique.problem.answer.strip(), _conclusion(critique)
  if not answer:
    return conclusion, 0
  # No sign, fraction or decimal may continue the answer on either side.
  pattern = rf'(?<![\w/-])(?<!\d[.,]){_grouped(answer)}(?!\w|[.,/]\d)'
  return re.subn(pattern, MASK, conclusion)


def _conclusion(critique: Record) -> str:
  return critique.parsed.get('conclusion') or ''


def _grouped(answer: str) -> str:
  """Returns a pattern of the answer; commas may group thousands."""
  plain = re.sub(r'(?<=\d),(?=\d{3}(?!\d))', '', answer)
  parts = re.split(r'(\d+)', plain)
  return ''.join(
    ',?'.join(_thousands(part)) if part.isdigit() else re.escape(part)
    for part in parts
  )


def _thousands(digits: str) -> list[str]:
  """Splits '1234567' into ['1', '234', '567']."""
  first = len(digits) % 3
  rest = [digits[i : i + 3] for i in range(first, len(digits), 3)]
  return [digits[:first], *rest] if first else rest
