"""Preferences between given responses: offline DPO and its kin, by config.

DPO is https://arxiv.org/abs/2305.18290; C3PO, what is kept,
https://arxiv.org/abs/2402.10893.

1. The examples are comparisons, prompts with responses that somebody scored;
   or a writer makes one of each problem.
2. Score of a response: the sum of what is said of it, by weight. Of two the one
   with the higher score is chosen: `max_pairs` of a prompt, those farthest
   apart. Equal scores make no pair.
3. A response that was called good or bad by itself, and is in no pair, counts
   alone, if the objective learns from such ones (KTO); or the good ones are
   kept, by imitation.
4. Loss: the preference of the chosen one, by `objective`.

Nothing is sampled: who wrote the responses is not asked.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from critic_jax import lookup
from critic_jax.data import batching, pair_rows
from critic_jax.loss_fns import pairwise
from critic_jax.rollouts import pairing, stage_metrics
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe


def make(
  models,
  grade,
  *,
  role: str,
  writer: Mapping,
  max_responses: int,
  max_pairs: int,
  score: Mapping,
  margin: Mapping,
  objective: Mapping,
  keep_coef: float,
  batch_size: int,
  aggregate: str,
  row_shapes: Sequence,
  microbatches: int,
) -> Recipe:
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of `role`, and of 'ref' if the objective has a reference.
    grade: not used.
    role: the role that learns.
    writer: a `module` of critic_jax.tasks with a name and keywords of its
      function `(problem, rng) -> comparison`, or `module=''`: the examples are
      comparisons. The rng is seeded by the problem alone: a label that is noise
      is the same in each epoch.
    max_responses: responses to a prompt, at most.
    max_pairs: pairs of a prompt, at most.
    score: weights of scores by name, such as 'preference'; 0 for none.
    margin: weights of scores whose sum objectives take margins of, such as
      `modpo`; all 0: the margin is of `score`.
    objective: a name and keywords of `objectives/preference.py`.
    keep_coef: of the imitation of good responses that are in no pair.
    aggregate: how pairs weigh: alike, 'sequence', or by the tokens of their
      responses, 'token' and 'constant'.
  """
  [lm] = get_models(models, role)
  compare = lookup.bind_task(writer, 'writer', ('problem', 'rng'))
  lookup.check_counts(2, max_responses=max_responses)  # a pair
  lookup.check_counts(max_pairs=max_pairs)
  with lookup.naming('score'):
    weights = pairing.check_weights(score)
  lookup.check_numbers(**margin)
  margins = {name: weight for name, weight in margin.items() if weight}
  pair_loss = pairwise.make_pair_loss(
    models, role, objective=objective, num_groups=batch_size,
    rows_per_group=max_responses, microbatches=microbatches,
    keep_coef=keep_coef,
  )  # fmt: skip
  lay_out = pair_rows.make_pair_rows(
    lm, num_groups=batch_size, rows_per_group=max_responses,
    aggregate=aggregate, row_shapes=row_shapes, microbatches=microbatches,
    is_apart=bool(keep_coef),
  )  # fmt: skip

  def encode(comparison):
    """Returns the responses with tokens; one that is too long has no score."""
    records = batching.encode_responses(comparison, lm)
    return pairing.score_given(records, weights, margins)

  def pairs_of(siblings):
    pairs = pairing.farthest_pairs(siblings, max_pairs)
    if pair_loss.reads_singles:
      singles = pairing.single_responses(siblings, pairs)
      pairs += [s for s in singles if s[0] or not keep_coef]
    return pairs

  def collect(roles, examples, key):
    del key
    if compare:
      examples = [compare(x, random.Random(x.id)) for x in examples]
    groups = [encode(comparison) for comparison in examples]
    batch = lay_out([pairs_of(siblings) for siblings in groups])
    batch = pair_loss.add_ref_logprobs(batch, roles)
    return batch, [record for siblings in groups for record in siblings]

  metrics = [
    *pair_loss.metrics,
    *stage_metrics.names(
      'solve', rewards=[*weights, *margins, 'margin'], is_graded=True
    ),
  ]
  return Recipe(
    collect,
    pair_loss.loss,
    trained=(role,),
    num_rows=batch_size * max_responses,
    rows_per_group=max_responses,
    scored=pair_loss.scored,
    metrics=frozenset(metrics),
    takes_comparisons=not compare,
  )
