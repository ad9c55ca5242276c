"""Rewards of solutions and critiques by final answers.

`judge` and `refine` are the dual reward of RefCritic
(https://arxiv.org/abs/2507.15024). Each reward is
`(critique, refinements) -> float`, pure; the total, `judge + refine_weight *
refine`, is a weighted sum made by `rollout.score`. `critique.parent` is the
solution, and its `parsed['correct']` and that of each refinement are bools
which the recipe writes before it scores. A critique that states no verdict
or was cut off earns nothing from any of these rewards.

The paper's method section was not available to us: the gate, the weight and
the number of refinements are settings of ours, not the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from critic_jax.types import Record


def correct(record: Record, responses: Sequence[Record]) -> float:
  """Returns 1.0 if a solution's final answer is right, else 0.0."""
  return float(_correct(record))


def judge(critique: Record, refinements: Sequence[Record]) -> float:
  """Returns 1.0 if the verdict is true of the solution, else 0.0."""
  right = _correct(critique.parent, critique=critique)
  if not _has_verdict(critique):
    return 0.0
  return float(_calls_right(critique) == right)


def refine(
  critique: Record,
  refinements: Sequence[Record],
  *,
  gate: str = 'rightly_called_wrong',
) -> float:
  """Returns the share of right refinements if `gate` admits the critique.

  It is 0.0 if the gate does not, and without refinements.
  """
  if not admits(gate, critique) or not refinements:
    return 0.0
  return float(np.mean([_correct(r) for r in refinements]))


def delta(critique: Record, refinements: Sequence[Record]) -> float:
  """Returns the change by refining, in [-1, 1]: 1 for wrong to right.

  Critique-RL's r_delta (https://arxiv.org/abs/2510.24320), averaged over the
  refinements; 0.0 without any. It does not pay for copying a right solution.
  """
  right = _correct(critique.parent, critique=critique)
  if not _has_verdict(critique) or not refinements:
    return 0.0
  return float(np.mean([_correct(r) for r in refinements]) - right)


def admits(gate: str, critique: Record) -> bool:
  """Whether a critique may earn `refine`, and so is refined.

  Args:
    gate: 'rightly_called_wrong' (the solution is wrong and called wrong),
      'wrong' (it is wrong), 'called_wrong' (it is called wrong) or 'always'.
      None of them admits a critique without a verdict.
    critique: a critique whose solution is graded.

  Raises:
    ValueError: there is no such gate, or the solution is not graded.
  """
  check_gate(gate)
  right = _correct(critique.parent, critique=critique)
  if not _has_verdict(critique):
    return False
  return GATES[gate](right, _calls_right(critique))


def check_gate(gate: str) -> None:
  """Raises ValueError if there is no such gate."""
  if gate not in GATES:
    raise ValueError(
      f'gate: got {gate!r}; expected one of {sorted(GATES)}; name one of them'
    )


def _rightly_called_wrong(right: bool, called_right: bool) -> bool:
  return not right and not called_right


def _wrong(right: bool, called_right: bool) -> bool:
  return not right


def _called_wrong(right: bool, called_right: bool) -> bool:
  return not called_right


def _always(right: bool, called_right: bool) -> bool:
  return True


GATES: dict[str, Callable[[bool, bool], bool]] = {
  'rightly_called_wrong': _rightly_called_wrong,
  'wrong': _wrong,
  'called_wrong': _called_wrong,
  'always': _always,
}


def _has_verdict(critique: Record) -> bool:
  return critique.parsed.get('status') == 'ok' and not critique.truncated


def _calls_right(critique: Record) -> bool:
  return critique.parsed['verdict'] == 'correct'


def _correct(record: Record | None, *, critique: Record | None = None) -> bool:
  """Reads the grade strictly: a string 'False' must not count as true.

  Args:
    record: a solution or refinement; None, a missing solution, is an error.
    critique: the critique of the solution, which the error then names.
  """
  correct = record.parsed.get('correct') if record is not None else None
  if not isinstance(correct, bool | np.bool_):
    source = record.id if record is not None else f'the parent of {critique.id}'
    raise ValueError(
      f"parsed['correct'] of {source}: got {correct!r}; expected a bool; grade"
      ' solutions and refinements before scoring critiques'
    )
  return bool(correct)
