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
   `preference_weight` a judge compares critiques, and with a `step_weight` the
   first wrong step is paid for where it is named.
5. Policy gradient on the critic, advantages relative to the critiques of the
   same solution. One whose reward depends on a grade that timed out teaches
   nothing.

A few critiques are also refined without what they say (controls.py), to see
whether it is the critique that helps; nobody is rewarded for that.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import policy_gradient
from critic_jax.objectives import advantages
from critic_jax.rewards import preferences, refinement, step_labels
from critic_jax.rewards import shaping as shaping_rewards
from critic_jax.rollouts import comparisons, controls, rollout, stage_metrics
from critic_jax.sampling.lm import get_models
from critic_jax.types import Problem, Recipe, Record, Sampled


def make(
  models,
  grade,
  *,
  num_solutions: int,
  num_critiques: int,
  num_refinements: int,
  num_controls: int,
  gate: str,
  mask_answers: bool,
  judge_weight: float,
  refine_weight: float,
  preference_weight: float,
  step_weight: float,
  first_error: Mapping,
  shaping: Mapping,
  advantage: Mapping,
  objective: Mapping,
  kl: Mapping,
  batch_size: int,
  aggregate: str,
  row_shapes: Sequence,
  microbatches: int,
) -> Recipe:
  """Makes the recipe.

  Args:
    models: LMs of 'critic', of 'solver' to solve or to refine, of 'ref' if the
      KL has a coefficient, and of 'judge' if preferences have a weight.
    grade: final answers to grades.
    num_solutions: solutions of each problem; 0: the examples are solutions.
    num_critiques: critiques of each solution.
    num_refinements: refinements with each admitted critique.
    num_controls: critiques a step that are also refined with controls.
    gate: which critiques are refined; see `refinement.admits`.
    mask_answers: whether the solver is shown critiques in which all that may
      be the answer is masked: results that neither question nor solution has.
    judge_weight: the weight of the reward for the verdict.
    refine_weight: the weight of the reward for refinements; 0 makes none.
    preference_weight: the weight of being preferred by the role 'judge'
      (rewards/preferences.py); 0 asks none.
    step_weight: the weight of finding the first wrong step
      (rewards/step_labels.py): labels that RefCritic does without.
    first_error: who knows these labels, a `module` of critic_jax.tasks with a
      name and keywords of its function `(problem, text) -> index`, or
      `module=''` for nobody, or for the file of given solutions.
    shaping: settings with a `weight` each, by the name of a function in
      rewards/shaping.py.
    advantage: a name and keywords of `objectives/advantages.py`, over groups.
    objective: the surrogate, a name and keywords of `objectives/policy.py`.
    kl: the penalty: `name` in `objectives/kl.py`, and its `coef`.
    batch_size: examples a step.
    aggregate: how the loss is normalised: 'token', 'sequence' or 'constant'.
    row_shapes: (rows, columns) that a batch may be packed in; () for none.
    microbatches: parts that a batch is cut into.
  """
  [critic] = get_models(models, 'critic')
  judges = get_models(models, *(['judge'] if preference_weight else []))
  _check_counts(num_solutions, num_critiques, num_refinements, num_controls)
  rewards, weights = make_rewards(
    gate, num_refinements, shaping, judge=judge_weight, refine=refine_weight,
    preferred=preference_weight, locate=step_weight,
  )  # fmt: skip
  label = _bind_labels(first_error, step_weight if num_solutions else 0.0)
  advantage_fn = lookup.bind(advantages, advantage, 'advantage')
  policy = policy_gradient.make_policy_loss(
    models, 'critic', objective=objective, kl=kl, microbatches=microbatches
  )
  num_refinements = num_refinements if refine_weight else 0
  is_asked = num_solutions or num_refinements
  [solver] = get_models(models, 'solver') if is_asked else [None]
  counts = batch_size, num_solutions, num_critiques
  num_rows = math.prod(max(1, count) for count in counts)
  max_prompts = num_rows if num_refinements else 0  # to refine with
  to_rows, pack = batching.make_rows(
    critic, num_rows=num_rows, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches,
  )  # fmt: skip

  def refine(critiques, roles, key, controls_key):
    """Refinements with admitted critiques; those of controls; graded."""
    if not num_refinements:
      return [[]]
    stage = solver.stages.refine
    admitted = [c for c in critiques if refinement.admits(gate, c)]
    refinements = rollout.Request(
      controls.masking(stage) if mask_answers else stage,
      admitted,
      key,
      num_refinements,
      max_prompts,
    )
    compared = controls.requests(
      stage,
      controls.spread(admitted, num_controls),
      controls_key,
      max_prompts=min(max_prompts, num_controls),
    )
    # Together: the sampler then has more rows to decode at once.
    requests = [refinements, *compared]
    solve = solver.bind(roles['solver'])
    return rollout.run_graded_together(requests, solve, grade)

  def collect(roles, examples, key):
    keys = jax.random.split(key, 5)
    critique = critic.bind(roles['critic'])

    # 1. Solve, or take the given; answers are graded while the critic writes.
    if num_solutions:
      solve = solver.bind(roles['solver'])
      solutions = rollout.run(
        solver.stages.solve, solve, examples, keys[0], n=num_solutions
      )
    else:
      solutions = rollout.given(examples)
    solutions = label(solutions)
    with rollout.grading(solutions, grade) as graded:
      # 2. Critique.
      critiques = rollout.run(
        critic.stages.critique, critique, solutions, keys[1], n=num_critiques
      )
    critiques = rollout.reattach(critiques, solutions, graded.result())
    solutions = graded.result()

    # 3. Refine.
    [refinements, *others] = refine(critiques, roles, keys[2], keys[3])

    # 4. Compare, and reward.
    compared = []
    for judge in judges:
      new, compared = comparisons.compare(
        critiques, num_critiques, judge.bind(roles['judge']), keys[4]
      )
      refinements = rollout.reattach(refinements, critiques, new)
      others = [rollout.reattach(rs, critiques, new) for rs in others]
      critiques = new
    scored = rollout.score(critiques, refinements, rewards, weights)
    responses = rollout.reattach(
      [*refinements, *itertools.chain(*others), *compared], critiques, scored
    )

    # 5. Advantages among the critiques of one solution; the batch.
    reward, where = rollout.determined_rewards(scored)
    groups = -1, num_critiques
    advantage = advantage_fn(reward.reshape(groups), where.reshape(groups))
    batch = to_rows(scored, np.asarray(advantage).reshape(-1), where)
    batch = policy.add_ref_logprobs(pack(batch), roles)
    return batch, solutions + scored + responses

  return Recipe(
    collect,
    policy.loss,
    trained=('critic',),
    num_rows=num_rows,
    sampled=_sampled(*counts, num_refinements, len(judges)),
    scored=policy.scored,
    metrics=frozenset([*policy.metrics, *_record_metrics(rewards, judges)]),
    corrects_staleness=policy.corrects_staleness,
    takes_solutions=not num_solutions,
  )


