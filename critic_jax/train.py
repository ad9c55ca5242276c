"""The training loop; it knows no algorithm.

    python -m critic_jax.train --config configs/refcritic.py:quickstart \
        --workdir runs/quickstart [--config.phases.rl.steps=100 ...]

A run is phases in order, each a recipe with the roles it trains. A step asks
the recipe to collect a batch, updates the trained roles with its loss, and
writes metrics and records. Batches and random keys are functions of the config
and the step alone, so a run that was stopped continues from its last checkpoint
as if it had not been: `python -m ...` with the same workdir again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from critic_jax import (
  checkpoint,
  command_line,
  evaluations,
  limits,
  lookup,
  progress,
  report,
  rollout,
  run_dir,
  sharding,
)
from critic_jax import phases as phases_lib
from critic_jax import roles as roles_lib
from critic_jax.data import sources, store
from critic_jax.phases import Phase
from critic_jax.rewards.pool import Pool


class TrainState(NamedTuple):
  """What an update changes.

  Attributes:
    step: int32[], updates done in this phase.
    params: of the trained roles.
    opt_state: the optimiser's.
  """

  step: jax.Array
  params: dict[str, Any]
  opt_state: Any


@functools.partial(
  jax.jit,
  static_argnames=('loss', 'tx', 'microbatches'),
  donate_argnames='state',
)
def update(loss, tx, state: TrainState, batch, *, microbatches: int = 1):
  """One step of the optimiser.

  The gradient is the sum over micro-batches: `batch['weights']` normalise the
  loss over the whole batch, so their number does not matter.

  Args:
    loss: `(params, batch) -> (scalar, metrics)`, sums over rows.
    tx: the optax transform.
    state: donated.
    batch: leading axis B, a multiple of `microbatches`.
    microbatches: how many parts are computed one after another.

  Returns:
    The new state and the metrics: the loss's own, 'loss/total' and
    'grad_norm' before clipping.
  """
  num_rows = len(batch['tokens'])
  if num_rows % microbatches:
    raise ValueError(
      f"microbatches: got {microbatches}; expected a divisor of the batch's "
      f'{num_rows} rows'
    )
  grad_fn = jax.value_and_grad(loss, has_aux=True)

  def one(part):
    (total, metrics), grads = grad_fn(state.params, part)
    return grads, {**metrics, 'loss/total': total}

  if microbatches == 1:
    grads, metrics = one(batch)
  else:
    parts = jax.tree.map(
      lambda x: x.reshape(microbatches, -1, *x.shape[1:]), batch
    )
    shapes = jax.eval_shape(one, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    grads, metrics = jax.lax.scan(
      lambda sums, part: (jax.tree.map(jnp.add, sums, one(part)), None),
      zeros,
      parts,
    )[0]
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  metrics = {**metrics, 'grad_norm': optax.tree.norm(grads)}
  return TrainState(state.step + 1, params, opt_state), metrics


def init_state(tx, params, mesh) -> TrainState:
  """A fresh state, made in one jit so that every leaf is on the mesh.

  Scalars made outside of it would be elsewhere, and `update` compiled twice.
  """
  params_shardings = jax.tree.map(lambda x: x.sharding, params)
  replicated = sharding.replicated(mesh)
  opt_shardings = optax.tree.map_params(
    tx,
    lambda _, s: s,
    jax.eval_shape(tx.init, params),
    params_shardings,
    transform_non_params=lambda _: replicated,
  )

  def init(params):
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))

  shardings = TrainState(replicated, params_shardings, opt_shardings)
  return jax.jit(init, out_shardings=shardings)(params)


@dataclasses.dataclass
class Run:
  """A run under way: what the loop's parts share, and the parameters."""

  config: Any
  folder: run_dir.RunDir
  manager: Any
  mesh: jax.sharding.Mesh
  lms: dict[str, Any]
  roles: dict[str, Any]
  splits: dict[str, Sequence[Any]]
  evaluations: Sequence[evaluations.Evaluation]
  grade: rollout.Grade
  console: Console
  key: jax.Array
  history: list[dict[str, float]] = dataclasses.field(default_factory=list)

  def train(self, phase: Phase, done: int, opt_state=None) -> None:
    """Runs a phase from its step `done` on; leaves the roles trained."""
    for target, source in phase.config.copy.items() if not done else ():
      self.roles[target] = roles_lib.copy(
        self.roles[target], self.roles[source]
      )
    rows = run_dir.read_metrics(self.folder.path / 'metrics.jsonl')
    self.history = [row for row in rows if row['phase'] == phase.name]
    trained = {role: self.roles[role] for role in phase.config.train}
    state = init_state(phase.tx, trained, self.mesh)
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
    with progress.phase(
      self.console, phase.name, phase.config.steps, done
    ) as advance:
      for step in range(done, phase.config.steps):
        state, metrics = self._step(
          phase, state, next(batches), jax.random.fold_in(key, step), step
        )
        advance(metrics)
    self.roles.update(state.params)

  def _step(self, phase, state, examples, key, step):
    """Collects, updates, writes; returns the state and the metrics."""
    config, started = phase.config, time.perf_counter()
    # The state's arrays are donated to the update: look them up anew.
    self.roles.update(state.params)
    batch, records = phase.recipe.collect(self.roles, examples, key)
    collected = time.perf_counter()
    batch = sharding.put_batch(batch, self.mesh)
    for _ in range(config.epochs):
      state, metrics = update(
        phase.recipe.loss,
        phase.tx,
        state,
        batch,
        microbatches=config.microbatches,
      )
    self.roles.update(state.params)
    metrics = {k: float(v) for k, v in jax.device_get(metrics).items()}
    finished = time.perf_counter()
    metrics |= rollout.summary(records)
    metrics['learning_rate'] = float(phase.schedule(step * config.epochs))
    metrics['time/collect_s'] = collected - started
    metrics['time/update_s'] = finished - collected
    metrics['tokens/update'] = float(np.prod(batch['tokens'].shape))
    self.folder.log_metrics(phase.start + step, metrics, phase.name)
    crossed = self._check_limits(phase, metrics)
    if step % config.records_every == 0 or step == config.steps - 1:
      self.folder.write_records(
        step,
        records,
        f'records/{phase.name}',
        tokens=config.record_tokens,
      )
    stop = crossed and config.limit_action == 'stop'
    last = step == config.steps - 1
    if (step + 1) % config.checkpoint_every == 0 or last or stop:
      self.save(phase.start + step + 1, state.opt_state)
    if stop:
      raise ValueError(
        f'phases.{phase.name}: got {crossed} at step {step}; expected what its '
        'limits say; the run is saved: start it again to go on all the same'
      )
    return state, metrics

  def _check_limits(self, phase, metrics) -> str:
    """Warns of the limits that this step crossed, and returns the warning."""
    self.history.append(
      {k: metrics[k] for k in phase.config.limits if k in metrics}
    )
    found = limits.crossed(
      self.history, phase.config.limits, phase.config.limit_window
    )
    warning = '; '.join(found.values())
    if warning:
      self.console.print(f'warning: {phase.name}: {warning}')
    return warning

  def save(self, step: int, opt_state) -> None:
    """Saves the run after `step` steps."""
    tree = {'roles': self.roles, 'opt_state': opt_state}
    checkpoint.save(self.manager, step, tree)

  def restore(self, phases: Sequence[Phase]) -> tuple[int, Any]:
    """Restores the last checkpoint.

    Returns:
      Steps done, and the optimiser's state of the phase of the last of them.
    """
    step = self.manager.latest_step()
    if step is None:
      return 0, None
    phase = _phase_of(phases, step - 1)
    trained = {role: self.roles[role] for role in phase.config.train}
    fresh = init_state(phase.tx, trained, self.mesh).opt_state
    tree = {'roles': self.roles, 'opt_state': fresh}
    tree = checkpoint.restore(self.manager, step, tree)
    self.roles = tree['roles']
    return step, tree['opt_state']

  def evaluate(self, phase: Phase, done: int) -> None:
    """Measures the roles by what is to be run after a phase and was not yet.

    Where later phases have trained the roles on (`done` steps of the run are),
    they are measured as they were at the phase's end.
    """
    wanted = [
      evaluation
      for evaluation in self.evaluations
      if phase.name in evaluation.config.after
      and not evaluations.records_path(
        self.folder.path, evaluation.name, phase.name
      ).exists()
    ]
    end, roles = phase.start + phase.config.steps, self.roles
    if wanted and done > end:
      roles = checkpoint.restore(self.manager, end, {'roles': roles})['roles']
    for evaluation in wanted:
      evaluations.measure(
        evaluation,
        roles,
        self.folder.path,
        phase.name,
        evaluations.noise(self.config.seed),
        self.grade,
        self.console,
      )


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
  console = console or Console()
  with contextlib.ExitStack() as stack:
    pool = stack.enter_context(
      Pool(config.graders.num_workers, deadline_s=config.graders.deadline_s)
    )
    mesh = sharding.make_mesh(config.mesh)
    lms, loaded = roles_lib.make_lms(config.models)
    phases = phases_lib.make_phases(config, lms, pool.grade)
    splits = lookup.bind(sources, config.data)()
    wanted = evaluations.make_evaluations(config, lms, splits)
    devices = ', '.join(map(str, jax.devices()))
    folder = stack.enter_context(
      run_dir.open_run(workdir, config, overrides=overrides, devices=devices)
    )
    manager = checkpoint.make_manager(
      folder.path / 'checkpoints',
      keep=config.keep_checkpoints,
      always=phases_lib.phase_ends(config).values(),
    )
    stack.callback(manager.close)
    key = jax.random.key(config.seed)
    work = Run(
      config,
      folder,
      manager,
      mesh,
      lms,
      roles_lib.init_params(lms, loaded, mesh, jax.random.fold_in(key, 0)),
      splits,
      wanted,
      pool.grade,
      console,
      jax.random.fold_in(key, 1),
    )
    _run_phases(work, phases)
  report.write(folder.path)
  console.print(f'report: {folder.path / "report.html"}')
  return folder.path


def _run_phases(work: Run, phases: Sequence[Phase]) -> None:
  done, opt_state = work.restore(phases)
  work.folder.rewind(done)
  for phase in phases:
    here = min(max(done - phase.start, 0), phase.config.steps)
    if here < phase.config.steps:
      work.train(phase, here, opt_state if here else None)
    work.evaluate(phase, done)
  for evaluation in work.evaluations:
    if evaluation.config.after:
      evaluations.show_results(
        work.folder, evaluation, evaluation.config.after, work.console
      )


def main(argv: Sequence[str]) -> None:
  """The command line."""
  command_line.main(argv, run)


if __name__ == '__main__':
  command_line.app_run(main)
