"""RefCritic: critics trained by what their critiques are worth.

https://arxiv.org/abs/2507.15024. The paper's gate, weight and number of
refinements could not be verified by us; they are settings, with defaults ours.

1. The solver solves each problem `num_solutions` times, or the data gives
   solutions.
2. The critic writes `num_critiques` critiques of each solution.
3. The solver refines the solution `num_refinements` times with the conclusion
   of each critique that `gate` admits; it never sees the critic's thinking.
4. Reward of a critique: judge (its verdict is right) + refine_weight * (the
   share of its refinements that are right) + shaping. Not the paper's: a judge
   compares critiques, reward models score them, and the first wrong step is
   paid for where it is named, as a checker has it, a file, or the solver's
   completions of the solution's prefixes (DeepCritic's). Critique-RL, CTRL,
   FAPO and DeepSeekMath-V2 pay others (`rewards/critique_rewards.py`).
5. Policy gradient on the critic, advantages relative to the critiques of the
   same solution. One whose reward depends on a grade that timed out teaches
   nothing.

A few critiques are also refined without what they say (controls.py), to see
whether it is the critique that helps; nobody is rewarded for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import batching, group_rows
from critic_jax.loss_fns import policy_gradient, reward_models
from critic_jax.rewards import critique_rewards, step_labels
from critic_jax.rollouts import critic_stages, rollout, solving
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe


def make(
  models,
  grade,
  *,
  num_solutions: int, num_critiques: int,
  num_refinements: int, num_controls: int, gate: str, mask_answers: bool,
  judge_weight: float, misjudge_weight: float, preference_weight: float,
  refine_weight: float, refine_reward: str, refine_settings: Mapping,
  step_weight: float, score_weight: float, graded: Mapping, shaping: Mapping,
  reward_model: Mapping, first_error: Mapping, completions: Mapping,
  balanced: bool, advantage: Mapping, objective: Mapping, kl: Mapping,
  batch_size: int, aggregate: str, row_shapes: Sequence, microbatches: int,
) -> Recipe:  # fmt: skip
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'critic', of 'solver' to solve or to refine, of 'ref' if the
      KL has a coefficient, of 'judge' if preferences have a weight, and of the
      reward models if scores have one.
    grade: final answers to grades.
    num_solutions: solutions of each problem; 0: the examples are solutions.
    num_critiques: critiques of each solution.
    num_refinements: refinements with each admitted critique.
    num_controls: critiques a step that are also refined with controls.
    gate: which critiques are refined; see `refinement.admits`.
    mask_answers: whether the solver is shown critiques in which all that may
      be the answer is masked: results that neither question nor solution has.
    judge_weight, misjudge_weight, refine_weight, refine_reward,
      refine_settings, preference_weight, step_weight, score_weight, graded,
      shaping: the rules that pay a critique, and their weights, as
      `critique_rewards.make_rewards` explains them.
    reward_model: `roles`, the reward models, and how several are one, a name
      and keywords of `objectives/ensembles.py`.
    first_error: who knows the first wrong step, a function of critic_jax.tasks,
      `(problem, text) -> index`; nobody, or the file of given solutions.
    completions: Monte-Carlo labels in its place, by the solver: `num`, 0 for
      none, `max_steps` and `labels`, of `completions.make_labels`; then
      `first_error` is the truth that they are compared with.
    balanced: whether as many groups of right solutions teach as of wrong ones.
  """
  lookup.check_counts(0, num_refinements=num_refinements)
  num_refinements = num_refinements if refine_weight else 0
  has_judge = bool(preference_weight)
  critic, *_ = get_models(models, 'critic', *['judge'] * has_judge)
  is_solver_asked = num_solutions or num_refinements
  [solver] = get_models(models, 'solver') if is_solver_asked else [None]
  solve = solving.bind(solver, num_solutions)
  stages = critic_stages.bind(
    models, grade, batch_size=batch_size, num_solutions=num_solutions,
    num_critiques=num_critiques, num_refinements=num_refinements,
    num_controls=num_controls, gate=gate, mask_answers=mask_answers,
    each_test=refine_reward == 'passed', completions=completions,
    has_judge=has_judge,
  )  # fmt: skip
  rewards, weights = critique_rewards.make_rewards(
    judge_weight=judge_weight, misjudge_weight=misjudge_weight,
    refine_weight=refine_weight, refine_reward=refine_reward,
    refine_settings=refine_settings, preference_weight=preference_weight,
    step_weight=step_weight, score_weight=score_weight, gate=gate,
    num_refinements=num_refinements, graded=graded, form=shaping,
  )  # fmt: skip
  reader = reward_models.make_reader(
    models, reward_model, weight=score_weight, microbatches=microbatches
  )
  is_labelled = not num_solutions or completions['num']
  label = step_labels.bind(first_error, {} if is_labelled else weights)
  policy = policy_gradient.make_policy_loss(
    models, 'critic', objective=objective, kl=kl, microbatches=microbatches
  )
  num_rows = batch_size * max(1, num_solutions) * num_critiques
  to_rows, pack = batching.make_rows(
    critic, num_rows=num_rows, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches,
  )  # fmt: skip
  to_group_rows = group_rows.make_group_rows(
    to_rows, advantage, num_critiques, is_balanced=balanced
  )

  def collect(roles, examples, key):
    keys = jax.random.split(key, 6)

    # 1. Solve, or take the given. 2. Critique; models score and compare.
    solutions = label(solve(roles, examples, keys[0]))
    solutions, critiques, completed = stages.critique(
      solutions, roles, (keys[1], keys[5])
    )
    if reader.roles:
      critiques = reader.write(critiques, to_rows(critiques), roles)
    critiques, compared = stages.compare(critiques, roles, keys[4])

    # 3. Refine. 4. Reward.
    refinements, controlled = [], []
    if num_refinements:
      refinements, controlled = stages.refine(critiques, roles, keys[2:4])
    scored = rollout.score(critiques, refinements, rewards, weights)
    responses = rollout.reattach(
      [*refinements, *controlled, *compared], critiques, scored
    )

    # 5. Advantages among the critiques of one solution; the batch.
    batch = policy.add_ref_logprobs(pack(to_group_rows(scored)), roles)
    return batch, [*solutions, *scored, *responses, *completed]

  names = critic_stages.metric_names(rewards, completions, has_judge)
  return Recipe(
    collect, policy.loss, trained=('critic',), num_rows=num_rows,
    sampled=stages.sampled, scored=(*policy.scored, *reader.roles),
    metrics=frozenset([*policy.metrics, *names]),
    corrects_staleness=policy.corrects_staleness,
    takes_solutions=not num_solutions,
  )  # fmt: skip