def _check_counts(num_solutions, num_critiques, num_refinements, num_controls):
  lookup.check_counts(2, num_critiques=num_critiques)  # a group to compare
  lookup.check_counts(
    0,
    num_solutions=num_solutions,
    num_refinements=num_refinements,
    num_controls=num_controls,
  )


def _check_earns(weights, num_refinements) -> None:
  """Raises ValueError if every critique earns the same: there is no reward."""
  paid = {name for name, weight in weights.items() if weight}
  if not paid - (set() if num_refinements else {'refine'}):
    raise ValueError(
      f'judge_weight, refine_weight: got the weights {weights} and '
      f'num_refinements={num_refinements}, by which no critique earns anything;'
      ' expected a reward; raise judge_weight, or refine_weight and '
      'num_refinements'
    )


def _sampled(
  num_examples, num_solutions, num_critiques, num_refinements, num_judges
):
  """Lists the stages of a step, if every critique is refined."""
  num_critiqued = num_examples * max(1, num_solutions)
  num_refined = num_critiqued * num_critiques
  stages = [
    Sampled('solve', 'solver', num_examples, num_solutions),
    Sampled('critique', 'critic', num_critiqued, num_critiques),
    Sampled('refine', 'solver', num_refined, num_refinements),
    # Each critique with the next one, in both orders.
    Sampled(comparisons.NAME, 'judge', 2 * num_refined, num_judges),
  ]
  return tuple(stage for stage in stages if stage.num_samples)


def _record_metrics(rewards, judges) -> list[str]:
  """Lists the names of the metrics of a step's records."""
  stages = (comparisons.NAME, comparisons.SWAPPED) if judges else ()
  compared = [stage_metrics.names(x, is_compared=True) for x in stages]
  return [
    *stage_metrics.names('solve', is_graded=True),
    *stage_metrics.names('critique', rewards=rewards, has_verdict=True),
    *stage_metrics.names('refine', is_graded=True, controls=controls.NAMES),
    *(name for stage in compared for name in stage),
  ]


_NONE = np.zeros(0, np.int32)
_EMPTY = Record(
  Problem('', '', ''), 'critique', None, 0, _NONE, _NONE,
  np.zeros(0, np.float32), '', parsed={'status': 'missing'},
)  # fmt: skip


def _bind_labels(settings, step_weight):
  """Returns what writes the first wrong step into solutions."""
  with lookup.naming('first_error'):
    lookup.check_has('name', settings, 'function of critic_jax.tasks')
  parameters = 'problem', 'text'
  first_error = lookup.bind_task(settings, 'first_error', parameters)
  if not first_error:
    if step_weight:
      raise ValueError(
        f'step_weight: got {step_weight} without labels of steps; expected '
        'who knows them; set first_error.module and first_error.name'
      )
    return lambda solutions: solutions
  return functools.partial(step_labels.write, first_error=first_error)


def make_rewards(gate, num_refinements, shaping, **weights):
  """Returns the rules of a critique's reward and their weights, by name.

  Rules that the paper does not have are left out where they have no weight.
  """
  refinement.check_gate(gate)
  names = dict(preferred='preference_weight', locate='step_weight')
  for name, setting in names.items():
    lookup.check_numbers(**{setting: weights[name]})
  weights = {k: w for k, w in weights.items() if w or k not in names}
  rules = {
    'judge': refinement.judge,
    'refine': functools.partial(refinement.refine, gate=gate),
    'preferred': preferences.preferred,
    'locate': step_labels.locate,
  }
  rewards = {name: rules[name] for name in weights}
  for name, settings in shaping.items():
    settings = dict(settings)
    if 'weight' not in settings:
      raise ValueError(f"shaping.{name}: got {settings}; expected a 'weight'")
    weights[name] = settings.pop('weight')
    setting = f'shaping.{name}'
    rewards[name] = lookup.bind(
      shaping_rewards, {'name': name, **settings}, setting
    )
    with lookup.naming(setting):  # its values are checked when it is called
      lookup.check_numbers(weight=weights[name])
      rewards[name](_EMPTY, [])
  _check_earns(weights, num_refinements)
  return rewards, weights
