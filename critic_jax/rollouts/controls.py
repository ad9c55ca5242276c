"""Controls: refinements that show whether it was the critique that helped.

A control refines a solution with something else in the critique's place:

  refine_empty    no critique: does the solver mend its error by trying again?
  refine_swapped  the conclusion of a critique of another problem's solution
  refine_masked   the conclusion without what may be the answer (leaks.py)

Each is a stage of its own, so that its records and metrics have its name; the
parent of its records is the critique whose place was taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from critic_jax.rewards import leaks
from critic_jax.rollouts import rollout
from critic_jax.types import Key, Record, Stage

NAMES = ('empty', 'swapped', 'masked')


def requests(
  refine: Stage,
  critiques: Sequence[Record],
  key: Key,
  *,
  n: int = 1,
  max_prompts: int = 0,
) -> list[rollout.Request]:
  """Requests the refinements of the controls, one for each of `NAMES`.

  Args:
    refine: the stage whose critique is replaced.
    critiques: the critiques that are replaced; their conclusions are swapped.
    key: consumed; the controls of a critique share their noise.
    n: refinements of each critique and control.
    max_prompts: critiques at other steps, if there may be more than now.

  Returns:
    Requests of the stages 'refine_empty', 'refine_swapped' and 'refine_masked'.
    The second has no critiques if all are about one problem.
  """
  empty = {id(critique): '' for critique in critiques}
  swapped = _swapped(critiques)
  masked = {id(critique): leaks.masked(critique) for critique in critiques}
  return [
    rollout.Request(
      _concluding_with(refine, name, texts),
      [critique for critique in critiques if id(critique) in texts],
      key,
      n,
      max_prompts,
    )
    for name, texts in zip(NAMES, (empty, swapped, masked), strict=True)
  ]


def _concluding_with(refine: Stage, name: str, texts) -> Stage:
  """Makes a control; `texts` has other conclusions, by id of the critique."""

  def prompt(critique):
    return refine.prompt(_concluding(critique, texts[id(critique)]))

  return refine._replace(
    name=f'{refine.name}_{name}', prompt=prompt, control_of=refine.name
  )


def masking(refine: Stage) -> Stage:
  """Returns the stage that masks in conclusions what may be the answer.

  A critic that is paid for such refinements gains nothing by naming the answer,
  nor by naming many for the mask to choose from (`leaks.masked`).
  """

  def prompt(critique):
    return refine.prompt(_concluding(critique, leaks.masked(critique)))

  return refine._replace(prompt=prompt)


def spread(records: Sequence[Record], n: int) -> list[Record]:
  """Picks at most n of the records, evenly spaced."""
  n = min(n, len(records))
  return [records[i * len(records) // n] for i in range(n)]


def _concluding(critique: Record, text: str) -> Record:
  """Returns the critique with another conclusion."""
  parsed = {**critique.parsed, 'conclusion': text}
  return dataclasses.replace(critique, parsed=parsed)


def _swapped(critiques: Sequence[Record]) -> dict[int, str]:
  """Finds each critique's replacement, the next about another problem."""
  conclusions = {}
  for i, critique in enumerate(critiques):
    for other in (*critiques[i + 1 :], *critiques[:i]):
      if other.problem.id != critique.problem.id:
        conclusions[id(critique)] = other.parsed.get('conclusion') or ''
        break
  return conclusions
