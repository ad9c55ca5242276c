"""A reward model: a scalar head that learns which response is better.

The pairwise loss of https://arxiv.org/abs/2203.02155, eq. 1; what papers on
reward models add to it is in `objectives/reward.py`.

1. Each problem gets `num_responses` solutions, or each given solution as many
   critiques: a model samples them, or a rule writes them. Or the examples are
   comparisons, prompts with responses that somebody scored.
2. Gold: the answer or the verdict is right, or a rule's own measure; or the sum
   of what is said of a given response, by weight.
3. Of two responses to one prompt the one with more gold is chosen and the other
   rejected: `max_pairs` at most, those farthest apart. Equal gold is no pair.
4. Noise: a share of the labels is swapped, as annotators err.
5. Reward models that were trained before may correct labels (`relabel`).
6. Loss: the chosen response has the higher score, by `objective`. The score is
   read at a response's last token.

Responses are read in the tokens and behind the prompt of the reward model: it
may be of another family than who wrote them. One that was cut has no end.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import reward_models
from critic_jax.rollouts import pairing, rollout, stage_metrics, written
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled

# A stage: who writes it, and what it responds to.
_STAGES = dict(solve=('solver', 'problem'), critique=('critic', 'solution'))


def make(
  models,
  grade,
  *,
  role: str, stage: str,
  num_responses: int, writer: Mapping, gold: Mapping,
  max_pairs: int, flip_share: float, relabel: Mapping, objective: Mapping,
  batch_size: int, aggregate: str, row_shapes: Sequence, microbatches: int,
  comparisons: Mapping | None = None,
) -> Recipe:  # fmt: skip
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of `role`, which has a reward head, and, to respond, of 'solver'
      or of 'critic'.
    grade: final answers to grades.
    role: the reward model that learns.
    stage: 'solve', or 'critique': the examples are then solutions.
    num_responses: responses to each example, two at least.
    writer: a function of critic_jax.tasks, `(problem, rng) -> solution` or
      `(solution, rng) -> critique`; `module=''` for the solver, or the critic.
    gold: by what a response is better, another one, `(problem, solution) ->
      number`; `module=''` for the grade of the answer, or the verdict.
    max_pairs: pairs of responses to each example, at most.
    flip_share: the probability that a pair's label is swapped.
    relabel: `roles`, reward models that may know better, () for none; `share`,
      of the pairs, whose labels are flipped where these find them weakest; and
      `has_margin`, whether their own margins are asked for.
    objective: a name and keywords of `objectives/reward.py`.
    aggregate: how pairs weigh: alike, 'sequence', or by the tokens of their
      responses, 'token' and 'constant'.
    comparisons: `max_responses` to a prompt of given ones, and `score`, weights
      of scores by name, such as 'preference'; None: responses are made.
  """
  [reader] = get_models(models, role)
  lookup.check_name('stage', stage, _STAGES)
  author, asked = _STAGES[stage]
  write = lookup.bind_task(writer, 'writer', (asked, 'rng'))
  weights = pairing.given_weights(comparisons, stage, writer, gold)
  lm = None if write or weights else get_models(models, author)[0]
  lookup.check_counts(2, num_responses=num_responses)  # a pair
  pairing.check_pairs(max_pairs, flip_share)
  rules = weights or pairing.gold_rules(gold, stage)
  relabeller = reward_models.make_relabeller(
    models, relabel, microbatches=microbatches
  )
  num_pairs = batch_size * max_pairs
  score_loss = reward_models.make_score_loss(
    models, role, objective=objective, num_pairs=num_pairs
  )
  to_rows, pack = batching.make_rows(
    reader, num_rows=2 * num_pairs, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches, rows_per_group=2,
  )  # fmt: skip

  def respond(roles, examples, key, rng):
    if lm:
      generate, stage_of_lm = lm.bind(roles[author]), getattr(lm.stages, stage)
      return rollout.run(stage_of_lm, generate, examples, key, n=num_responses)
    its_stage = getattr(reader.stages, stage)
    records = written.by_rule(its_stage, examples, write, rng, n=num_responses)
    return batching.reread_own(records, reader)

  def collect(roles, examples, key):
    keys = jax.random.split(key, 2)
    rng = random.Random(int(jax.random.bits(keys[1])))
    above = []  # the solutions of critiques
    if stage == 'critique':
      above = examples = rollout.grade(rollout.given(examples), grade)

    # 1. Respond. 2. Gold.
    if weights:
      groups = [
        pairing.score_given(batching.encode_responses(c, reader), weights, {})
        for c in examples
      ]
      records = list(itertools.chain(*groups))
    else:
      records = respond(roles, examples, keys[0], rng)
      if stage == 'solve':
        records = rollout.grade(records, grade)
      records = rollout.score(records, [], rules, dict.fromkeys(rules, 1.0))
      readable = batching.reread_own(records, reader) if lm else records
      groups = [
        readable[i : i + num_responses]
        for i in range(0, len(readable), num_responses)
      ]

    # 3. Pair. 4. Swap some labels.
    pairs = [pairing.farthest_pairs(group, max_pairs) for group in groups]
    pairs = pairing.swap(sum(pairs, []), flip_share, rng)
    batch = to_rows(list(itertools.chain(*pairs)))

    # 5. Correct labels.
    if relabeller.roles:
      batch = relabeller.relabel(batch, roles)
    return pack(batch), above + records

  sampled = Sampled(stage, author, batch_size, num_responses)
  names = stage_metrics.names('solve', is_graded=True)
  names += stage_metrics.names(
    stage, rewards=rules, has_verdict=stage == 'critique'
  )
  return Recipe(
    collect, score_loss, trained=(role,), num_rows=2 * num_pairs,
    rows_per_group=2, sampled=(sampled,) if lm else (), scored=relabeller.roles,
    metrics=frozenset([*reward_models.METRICS, *names]),
    corrects_staleness=True,  # a preference holds whoever wrote the responses
    takes_solutions=stage == 'critique', takes_comparisons=bool(weights),
  )  # fmt: skip
