"""Samples the records that the critic loop is measured by (protocols.py)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import jax

from critic_jax.evals import thresholds
from critic_jax.rewards import step_labels
from critic_jax.rewards.refinement import admits
from critic_jax.rollouts import controls as controls_lib
from critic_jax.rollouts import revisions, rollout
from critic_jax.sampling.lm import LM
from critic_jax.types import Key, Problem, Record, Roles


def collect(
  models: Mapping[str, LM],
  roles: Roles,
  examples: Sequence[Problem | Record],
  key: Key,
  *,
  num_solutions: int,
  num_critiques: int,
  num_refinements: int,
  refine: str,
  controls: bool,
  grade: rollout.Grade,
  num_rounds: int = 1,
  first_error: Callable[[Problem, str], int] | None = None,
  describe: Callable[[Record], Mapping[str, bool]] | None = None,
  score: Callable[[Sequence[Record]], list[Record]] | None = None,
  advance: Callable[[Record], Record | None] | None = None,
) -> list[Record]:
  """Solves, critiques each solution k times, and refines n times.

  The same key gives the same solutions with any critic, so critics are compared
  on the same solutions.

  Args:
    models: 'critic' to critique, and 'solver' to solve or to refine.
    roles: the parameters of each model.
    examples: problems to solve, or solutions to critique.
    key: consumed.
    num_solutions: solutions per problem; 1 if solutions are given.
    num_critiques: critiques per solution, k; 0 for none, but for what scores
      of steps say by a threshold of a half.
    num_refinements: refinements, n, per critique that `refine` admits; 0 for
      none.
    refine: a gate of rewards/refinement.py, e.g. 'called_wrong' or 'always'.
    controls: whether to refine with the controls of rollouts/controls.py, too.
    grade: grades final answers.
    num_rounds: rounds of critique and refine; those after the first criticise
      each refinement once, and refine it once if `refine` admits that
      (rollouts/revisions.py).
    first_error: (problem, solution) -> 0-based index of the first wrong step,
      -1 if no step is wrong; None if that is unknown.
    describe: critique -> which claims it makes, by name; None to skip this.
    score: solutions or sampled critiques -> the same, with a reward model's
      `scores` if it reads that stage; None: nothing is scored.
    advance: critique -> the next action of an episode (episode_metrics.py), or
      None after its end; None: given solutions are no episodes.

  Returns:
    The solutions, their critiques, the refinements, and those of the controls;
    then the critiques and the refinements of further rounds, or the actions of
    further turns and their critiques.
  """
  # A stage's key does not depend on the other stages' settings.
  keys = jax.random.split(key, 4)
  solver, critic = models.get('solver'), models.get('critic')
  solve = solver.bind(roles['solver']) if solver else None

  # Sample solutions, or take those that are given.
  solutions = _solutions(solver, solve, examples, keys[0], grade, num_solutions)
  if first_error:
    solutions = step_labels.write(solutions, first_error)
  solutions = score(solutions) if score else solutions

  # Sample critiques.
  critiques = thresholds.critiques(solutions, 0.5)
  if num_critiques:
    stage, criticise = critic.stages.critique, critic.bind(roles['critic'])
    critiques = rollout.run(
      stage, criticise, solutions, keys[1], n=num_critiques
    )
    critiques = score(critiques) if score else critiques
  if describe:
    critiques = [_parsed(c, says=dict(describe(c))) for c in critiques]
  records = solutions + critiques

  # Sample refinements, all in one batch with the controls'.
  if num_refinements:
    stage = solver.stages.refine
    admitted = [c for c in critiques if admits(refine, c)]
    requests = [rollout.Request(stage, admitted, keys[2], num_refinements)]
    if controls:
      requests += controls_lib.requests(stage, admitted, keys[3])
    refinements, *others = rollout.run_graded_together(requests, solve, grade)
    records += itertools.chain(refinements, *others)

    if num_rounds > 1:
      records += _further_rounds(
        refinements, num_rounds, (critic.stages.critique, criticise, keys[1]),
        (stage, solve, keys[2]), grade, refine,
      )  # fmt: skip
  if advance:
    asked = critic.stages.critique, criticise, keys[1]
    records += _further_turns(critiques, advance, asked)
  return records


def _solutions(
  solver: LM, solve: Callable, examples, key: Key, grade, n: int
) -> list[Record]:
  """Returns graded solutions: those given, or n of each problem."""
  if isinstance(examples[0], Record):
    return rollout.grade(examples, grade)
  return rollout.run_graded(
    solver.stages.solve, solve, examples, key, grade, n=n
  )


def _further_rounds(
  answers: Sequence[Record], num_rounds: int, critique, revise, grade, gate: str
) -> list[Record]:
  """Criticises and refines answers, once a round.

  Args:
    answers: the refinements of the first round.
    num_rounds: all rounds, the first included.
    critique: the first round's stage of critiques, the critic's sampler, and
      the stage's key. A record's key is also of its parent's id, so that no two
      rounds share one.
    revise: the same of refinements.
    grade: grades final answers.
    gate: which critiques are refined.

  Returns:
    The critiques and refinements of each round, in order.
  """
  records = []
  for number in range(2, num_rounds + 1):
    stage, generate, key = critique
    stage = revisions.critique_stage(stage, number)
    critiques = rollout.run(stage, generate, answers, key, n=1)
    admitted = [c for c in critiques if admits(gate, c)]
    stage, generate, key = revise
    stage = revisions.refine_stage(stage, number)
    answers = rollout.run_graded(stage, generate, admitted, key, grade, n=1)
    records += critiques + answers
  return records


def _further_turns(
  critiques: Sequence[Record], advance: Callable, critique
) -> list[Record]:
  """Goes on with episodes to their ends, and criticises each action once.

  Args:
    critiques: of the episodes' first actions.
    advance: critique -> the next action, a response to it, or None.
    critique: as of `_further_rounds`.

  Returns:
    The actions and critiques of each turn, in order.
  """
  stage, generate, key = critique
  records, number, size = [], 1, len(critiques)
  while critiques:
    number += 1
    name = revisions.name('solve', number)
    actions = [action for c in critiques if (action := advance(c))]
    actions = [dataclasses.replace(action, stage=name) for action in actions]
    critiques = rollout.run(
      revisions.critique_stage(stage, number),
      generate,
      [action for action in actions if action.parsed['episode']['left']],
      key,
      n=1,
      max_prompts=size,  # so that all turns are sampled in one shape
    )
    records += actions + critiques
  return records


def _parsed(record: Record, **fields) -> Record:
  """Returns the record with more parsed fields."""
  return dataclasses.replace(record, parsed={**record.parsed, **fields})
