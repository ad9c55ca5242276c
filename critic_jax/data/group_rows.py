"""Lays out groups of scored siblings as rows with their advantages.

A group has G records with one parent, adjacent, whose rewards are compared with
each other. The arrays are those of `batching`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from critic_jax import lookup
from critic_jax.objectives import advantages
from critic_jax.rollouts import balance, rollout
from critic_jax.types import Batch, Record


def make_group_rows(
  to_rows: Callable[..., Batch],
  advantage: Mapping,
  num_siblings: int,
  *,
  is_balanced: bool = False,
) -> Callable[[Sequence[Record]], Batch]:
  """Makes the step from scored records to plain rows with advantages.

  Args:
    to_rows: the first result of `batching.make_rows`.
    advantage: a name and keywords of `objectives/advantages.py`.
    num_siblings: G, the records of a group.
    is_balanced: whether as many groups of critiques of right solutions are
      learned from as of wrong ones (`balance.groups`).

  Returns:
    `records -> batch`, a row for each record; one whose reward could not be
    determined is an empty row.

  Raises:
    ValueError: a setting is wrong.
  """
  advantage_fn = lookup.bind(advantages, advantage, 'advantage')

  def to_group_rows(records):
    values, where = rollout.group_advantages(
      records, advantage_fn, num_siblings
    )
    if is_balanced:
      where = balance.groups(records, values, where, num_siblings)
    return to_rows(records, values, where)

  return to_group_rows
