"""PPO: an actor-critic with a learned value function.

https://arxiv.org/abs/1707.06347, with generalised advantages
(https://arxiv.org/abs/1506.02438).

1. The policy solves each problem `num_solutions` times.
2. Reward, at the last token: the final answer is right.
3. The value model's estimates before each token give advantages and returns;
   after a solution that was cut off the value itself stands for the future.
4. Loss: clipped surrogate + value_coef * clipped value loss.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import policy_gradient
from critic_jax.models import forward
from critic_jax.objectives import advantages, masked
from critic_jax.objectives import value as value_objectives
from critic_jax.rewards import refinement
from critic_jax.rollouts import rollout
from critic_jax.runtime import sharding
from critic_jax.types import Recipe


def make(config, models, grade) -> Recipe:
  """The recipe.

  Args:
    config: `num_solutions`, `discount`, `lambda_`, `objective`, `value_loss`
      (a name and keywords of objectives/value.py), `value_coef`, `kl`,
      `aggregate`, `row_shapes`, `batch_size` in problems.
    models: LMs of 'solver' and of 'value', which has a value head.
    grade: final answers to grades.
  """
  solver, value = models['solver'], models['value']
  num_solutions, value_coef = config.num_solutions, config.value_coef
  pack = batching.make_pack(config)
  discount, lambda_ = config.discount, config.lambda_
  if value.model.config.head != 'value':
    raise ValueError(
      f"models.value: got head={value.model.config.head!r}; expected 'value'"
    )
  value_fn = lookup.bind(value_objectives, config.value_loss)
  policy_fn = policy_gradient.make_policy_loss(solver, 'solver', config)

  def collect(roles, problems, key):
    solutions = rollout.run_graded(
      solver.stages.solve,
      solver.bind(roles['solver']),
      problems,
      key,
      grade,
      n=num_solutions,
    )
    solutions = rollout.score(
      solutions, [], {'correct': refinement.correct}, {'correct': 1.0}
    )
    batch = batching.from_records(
      solutions,
      solver,
      num_rows=config.batch_size * num_solutions,
      aggregate=config.aggregate,
    )
    with sharding.on_mesh_of(roles['value']):
      estimates = estimate(
        value.model,
        roles['value'],
        batch['tokens'],
        batch['mask'],
        reward_at_end(solutions, batch['mask']),
        was_cut(solutions, batch['mask']),
        discount,
        lambda_,
      )
    batch = pack({**batch, **jax.device_get(estimates)})
    return (
      policy_gradient.add_ref_logprobs(batch, solver, roles, config),
      solutions,
    )

  def loss(trained, batch):
    policy_total, (sums, per_row) = policy_fn(trained, batch)
    values = forward.token_values(
      value.model,
      trained['value'],
      batch['tokens'],
      layout=forward.layout(batch),
    )
    per_token = value_fn(
      values, batch['values'], batch['returns'], batch['mask']
    )
    value_total = jnp.sum(batch['weights'] * per_token)
    total = policy_total + value_coef * value_total
    return total, ({**sums, 'loss/value': value_total}, per_row)

  return Recipe(collect, loss)


@functools.partial(jax.jit, static_argnames=('model', 'discount', 'lambda_'))
def estimate(model, params, tokens, mask, rewards, cut, discount, lambda_):
  """Values, returns and whitened advantages of a batch, float32[B, T] each.

  Args:
    model: with a value head.
    params: its parameters.
    tokens: int32[B, T].
    mask: bool[B, T].
    rewards: float32[B, T].
    cut: bool[B], the response was cut off: the value after its last token
      stands for what would have followed.
    discount: of the future, a token.
    lambda_: of the estimator.
  """
  values = forward.token_values(model, params, tokens)
  final = forward.response_scores(model, params, tokens, mask)
  advantage, returns = advantages.gae(
    rewards,
    values,
    mask,
    discount=discount,
    lambda_=lambda_,
    bootstrap=jnp.where(cut, final, 0.0),
  )
  return {
    'values': values,
    'returns': returns,
    'advantages': masked.whiten(advantage, mask),
  }


def reward_at_end(records, mask):
  """Each record's reward at the last token of its row, float32[B, T]."""
  rewards = np.zeros(mask.shape, np.float32)
  for row, record in enumerate(records):
    if mask[row].any():
      rewards[row, np.flatnonzero(mask[row])[-1]] = record.scores['reward']
  return rewards


def was_cut(records, mask):
  """Whether each row's response was cut off, bool[B]."""
  cut = np.zeros(len(mask), bool)
  cut[: len(records)] = [record.truncated for record in records]
  return cut
