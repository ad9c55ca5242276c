"""Measures scores of steps by the first one below a threshold.

ProcessBench's form for process reward models
(https://arxiv.org/abs/2412.06559): a solution's predicted first wrong step is
the first whose score is below the threshold, -1 if none is; the threshold is
the one with the best F1 on one part, GSM8K, and the same for all parts. It is
never tuned on what it is measured by: without that part, and others beside it,
nothing here is tuned.

Scores are `solution.parsed['step_scores']`, in [0, 1]. `critiques` says what a
threshold finds as critiques do, so that all protocols measure it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from critic_jax.evals import processbench
from critic_jax.evals.statistics import Estimate
from critic_jax.rewards import verdicts
from critic_jax.types import Record

TUNED_ON = 'gsm8k'
_NO_TOKENS, _NO_LOGPROBS = np.zeros(0, np.int32), np.zeros(0, np.float32)


def first_below(scores: Sequence[float], threshold: float) -> int:
  """Returns the first step whose score is below a threshold, or -1.

  >>> first_below([0.9, 0.5, 0.2], 0.5)
  2
  """
  below = np.flatnonzero(np.asarray(scores) < threshold)
  return int(below[0]) if len(below) else -1


def best_threshold(
  scores: Sequence[Sequence[float]], labels: Sequence[int]
) -> float:
  """Returns a threshold with the best F1 of first wrong steps.

  F1 is the harmonic mean of the accuracies on erroneous and on correct
  solutions. It changes at scores only; of equally good thresholds the lowest
  is taken, in the middle of two scores.

  Args:
    scores: those of each solution's steps.
    labels: the first wrong step of each solution, -1 for none.

  Raises:
    ValueError: there are no erroneous, or no correct solutions.
  """
  labels = np.asarray(labels)
  wrong = labels != -1
  if not 0 < wrong.sum() < len(labels):
    raise ValueError(
      f'labels: got {wrong.sum()} erroneous of {len(labels)} solutions; '
      'expected both kinds, to tune a threshold on'
    )
  levels = np.unique(np.concatenate([np.asarray(s) for s in scores]))
  middles = (levels[:-1] + levels[1:]) / 2
  candidates = [0.0, *middles.tolist(), np.nextafter(1.0, 2.0)]
  f1 = []
  for threshold in candidates:
    hits = np.array([first_below(s, threshold) for s in scores]) == labels
    rates = hits[wrong].mean(), hits[~wrong].mean()
    f1.append(2 * rates[0] * rates[1] / max(sum(rates), 1e-9))
  return float(candidates[int(np.argmax(f1))])


def critiques(solutions: Sequence[Record], threshold: float) -> list[Record]:
  """Writes what a threshold finds as critiques, one of each scored solution."""
  written = []
  for solution in solutions:
    if not solution.parsed.get('step_scores'):
      continue
    step = first_below(solution.parsed['step_scores'], threshold)
    text = (
      'Verdict: correct'
      if step < 0
      else f'Step {step + 1} is wrong.\nVerdict: incorrect'
    )
    written.append(
      Record(
        solution.problem,
        'critique',
        solution,
        0,
        _NO_TOKENS,
        _NO_TOKENS,
        _NO_LOGPROBS,
        text,
        parsed=verdicts.parse(text),
      )  # fmt: skip
    )
  return written


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns the measures of the threshold that is best on one part.

  Args:
    records: solutions, of which those with scores and a label count.

  Returns:
    'threshold', which has no interval; the F1 of all parts and each part's, as
    in `processbench`; and 'heldout_f1', the mean over the parts that it was not
    tuned on. {} without several parts of which `TUNED_ON` is one.
  """
  solutions = _labelled(records)
  own = [s for s in solutions if processbench.part(s) == TUNED_ON]
  others = [s for s in solutions if processbench.part(s) != TUNED_ON]
  if not own or not others:
    return {}
  threshold = best_threshold(
    [s.parsed['step_scores'] for s in own],
    [s.parsed['first_error'] for s in own],
  )
  by_part = processbench.metrics(critiques(solutions, threshold))
  heldout = processbench.metrics(critiques(others, threshold))
  return {
    'threshold': Estimate(threshold, threshold, threshold, len(own)),
    'heldout_f1': heldout['f1'],
    **{name: x for name, x in by_part.items() if name.endswith('f1')},
  }


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns nothing: two thresholds differ in what they were tuned on."""
  del before, after
  return {}


def _labelled(records) -> list[Record]:
  """Returns the solutions with scores and a label."""
  return [
    record
    for record in records
    if record.stage == 'solve'
    and record.parsed.get('step_scores')
    and record.parsed.get('first_error') is not None
  ]
