"""Lays out solutions as rows whose trained tokens are the ends of steps.

The arrays are those of `batching`; `mask` is True at the last token of each
step that has a target, `targets`, float32[B, T], and weights are of steps.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

import numpy as np

from critic_jax.objectives import masked
from critic_jax.sampling.lm import LM
from critic_jax.types import Batch, Record


def step_tokens(record: Record, ends: Sequence[int], lm: LM) -> list[int]:
  """Finds the last token of each step of a solution.

  A token that crosses the end of a step is the step's, as the step is not whole
  before it.

  Args:
    record: a solution with the tokens of `lm` (`batching.reread`).
    ends: where each step ends in its text, ascending.
    lm: the model that reads it.

  Returns:
    For each step the place of its last token among the response's; [] if the
    tokens do not have the text.
  """
  tokens = record.tokens.tolist()
  if tokens and tokens[-1] in lm.tokenizer.eos:
    tokens.pop()
  whole = lm.decode_response(tokens)
  if not whole.endswith(record.text):
    return []
  before = len(whole) - len(record.text)  # what a template opens
  return [
    bisect.bisect_left(
      range(len(tokens)),
      before + end,
      key=lambda n: len(lm.decode_response(tokens[: n + 1])),
    )
    for end in ends
  ]


def token_rewards(
  records: Sequence[Record],
  segments: Sequence[Sequence[tuple[int, float]]],
  mask: np.ndarray,
  lm: LM,
) -> np.ndarray:
  """Puts rewards at the last tokens of segments, the rest at the end.

  The sum of a row is its record's reward. Where the tokens of a response do not
  have its text, all of it is at the end.

  Args:
    records: responses of `lm`, one a row, scored.
    segments: for each record where its segments end in the text, and what of
      its reward is theirs.
    mask: bool[B, T], True at the tokens of responses that are learned from.
    lm: the model that wrote them.

  Returns:
    float32[B, T].
  """
  rewards = np.zeros(mask.shape, np.float32)
  for row, (record, its_segments) in enumerate(
    zip(records, segments, strict=True)
  ):
    if not mask[row].any():
      continue
    last = np.flatnonzero(mask[row])[-1]
    rest = record.scores['reward']
    places = step_tokens(record, [end for end, _ in its_segments], lm)
    if places:
      for place, (_, reward) in zip(places, its_segments, strict=True):
        rewards[row, min(len(record.prompt_tokens) + place, last)] += reward
        rest -= reward
    rewards[row, last] += rest
  return rewards


def token_feedback(
  records: Sequence[Record],
  segments: Sequence[Sequence[tuple[int, float]]],
  mask: np.ndarray,
  lm: LM,
) -> np.ndarray:
  """Gives each token the feedback on its segment; the end has the last one's.

  Args:
    records: responses, encoded for `lm`, one a row.
    segments: for each record where its segments end in the text, ascending, and
      how good each is.
    mask: bool[B, T], True at the tokens that are learned.
    lm: the model that learns them.

  Returns:
    float32[B, T], zero where masked.

  Raises:
    ValueError: a record without segments, or whose tokens have another text.
  """
  feedback = np.zeros(mask.shape, np.float32)
  for row, (record, its_segments) in enumerate(
    zip(records, segments, strict=True)
  ):
    if not mask[row].any():
      continue
    places = step_tokens(record, [end for end, _ in its_segments], lm)
    if not places:
      raise ValueError(
        f'lesson {record.id}: got no segments with feedback in its tokens; '
        'expected some; choose a lesson that is rated, or another objective'
      )
    columns = np.flatnonzero(mask[row])
    numbers = np.searchsorted(
      np.array(places), columns - len(record.prompt_tokens)
    )
    ratings = np.array([rating for _, rating in its_segments], np.float32)
    feedback[row, columns] = ratings[np.minimum(numbers, len(ratings) - 1)]
  return feedback


def make_step_rows(
  to_rows: Callable[..., Batch], lm: LM, aggregate: str
) -> Callable[[Sequence[Record], Sequence[Sequence[int]]], Batch]:
  """Makes the step from solutions to plain rows with targets.

  Args:
    to_rows: the first result of `batching.make_rows`.
    lm: the model that reads the solutions.
    aggregate: how the loss is normalised; `masked.loss_weights`. 'token' is the
      mean over all steps, 'sequence' the mean over each solution's first.

  Returns:
    `(solutions, ends) -> batch`: solutions have `parsed['targets']`, a number
    for each step, or NaN where nothing is known of it; `ends` are where the
    steps end in each text. A solution without targets is an empty row.
  """

  def to_step_rows(records, ends):
    batch = to_rows(records)
    mask = np.zeros_like(batch['mask'])
    targets = np.zeros(mask.shape, np.float32)
    for row, (record, its_ends) in enumerate(zip(records, ends, strict=True)):
      places = step_tokens(record, its_ends, lm) if its_ends else []
      its_targets = record.parsed.get('targets')
      if its_targets is None or not batch['mask'][row].any() or not places:
        continue
      columns = len(record.prompt_tokens) + np.array(places)
      its_targets = np.array(its_targets, np.float32)
      is_known = ~np.isnan(its_targets)
      mask[row, columns[is_known]] = True
      targets[row, columns[is_known]] = its_targets[is_known]
    weights = masked.loss_weights(mask, aggregate, max_len=lm.max_new_tokens)
    return {
      **batch,
      'mask': mask,
      'targets': targets,
      'weights': weights,
      'mean_weights': masked.loss_weights(mask, 'token'),
    }

  return to_step_rows
