"""SFT: imitation of lessons.

1. Each problem gives a lesson: messages, of which the last is learned.
2. The message's prompt is what the role would be shown at that stage.
3. Loss: minus the log-probability of the message's tokens, its end included; or
   another `objective`, which may read how good each line is, if the lesson says
   so, or the log-probabilities of a reference.

The lessons are functions that a config names: worked reference solutions, or
those of the arithmetic world, which also show how to follow a critique and how
to check a line.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import batching, step_rows
from critic_jax.loss_fns import imitation
from critic_jax.objectives import demonstrations
from critic_jax.rollouts import rollout, stage_metrics
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Record


def make(
  models,
  grade,
  *,
  role: str,
  lessons: Mapping,
  batch_size: int,
  aggregate: str,
  row_shapes: Sequence,
  microbatches: int,
  objective: Mapping | None = None,
) -> Recipe:
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs by role, of 'ref' too if the objective has a reference.
    grade: not used.
    role: the role that learns.
    lessons: a `module` of critic_jax.tasks, with a name and keywords of its
      function `(problem, rng) -> lesson`.
    objective: a name and keywords of `objectives/demonstrations.py`; None is
      `likelihood`.
  """
  [lm] = get_models(models, role)
  write_lesson = lookup.bind_in('tasks', lessons, 'lessons', ('problem', 'rng'))
  objective = objective or dict(name='likelihood')
  objective_fn = imitation.bind_objective(objective)
  has_reference = objective['name'] in demonstrations.WITH_REFERENCE
  if has_reference:
    get_models(models, 'ref')
    add_ref_logprobs = imitation.make_add_ref_logprobs(
      models, microbatches=microbatches
    )
  to_rows, pack = batching.make_rows(
    lm,
    num_rows=batch_size,
    aggregate=aggregate,
    row_shapes=row_shapes,
    microbatches=microbatches,
  )

  def collect(roles, problems, key):
    rng = random.Random(int(jax.random.bits(key)))
    written = [write_lesson(problem, rng) for problem in problems]
    records = [_record(lesson, lm) for lesson in written]
    batch = to_rows(records)
    if objective['name'] in demonstrations.WITH_FEEDBACK:
      segments = [lesson.segments for lesson in written]
      batch['feedback'] = step_rows.token_feedback(
        records, segments, batch['mask'], lm
      )
    batch = pack(batch)
    return add_ref_logprobs(batch, roles) if has_reference else batch, records

  names = [
    stage_metrics.names(stage, has_verdict=stage == 'critique')
    for stage in lm.stages._fields
  ]
  return Recipe(
    collect,
    imitation.make_imitation_loss(models, role, objective_fn),
    trained=(role,),
    num_rows=batch_size,
    scored=('ref',) * has_reference,
    metrics=frozenset(imitation.METRICS).union(*names),
  )


def _record(lesson, lm) -> Record:
  """Makes the chain of a lesson's messages; the last has tokens."""
  node = lesson.problem
  for name, text in lesson.messages:
    stage = getattr(lm.stages, name)
    prompt, node = stage.prompt(node), rollout.write(stage, node, text)
  return batching.encode(node, prompt, lm)
