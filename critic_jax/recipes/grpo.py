"""Policy gradients on a solver: GRPO, Dr. GRPO, DAPO, RLOO, ... by config.

GRPO is https://arxiv.org/abs/2402.03300.

1. The policy solves each problem `num_solutions` times.
2. Reward: the final answer is right.
3. Advantages relative to the solutions of the same problem, but for those whose
   grader timed out (a program that does not end is one): these teach nothing.
4. Policy gradient, with a penalty for leaving a reference if asked.

The algorithms differ in `advantage` (group_relative or leave_one_out,
normalised or not), `aggregate` (token, sequence, constant), `objective`
(ppo_clip with its clips, gspo, cispo, reinforce) and `kl`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import policy_gradient
from critic_jax.objectives import advantages
from critic_jax.rewards import refinement
from critic_jax.rollouts import rollout, stage_metrics
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled


def make(
  models,
  grade,
  *,
  num_solutions: int,
  advantage: Mapping,
  objective: Mapping,
  kl: Mapping,
  batch_size: int,
  aggregate: str,
  row_shapes: Sequence,
  microbatches: int,
) -> Recipe:
  """Makes the recipe.

  Args:
    models: LMs of 'solver', and of 'ref' if the KL has a coefficient.
    grade: final answers to grades.
    num_solutions: solutions of each problem.
    advantage: a name and keywords of `objectives/advantages.py`, over groups.
    objective: the surrogate, a name and keywords of `objectives/policy.py`.
    kl: the penalty: `name` in `objectives/kl.py`, and its `coef`.
    batch_size: problems a step.
    aggregate: how the loss is normalised: 'token', 'sequence' or 'constant'.
    row_shapes: (rows, columns) that a batch may be packed in; () for none.
    microbatches: parts that a batch is cut into.
  """
  [solver] = get_models(models, 'solver')
  lookup.check_counts(2, num_solutions=num_solutions)  # a group to compare
  advantage_fn = lookup.bind(advantages, advantage, 'advantage')
  policy = policy_gradient.make_policy_loss(
    models, 'solver', objective=objective, kl=kl, microbatches=microbatches
  )
  num_rows = batch_size * num_solutions
  to_rows, pack = batching.make_rows(
    solver,
    num_rows=num_rows,
    aggregate=aggregate,
    row_shapes=row_shapes,
    microbatches=microbatches,
  )

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
    advantage, where = rollout.group_advantages(
      solutions, advantage_fn, num_solutions
    )
    batch = to_rows(solutions, advantage, where)
    return policy.add_ref_logprobs(pack(batch), roles), solutions

  names = stage_metrics.names('solve', rewards=['correct'], is_graded=True)
  return Recipe(
    collect,
    policy.loss,
    trained=('solver',),
    num_rows=num_rows,
    sampled=(Sampled('solve', 'solver', batch_size, num_solutions),),
    scored=policy.scored,
    metrics=frozenset([*policy.metrics, *names]),
    corrects_staleness=policy.corrects_staleness,
  )
