"""Rejective fine-tuning: a cold start from what is right and not too easy.

The first stage of SPCT, https://arxiv.org/abs/2504.02495:

1. The solver solves each problem, or the data gives solutions, or slates
   (rewards/ratings.py).
2. A writer, who may be the critic itself, writes `num_critiques` critiques of
   each; and `num_hinted` more after it was told which response is best.
3. Those that judge rightly are kept. Where all without a hint do, the solution
   is too easy: none of its critiques is kept.
4. Loss: minus the log-probability of the kept critiques, as responses to the
   prompt without a hint.

Unlike `cold_start` it balances nothing: slates are neither right nor wrong.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import imitation
from critic_jax.rewards import ratings, refinement
from critic_jax.rollouts import rollout, solving, stage_metrics, written
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled

_HINTED = 'hinted'


def make(
  models,
  grade,
  *,
  num_solutions: int, num_critiques: int, num_hinted: int,
  drop_easy: bool,
  writer: Mapping,
  batch_size: int, aggregate: str, row_shapes: Sequence, microbatches: int,
) -> Recipe:  # fmt: skip
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'critic' and, to solve, 'solver'.
    grade: final answers to grades.
    num_solutions: solutions of each problem; 0: the examples are solutions.
    num_critiques: critiques of each solution without a hint.
    num_hinted: critiques of each slate with a hint; 0 for none.
    drop_easy: whether solutions are dropped that are always judged rightly.
    writer: a `module` of critic_jax.tasks with a name and keywords of its
      function `(solution, rng) -> text`, or `module=''` for the critic itself.
    batch_size: examples a step, and critiques kept at most.
  """
  _check(num_solutions, num_critiques, num_hinted, drop_easy)
  [critic] = get_models(models, 'critic')
  [solver] = get_models(models, 'solver') if num_solutions else [None]
  solve = solving.bind(solver, num_solutions, grade=grade)
  write = lookup.bind_task(writer, 'writer', ('solution', 'rng'))
  to_rows, pack = batching.make_rows(
    critic, num_rows=batch_size, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches,
  )  # fmt: skip
  stage = critic.stages.critique

  def respond(stage, parents, n, roles, key):
    generate = None if write else critic.bind(roles['critic'])
    return written.or_sampled(stage, generate, parents, write, key, n=n)

  def collect(roles, examples, key):
    keys = jax.random.split(key, 4)

    # 1. Solve. 2. Critique, without a hint and with one.
    solutions = solve(roles, examples, keys[0])
    critiques = respond(stage, solutions, num_critiques, roles, keys[1])
    helped = []
    if num_hinted:
      told = [ratings.hinted(solution) for solution in solutions]
      as_told = stage._replace(name=_HINTED)
      helped = respond(as_told, told, num_hinted, roles, keys[2])
      helped = rollout.reattach(helped, told, solutions)

    # 3. Keep what judges rightly, of what is not too easy.
    critiques, helped = (
      rollout.score(records, [], {'judge': refinement.judge}, {'judge': 1.0})
      for records in (critiques, helped)
    )
    kept = []
    groups = [rollout.children(solutions, x) for x in (critiques, helped)]
    for own, more in zip(*groups, strict=True):
      if not (drop_easy and all(map(_is_right, own))):
        kept += [record for record in own + more if _is_right(record)]
    random.Random(int(jax.random.bits(keys[3]))).shuffle(kept)
    rows = [  # encoded anew, as the prompt has no hint now
      batching.encode(record, stage.prompt(record.parent), critic)
      for record in kept[:batch_size]
    ]
    return pack(to_rows(rows)), solutions + critiques + helped

  num_critiqued = batch_size * max(1, num_solutions)
  sampled = [
    Sampled('solve', 'solver', batch_size, num_solutions),
    Sampled('critique', 'critic', num_critiqued, num_critiques * (not write)),
    Sampled(_HINTED, 'critic', num_critiqued, num_hinted * (not write)),
  ]
  names = stage_metrics.names('solve', is_graded=True)
  for name in ('critique', _HINTED):
    names += stage_metrics.names(name, rewards=['judge'], has_verdict=True)
  return Recipe(
    collect, imitation.make_imitation_loss(models, 'critic'),
    trained=('critic',), num_rows=batch_size,
    sampled=tuple(stage for stage in sampled if stage.num_samples),
    metrics=frozenset([*imitation.METRICS, *names]),
    takes_solutions=not num_solutions,
  )  # fmt: skip


def _is_right(critique) -> bool:
  return critique.scores.get('judge') == 1.0


def _check(num_solutions, num_critiques, num_hinted, drop_easy) -> None:
  lookup.check_counts(0, num_solutions=num_solutions, num_hinted=num_hinted)
  lookup.check_counts(num_critiques=num_critiques)
  if num_hinted and num_solutions:
    raise ValueError(
      f'num_hinted: got {num_hinted} with num_solutions={num_solutions}; '
      'expected one of both, as hints are of given slates; set either to 0'
    )
  if drop_easy and num_critiques == 1 and not num_hinted:
    raise ValueError(
      'drop_easy: got True with num_critiques=1 and num_hinted=0, by which '
      'nothing is kept; expected several critiques; raise num_critiques'
    )
