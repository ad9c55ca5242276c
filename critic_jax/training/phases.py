"""The phases of a run: sections of a config, checked before anything is loaded.

A section has the settings of the loop, which are the parameters of
`check_section`, and those of its recipe, which are the parameters of the
recipe's `make`; `batch_size`, `microbatches` and `row_shapes` are of both. An
unknown, missing or wrong one is a ValueError that names the phase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import optax

from critic_jax import lookup
from critic_jax.inspection import limits as metric_limits
from critic_jax.models.config import MAX_SPLASH_COLUMNS
from critic_jax.training import adapters, role_checks
from critic_jax.training import optimizer as optimizers
from critic_jax.types import Recipe
from critic_jax.workdir import run_dir

# The metrics that the loop logs, beside those of the recipe and of its stages.
LOOP_METRICS = frozenset(
  [
    'compile/count', 'compile/from_cache', 'device/occupancy', 'grad_norm',
    'learning_rate', 'loss/total', 'memory/device_gib', 'memory/host_gib',
    'time/collect_s', 'time/compile_s', 'time/grade_s', 'time/grade_waited_s',
    'time/step_s', 'time/update_s', 'tokens/update', 'update/no_signal',
    'update/skipped',
  ]
)  # fmt: skip


class Phase(NamedTuple):
  """A part of a run, checked and ready.

  Attributes:
    name: the name of its section in the config.
    config: the section.
    recipe: what it does.
    tx: the optimiser.
    schedule: updates done -> learning rate.
    start: steps of the run before it.
    max_ratio_error: the section's, for the dtype that the policy is computed
      in.
  """

  name: str
  config: Any
  recipe: Recipe
  tx: optax.GradientTransformation
  schedule: optax.Schedule
  start: int
  max_ratio_error: float


def make_phases(config, lms, grade) -> list[Phase]:
  """Makes the phases in order, and checks all their settings.

  Args:
    config: the config of a run.
    lms: by role; nothing is read of their weights.
    grade: final answers to grades.

  Raises:
    ValueError: a setting is wrong.
  """
  phases, start = [], 0
  for name in config.order:
    run_dir.check_name('order', name)
    lookup.check_name('order', name, config.phases)
    if name in [phase.name for phase in phases]:
      raise ValueError(f'order: got {name!r} twice; expected each phase once')
    section = config.phases[name]
    with lookup.naming(f'phases.{name}'):
      recipe, tx, schedule = _make_phase(name, section, lms, grade)
      adapters.check_copies(config.models, section.copy)
    dtype = lms[recipe.trained[0]].model.config.dtype  # the policy's
    max_ratio_error = section.max_ratio_error[dtype]
    phases.append(
      Phase(name, section, recipe, tx, schedule, start, max_ratio_error)
    )
    start += section.steps
  # A phase that is not run has its names checked all the same.
  for name in sorted(set(config.phases) - set(config.order)):
    with lookup.naming(f'phases.{name}'):
      _section_names(config.phases[name])
  _check_best_metric(config.get('best_metric'), phases)
  _check_scored(config.models, phases)
  adapters.check_used(config)
  return phases


def kept(config, phases: Sequence[Phase]) -> dict[str, Any]:
  """Returns the checkpoints that a run keeps, for `checkpoint.make_manager`."""
  return {
    'keep': config.keep_checkpoints,
    'always': [phase.start + phase.config.steps for phase in phases],
    'keep_best': bool(config.best_metric),
  }


def _make_phase(name, section, lms, grade):
  """Makes the recipe of a section, its optimiser and its schedule."""
  make, of_recipe, of_loop = _section_names(section)
  loop_settings = {k: v for k, v in section.items() if k in of_loop}
  lookup.check_settings(check_section, loop_settings, 'a phase')
  check_section(**loop_settings)
  _check_warmup(name, section)
  _check_roles(section, lms)
  settings = {k: v for k, v in section.items() if k in of_recipe}
  lookup.check_settings(make, settings, f'the recipe {section.recipe}')
  recipe = make(lms, grade, **settings)
  _check_recipe(section, recipe)
  role_checks.check_recipe(recipe, lms)
  _check_columns(section.row_shapes, [*recipe.trained, *recipe.scored], lms)
  tx, schedule = optimizers.make_optimizer(
    steps=section.steps * section.epochs, **section.optimizer
  )
  return recipe, tx, schedule


def _section_names(section):
  """Checks the names of a section; returns `make` and both parts' settings."""
  lookup.check_has('recipe', section, 'module of critic_jax.recipes')
  make = lookup.module('recipes', section.recipe).make
  of_recipe, of_loop = map(lookup.settings_of, (make, check_section))
  for name in section:
    lookup.check_name('setting', name, {*of_recipe, *of_loop})
  return make, of_recipe, of_loop


