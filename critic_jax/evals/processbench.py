r"""Whether critiques find the first wrong step, as ProcessBench measures it.

ProcessBench (https://arxiv.org/abs/2412.06559, section 4.1, and its released
`run_eval.py`): a solution's label is the index of its first wrong step, counted
from 0, or -1 if there is none; a critique predicts an index, and is right if
that is the label. The score of a part of the benchmark is the F1, the harmonic
mean of the accuracies on erroneous (label >= 0) and on correct (label -1)
solutions; that of the benchmark is the mean over its parts. Two zeros have the
F1 0, where the released code divides by zero.

Every metric has two forms. Without a prefix it is about single critiques: the
mean over a solution's k, which is the released greedy number where k is 1.
`vote_` is the majority vote over the k, which is there if some solution has
two. A vote is a string, the text of the box as it was written, so '1' and '01'
are two candidates; critiques without a prediction are dropped, the first seen
wins a tie, and a solution without a vote is wrong.

Labels are `solution.parsed['first_error']`, parts `solution.parsed['part']`.
Beside each F1 stand the best that guesses reach which have not read the
solution (`guesses`).
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
  """The first wrong step according to the critique, -1 for none of them.

  The number in the box where the stage's parser kept one, `parsed['boxed']`
  (styles/first_error.py). Otherwise -1 for the verdict 'correct' and the step
  that was named for 'incorrect'; without a verdict, the step alone.
  Contradictory and unfinished critiques predict nothing.
  """
  parsed = critique.parsed
  if parsed.get('boxed') is not None:
    return _number(parsed['boxed'])
  said = critique_metrics.verdict(critique)
  if said == 'correct':
    return -1
  step = parsed.get('step')
  if step is None or parsed.get('status', 'ok') not in ('ok', 'missing'):
    return None
  lowest = 0 if said == 'incorrect' else -1  # not "incorrect, at -1"
  return step if step >= lowest else None


def vote(critiques: Sequence[Record]) -> int | None:
  """The prediction that most critiques make; of several the first seen.

  Votes are counted before they are read: a box without a number in it can win
  them, and then nothing is predicted.
  """
  ballots = collections.Counter(
    ballot for c in critiques if (ballot := _ballot(c)) is not None
  )
  # most_common keeps the order of insertion among equals.
  return _number(ballots.most_common(1)[0][0]) if ballots else None


def _ballot(critique: Record) -> str | None:
  if (boxed := critique.parsed.get('boxed')) is not None:
    return boxed
  predicted = prediction(critique)
  return None if predicted is None else str(predicted)


def _number(text: str) -> int | None:
  """What python's `int` reads, as the released code does; None if nothing."""
  try:
    return int(text)
  except ValueError:
    return None


def labelled(records: Sequence[Record]) -> dict[Record, list[Record]]:
  """The solutions with a label and a critique: the critiques, by index."""
  critiques = collections.defaultdict(list)
  for record in records:
    if (
      record.stage == 'critique'
      and record.parent.parsed.get('first_error') is not None
    ):
      critiques[record.parent].append(record)
  return {
    solution: sorted(found, key=lambda c: c.index)
    for solution, found in critiques.items()
  }


def part(solution: Record) -> str:
  """The part of the benchmark that a solution belongs to."""
  return solution.parsed.get('part') or 'unnamed'


_COLUMNS = (
  'one', 'erroneous', 'correct', 'found', 'passed', 'vote_found', 'vote_passed',
)  # fmt: skip


def table(records: Sequence[Record]) -> Table:
  """A row for each solution with a label, with what the metrics count.

  Each column is there over all rows ('found'), and for each part with zeros in
  the rows of the others ('gsm8k/found').
  """
  solutions = labelled(records)
  names = sorted({part(solution) for solution in solutions})
  rows = []
  for solution, critiques in solutions.items():
    row, own = _row(solution.parsed['first_error'], critiques), part(solution)
    inside = {f'{n}/{k}': (n == own) * row[k] for n in names for k in row}
    rows.append(row | inside)
  keys = [*_COLUMNS, *(f'{n}/{k}' for n in names for k in _COLUMNS)]
  columns = {key: [row[key] for row in rows] for key in keys}
  return Table([solution.problem.id for solution in solutions], columns)


def _row(label: int, critiques: Sequence[Record]) -> dict[str, float]:
  hit = float(np.mean([prediction(c) == label for c in critiques]))
  vote_hit = vote(critiques) == label
  return {
    'one': 1,
    'erroneous': label != -1,
    'correct': label == -1,
    'found': (label != -1) * hit,
    'passed': (label == -1) * hit,
    'vote_found': label != -1 and vote_hit,
    'vote_passed': label == -1 and vote_hit,
  }


def _measures(prefix: str) -> dict[str, tuple[Callable, str]]:
  """Functions of a part's sums, with the columns that count observations."""
  found = ratio(f'{prefix}found', 'erroneous')
  passed = ratio(f'{prefix}passed', 'correct')
  return {
    f'{prefix}accuracy_erroneous': (found, 'erroneous'),
    f'{prefix}accuracy_correct': (passed, 'correct'),
    f'{prefix}f1': (lambda sums: harmonic(found(sums), passed(sums)), 'one'),
  }


