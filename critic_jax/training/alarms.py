"""Alarms about a step: limits, numbers, no signal, sampler unlike trainer.

A run warns, keeps the batch where one should be looked at, and ends where its
config says so.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from critic_jax.inspection import limits
from critic_jax.terminal import Console
from critic_jax.types import Record
from critic_jax.workdir import run_dir

_SKIPPED = 'update/skipped'
_NO_SIGNAL = 'update/no_signal'
_REFUSED = '/refused'


def missing_signal(
  batch: Mapping, records: Sequence[Record], metrics: Mapping[str, float]
) -> str:
  """Returns why an update teaches nothing that was rewarded or shown, or ''.

  Args:
    batch: as the recipe gave it, on the host.
    records: those of its step.
    metrics: the metrics of the update.
  """
  if not np.any(batch['mask']):
    if any(record.refused for record in records):
      return (
        'no token is trained: prompts or responses are longer than lengths and '
        "max_new_tokens allow; see the metrics '.../refused'"
      )
    if 'responses' not in batch:
      return (
        'no token is trained: every record was left out, as its grader timed '
        "out or as it judges wrongly; see the metrics '.../timeout' and "
        "'critique/judge', and the records"
      )
  # A value function may find advantages where all rewards are equal.
  rewards = {r.scores['reward'] for r in records if 'reward' in r.scores}
  are_alike = not np.any(batch.get('responses', True))  # there is no pair
  if 'policy/max_ratio_error' in metrics:
    advantages = batch['advantages'][batch['mask']]
    are_alike = len(rewards) < 2 or not np.any(advantages)
  if are_alike:
    return (
      'the rewards of each group are equal; see the metrics '
      "'.../reward' and '.../truncated', and the records"
    )
  return 'the gradient is zero' if metrics['grad_norm'] == 0 else ''


def no_signal(collected, metrics: Mapping[str, float]) -> dict[str, float]:
  """Returns the metric of a `pipeline.Collected`: 1.0 if it has no signal."""
  reason = missing_signal(collected.given, collected.records, metrics)
  return {_NO_SIGNAL: float(bool(reason))}


class Alarms:
  """The alarms of a phase, step by step, after the steps that it has logged.

  Args:
    phase: a `phases.Phase`.
    folder: the run's, where metrics are read from and batches are kept.
    console: where warnings are shown.
    best_metric: name of the metric that is largest in the best checkpoint, or
      smallest if '-' is before it.

  Raises:
    ValueError: metrics.jsonl is broken.
  """

  def __init__(
    self, phase, folder: run_dir.RunDir, console: Console, best_metric: str = ''
  ):
    self._phase, self._folder, self._console = phase, folder, console
    self._best_metric = best_metric
    self._num_silent = 0  # steps without a signal, up to the last
    self._tolerated = min(phase.config.limit_window, phase.config.steps)
    self._num_refused = collections.Counter()  # records, by stage
    self._num_records = collections.Counter()
    # The largest error that was told of, or the bound of what is fine.
    self._told_error = phase.max_ratio_error
    self._was_told = False
    self._watch = limits.Watch(
      phase.config.limits,
      phase.config.limit_window,
      tracked=(_SKIPPED, best_metric.removeprefix('-'), *phase.config.until),
    )
    # Windows go on where they were; warnings given before are not repeated.
    for row in run_dir.read_metrics(folder.path / 'metrics.jsonl'):
      if row['phase'] == phase.name:
        self._watch.add(row)
        self._count(row)
        if not phase.config.staleness:  # else rows do not tell what was fresh
          self._is_new(row.get('policy/max_ratio_error', 0.0))

  def compare(self, step: int, collected, errors) -> None:
    """Warns if a sampler and the trainer that it equals disagree.

    It warns again when they disagree twice as much as when it last did.

    Args:
      step: the step of the phase.
      collected: a `pipeline.Collected` of age 0: the parameters that learn from
        it wrote it.
      errors: float[B], the largest |ratio - 1| of each row; None: the loss has
        no policy.
    """
    if errors is None or not self._is_new(float(np.max(errors))):
      return
    row = int(np.argmax(errors))
    self._warn(
      f'sampler and trainer disagree at step {step}: their ratio is off by '
      f'{errors[row]:.3g} at a token of row {row} of '
      f'{self._keep(step, collected)} (more than '
      f'{self._phase.max_ratio_error}); this is told again when it is twice as '
      'large'
    )

  def _is_new(self, error: float) -> bool:
    """Whether an error is so much worse than the last that it is told of."""
    bound = self._told_error
    is_new = limits.is_worse(error, bound) if self._was_told else error > bound
    if is_new:
      self._told_error, self._was_told = error, True
    return is_new

  def add(self, step: int, collected, metrics: Mapping[str, float]) -> str:
    """Takes a step's metrics; returns why the run must end, or ''."""
    problem = '; '.join(self._watch.add(metrics).values())
    self._count(metrics)
    silence = self._silence(step, collected, metrics)
    problem = '; '.join(filter(None, [problem, silence]))
    if problem:
      self._warn(problem)
    config = self._phase.config
    if config.limit_action != 'stop':
      problem = ''
    if metrics[_SKIPPED]:
      path = self._keep(step, collected)
      self._warn(
        f'step {step} is skipped, as its loss, its gradient or a new parameter '
        f'is not finite; its batch is {path}'
      )
      skipped = self._watch.total(_SKIPPED)
      if skipped > config.max_skipped:
        problem = f'{skipped:.0f} updates skipped, {path} the last,'
    return problem and (
      f'phases.{self._phase.name}: got {problem} at step {step}; expected what '
      'its limits and max_skipped say; the run is saved: start it again to go '
      'on all the same'
    )

  def is_reached(self, step: int) -> bool:
    """Whether a phase has come to its `until` at this step; it says so."""
    config = self._phase.config
    if not self._watch.holds(config.until):
      return False
    self._console.print(
      f'{self._phase.name}: ends after {step + 1} of {config.steps} steps, as '
      f'{", ".join(config.until)} came to what `until` says'
    )
    return True

  def value(self) -> float | None:
    """Returns the value of a checkpoint, larger if better; None if unknown."""
    mean = self._watch.mean(self._best_metric.removeprefix('-'))
    is_negative = mean is not None and self._best_metric.startswith('-')
    return -mean if is_negative else mean

  def tell_end(self) -> None:
    """Says what a phase that has ended did not come to, and what was refused.

    That is its `until`, and by stage how many records have no content.
    """
    config = self._phase.config
    if config.until and not self._watch.holds(config.until):
      means = ', '.join(
        f'{name} = {self._watch.mean(name):.3g}'
        for name in config.until
        if self._watch.mean(name) is not None
      )
      self._warn(
        f'all {config.steps} steps are done and did not come to what `until` '
        f'says: {means or "none of its metrics was logged"} in the last '
        f'{config.limit_window} steps (limit_window)'
      )
    for stage, number in sorted(self._num_refused.items()):
      self._warn(
        f'{number} of {self._num_records[stage]} records of {stage!r} were '
        'refused and taught nothing: they, or their prompts, are longer than '
        'lengths and max_new_tokens allow'
      )

  def _count(self, metrics) -> None:
    """Counts steps without a signal, and records that are no content."""
    self._num_silent = self._num_silent + 1 if metrics.get(_NO_SIGNAL) else 0
    for name, share in metrics.items():
      stage = name.removesuffix(_REFUSED)
      if stage != name and f'{stage}/count' in metrics:
        count = metrics[f'{stage}/count']
        self._num_records[stage] += round(count)
        self._num_refused[stage] += round(share * count)
    self._num_refused = +self._num_refused  # without zeros

  def _silence(self, step, collected, metrics) -> str:
    """Returns a warning if the last steps taught nothing, told ever rarer."""
    doublings = math.log2(max(self._num_silent, 0.1) / self._tolerated)
    if doublings < 0 or not doublings.is_integer():
      return ''
    reason = missing_signal(collected.given, collected.records, metrics)
    return f'no signal in {self._num_silent} steps up to {step}: {reason}'

  def _keep(self, step, collected) -> Path:
    return self._folder.write_batch(
      self._phase.start + step, collected.given, collected.records
    )

  def _warn(self, text) -> None:
    self._console.print(f'warning: {self._phase.name}: {text}')
