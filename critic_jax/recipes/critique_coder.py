"""Critique-Coder: a solver learns to solve and to judge solutions, by one GRPO.

Critique-Coder is https://arxiv.org/abs/2509.22824.

1. `num_given` of a step's problems come with a solution each, of a writer or
   the solver's own; nothing of it is trained.
2. The solver writes `num_samples` critiques of each of these solutions, and
   solves the other problems as many times.
3. Reward of a critique: its verdict is right; of a solution: its answer is.
4. Advantages among the responses to one prompt; the policy gradient of all.

The paper's share of critiques is a fifth, of programs that others wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import batching, group_rows
from critic_jax.loss_fns import policy_gradient
from critic_jax.rewards import refinement
from critic_jax.rollouts import critic_stages, rollout, stage_metrics, written
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled

_GIVEN = 'given'


def make(
  models,
  grade,
  *,
  num_samples: int,
  num_given: int,
  writer: Mapping,
  advantage: Mapping,
  objective: Mapping,
  kl: Mapping,
  batch_size: int,
  aggregate: str,
  row_shapes: Sequence,
  microbatches: int,
) -> Recipe:
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'solver', and of 'ref' if the KL has a coefficient.
    grade: final answers to grades.
    num_samples: solutions of a problem, or critiques of a given solution.
    num_given: problems of a step that are not solved: their given solution is
      criticised; fewer than all.
    writer: who gives solutions, a `module` of critic_jax.tasks with a name and
      keywords of its function `(problem, rng) -> solution`, or `module=''` for
      the solver.
  """
  [solver] = get_models(models, 'solver')
  _check_counts(num_samples, num_given, batch_size)
  write_solution = lookup.bind_task(writer, 'writer', ('problem', 'rng'))
  policy = policy_gradient.make_policy_loss(
    models, 'solver', objective=objective, kl=kl, microbatches=microbatches
  )
  num_rows = batch_size * num_samples
  to_rows, pack = batching.make_rows(
    solver, num_rows=num_rows, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches,
  )  # fmt: skip
  to_group_rows = group_rows.make_group_rows(to_rows, advantage, num_samples)
  stages = solver.stages
  given_stage = stages.solve._replace(name=_GIVEN)

  def collect(roles, problems, key):
    keys = jax.random.split(key, 3)
    generate = solver.bind(roles['solver'])

    # 1. Solutions are given. 2. Judge them, and solve the other problems.
    given = written.or_sampled(
      given_stage, generate, problems[:num_given], write_solution, keys[0]
    )
    given, critiques = critic_stages.critique(
      stages.critique, generate, given, keys[1], grade, n=num_samples
    )
    solutions = rollout.run_graded(
      stages.solve, generate, problems[num_given:], keys[2], grade,
      n=num_samples,
    )  # fmt: skip

    # 3. Reward. 4. Advantages; the batch.
    critiques = rollout.score(
      critiques, [], {'judge': refinement.judge}, {'judge': 1.0}
    )
    solutions = rollout.score(
      solutions, [], {'correct': refinement.correct}, {'correct': 1.0}
    )
    records = critiques + solutions
    batch = pack(to_group_rows(records))
    return policy.add_ref_logprobs(batch, roles), given + records

  # Last the critiques, whose prompts hold a solution.
  sampled = [
    Sampled('solve', 'solver', batch_size - num_given, num_samples),
    Sampled(_GIVEN, 'solver', num_given, int(not write_solution)),
    Sampled('critique', 'solver', num_given, num_samples),
  ]
  names = stage_metrics.names
  metrics = [
    *policy.metrics,
    *names(_GIVEN, is_graded=True),
    *names('critique', rewards=['judge'], has_verdict=True),
    *names('solve', rewards=['correct'], is_graded=True),
  ]
  return Recipe(
    collect,
    policy.loss,
    trained=('solver',),
    num_rows=num_rows,
    sampled=tuple(stage for stage in sampled if stage.num_samples),
    scored=policy.scored,
    metrics=frozenset(metrics),
    corrects_staleness=policy.corrects_staleness,
  )


def _check_counts(num_samples, num_given, batch_size):
  lookup.check_counts(2, num_samples=num_samples)  # a group to compare
  lookup.check_counts(num_given=num_given)
  if num_given >= batch_size:
    raise ValueError(
      f'num_given: got {num_given} of batch_size={batch_size} problems, which '
      'leaves none to solve; expected fewer; lower it, or take refcritic'
    )
