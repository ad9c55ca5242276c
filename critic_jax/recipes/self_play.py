"""Self-play of attackers and critics of solutions: SPC, by config.

SPC is https://arxiv.org/abs/2504.19162.

1. Each problem gets a solution; only right ones are played with.
2. An attacker is told one of its steps and rewrites the solution so that this
   step is wrong. An attack counts if it truly breaks the solution
   (rewards/duels.py); one that does not is shown to nobody.
3. A critic judges each attack that counts and, if critics learn, as often the
   solution that it was made of, which is right.
4. Who wins gets 1, who loses -1: a critic for its verdict, an attacker for its
   critics' verdicts, and always -1 for an attack that does not count.
5. Policy gradient on the learner, with a penalty for leaving a reference.

A phase trains one side, and rounds are phases in turn; opponents are roles, as
they are now or copies of earlier rounds.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import batching, group_rows
from critic_jax.loss_fns import policy_gradient
from critic_jax.rewards import duels, refinement, step_labels
from critic_jax.rollouts import attacks, rollout, written
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled

_OF_CRITIC = {'judge': refinement.judge, 'misjudge': refinement.misjudge}
_OF_ATTACKER = {'breaks': duels.breaks, 'outwit': duels.outwit}


def make(
  models,
  grade,
  *,
  learner: str, attackers: Sequence, critics: Sequence,
  order: str,
  writer: Mapping, first_error: Mapping,
  num_attacks: int, num_critiques: int,
  advantage: Mapping, objective: Mapping, kl: Mapping,
  batch_size: int, aggregate: str, row_shapes: Sequence, microbatches: int,
) -> Recipe:  # fmt: skip
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of attackers and critics, of 'solver' if it solves, and of 'ref'
      if the KL has a coefficient.
    grade: final answers to grades.
    learner: the role that learns, the only attacker or the only critic.
    attackers: roles that attack, and share a step's problems.
    critics: roles that judge, and share a step's attacks.
    order: what an attacker is told, with {} for the number of the step.
    writer: who solves, a `module` of critic_jax.tasks with a name and keywords
      of its function `(problem, rng) -> solution`; `module=''`: the solver.
    first_error: who knows which step is wrong, as of `refcritic`; `module=''`
      for nobody: a wrong answer is then all that an attack has to reach.
    num_attacks, num_critiques: of each solution, and of each attack.
  """
  is_critic = attacks.check_players(learner, attackers, critics)
  attacks.check_order(order)
  # A group to compare of what is learned.
  lookup.check_counts(2 - is_critic, num_attacks=num_attacks)
  lookup.check_counts(1 + is_critic, num_critiques=num_critiques)
  write_solution = lookup.bind_task(writer, 'writer', ('problem', 'rng'))
  get_models(models, *attackers, *critics)
  [solver] = get_models(models, learner if write_solution else 'solver')
  label = step_labels.bind(first_error, {})
  policy = policy_gradient.make_policy_loss(
    models, learner, objective=objective, kl=kl, microbatches=microbatches
  )
  num_shown = batch_size * (num_attacks + is_critic)
  size = num_critiques if is_critic else num_attacks
  num_rows = num_shown * num_critiques if is_critic else num_shown
  to_rows, pack = batching.make_rows(
    models[learner], num_rows=num_rows, aggregate=aggregate,
    row_shapes=row_shapes, microbatches=microbatches,
  )  # fmt: skip
  to_group_rows = group_rows.make_group_rows(to_rows, advantage, size)

  def give(problems, roles, key, rng):
    stage = solver.stages.solve
    if write_solution:
      return written.by_rule(stage, problems, write_solution, rng)
    return rollout.run(stage, solver.bind(roles['solver']), problems, key, n=1)

  def collect(roles, problems, key):
    keys = jax.random.split(key, 4)
    seed = int(jax.random.bits(keys[3]))

    # 1. Solve. 2. Attack.
    solutions = give(problems, roles, keys[0], random.Random(seed))
    solutions = label(rollout.grade(solutions, grade))
    orders = attacks.give_orders(solutions, order, seed)
    made = attacks.share(
      attackers, models, roles, attacks.stage, orders, keys[1], n=num_attacks,
      max_parents=batch_size,
    )  # fmt: skip
    made = label(rollout.grade(made, grade))

    # 3. Judge what counts.
    shown = [x for x in made if duels.breaks(x)]
    if is_critic:
      shown += attacks.attacked(shown)
    critiques = attacks.share(
      critics, models, roles, lambda stages: stages.critique, shown, keys[2],
      n=num_critiques, max_parents=num_shown,
    )  # fmt: skip

    # 4. Reward.
    critiques = rollout.score(
      critiques, [], _OF_CRITIC, dict(judge=1.0, misjudge=1.0)
    )
    scored = rollout.score(
      made, critiques, _OF_ATTACKER, dict(breaks=0.0, outwit=1.0)
    )
    critiques = rollout.reattach(critiques, made, scored)

    # 5. Advantages among the critiques of one text, or the attacks on one.
    learned = critiques if is_critic else scored
    batch = pack(to_group_rows(learned))
    records = [*solutions, *orders, *scored, *critiques]
    return policy.add_ref_logprobs(batch, roles), records

  names = attacks.metric_names(_OF_ATTACKER, _OF_CRITIC)
  return Recipe(
    collect, policy.loss, trained=(learner,), num_rows=num_rows,
    sampled=(
      *[Sampled('solve', 'solver', batch_size, 1)][: not write_solution],
      *attacks.sampled(attacks.NAME, attackers, batch_size, num_attacks),
      *attacks.sampled('critique', critics, num_shown, num_critiques),
    ),
    scored=policy.scored,
    metrics=frozenset([*policy.metrics, *names]),
    corrects_staleness=policy.corrects_staleness,
  )  # fmt: skip
