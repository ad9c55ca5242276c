"""Alarms about a step: limits, numbers, a sampler unlike its trainer.

A run warns, keeps the batch where one should be looked at, and ends where its
config says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from critic_jax.inspection import limits
from critic_jax.terminal import Console
from critic_jax.workdir import run_dir

_SKIPPED = 'update/skipped'


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
    self._disagreed = False
    self._watch = limits.Watch(
      phase.config.limits,
      phase.config.limit_window,
      tracked=(_SKIPPED, best_metric.removeprefix('-')),
    )
    # Windows go on where they were; warnings given before are not repeated.
    for row in run_dir.read_metrics(folder.path / 'metrics.jsonl'):
      if row['phase'] == phase.name:
        self._watch.add(row)

  def compare(self, step: int, collected, errors) -> None:
    """Warns, once, if a sampler and the trainer that it equals disagree.

    Args:
      step: the step of the phase.
      collected: a `pipeline.Collected` of age 0: the parameters that learn from
        it wrote it.
      errors: float[B], the largest |ratio - 1| of each row; None: the loss has
        no policy.
    """
    bound = self._phase.config.max_ratio_error
    if errors is None or self._disagreed or not np.max(errors) > bound:
      return
    self._disagreed = True
    row = int(np.argmax(errors))
    self._warn(
      f'sampler and trainer disagree at step {step}: their ratio is off by '
      f'{errors[row]:.3g} at a token of row {row} of '
      f'{self._keep(step, collected)} (more than {bound}); this is told once'
    )

  def add(self, step: int, collected, metrics: Mapping[str, float]) -> str:
    """Takes a step's metrics; returns why the run must end, or ''."""
    problem = '; '.join(self._watch.add(metrics).values())
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

  def value(self) -> float | None:
    """Returns the value of a checkpoint, larger if better; None if unknown."""
    mean = self._watch.mean(self._best_metric.removeprefix('-'))
    is_negative = mean is not None and self._best_metric.startswith('-')
    return -mean if is_negative else mean

  def _keep(self, step, collected) -> Path:
    return self._folder.write_batch(
      self._phase.start + step, collected.given, collected.records
    )

  def _warn(self, text) -> None:
    self._console.print(f'warning: {self._phase.name}: {text}')
