"""Rewards of an attacker and a critic, who play against each other.

After SPC (https://arxiv.org/abs/2504.19162): the attacker rewrites a right
solution so that a given step is wrong, and the critic judges it. Who wins gets
1 and who loses -1. A critic's reward is `judge + misjudge` of refinement.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from critic_jax.rewards import refinement
from critic_jax.types import Record


def breaks(attack: Record, critiques: Sequence[Record] = ()) -> float | None:
  """Returns 1.0 if an attack breaks the solution, else 0.0.

  Its answer is wrong; and where its steps are labelled, its first wrong step is
  the one that it was told, so that neither the steps before are changed nor all
  is thrown away. The paper compares how often completions succeed after both
  steps; here it is exact. None where the answer's grade is not known.

  Args:
    attack: graded; its parent is the order, with `parsed['target']`, the step
      from 0.
    critiques: not read.
  """
  right = refinement.is_right(attack)
  if right is None:
    return None
  label = attack.parsed.get('first_error')
  is_told = label in (None, attack.parent.parsed['target'])
  return float(not right and is_told)


def outwit(attack: Record, critiques: Sequence[Record]) -> float | None:
  """Returns minus the mean reward of the critics who judged an attack.

  Of one critic it is 1 if it was fooled and -1 if not: the game is zero-sum. An
  attack that breaks nothing loses without being shown, -1. None where nobody
  could judge it.

  Args:
    attack: as of `breaks`.
    critiques: of it, scored.
  """
  is_valid = breaks(attack)
  if not is_valid:
    return None if is_valid is None else -1.0
  rewards = [c.scores['reward'] for c in critiques if 'reward' in c.scores]
  return -float(np.mean(rewards)) if rewards else None
