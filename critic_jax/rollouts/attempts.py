"""Attempts at problems: solved, refined after reflection, refined with help.

What is not solved yet is criticised and refined, round by round
(revisions.py): by a critic's own critique, and in the last round, if there is a
teller, by what it writes. Answers may be reviewed, which changes none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from critic_jax import lookup
from critic_jax.rollouts import (
  annotating,
  revisions,
  rollout,
  stage_metrics,
  written,
)
from critic_jax.types import Sampled

REVIEW = 'review'


class Rounds(NamedTuple):
  """The rounds after the solutions, with their models and settings.

  Attributes:
    number: of rounds.
    attempt: `(round from 1, wrong answers, roles, keys) -> (critiques,
      graded refinements)`.
    review: `(answers, roles, key) -> reviews`.
    sampled: what they and the solver sample, if nothing is ever solved.
    metrics: the names of the metrics of all records.
  """

  number: int
  attempt: Callable
  review: Callable
  sampled: tuple[Sampled, ...]
  metrics: tuple[str, ...]


def bind(
  models: Mapping[str, Any],
  grade: rollout.Grade,
  *,
  batch_size: int,
  num_solutions: int,
  num_reflections: int,
  teller: Mapping,
  critic: str,
  num_reviews: int,
  num_reviewed: int,
  experts: Mapping,
) -> Rounds:
  """Binds the rounds to models and settings; `recipes/annotation.py` has them.

  Args:
    models: LMs of 'solver', and of `critic` if it is asked.
    grade: final answers to grades.
    batch_size: problems a step.
    num_solutions: solutions of each.
    num_reflections: rounds of the critic's critiques.
    teller: who writes what helps in one round more, or nobody.
    critic: a role.
    num_reviews: reviews of an answer.
    num_reviewed: attempts whose answers are reviewed.
    experts: by name, for the names of metrics.

  Raises:
    ValueError: a setting is wrong, or a model is missing.
  """
  lookup.check_counts(
    0, num_reflections=num_reflections, num_reviews=num_reviews
  )
  write = lookup.bind_task(teller, 'teller', ('solution', 'rng'))
  is_asked = num_reflections or num_reviews
  if is_asked and critic not in models:
    raise ValueError(
      f'critic: got {critic!r}; expected one of {sorted(models)}, who writes '
      'reflections and reviews; add the model, or set both numbers to 0'
    )
  solver, teacher = models['solver'], models[critic if is_asked else 'solver']
  criticise = teacher.stages.critique
  num_solved = batch_size * num_solutions
  helpers = [None] * num_reflections + [write] * bool(write)

  def ask(stage, parents, roles, key, n, max_prompts):
    generate = teacher.bind(roles[critic])
    return rollout.run(
      stage, generate, parents, key, n=n, max_prompts=max_prompts
    )

  def attempt(number, wrong, roles, keys):
    stage = revisions.critique_stage(criticise, number)
    if helper := helpers[number - 1]:
      critiques = written.or_sampled(stage, None, wrong, helper, keys[0])
    else:
      critiques = ask(stage, wrong, roles, keys[0], 1, num_solved)
    stage = revisions.refine_stage(solver.stages.refine, number)
    request = rollout.Request(stage, critiques, keys[1], 1, num_solved)
    generate = solver.bind(roles['solver'])
    [answers] = rollout.run_graded_together([request], generate, grade)
    return critiques, answers

  def review(answers, roles, key):
    if not num_reviews:
      return []
    stage = revisions.critique_stage(criticise, 1)._replace(name=REVIEW)
    size = num_solved * num_reviewed
    return ask(stage, answers, roles, key, num_reviews, size)

  scores = [*annotating.SCORES, *experts]
  sampled = [Sampled('solve', 'solver', batch_size, num_solutions)]
  metrics = stage_metrics.names('solve', rewards=scores, is_graded=True)
  for number, helper in enumerate(helpers, 1):
    critique, refine = (
      revisions.name(stage, number) for stage in ('critique', 'refine')
    )
    sampled += [
      Sampled(critique, critic, num_solved, int(not helper)),
      Sampled(refine, 'solver', num_solved, 1),
    ]
    metrics += stage_metrics.names(critique, has_verdict=True)
    metrics += stage_metrics.names(refine, rewards=scores, is_graded=True)
  size = num_solved * num_reviewed
  sampled.append(Sampled(REVIEW, critic, size, num_reviews))
  metrics += stage_metrics.names(REVIEW, has_verdict=True) * bool(num_reviews)
  sampled = tuple(stage for stage in sampled if stage.num_samples)
  return Rounds(len(helpers), attempt, review, sampled, tuple(metrics))