def check_section(
  *,
  recipe: str,
  train: Sequence[str],
  copy: Mapping[str, str],
  steps: int,
  epochs: int,
  staleness: int,
  microbatches: int,
  batch_size: int,
  row_shapes: Sequence[tuple[int, int]],
  records_every: int,
  record_tokens: bool,
  checkpoint_every: int,
  checkpoint_minutes: float,
  limits: Mapping[str, Any],
  limit_window: int,
  limit_action: str,
  until: Mapping[str, Any],
  max_ratio_error: Mapping[str, float],
  max_skipped: int,
  optimizer: Mapping[str, Any],
) -> None:
  """Checks the loop's settings of a phase; its parameters are their names.

  Args:
    recipe: a module of critic_jax.recipes.
    train: the roles that are trained.
    copy: role -> the role whose parameters it takes when the phase begins.
    steps: collected batches, at most (`until`).
    epochs: updates on each batch.
    staleness: 1 to collect the next batch beside the update (pipeline.py).
    microbatches: parts that a batch is cut into, one after another.
    batch_size: problems a step.
    row_shapes: (rows, columns) that a batch may be packed in.
    records_every: steps between those whose records are written.
    record_tokens: whether their tokens are written, too.
    checkpoint_every: steps between checkpoints.
    checkpoint_minutes: between them, where steps take long; 0: does not count.
    limits: by metric: `low`, `high`, `relative` (inspection/limits.py).
    limit_window: steps that they are averaged over.
    limit_action: 'warn' or 'stop'.
    until: limits by metric, as in `limits`: the phase ends when all of them
      hold, and after `steps` at the latest; {} for `steps`.
    max_ratio_error: between sampler and trainer, of a fresh batch, by the
      dtype that the trained role is computed in.
    max_skipped: updates that are not finite before the run ends.
    optimizer: keywords of `optimizer.make_optimizer`.

  Raises:
    ValueError: a value is out of its range.
  """
  del recipe, train, copy, row_shapes, record_tokens
  lookup.check_counts(
    steps=steps,
    epochs=epochs,
    microbatches=microbatches,
    batch_size=batch_size,
    records_every=records_every,
    checkpoint_every=checkpoint_every,
  )
  lookup.check_counts(0, max_skipped=max_skipped)
  lookup.check_numbers(0, checkpoint_minutes=checkpoint_minutes)
  with lookup.naming('max_ratio_error'):
    lookup.check_settings(_check_ratio_errors, max_ratio_error, 'it')
    _check_ratio_errors(**max_ratio_error)
  with lookup.naming('optimizer'):
    _check_optimizer(optimizer)
  if staleness not in (0, 1):
    raise ValueError(f'staleness: got {staleness}; expected 0 or 1')
  metric_limits.check(limits, limit_action, limit_window)
  metric_limits.check_bounds('until', until)


def _check_ratio_errors(*, float32: float, bfloat16: float) -> None:
  """Checks the bounds of `max_ratio_error`; its parameters are the dtypes."""
  lookup.check_numbers(0, float32=float32, bfloat16=bfloat16)


def _check_optimizer(settings) -> None:
  """Raises ValueError for a name or a value of the section `optimizer`."""
  if 'steps' in settings:
    raise ValueError("got 'steps'; expected it in the phase")
  lookup.check_settings(
    optimizers.make_optimizer, {'steps': 1, **settings}, 'optimizer'
  )
  for name, value in settings.items():
    if name not in ('name', 'schedule', 'bfloat16'):
      lookup.check_numbers(0, **{name: value})


def _check_warmup(name, section) -> None:
  """Raises ValueError for a warm-up that is as long as the whole phase.

  It is not cut: a phase that gets more steps later would have had another one.
  """
  updates = section.steps * section.epochs
  warmup_steps = section.optimizer.get('warmup_steps', 0)
  if warmup_steps >= updates:
    raise ValueError(
      f'optimizer.warmup_steps: got {warmup_steps} of {updates} updates in '
      f'all; expected fewer; add --config.phases.{name}.optimizer.'
      f'warmup_steps={updates // 5}'
    )


