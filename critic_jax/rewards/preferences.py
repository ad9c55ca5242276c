"""What models prefer: a judge's verdict read, and paid; a reward model's score.

A judge compares two critiques of one solution, twice: each is shown first once,
as in https://arxiv.org/abs/2306.05685. A critique has won a comparison if both
orders name it. So nothing is gained by
a text that has the judge name the first, or both, or nobody, or that it can not
end with: such a comparison is won by neither.

The judge's verdict is the line `Better: first` or `Better: second`, in its
conclusion, exactly once; its form is that of `verdicts.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from critic_jax.rewards import verdicts
from critic_jax.types import Record

_FLAGS = re.IGNORECASE | re.ASCII
_LABEL = re.compile(r'(?<![a-z0-9])better[*_`]{0,3}[ \t]{0,8}:', _FLAGS)
_SENTENCE = re.compile(
  r'[*_`]{0,3}[ \t]{0,8}[*_`]{0,3}(first|second)[*_`]{0,3}'
  r'\.?[*_`]{0,3}[ \t\r]{0,8}(?=\n|\Z)',
  _FLAGS,
)


def parse(text: str) -> dict[str, Any]:
  """Parses a judge's text.

  Returns:
    'better': 'first', 'second', or None without exactly one verdict.
  """
  conclusion = verdicts.conclusion(text) or ''
  labels = [*_LABEL.finditer(conclusion)]
  sentence = None
  if len(labels) == 1:
    sentence = _SENTENCE.match(conclusion, labels[0].end())
  return {'better': sentence[1].lower() if sentence else None}


def preferred(critique: Record, responses: Sequence[Record]) -> float | None:
  """Returns the share of its comparisons that a critique has won.

  It is 0.0 without a verdict of its own, and None where a comparison could not
  be made, as its prompt did not fit.

  Raises:
    ValueError: the critique was not compared (`rollouts/comparisons.py`).
  """
  if 'wins' not in critique.parsed:
    raise ValueError(
      f"parsed['wins'] of {critique.id}: got none; expected its comparisons; "
      'compare critiques before scoring them'
    )
  if critique.parsed.get('status') != 'ok' or critique.finish != 'stop':
    return 0.0
  wins = critique.parsed['wins']
  return None if None in wins or not wins else sum(wins) / len(wins)


def scored(record: Record, responses: Sequence[Record]) -> float | None:
  """Returns the score that reward models gave a record.

  It is None where they could not read it, as its prompt did not fit.

  Raises:
    ValueError: the record was not scored (`loss_fns/reward_models.py`).
  """
  if 'score' not in record.parsed:
    raise ValueError(
      f"parsed['score'] of {record.id}: got none; expected that of a reward "
      'model; score records before they are rewarded'
    )
  return record.parsed['score']
