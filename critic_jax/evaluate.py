r"""Evaluates a checkpoint, or weights from elsewhere.

    python -m critic_jax.evaluate --config evaluate:mr_gsm8k \
        --workdir runs/mr_gsm8k
    python -m critic_jax.evaluate --config evaluate:run \
        --workdir runs/again --checkpoint runs/quickstart:rl

All sections of `config.evals` are run (configs/common.py:evaluation); the same
command again continues what was stopped.

With `--checkpoint RUN` the models, and data and evaluations unless the config
has its own, are those of the run, with the parameters that it had at its end,
at the end of PHASE, or when its `best_metric` was best. Anything else is a
source of weights for every role of the config.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from critic_jax import lookup
from critic_jax.graders.pool import Pool
from critic_jax.report import html_report
from critic_jax.runtime import cli, compilation, distributed, sharding
from critic_jax.sampling import served
from critic_jax.terminal import Console
from critic_jax.training import (
  adapters,
  checks,
  choices,
  eval_phases,
  inputs,
  model_sources,
  role_checks,
)
from critic_jax.training import roles as roles_lib
from critic_jax.workdir import run_dir
from critic_jax.workdir import trained as trained_lib
from critic_jax.workdir.trained import Trained


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
  config, trained = resolve(config, overrides or {})
  _check_evals(config, trained)
  mesh = sharding.make_mesh(config.mesh)
  platform = compilation.platform(mesh)
  lms = roles_lib.make_lms(
    config.models, False, config.date, platform, jax.process_count()
  )
  layouts = roles_lib.sampling_layouts(lms, config.sample_mesh, mesh)
  evaluations = eval_phases.make_evaluations(config, lms)
  loaded = _load(config, trained)
  examples = eval_phases.examples(evaluations)
  choices.show(config, lms, platform, (), console, examples)
  with (
    Pool(**config.graders) as pool,
    run_dir.open_run(
      workdir,
      config,
      inputs=_inputs(lms, loaded, evaluations, trained),
      overrides=overrides,
      devices=', '.join(map(str, jax.devices())),
      is_writer=distributed.is_first(),
    ) as folder,
  ):
    served.keep_answers(lms, folder.path)
    distributed.wait('folder')
    pool.check(evaluation.examples[0] for evaluation in evaluations)

    # Make or restore the roles, laid out to sample with.
    key = jax.random.key(config.seed)
    roles = roles_lib.init_params(lms, loaded, mesh, jax.random.fold_in(key, 0))
    if trained:
      roles = adapters.restore_trained(trained, roles)
    roles = roles_lib.to_sample(roles, layouts)

    # Measure, and show each result when it is there.
    for evaluation in evaluations:
      eval_phases.measure(
        evaluation, roles, folder.path, 'evaluation',
        eval_phases.noise(config.seed),
        distributed.sharing_grades(pool.grade), console,
      )  # fmt: skip
      if distributed.is_first():
        eval_phases.show_results(folder, evaluation, ['evaluation'], console)
  if distributed.is_first():
    html_report.write(folder.path)
  console.print(f'report: {folder.path / "report.html"}')
  return folder.path


def _check_evals(config, trained: Trained | None) -> None:
  """Raises ValueError where nothing is to be measured."""
  if config.evals:
    return
  others = 'take another config, such as evaluate:outputs'
  raise ValueError(
    f'evals: got none in {config.checkpoint}; expected a run that measures '
    f'something; {others}'
    if trained
    else 'evals: got none; expected a run, which has them, as checkpoint; '
    f'give --checkpoint=RUN:PHASE, or {others}'
  )


def _load(config, trained: Trained | None):
  """Loads the sources of roles; of a run those alone that are not saved."""
  needed = adapters.sources_of(trained.config) if trained else config.models
  loaded = roles_lib.load_params({role: config.models[role] for role in needed})
  if not trained:  # else the checkpoint has the heads
    role_checks.check_heads(config.models, loaded)
  return loaded


def _inputs(lms, loaded, evaluations, trained: Trained | None):
  """Returns the digests of what is measured; tokenizers are as in training."""
  if trained:
    for role, lm in served.local(lms).items():
      origin = model_sources.TrainedRole(trained, role)
      with lookup.naming(f'models.{role}'):
        model_sources.check_tokenizer(origin, lm.tokenizer)
  return inputs.digests(
    lms,
    loaded,
    eval_phases.examples(evaluations),
    checkpoint=trained.digest() if trained else '',
  )


def resolve(
  config, overrides: Container[str] = ()
) -> tuple[ConfigDict, Trained | None]:
  """Fills in the settings that `config.checkpoint` implies.

  Args:
    config: as of `run`.
    overrides: names of settings that the command line changed.

  Returns:
    A copy of the config, and the checkpoint if it is that of a run.

  Raises:
    ValueError: the run, or the phase in it, has no checkpoint.
  """
  config = ConfigDict(config.to_dict())
  if not config.checkpoint:
    return config, None
  named = trained_lib.find(config.checkpoint)
  if named is None:  # weights, not a run
    for role in config.models.values():
      role.source = config.checkpoint
    return config, None
  trained, role = named
  if role:
    raise ValueError(
      f'checkpoint: got the role {role!r} of {config.checkpoint}; expected '
      'RUN:PHASE, all of whose roles are measured; for one of them set '
      'models.ROLE.source'
    )
  saved = trained.config
  config.models = ConfigDict(saved['models'])
  config.date = saved.get('date', config.date)  # their prompts are the run's
  if not config.data:
    config.data = ConfigDict(saved['data'])
    config.graders.name = saved['graders'].get('name', 'answers')
  if not config.evals:  # measured as in the run, by its seed to the digit
    config.evals = ConfigDict(saved['evals'])
    if not (config.seed or 'seed' in overrides):
      config.seed = saved['seed']
    for section in config.evals.values():
      section.after = ()
  return config, trained


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


def console_script() -> None:
  """Runs the command as a program."""
  cli.app_run(main)


if __name__ == '__main__':
  console_script()
