"""Metrics of records: means over each stage, named 'stage/metric'.

count, length, truncated       of every stage; length in tokens, where they are
                               known
refused                        nothing was sampled, as a prompt did not fit;
                               such records are in 'count' and in no other
reward, and each rule's value  where there are scores
correct, unparsable, timeout   where answers were graded, or steps labelled;
                               what is left is wrong, or right and cut off
called_wrong                   of critiques: the verdict 'incorrect'
missing, contradictory,        of critiques: what is wrong with the verdict
  unfinished
judge_right, judge_wrong       'judge' on right and on wrong solutions
leak                           critiques of wrong solutions that name the
                               reference answer
label_right, label_early,      of solutions whose steps have targets and a true
  label_late                   label: whether the first target below a half is
                               the first wrong step, before it, or after it
contrasted                     of wrong solutions among siblings: there is a
                               right one to lay them beside
missing, agreement             of comparisons: no verdict; both orders name the
                               same critique
lift_over_<control>            of a stage: its accuracy less that of a control
                               (controls.py), over the critiques that have both

A grade that timed out is left out of all but 'correct', 'unparsable' and
'timeout', which are shares of all responses.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence

import numpy as np

from critic_jax.rewards import leaks, refinement, step_values
from critic_jax.types import Record

_EVERY = ('count', 'length', 'truncated', 'refused')
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
    if compared and (lifts := _lifts(records, compared, stage)):
      control = stage[len(compared) + 1 :]  # 'empty' of 'refine_empty'
      means[f'{compared}/lift_over_{control}'] = float(np.mean(lifts))
  return means


def _lifts(records, stage: str, control: str) -> list[float]:
  """Returns each parent's accuracy of a stage less that of its control.

  Parents without graded responses of both are left out: a few critiques are
  refined with controls, and those of others would be compared with them.
  """
  grades = collections.defaultdict(lambda: {stage: [], control: []})
  for record in records:
    if record.stage in (stage, control) and 'correct' in record.parsed:
      right = refinement.is_right(record)
      if right is not None:
        grades[id(record.parent)][record.stage].append(right)
  return [
    float(np.mean(pair[stage]) - np.mean(pair[control]))
    for pair in grades.values()
    if all(pair.values())
  ]


def names(
  stage: str,
  *,
  rewards: Iterable[str] = (),
  is_graded: bool = False,
  has_verdict: bool = False,
  is_compared: bool = False,
  has_targets: bool = False,
  is_contrasted: bool = False,
  controls: Iterable[str] = (),
) -> list[str]:
  """Lists the names of the metrics that a stage may have.

  Args:
    stage: its name.
    rewards: the rules that score its records.
    is_graded: whether its records end in a graded answer.
    has_verdict: whether its records are critiques.
    is_compared: whether its records are comparisons.
    has_targets: whether its records are solutions with targets of their steps.
    is_contrasted: whether its records are laid beside right ones.
    controls: names of its controls, 'empty' for the stage 'refine_empty'.
  """
  rewards = list(rewards)
  metrics = [*_EVERY, *rewards, *(['reward'] if rewards else [])]
  if is_graded:
    metrics += _GRADED
  if has_verdict:
    metrics += ['called_wrong', *_FAULTS, 'leak']
    metrics += ['judge_right', 'judge_wrong'] if 'judge' in rewards else []
  if is_compared:
    metrics += ['missing', 'agreement']
  if has_targets:
    metrics += ['label_right', 'label_early', 'label_late']
  if is_contrasted:
    metrics += ['contrasted']
  metrics += [f'lift_over_{control}' for control in controls]
  of_controls = [
    name
    for control in controls
    for name in names(f'{stage}_{control}', is_graded=is_graded)
  ]
  return [f'{stage}/{metric}' for metric in metrics] + of_controls


def _of_record(record: Record) -> dict[str, float]:
  if record.refused:
    return {'refused': 1.0}
  metrics = {
    'refused': 0.0,
    'truncated': record.truncated,
    **record.scores,
  }
  if len(record.tokens) or not record.text:  # else a server's, or given
    metrics['length'] = len(record.tokens)
  parsed = record.parsed
  if 'correct' in parsed:
    metrics['correct'] = parsed['correct']
    for grade in ('unparsable', 'timeout'):
      metrics[grade] = parsed['grade'] == grade
  elif 'first_error' in parsed:
    metrics['correct'] = refinement.is_right(record)
  if parsed.get('targets') and parsed.get('first_error') is not None:
    label = step_values.first_wrong(parsed['targets'])
    errors = step_values.label_errors([label], [parsed['first_error']])
    for name in ('right', 'early', 'late'):
      metrics[f'label_{name}'] = errors[name]
  if 'contrast' in parsed and refinement.is_right(record) is False:
    metrics['contrasted'] = parsed['contrast'] is not None
  if 'agrees' in parsed:
    metrics['missing'] = parsed['better'] is None
    metrics['agreement'] = parsed['agrees']
  if 'status' in parsed:
    metrics['called_wrong'] = parsed['verdict'] == 'incorrect'
    for status in _FAULTS:
      metrics[status] = parsed['status'] == status
    if {'correct', 'first_error'} & record.parent.parsed.keys():
      metrics |= _of_critique(record, refinement.is_right(record.parent))
  return metrics


def _of_critique(critique: Record, is_right: bool | None) -> dict[str, float]:
  """Returns the metrics that depend on whether the solution is right."""
  if is_right is None:
    return {}
  metrics = {} if is_right else {'leak': leaks.leaks(critique)}
  if 'judge' in critique.scores:
    name = 'judge_right' if is_right else 'judge_wrong'
    metrics[name] = critique.scores['judge']
  return metrics
