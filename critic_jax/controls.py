"""Refinements that show whether it was the critique that helped.

A control refines a solution with something else in the critique's place:

  refine_empty    nothing: does the solver mend its error by trying again?
  refine_swapped  the conclusion of a critique of another problem's solution
  refine_masked   the conclusion with the reference answer masked

Each is a stage of its own, so that its records and metrics have its name; the
parent of its records is the critique whose place was taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from critic_jax import rollout
from critic_jax.rewards import leaks
from critic_jax.types import Generate, Key, Record, Stage

NAMES = ('empty', 'swapped', 'masked')


def run(
  refine: Stage,
  generate: Generate,
  critiques: Sequence[Record],
  key: Key,
  grade: rollout.Grade,
  *,
  n: int = 1,
) -> list[Record]:
  """Graded refinements of each control.

  Args:
    refine: the stage whose critique is replaced.
    generate: the solver's sampler.
    critiques: those whose place is taken, and whose conclusions are swapped.
    key: consumed; the controls of a critique share their noise.
    grade: final answers to grades.
    n: refinements of each critique and control.

  Returns:
    len(NAMES) * len(critiques) * n records; no 'refine_swapped' where all
    critiques are of one problem.
  """
  shown = [
    *(('empty', critique, '') for critique in critiques),
    *(('swapped', *pair) for pair in _swapped(critiques)),
    *(('masked', critique, leaks.masked(critique)) for critique in critiques),
  ]
  records = rollout.run_graded(
    refine,
    generate,
    [_concluding(critique, text) for _, critique, text in shown],
    key,
    grade,
    n=n,
  )
  return [
    dataclasses.replace(record, stage=f'{refine.name}_{name}', parent=critique)
    for i, (name, critique, _) in enumerate(shown)
    for record in records[i * n : (i + 1) * n]
  ]


def masking(refine: Stage) -> Stage:
  """The stage with the reference answer masked in what the solver is shown.

  A critic that is paid by such refinements gains nothing by naming the answer.
  """

  def prompt(critique):
    return refine.prompt(_concluding(critique, leaks.masked(critique)))

  return refine._replace(prompt=prompt)


def spread(records: Sequence[Record], n: int) -> list[Record]:
  """At most n of the records, evenly spaced."""
  n = min(n, len(records))
  return [records[i * len(records) // n] for i in range(n)]


def _concluding(critique: Record, text: str) -> Record:
  """The critique with another conclusion."""
  parsed = {**critique.parsed, 'conclusion': text}
  return dataclasses.replace(critique, parsed=parsed)


def _swapped(critiques: Sequence[Record]) -> list[tuple[Record, str]]:
  """Each critique with the conclusion of the next one of another problem."""
  pairs = []
  for i, critique in enumerate(critiques):
    for other in (*critiques[i + 1 :], *critiques[:i]):
      if other.problem.id != critique.problem.id:
        pairs.append((critique, other.parsed.get('conclusion') or ''))
        break
  return pairs
