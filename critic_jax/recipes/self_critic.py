"""Self-critic: a solver learns from pairs that it finds hard itself; Timo's.

The second stage of Timo, https://arxiv.org/abs/2406.14192; its first is
imitation, `sft`:

1. The solver solves each problem `num_solutions` times.
2. It writes `num_critiques` critiques of each of its solutions, if these count.
3. Score of a solution, by weight: how many critiques approve of it, how likely
   its tokens are, how many solutions agree (rewards/plausibility.py).
4. The right solution with the highest score is chosen over the wrong one with
   the highest score, a hard negative; then the next two, `max_pairs` at most.
   Problems without both kinds make no pair.
5. Loss: the preference of the chosen one, by `objective`.

There the model grades by two rubrics, of right and of wrong answers, and pairs
are made once; here one rule scores both kinds, anew in each step. Without any
weight the pairs are those at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import pair_rows
from critic_jax.loss_fns import pairwise
from critic_jax.rewards import plausibility, refinement
from critic_jax.rollouts import pairing, rollout, solving, stage_metrics
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled


def make(
  models,
  grade,
  *,
  num_solutions: int, num_critiques: int,
  score: Mapping, max_pairs: int, objective: Mapping,
  batch_size: int, aggregate: str, row_shapes: Sequence, microbatches: int,
) -> Recipe:  # fmt: skip
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'solver', and of 'ref' if the objective has a reference.
    grade: final answers to grades.
    num_solutions: solutions of each problem, two at least.
    num_critiques: the solver's critiques of each; 0 without `approval`.
    score: weights of 'approval', 'confidence' and 'agreement'
      (rewards/plausibility.py); 0 for none.
    max_pairs: pairs of solutions of each problem, at most.
    objective: a name and keywords of `objectives/preference.py`.
    aggregate: how pairs weigh: alike, 'sequence', or by the tokens of their
      responses, 'token' and 'constant'.
  """
  [solver] = get_models(models, 'solver')
  lookup.check_counts(2, num_solutions=num_solutions)  # a pair
  lookup.check_counts(max_pairs=max_pairs)
  weights = plausibility.check_weights(score)
  _check_critiques(num_critiques, weights)
  solve = solving.bind(solver, num_solutions, grade=grade)
  rows = dict(
    num_groups=batch_size,
    rows_per_group=min(num_solutions, 2 * max_pairs),
    microbatches=microbatches,
  )
  lay_out = pair_rows.make_pair_rows(
    solver, aggregate=aggregate, row_shapes=row_shapes, **rows
  )
  pair_loss = pairwise.make_pair_loss(
    models, 'solver', objective=objective, **rows
  )

  def collect(roles, problems, key):
    keys = jax.random.split(key, 2)

    # 1. Solve.
    solutions = rollout.score(
      solve(roles, problems, keys[0]), [], {'correct': refinement.correct},
      {'correct': 1.0},
    )  # fmt: skip

    # 2. Criticise.
    critiques = []
    if num_critiques:
      generate = solver.bind(roles['solver'])
      critiques = rollout.run(
        solver.stages.critique, generate, solutions, keys[1], n=num_critiques
      )

    # 3. Score. 4. Pair.
    its, groups = rollout.children(solutions, critiques), []
    for start in range(0, len(solutions), num_solutions):
      of_one = slice(start, start + num_solutions)
      groups.append(plausibility.write(solutions[of_one], its[of_one], weights))
    pairs = [pairing.hard_pairs(group, max_pairs) for group in groups]
    scored = sum(groups, [])
    critiques = rollout.reattach(critiques, solutions, scored)
    batch = pair_loss.add_ref_logprobs(lay_out(pairs), roles)
    return batch, scored + critiques

  num_solved = batch_size * num_solutions
  sampled = [
    Sampled('solve', 'solver', batch_size, num_solutions),
    Sampled('critique', 'solver', num_solved, num_critiques),
  ]
  names = stage_metrics.names
  of_solutions = ['correct', *weights, 'plausible']
  return Recipe(
    collect,
    pair_loss.loss,
    trained=('solver',),
    num_rows=batch_size * rows['rows_per_group'],
    rows_per_group=rows['rows_per_group'],
    sampled=tuple(stage for stage in sampled if stage.num_samples),
    scored=pair_loss.scored,
    metrics=frozenset([
      *pair_loss.metrics,
      *names('solve', rewards=of_solutions, is_graded=True),
      *names('critique', has_verdict=True),
    ]),
    corrects_staleness=True,  # a preference holds whoever wrote the solutions
  )  # fmt: skip


def _check_critiques(num_critiques, weights) -> None:
  lookup.check_counts(0, num_critiques=num_critiques)
  if bool(num_critiques) != ('approval' in weights):
    raise ValueError(
      f'num_critiques: got {num_critiques} with score.approval='
      f'{weights.get("approval", 0)}; expected both or neither, as approval is '
      'the share of critiques that call a solution right; set either'
    )
