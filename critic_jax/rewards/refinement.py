"""Rewards of solutions and critiques by final answers.

`judge` and `refine` are the dual reward of RefCritic
(https://arxiv.org/abs/2507.15024); `misjudge`, `delta` and `mend` are
Critique-RL's (https://arxiv.org/abs/2510.24320), `passed` is CTRL's
(https://arxiv.org/abs/2502.03492), and `gain` is after ECHO
(https://arxiv.org/abs/2601.06794). Each reward is
`(critique, refinements) -> float`, pure; the total, `judge + refine_weight *
refine`, is a weighted sum made by `rollout.score`. `critique.parent` is the
solution, and its `parsed['correct']` and that of each refinement are bools
which the recipe writes before it scores. A critique that states no verdict
or was cut off earns nothing from any of these rewards, and pays `misjudge`.

A solution is wrong if its final answer is, however it came to it. Where a given
solution has labels of its steps and its answer was not judged, as PRM800K has
it of solutions that end at their first wrong step, it is wrong if a step is.

A grader's timeout is not a wrong answer, and neither is a response that was
never sampled, as its prompt did not fit: a reward that depends on such a grade
is None, and no advantage is made of it. That goes for the mean of refinements,
too, if one of them timed out: over the others alone it would pay a critic for
advice that makes wrong answers hang the grader. A program with an endless loop
is no timeout (`execution/code.py`): it is wrong, and counts as that.

The paper's method section was not available to us: the gate, the weight and
the number of refinements are settings of ours, not the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from critic_jax.rewards import ratings
from critic_jax.types import Problem, Record


def correct(record: Record, responses: Sequence[Record]) -> float | None:
  """Returns 1.0 if a solution's final answer is right, else 0.0."""
  return _mean([record])


def judge(critique: Record, refinements: Sequence[Record]) -> float | None:
  """Returns 1.0 if the verdict is true of the solution, else 0.0.

  Of responses that are scored together it is 1.0 if their scores are right
  (`ratings.is_true`).
  """
  if ratings.is_slate(critique.parent):
    return float(ratings.is_true(critique))
  right = is_right(critique.parent, critique=critique)
  if right is None:
    return None
  if not has_verdict(critique):
    return 0.0
  return float(_calls_right(critique) == right)


def misjudge(critique: Record, refinements: Sequence[Record]) -> float | None:
  """Returns -1.0 if the verdict is false or missing, else 0.0.

  With `judge` it makes Critique-RL's rewards of verdicts: `judge + misjudge` is
  +1 or -1, its first stage, and `0.2 * judge + misjudge` the second's, where -1
  takes the place of what the refinement earns (the gate 'rightly_judged').
  """
  judged = judge(critique, refinements)
  return None if judged is None else judged - 1.0


def refine(
  critique: Record,
  refinements: Sequence[Record],
  *,
  gate: str = 'rightly_called_wrong',
) -> float | None:
  """Returns the share of right refinements if `gate` admits the critique.

  It is 0.0 if the gate does not, and without refinements. Critique-RL's
  r_refine is it with the gate 'rightly_judged': it pays for copying a right
  solution, too.
  """
  right = is_right(critique.parent, critique=critique)
  if right is None and _depends_on_truth(gate, critique):
    return None
  if not admits(gate, critique) or not refinements:
    return 0.0
  return _mean(refinements)


def delta(
  critique: Record, refinements: Sequence[Record], *, gate: str = 'always'
) -> float | None:
  """Returns the change by refining, in [-1, 1]: 1 for wrong to right.

  Critique-RL's r_delta, averaged over the refinements: their share that is
  right, less 1 if the solution was. It is 0.0 without any, and if `gate` does
  not admit the critique. It does not pay for copying a right solution.
  """
  return _by_truth(critique, refinements, gate, lambda x, right: x - right)


