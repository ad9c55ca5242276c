"""Policy gradients on a solver: GRPO, Dr. GRPO, DAPO, RLOO, ... by config.

GRPO is https://arxiv.org/abs/2402.03300.

1. The policy solves each problem `num_solutions` times.
2. Reward: the final answer is right.
3. Advantages relative to the solutions of the same problem.
4. Policy gradient, with a penalty for leaving a reference if asked.

What tells the algorithms apart is `advantage` (group_relative or
leave_one_out, normalised or not), `aggregate` (token, sequence, constant),
`objective` (ppo_clip with its clips, gspo, cispo, reinforce) and `kl`.
"""

from __future__ import annotations

import numpy as np

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import policy_gradient
from critic_jax.objectives import advantages
from critic_jax.rewards import refinement
from critic_jax.rollouts import rollout
from critic_jax.types import Recipe


def make(config, models, grade) -> Recipe:
  """The recipe.

  Args:
    config: `num_solutions`, `advantage`, `objective`, `kl`, `aggregate`,
      `row_shapes`, `batch_size` in problems.
    models: an LM of 'solver'.
    grade: final answers to grades.
  """
  solver, num_solutions = models['solver'], config.num_solutions
  pack = batching.make_pack(config)
  advantage_fn = lookup.bind(advantages, config.advantage)

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
    reward = np.array([s.scores['reward'] for s in solutions], np.float32)
    groups = reward.reshape(-1, num_solutions)
    batch = batching.from_records(
      solutions,
      solver,
      num_rows=config.batch_size * num_solutions,
      aggregate=config.aggregate,
      advantages=np.asarray(advantage_fn(groups)).reshape(-1),
    )
    return (
      policy_gradient.add_ref_logprobs(pack(batch), solver, roles, config),
      solutions,
    )

  return Recipe(
    collect, policy_gradient.make_policy_loss(solver, 'solver', config)
  )
