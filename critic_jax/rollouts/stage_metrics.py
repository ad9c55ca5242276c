"""Metrics of records: means over each stage, named 'stage/metric'.

count, length, truncated       of every stage; length in tokens
reward, and each rule's value  where there are scores
correct, unparsable, timeout   where answers were graded; what is left is
                               wrong, or right and cut off
called_wrong                   of critiques: the verdict 'incorrect'
missing, contradictory,        of critiques: what is wrong with the verdict
  unfinished
judge_right, judge_wrong       'judge' on right and on wrong solutions
leak                           critiques of wrong solutions that name the
                               reference answer
lift_over_<control>            of a stage: its accuracy less that of a control
                               (controls.py)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from critic_jax.rewards import leaks
from critic_jax.types import Record

_EVERY = ('count', 'length', 'truncated')
_GRADED = ('correct', 'unparsable', 'timeout')
_FAULTS = ('missing', 'contradictory', 'unfinished')


def summary(records: Sequence[Record]) -> dict[str, float]:
  """Computes the metrics of records, by name."""
  values: dict[str, list[float]] = {}
  for record in records:
    for name, value in _of_record(record).items():
      values.setdefault(f'{record.stage}/{name}', []).append(value)
  means = {name: float(np.mean(numbers)) for name, numbers in values.items()}
  controlled = {record.stage: record.control_of for record in records}
  for stage, compared in controlled.items():
    means[f'{stage}/count'] = sum(r.stage == stage for r in records)
    if compared and {f'{compared}/correct', f'{stage}/correct'} <= set(means):
      control = stage[len(compared) + 1 :]  # 'empty' of 'refine_empty'
      lift = means[f'{compared}/correct'] - means[f'{stage}/correct']
      means[f'{compared}/lift_over_{control}'] = lift
  return means


def names(
  stage: str,
  *,
  rewards: Iterable[str] = (),
  is_graded: bool = False,
  has_verdict: bool = False,
  controls: Iterable[str] = (),
) -> list[str]:
  """Lists the names of the metrics that a stage may have.

  Args:
    stage: its name.
    rewards: the rules that score its records.
    is_graded: whether its records end in a graded answer.
    has_verdict: whether its records are critiques.
    controls: names of its controls, 'empty' for the stage 'refine_empty'.
  """
  rewards = list(rewards)
  metrics = [*_EVERY, *rewards, *(['reward'] if rewards else [])]
  if is_graded:
    metrics += _GRADED
  if has_verdict:
    metrics += ['called_wrong', *_FAULTS, 'leak']
    metrics += ['judge_right', 'judge_wrong'] if 'judge' in rewards else []
  metrics += [f'lift_over_{control}' for control in controls]
  of_controls = [
    name
    for control in controls
    for name in names(f'{stage}_{control}', is_graded=is_graded)
  ]
  return [f'{stage}/{metric}' for metric in metrics] + of_controls


def _of_record(record: Record) -> dict[str, float]:
  metrics = {
    'length': len(record.tokens),
    'truncated': record.truncated,
    **record.scores,
  }
  parsed = record.parsed
  if 'correct' in parsed:
    metrics['correct'] = parsed['correct']
    for grade in ('unparsable', 'timeout'):
      metrics[grade] = parsed['grade'] == grade
  if 'status' in parsed:
    metrics['called_wrong'] = parsed['verdict'] == 'incorrect'
    for status in _FAULTS:
      metrics[status] = parsed['status'] == status
    if 'correct' in record.parent.parsed:
      metrics |= _of_critique(record, record.parent.parsed['correct'])
  return metrics


def _of_critique(critique: Record, is_right: bool) -> dict[str, float]:
  """Returns the metrics that depend on whether the solution is right."""
  metrics = {} if is_right else {'leak': leaks.leaks(critique)}
  if 'judge' in critique.scores:
    name = 'judge_right' if is_right else 'judge_wrong'
    metrics[name] = critique.scores['judge']
  return metrics
