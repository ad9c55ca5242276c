"""Policy gradients on a solver: GRPO, Dr. GRPO, DAPO, RLOO, ... by config.

GRPO is https://arxiv.org/abs/2402.03300.

1. The policy solves each problem `num_solutions` times.
2. Reward: correct_weight * (the final answer is right) + score_weight * (the
   score of reward models). Or, by `preference`, how often a solution is
   preferred to others of its problem by these two (self-play: SPO, Nash-MD).
3. Advantages relative to the solutions of the same problem, but for those whose
   grader timed out (a program that does not end is one): these teach nothing.
4. Policy gradient, with a penalty for leaving a reference if asked.

The algorithms differ in `advantage` (group_relative or leave_one_out,
normalised or not), `aggregate` (token, sequence, constant), `objective`
(ppo_clip with its clips, gspo, cispo, reinforce) and `kl`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from critic_jax import lookup
from critic_jax.data import batching, group_rows
from critic_jax.loss_fns import policy_gradient, reward_models, tournaments
from critic_jax.rewards import preferences, refinement
from critic_jax.rollouts import rollout, solving, stage_metrics
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled


def make(
  models,
  grade,
  *,
  num_solutions: int,
  correct_weight: float,
  score_weight: float,
  reward_model: Mapping,
  preference: Mapping,
  self_play: Mapping,
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
    models: LMs of 'solver', of 'ref' if the KL has a coefficient, or
      `self_play` has, and of the reward models if scores have a weight.
    grade: final answers to grades.
    num_solutions: solutions of each problem.
    correct_weight: the weight of the reward for right answers.
    score_weight: the weight of the score of reward models; 0 asks none.
    reward_model: `roles`, the reward models, and how several are one, a name
      and keywords of `objectives/ensembles.py`.
    preference: a name and keywords of `objectives/pair_preferences.py`, which
      compares solutions by the two rewards; {}: their sum is paid.
    self_play: against whom, and the price of leaving a reference: `share` and
      `tau` of `loss_fns/tournaments.py`, 0 without a preference.
  """
  [solver] = get_models(models, 'solver')
  lookup.check_counts(2, num_solutions=num_solutions)  # a group to compare
  policy = policy_gradient.make_policy_loss(
    models, 'solver', objective=objective, kl=kl, microbatches=microbatches
  )
  reader = reward_models.make_reader(
    models, reward_model, weight=score_weight, microbatches=microbatches
  )
  rules, weights = _rewards(correct_weight, score_weight)
  tournament = tournaments.make_tournament(
    models, 'solver', preference, weights=weights, num_siblings=num_solutions,
    self_play=self_play, microbatches=microbatches,
  )  # fmt: skip
  solve = solving.bind(solver, num_solutions, grade=grade)
  num_rows = batch_size * num_solutions
  to_rows, pack = batching.make_rows(
    solver,
    num_rows=num_rows,
    aggregate=aggregate,
    row_shapes=row_shapes,
    microbatches=microbatches,
  )
  to_group_rows = group_rows.make_group_rows(to_rows, advantage, num_solutions)

  def collect(roles, problems, key):
    solutions = solve(roles, problems, key)
    if reader.roles:
      solutions = reader.write(solutions, to_rows(solutions), roles)
    solutions = rollout.score(solutions, [], rules, weights)
    solutions = tournament.play(solutions, to_rows, roles)
    batch = pack(to_group_rows(solutions))
    return policy.add_ref_logprobs(batch, roles), solutions

  names = stage_metrics.names(
    'solve', rewards=[*rules, *tournament.scores], is_graded=True
  )
  return Recipe(
    collect,
    policy.loss,
    trained=('solver',),
    num_rows=num_rows,
    sampled=(Sampled('solve', 'solver', batch_size, num_solutions),),
    scored=(*policy.scored, *reader.roles, *tournament.scored),
    metrics=frozenset([*policy.metrics, *names]),
    corrects_staleness=policy.corrects_staleness,
  )


def _rewards(correct_weight, score_weight) -> tuple[dict, dict]:
  """Returns the rules that count, and their weights."""
  lookup.check_numbers(correct_weight=correct_weight)
  rules = {'correct': refinement.correct}
  weights = {'correct': correct_weight}
  if score_weight:
    rules['score'], weights['score'] = preferences.scored, score_weight
  if not any(weights.values()):
    raise ValueError(
      f'correct_weight, score_weight: got {weights}, by which no '
      'solution earns anything; expected a reward; raise either'
    )
  return rules, weights
