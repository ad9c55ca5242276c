r"""Evaluates a checkpoint, or weights from elsewhere.

    python -m critic_jax.evaluate --config configs/evaluate.py:mr_gsm8k \
        --workdir runs/mr_gsm8k
    python -m critic_jax.evaluate --config configs/evaluate.py:run \
        --workdir runs/again --checkpoint runs/quickstart:rl

All sections of `config.evals` are run (configs/common.py:evaluation); the same
command again continues what was stopped.

With `--checkpoint RUN` the models, and data and evaluations unless the config
has its own, are those of the run, with the parameters that it had at its end,
at the end of PHASE, or when its `best_metric` was best. Anything else is a
source of weights for every role of the config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console

from critic_jax import strict_json
from critic_jax.report import html_report
from critic_jax.rewards.pool import Pool
from critic_jax.runtime import cli, distributed, sharding
from critic_jax.training import checks, eval_phases, inputs, phases
from critic_jax.training import roles as roles_lib
from critic_jax.types import Roles
from critic_jax.workdir import checkpoint, run_dir


def run(
  config,
  workdir: str,
  console: Console | None = None,
  overrides: Mapping[str, Any] | None = None,
) -> Path:
  """Runs or continues all evaluations of a config in a folder.

  Args:
    config: a ConfigDict, as configs/evaluate.py makes it.
    workdir: the folder of the evaluation.
    console: where progress and results are shown.
    overrides: settings that the command line changed, for the folder.

  Returns:
    The folder.

  Raises:
    ValueError: the config or an input is wrong; before anything compiles.
  """
  # Check every setting and input: nothing compiles before.
  checks.check_names(config, also=('checkpoint',))
  console = console or Console(quiet=not distributed.is_first())
  config, trained = resolve(config)
  if not config.evals:
    raise ValueError('evals: got none; expected a section; see common.py')
  mesh = sharding.make_mesh(config.mesh)
  lms = roles_lib.make_lms(config.models)
  evaluations = eval_phases.make_evaluations(config, lms)
  # Of a run all roles are restored: the sources of its models are not needed.
  loaded = {} if trained else roles_lib.load_params(config.models)
  digest = trained.digest() if trained else ''
  devices = ', '.join(map(str, jax.devices()))
  with (
    Pool(**config.graders) as pool,
    run_dir.open_run(
      workdir,
      config,
      inputs=inputs.digests(lms, loaded, evaluations, checkpoint=digest),
      overrides=overrides,
      devices=devices,
      is_writer=distributed.is_first(),
    ) as folder,
  ):
    distributed.wait('folder')
    pool.check(evaluation.examples[0] for evaluation in evaluations)

    # Make or restore the roles, laid out to sample with.
    key = jax.random.key(config.seed)
    roles = roles_lib.init_params(lms, loaded, mesh, jax.random.fold_in(key, 0))
    if trained:
      roles = trained.restore(roles)
    layouts = roles_lib.sampling_shardings(lms, config.sample_mesh)
    roles = roles_lib.to_sample(roles, layouts)

    # Measure, and show each result when it is there.
    grade = distributed.sharing_grades(pool.grade)
    for evaluation in evaluations:
      eval_phases.measure(
        evaluation,
        roles,
        folder.path,
        'evaluation',
        eval_phases.noise(config.seed),
        grade,
        console,
      )
      if distributed.is_first():
        eval_phases.show_results(folder, evaluation, ['evaluation'], console)
  if distributed.is_first():
    html_report.write(folder.path)
  console.print(f'report: {folder.path / "report.html"}')
  return folder.path


class Trained(NamedTuple):
  """A checkpoint of a run: the folder of checkpoints, and a step."""

  path: Path
  step: int

  def digest(self) -> str:
    """Returns the SHA-256 of the parameters as they are saved."""
    return checkpoint.digest(self.path, self.step, 'roles')

  def restore(self, roles: Roles) -> dict[str, Any]:
    """Restores the roles, in the shapes and shardings of `roles`."""
    with checkpoint.make_manager(self.path, read_only=True) as manager:
      return checkpoint.restore(manager, self.step, {'roles': dict(roles)})[
        'roles'
      ]


def resolve(config) -> tuple[ConfigDict, Trained | None]:
  """Fills in the settings that `config.checkpoint` implies.

  Returns:
    A copy of the config, and the checkpoint if it is that of a run.

  Raises:
    ValueError: the run, or the phase in it, has no checkpoint.
  """
  config = ConfigDict(config.to_dict())
  if not config.checkpoint:
    return config, None
  path, _, phase = config.checkpoint.rpartition(':')
  if not (Path(path) / 'checkpoints').is_dir():
    path, phase = config.checkpoint, ''
  if not (Path(path) / 'checkpoints').is_dir():  # weights, not a run
    for role in config.models.values():
      role.source = config.checkpoint
    return config, None
  saved = strict_json.read(Path(path) / 'config.json')
  missing = {'models', 'data', 'graders', 'evals', 'seed', 'order', 'phases'}
  if missing := sorted(missing - {*saved}):
    raise ValueError(
      f'checkpoint: got a config.json without {missing} in {path}; expected '
      'that of a run'
    )
  config.models = ConfigDict(saved['models'])
  if not config.data:
    config.data = ConfigDict(saved['data'])
    config.graders.name = saved['graders'].get('name', 'answers')
  if not config.evals:  # measured as in the run, to the digit
    config.evals, config.seed = ConfigDict(saved['evals']), saved['seed']
    for section in config.evals.values():
      section.after = ()
  folder = Path(path) / 'checkpoints'
  ends = {
    name: step
    for name, step in phases.phase_ends(saved).items()
    if (folder / str(step)).is_dir()
  }
  best = checkpoint.best_step(folder)
  if best is not None:
    ends.setdefault('best', best)
  phase = phase or saved['order'][-1]
  if phase not in ends:
    raise ValueError(
      f'checkpoint: got phase {phase!r} of {path}; expected one that is '
      f"finished, or 'best' where the run has a best_metric: {list(ends)}"
    )
  return config, Trained(folder, ends[phase])


_CHECKPOINT = flags.DEFINE_string(
  'checkpoint',
  '',
  'RUN, RUN:PHASE, RUN:best, a Hugging Face folder or a .gguf file, instead '
  "of the config's.",
)


def main(argv: Sequence[str]) -> None:
  """Runs the command."""

  def go(config, workdir, **options):
    with config.unlocked():
      config.checkpoint = _CHECKPOINT.value or config.get('checkpoint', '')
    run(config, workdir, **options)

  cli.main(argv, go)


if __name__ == '__main__':
  cli.app_run(main)
