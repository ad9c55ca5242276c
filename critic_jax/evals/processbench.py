r"""Measures how well critiques locate the first wrong step, as ProcessBench.

ProcessBench (https://arxiv.org/abs/2412.06559, section 4.1, and its released
`run_eval.py`): a solution's label is the index of its first wrong step, counted
from 0, or -1 if there is none; a critique predicts an index, and is right if
that is the label. The score of a part of the benchmark is the F1, the harmonic
mean of the accuracies on erroneous (label >= 0) and on correct (label -1)
solutions; that of the benchmark is the mean over its parts. Two zeros have the
F1 0, where the released code divides by zero.

Every metric has two forms. Without a prefix it is about single critiques: the
mean over a solution's k critiques, the released greedy number if k is 1. With
`vote_` it is about the majority vote of the k, and exists if some solution has
at least two. A vote is a string, the text of the box as it was written, so '1'
and '01' are two candidates. Critiques without a prediction are dropped, the
first candidate wins a tie, and a solution without a vote is wrong.

Labels are `solution.parsed['first_error']`, parts `solution.parsed['part']`.
Each F1 is reported with the best F1 of guesses that do not read the solution
(`guesses`).
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from critic_jax.evals import critique_metrics
from critic_jax.evals.statistics import (
  Estimate,
  Statistic,
  Table,
  difference,
  estimate,
  harmonic,
  ratio,
)
from critic_jax.types import Record


def prediction(critique: Record) -> int | None:
  """Returns the first wrong step according to the critique, -1 for no step.

  This is the number in the box if the stage's parser (styles/first_error.py)
  kept one, `parsed['boxed']`. Otherwise it is -1 for the verdict 'correct', and
  the step that was named for 'incorrect' or without a verdict. Contradictory
  and unfinished critiques predict nothing: None.
  """
  parsed = critique.parsed
  if parsed.get('boxed') is not None:
    return _number(parsed['boxed'])
  claim = critique_metrics.verdict(critique)
  if claim == 'correct':
    return -1
  step = parsed.get('step')
  if step is None or parsed.get('status', 'ok') not in ('ok', 'missing'):
    return None
  lowest = 0 if claim == 'incorrect' else -1  # not "incorrect, at -1"
  return step if step >= lowest else None


def vote(critiques: Sequence[Record]) -> int | None:
  """Returns the most frequent prediction, the first one in a tie.

  Votes are counted as texts: a box without a number can win, and then nothing
  is predicted.
  """
  ballots = collections.Counter(
    ballot for c in critiques if (ballot := _ballot(c)) is not None
  )
  # most_common keeps the order of insertion among equals.
  return _number(ballots.most_common(1)[0][0]) if ballots else None


def _ballot(critique: Record) -> str | None:
  if (boxed := critique.parsed.get('boxed')) is not None:
    return boxed
  step = prediction(critique)
  return None if step is None else str(step)


def _number(text: str) -> int | None:
  """Reads a number with Python's `int`, as the released code; else None."""
  try:
    return int(text)
  except ValueError:
    return None


def labelled(records: Sequence[Record]) -> dict[Record, list[Record]]:
  """Returns the critiques, by index, of each solution with a label."""
  critiques = collections.defaultdict(list)
  for record in records:
    if (
      record.stage == 'critique'
      and record.parent.parsed.get('first_error') is not None
    ):
      critiques[record.parent].append(record)
  return {
    solution: sorted(siblings, key=lambda c: c.index)
    for solution, siblings in critiques.items()
  }


def part(solution: Record) -> str:
  """Returns the part of the benchmark that a solution belongs to."""
  return solution.parsed.get('part') or 'unnamed'


_COLUMNS = (
  'rows', 'erroneous', 'correct', 'located', 'passed', 'vote_located',
  'vote_passed',
)  # fmt: skip


def table(records: Sequence[Record]) -> Table:
  """Returns a row for each solution with a label.

  Each column exists over all rows ('located'), and for each part with zeros in
  the rows of the other parts ('gsm8k/located').
  """
  solutions = labelled(records)
  names = sorted({part(solution) for solution in solutions})
  rows = []
  for solution, critiques in solutions.items():
    row = _row(solution.parsed['first_error'], critiques)
    home = part(solution)
    by_part = {f'{n}/{k}': (n == home) * row[k] for n in names for k in row}
    rows.append(row | by_part)
  keys = [*_COLUMNS, *(f'{n}/{k}' for n in names for k in _COLUMNS)]
  columns = {key: [row[key] for row in rows] for key in keys}
  return Table([solution.problem.id for solution in solutions], columns)


def _row(label: int, critiques: Sequence[Record]) -> dict[str, float]:
  hit = float(np.mean([prediction(c) == label for c in critiques]))
  vote_hit = vote(critiques) == label
  return {
    'rows': 1,
    'erroneous': label != -1,
    'correct': label == -1,
    'located': (label != -1) * hit,
    'passed': (label == -1) * hit,
    'vote_located': label != -1 and vote_hit,
    'vote_passed': label == -1 and vote_hit,
  }


def _measures(prefix: str) -> dict[str, tuple[Callable, str]]:
  """Returns functions of a part's sums, and the columns that count them."""
  erroneous = ratio(f'{prefix}located', 'erroneous')
  correct = ratio(f'{prefix}passed', 'correct')

  def f1(sums):
    return harmonic(erroneous(sums), correct(sums))

  return {
    f'{prefix}accuracy_erroneous': (erroneous, 'erroneous'),
    f'{prefix}accuracy_correct': (correct, 'correct'),
    f'{prefix}f1': (f1, 'rows'),
  }


