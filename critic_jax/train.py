r"""Trains: the phases of a config, with the one loop that knows no algorithm.

    python -m critic_jax.train --config refcritic:quickstart \
        --workdir runs/quickstart
    python -m critic_jax.train --config refcritic:quickstart \
        --workdir runs/short --config.phases.rl.steps=100

A run is phases in order, each a recipe with the roles it trains. A step asks
the recipe to collect a batch, updates the trained roles with its loss, and
writes metrics and records. Batches and random keys are functions of the config
and the step alone, so the same command continues a run from its last checkpoint
as if it had not stopped; workdir/settings.py lists what may change. At Ctrl-C,
SIGTERM, or a notice of pre-emption, the run ends after the step under way,
saved; a second Ctrl-C ends it at once. A phase may end early, by its `until`.

A phase of `staleness` 1 collects the next batch while the device updates with
this one (training/pipeline.py): its batches are one update old (times `epochs`)
when they are learned from. An objective with a ratio corrects for that, by the
log-probabilities that tokens were sampled with; 'policy/ratio_error' shows it.

A step whose loss, gradient or new parameters are not finite changes nothing:
its batch is kept, and a phase with more than `max_skipped` ends the run. Where
sampler and trainer are one model and differ by more than `max_ratio_error` at a
token, or twice as much as was told before, the batch is kept, its row is named.

A run of several processes is the same command in each, in an environment that
names them (runtime/distributed.py), with a folder that all of them see.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from critic_jax import files, lookup
from critic_jax.data import sources, store
from critic_jax.graders.pool import Pool
from critic_jax.report import html_report
from critic_jax.rollouts import stage_metrics
from critic_jax.runtime import (
  cli,
  compilation,
  distributed,
  preemption,
  sharding,
  timing,
)
from critic_jax.sampling import served
from critic_jax.terminal import Console
from critic_jax.training import (
  adapters,
  checks,
  choices,
  data_sections,
  eval_phases,
  inputs,
  model_sources,
  role_checks,
  updates,
)
from critic_jax.training import phases as phases_lib
from critic_jax.training import roles as roles_lib
from critic_jax.training.alarms import Alarms, no_signal
from critic_jax.training.phases import Phase
from critic_jax.training.pipeline import Pipeline, is_saved
from critic_jax.workdir import checkpoint, progress, provenance, run_dir


@dataclasses.dataclass(kw_only=True)
class Run:
  """A run under way: the parameters of its roles, and what its steps share.

  Attributes:
    config: the config of the run.
    folder: the run's folder, open.
    manager: the manager of its checkpoints.
    mesh: the devices that train.
    lms: models without parameters, by role.
    layouts: those of roles that sample (`roles.sampling_layouts`).
    roles: their parameters, by role; replaced by each step.
    examples: the training split.
    evaluations: in the order of the config.
    pool: the graders.
    compilations: counts compiled programs.
    console: where progress, warnings and results are shown.
  """

  config: Any
  folder: run_dir.RunDir
  manager: Any
  mesh: jax.sharding.Mesh
  lms: dict[str, Any]
  layouts: dict[str, Any] | None
  roles: dict[str, Any]
  examples: Sequence[Any]
  evaluations: Sequence[eval_phases.Evaluation]
  pool: Pool
  compilations: compilation.Counter
  console: Console

  def __post_init__(self):
    self._logged = time.perf_counter()
    self._saved_s = time.monotonic()

  # ------------------------------------------------------------ the run

  def run(self, phases: Sequence[Phase]) -> None:
    """Runs the phases from the last checkpoint on, and their evaluations."""
    self.evaluate(eval_phases.START)
    done, state = self.restore(phases)
    steps = {phase.name: phase.config.steps for phase in phases}
    progress.tell_done(self.console, steps, done)
    self.folder.rewind(done)
    if distributed.is_first():
      provenance.keep_later_evaluations(self.folder.path, self.config, done)
    distributed.wait('rewind')
    for phase in phases:
      steps_done = min(max(done - phase.start, 0), phase.config.steps)
      if steps_done < phase.config.steps:
        self.train(phase, steps_done, **(state if steps_done else {}))
      end = phase.start + phase.config.steps
      self.evaluate(phase.name, end if done > end else None)
    for evaluation in self.evaluations:
      if evaluation.config.after and distributed.is_first():
        eval_phases.show_results(
          self.folder, evaluation, evaluation.config.after, self.console
        )

  def train(self, phase: Phase, done: int, opt_state=None, before=None) -> None:
    """Runs a phase from its step `done` on; leaves the roles trained.

    Args:
      phase: the phase.
      done: its steps that were run before.
      opt_state: the optimiser's state in a checkpoint.
      before: the checkpoint's parameters that write the first batch, see
        training/pipeline.py.

    Raises:
      ValueError: an alarm ends the run.
      SystemExit: the process was told to end.
    """
    if not done:
      self.roles = roles_lib.copy_roles(self.roles, phase.config.copy)
    alarms = Alarms(phase, self.folder, self.console, self.config.best_metric)
    state = updates.state_after(done, phase, self.roles, self.mesh, opt_state)
    config = phase.config
    _, bases = adapters.split_roles(self.roles, config.train)
    pipeline = self._pipeline(phase, state.params, bases, done, before)
    bar = progress.phase(self.console, phase.name, config.steps, done)
    with bar as advance, preemption.awaited() as is_last:
      for step, collected, age in pipeline:
        if step == done and self.config.compile_ahead:
          updates.compile_ahead(
            phase, self.lms, state, collected.batch, self.mesh, bases
          )

        # Update, and collect the next batch while the device is busy.
        with timing.opened() as costs:
          state, metrics = updates.run(phase, state, collected.batch, bases)
          pipeline.collect_ahead()
          with timing.timed('time/update_s'):
            metrics = jax.device_get(distributed.finished(metrics))
        pipeline.advance(state.params)
        self.roles = adapters.join_roles(self.roles, state.params)

        # Log, and look for what is wrong.
        if not age:
          alarms.compare(step, collected, metrics.get('policy/max_ratio_error'))
        metrics = {k: float(np.max(v)) for k, v in metrics.items()} | costs
        metrics = self._log(phase, step, collected, metrics)
        problem = alarms.add(step, collected, metrics)
        is_reached = alarms.is_reached(step)

        # Save, and end. Every process asks after every step.
        status = is_last(phase.start + step)
        if problem or status or is_reached or is_saved(config, step):
          # A phase that ends early is saved as one that has all its steps.
          last = config.steps - 1 if is_reached else step
          self._save(phase, last, state, pipeline.before, alarms.value())
        elif checkpoint.is_overdue(self._saved_s, config.checkpoint_minutes):
          # Never the best: which one is does not depend on a clock.
          self._save(phase, step, state, pipeline.before, None)
        if problem:
          raise ValueError(problem)
        if status:
          self.console.print(f'{phase.name}: told to end, saved at step {step}')
          raise SystemExit(status)
        advance(metrics)
        if is_reached:
          break
    alarms.tell_end()
    # From here on the phase is saved, however the process ends.
    checkpoint.wait(self.manager)

  # ---------------------------------------------------- parts of a phase

  def _pipeline(self, phase, trained, bases, done, before) -> Pipeline:
    """Makes the pipeline of a phase from step `done` on."""
    key = jax.random.fold_in(jax.random.key(self.config.seed), 1)
    return Pipeline(
      phase,
      frozen={r: p for r, p in self.roles.items() if r not in trained} | bases,
      trained=trained,
      batches=store.batches(
        self.examples,
        phase.config.batch_size,
        seed=self.config.seed,
        start_step=phase.start + done,
      ),
      key=jax.random.fold_in(key, phase.start),
      mesh=self.mesh,
      layouts=self.layouts,
      done=done,
      before=before,
    )

  def _log(self, phase, step, collected, metrics):
    """Writes a step's metrics and records; returns all its metrics."""
    config, records = phase.config, collected.records
    metrics |= no_signal(collected, metrics)
    metrics |= stage_metrics.summary(records)
    metrics['learning_rate'] = float(phase.schedule(step * config.epochs))
    metrics['tokens/update'] = float(np.prod(collected.batch['tokens'].shape))
    metrics |= timing.metrics(collected.costs)
    metrics |= self.compilations.read() | timing.memory()
    self._logged, before = time.perf_counter(), self._logged
    metrics['time/step_s'] = self._logged - before
    self.folder.log_metrics(phase.start + step, metrics, phase.name)
    if step % config.records_every == 0 or step == config.steps - 1:
      self.folder.write_records(
        step, records, f'records/{phase.name}', tokens=config.record_tokens
      )
    return metrics

  # -------------------------------------------------------- checkpoints

  def _save(self, phase, step, state, before, value) -> None:
    """Begins to save the run after a step of a phase; see checkpoint.py."""
    items = {'roles': adapters.saved(self.roles, self.config)}
    items |= dict(grades=self.pool.state(), opt_state=state.opt_state)
    if before is not None:
      items['before'] = before
    checkpoint.save(self.manager, phase.start + step + 1, items, value)
    self._saved_s = time.monotonic()

  def restore(self, phases: Sequence[Phase]) -> tuple[int, dict[str, Any]]:
    """Restores the last checkpoint.

    Returns:
      Steps of the run that are done, and the keywords `opt_state` and `before`
      of `train` for the phase of the last of them.
    """
    step = self.manager.latest_step()
    if step is None:
      return 0, {}
    phase = [phase for phase in phases if phase.start < step][-1]
    trained, _ = adapters.split_roles(self.roles, phase.config.train)
    state = updates.init_state(phase.tx, trained, self.mesh)
    like = dict(opt_state=state.opt_state, before=trained, grades={})
    items = adapters.restore(
      self.manager, step, self.roles, self.config, **like
    )
    self.roles = items.pop('roles')
    self.pool.restore(items.pop('grades'))
    return step, items

  # -------------------------------------------------------- evaluations

  def evaluate(self, stem: str, step: int | None = None) -> None:
    """Runs the evaluations that follow a phase and were not run yet.

    Args:
      stem: the name of the phase, or START.
      step: of the checkpoint with the roles to measure; None: as they are now.
    """
    names = [
      evaluation.name
      for evaluation in self.evaluations
      if stem in evaluation.config.after
      and not eval_phases.records_path(
        self.folder.path, evaluation.name, stem
      ).exists()
    ]
    names = distributed.agreed('evaluations', names)
    evaluations = [e for e in self.evaluations if e.name in names]
    if not evaluations:
      return
    roles = self.roles
    if step is not None:
      roles = adapters.restore(self.manager, step, roles, self.config)['roles']
    roles = roles_lib.to_sample(roles, self.layouts)
    for evaluation in evaluations:
      eval_phases.measure(
        evaluation,
        roles,
        self.folder.path,
        stem,
        eval_phases.noise(self.config.seed),
        distributed.sharing_grades(self.pool.grade),
        self.console,
      )


