"""The training loop; it knows no algorithm.

    python -m critic_jax.train --config configs/refcritic.py:quickstart \
        --workdir runs/quickstart [--config.phases.rl.steps=100 ...]

A run is phases in order, each a recipe with the roles it trains. A step asks
the recipe to collect a batch, updates the trained roles with its loss, and
writes metrics and records. Batches and random keys are functions of the config
and the step alone, so a run that was stopped continues from its last checkpoint
as if it had not been: `python -m ...` with the same workdir again. At SIGTERM,
or a notice of pre-emption, the step under way ends, is saved, and the run with
it.

A phase of `staleness` 1 collects the next batch while the device updates with
this one, and so with the parameters from before that update: its batches are
one update old (times `epochs`) when they are learned from. They keep the
log-probabilities that their tokens were sampled with, and an objective with a
ratio corrects for the difference; 'policy/ratio_error' shows it. The first
batch of a phase, and the first after each checkpoint, are not old: a run that
continues from there has nothing in flight to restore.

A step whose loss or gradient is not finite changes nothing: its batch is kept
in the folder, and a phase with more than `max_skipped` of them ends the run.
Where sampler and trainer are one model and disagree by more than
`max_ratio_error` at a token, the batch is kept too, and its row is named.

A run of several processes is the same command in each of them, in an
environment that tells them of each other (distributed.py), with a folder that
all of them see.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from critic_jax import lookup
from critic_jax.data import sources, store
from critic_jax.models import forward
from critic_jax.report import html_report
from critic_jax.rewards.pool import Pool
from critic_jax.rollouts import rollout
from critic_jax.runtime import (
  cli,
  compilation,
  distributed,
  preemption,
  sharding,
  timing,
)
from critic_jax.training import eval_phases, updates
from critic_jax.training import phases as phases_lib
from critic_jax.training import roles as roles_lib
from critic_jax.training.alarms import Alarms
from critic_jax.training.phases import Phase
from critic_jax.types import Batch, Record
from critic_jax.workdir import checkpoint, progress, run_dir


class Collected(NamedTuple):
  """A batch as given and on the mesh, its records, and what they cost."""

  given: Batch
  batch: Batch
  records: list[Record]
  costs: dict[str, float]


@dataclasses.dataclass
class Run:
  """A run under way: what the loop's parts share, and the parameters.

  `layouts` are how roles are laid out to sample with; None: as in `roles`.
  """

  config: Any
  folder: run_dir.RunDir
  manager: Any
  mesh: jax.sharding.Mesh
  lms: dict[str, Any]
  roles: dict[str, Any]
  layouts: dict[str, Any] | None
  splits: dict[str, Sequence[Any]]
  evaluations: Sequence[eval_phases.Evaluation]
  pool: Pool
  grade: rollout.Grade
  compilations: compilation.Counter
  console: Console
  key: jax.Array
  logged: float = dataclasses.field(default_factory=time.perf_counter)

  def train(self, phase: Phase, done: int, opt_state=None, before=None) -> None:
    """Runs a phase from its step `done` on; leaves the roles trained.

    `opt_state` and `before` are those of a checkpoint, see checkpoint.py.
    """
    for target, source in phase.config.copy.items() if not done else ():
      self.roles[target] = roles_lib.copy(
        self.roles[target], self.roles[source]
      )
    alarms = self._alarms(phase)
    trained = {role: self.roles[role] for role in phase.config.train}
    state = updates.init_state(phase.tx, trained, self.mesh)
    if opt_state is not None:
      state = state._replace(
        step=state.step + done * phase.config.epochs, opt_state=opt_state
      )
    key = jax.random.fold_in(self.key, phase.start)
    batches = store.batches(
      self.splits['train'],
      phase.config.batch_size,
      seed=self.config.seed,
      start_step=phase.start + done,
    )
    config, ahead = phase.config, None
    frozen = roles_lib.to_sample(
      {r: params for r, params in self.roles.items() if r not in trained},
      self.layouts,
    )

    def collect(step, state):
      key_of_step = jax.random.fold_in(key, step)
      return self._collect(phase, frozen, state, next(batches), key_of_step)

    writer = state if before is None else state._replace(params=before)
    with (
      progress.phase(self.console, phase.name, config.steps, done) as advance,
      preemption.awaited() as is_last,
    ):
      for step in range(done, config.steps):
        is_fresh = ahead is None and writer is state
        now, ahead = ahead or collect(step, writer), None
        if step == done and self.config.compile_ahead:
          self._compile_ahead(phase, state, now.batch)
        with timing.opened() as costs:
          old, (state, metrics) = state, updates.run(phase, state, now.batch)
          if config.staleness and not _is_saved(config, step):
            ahead = collect(step + 1, old)
          with timing.timed('time/update_s'):
            metrics = jax.device_get(distributed.finished(metrics))
        # The old state's arrays may have been donated: look them up anew.
        self.roles.update(state.params)
        writer = state
        if is_fresh:
          alarms.compare(step, now, metrics.get('policy/max_ratio_error'))
        metrics = {k: float(np.max(v)) for k, v in metrics.items()} | costs
        metrics = self._log(phase, step, now, metrics)
        problem = alarms.add(step, now, metrics)
        end = is_last(phase.start + step)
        if problem or end or _is_saved(config, step):
          in_flight = {'before': old.params} if ahead else {}
          self.save(
            phase.start + step + 1,
            {'opt_state': state.opt_state, **in_flight},
            alarms.value(),
          )
        if problem:
          raise ValueError(problem)
        if end:
          self.console.print(f'{phase.name}: told to end, saved at step {step}')
          raise SystemExit(preemption.EXIT)
        advance(metrics)
    # Whatever ends the process from here on finds the phase saved.
    checkpoint.wait(self.manager)

  def _collect(self, phase, frozen, state, examples, key) -> Collected:
    roles = {**frozen, **roles_lib.to_sample(state.params, self.layouts)}
    with timing.opened() as costs, timing.timed('time/collect_s'):
      given, records = phase.recipe.collect(roles, examples, key)
      batch = sharding.put_batch(given, self.mesh)
    return Collected(given, batch, records, costs)

  def _compile_ahead(self, phase, state, batch) -> None:
    """Compiles the update for each shape that the phase's batches may have.

    The first batch tells what is in them. Packed rows have the phase's
    `row_shapes`, plain rows the columns of the trained models' tables.
    """
    shapes = phase.config.row_shapes
    if shapes:
      layout = dict.fromkeys(forward.Layout._fields, batch['tokens'])
      batch = {**layout, **batch}
    else:
      columns = {
        lm.row_length(size)
        for lm in (self.lms[role] for role in phase.config.train)
        for size in (*lm.lengths, lm.lengths[-1] + lm.max_new_tokens)
      }
      shapes = [(len(batch['tokens']), n) for n in sorted(columns)]
    updates.compile_ahead(phase, state, batch, shapes, self.mesh)

  def _alarms(self, phase) -> Alarms:
    """The alarms of a phase, after what it has logged so far."""
    alarms = Alarms(phase, self.folder, self.console, self.config.best_metric)
    for row in run_dir.read_metrics(self.folder.path / 'metrics.jsonl'):
      if row['phase'] == phase.name:
        alarms.replay(row)
    return alarms

  def _log(self, phase, step, collected, metrics):
    """Writes what came of a step; returns its metrics."""
    config, records = phase.config, collected.records
    metrics |= rollout.summary(records)
    metrics['learning_rate'] = float(phase.schedule(step * config.epochs))
    metrics['tokens/update'] = float(np.prod(collected.batch['tokens'].shape))
    metrics |= timing.metrics(collected.costs)
    metrics |= self.compilations.read() | timing.memory()
    self.logged, before = time.perf_counter(), self.logged
    metrics['time/step_s'] = self.logged - before
    self.folder.log_metrics(phase.start + step, metrics, phase.name)
    if step % config.records_every == 0 or step == config.steps - 1:
      self.folder.write_records(
        step,
        records,
        f'records/{phase.name}',
        tokens=config.record_tokens,
      )
    return metrics

  def save(self, step: int, state: dict[str, Any], value: float | None) -> None:
    """Begins to save the run after `step` steps; see checkpoint.py."""
    state = {'roles': self.roles, 'grades': self.pool.state(), **state}
    checkpoint.save(self.manager, step, state, value)

  def restore(self, phases: Sequence[Phase]) -> tuple[int, dict[str, Any]]:
    """Restores the last checkpoint.

    Returns:
      Steps done, and what `train` is given of the phase of the last of them.
    """
    step = self.manager.latest_step()
    if step is None:
      return 0, {}
    phase = _phase_of(phases, step - 1)
    trained = {role: self.roles[role] for role in phase.config.train}
    fresh = updates.init_state(phase.tx, trained, self.mesh).opt_state
    like = {'opt_state': fresh, 'before': trained, 'grades': {}}
    tree = checkpoint.restore(self.manager, step, {'roles': self.roles, **like})
    self.roles = tree.pop('roles')
    self.pool.restore(tree.pop('grades'))
    return step, tree

  def evaluate(self, phase: Phase, done: int) -> None:
    """Measures the roles by what is to be run after a phase and was not yet.

    Where later phases have trained the roles on (`done` steps of the run are),
    they are measured as they were at the phase's end.
    """
    wanted = [
      evaluation
      for evaluation in self.evaluations
      if phase.name in evaluation.config.after
      and not eval_phases.records_path(
        self.folder.path, evaluation.name, phase.name
      ).exists()
    ]
    names = [evaluation.name for evaluation in wanted]
    names = distributed.agreed('evaluations', names)
    wanted = [e for e in self.evaluations if e.name in names]
    if not wanted:
      return
    end, roles = phase.start + phase.config.steps, self.roles
    if done > end:
      roles = checkpoint.restore(self.manager, end, {'roles': roles})['roles']
    roles = roles_lib.to_sample(roles, self.layouts)
    for evaluation in wanted:
      eval_phases.measure(
        evaluation,
        roles,
        self.folder.path,
        phase.name,
        eval_phases.noise(self.config.seed),
        self.grade,
        self.console,
      )


def _is_saved(config, step: int) -> bool:
  """Whether a phase's step ends with a checkpoint."""
  return (step + 1) % config.checkpoint_every == 0 or step == config.steps - 1