def mend(
  critique: Record,
  refinements: Sequence[Record],
  *,
  gate: str = 'always',
  kept: float = 0.2,
) -> float | None:
  """Returns the share of right refinements, worth `kept` of a right solution.

  Critique-RL's r_correct, averaged over the refinements: 1 for wrong to right,
  `kept` for right to right, else 0. It is `refine` if `kept` is 1. It is 0.0
  without refinements, and if `gate` does not admit the critique.
  """
  return _by_truth(
    critique, refinements, gate, lambda x, right: x * (kept if right else 1.0)
  )


def _by_truth(critique, refinements, gate, value) -> float | None:
  """Returns value(share of right refinements, whether the solution is)."""
  right = is_right(critique.parent, critique=critique)
  if right is None:
    return None
  if not admits(gate, critique) or not refinements:
    return 0.0
  share = _mean(refinements)
  return None if share is None else value(share, right)


def passed(
  critique: Record, refinements: Sequence[Record], *, gate: str = 'always'
) -> float | None:
  """Returns the mean share of unit tests that refined programs pass.

  CTRL's reward. Each share is the refinement's `parsed['passed']`
  (`critic_stages.write_shares`); it is `refine` if every problem has one test.
  It is 0.0 without refinements, and if `gate` does not admit the critique: with
  'always' the verdict must be there and may be false. None if a share is not
  known.

  Raises:
    ValueError: a refinement lacks its share.
  """
  right = is_right(critique.parent, critique=critique)
  if right is None and _depends_on_truth(gate, critique):
    return None
  if not admits(gate, critique) or not refinements:
    return 0.0
  for record in refinements:
    if 'passed' not in record.parsed:
      raise ValueError(
        f"parsed['passed'] of {record.id}: got none; expected its share of "
        'tests; write shares before scoring critiques'
      )
  shares = [record.parsed['passed'] for record in refinements]
  return None if None in shares else float(np.mean(shares))


def gain(
  critique: Record,
  refinements: Sequence[Record],
  *,
  gate: str = 'always',
  measure: Callable[[Problem, str], float] | None = None,
  eps: float = 0.1,
) -> float | None:
  """Returns the change by refining, worth more the less there is to improve.

  The mean over refinements of G(s') - G(s), where s is the solution's measure
  and s' the refinement's, in [0, 1], and

      G(s) = log((1 + eps) / (1 - s + eps)) / log((1 + eps) / eps),

  which goes from 0 to 1 and is the steeper the nearer s is to 1. ECHO's reward
  is said to be aware of saturation in this way; its formula was not available
  to us, and this one is ours. Two changes in turn add up to the change in one,
  and what is lost again is paid back. A large eps is no shaping, s' - s; where
  measures are 0 or 1 it is `delta`, whatever eps is.

  It is 0.0 without refinements, and if `gate` does not admit the critique; None
  if a grade is not known.

  Args:
    critique: a critique of a graded solution.
    refinements: its graded refinements.
    gate: see `admits`.
    measure: (problem, text) -> how much of it is right; None: the answer's
      grade.
    eps: the distance from 1 at which a change is worth half as much as at 1.

  Raises:
    ValueError: eps is not above 0, or a measure is not in [0, 1].
  """
  if not eps > 0:
    raise ValueError(f'eps: got {eps}; expected a number above 0')
  records = [critique.parent, *refinements]
  grades = [is_right(record, critique=critique) for record in records]
  if grades[0] is None:
    return None
  if not admits(gate, critique) or not refinements:
    return 0.0
  if None in grades:
    return None
  shares = np.array(grades, float)
  if measure:
    shares = np.array([measure(r.problem, r.text) for r in records], float)
    if not ((shares >= 0) & (shares <= 1)).all():
      raise ValueError(
        f'measure: got {shares.tolist()} of {critique.parent.id} and its '
        'refinements; expected numbers from 0 to 1'
      )
  before, *after = -np.log1p(-shares / (1 + eps)) / np.log1p(1 / eps)
  return float(np.mean(after) - before)


