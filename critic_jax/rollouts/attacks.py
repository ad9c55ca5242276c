"""Attacks on right solutions: somebody is told to make a step wrong.

The order stands where a critique would, and the attack where a refinement
would, so that every style of prompts has both. The parent of an order is the
solution, and the order that of its attacks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from critic_jax.rewards import refinement
from critic_jax.rollouts import completions, rollout, stage_metrics
from critic_jax.types import Key, Record, Roles, Sampled, Stage

ORDER, NAME = 'order', 'attack'


def give_orders(
  solutions: Sequence[Record], order: str, seed: int
) -> list[Record]:
  """Orders one step of each right solution to be made wrong, any alike.

  The step depends on the seed and the problem alone, and not on what else there
  is. Solutions that are wrong, have a wrong step, or were not sampled get none;
  neither do those of one line, which is the answer.

  Args:
    solutions: graded, and labelled where somebody knows the steps.
    order: the text, with {} for the number of the step, from 1.
    seed: of this call.

  Returns:
    Written records, with `parsed['target']`, the step from 0.
  """
  orders = []
  for solution in solutions:
    if solution.refused or not refinement.is_right(solution):
      continue
    if solution.parsed.get('first_error', -1) != -1:
      continue
    num_steps = len(completions.step_ends(solution)) - 1  # without the answer
    if num_steps > 0:
      rng = random.Random(f'{seed}/{solution.id}')
      target = rng.randrange(num_steps)
      orders.append(_order(solution, order.format(target + 1), target))
  return orders


def _order(solution, text, target) -> Record:
  # As a critique's conclusion, which a refinement is asked with.
  stage = Stage(ORDER, str, lambda text: dict(conclusion=text, target=target))
  return rollout.write(stage, solution, text)


def stage(stages: Any) -> Stage:
  """Returns the stage of attacks: refinements that follow an order."""
  return stages.refine._replace(name=NAME)


def attacked(attacks: Sequence[Record]) -> list[Record]:
  """Returns the solutions that attacks were made of, each of them once."""
  solutions = [attack.parent.parent for attack in attacks]
  return list({id(solution): solution for solution in solutions}.values())


def share(
  players: Sequence[str],
  models: Mapping[str, Any],
  roles: Roles,
  stage_of: Callable[[Any], Stage],
  parents: Sequence[Record],
  key: Key,
  *,
  n: int,
  max_parents: int,
) -> list[Record]:
  """Samples n responses to each parent by players who share the parents.

  Args:
    players: roles; each gets every len(players)-th parent.
    models: LMs by role.
    roles: parameters by role.
    stage_of: the stages of a player's style -> the stage that is sampled.
    parents: records.
    key: consumed.
    n: responses to each parent.
    max_parents: parents at other steps, at most.

  Returns:
    Records; siblings are adjacent.
  """
  records = []
  for i, player in enumerate(players):
    lm, its = models[player], parents[i :: len(players)]
    records += rollout.run(
      stage_of(lm.stages), lm.bind(roles[player]), its, key, n=n,
      max_prompts=-(-max_parents // len(players)),
    )  # fmt: skip
  return records


def sampled(
  stage: str, players: Sequence[str], max_parents: int, n: int
) -> list[Sampled]:
  """Lists what players sample who share at most `max_parents` parents."""
  num_prompts = -(-max_parents // len(players))
  return [Sampled(stage, player, num_prompts, n) for player in players]


def metric_names(
  of_attacker: Iterable[str], of_critic: Iterable[str]
) -> list[str]:
  """Lists the metrics of a step's records, by the rules of both sides."""
  names = stage_metrics.names
  return [
    *names('solve', is_graded=True),
    *names(ORDER),
    *names(NAME, rewards=of_attacker, is_graded=True),
    *names('critique', rewards=of_critic, has_verdict=True),
  ]


def check_players(
  learner: str, attackers: Sequence[str], critics: Sequence[str]
) -> bool:
  """Returns whether the learner is the critic, and not the attacker.

  Raises:
    ValueError: a side has nobody or one role twice, or the learner is not all
      of one side.
  """
  sides = dict(attackers=tuple(attackers), critics=tuple(critics))
  for name, side in sides.items():
    if not side or len(set(side)) < len(side):
      raise ValueError(f'{name}: got {side}; expected roles, each of them once')
  is_side = [side == (learner,) for side in sides.values()]
  if any(is_side) and sum(learner in side for side in sides.values()) == 1:
    return is_side[1]
  raise ValueError(
    f'learner: got {learner!r}, attackers={sides["attackers"]} and '
    f'critics={sides["critics"]}; expected the only role of one side, and '
    'none of the other'
  )


def check_order(order: str) -> None:
  """Raises ValueError for an order that names no step."""
  if not isinstance(order, str) or order.count('{}') != 1:
    raise ValueError(
      f"order: got {order!r}; expected a text with '{{}}' once, where the "
      "step's number stands; write e.g. 'Make step {} wrong.'"
    )
