"""Cold start: rejection-sampled critique SFT.

The supervised start of RefCritic (https://arxiv.org/abs/2507.15024), whose
details could not be verified by us:

1. The solver solves each problem.
2. A writer, who may be the critic itself, writes critiques of each solution.
3. Critiques whose verdict is right are kept, in equal number on right and on
   wrong solutions as far as they go.
4. Loss: minus the log-probability of the kept critiques.
"""

from __future__ import annotations

import random

import jax
import jax.numpy as jnp

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.models import forward
from critic_jax.rewards import refinement
from critic_jax.rollouts import rollout
from critic_jax.types import Recipe


def make(config, models, grade) -> Recipe:
  """The recipe.

  Args:
    config: `num_critiques` a solution, `batch_size` critiques kept at most,
      `aggregate`, `row_shapes`, and `writer`: a `module` of critic_jax.data
      with a name and keywords of its function, or `module=''` for the critic
      itself.
    models: LMs of 'solver' and 'critic'.
    grade: final answers to grades.
  """
  solver, critic = models['solver'], models['critic']
  stage = critic.stages.critique
  pack = batching.make_pack(config)
  num_critiques, num_rows = config.num_critiques, config.batch_size
  settings = dict(config.writer)
  module = settings.pop('module')
  write_critique = module and lookup.bind(
    lookup.module('tasks', module), settings
  )

  def written(solutions, rng):
    records = []
    for solution in solutions:
      prompt = stage.prompt(solution)
      for i in range(num_critiques):
        text = write_critique(solution, rng)
        record = rollout.write(stage, solution, text, i)
        records.append(batching.encode(record, prompt, critic))
    return records

  def collect(roles, problems, key):
    keys = jax.random.split(key, 3)
    rng = random.Random(int(jax.random.bits(keys[2])))
    solve = solver.bind(roles['solver'])
    solutions = rollout.run_graded(
      solver.stages.solve, solve, problems, keys[0], grade, n=1
    )
    if write_critique:
      critiques = written(solutions, rng)
    else:
      critiques = rollout.run(
        stage,
        critic.bind(roles['critic']),
        solutions,
        keys[1],
        n=num_critiques,
      )
    critiques = rollout.score(
      critiques, [], {'judge': refinement.judge}, {'judge': 1.0}
    )
    kept = balance(critiques, num_rows, rng)
    batch = batching.from_records(
      kept,
      critic,
      num_rows=num_rows,
      aggregate=config.aggregate,
    )
    return pack(batch), solutions + critiques

  def loss(trained, batch):
    logprobs = forward.token_logprobs(
      critic.model,
      trained['critic'],
      batch['tokens'],
      layout=forward.layout(batch),
    )
    total = -jnp.sum(batch['weights'] * logprobs)
    return total, ({'loss/nll': total}, {})

  return Recipe(collect, loss)


def balance(critiques, num_rows, rng):
  """Rightly judging critiques, right and wrong solutions in equal number."""
  kept = [c for c in critiques if c.scores['judge'] == 1.0 and not c.truncated]
  rng.shuffle(kept)
  by_truth = {
    truth: [c for c in kept if c.parent.parsed['correct'] is truth]
    for truth in (True, False)
  }
  num_each = min(num_rows // 2, *map(len, by_truth.values()))
  return by_truth[True][:num_each] + by_truth[False][:num_each]