def _phase_of(phases, step) -> Phase:
  """The phase that a step of the run belongs to."""
  return [phase for phase in phases if phase.start <= step][-1]


def run(
  config,
  workdir: str,
  console: Console | None = None,
  overrides: Mapping[str, Any] | None = None,
) -> Path:
  """Runs or continues a config in a folder.

  Args:
    config: a ConfigDict, as the files in configs/ make it.
    workdir: the run's folder.
    console: where progress and results are shown.
    overrides: what the command line changed, for the run's folder.

  Returns:
    The folder.

  Raises:
    ValueError: the config or an input is wrong; before anything compiles.
  """
  console = console or Console(quiet=not distributed.is_first())
  compilation.use_cache(config.compilation_cache)
  with contextlib.ExitStack() as stack:
    compilations = stack.enter_context(compilation.Counter())
    pool = stack.enter_context(Pool(**config.graders))
    mesh = sharding.make_mesh(config.mesh)
    lms, loaded = roles_lib.make_lms(
      config.models, compile_ahead=config.compile_ahead
    )
    layouts = roles_lib.sampling_shardings(lms, config.sample_mesh)
    grade = distributed.sharing_grades(pool.grade)
    phases = phases_lib.make_phases(config, lms, grade)
    splits = lookup.bind(sources, config.data)()
    pool.check(split[0] for split in splits.values() if split)
    wanted = eval_phases.make_evaluations(config, lms, splits)
    devices = ', '.join(map(str, jax.devices()))
    folder = stack.enter_context(
      run_dir.open_run(
        workdir,
        config,
        overrides=overrides,
        devices=devices,
        is_writer=distributed.is_first(),
      )
    )
    distributed.wait('folder')
    checkpoints = folder.path / 'checkpoints'
    if distributed.is_first():
      for problem in checkpoint.recover(checkpoints):
        console.print(f'warning: {problem}; the checkpoint before it is used')
    distributed.wait('checkpoints')
    manager = checkpoint.make_manager(
      checkpoints,
      keep=config.keep_checkpoints,
      always=phases_lib.phase_ends(config).values(),
      keep_best=bool(config.best_metric),
    )
    stack.callback(checkpoint.close, manager)
    key = jax.random.key(config.seed)
    work = Run(
      config,
      folder,
      manager,
      mesh,
      lms,
      roles_lib.init_params(lms, loaded, mesh, jax.random.fold_in(key, 0)),
      layouts,
      splits,
      wanted,
      pool,
      grade,
      compilations,
      console,
      jax.random.fold_in(key, 1),
    )
    _run_phases(work, phases)
  if distributed.is_first():
    html_report.write(folder.path)
  console.print(f'report: {folder.path / "report.html"}')
  return folder.path


def _run_phases(work: Run, phases: Sequence[Phase]) -> None:
  done, state = work.restore(phases)
  work.folder.rewind(done)
  distributed.wait('rewind')
  for phase in phases:
    here = min(max(done - phase.start, 0), phase.config.steps)
    if here < phase.config.steps:
      work.train(phase, here, **(state if here else {}))
    work.evaluate(phase, done)
  for evaluation in work.evaluations:
    if evaluation.config.after and distributed.is_first():
      eval_phases.show_results(
        work.folder, evaluation, evaluation.config.after, work.console
      )


def main(argv: Sequence[str]) -> None:
  """The command line."""
  cli.main(argv, run)


if __name__ == '__main__':
  cli.app_run(main)
