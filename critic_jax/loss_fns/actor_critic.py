"""A policy's loss and that of its value function, which gives the advantages.

    loss = policy loss + value_coef * sum(weights * value objective)

The value model reads a batch before the update; rewards and its values make
generalised advantages (`objectives/gae.py`) and the returns that it learns, by
a function of `objectives/value.py`. It is the role 'value'.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax import lookup
from critic_jax.loss_fns import scoring
from critic_jax.loss_fns.policy_gradient import PolicyLoss
from critic_jax.objectives import gae, masked
from critic_jax.objectives import value as value_objectives
from critic_jax.sampling.lm import LM
from critic_jax.types import Array, Batch, Roles


class ActorCritic(NamedTuple):
  """A policy and a value function that are trained together.

  Attributes:
    loss: `(trained roles, batch) -> (scalar, (sums, per_row))`, the policy's
      with the part 'loss/value'.
    add_advantages: `(batch of plain rows, rewards float32[B, T], whether each
      response is open bool[B], roles) -> batch` with 'values', 'returns' and
      whitened 'advantages'. An open response has a future, the value after it.
    scored: the roles that read the rows of a batch for it.
    metrics: the names of its metrics.
  """

  loss: Callable
  add_advantages: Callable[[Batch, Array, Array, Roles], Batch]
  scored: tuple[str, ...]
  metrics: tuple[str, ...]


def make_actor_critic(
  models: Mapping[str, LM],
  policy: PolicyLoss,
  *,
  value_loss: Mapping,
  value_coef: float,
  discount: float,
  lambda_: float,
  microbatches: int,
) -> ActorCritic:
  """Makes the loss of a policy and of the role 'value', which judges it.

  Args:
    models: LMs by role; 'value' has a value head.
    policy: the policy's loss.
    value_loss: a name and keywords of `objectives/value.py`.
    value_coef: the weight of the value loss.
    discount: the discount of the future, for each token.
    lambda_: the lambda of the generalised advantages.
    microbatches: parts of a batch that are read one after another.

  Raises:
    ValueError: a setting is wrong, or the role has no value head.
  """
  lookup.check_numbers(0, value_coef=value_coef)
  for name, share in (('discount', discount), ('lambda_', lambda_)):
    lookup.check_numbers(0, **{name: share})
    if share > 1:
      raise ValueError(f'{name}: got {share}; expected at most 1')
  scoring.check_head(models, 'value', 'value')
  value_fn = lookup.bind(value_objectives, value_loss, 'value_loss')
  with lookup.naming('value_loss'):  # its values are checked when it is called
    jax.eval_shape(
      value_fn, *np.zeros((3, 1, 1), np.float32), np.ones((1, 1), bool)
    )

  def loss(trained, batch):
    policy_total, (sums, per_row) = policy.loss(trained, batch)
    values = scoring.bind(models, trained, 'value').values(batch)
    per_token = value_fn(
      values, batch['values'], batch['returns'], batch['mask']
    )
    value_total = jnp.sum(batch['weights'] * per_token)
    sums = {**sums, 'loss/value': value_total}
    return policy_total + value_coef * value_total, (sums, per_row)

  def add_advantages(batch, rewards, is_open, roles):
    values, final = scoring.score(
      scoring.Scorer.values_and_final,
      scoring.bind(models, roles, 'value'),
      batch,
      microbatches=microbatches,
    )
    after = np.where(is_open, final, np.float32(0))
    estimates = estimate(
      rewards, values, batch['mask'], after, discount=discount, lambda_=lambda_
    )
    return {**batch, 'values': values, **jax.device_get(estimates)}

  return ActorCritic(
    loss,
    add_advantages,
    scored=(*policy.scored, 'value'),
    metrics=(*policy.metrics, 'loss/value'),
  )


@functools.partial(jax.jit, static_argnames=('discount', 'lambda_'))
def estimate(rewards, values, mask, bootstrap, *, discount, lambda_):
  """Computes returns and whitened advantages, float32[B, T] each.

  Args:
    rewards: float32[B, T].
    values: float32[B, T], the value before each token.
    mask: bool[B, T].
    bootstrap: float32[B], the value after each response.
    discount: the discount of the future, for each token.
    lambda_: the lambda of the generalised advantages.
  """
  advantage, returns = gae.gae(
    rewards,
    values,
    mask,
    discount=discount,
    lambda_=lambda_,
    bootstrap=bootstrap,
  )
  return {'returns': returns, 'advantages': masked.whiten(advantage, mask)}
