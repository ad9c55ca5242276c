"""Contrast: imitation of critiques of where wrong paths leave right ones.

The critic's training of MMC, https://arxiv.org/abs/2504.11009:

1. The solver samples several solutions of each problem, its paths.
2. Each is laid beside the right one with which it has the longest beginning in
   common (rewards/contrasts.py). A path of a problem that none solves has no
   critique; 'solve/contrasted' is the share of wrong paths that have one.
3. A writer writes a critique of each of these.
4. Critiques whose verdict is right are kept, in equal number on right and on
   wrong paths as far as they go.
5. Loss: minus the log-probability of the kept critiques.

A writer may leave the contrast unread, for comparison on the same paths. The
paper's paths are those of a tree that Monte-Carlo tree search grows; here they
are sampled by themselves. It trains the solver on refinements, too.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import imitation
from critic_jax.rewards import contrasts, refinement, step_labels
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
  writer: Mapping,
  first_error: Mapping,
  batch_size: int,
  aggregate: str,
  row_shapes: Sequence,
  microbatches: int,
) -> Recipe:
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'critic' and 'solver'.
    grade: final answers to grades.
    num_solutions: solutions of each problem, two at least.
    writer: a `module` of critic_jax.tasks with a name and keywords of its
      function `(solution, rng) -> text`, of a solution with its contrast.
    first_error: who knows the first wrong step, as of `refcritic`; it is only
      measured how often a critique names it. `module=''` for nobody.
    batch_size: problems a step, and critiques kept at most.
  """
  critic, solver = get_models(models, 'critic', 'solver')
  lookup.check_counts(2, num_solutions=num_solutions, batch_size=batch_size)
  solve = solving.bind(solver, num_solutions, grade=grade)
  write = lookup.bind_in('tasks', writer, 'writer', ('solution', 'rng'))
  label = lookup.bind_task(first_error, 'first_error', ('problem', 'text'))
  stage = critic.stages.critique
  rules = {'judge': refinement.judge}
  rules |= {'locate': step_labels.locate} if label else {}
  to_rows, pack = batching.make_rows(
    critic,
    num_rows=batch_size,
    aggregate=aggregate,
    row_shapes=row_shapes,
    microbatches=microbatches,
  )

  def collect(roles, problems, key):
    keys = jax.random.split(key, 2)
    rng = random.Random(int(jax.random.bits(keys[1])))

    # 1. Solve. 2. Lay beside each other.
    paths = contrasts.write(solve(roles, problems, keys[0]), num_solutions)
    paths = step_labels.write(paths, label) if label else paths

    # 3. Critique.
    parents = [path for path in paths if path.parsed['contrast'] is not None]
    critiques = [
      batching.encode(critique, stage.prompt(critique.parent), critic)
      for critique in written.by_rule(stage, parents, write, rng)
    ]

    # 4. Keep what judges rightly, in balance; `locate` is only measured.
    critiques = rollout.score(
      critiques, [], rules, dict.fromkeys(rules, 0.0) | {'judge': 1.0}
    )
    kept = [c for c in critiques if c.scores.get('judge') == 1.0]
    rng.shuffle(kept)
    kept = balance.balanced(kept, batch_size)
    return pack(to_rows(kept)), paths + critiques

  return Recipe(
    collect,
    imitation.make_imitation_loss(models, 'critic'),
    trained=('critic',),
    num_rows=batch_size,
    sampled=(Sampled('solve', 'solver', batch_size, num_solutions),),
    metrics=frozenset(
      [
        *imitation.METRICS,
        *stage_metrics.names('solve', is_graded=True, is_contrasted=True),
        *stage_metrics.names('critique', rewards=rules, has_verdict=True),
      ]
    ),
  )
