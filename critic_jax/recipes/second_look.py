"""Second looks: a cold start from critiques of critiques; DeepCritic's.

https://arxiv.org/abs/2505.00662, stage 1.

1. The solver solves each problem, or the data gives solutions.
2. A writer, who may be the critic itself, writes critiques of each solution.
3. A second writer checks each critique from another side, up to `num_looks`
   times, and the first look whose judgement is right is kept: the verdict, and
   the first wrong step where it is labelled. A critique without one is dropped.
4. Both are merged to one text, with the doubt in it.
5. Of these, those in which the second look changed a judgement come first;
   equal numbers are of right and of wrong solutions.
6. Loss: minus the log-probability of the merged texts.

The paper critiques each step by itself and has a model merge the texts. Here a
critique is of the whole solution, and goes through its steps; a sentence joins
the two. Its cap on right solutions that were judged rightly at once is the
order in 5.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import imitation
from critic_jax.rewards import step_labels
from critic_jax.rollouts import (
  balance,
  rollout,
  second_looks,
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
  num_looks: int,
  flipped_only: bool,
  writer: Mapping,
  second_writer: Mapping,
  first_error: Mapping,
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
    num_looks: second looks at each critique, of which one is kept.
    flipped_only: whether only critiques whose judgement was put right are
      imitated.
    writer: a `module` of critic_jax.tasks with a name and keywords of its
      function `(solution, rng) -> critique`, or `module=''` for the critic.
    second_writer: the same, `(critique, rng) -> critique`.
    first_error: who knows the first wrong step, as of `refcritic`; `module=''`
      for nobody, or for the file of given solutions.
    batch_size: examples a step, and critiques kept at most.
  """
  [critic] = get_models(models, 'critic')
  [solver] = get_models(models, 'solver') if num_solutions else [None]
  solve = solving.bind(solver, num_solutions, grade=grade)
  lookup.check_counts(num_critiques=num_critiques, num_looks=num_looks)
  lookup.check_counts(2, batch_size=batch_size)  # one of each kind, or none
  stage = critic.stages.critique
  second_stage = second_looks.stage(stage)
  write_first = lookup.bind_task(writer, 'writer', ('solution', 'rng'))
  write_second = lookup.bind_task(
    second_writer, 'second_writer', ('critique', 'rng')
  )
  label = lookup.bind_task(first_error, 'first_error', ('problem', 'text'))
  to_rows, pack = batching.make_rows(
    critic, num_rows=batch_size, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches,
  )  # fmt: skip

  def collect(roles, examples, key):
    keys = jax.random.split(key, 4)

    # 1. Solve, or take the given solutions.
    solutions = solve(roles, examples, keys[0])
    solutions = step_labels.write(solutions, label) if label else solutions

    # 2. Critique. 3. Look again.
    criticise = critic.bind(roles['critic'])
    critiques = written.or_sampled(
      stage, criticise, solutions, write_first, keys[1], n=num_critiques
    )
    critiques = second_looks.score(critiques)
    seconds = written.or_sampled(
      second_stage, criticise, critiques, write_second, keys[2], n=num_looks
    )
    seconds = second_looks.score(seconds)

    # 4. Merge. 5. Keep, in balance.
    new = second_looks.merged(stage, rollout.children(critiques, seconds))
    new = [batching.encode(r, stage.prompt(r.parent), critic) for r in new]
    new = [
      r for r in new
      if len(r.tokens) and (r.parsed['flipped'] or not flipped_only)
    ]  # fmt: skip
    random.Random(int(jax.random.bits(keys[3]))).shuffle(new)
    new.sort(key=lambda r: not r.parsed['flipped'])
    batch = pack(to_rows(balance.balanced(new, batch_size)))
    return batch, solutions + critiques + seconds

  num_critiqued = batch_size * max(1, num_solutions)
  num_looked_at = num_critiqued * num_critiques
  sampled = [
    Sampled('solve', 'solver', batch_size, num_solutions),
    Sampled('critique', 'critic', num_critiqued, num_critiques),
    Sampled(second_looks.NAME, 'critic', num_looked_at, num_looks),
  ]
  is_sampled = (num_solutions, not write_first, not write_second)
  names = [
    stage_metrics.names(name, rewards=second_looks.RULES, has_verdict=True)
    for name in ('critique', second_looks.NAME)
  ]
  return Recipe(
    collect,
    imitation.make_imitation_loss(models, 'critic'),
    trained=('critic',),
    num_rows=batch_size,
    sampled=tuple(itertools.compress(sampled, is_sampled)),
    metrics=frozenset(imitation.METRICS).union(
      stage_metrics.names('solve', is_graded=True), *names
    ),
    takes_solutions=not num_solutions,
  )