def _check_roles(section, lms) -> None:
  """Raises ValueError for roles that do not exist, or cannot be trained."""
  for setting, roles in (
    ('train', section.train),
    ('copy', [*section.copy, *section.copy.values()]),
  ):
    for role in roles:
      lookup.check_name(setting, role, lms)
  role_checks.check_copy(section.copy, lms)
  for role in section.train:
    config = lms[role].model.config
    for name in ('param_dtype', 'dtype'):
      if getattr(config, name) == 'float16':
        raise ValueError(
          f"train: got {role!r} with {name}='float16', in which small "
          "gradients are 0 and Adam's epsilon is; expected 'bfloat16' or "
          f"'float32'; set models.{role}.{name} to one of them"
        )
    if config.is_int8 and not config.lora:
      raise ValueError(
        f'train: got {role!r}, held in int8; expected a role of floats, or of '
        f"adapters; set models.{role}.param_dtype to 'float32', or "
        f'models.{role}.lora.rank'
      )


def _check_columns(row_shapes, roles, lms) -> None:
  """Raises ValueError for packed rows that splash attention cannot number."""
  longest = max((columns for _, columns in row_shapes), default=0)
  for role in roles:
    program = lms[role].model.config.attention
    if program == 'splash' and longest > MAX_SPLASH_COLUMNS:
      raise ValueError(
        f'row_shapes: got packed rows of {longest} columns; expected '
        f'{MAX_SPLASH_COLUMNS} at most for splash attention; lower them, or '
        f"set models.{role}.attention='xla'"
      )


def _check_recipe(section, recipe: Recipe) -> None:
  """Raises ValueError for loop settings that do not fit the recipe."""
  if sorted(section.train) != sorted(recipe.trained):
    raise ValueError(
      f'train: got {tuple(section.train)}; expected {recipe.trained}, which '
      f'{section.recipe} trains'
    )
  if section.staleness and not recipe.corrects_staleness:
    raise ValueError(
      f'staleness: got {section.staleness} with a loss that does not correct '
      'for it; expected 0, or an objective with a ratio, such as ppo_clip'
    )
  for setting in ('limits', 'until'):
    for name in section[setting]:
      lookup.check_name(setting, name, logged_metrics(recipe))


def logged_metrics(recipe: Recipe) -> frozenset[str]:
  """Returns the names of all metrics that a phase with the recipe may log."""
  stages = {stage.stage for stage in recipe.sampled}
  forms = 'time/{}_s', 'time/{}_tokens_per_s', 'tokens/{}'
  of_stages = {form.format(stage) for form in forms for stage in stages}
  return recipe.metrics | LOOP_METRICS | of_stages


def _check_scored(models, phases) -> None:
  """Raises ValueError for a role that scores with weights that are random.

  A copy of the policy as it was drawn is none: it is where the policy begins.
  """
  # The role for which the weights of each role were drawn, while nothing has
  # trained them.
  drawn_for = {role: role for role in models if not models[role].source}
  for phase in phases:
    copies = phase.config.copy
    drawn_for |= {
      role: role if _lacks_head(models, role, source) else drawn_for.get(source)
      for role, source in copies.items()
    }
    policy, *_ = phase.recipe.trained
    for role in sorted(set(phase.recipe.scored) - set(phase.recipe.trained)):
      better = f"the role that it scores; set copy=dict({role}='{policy}')"
      if models[role].head == 'reward':
        better = 'a phase of the recipe reward_model before, or a source'
      if drawn_for.get(role) not in (None, drawn_for.get(policy)):
        raise ValueError(
          f'phases.{phase.name}.copy: got {copies.to_dict()}, by which the '
          f'weights of {role!r} are random: neither it nor a role that it was '
          f'copied from has a source or was trained; expected {better}'
        )
    drawn_for |= dict.fromkeys(phase.recipe.trained)


def _lacks_head(models, role, source) -> bool:
  """Whether a copy of `source` has a head that is drawn: no language head."""
  return models[role].head not in ('lm', models[source].head)


def _check_best_metric(name, phases) -> None:
  """Raises ValueError for the name of a metric that no phase logs."""
  if name and phases:
    metrics = frozenset().union(
      *(logged_metrics(phase.recipe) for phase in phases)
    )
    lookup.check_name('best_metric', name.removeprefix('-'), metrics)
