"""Contrasts: where a wrong path leaves a right one.

After MMC (https://arxiv.org/abs/2504.11009): a path is a sampled solution. A
wrong one is laid beside the right one of the same problem that shares most of
its beginning, and its critique is of the step at which they part. No step is
labelled; that the answers are right or wrong is all that is known.

The step at which they part need not be the first wrong one. It comes before it
where a right path has its steps in another order or in other words; it comes
after it where a right path begins with the same wrong step, and reaches the
right answer all the same; such a path is itself taken for right in every step.
`step_labels.locate` of critiques says how often, where somebody knows labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from critic_jax.rewards import refinement
from critic_jax.types import Record


def steps(text: str) -> list[str]:
  r"""Returns the steps of a solution: its lines that are not blank, stripped.

  >>> steps(' 1 + 1 = 2\n\n2 + 1 = 3 ')
  ['1 + 1 = 2', '2 + 1 = 3']
  """
  lines = (line.strip() for line in text.split('\n'))
  return [line for line in lines if line]


def divergence(
  path: Sequence[str], others: Sequence[Sequence[str]]
) -> tuple[int, int]:
  """Returns where a path leaves the nearest of others, and which that is.

  The nearest one has the longest common prefix with the path; of several the
  shortest, and of these the first. So a path among the others is its own
  nearest one, but for copies.

  >>> divergence('abcx', ['ax', 'abd', 'abcde'])
  (3, 2)

  Args:
    path: steps of a solution.
    others: steps of solutions, one at least.

  Returns:
    The number of first steps that both have, which is the index, from 0, of the
    step at which they part: len(path) if the path ends there. And the index of
    the nearest one in `others`.

  Raises:
    ValueError: there are no others.
  """
  if not others:
    raise ValueError(
      'others: got no paths; expected one at least; leave out problems that '
      'no path solves'
    )
  shared = [_num_shared(path, other) for other in others]
  nearest = max(range(len(others)), key=lambda i: (shared[i], -len(others[i])))
  return shared[nearest], nearest


def _num_shared(path, other) -> int:
  """Returns the length of the longest common prefix."""
  pairs = zip(path, other, strict=False)
  return next(
    (i for i, (a, b) in enumerate(pairs) if a != b), min(len(path), len(other))
  )


def write(solutions: Sequence[Record], num_siblings: int) -> list[Record]:
  """Returns the solutions with the right path that each is laid beside.

  Args:
    solutions: graded solutions, the siblings of each problem adjacent.
    num_siblings: solutions of each problem.

  Returns:
    The solutions with `parsed['contrast']`, the text of the nearest right
    sibling; of a right solution it has the same steps. It is None where there
    is no right sibling, and where the grade is not known.
  """
  contrasted = []
  for i in range(0, len(solutions), num_siblings):
    siblings = solutions[i : i + num_siblings]
    grades = [refinement.is_right(solution) for solution in siblings]
    rights = [
      s.text for s, grade in zip(siblings, grades, strict=True) if grade
    ]
    paths = [steps(text) for text in rights]
    for solution, grade in zip(siblings, grades, strict=True):
      contrast = None
      if paths and grade is not None:
        contrast = rights[divergence(steps(solution.text), paths)[1]]
      parsed = {**solution.parsed, 'contrast': contrast}
      contrasted.append(dataclasses.replace(solution, parsed=parsed))
  return contrasted
