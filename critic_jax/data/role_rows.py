"""Lays out the responses of several roles as the rows of one batch.

Each role's loss is normalised over its own responses, so that how much one
writes changes nothing for another. Metrics are means over the tokens of all.
Rows have one array more than those of `batching`: writers, int32[B, T], is the
number of the role that wrote a trained token, from 1; 0 where masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from critic_jax.data import batching
from critic_jax.objectives import masked
from critic_jax.sampling.lm import LM
from critic_jax.types import Batch


def make_role_rows(
  models: Mapping[str, LM],
  num_rows: Mapping[str, int],
  *,
  aggregate: str,
  row_shapes: Sequence[tuple[int, int]],
  microbatches: int,
) -> tuple[Callable[..., Batch], Callable[[Batch], Batch]]:
  """Makes the two steps from records of several roles to a batch's rows.

  Args:
    models: LMs by role.
    num_rows: the largest number of plain rows of each role, in their order.
    aggregate, row_shapes, microbatches: as of `batching.make_rows`.

  Returns:
    `{role: (records, advantages, where)} -> batch` of plain rows, and
    `batch -> batch`, which packs them.

  Raises:
    ValueError: as `batching.make_rows` does.
  """
  [first, *_] = num_rows
  _, pack = batching.make_rows(
    models[first],
    num_rows=sum(num_rows.values()),
    aggregate=aggregate,
    row_shapes=row_shapes,
    microbatches=microbatches,
  )

  def to_rows(learned):
    parts = []
    for number, (role, size) in enumerate(num_rows.items(), 1):
      records, advantages, where = learned[role]
      part = batching.from_records(
        records,
        models[role],
        num_rows=size,
        aggregate=aggregate,
        advantages=advantages,
        where=where,
      )
      part['writers'] = part['mask'] * np.int32(number)
      parts.append(part)
    columns = max(part['mask'].shape[1] for part in parts)
    batch = {
      name: np.concatenate([_widened(part[name], columns) for part in parts])
      for name in parts[0]
    }
    batch['mean_weights'] = masked.loss_weights(batch['mask'], 'token')
    return batch

  return to_rows, pack


def _widened(x: np.ndarray, columns: int) -> np.ndarray:
  """Pads [B, T] with columns of zeros."""
  return np.pad(x, ((0, 0), (0, columns - x.shape[1])))
