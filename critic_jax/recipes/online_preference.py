"""Preferences between a critic's own critiques: Critic-V, by config.

Critic-V is https://arxiv.org/abs/2411.18203.

1. Each problem gets solutions: a writer plants errors, or the solver solves it;
   or the data gives solutions.
2. The critic writes `num_critiques` critiques of each solution.
3. Score of a critique: the sum of rules by weight, such as the overlap of the
   steps that it calls wrong with those that are.
4. Of two critiques of a solution the one with the higher score is chosen and
   the other rejected: `max_pairs` at most, those farthest apart. Equal scores
   make no pair, and a critique without a score is in none. By `preference` the
   score is a win rate instead: how often a critique is preferred to the others
   of its solution by these rules, each of which may prefer another.
5. Loss: the preference of the chosen one, by `objective` (DPO and others, and
   INPO, DNO, SPPO and others, which play a game against the critic itself).

The paper's pairs are made once, of critiques by three other models, and its
overlap and its grade are estimates of a model's. Here the critic writes them
anew in each step, and both are exact; so there is no term of imitation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import pair_rows
from critic_jax.loss_fns import pairwise, tournaments
from critic_jax.rewards import step_labels
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
  num_solutions: int, writer: Mapping,
  num_critiques: int, max_pairs: int,
  score: Mapping, step_marks: Mapping, preference: Mapping, objective: Mapping,
  batch_size: int, aggregate: str, row_shapes: Sequence, microbatches: int,
) -> Recipe:  # fmt: skip
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'critic', of 'solver' if it solves, and of 'ref' if the
      objective has a reference.
    grade: final answers to grades.
    num_solutions: solutions of each problem; 0: the examples are solutions.
    writer: a `module` of critic_jax.tasks with a name and keywords of its
      function `(problem, rng) -> solution`, or `module=''` for the solver.
    num_critiques: critiques of each solution.
    max_pairs: pairs of critiques of each solution, at most.
    score: weights of 'judge' (rewards/refinement.py), 'overlap' and 'agreement'
      (rewards/step_labels.py); 0 for none.
    step_marks: who knows the wrong steps, for the last two: a `module` of
      critic_jax.tasks with a name and keywords of its function `(problem, text)
      -> whether each step is wrong`, or `module=''` for nobody.
    preference: a name and keywords of `objectives/pair_preferences.py`; {}: the
      sum of the rules is the score.
    objective: a name and keywords of `objectives/preference.py` or
      `objectives/games.py`.
    aggregate: how pairs weigh: alike, 'sequence', or by the tokens of their
      responses, 'token' and 'constant'.
  """
  [critic] = get_models(models, 'critic')
  write_solution = lookup.bind_task(writer, 'writer', ('problem', 'rng'))
  is_solved = num_solutions and not write_solution
  [solver] = get_models(models, 'solver') if is_solved else [None]
  solve = solving.bind(solver or critic, num_solutions, write=write_solution)
  lookup.check_counts(2, num_critiques=num_critiques)  # a pair
  lookup.check_counts(max_pairs=max_pairs)
  mark = lookup.bind_task(step_marks, 'step_marks', ('problem', 'text'))
  rules, weights = pairing.critique_rules(score, has_marks=bool(mark))
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
    models, 'critic', objective=objective, is_played=bool(preference), **rows
  )
  tournament = tournaments.make_tournament(
    models, 'critic', preference, weights=weights, num_siblings=num_critiques
  )

  def collect(roles, examples, key):
    keys = jax.random.split(key, 2)

    # 1. Solutions.
    solutions = solve(roles, examples, keys[0])
    if mark:
      solutions = step_labels.write_marks(solutions, mark)

    # 2. Critique.
    solutions, critiques = critic_stages.critique(
      critic.stages.critique, critic.bind(roles['critic']), solutions, keys[1],
      grade, n=num_critiques,
    )  # fmt: skip

    # 3. Score. 4. Pair.
    critiques = rollout.score(critiques, [], rules, weights)
    critiques = tournament.play(critiques)
    groups = [
      pairing.farthest_pairs(siblings, max_pairs)
      for siblings in rollout.children(solutions, critiques)
    ]
    batch = pair_loss.add_ref_logprobs(lay_out(groups), roles)
    return batch, solutions + critiques

  sampled = [
    Sampled('solve', 'solver', batch_size, num_solutions if solver else 0),
    Sampled('critique', 'critic', num_critiqued, num_critiques),
  ]
  names = stage_metrics.names
  metrics = [
    *pair_loss.metrics,
    *names('solve', is_graded=True),
    *names('critique', rewards=[*rules, *tournament.scores], has_verdict=True),
  ]
  return Recipe(
    collect,
    pair_loss.loss,
    trained=('critic',),
    num_rows=num_critiqued * rows['rows_per_group'],
    rows_per_group=rows['rows_per_group'],
    sampled=tuple(stage for stage in sampled if stage.num_samples),
    scored=pair_loss.scored,
    metrics=frozenset(metrics),
    corrects_staleness=True,  # a preference holds whoever wrote the critiques
    takes_solutions=not num_solutions,
  )
