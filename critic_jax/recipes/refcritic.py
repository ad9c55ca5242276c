"""RefCritic: critics trained by what their critiques are worth.

https://arxiv.org/abs/2507.15024. The paper's gate, weight and number of
refinements could not be verified by us; they are settings, with defaults ours.

1. The solver solves each problem `num_solutions` times.
2. The critic writes `num_critiques` critiques of each solution.
3. The solver refines the solution `num_refinements` times with the conclusion
   of each critique that `gate` admits; it never sees the critic's thinking.
4. Reward of a critique: judge (its verdict is right) + refine_weight * (the
   share of its refinements that are right) + shaping.
5. Policy gradient on the critic, advantages relative to the critiques of the
   same solution.

A few critiques are also refined without what they say (controls.py), to see
whether it is the critique that helps; nobody is rewarded for that.
"""

from __future__ import annotations

import functools
import itertools

import jax
import numpy as np

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import policy_gradient
from critic_jax.objectives import advantages
from critic_jax.rewards import refinement, shaping
from critic_jax.rollouts import controls, rollout
from critic_jax.types import Recipe


def make(config, models, grade) -> Recipe:
  """The recipe.

  Args:
    config: `num_solutions`, `num_critiques`, `num_refinements`,
      `num_controls` (critiques a step), `gate`, `mask_answers`, `judge_weight`,
      `refine_weight`, `shaping` (settings with a `weight` each, by name of a
      function in rewards/shaping.py), `advantage`, `objective`, `kl`,
      `aggregate`, `row_shapes`, `batch_size` in problems.
    models: LMs of 'solver' and 'critic'.
    grade: final answers to grades.
  """
  solver, critic = models['solver'], models['critic']
  num_solutions, num_critiques = config.num_solutions, config.num_critiques
  num_refinements = config.num_refinements if config.refine_weight else 0
  num_rows = config.batch_size * num_solutions * num_critiques
  refine = solver.stages.refine
  if config.mask_answers:
    refine = controls.masking(refine)
  refinement.check_gate(config.gate)
  rewards, weights = make_rewards(config)
  pack = batching.make_pack(config)
  advantage_fn = lookup.bind(advantages, config.advantage)

  def collect(roles, problems, key):
    keys = jax.random.split(key, 4)
    solve = solver.bind(roles['solver'])
    critique = critic.bind(roles['critic'])
    solutions = rollout.run(
      solver.stages.solve, solve, problems, keys[0], n=num_solutions
    )
    with rollout.grading(solutions, grade) as graded:
      critiques = rollout.run(
        critic.stages.critique,
        critique,
        solutions,
        keys[1],
        n=num_critiques,
      )
    critiques = rollout.reattach(critiques, solutions, graded.result())
    solutions = graded.result()
    admitted = [c for c in critiques if refinement.admits(config.gate, c)]
    admitted = admitted if num_refinements else []
    max_prompts = num_rows if num_refinements else 0
    checked = controls.spread(admitted, config.num_controls)
    [refinements, *others] = rollout.run_graded_together(
      [
        rollout.Ask(refine, admitted, keys[2], num_refinements, max_prompts),
        *controls.asks(
          solver.stages.refine,
          checked,
          keys[3],
          max_prompts=min(max_prompts, config.num_controls),
        ),
      ],
      solve,
      grade,
    )
    scored = rollout.score(critiques, refinements, rewards, weights)
    responses = rollout.reattach(
      [*refinements, *itertools.chain(*others)], critiques, scored
    )
    reward = np.array([c.scores['reward'] for c in scored], np.float32)
    groups = reward.reshape(-1, num_critiques)
    batch = batching.from_records(
      scored,
      critic,
      num_rows=num_rows,
      aggregate=config.aggregate,
      advantages=np.asarray(advantage_fn(groups)).reshape(-1),
    )
    batch = policy_gradient.add_ref_logprobs(pack(batch), critic, roles, config)
    return batch, solutions + scored + responses

  return Recipe(
    collect, policy_gradient.make_policy_loss(critic, 'critic', config)
  )


def make_rewards(config):
  """The rules of a critique's reward and their weights, by name."""
  rewards = {
    'judge': refinement.judge,
    'refine': functools.partial(refinement.refine, gate=config.gate),
  }
  weights = {'judge': config.judge_weight, 'refine': config.refine_weight}
  for name, settings in config.shaping.items():
    settings = dict(settings)
    weights[name] = settings.pop('weight')
    rewards[name] = lookup.bind(shaping, {'name': name, **settings})
  return rewards, weights