# Rewards that a critique earns by its refinements; a setting names one.
HELPFUL: dict[str, Callable[..., float | None]] = {
  'refine': refine,
  'delta': delta,
  'mend': mend,
  'passed': passed,
  'gain': gain,
}


def is_right(
  record: Record | None, *, critique: Record | None = None
) -> bool | None:
  """Returns whether an answer is right; None where that is not known.

  It is not where the grader timed out, nor where nothing was sampled, nor of
  responses that are scored together.
  A response that was cut off is not right, whatever its grade. The grade is
  read strictly: a string 'False' must not count as true. Without a grade the
  labels of a given solution's steps decide.

  Args:
    record: a solution or refinement; None, a missing solution, is an error.
    critique: the critique of the solution, which the error then names.
  """
  if ratings.is_slate(record):
    return None
  correct = record.parsed.get('correct') if record is not None else None
  if correct is None and record is not None:
    first_error = record.parsed.get('first_error')
    correct = None if first_error is None else first_error == -1
  if not isinstance(correct, bool | np.bool_):
    source = record.id if record is not None else f'the parent of {critique.id}'
    raise ValueError(
      f"parsed['correct'] of {source}: got {correct!r}; expected a bool; grade"
      ' solutions and refinements before scoring critiques'
    )
  return None if record.undetermined else bool(correct)


def admits(gate: str, critique: Record) -> bool:
  """Whether a critique may earn `refine`, and so is refined.

  Args:
    gate: 'rightly_called_wrong' (the solution is wrong and called wrong),
      'rightly_judged' (it is called what it is), 'wrong' (it is wrong),
      'called_wrong' (it is called wrong) or 'always'. None of them admits a
      critique without a verdict, and the first three none of a solution whose
      grader timed out.
    critique: a critique whose solution is graded.

  Raises:
    ValueError: there is no such gate, or the solution is not graded.
  """
  check_gate(gate)
  right = is_right(critique.parent, critique=critique)
  if not has_verdict(critique):
    return False
  return GATES[gate](right, _calls_right(critique))


def check_gate(gate: str) -> None:
  """Raises ValueError if there is no such gate."""
  if gate not in GATES:
    raise ValueError(
      f'gate: got {gate!r}; expected one of {sorted(GATES)}; name one of them'
    )


def _rightly_called_wrong(right: bool | None, called_right: bool) -> bool:
  return right is False and not called_right


def _rightly_judged(right: bool | None, called_right: bool) -> bool:
  return right is called_right


def _wrong(right: bool | None, called_right: bool) -> bool:
  return right is False


def _called_wrong(right: bool | None, called_right: bool) -> bool:
  return not called_right


def _always(right: bool | None, called_right: bool) -> bool:
  return True


# Is the solution right (None: its grader timed out), and is it called right?
GATES: dict[str, Callable[[bool | None, bool], bool]] = {
  'rightly_called_wrong': _rightly_called_wrong,
  'rightly_judged': _rightly_judged,
  'wrong': _wrong,
  'called_wrong': _called_wrong,
  'always': _always,
}


def _depends_on_truth(gate: str, critique: Record) -> bool:
  """Whether a gate admits a critique by whether its solution is right."""
  check_gate(gate)
  if not has_verdict(critique):
    return False
  called_right = _calls_right(critique)
  return GATES[gate](True, called_right) != GATES[gate](False, called_right)


def _mean(records: Sequence[Record]) -> float | None:
  """Returns the share of right records; None if that of one is not known."""
  grades = [is_right(record) for record in records]
  return None if None in grades else float(np.mean(grades))


def has_verdict(critique: Record) -> bool:
  """Whether a critique states one verdict, and was not cut off."""
  is_whole = critique.finish == 'stop'
  return critique.parsed.get('status') == 'ok' and is_whole


def _calls_right(critique: Record) -> bool:
  return critique.parsed['verdict'] == 'correct'