def _mean(fn: Callable, parts: Sequence[str]) -> Callable:
  """Returns the mean of a measure over parts, as a function of all sums."""

  def mean(sums):
    by_part = [{k: sums[f'{name}/{k}'] for k in _COLUMNS} for name in parts]
    return np.mean([fn(part_sums) for part_sums in by_part], axis=0)

  return mean


def _statistics(parts: Sequence[str], has_votes: bool) -> dict[str, Statistic]:
  """Returns the means over the parts, and each part's own if it has peers."""
  measures = _measures('') | (_measures('vote_') if has_votes else {})
  statistics = {}
  for name, (fn, count) in measures.items():
    statistics[name] = Statistic(_mean(fn, parts), count)
    for part_name in parts if len(parts) > 1 else ():
      mean = _mean(fn, [part_name])
      statistics[f'{part_name}/{name}'] = Statistic(
        mean, f'{part_name}/{count}'
      )
  return statistics


def best_guess(hit_rate: float) -> float:
  """Returns the best F1 of guesses that predict -1 with some probability p.

  Otherwise they predict a step, right on a share h (`hit_rate`) of the
  erroneous solutions. The accuracies are then p and (1 - p) h. Their harmonic
  mean is greatest at p = sqrt(h) / (1 + sqrt(h)): 2 h / (1 + sqrt(h))^2.
  """
  return 2 * hit_rate / (1 + math.sqrt(hit_rate)) ** 2


def guesses(solutions: Sequence[Record]) -> dict[str, float]:
  """Returns the best F1 of guesses that do not read the solutions of a part.

  Returns:
    `always_correct` predicts -1 each time; its F1 is 0. `uniform_step` predicts
    -1 with the best probability, else a step drawn uniformly; it is absent if a
    solution's number of steps (`parsed['num_steps']`) is unknown. `modal_step`
    predicts -1 with the best probability, else the most frequent label of the
    erroneous solutions. NaN without erroneous or without correct solutions.
  """
  labels = [s.parsed['first_error'] for s in solutions]
  wrong = [s for s in solutions if s.parsed['first_error'] != -1]
  if not 0 < len(wrong) < len(labels):
    return dict.fromkeys(_GUESSES, math.nan)
  counts = collections.Counter(label for label in labels if label != -1)
  modal = counts.most_common(1)[0][1] / len(wrong)
  scores = {'always_correct': 0.0}
  if all(s.parsed.get('num_steps') for s in wrong):
    uniform = float(np.mean([1 / s.parsed['num_steps'] for s in wrong]))
    scores['uniform_step'] = best_guess(uniform)
  return scores | {'modal_step': best_guess(modal)}


_GUESSES = ('always_correct', 'uniform_step', 'modal_step')


def _guess_metrics(solutions: Sequence[Record]) -> dict[str, Estimate]:
  """Returns `guesses` as metrics, exact for the file: without an interval."""
  groups = collections.defaultdict(list)
  for solution in solutions:
    groups[part(solution)].append(solution)
  by_part = {name: guesses(groups[name]) for name in sorted(groups)}
  estimates = {}
  for guess in _GUESSES:
    if all(guess in values for values in by_part.values()):
      value = float(np.mean([values[guess] for values in by_part.values()]))
      estimates[f'f1_{guess}'] = _exact(value, len(solutions))
  for name, values in by_part.items() if len(by_part) > 1 else ():
    for guess, value in values.items():
      estimates[f'{name}/f1_{guess}'] = _exact(value, len(groups[name]))
  return estimates


def _exact(value: float, n: int) -> Estimate:
  return Estimate(value, value, value, 0 if math.isnan(value) else n)


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Returns first-error accuracies and F1, with intervals over problems.

  Args:
    records: records of all stages; critiques of labelled solutions count.

  Returns:
    Estimates in [0, 1]: `accuracy_erroneous`, `accuracy_correct` and `f1`; the
    same with the prefix `vote_` if some solution has several critiques; and the
    best F1 of guesses, `f1_always_correct`, `f1_uniform_step`, `f1_modal_step`.
    These are means over the parts; if there are several, each part has its own
    ('gsm8k/f1'). `n` counts solutions. {} if no solution has a label.
  """
  solutions = labelled(records)
  if not solutions:
    return {}
  estimates = estimate(table(records), _statistics(*_shape(solutions)))
  estimates |= _guess_metrics(list(solutions))
  # The benchmark first, then its parts; within each, guesses after the F1.
  names = sorted(estimates, key=lambda name: name.rpartition('/')[0])
  return {name: estimates[name] for name in names}


def _shape(solutions: Mapping[Record, list[Record]]) -> tuple[list[str], bool]:
  """Returns the parts, and whether any solution has several critiques."""
  parts = sorted({part(solution) for solution in solutions})
  return parts, any(len(critiques) > 1 for critiques in solutions.values())


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Returns `after` minus `before` for each metric, on the same problems.

  Guesses do not depend on critics and are left out. {} if one side has no
  solution with a label.
  """
  old, new = labelled(before), labelled(after)
  if not (old and new):
    return {}
  (parts, old_has_votes), (_, new_has_votes) = _shape(old), _shape(new)
  statistics = _statistics(parts, old_has_votes and new_has_votes)
  return difference(table(before), table(after), statistics)
