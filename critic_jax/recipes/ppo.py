"""PPO: an actor-critic with a learned value function.

https://arxiv.org/abs/1707.06347, with generalised advantages
(https://arxiv.org/abs/1506.02438).

1. The policy solves each problem `num_solutions` times.
2. Reward, at the last token: the final answer is right. A solution whose grader
   timed out teaches nothing. Segments may have rewards of their own, of several
   kinds, each at its last token (https://arxiv.org/abs/2306.01693).
3. The value model's estimates before each token give advantages and returns.
   A solution that was cut off is worth what a finished wrong one is; with
   `bootstrap_cut` the value after it stands for what would have followed.
4. Loss: clipped surrogate + value_coef * clipped value loss.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax import lookup
from critic_jax.data import batching, step_rows
from critic_jax.loss_fns import policy_gradient, scoring
from critic_jax.objectives import gae, masked
from critic_jax.objectives import value as value_objectives
from critic_jax.rewards import refinement, segments
from critic_jax.rollouts import rollout, stage_metrics
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled


def make(
  models,
  grade,
  *,
  num_solutions: int,
  segment_rewards: Mapping,
  discount: float,
  lambda_: float,
  bootstrap_cut: bool,
  objective: Mapping,
  kl: Mapping,
  value_loss: Mapping,
  value_coef: float,
  batch_size: int,
  aggregate: str,
  row_shapes: Sequence,
  microbatches: int,
) -> Recipe:
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'solver', of 'value', which has a value head, and of 'ref' if
      the KL has a coefficient.
    grade: final answers to grades.
    num_solutions: solutions of each problem.
    segment_rewards: by kind, `weight`, and who rewards the segments of a
      solution (`segments.bind`); {} for the answer's reward alone.
    discount: the discount of the future, for each token.
    lambda_: the lambda of the generalised advantages.
    bootstrap_cut: whether the value after a solution that was cut off counts as
      its future. False: it has none, and so the return of a finished wrong one,
      which is what `rollout.grade` makes of it. True is for limits that are an
      accident of the sampler's; a value above 0 then pays for being cut.
    value_loss: a name and keywords of `objectives/value.py`.
    value_coef: the weight of the value loss.
  """
  solver, _ = get_models(models, 'solver', 'value')
  lookup.check_counts(num_solutions=num_solutions)
  lookup.check_numbers(0, value_coef=value_coef)
  for name, share in (('discount', discount), ('lambda_', lambda_)):
    lookup.check_numbers(0, **{name: share})
    if share > 1:
      raise ValueError(f'{name}: got {share}; expected at most 1')
  measures, rules, weights = segments.bind(segment_rewards)
  scoring.check_head(models, 'value', 'value')
  value_fn = lookup.bind(value_objectives, value_loss, 'value_loss')
  with lookup.naming('value_loss'):  # its values are checked when it is called
    jax.eval_shape(
      value_fn, *np.zeros((3, 1, 1), np.float32), np.ones((1, 1), bool)
    )
  policy = policy_gradient.make_policy_loss(
    models, 'solver', objective=objective, kl=kl, microbatches=microbatches
  )
  num_rows = batch_size * num_solutions
  _check_several(batch_size, num_solutions)
  to_rows, pack = batching.make_rows(
    solver,
    num_rows=num_rows,
    aggregate=aggregate,
    row_shapes=row_shapes,
    microbatches=microbatches,
  )

  def collect(roles, problems, key):
    # 1. Solve. 2. Reward.
    solutions = rollout.run_graded(
      solver.stages.solve,
      solver.bind(roles['solver']),
      problems,
      key,
      grade,
      n=num_solutions,
    )
    solutions = rollout.score(
      segments.write(solutions, measures),
      [],
      {'correct': refinement.correct, **rules},
      {'correct': 1.0, **weights},
    )

    # 3. Estimate values, on plain rows: packed ones hold several responses.
    _, where = rollout.determined_rewards(solutions)
    batch = to_rows(solutions, where=where)
    values, final = scoring.score(
      scoring.Scorer.values_and_final,
      scoring.bind(models, roles, 'value'),
      batch,
      microbatches=microbatches,
    )
    is_open = was_cut(solutions, batch['mask']) & bootstrap_cut
    paid = [segments.weighted(solution, weights) for solution in solutions]
    estimates = estimate(
      step_rows.token_rewards(solutions, paid, batch['mask'], solver),
      values,
      batch['mask'],
      np.where(is_open, final, np.float32(0)),
      discount=discount,
      lambda_=lambda_,
    )
    batch = pack({**batch, 'values': values, **jax.device_get(estimates)})
    return policy.add_ref_logprobs(batch, roles), solutions

  def loss(trained, batch):
    policy_total, (sums, per_row) = policy.loss(trained, batch)
    values = scoring.bind(models, trained, 'value').values(batch)
    per_token = value_fn(
      values, batch['values'], batch['returns'], batch['mask']
    )
    value_total = jnp.sum(batch['weights'] * per_token)
    sums = {**sums, 'loss/value': value_total}
    return policy_total + value_coef * value_total, (sums, per_row)

  names = stage_metrics.names(
    'solve', rewards=['correct', *rules], is_graded=True
  )
  return Recipe(
    collect,
    loss,
    trained=('solver', 'value'),
    num_rows=num_rows,
    sampled=(Sampled('solve', 'solver', batch_size, num_solutions),),
    scored=(*policy.scored, 'value'),
    metrics=frozenset([*policy.metrics, 'loss/value', *names]),
    corrects_staleness=policy.corrects_staleness,
  )


def _check_several(batch_size, num_solutions) -> None:
  if batch_size * num_solutions < 2:
    # Whitened advantages leave nothing of one reward.
    raise ValueError(
      f'batch_size, num_solutions: got {batch_size}, {num_solutions}, by which '
      'a step has one response; expected several, to compare; raise either'
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


def was_cut(records, mask):
  """Whether each row's response was cut off, bool[B]."""
  cut = np.zeros(len(mask), bool)
  cut[: len(records)] = [record.truncated for record in records]
  return cut
