"""The sections of data in a config: a run's own, and those of its evaluations.

Their names are checked, and that each split is both given and read, before a
file is opened; and then that what was read is what phases and evaluations take,
problems, given solutions, or comparisons.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from critic_jax import lookup
from critic_jax.data import preference_files, sources
from critic_jax.execution import code
from critic_jax.types import Comparison, Record

_SPLITS = ('train', 'dev', 'test')


def check_section(data: Mapping[str, Any]) -> None:
  """Checks the names in a section of data.

  Raises:
    ValueError: no such source, setting or split, or a setting is missing.
  """
  lookup.bind(sources, data)
  for name in ('paths', 'fractions'):
    value = data.get(name)
    for split in value if hasattr(value, 'items') else ():
      lookup.check_name(f'split of {name}', split, _SPLITS)


def check_splits(config) -> None:
  """Checks that splits with a path are read, and that those read have one.

  Training reads 'train' of the run's own data, an evaluation its `split`. One
  without a path is a share of `paths.train`, or lies in the folder there.

  Args:
    config: the config of a run or of an evaluation; its names were checked.

  Raises:
    ValueError: a split that nothing reads has a path, or one that is read
      has none.
  """
  sections = [('data', config.data, {})]
  if config.get('order'):
    sections[0][2]['train'] = 'training'
  for name, section in config.evals.items():
    setting = f'evals.{name}'
    lookup.check_name(f'{setting}: split', section.split, _SPLITS)
    data = section.data or config.data
    readers = next((r for _, other, r in sections if other == data), None)
    if readers is None:
      readers = {}
      sections.append((f'{setting}.data', data, readers))
    readers.setdefault(section.split, setting)
  for setting, data, readers in sections:
    _check_paths(setting, data.get('paths'), readers)


def _check_paths(setting, paths, readers: Mapping[str, str]) -> None:
  """Raises ValueError if paths are not of the splits in `readers`."""
  if not hasattr(paths, 'items'):  # a mapping or a ConfigDict
    return
  given = {split: path for split, path in paths.items() if path}
  missing = [split for split in readers if split not in given]
  if missing and 'train' not in given:
    split = missing[0]
    raise ValueError(
      f'{setting}.paths: got {given or "none"}; expected {split!r}, too, which '
      f'{readers[split]} reads; write --config.{setting}.paths.{split}=FILE'
    )
  for split in given:
    if split not in readers and not (split == 'train' and missing):
      raise ValueError(
        f'{setting}.paths.{split}: got {given[split]!r}, which nothing reads; '
        f'expected paths of {sorted(readers)}; leave it out, or name the split '
        f'in an evaluation: --config.evals.NAME.split={split}'
      )


def read(data: Mapping[str, Any], name: str = '') -> sources.Splits:
  """Reads a section of data.

  Args:
    data: the section.
    name: that of its evaluation, '' for the run's own data.

  Raises:
    ValueError: a file is wrong; names the flag to type.
  """
  try:
    return lookup.bind(sources, data)()
  except ValueError as error:
    if not name:
      raise
    own = f'--config.evals.{name}.data.'  # sources know the flags of a run
    raise ValueError(str(error).replace('--config.data.', own)) from error


def check_examples(phases: Sequence, examples: Sequence) -> None:
  """Checks that the phases of a run take what its data has.

  Args:
    phases: a `phases.Phase` each.
    examples: the split that is trained on.

  Raises:
    ValueError: given solutions for a phase that takes problems, or problems for
      one that takes solutions; or solutions that cannot be refined, or lack
      labels that are paid for; or comparisons that teach nothing, or are for
      another recipe.
  """
  are_given = bool(len(examples)) and isinstance(examples[0], Record)
  are_compared = bool(len(examples)) and isinstance(examples[0], Comparison)
  for phase in phases:
    with lookup.naming(f'phases.{phase.name}'):
      recipe = phase.recipe
      if are_compared != recipe.takes_comparisons:
        kinds = 'comparisons', 'other examples'
        got, expected = kinds if are_compared else kinds[::-1]
        raise ValueError(
          f'recipe: got {phase.config.recipe!r}, which takes {expected}, and '
          f'data of {got}; expected one kind; offline_preference with '
          "writer.module='', and reward_model with comparisons, take those of "
          "data.name='preferences'"
        )
      if are_compared:
        config = phase.config
        section = config.get('comparisons') or config  # reward_model's
        preference_files.check(
          examples,
          score=section.score,
          margin=config.get('margin', {}),
          max_responses=section.max_responses,
          objective=config.objective.name,
        )
        continue
      if are_given and not recipe.takes_solutions:
        raise ValueError(
          f'recipe: got {phase.config.recipe!r}, which solves problems, and '
          'data of given solutions; expected a phase that critiques them: '
          f'--config.phases.{phase.name}.num_solutions=0 with the recipe '
          'refcritic or cold_start; or name a source of problems in data'
        )
      if recipe.takes_solutions and not are_given:
        raise ValueError(
          'num_solutions: got 0, and data of problems without solutions; '
          f'expected >= 1: --config.phases.{phase.name}.num_solutions=1; or '
          "given solutions, such as those of data.name='solutions'"
        )
      if any(stage.stage == 'refine' for stage in recipe.sampled):
        check_refinable(phase.config.get('num_refinements', 1), examples)
        _check_tests(phase.config.get('refine_reward'), examples)
      if are_given and phase.config.get('step_weight'):
        _check_labelled(phase.config, examples)


def _check_labelled(config, examples) -> None:
  """Raises ValueError if labels of steps are paid for and nobody gives them."""
  if config.first_error.module:
    return
  is_completed = config.completions.num > 0
  what = 'an answer to grade by' if is_completed else 'a label of their steps'
  unknown = [
    e.id
    for e in examples
    if not (e.problem.answer if is_completed else 'first_error' in e.parsed)
  ]
  if unknown:
    raise ValueError(
      f'step_weight: got {config.step_weight}, but {len(unknown)} solutions '
      f'({unknown[0]}, ...) come without {what}; expected 0, or files that '
      'have it for all'
    )


def _check_tests(reward: str, examples: Sequence) -> None:
  """Raises ValueError if shares of tests are paid and there are no tests."""
  if reward != 'passed' or not len(examples):
    return
  # The graders refuse data of both kinds.
  problem = getattr(examples[0], 'problem', examples[0])
  if not code.is_reference(problem.answer):
    raise ValueError(
      f"refine_reward: got 'passed' for the answer of {problem.id}, "
      f'{reprlib.repr(problem.answer)}; expected unit tests, such as those of '
      "data.layout='mbpp'; or pay 'refine'"
    )


def check_refinable(num_refinements: int, examples: Sequence) -> None:
  """Checks that refinements of given solutions have an answer to be graded by.

  Args:
    num_refinements: those of a critique.
    examples: problems or given solutions.

  Raises:
    ValueError: a solution comes without it, or without its own grade.
  """
  if len(examples) and isinstance(examples[0], Comparison):
    raise ValueError(
      'data: got comparisons; expected problems or given solutions, to measure '
      'solvers and critics on; name them in the data of the evaluation'
    )
  unknown = [
    e.id
    for e in (examples if num_refinements else ())
    if isinstance(e, Record) and not (e.problem.answer and _has_grade(e.parsed))
  ]
  if unknown:
    raise ValueError(
      f'num_refinements: got {num_refinements}, but {len(unknown)} solutions '
      f'({unknown[0]}, ...) come without the answer of their problem or '
      'whether they are right; expected 0'
    )


def _has_grade(parsed: Mapping[str, Any]) -> bool:
  """Whether a given solution comes with its grade, or is graded by us."""
  return (
    isinstance(parsed.get('correct'), bool) or parsed.get('grade') == 'open'
  )
