"""Navigates trees of records: families, advantages, best and worst critiques.

A problem has solutions, these have critiques, these have refinements. Functions
are pure. Records compare by identity, and so do the keys of mappings by record.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from critic_jax.evals import critique_metrics
from critic_jax.objectives import masked
from critic_jax.types import Record


def responses(records: Sequence[Record]) -> dict[Record, list[Record]]:
  """Returns the responses to each record that has any, in order."""
  children = collections.defaultdict(list)
  for record in records:
    if record.parent is not None:
      children[record.parent].append(record)
  return dict(children)


def family(
  records: Sequence[Record], members: Sequence[Record]
) -> list[Record]:
  """Returns `members` with their ancestors and descendants, in order."""
  chosen = set(members)
  ancestors = {record for member in members for record in member.chain}
  return [
    record
    for record in records
    if record in ancestors or not chosen.isdisjoint(record.chain)
  ]


def advantages(
  records: Sequence[Record],
  *,
  name: str = 'group_relative',
  normalize: bool = True,
) -> dict[Record, float]:
  """Returns the advantages that training gave to the records with a reward.

  They are computed from `scores['reward']` among siblings, which files keep
  adjacent, as in objectives/advantages.py but without jax. All tokens of a
  record share its advantage. Call it with the settings of the run,
  `**run.config['phases'][phase]['advantage']`.

  Args:
    records: all records of a step, in the order they were written.
    name: 'group_relative' or 'leave_one_out'.
    normalize: the setting of 'group_relative'.

  Raises:
    ValueError: another name; such advantages do not follow from rewards alone.
  """
  if name not in ('group_relative', 'leave_one_out'):
    raise ValueError(
      f"advantage: got {name!r}; expected 'group_relative' or 'leave_one_out'; "
      'others do not follow from what is saved'
    )
  by_record = {}
  for group in _siblings([r for r in records if 'reward' in r.scores]):
    rewards = np.array([r.scores['reward'] for r in group], np.float32)
    # All of a group count; numpy here, since a reader needs no jax.
    mask = np.ones(len(group), bool)
    if name == 'group_relative' and normalize:
      relative = masked.whiten(rewards, mask)
    else:
      relative = masked.center(rewards, mask)
    if name == 'leave_one_out':
      relative = relative * len(group) / max(1, len(group) - 1)
    by_record |= zip(group, relative.tolist(), strict=True)
  return by_record


def _siblings(records: Sequence[Record]) -> list[list[Record]]:
  """Splits records into siblings; a problem drawn twice has two groups."""
  groups = []
  for record in records:
    # Siblings are adjacent and counted up; a smaller index is another draw.
    last = groups[-1][-1] if groups else None
    if (
      last is not None
      and record.parent is last.parent
      and record.problem == last.problem
      and record.stage == last.stage
      and record.index > last.index
    ):
      groups[-1].append(record)
    else:
      groups.append([record])
  return groups


def confusion(
  records: Sequence[Record],
) -> dict[bool, collections.Counter[str | None]]:
  """Counts each verdict (or None) on right (True) and on wrong solutions."""
  counts = {True: collections.Counter(), False: collections.Counter()}
  for critique in critique_metrics.judged(records):
    right = critique_metrics.truth(critique.parent)
    counts[right][critique_metrics.verdict(critique)] += 1
  return counts


def worth(critique: Record, responses: Sequence[Record]) -> float:
  """Returns a critique's reward, or RefCritic's reward if it has none.

  That is 1 for a true verdict, plus the share of right refinements if the
  solution is wrong (rewards/refinement.py, with its default gate).
  """
  if 'reward' in critique.scores:
    return critique.scores['reward']
  if not critique_metrics.is_true(critique):
    return 0.0
  grades = [critique_metrics.truth(r) for r in responses if r.stage == 'refine']
  refined = [right for right in grades if right is not None]
  if critique_metrics.truth(critique.parent) or not refined:
    return 1.0
  return 1.0 + float(np.mean(refined))


def extremes(
  records: Sequence[Record], n: int = 3
) -> tuple[list[Record], list[Record]]:
  """Returns the critiques of the highest and of the lowest `worth`.

  Args:
    records: the records of a step, or of an evaluation.
    n: the largest number of each, all about different problems.

  Returns:
    The best critiques, best first, and the worst, worst first, without overlap.
    Critiques need a reward, or a solution of known correctness.
  """
  children = responses(records)
  judged = set(critique_metrics.judged(records))
  values = {
    record: worth(record, children.get(record, []))
    for record in records
    if record.stage == 'critique'
    and ('reward' in record.scores or record in judged)
  }
  order = sorted(values, key=lambda record: -values[record])
  # The best come first: with few critiques, none is both best and worst.
  best = _apart(order, n)
  return best, _apart([r for r in order[::-1] if r not in best], n)


def _apart(records: Sequence[Record], n: int) -> list[Record]:
  """Returns the first n records that are about different problems."""
  by_problem = {}
  for record in records:
    by_problem.setdefault(record.problem.id, record)
  return list(by_problem.values())[:n]
