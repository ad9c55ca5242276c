"""The reward of a critique, made from settings: a weighted sum of rules.

`rollout.score` makes the sum. Rules that a setting does not pay for are left
out, or computed and logged with the weight 0.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from critic_jax import lookup
from critic_jax.rewards import preferences, refinement, shaping, step_labels
from critic_jax.types import Problem, Record, RewardFn

_NONE = np.zeros(0, np.int32)
_EMPTY = Record(
  Problem('', '', ''), 'critique', None, 0, _NONE, _NONE,
  np.zeros(0, np.float32), '', parsed={'status': 'missing'},
)  # fmt: skip


def make_rewards(
  *,
  judge_weight: float,
  misjudge_weight: float,
  refine_weight: float,
  refine_reward: str,
  preference_weight: float,
  step_weight: float,
  score_weight: float,
  gate: str,
  num_refinements: int,
  form: Mapping[str, Mapping],
) -> tuple[dict[str, RewardFn], dict[str, float]]:
  """Returns the rules of a critique's reward and their weights, by name.

  Args:
    judge_weight: the weight of `refinement.judge`, the verdict's.
    misjudge_weight: the weight of `refinement.misjudge`; 0 leaves it out.
    refine_weight: the weight of the reward for refinements.
    refine_reward: this reward, a name in `refinement.HELPFUL`.
    preference_weight: the weight of `preferences.preferred`; 0 leaves it out.
    step_weight: the weight of `step_labels.locate`; 0 leaves it out.
    score_weight: the weight of `preferences.scored`; 0 leaves it out.
    gate: which critiques may earn it; see `refinement.admits`.
    num_refinements: refinements of each admitted critique.
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
  helpful = refinement.HELPFUL[refine_reward]
  rules = {
    'judge': refinement.judge,
    refine_reward: functools.partial(helpful, gate=gate),
  }
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
  for name, settings in form.items():
    rules[name], weights[name] = _bind_form(name, dict(settings))
  _check_earns(weights, refine_reward, num_refinements)
  return rules, weights


def _bind_form(name, settings):
  """Returns a rule of rewards/shaping.py and its weight."""
  setting = f'shaping.{name}'
  if 'weight' not in settings:
    raise ValueError(f"{setting}: got {settings}; expected a 'weight'")
  weight = settings.pop('weight')
  rule = lookup.bind(shaping, {'name': name, **settings}, setting)
  with lookup.naming(setting):  # its values are checked when it is called
    lookup.check_numbers(weight=weight)
    rule(_EMPTY, [])
  return rule, weight


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
