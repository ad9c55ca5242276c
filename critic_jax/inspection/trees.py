"""What to look at among records, pure over them.

Records are a tree: a problem has solutions, these have critiques, these have
refinements. A mapping by record is by identity, as records compare so.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from critic_jax.evals import critique_metrics
from critic_jax.objectives import masked
from critic_jax.types import Record


def responses(records: Sequence[Record]) -> dict[Record, list[Record]]:
  """What responds to each record that has a response, in order."""
  found = collections.defaultdict(list)
  for record in records:
    if record.parent is not None:
      found[record.parent].append(record)
  return dict(found)


def family(
  records: Sequence[Record], members: Sequence[Record]
) -> list[Record]:
  """The records above and below any of `members`, and these, in order."""
  chosen = set(members)
  above = {record for member in members for record in member.chain}
  return [
    record
    for record in records
    if record in above or not chosen.isdisjoint(record.chain)
  ]


def advantages(
  records: Sequence[Record],
  *,
  name: str = 'group_relative',
  normalize: bool = True,
) -> dict[Record, float]:
  """The advantages that training gave to the records that have a reward.

  Computed anew from `scores['reward']` among siblings, which files keep
  adjacent; all tokens of a record have its advantage. As
  objectives/advantages.py, without jax. Call it with the settings of the run,
  `**run.config['phases'][phase]['advantage']`.

  Args:
    records: of a step, all of them, in the order they were written.
    name: 'group_relative' or 'leave_one_out'.
    normalize: of 'group_relative'.

  Raises:
    ValueError: another name: such advantages do not follow from rewards alone.
  """
  if name not in ('group_relative', 'leave_one_out'):
    raise ValueError(
      f"advantage: got {name!r}; expected 'group_relative' or 'leave_one_out'; "
      'others do not follow from what is saved'
    )
  found = {}
  for group in _siblings([r for r in records if 'reward' in r.scores]):
    rewards = np.array([r.scores['reward'] for r in group], np.float32)
    known = np.ones(len(group), bool)
    if name == 'group_relative' and normalize:
      relative = masked.whiten(rewards, known)
    else:
      relative = masked.center(rewards, known)
    if name == 'leave_one_out':
      relative = relative * len(group) / max(1, len(group) - 1)
    found |= zip(group, relative.tolist(), strict=True)
  return found


def _siblings(records: Sequence[Record]) -> list[list[Record]]:
  """Runs of records with one parent; a problem drawn twice is two parents."""
  groups = []
  for record in records:
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
  """How often right (True) and wrong solutions got each verdict, or None."""
  counts = {True: collections.Counter(), False: collections.Counter()}
  for critique in critique_metrics.judged(records):
    right = critique_metrics.truth(critique.parent)
    counts[right][critique_metrics.verdict(critique)] += 1
  return counts


def worth(critique: Record, responses: Sequence[Record]) -> float:
  """A critique's reward, or, where none was given, RefCritic's.

  1 for a true verdict, and if it is that a solution is wrong, the share of its
  refinements that are right (rewards/refinement.py, with its default gate).
  """
  if 'reward' in critique.scores:
    return critique.scores['reward']
  said = critique_metrics.verdict(critique)
  right = critique_metrics.truth(critique.parent)
  if said is None or (said == 'correct') != right:
    return 0.0
  refined = [r.parsed['correct'] for r in responses if r.stage == 'refine']
  return 1.0 + (float(np.mean(refined)) if refined and not right else 0.0)


def extremes(
  records: Sequence[Record], n: int = 3
) -> tuple[list[Record], list[Record]]:
  """The critiques that are worth most, and those that are worth least.

  Args:
    records: of a step, or of an evaluation.
    n: how many of each at most, all about different problems.

  Returns:
    The best, the best first, and the worst, the worst first; of critiques that
    were rewarded or whose solution's correctness is known. None is in both.
  """
  below = responses(records)
  judged = set(critique_metrics.judged(records))
  values = {
    record: worth(record, below.get(record, []))
    for record in records
    if record.stage == 'critique'
    and ('reward' in record.scores or record in judged)
  }
  order = sorted(values, key=lambda record: -values[record])
  best = _apart(order, n)
  return best, _apart([r for r in order[::-1] if r not in best], n)


def _apart(records: Sequence[Record], n: int) -> list[Record]:
  """The first n that are about different problems."""
  by_problem = {}
  for record in records:
    by_problem.setdefault(record.problem.id, record)
  return list(by_problem.values())[:n]
