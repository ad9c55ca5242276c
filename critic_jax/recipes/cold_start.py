"""Cold start: rejection-sampled critique SFT.

The supervised start of RefCritic (https://arxiv.org/abs/2507.15024), whose
details could not be verified by us:

1. The solver solves each problem, or the data gives solutions.
2. A writer, who may be the critic itself, writes critiques of each solution.
3. Critiques whose verdict is right are kept, in equal number on right and on
   wrong solutions as far as they go.
4. Loss: minus the log-probability of the kept critiques.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import imitation
from critic_jax.rewards import refinement
from critic_jax.rollouts import (
  balance,
  rollout,
  solving,
  stage_metrics,
  written,
)
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled


def make(
  models,
  grade,
  *,
  num_solutions: int,
  num_critiques: int,
  writer: Mapping,
  batch_size: int,
  aggregate: str,
  row_shapes: Sequence,
  microbatches: int,
) -> Recipe:
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'critic' and, to solve, 'solver'.
    grade: final answers to grades.
    num_solutions: solutions of each problem; 0: the examples are solutions.
    num_critiques: critiques of each solution.
    writer: a `module` of critic_jax.tasks with a name and keywords of its
      function `(solution, rng) -> text`, or `module=''` for the critic itself.
    batch_size: examples a step, and critiques kept at most.
  """
  [critic] = get_models(models, 'critic')
  [solver] = get_models(models, 'solver') if num_solutions else [None]
  solve = solving.bind(solver, num_solutions, grade=grade)
  lookup.check_counts(num_critiques=num_critiques)
  lookup.check_counts(2, batch_size=batch_size)  # one of each kind, or none
  stage = critic.stages.critique
  write_critique = lookup.bind_task(writer, 'writer', ('solution', 'rng'))
  to_rows, pack = batching.make_rows(
    critic,
    num_rows=batch_size,
    aggregate=aggregate,
    row_shapes=row_shapes,
    microbatches=microbatches,
  )

  def write(solutions, rng):
    parents = [solution for solution in solutions if not solution.refused]
    critiques = written.by_rule(
      stage, parents, write_critique, rng, n=num_critiques
    )
    return [
      batching.encode(c, stage.prompt(c.parent), critic) for c in critiques
    ]

  def collect(roles, examples, key):
    keys = jax.random.split(key, 3)
    rng = random.Random(int(jax.random.bits(keys[2])))

    # 1. Solve, or take the given solutions.
    solutions = solve(roles, examples, keys[0])

    # 2. Critique.
    if write_critique:
      critiques = write(solutions, rng)
    else:
      critique = critic.bind(roles['critic'])
      critiques = rollout.run(
        stage, critique, solutions, keys[1], n=num_critiques
      )

    # 3. Keep what judges rightly, in balance.
    critiques = rollout.score(
      critiques, [], {'judge': refinement.judge}, {'judge': 1.0}
    )
    # One that was cut is not among them: `judge` is 0 without a whole verdict.
    kept = [c for c in critiques if c.scores.get('judge') == 1.0]
    rng.shuffle(kept)
    kept = balance.balanced(kept, batch_size)
    return pack(to_rows(kept)), solutions + critiques

  sampled = []
  if num_solutions:
    sampled.append(Sampled('solve', 'solver', batch_size, num_solutions))
  if not write_critique:
    num_critiqued = batch_size * max(1, num_solutions)
    sampled.append(Sampled('critique', 'critic', num_critiqued, num_critiques))
  return Recipe(
    collect,
    imitation.make_imitation_loss(models, 'critic'),
    trained=('critic',),
    num_rows=batch_size,
    sampled=tuple(sampled),
    metrics=frozenset(
      [
        *imitation.METRICS,
        *stage_metrics.names('solve', is_graded=True),
        *stage_metrics.names('critique', rewards=['judge'], has_verdict=True),
      ]
    ),
    takes_solutions=not num_solutions,
  )
