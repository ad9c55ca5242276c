"""A critic and its solver learn together: ECHO, by config.

ECHO is https://arxiv.org/abs/2601.06794; only its abstract was read.

1. The solver solves each problem `num_solutions` times.
2. The critic writes `num_critiques` critiques of each solution, and the solver
   refines it `num_refinements` times with each that `gate` admits.
3. A critique is paid for its refinements, and may be for its verdict; solutions
   and refinements for a right answer.
4. Advantages among the solutions of a problem, the critiques of a solution, and
   the refinements with a critique: each group has one prompt.
5. One update of both roles by policy gradient, each on what it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from critic_jax import lookup
from critic_jax.data import role_rows
from critic_jax.loss_fns import joint_policies
from critic_jax.objectives import advantages
from critic_jax.rewards import critique_rewards, refinement
from critic_jax.rollouts import critic_stages, rollout, solving, stage_metrics
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe

_ROLES = 'solver', 'critic'
_NO_COMPLETIONS = dict(num=0, max_steps=1, labels=dict(name='hard'))


def make(
  models,
  grade,
  *,
  num_solutions: int, num_critiques: int, num_refinements: int,
  num_controls: int, gate: str,
  judge_weight: float, refine_weight: float, refine_reward: str,
  refine_settings: Mapping,
  advantage: Mapping, objective: Mapping, kl: Mapping,
  batch_size: int, aggregate: str, row_shapes: Sequence, microbatches: int,
) -> Recipe:  # fmt: skip
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'solver' and 'critic', and of 'ref', for both, if the KL has
      a coefficient.
    grade: final answers to grades.
    num_solutions, num_critiques, num_refinements: of each problem, solution and
      admitted critique; several each, to compare.
    num_controls: critiques a step that are also refined with controls, of which
      nothing is learned.
    gate: which critiques are refined; see `refinement.admits`.
    judge_weight, refine_weight, refine_reward, refine_settings: what pays a
      critique, as `critique_rewards.make_rewards` explains it.
  """
  solver, _ = get_models(models, *_ROLES)
  lookup.check_counts(
    2, num_solutions=num_solutions, num_refinements=num_refinements
  )
  solve = solving.bind(solver, num_solutions)
  stages = critic_stages.bind(
    models, grade, batch_size=batch_size, num_solutions=num_solutions,
    num_critiques=num_critiques, num_refinements=num_refinements,
    num_controls=num_controls, gate=gate, mask_answers=False,
    each_test=refine_reward == 'passed', completions=_NO_COMPLETIONS,
    has_judge=False,
  )  # fmt: skip
  rewards, weights = critique_rewards.make_rewards(
    judge_weight=judge_weight, misjudge_weight=0.0,
    refine_weight=refine_weight, refine_reward=refine_reward,
    refine_settings=refine_settings, preference_weight=0.0, step_weight=0.0,
    score_weight=0.0, gate=gate, num_refinements=num_refinements, graded={},
    form={},
  )  # fmt: skip
  policy = joint_policies.make_joint_loss(
    models, _ROLES, objective=objective, kl=kl, microbatches=microbatches
  )
  advantage_fn = lookup.bind(advantages, advantage, 'advantage')
  num_solved = batch_size * num_solutions
  num_judged = num_solved * num_critiques
  num_rows = dict(
    solver=num_solved + num_judged * num_refinements, critic=num_judged
  )
  to_rows, pack = role_rows.make_role_rows(
    models, num_rows, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches,
  )  # fmt: skip

  def compare(*groups):
    """Joins (records, siblings) to records, advantages, and which are known."""
    compared = [
      rollout.group_advantages(records, advantage_fn, n)
      for records, n in groups
    ]
    values, where = map(np.concatenate, zip(*compared, strict=True))
    return sum((records for records, _ in groups), []), values, where

  def collect(roles, problems, key):
    keys = jax.random.split(key, 4)

    # 1. Solve. 2. Critique, and refine.
    solutions = solve(roles, problems, keys[0])
    graded, critiques, _ = stages.critique(solutions, roles, (keys[1], None))
    solutions = _score(graded)
    critiques = rollout.reattach(critiques, graded, solutions)
    refinements, controlled = stages.refine(critiques, roles, keys[2:4])

    # 3. Reward.
    scored = rollout.score(critiques, refinements, rewards, weights)
    refinements = rollout.reattach(_score(refinements), critiques, scored)
    controlled = rollout.reattach(controlled, critiques, scored)

    # 4. Advantages in each group; the batch.
    batch = to_rows(
      dict(
        solver=compare(
          (solutions, num_solutions), (refinements, num_refinements)
        ),
        critic=compare((scored, num_critiques)),
      )
    )
    batch = policy.add_ref_logprobs(pack(batch), roles)
    return batch, [*solutions, *scored, *refinements, *controlled]

  names = [
    *critic_stages.metric_names(rewards, _NO_COMPLETIONS, has_judge=False),
    *stage_metrics.names('solve', rewards=['correct'], is_graded=True),
    *stage_metrics.names('refine', rewards=['correct'], is_graded=True),
  ]
  return Recipe(
    collect, policy.loss, trained=_ROLES, num_rows=sum(num_rows.values()),
    sampled=stages.sampled, scored=policy.scored,
    metrics=frozenset([*policy.metrics, *names]),
    corrects_staleness=policy.corrects_staleness,
  )  # fmt: skip


def _score(records):
  """Rewards the records with right answers."""
  return rollout.score(
    records, [], {'correct': refinement.correct}, {'correct': 1.0}
  )
