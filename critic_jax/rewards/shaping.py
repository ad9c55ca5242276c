"""Rewards of a message by its form: format, length, repetition.

Each is `(record, responses, *, ...) -> float`, pure, and looks at the record
alone. Lengths are counted in tokens (the end-of-sequence token included),
never in characters: a penalty in characters changes with the language.
Penalties are negative, so that weights are positive.
"""

from __future__ import annotations

from collections.abc import Sequence

from critic_jax.types import Record


def format(record: Record, responses: Sequence[Record]) -> float:
  """Returns 1.0 if the thinking is closed and a verdict follows, else 0.0.

  Raises:
    ValueError: the stage's parser gives no `status`.
  """
  if 'status' not in record.parsed:
    raise ValueError(
      f"parsed['status'] of {record.id}: got none; expected a status of"
      ' rewards.verdicts.parse; reward the format of critiques only'
    )
  # 'ok' implies a closed span (`verdicts.status`).
  return float(record.parsed['status'] == 'ok')


def overlong(
  record: Record, responses: Sequence[Record], *, max_len: int, buffer: int
) -> float:
  """Returns DAPO's soft overlong punishment, in [-1, 0].

  Equation 13 of https://arxiv.org/abs/2503.14476: 0 for n <= max_len - buffer
  tokens; then (max_len - buffer - n) / buffer, down to -1 at n = max_len; -1
  beyond.

  Args:
    record: the message.
    responses: not read.
    max_len: tokens at which the punishment is full, L_max.
    buffer: tokens over which it grows, L_cache.

  Raises:
    ValueError: not 0 < buffer <= max_len.
  """
  if not 0 < buffer <= max_len:
    raise ValueError(
      f'buffer: got {buffer}; expected 0 < buffer <= max_len = {max_len};'
      ' choose the last tokens over which the punishment grows'
    )
  excess = len(record.tokens) - (max_len - buffer)
  return -min(max(excess, 0) / buffer, 1.0)


def length(
  record: Record, responses: Sequence[Record], *, cost: float, max_len: int
) -> float:
  """Returns minus `cost` for each token, up to `max_len` tokens.

  Raises:
    ValueError: a negative `cost` or `max_len`.
  """
  if cost < 0 or max_len < 0:
    raise ValueError(
      f'cost, max_len: got {cost}, {max_len}; expected both >= 0; put the sign'
      " into the reward's weight"
    )
  return -cost * min(len(record.tokens), max_len)


def repetition(
  record: Record, responses: Sequence[Record], *, n: int = 4
) -> float:
  """Returns minus the share of repeated n-grams of tokens, in (-1, 0].

  It is distinct-n - 1 (https://arxiv.org/abs/1510.03055, there a metric);
  0 for fewer than n tokens.

  Raises:
    ValueError: n < 1.
  """
  if n < 1:
    raise ValueError(f'n: got {n}; expected n >= 1; choose a length of n-grams')
  tokens = record.tokens.tolist()
  ngrams = list(zip(*(tokens[i:] for i in range(n)), strict=False))
  return len(set(ngrams)) / len(ngrams) - 1.0 if ngrams else 0.0
