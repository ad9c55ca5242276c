"""RefCritic: critics trained by what their critiques are worth.

https://arxiv.org/abs/2507.15024. The paper's gate, weight and number of
refinements could not be verified by us; they are settings, with defaults ours.

1. The solver solves each problem `num_solutions` times, or the data gives
   solutions.
2. The critic writes `num_critiques` critiques of each solution.
3. The solver refines the solution `num_refinements` times with the conclusion
   of each critique that `gate` admits; it never sees the critic's thinking.
4. Reward of a critique: judge (its verdict is right) + refine_weight * (the
   share of its refinements that are right) + shaping. Not the paper's: with a
   `preference_weight` a judge compares critiques, with a `score_weight` reward
   models score them, and with a `step_weight` the first wrong step is paid for
   where it is named, as a checker has it, a file, or the solver's completions
   of the solution's prefixes (DeepCritic's).
   Critique-RL, CTRL, FAPO and DeepSeekMath-V2 pay others: `misjudge_weight`,
   `refine_reward`, `graded`.
5. Policy gradient on the critic, advantages relative to the critiques of the
   same solution. One whose reward depends on a grade that timed out teaches
   nothing.

A few critiques are also refined without what they say (controls.py), to see
whether it is the critique that helps; nobody is rewarded for that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import policy_gradient, reward_models
from critic_jax.objectives import advantages
from critic_jax.rewards import critique_rewards, step_labels
from critic_jax.rollouts import balance, comparisons, critic_stages, rollout
from critic_jax.rollouts import completions as completions_lib
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe


def make(
  models,
  grade,
  *,
  num_solutions: int, num_critiques: int, num_refinements: int,
  num_controls: int,
  gate: str,
  mask_answers: bool,
  judge_weight: float, misjudge_weight: float,
  refine_weight: float, refine_reward: str, refine_settings: Mapping,
  preference_weight: float, step_weight: float, score_weight: float,
  reward_model: Mapping,
  first_error: Mapping, completions: Mapping,
  graded: Mapping, shaping: Mapping,
  balanced: bool, advantage: Mapping, objective: Mapping, kl: Mapping,
  batch_size: int,
  aggregate: str,
  row_shapes: Sequence,
  microbatches: int,
) -> Recipe:  # fmt: skip
  """Makes the recipe.

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
    judge_weight: the weight of 1 for a right verdict.
    misjudge_weight: the weight of -1 for a false or missing one.
    refine_weight: the weight of the reward for refinements; 0 makes none.
    refine_reward: this reward, a name in `refinement.HELPFUL`.
    refine_settings: more of its keywords.
    preference_weight: the weight of being preferred by the role 'judge'
      (rewards/preferences.py); 0 asks none.
    step_weight: the weight of finding the first wrong step
      (rewards/step_labels.py): labels that RefCritic does without.
    score_weight: the weight of the score of reward models; 0 asks none.
    reward_model: `roles`, the reward models, and how several are one, a name
      and keywords of `objectives/ensembles.py`.
    first_error: who knows these labels, a `module` of critic_jax.tasks with a
      name and keywords of its function `(problem, text) -> index`, or
      `module=''` for nobody, or for the file of given solutions.
    completions: Monte-Carlo labels in their place: `num` completions by the
      solver of each prefix of a solution of `max_steps` steps at most, and
      `labels`, a name and keywords of rewards/step_values.py; num=0 for none.
      `first_error` is then the truth that labels are compared with.
    graded, shaping: settings with a `weight` each, by the name of a function
      in rewards/graded_verdicts.py, or rewards/shaping.py.
    balanced: whether a step learns from as many groups of right solutions as
      of wrong ones (rollouts/balance.py).
    advantage: a name and keywords of `objectives/advantages.py`, over groups.
    objective: the surrogate, a name and keywords of `objectives/policy.py`.
    kl: the penalty: `name` in `objectives/kl.py`, and its `coef`.
    batch_size: examples a step.
    aggregate: how the loss is normalised: 'token', 'sequence' or 'constant'.
    row_shapes: (rows, columns) that a batch may be packed in; () for none.
    microbatches: parts that a batch is cut into.
  """
  _check_counts(num_solutions, num_critiques, num_refinements, num_controls)
  num_refinements = num_refinements if refine_weight else 0
  num_asked = num_solutions + num_refinements
  critic, solver, judges = _get_models(models, num_asked, preference_weight)
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
  complete = completions_lib.bind(models, completions, grade)
  is_labelled = not num_solutions or complete
  label = step_labels.bind(first_error, {} if is_labelled else weights)
  advantage_fn = lookup.bind(advantages, advantage, 'advantage')
  policy = policy_gradient.make_policy_loss(
    models, 'critic', objective=objective, kl=kl, microbatches=microbatches
  )
  counts = batch_size, num_solutions, num_critiques
  num_rows = math.prod(max(1, count) for count in counts)
  to_rows, pack = batching.make_rows(
    critic, num_rows=num_rows, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches,
  )  # fmt: skip

  def collect(roles, examples, key):
    keys = jax.random.split(key, 6)
    solve = solver.bind(roles['solver']) if solver else None

    # 1. Solve, or take the given.
    if num_solutions:
      solutions = rollout.run(
        solver.stages.solve, solve, examples, keys[0], n=num_solutions
      )
    else:
      solutions = rollout.given(examples)

    # 2. Critique; label steps; score or compare critiques, if models pay.
    solutions, critiques = critic_stages.critique(
      critic.stages.critique, critic.bind(roles['critic']), label(solutions),
      keys[1], grade, n=num_critiques,
    )  # fmt: skip
    compared, completed = [], []
    if complete:
      new, completed = complete(solutions, roles, keys[5])
      critiques = rollout.reattach(critiques, solutions, new)
      solutions = new
    if reader.roles:
      critiques = reader.write(critiques, to_rows(critiques), roles)
    for judge in judges:
      critiques, compared = comparisons.compare(
        critiques, num_critiques, judge.bind(roles['judge']), keys[4]
      )

    # 3. Refine.
    refinements, controlled = [], []
    if num_refinements:
      refinements, controlled = critic_stages.refine(
        solver.stages.refine, solve, critiques, keys[2:4], grade, gate=gate,
        n=num_refinements, num_controls=num_controls,
        mask_answers=mask_answers, each_test=refine_reward == 'passed',
        max_prompts=num_rows,
      )  # fmt: skip

    # 4. Reward.
    scored = rollout.score(critiques, refinements, rewards, weights)
    responses = rollout.reattach(
      [*refinements, *controlled, *compared], critiques, scored
    )

    # 5. Advantages among the critiques of one solution; the batch.
    advantage, where = rollout.group_advantages(
      scored, advantage_fn, num_critiques
    )
    if balanced:
      where = balance.groups(scored, advantage, where, num_critiques)
    batch = pack(to_rows(scored, advantage, where))
    records = [*solutions, *scored, *responses, *completed]
    return policy.add_ref_logprobs(batch, roles), records

  names = critic_stages.metric_names(rewards, completions, bool(judges))
  return Recipe(
    collect, policy.loss, metrics=frozenset([*policy.metrics, *names]),
    sampled=critic_stages.sampled(
      *counts, num_refinements, len(judges), completions),
    takes_solutions=not num_solutions, trained=('critic',), num_rows=num_rows,
    corrects_staleness=policy.corrects_staleness,
    scored=(*policy.scored, *reader.roles),
  )  # fmt: skip


def _get_models(models, num_asked, preference_weight):
  """Returns the critic, the solver if it is asked, and a judge or none."""
  [critic] = get_models(models, 'critic')
  [solver] = get_models(models, 'solver') if num_asked else [None]
  judges = get_models(models, *(['judge'] if preference_weight else []))
  return critic, solver, judges


def _check_counts(num_solutions, num_critiques, num_refinements, num_controls):
  lookup.check_counts(2, num_critiques=num_critiques)  # a group to compare
  lookup.check_counts(
    0, num_solutions=num_solutions, num_refinements=num_refinements,
    num_controls=num_controls,
  )  # fmt: skip
