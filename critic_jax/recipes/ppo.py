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

from collections.abc import Mapping, Sequence

import numpy as np

from critic_jax import lookup
from critic_jax.data import batching, step_rows
from critic_jax.loss_fns import actor_critic, policy_gradient
from critic_jax.rewards import refinement, segments
from critic_jax.rollouts import rollout, solving, stage_metrics
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
  measures, rules, weights = segments.bind(segment_rewards)
  policy = policy_gradient.make_policy_loss(
    models, 'solver', objective=objective, kl=kl, microbatches=microbatches
  )
  learner = actor_critic.make_actor_critic(
    models, policy, value_loss=value_loss, value_coef=value_coef,
    discount=discount, lambda_=lambda_, microbatches=microbatches,
  )  # fmt: skip
  solve = solving.bind(solver, num_solutions, grade=grade)
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
    solutions = solve(roles, problems, key)
    solutions = rollout.score(
      segments.write(solutions, measures),
      [],
      {'correct': refinement.correct, **rules},
      {'correct': 1.0, **weights},
    )

    # 3. Estimate values, on plain rows: packed ones hold several responses.
    _, where = rollout.determined_rewards(solutions)
    batch = to_rows(solutions, where=where)
    mask = batch['mask']
    paid = [segments.weighted(solution, weights) for solution in solutions]
    rewards = step_rows.token_rewards(solutions, paid, mask, solver)
    is_open = was_cut(solutions, mask) & bootstrap_cut
    batch = pack(learner.add_advantages(batch, rewards, is_open, roles))
    return policy.add_ref_logprobs(batch, roles), solutions

  names = stage_metrics.names(
    'solve', rewards=['correct', *rules], is_graded=True
  )
  return Recipe(
    collect,
    learner.loss,
    trained=('solver', 'value'),
    num_rows=num_rows,
    sampled=(Sampled('solve', 'solver', batch_size, num_solutions),),
    scored=learner.scored,
    metrics=frozenset([*learner.metrics, *names]),
    corrects_staleness=policy.corrects_staleness,
  )


def _check_several(batch_size, num_solutions) -> None:
  if batch_size * num_solutions < 2:
    # Whitened advantages leave nothing of one reward.
    raise ValueError(
      f'batch_size, num_solutions: got {batch_size}, {num_solutions}, by which '
      'a step has one response; expected several, to compare; raise either'
    )


def was_cut(records, mask):
  """Whether each row's response was cut off, bool[B]."""
  cut = np.zeros(len(mask), bool)
  cut[: len(records)] = [record.truncated for record in records]
  return cut
