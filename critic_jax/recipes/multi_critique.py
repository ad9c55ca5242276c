"""Preferences between critiques by what several refiners make of them.

The second stage of MultiCritique, https://arxiv.org/abs/2410.15287; its first,
imitation of merged critiques, is `cold_start` with the writer `merged` of
critic_jax/tasks/arithmetic_points.py:

1. The solver solves each problem, or the data gives solutions.
2. The critic writes `num_critiques` critiques of each solution.
3. Each of several refiners refines the solution `num_refinements` times with
   each critique that `gate` admits.
4. Value of a critique: the mean over refiners of the share of their refinements
   that are right (rewards/refiner_values.py).
5. Of two critiques of a solution whose values differ by more than `margin`, the
   one with the higher value is chosen: `max_pairs` at most, those farthest
   apart. 'critique/tied' is the share of pairs that are too close.
6. Loss: the preference of the chosen one, by `objective`.

The paper's pairs are made once, of other models' critiques, and teach a reward
model for PPO; here the critic writes them anew in each step, and learns from
the pairs themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import pair_rows
from critic_jax.loss_fns import pairwise
from critic_jax.rewards import critique_points, refinement, refiner_values
from critic_jax.rollouts import (
  critic_stages,
  pairing,
  rollout,
  solving,
  stage_metrics,
)
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled


def make(
  models,
  grade,
  *,
  num_solutions: int, num_critiques: int,
  refiners: Sequence[str], num_refinements: int, gate: str,
  margin: float, max_pairs: int, corrections: Mapping, objective: Mapping,
  batch_size: int, aggregate: str, row_shapes: Sequence, microbatches: int,
) -> Recipe:  # fmt: skip
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'critic', of the refiners, of 'solver' to solve, and of 'ref'
      if the objective has a reference.
    grade: final answers to grades.
    num_solutions: solutions of each problem; 0: the examples are solutions.
    num_critiques: critiques of each solution.
    refiners: roles that refine, each of them once.
    num_refinements: refinements by each of them with each admitted critique.
    gate: 'always', or 'called_wrong' if a solution that is called right stays
      as it is, and its grade is the critique's value.
    margin: what values must differ by, and more; between two differences that
      are possible it does not depend on rounding.
    max_pairs: pairs of critiques of each solution, at most.
    corrections: who knows what wrong steps should be, a function of
      critic_jax.tasks, `(problem, text) -> {step: line}`; it is only measured
      how often the better hint has the higher value, 'critique/ordered'.
    objective: a name and keywords of `objectives/preference.py`.
  """
  refiner_values.check(refiners, gate, margin)
  [critic, *_] = get_models(models, 'critic', *refiners)
  [solver] = get_models(models, 'solver') if num_solutions else [None]
  solve = solving.bind(solver, num_solutions)
  lookup.check_counts(2, num_critiques=num_critiques)  # a pair
  lookup.check_counts(num_refinements=num_refinements, max_pairs=max_pairs)
  correct = lookup.bind_task(corrections, 'corrections', ('problem', 'text'))
  rules = dict(value=refiner_values.value, judge=refinement.judge)
  if correct:
    rules['hint'] = lambda critique, _: critique_points.hint(
      critique.text, correct(critique.problem, critique.parent.text)
    )
  weights = {rule: float(rule == 'value') for rule in rules}  # others: measured
  num_critiqued = batch_size * max(1, num_solutions)
  rows = dict(
    num_groups=num_critiqued,
    rows_per_group=min(num_critiques, 2 * max_pairs),
    microbatches=microbatches,
  )
  lay_out = pair_rows.make_pair_rows(
    critic, aggregate=aggregate, row_shapes=row_shapes, **rows
  )
  pair_loss = pairwise.make_pair_loss(
    models, 'critic', objective=objective, **rows
  )

  def collect(roles, examples, key):
    keys = jax.random.split(key, 3)

    # 1. Solve, or take the given solutions. 2. Critique.
    solutions, critiques = critic_stages.critique(
      critic.stages.critique, critic.bind(roles['critic']),
      solve(roles, examples, keys[0]), keys[1], grade, n=num_critiques,
    )  # fmt: skip

    # 3. Refine. 4. Value.
    refinements = critic_stages.refine_by(
      refiners, models, roles, critiques, keys[2], grade, gate=gate,
      n=num_refinements, max_prompts=num_critiqued * num_critiques,
    )  # fmt: skip
    scored = rollout.score(critiques, refinements, rules, weights)
    groups = [
      refiner_values.compare(siblings, margin, 'hint')
      for siblings in rollout.children(solutions, scored)
    ]
    scored = sum(groups, [])
    refinements = rollout.reattach(refinements, critiques, scored)

    # 5. Pair.
    pairs = [pairing.farthest_pairs(x, max_pairs, margin) for x in groups]
    batch = pair_loss.add_ref_logprobs(lay_out(pairs), roles)
    return batch, solutions + scored + refinements

  names = stage_metrics.names
  of_critiques = [*rules, *refiner_values.COMPARED]
  return Recipe(
    collect, pair_loss.loss, trained=('critic',),
    num_rows=num_critiqued * rows['rows_per_group'],
    rows_per_group=rows['rows_per_group'],
    sampled=(
      *[Sampled('solve', 'solver', batch_size, num_solutions)][:num_solutions],
      Sampled('critique', 'critic', num_critiqued, num_critiques),
      *(
        Sampled('refine', role, num_critiqued * num_critiques, num_refinements)
        for role in refiners
      ),
    ),
    scored=pair_loss.scored,
    metrics=frozenset([
      *pair_loss.metrics,
      *names('solve', is_graded=True),
      *names('critique', rewards=of_critiques, has_verdict=True),
      *names('refine', is_graded=True),
    ]),
    corrects_staleness=True,  # a preference holds whoever wrote the critiques
    takes_solutions=not num_solutions,
  )  # fmt: skip
