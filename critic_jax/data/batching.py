"""Lays out records as the arrays that a loss sees.

The keys of a batch, and their shapes; a recipe adds what its loss needs:

  tokens        int32[B, T]    prompt and response, right-padded with 0
  mask          bool[B, T]     True at the response tokens that are trained
  weights       float32[B, T]  factors of a token's loss (`masked.loss_weights`)
  mean_weights  float32[B, T]  factors of a token's metrics: their sum is a mean
  logprobs      float32[B, T]  log-probabilities when sampled, 0 where masked
  advantages    float32[B, T]  0 where masked
  ref_logprobs  float32[B, T]  log-probabilities under the frozen reference
  old_logprobs  float32[B, T]  those under the policy that sampled, untempered
  values        float32[B, T]  estimates before each token when it was sampled
  returns       float32[B, T]  targets of the values
  off_policy    bool[B, T]     True at trained tokens that were not sampled from
                               the row's prompt, or were chosen among others
  targets       float32[B, T]  of the scores of steps (step_rows.py)
  feedback      float32[B, T]  how good the segment of a given token is
  responses     int32[B, T]    number of the response, from 1; 0 where masked
  margins       float32[B, T]  its sum over a chosen response: that of its score
  kl            float32[B, T]  its sum over a response: KL(policy || reference)
  pairs         int32[B, T]    the responses of its group that one is chosen
                               over, as bits (critic_jax/data/pair_rows.py)
  rewards       float32[B, T]  its sum over a response: a reward, for margins
  writers       int32[B, T]    number of the role that wrote it, from 1

Rows are plain, one a response, unless `make_rows` was asked for other shapes:
critic_jax/data/packing.py then adds segments, prefixes and positions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from critic_jax import lookup
from critic_jax.data import packing
from critic_jax.objectives import masked
from critic_jax.sampling.lm import LM
from critic_jax.types import Batch, Comparison, Prompt, Record


def from_records(
  records: Sequence[Record | None],
  lm: LM,
  *,
  num_rows: int,
  aggregate: str,
  advantages: Sequence[float] | None = None,
  where: Sequence[bool] | None = None,
) -> Batch:
  """Lays out records, a row each; missing rows are empty and weigh nothing.

  Args:
    records: at most `num_rows`; None, or a record without tokens, becomes an
      empty row.
    lm: the model that wrote them; its table of shapes gives the columns.
    num_rows: B, the rows of the batch.
    aggregate: how the loss is normalised; a name in `masked.loss_weights`.
    advantages: the advantage of each record, spread over its tokens; None: 0.
    where: False for a record that nothing is to be learned from, as its reward
      could not be determined; its row is empty. None: True for all.

  Returns:
    tokens, mask, weights, mean_weights, logprobs, advantages.

  Raises:
    ValueError: more records than rows, or a record longer than the limits.
  """
  if len(records) > num_rows:
    raise ValueError(
      f'records: got {len(records)}; expected at most num_rows={num_rows}'
    )
  if advantages is None:
    advantages = np.zeros(len(records), np.float32)
  if where is None:
    where = [True] * len(records)
  learned = [
    (row, record, advantage)
    for row, (record, advantage, is_known) in enumerate(
      zip(records, advantages, where, strict=True)
    )
    if is_known and record and record.prompt_tokens.size and record.tokens.size
  ]
  lengths = [len(r.prompt_tokens) + len(r.tokens) for _, r, _ in learned]
  # Take as few columns as the table of shapes allows: each shape compiles.
  columns = lm.row_length(max(lengths, default=1))
  batch = {
    'tokens': np.zeros((num_rows, columns), np.int32),
    'mask': np.zeros((num_rows, columns), bool),
    'logprobs': np.zeros((num_rows, columns), np.float32),
    'advantages': np.zeros((num_rows, columns), np.float32),
  }
  for row, record, advantage in learned:
    # The prompt and then the response; only the response is trained.
    start = len(record.prompt_tokens)
    end = start + len(record.tokens)
    batch['tokens'][row, :start] = record.prompt_tokens
    batch['tokens'][row, start:end] = record.tokens
    batch['mask'][row, start:end] = True
    batch['logprobs'][row, start:end] = record.logprobs
    batch['advantages'][row, start:end] = advantage
  # For the whole batch at once: micro-batches then change nothing.
  batch['weights'] = masked.loss_weights(
    batch['mask'], aggregate, max_len=lm.max_new_tokens
  )
  batch['mean_weights'] = masked.loss_weights(batch['mask'], 'token')
  return batch


def make_rows(
  lm: LM,
  *,
  num_rows: int,
  aggregate: str,
  row_shapes: Sequence[tuple[int, int]],
  microbatches: int,
  rows_per_group: int = 1,
) -> tuple[Callable[..., Batch], Callable[[Batch], Batch]]:
  """Makes the two steps from records to the rows of a phase's batches.

  Args:
    lm: the model that writes the records.
    num_rows: the largest number of plain rows.
    aggregate: how the loss is normalised; a name in `masked.loss_weights`.
    row_shapes: pairs of a number of rows and of columns: the first that holds a
      batch is taken, and plain rows if none does.
    microbatches: the number of parts that a batch is cut into.
    rows_per_group: adjacent records that the loss needs together, all with one
      prompt. If they are several, batches have 'responses', and 'mean_weights'
      make means over groups.

  Returns:
    `(records, advantages=None, where=None) -> batch` of plain rows (see
    `from_records`), and `batch -> batch`, which packs them.

  Raises:
    ValueError: an unknown aggregate, a malformed shape, or rows, packed or
      plain, that `microbatches` do not divide, or not without parting a group.
  """
  # Refuse wrong settings now: the first batch comes much later.
  with lookup.naming('aggregate'):
    masked.loss_weights(np.ones((1, 1), bool), aggregate, max_len=1)
  if not isinstance(row_shapes, list | tuple):
    raise ValueError(
      f'row_shapes: got {row_shapes!r}; expected pairs of rows and columns'
    )
  shapes = [tuple(np.atleast_1d(shape)) for shape in row_shapes]
  for shape in shapes:
    if len(shape) != 2 or min(shape) < 1 or shape[0] % microbatches:
      raise ValueError(
        f'row_shapes: got {row_shapes}; expected pairs of rows, a multiple of '
        f'microbatches={microbatches}, and columns'
      )
  if num_rows % (microbatches * rows_per_group):
    groups = f' in groups of {rows_per_group}' if rows_per_group > 1 else ''
    raise ValueError(
      f'microbatches: got {microbatches}; expected a divisor of the '
      f'{num_rows} rows{groups} of a batch that is not packed'
    )

  def to_rows(records, advantages=None, where=None):
    batch = from_records(
      records,
      lm,
      num_rows=num_rows,
      aggregate=aggregate,
      advantages=advantages,
      where=where,
    )
    return batch if rows_per_group == 1 else {**batch, **_linked(batch['mask'])}

  pack = functools.partial(
    packing.pack, shapes=shapes, rows_per_group=rows_per_group
  )
  return to_rows, pack


def _linked(mask: np.ndarray) -> Batch:
  """Returns the arrays of rows that a loss needs together."""
  numbers = np.arange(1, len(mask) + 1, dtype=np.int32)[:, None]
  return {
    'responses': np.where(mask, numbers, 0).astype(np.int32),
    # A group weighs what another does, however long its responses are.
    'mean_weights': masked.loss_weights(mask, 'sequence'),
  }


def reread(record: Record, prompt: Prompt, lm: LM) -> Record:
  """Returns a record in the tokens of a model that reads it; `encode`.

  Its text is encoded anew, whoever wrote it. One that was cut off has no end,
  and one that the model has no room for has no tokens.
  """
  encoded = encode(record, prompt, lm)
  size = 0 if encoded.refused else len(encoded.tokens) - record.truncated
  return dataclasses.replace(
    encoded, tokens=encoded.tokens[:size], logprobs=encoded.logprobs[:size]
  )


def reread_own(records: Sequence[Record], lm: LM) -> list[Record]:
  """Rereads records behind the model's own prompt of their stage; `reread`.

  Args:
    records: of stages that the model's style has, such as 'solve'.
    lm: the model that reads them.
  """
  return [
    reread(r, getattr(lm.stages, r.stage).prompt(r.parent or r.problem), lm)
    for r in records
  ]


def reread_batches(
  records: Sequence[Record], lm: LM
) -> Iterator[tuple[Sequence[Record], list[Record], Batch]]:
  """Cuts records of one stage, whoever wrote them, for a model that reads them.

  Yields:
    At most `lm.max_rows` records, these as `reread` returns them, behind the
    model's own prompt, and the batch of them, a row each.
  """
  for start in range(0, len(records), lm.max_rows):
    part = records[start : start + lm.max_rows]
    read = reread_own(part, lm)
    yield (
      part,
      read,
      from_records(read, lm, num_rows=lm.max_rows, aggregate='token'),
    )


def encode(
  record: Record, prompt: Prompt | list[Mapping[str, str]], lm: LM
) -> Record:
  """Adds the tokens that a model learns from to a record that was written.

  The prompt is that of a stage, or a list of messages, as they are.

  A record too long for the model's table of shapes gets none, like a prompt
  that is too long to be sampled for; `finish` says so.
  """
  encode_fn = (
    lm.encode_messages if isinstance(prompt, list) else lm.encode_prompt
  )
  prompt_tokens = np.array(encode_fn(prompt), np.int32)
  tokens = np.array(lm.encode_response(record.text), np.int32)
  if len(prompt_tokens) > lm.lengths[-1] or len(tokens) > lm.max_new_tokens:
    return dataclasses.replace(record, finish='prompt')
  return dataclasses.replace(
    record,
    prompt_tokens=prompt_tokens,
    tokens=tokens,
    logprobs=np.zeros(len(tokens), np.float32),
  )


def encode_responses(comparison: Comparison, lm: LM) -> list[Record]:
  """Adds tokens to the responses of a comparison; `encode`.

  They stand behind its messages, or if it has none behind the prompt of the
  stage 'solve'.
  """
  prompt = list(comparison.messages)
  prompt = prompt or lm.stages.solve.prompt(comparison.problem)
  return [encode(response, prompt, lm) for response in comparison.responses]
