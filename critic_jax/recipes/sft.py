"""SFT: imitation of lessons.

1. Each problem gives a lesson: messages, of which the last is learned.
2. The message's prompt is what the role would be shown at that stage.
3. Loss: minus the log-probability of the message's tokens, its end included.

The lessons are functions that a config names: worked reference solutions, or
those of the arithmetic world, which also show how to follow a critique.
"""

from __future__ import annotations

import random

import jax
import jax.numpy as jnp

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.models import forward
from critic_jax.rollouts import rollout
from critic_jax.types import Recipe, Record


def make(config, models, grade) -> Recipe:
  """The recipe.

  Args:
    config: `role`, `batch_size`, `aggregate`, `row_shapes`, `lessons` (a name
      and keywords of a function in the module `lessons.module` of
      critic_jax.data).
    models: LMs by role.
    grade: not used.
  """
  lm = models[config.role]
  pack = batching.make_pack(config)
  settings = dict(config.lessons)
  write_lesson = lookup.bind(
    lookup.module('tasks', settings.pop('module')), settings
  )

  def collect(roles, problems, key):
    rng = random.Random(int(jax.random.bits(key)))
    records = [_record(write_lesson(problem, rng), lm) for problem in problems]
    batch = batching.from_records(
      records,
      lm,
      num_rows=config.batch_size,
      aggregate=config.aggregate,
    )
    return pack(batch), records

  def loss(trained, batch):
    logprobs = forward.token_logprobs(
      lm.model,
      trained[config.role],
      batch['tokens'],
      layout=forward.layout(batch),
    )
    total = -jnp.sum(batch['weights'] * logprobs)
    return total, ({'loss/nll': total}, {})

  return Recipe(collect, loss)


def _record(lesson, lm) -> Record:
  """The chain of a lesson's messages; the last has tokens."""
  node = lesson.problem
  for name, text in lesson.messages:
    stage = getattr(lm.stages, name)
    prompt, node = stage.prompt(node), rollout.write(stage, node, text)
  return batching.encode(node, prompt, lm)