# ------------------------------------------------------------ the command


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
    overrides: settings that the command line changed, for the run's folder.

  Returns:
    The folder.

  Raises:
    ValueError: the config or an input is wrong; before anything compiles.
  """
  checks.check_names(config)
  files.check_checkpoints_path(workdir)
  console = console or Console(quiet=not distributed.is_first())
  compilation.use_cache(config.compilation_cache)
  with contextlib.ExitStack() as stack:
    # Check every setting, then every input: nothing compiles before.
    compilations = stack.enter_context(compilation.Counter())
    pool = stack.enter_context(Pool(**config.graders))
    mesh = sharding.make_mesh(config.mesh)
    platform = compilation.platform(mesh)
    lms = roles_lib.make_lms(
      config.models, config.compile_ahead, config.date, platform,
      jax.process_count(),
    )  # fmt: skip
    layouts = roles_lib.sampling_layouts(lms, config.sample_mesh, mesh)
    grade = distributed.sharing_grades(pool.grade)
    phases = phases_lib.make_phases(config, lms, grade)
    eval_phases.check_evaluations(config, lms)
    splits = lookup.bind(sources, config.data)()
    lookup.check_name('split of data', 'train', splits)
    data_sections.check_examples(phases, splits['train'])
    pool.check(split[0] for split in splits.values() if split)
    evaluations = eval_phases.make_evaluations(config, lms, splits)
    examples = {'data': splits['train'], **eval_phases.examples(evaluations)}
    loaded = roles_lib.load_params(config.models)
    role_checks.check_heads(config.models, loaded, phases)
    choices.show(config, lms, platform, phases, console, examples)

    # Open the folder, and make the roles.
    folder = stack.enter_context(run_dir.open_run(
      workdir, config, inputs=inputs.digests(lms, loaded, examples),
      overrides=overrides, devices=', '.join(map(str, jax.devices())),
      is_writer=distributed.is_first(),
    ))  # fmt: skip
    served.keep_answers(lms, folder.path)
    distributed.wait('folder')
    kept = phases_lib.kept(config, phases)
    manager = stack.enter_context(
      checkpoint.opened(folder.path / 'checkpoints', console.print, **kept)
    )
    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    own = model_sources.changed_roles(config)
    Run(
      config=config, folder=folder, manager=manager, mesh=mesh, lms=lms,
      layouts=layouts, examples=splits['train'], pool=pool,
      roles=roles_lib.init_params(lms, loaded, mesh, key, own),
      evaluations=evaluations, compilations=compilations, console=console,
    ).run(phases)  # fmt: skip
  if distributed.is_first():
    html_report.write(folder.path)
  console.print(f'report: {folder.path / "report.html"}')
  return folder.path


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  cli.main(argv, run)


def console_script() -> None:
  """Runs the command as a program."""
  cli.app_run(main)


if __name__ == '__main__':
  console_script()
