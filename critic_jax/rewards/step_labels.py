"""Rewards of critiques by step labels: the first wrong step, or all of them.

RefCritic does without such labels; critics of people's labels are trained by
them, e.g. DeepCritic's (https://arxiv.org/abs/2505.00662). Steps are counted
from 0, -1 is none (https://arxiv.org/abs/2412.06559).

`overlap` and `agreement` score a critique by all steps that it names, as
Critic-V (https://arxiv.org/abs/2411.18203) does with errors that were planted.
They need marks, `parsed['marks']`: for each step whether it is wrong.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

from critic_jax import lookup
from critic_jax.rewards import refinement, step_values, verdicts
from critic_jax.types import Problem, Record

# Rules that read labels, and the settings of their weights.
_READERS = dict(locate='step_weight', distance='graded.distance.weight')


def bind(
  first_error: Mapping, weights: Mapping[str, float]
) -> Callable[[Sequence[Record]], Sequence[Record]]:
  """Returns what writes labels into solutions, by settings.

  Args:
    first_error: who knows the labels, a `module` of critic_jax.tasks with a
      name and keywords of its function `(problem, text) -> index`;
      `module=''` for nobody: solutions stay as they are.
    weights: of rules by name, where nobody else gives labels; else none.

  Raises:
    ValueError: a name is wrong, or labels are needed and nobody knows them.
  """
  with lookup.naming('first_error'):
    lookup.check_has('name', first_error, 'function of critic_jax.tasks')
  label = lookup.bind_task(first_error, 'first_error', ('problem', 'text'))
  if label:
    return functools.partial(write, first_error=label)
  for rule, setting in _READERS.items():
    if weights.get(rule):
      raise ValueError(
        f'{setting}: got {weights[rule]} without labels of steps; expected '
        'who knows them; set first_error.module and first_error.name'
      )
  return lambda solutions: solutions


def write(
  solutions: Sequence[Record], first_error: Callable[[Problem, str], int]
) -> list[Record]:
  """Returns the solutions with their labels: `parsed['first_error']`.

  Args:
    solutions: solve records; one that was refused has no text, and no label.
    first_error: (problem, solution) -> index of its first wrong step, or -1.
  """
  return _written(solutions, 'first_error', first_error)


def write_marks(
  solutions: Sequence[Record], step_marks: Callable[[Problem, str], list[bool]]
) -> list[Record]:
  """Returns the solutions with their marks: `parsed['marks']`.

  Args:
    solutions: solve records; one that was refused has no text, and no marks.
    step_marks: (problem, solution) -> for each step whether it is wrong.
  """
  return _written(solutions, 'marks', step_marks)


def _written(solutions, name, label) -> list[Record]:
  return [
    s
    if s.refused
    else dataclasses.replace(
      s, parsed={**s.parsed, name: label(s.problem, s.text)}
    )
    for s in solutions
  ]


def locate(critique: Record, refinements: Sequence[Record]) -> float | None:
  """Returns 1.0 if the critique's verdict and first wrong step are the label's.

  On a right solution the verdict is all there is to say. A critique without a
  verdict, or one that was cut off, earns nothing, and neither does
  'incorrect' without a step. None for a refused solution, and where there is
  no label (`first_error`).

  Raises:
    ValueError: nobody labelled the solution.
  """
  if critique.parent.refused:
    return None
  label = first_error(critique.parent)
  if label is None:
    return None
  if not refinement.has_verdict(critique):
    return 0.0
  if critique.parsed['verdict'] == 'correct':
    return float(label == -1)
  return float(label >= 0 and critique.parsed.get('step') == label)


def first_error(solution: Record) -> int | None:
  """Returns the label of a solution: its first wrong step, or -1.

  The label is read from `parsed['targets']` where a solution has them
  (`step_values`), whatever the truth is, and nobody is paid where they are
  None; else it is `parsed['first_error']`.

  Raises:
    ValueError: nobody labelled the solution.
  """
  label = solution.parsed.get('first_error')
  if 'targets' in solution.parsed:
    targets = solution.parsed['targets']
    return None if targets is None else step_values.first_wrong(targets)
  if label is None:
    raise ValueError(
      f"parsed['first_error'] of {solution.id}: got none; expected the "
      'index of its first wrong step, or -1; label solutions before scoring '
      'critiques'
    )
  return label


def overlap(critique: Record, refinements: Sequence[Record]) -> float | None:
  """Returns the overlap of the steps named wrong with those that are.

  It is the Jaccard index, |named and wrong| / |named or wrong|, and 1.0 if both
  are none (https://arxiv.org/abs/2411.18203, where a model estimates it). A
  critique earns nothing if it has no verdict, was cut off, or if its verdict is
  not what the steps say that it names: 'incorrect' for some, 'correct' for
  none. None for a refused solution.

  Raises:
    ValueError: the solution has no marks.
  """
  sets = _named_and_wrong(critique)
  if not isinstance(sets, tuple):
    return sets
  named, wrong, _ = sets
  return len(named & wrong) / len(named | wrong) if named | wrong else 1.0


def agreement(critique: Record, refinements: Sequence[Record]) -> float | None:
  """Returns the share of steps that the critique takes for what they are.

  A step that it names and the solution does not have is one more, taken
  wrongly. It stands for the grade that Critic-V has a model give beside the
  overlap; conditions are those of `overlap`.

  Raises:
    ValueError: the solution has no marks.
  """
  sets = _named_and_wrong(critique)
  if not isinstance(sets, tuple):
    return sets
  named, wrong, steps = sets
  return 1 - len(named ^ wrong) / len(named | steps)


def _named_and_wrong(
  critique: Record,
) -> tuple[set[int], set[int], set[int]] | float | None:
  """Returns the steps that are named, those that are wrong, and all steps.

  Or what the critique earns, if these do not matter.
  """
  solution = critique.parent
  if solution.refused:
    return None
  marks = solution.parsed.get('marks')
  if not marks:
    raise ValueError(
      f"parsed['marks'] of {solution.id}: got {marks!r}; expected for each of "
      'its steps whether it is wrong; mark solutions before scoring critiques'
    )
  if not refinement.has_verdict(critique):
    return 0.0
  named = verdicts.wrong_steps(critique.text)
  if bool(named) != (critique.parsed['verdict'] == 'incorrect'):
    return 0.0
  wrong = {i for i, is_wrong in enumerate(marks) if is_wrong}
  return named, wrong, set(range(len(marks)))
