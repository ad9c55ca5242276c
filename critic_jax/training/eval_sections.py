"""Sections of evaluations in a config: their settings, checked and bound."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from critic_jax import lookup
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.rewards import refinement
from critic_jax.sampling import executed_checks
from critic_jax.sampling.lm import LM
from critic_jax.training import data_sections, solution_scores
from critic_jax.types import Problem, Record, Roles

# In the place of a phase's name: before the first, as the roles were loaded.
START = 'start'


class Bound(NamedTuple):
  """What a section names.

  Attributes:
    lms: by role, with the section's sampling parameters.
    first_error: (problem, solution) -> index of its first wrong step, or None.
    describe: critique -> what it does, or None.
    make_score: roles -> what scores solutions, or None.
    advance: critique -> the next action of an episode, or None.
  """

  lms: Mapping[str, LM]
  first_error: Callable[[Problem, str], int] | None
  describe: Callable[[Record], Mapping[str, bool]] | None
  make_score: Callable[[Roles], Callable | None]
  advance: Callable[[Record], Record | None] | None


def check_section(
  *,
  after: Sequence[str],
  data: Mapping[str, Any],
  split: str,
  num_examples: int,
  batch_size: int,
  sampling: Mapping[str, Mapping],
  num_solutions: int,
  num_critiques: int,
  num_refinements: int,
  refine: str,
  controls: bool,
  first_error: Mapping[str, Any],
  describe: Mapping[str, Any],
  reward_model: Mapping[str, Any] | None = None,
  num_rounds: int = 1,  # a run of before has none
  step_scores: Mapping[str, Any] | None = None,  # nor these
  checks: Mapping[str, Any] | None = None,
  episodes: Mapping[str, Any] | None = None,
) -> None:
  """Checks the settings of an evaluation; its parameters are their names.

  Args:
    after: the phases after which it is made; START is before the first.
    data: {} for the run's own; else a name and keywords of data/sources.py.
    split: the split of the data.
    num_examples: the first of the split; 0 is all.
    batch_size: examples whose records are saved at once.
    sampling: by role, other sampling parameters, or max_new_tokens.
    num_solutions: solutions of each problem.
    num_critiques: critiques of each solution.
    num_refinements: with each critique that the gate `refine` admits.
    refine: a gate of rewards/refinement.py.
    controls: whether these critiques are also refined with controls.
    first_error: a `module` of critic_jax.tasks, a name and keywords.
    describe: a `module` of critic_jax.tasks, a name and keywords.
    reward_model: `roles` that score solutions, () for none, and a name and
      keywords of objectives/ensembles.py.
    num_rounds: rounds of critique and refine.
    step_scores: the `role` that scores steps, '' for none, and `aggregate`, a
      function of rewards/step_aggregates.py.
    checks: who executes those of critiques; see sampling/executed_checks.py.
    episodes: who goes on after a critique of an action, a `module` of
      critic_jax.tasks, a name and keywords.

  Raises:
    ValueError: a value is out of its range.
  """
  del after, data, split, sampling, controls, first_error, describe
  del step_scores, reward_model, checks, episodes
  with lookup.naming('refine'):
    refinement.check_gate(refine)
  lookup.check_counts(
    num_solutions=num_solutions, batch_size=batch_size, num_rounds=num_rounds
  )
  lookup.check_counts(
    0,
    num_examples=num_examples,
    num_critiques=num_critiques,
    num_refinements=num_refinements,
  )
  if num_rounds > 1 and not num_refinements * num_critiques:
    raise ValueError(
      f'num_rounds: got {num_rounds} with num_critiques={num_critiques} and '
      f'num_refinements={num_refinements}; expected 1, or some of both'
    )


def bind(section, config, lms) -> Bound:
  """Checks a section, and returns the LMs and the functions that it names.

  Args:
    section: the section of an evaluation.
    config: the config of a run or of an evaluation.
    lms: by role.

  Raises:
    ValueError: a setting or a name is wrong.
  """
  lookup.check_settings(check_section, section, 'an evaluation')
  check_section(**section)
  for phase in section.after:
    lookup.check_name('after', phase, [START, *config.get('order', ())])
  if section.data:
    data_sections.check_section(section.data)
  resampled = dict(lms)
  for role, settings in section.sampling.items():
    lookup.check_name('sampling', role, lms)
    resampled[role] = _resampled(lms[role], **settings)
  first_error = _named(section.first_error, 'first_error', 'problem', 'text')
  describe = _named(section.describe, 'describe', 'critique')
  make_score = solution_scores.bind(section, resampled)
  resampled = executed_checks.with_checks(resampled, section.get('checks'))
  episodes = section.get('episodes') or dict(module='', name='')
  advance = _named(episodes, 'episodes', 'critique')
  if advance and (section.num_refinements or not section.num_critiques):
    raise ValueError(
      f'episodes: got some with num_critiques={section.num_critiques} and '
      f'num_refinements={section.num_refinements}; expected critiques, and 0 '
      'refinements, as an episode goes on without them'
    )
  return Bound(resampled, first_error, describe, make_score, advance)


def _resampled(lm: LM, *, max_new_tokens: int | None = None, **sampling) -> LM:
  """Returns the LM with some settings of its sampling replaced.

  Raises:
    ValueError: a value is out of its range, or there is no such setting.
  """
  for name in sampling:
    lookup.check_name(
      'setting', name, [*SamplingParams._fields, 'max_new_tokens']
    )
  if max_new_tokens is None:
    max_new_tokens = lm.max_new_tokens
  lookup.check_counts(max_new_tokens=max_new_tokens)
  sampling_params = lm.sampling_params._replace(**sampling).check()
  return dataclasses.replace(
    lm, sampling_params=sampling_params, max_new_tokens=max_new_tokens
  )


def _named(settings, setting, *parameters) -> Callable | None:
  """Returns the function of critic_jax.tasks that a setting may name."""
  with lookup.naming(setting):
    lookup.check_has('name', settings, 'function of critic_jax.tasks')
  return lookup.bind_task(settings, setting, parameters)
