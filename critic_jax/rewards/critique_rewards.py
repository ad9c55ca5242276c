"""The reward of a critique, made from settings: a weighted sum of rules.

`rollout.score` makes the sum. Rules that a setting does not pay for are left
out, or computed and logged with the weight 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from critic_jax import lookup
from critic_jax.rewards import (
  graded_verdicts,
  preferences,
  refinement,
  shaping,
  step_labels,
)
from critic_jax.types import Problem, Record, RewardFn

# Settings that name a function of critic_jax.tasks, and its parameters.
_TASKS = dict(measure=('problem', 'text'), reviewer=('critique',))
_NONE = np.zeros(0, np.int32)
_REST = 0, _NONE, _NONE, np.zeros(0, np.float32), ''
_SOLUTION = Record(
  Problem('', '', ''), 'solve', None, *_REST,
  parsed={'correct': True, 'first_error': -1},
)  # fmt: skip
# Rules check the values of their settings when they are called.
_CRITIQUE = Record(
  _SOLUTION.problem, 'critique', _SOLUTION, *_REST,
  parsed={'status': 'missing'},
)  # fmt: skip


def make_rewards(
  *,
  judge_weight: float,
  misjudge_weight: float,
  refine_weight: float,
  refine_reward: str,
  refine_settings: Mapping,
  preference_weight: float,
  step_weight: float,
  score_weight: float,
  gate: str,
  num_refinements: int,
  graded: Mapping[str, Mapping],
  form: Mapping[str, Mapping],
) -> tuple[dict[str, RewardFn], dict[str, float]]:
  """Returns the rules of a critique's reward and their weights, by name.

  Args:
    judge_weight: the weight of `refinement.judge`, the verdict's.
    misjudge_weight: the weight of `refinement.misjudge`; 0 leaves it out.
    refine_weight: the weight of the reward for refinements.
    refine_reward: this reward, a name in `refinement.HELPFUL`.
    refine_settings: further keywords of this function.
    preference_weight: the weight of `preferences.preferred`; 0 leaves it out.
    step_weight: the weight of `step_labels.locate`; 0 leaves it out.
    score_weight: the weight of `preferences.scored`; 0 leaves it out.
    gate: which critiques may earn it; see `refinement.admits`.
    num_refinements: refinements of each admitted critique.
    graded: settings with a `weight` each, by the name of a function in
      rewards/graded_verdicts.py.
    form: settings with a `weight` each, by the name of a function in
      rewards/shaping.py.

  Raises:
    ValueError: a setting is wrong, or every critique would earn the same.
  """
  refinement.check_gate(gate)
  lookup.check_name('refine_reward', refine_reward, refinement.HELPFUL)
  lookup.check_numbers(
    misjudge_weight=misjudge_weight,
    preference_weight=preference_weight,
    step_weight=step_weight,
    score_weight=score_weight,
  )
  weights = {'judge': judge_weight, refine_reward: refine_weight}
  with lookup.naming('refine_settings'):
    settings = dict(
      name=refine_reward, gate=gate, **_bind_tasks(refine_settings)
    )
    helpful = lookup.bind(refinement, settings)
    helpful(_CRITIQUE, [])
  rules = {'judge': refinement.judge, refine_reward: helpful}
  if misjudge_weight:
    rules['misjudge'] = refinement.misjudge
    weights['misjudge'] = misjudge_weight
  if preference_weight:
    rules['preferred'] = preferences.preferred
    weights['preferred'] = preference_weight
  if step_weight:
    rules['locate'] = step_labels.locate
    weights['locate'] = step_weight
  if score_weight:
    rules['score'] = preferences.scored
    weights['score'] = score_weight
  for name, settings in graded.items():
    rules[name], weights[name] = _bind(
      graded_verdicts, name, settings, f'graded.{name}'
    )
  for name, settings in form.items():
    rules[name], weights[name] = _bind(
      shaping, name, settings, f'shaping.{name}'
    )
  _check_earns(weights, refine_reward, num_refinements)
  return rules, weights


def _bind(module, name, settings, setting):
  """Returns a rule of a module and its weight."""
  settings = dict(settings)
  if 'weight' not in settings:
    raise ValueError(f"{setting}: got {settings}; expected a 'weight'")
  with lookup.naming(setting):
    weight = settings.pop('weight')
    lookup.check_numbers(weight=weight)
    rule = lookup.bind(module, {'name': name, **_bind_tasks(settings)})
    rule(_CRITIQUE, [])
  return rule, weight


def _bind_tasks(settings: Mapping) -> dict:
  """Returns settings with the functions that they name."""
  bound = {
    name: lookup.bind_task(value, name, _TASKS[name])
    for name, value in settings.items()
    if name in _TASKS
  }
  return {**settings, **bound}


def _check_earns(weights, refine_reward, num_refinements) -> None:
  """Raises ValueError if every critique earns the same: there is no reward."""
  paid = {name for name, weight in weights.items() if weight}
  if not paid - (set() if num_refinements else {refine_reward}):
    raise ValueError(
      f'judge_weight, refine_weight: got the weights {weights} and '
      f'num_refinements={num_refinements}, by which no critique earns anything;'
      ' expected a reward; raise judge_weight, or refine_weight and '
      'num_refinements'
    )
