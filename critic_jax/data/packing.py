"""Several responses in a row, and a prompt that they share only once.

A plain row is a prompt, the response to it, and padding. `pack` moves the
tokens of plain rows, with all their arrays, to rows with less padding. No loss
changes: each is a sum over tokens, with the weights of the plain rows.

A packed row is made of segments. A prompt with its only response is one. Where
a row has more responses to a prompt, the prompt without its last token is a
segment that they all read, and each response is a segment that begins with a
copy of that token; so each token is still predicted by the one on its left.
Three arrays, int32[B, T], describe a packed row:

  segments   numbers the segments of a row, from 1; padding is 0
  prefixes   the segment that this one follows, a shared prompt; its own number
             if it follows none
  positions  the place in a token's own prompt and response, from 0; padding
             is 0

A token sees those on its left in its segment and in its segment's prefix. The
first token of a segment is not predicted by its left neighbour, and so is never
trained.

Rows that a loss needs together, such as a chosen response and a rejected one,
have one prompt and come to one packed row, so that no micro-batch parts them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from critic_jax.types import Batch

Shapes = Sequence[tuple[int, int]]


def pack(batch: Batch, shapes: Shapes, rows_per_group: int = 1) -> Batch:
  """Packs a batch into the first of `shapes` that holds it.

  Args:
    batch: plain rows, numpy; each key is [B, T]. A row's prompt ends before its
      first trained token. Rows without trained tokens are left out.
    shapes: (rows, columns), the smallest first. Rows that are not needed are
      empty.
    rows_per_group: adjacent rows that stay together; they have one prompt.

  Returns:
    The keys of `batch` with segments, prefixes and positions; `batch` itself,
    if no shape holds it.

  Raises:
    ValueError: rows that stay together have several prompts.
  """
  starts, ends = _spans(batch['mask'])
  groups = _groups(batch['tokens'], starts, ends, rows_per_group)
  for shape in shapes:
    num_rows, num_columns = shape
    pieces = _pieces(groups, starts, ends, num_columns)
    sizes = [_size(piece) for piece in pieces]
    if max(sizes, default=0) > num_columns:
      continue
    rows = _first_fit(sizes, num_columns)
    if max(rows, default=0) < num_rows:
      return _moved(batch, pieces, rows, shape)
  return batch


def _spans(mask) -> tuple[np.ndarray, np.ndarray]:
  """Returns each response's first column and its end; 0, 0 without one."""
  has_response = mask.any(axis=1)
  starts = np.where(has_response, mask.argmax(axis=1), 0)
  ends = np.where(has_response, mask.shape[1] - mask[:, ::-1].argmax(axis=1), 0)
  return starts, ends


# A segment: the plain row of its tokens, its first column there, and the one
# after its last. A piece: the segments of one prompt in one packed row.
Segment = tuple[int, int, int]


def _groups(tokens, starts, ends, rows_per_group) -> list[list[list[int]]]:
  """Returns the rows of each prompt, those that stay together in one list."""
  groups: dict[bytes, list[list[int]]] = {}
  for first in range(0, len(ends), rows_per_group):
    linked = [r for r in range(first, first + rows_per_group) if ends[r]]
    prompts = {tokens[row, : starts[row]].tobytes() for row in linked}
    if len(prompts) > 1:
      raise ValueError(
        f'rows {first} to {first + rows_per_group - 1}: got {len(prompts)} '
        'prompts; expected one, for rows that a loss needs together; pair '
        'responses to one prompt'
      )
    for prompt in prompts:
      groups.setdefault(prompt, []).append(linked)
  return list(groups.values())


def _pieces(groups, starts, ends, num_columns) -> list[list[Segment]]:
  """Puts the rows of a prompt together, as many as a packed row holds.

  What does not fit a row by itself is a piece that is longer.
  """
  pieces = []
  for group in groups:
    last = int(starts[group[0][0]]) - 1  # the prompt's last token
    size = num_columns  # full: the first response begins a piece
    for linked in group:
      # For each response a copy of that token, and the response.
      num_added = sum(int(ends[row]) - last for row in linked)
      if size + num_added > num_columns:
        pieces.append([(linked[0], 0, last)])
        size = last
      pieces[-1] += [(row, last, int(ends[row])) for row in linked]
      size += num_added
  return [_joined(piece) for piece in pieces]


def _joined(piece: list[Segment]) -> list[Segment]:
  """Joins a prompt and its only response to one segment."""
  if len(piece) > 2:
    return piece
  (row, start, _), (_, _, end) = piece
  return [(row, start, end)]


def _size(piece: list[Segment]) -> int:
  return sum(end - start for _, start, end in piece)


def _first_fit(sizes: Sequence[int], num_columns: int) -> list[int]:
  """Places pieces, the largest first, in the first row with room."""
  rows = [0] * len(sizes)
  room = np.full(len(sizes), num_columns)
  for piece in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
    rows[piece] = row = int(np.argmax(room >= sizes[piece]))
    room[row] -= sizes[piece]
  return rows


def _moved(batch, pieces, rows, shape) -> Batch:
  """Moves the segments of a batch to their places."""
  source = np.zeros(shape, np.int64)  # a token's place in the plain rows
  segments, prefixes = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
  columns = np.zeros(shape[0], int)  # filled in each row
  numbers = np.zeros(shape[0], int)  # segments in each row
  width = batch['mask'].shape[1]
  for piece, row in zip(pieces, rows, strict=True):
    prefix = numbers[row] + 1
    for plain_row, start, end in piece:
      numbers[row] += 1
      place = slice(columns[row], columns[row] + end - start)
      source[row, place] = plain_row * width + np.arange(start, end)
      segments[row, place], prefixes[row, place] = numbers[row], prefix
      columns[row] = place.stop
  is_used = segments > 0
  arrays = {
    name: np.where(is_used, np.ravel(x)[source], 0).astype(x.dtype)
    for name, x in batch.items()
  }
  positions = np.where(is_used, source % width, 0).astype(np.int32)
  return {
    **arrays,
    'segments': segments,
    'prefixes': prefixes,
    'positions': positions,
  }