def _mean(fn: Callable, parts: Sequence[str]) -> Callable:
  """The mean of a measure over parts, as a function of the wide sums."""

  def mean(sums):
    own = [{k: sums[f'{name}/{k}'] for k in _COLUMNS} for name in parts]
    return np.mean([fn(each) for each in own], axis=0)

  return mean


def _statistics(parts: Sequence[str], voted: bool) -> dict[str, Statistic]:
  """The mean over the parts, and of several each one under its own name."""
  measures = _measures('') | (_measures('vote_') if voted else {})
  found = {}
  for name, (fn, count) in measures.items():
    found[name] = Statistic(_mean(fn, parts), count)
    for own in parts if len(parts) > 1 else ():
      found[f'{own}/{name}'] = Statistic(_mean(fn, [own]), f'{own}/{count}')
  return found


def best_guess(hit: float) -> float:
  """The best F1 of guesses that say -1 with a probability p of one's choice.

  With a step that is right on a share `hit` of the erroneous solutions else,
  the accuracies are p and (1 - p) hit; their harmonic mean is greatest at
  p = sqrt(hit) / (1 + sqrt(hit)), where it is 2 hit / (1 + sqrt(hit))^2.
  """
  return 2 * hit / (1 + math.sqrt(hit)) ** 2


def guesses(solutions: Sequence[Record]) -> dict[str, float]:
  """The best F1 of guesses that have not read the solutions of a part.

  Returns:
    `always_correct`: -1 each time, of which the F1 is 0. `uniform_step`: -1
    with the best probability, else a step drawn uniformly; absent if the number
    of steps (`parsed['num_steps']`) of a solution is not known. `modal_step`:
    -1 with the best probability, else the label that most of the erroneous
    have. NaN where there are no erroneous or no correct solutions.
  """
  labels = [s.parsed['first_error'] for s in solutions]
  wrong = [s for s in solutions if s.parsed['first_error'] != -1]
  if not 0 < len(wrong) < len(labels):
    return dict.fromkeys(_GUESSES, math.nan)
  counts = collections.Counter(label for label in labels if label != -1)
  modal = counts.most_common(1)[0][1] / len(wrong)
  found = {'always_correct': 0.0}
  if all(s.parsed.get('num_steps') for s in wrong):
    uniform = float(np.mean([1 / s.parsed['num_steps'] for s in wrong]))
    found['uniform_step'] = best_guess(uniform)
  return found | {'modal_step': best_guess(modal)}


_GUESSES = ('always_correct', 'uniform_step', 'modal_step')


def _floors(solutions: Sequence[Record]) -> dict[str, Estimate]:
  """`guesses` as metrics. They are facts of the file: no interval."""
  groups = collections.defaultdict(list)
  for solution in solutions:
    groups[part(solution)].append(solution)
  each = {name: guesses(groups[name]) for name in sorted(groups)}
  found = {}
  for guess in _GUESSES:
    if all(guess in values for values in each.values()):
      value = float(np.mean([values[guess] for values in each.values()]))
      found[f'f1_{guess}'] = _fact(value, len(solutions))
  for name, values in each.items() if len(each) > 1 else ():
    for guess, value in values.items():
      found[f'{name}/f1_{guess}'] = _fact(value, len(groups[name]))
  return found


def _fact(value: float, n: int) -> Estimate:
  return Estimate(value, value, value, 0 if math.isnan(value) else n)


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """First-error accuracies and F1, with intervals over problems.

  Args:
    records: any; critiques of solutions with a label are taken.

  Returns:
    Estimates in [0, 1]: `accuracy_erroneous`, `accuracy_correct` and `f1`, with
    `vote_` before them if some solution has several critiques, and the best
    F1 of guesses, `f1_always_correct`, `f1_uniform_step`, `f1_modal_step`.
    These are means over the parts; where there are several, each has its own
    ('gsm8k/f1'). `n` counts solutions. {} if no solution has a label.
  """
  solutions = labelled(records)
  if not solutions:
    return {}
  found = estimate(table(records), _statistics(*_shape(solutions)))
  found |= _floors(list(solutions))
  # The whole first, then part by part, each with its floors after its F1.
  names = sorted(found, key=lambda name: name.rpartition('/')[0])
  return {name: found[name] for name in names}


def _shape(solutions: Mapping[Record, list[Record]]) -> tuple[list[str], bool]:
  """The parts, and whether any solution has several critiques."""
  parts = sorted({part(solution) for solution in solutions})
  return parts, any(len(critiques) > 1 for critiques in solutions.values())


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """The metrics of `after` less those of `before`, on the same problems.

  Guesses know nothing of critics: they are left out. {} if one side has no
  solution with a label.
  """
  old, new = labelled(before), labelled(after)
  if not (old and new):
    return {}
  (parts, voted), (_, also) = _shape(old), _shape(new)
  return difference(
    table(before), table(after), _statistics(parts, voted and also)
  )
