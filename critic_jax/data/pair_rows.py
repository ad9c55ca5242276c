"""Lays out pairs of responses as the rows of a batch, each response once.

A group has the responses to one prompt that are in pairs: `rows_per_group` rows
side by side, the last ones empty where a group has fewer. Beside the keys of
plain rows (critic_jax/data/batching.py) a batch has

  pairs    of a token of the response in row i of its group: bit j says that it
           is chosen over the response in row j; bit G = rows_per_group, that it
           is chosen, and bit G + 1, that it is rejected, where there is no
           other side
  rewards  spread over a response, so that their sum is its score 'margin', or
           its reward if it has no such score

A pair weighs what its responses weigh in a batch in which each pair has rows of
its own: `weights` and `mean_weights` are those of one such copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from critic_jax.data import batching
from critic_jax.objectives import masked
from critic_jax.sampling.lm import LM
from critic_jax.types import Batch, Record

# (chosen, rejected); one of them may be None.
Pair = tuple[Record | None, Record | None]
MAX_ROWS = 29  # of a group: bits of a positive int32, less two


def make_pair_rows(
  lm: LM,
  *,
  num_groups: int,
  rows_per_group: int,
  aggregate: str,
  row_shapes: Sequence[tuple[int, int]],
  microbatches: int,
  is_apart: bool = False,
) -> Callable[[Sequence[Sequence[Pair]]], Batch]:
  """Makes the step from the pairs of each prompt to the rows of a batch.

  Args:
    lm: the model that writes, or would write, the responses.
    num_groups: the largest number of prompts with pairs.
    rows_per_group: the largest number of responses to one that are in pairs.
    aggregate: how pairs weigh; a name in `masked.loss_weights`.
    row_shapes: (rows, columns) that a batch may be packed in.
    microbatches: parts that a batch is cut into; none parts a group.
    is_apart: whether responses without another side are weighed by themselves,
      for a loss of their own, and not with the pairs.

  Returns:
    The pairs of each prompt -> a batch. Prompts without pairs have no rows; a
    pair without tokens on a side that it has is a ValueError.

  Raises:
    ValueError: as `batching.make_rows`, or too many rows for a group.
  """
  if not 2 <= rows_per_group <= MAX_ROWS:
    raise ValueError(
      f'responses: got {rows_per_group} of a prompt in pairs; expected 2 to '
      f'{MAX_ROWS}; lower max_pairs or max_responses'
    )
  num_rows = num_groups * rows_per_group
  to_rows, pack = batching.make_rows(
    lm, num_rows=num_rows, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches, rows_per_group=rows_per_group,
  )  # fmt: skip

  def weigh(mask, rows, how):
    weights = np.zeros(mask.shape, np.float32)
    weights[rows] = masked.loss_weights(
      mask[rows], how, max_len=lm.max_new_tokens
    )
    return weights

  def lay_out(groups):
    records, pairs = _rows(groups, rows_per_group)
    batch = to_rows(records)
    mask = batch['mask']
    paired = [row for pair in pairs if None not in pair for row in pair]
    chosen = [c for c, rejected in pairs if rejected is None]
    rejected = [r for c, r in pairs if c is None]
    # Of the loss: pairs and single responses together, or either by itself.
    parts = [paired, chosen + rejected]
    parts = parts if is_apart else [sum(parts, [])]
    weights = [weigh(mask, rows, aggregate) for rows in parts]
    # Of metrics: pairs if there are any, else the mean over either side.
    sides = [paired] if paired or is_apart else [chosen, rejected]
    means = [weigh(mask, rows, 'sequence') for rows in sides]
    arrays = {
      'pairs': np.where(mask, _bits(pairs, num_rows, rows_per_group), 0),
      'rewards': _spread(records, mask),
      'weights': np.sum(weights, axis=0, dtype=np.float32),
      'mean_weights': np.sum(means, axis=0, dtype=np.float32),
    }
    return pack({**batch, **arrays})

  return lay_out


def _rows(groups, rows_per_group) -> tuple[list, list[tuple]]:
  """Returns the record of each row, or None, and the rows of each pair."""
  records, pairs = [], []
  for group in filter(None, groups):
    members = {id(r): r for r in itertools.chain(*group) if r is not None}
    if len(members) > rows_per_group:
      raise ValueError(
        f'{next(iter(members.values())).id}: got {len(members)} responses of a '
        f'prompt in pairs; expected at most {rows_per_group}; raise '
        'max_responses'
      )
    if not all(len(record.tokens) for record in members.values()):
      raise ValueError('pairs: got a response without tokens; expected some')
    row_of = {key: len(records) + i for i, key in enumerate(members)}
    row_of[id(None)] = None
    pairs += [(row_of[id(c)], row_of[id(r)]) for c, r in group]
    records += members.values()
    records += [None] * (rows_per_group - len(members))
  return records, pairs


def _bits(pairs, num_rows, rows_per_group) -> np.ndarray:
  """Returns int32[num_rows, 1], the bits of each row's response."""
  bits = np.zeros((num_rows, 1), np.int32)
  for chosen, rejected in pairs:
    if rejected is None:
      bits[chosen] |= 1 << rows_per_group
    elif chosen is None:
      bits[rejected] |= 1 << (rows_per_group + 1)
    else:
      bits[chosen] |= 1 << (rejected % rows_per_group)
  return bits


def _spread(records, mask) -> np.ndarray:
  """Returns float32[B, T], whose sum over a row is the record's reward."""
  rewards = np.zeros(len(mask), np.float32)
  for row, record in enumerate(records):
    if record is not None:
      scores = record.scores
      rewards[row] = scores.get('margin', scores.get('reward', 0.0))
  lengths = np.maximum(mask.sum(axis=1), 1)
  return np.where(mask, (rewards / lengths)[:, None], 0).astype(np.float32)
