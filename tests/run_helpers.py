"""Small runs, and whether two of them came to the same."""

import contextlib
import io
from unittest import mock

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from rich.console import Console

from configs import common, refcritic
from critic_jax import train
from critic_jax.runtime import timing
from critic_jax.training import phases
from critic_jax.workdir import checkpoint, run_dir

_make_phase, _made = phases._make_phase, {}


def _make_phase_once(name, section, lms, grade):
  """Makes a phase; equal ones share a loss, which is compiled once."""
  recipe, tx, schedule = _make_phase(name, section, lms, grade)
  models = [lms[role].model for role in (*recipe.trained, *recipe.scored)]
  made = section.to_json_best_effort(), repr(models)
  loss, tx = _made.setdefault(made, (recipe.loss, tx))
  return recipe._replace(loss=loss), tx, schedule


def run(config, path, console=None, *, has_report=False):
  """Trains a run, by default silently and without its report."""
  with contextlib.ExitStack() as patches:
    patch = mock.patch.object(phases, '_make_phase', _make_phase_once)
    patches.enter_context(patch)
    if not has_report:
      patches.enter_context(mock.patch.object(train.html_report, 'write'))
    return train.run(config, str(path), console or Console(file=io.StringIO()))


def short_config():
  """Configures imitation and RL of three steps, a checkpoint after two."""
  config = refcritic.get_config('tiny')
  config.order = ('solver', 'rl')
  config.phases.rl.copy = {'critic': 'solver'}
  del config.models.cold
  config.data.num_train = 4  # the same problems in every step
  for name in config.order:
    config.phases[name].steps = 3
    config.phases[name].checkpoint_every = 2
    config.phases[name].records_every = 1
  config.phases.rl.epochs = 2
  config.evals.heldout.after = ('rl',)
  return config


def stale_config(staleness=1):
  """Configures RL of five steps from scratch, a checkpoint after the third."""
  config = refcritic.get_config('tiny')
  config.order, config.phases.rl.copy, config.evals = ('rl',), {}, {}
  del config.models.cold
  config.data.num_train = 4
  config.phases.rl.update(
    dict(steps=5, checkpoint_every=3, records_every=1, staleness=staleness)
  )
  config.phases.rl.optimizer.learning_rate = 0.01
  return config


def served_config(url, **settings):
  """Configures RL of three steps with a served solver, and an evaluation."""
  config = refcritic.get_config('tiny')
  config.order, config.phases.rl.copy = ('rl',), {}
  del config.models.cold
  config.data.num_train = 4
  config.phases.rl.update(dict(steps=3, checkpoint_every=2, records_every=1))
  config.evals.heldout.after = ('rl',)
  config.models.solver = serve(url, **settings)
  return config


def serve(url, **settings):
  """Returns the section of a role whose model is a server's."""
  served = dict(model='small', num_requests=8, timeout_s=60.0, deadline_s=300.0)
  settings = dict(source=url, max_new_tokens=48, served=served) | settings
  return ConfigDict(common.model(**settings))


def contents(path):
  """Returns the contents that no stop of a run may change, by file."""
  metrics = [
    {k: v for k, v in row.items() if not k.startswith(timing.OF_MACHINE)}
    for row in run_dir.read_metrics(path / 'metrics.jsonl')
  ]
  files = {'metrics': metrics}
  for file in [*path.glob('records/*/*'), *path.glob('eval/*/*')]:
    files[str(file.relative_to(path))] = file.read_bytes()
  for file in path.glob('results/*'):
    files[file.name] = file.read_text()
  return files


def last_checkpoint(path):
  """Returns the step of a run's last checkpoint, and what is in it."""
  args = dict.fromkeys(('roles', 'opt_state'), ocp.args.StandardRestore())
  args['grades'] = ocp.args.JsonRestore()
  folder = path / 'checkpoints'
  with checkpoint.make_manager(folder, read_only=True) as manager:
    step = manager.latest_step()
    return step, dict(manager.restore(step, args=ocp.args.Composite(**args)))


def assert_same(path, other):
  """Asserts equal metrics, records, parameters, optimiser and grades."""
  assert contents(path) == contents(other)
  (step, tree), (other_step, other_tree) = map(last_checkpoint, (path, other))
  assert step == other_step
  assert tree.pop('grades') == other_tree.pop('grades')
  assert jax.tree.structure(tree) == jax.tree.structure(other_tree)
  for x, y in zip(*map(jax.tree.leaves, (tree, other_tree)), strict=True):
    np.testing.assert_array_equal(x, y)


def stop_after(monkeypatch, *steps):
  """Ends a run once after each of the steps, logged but not yet saved.

  Returns:
    The steps at which it was ended, so far.
  """
  log_metrics, stopped_at = run_dir.RunDir.log_metrics, []

  def stop(self, step, metrics, phase):
    log_metrics(self, step, metrics, phase)
    if step in steps and step not in stopped_at:
      stopped_at.append(step)
      raise KeyboardInterrupt

  monkeypatch.setattr(run_dir.RunDir, 'log_metrics', stop)
  return stopped_at
