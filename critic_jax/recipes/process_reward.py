"""A process reward model: a scalar head that judges each step of a solution.

Its loss is that of https://arxiv.org/abs/2305.20050 and of Math-Shepherd
(https://arxiv.org/abs/2312.08935); rules for its labels are of GenPRM
(https://arxiv.org/abs/2504.00891) and others.

1. The solver solves each problem `num_solutions` times, or the data gives
   solutions.
2. Targets of the steps: the solver completes each prefix `num` times, and a
   rule makes a target of what the step does to the share of right answers. Or
   somebody knows the first wrong step: steps before it are right, it is wrong,
   and those after it are not judged.
3. Loss: the score after each step is near its target, by `objective`.

Solutions are read in the tokens and behind the prompt of the reward model. One
without a known grade, or that could not be labelled, teaches nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax

from critic_jax.data import batching, step_rows
from critic_jax.loss_fns import step_scores
from critic_jax.rewards import step_labels, step_values
from critic_jax.rollouts import completions as completions_lib
from critic_jax.rollouts import solving, stage_metrics
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled


def make(
  models,
  grade,
  *,
  role: str,
  num_solutions: int,
  first_error: Mapping,
  completions: Mapping,
  objective: Mapping,
  batch_size: int,
  aggregate: str,
  row_shapes: Sequence,
  microbatches: int,
) -> Recipe:
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of `role`, which has a reward head, and of 'solver', to solve or
      to complete.
    grade: final answers to grades.
    role: the process reward model that learns.
    num_solutions: solutions of each problem; 0: the examples are solutions.
    first_error: who knows the first wrong step, a `module` of critic_jax.tasks
      with a name and keywords of its function `(problem, text) -> index`, or
      `module=''` for nobody, or for the file of given solutions. Beside
      completions it is the truth that their labels are compared with.
    completions: `num` of each prefix of a solution of `max_steps` steps at
      most, 0 for none, and `labels`, a name and keywords of
      rewards/step_values.py.
    objective: a name and keywords of `objectives/step_losses.py`.
    aggregate: how steps weigh: alike, 'token', or those of each solution
      together, 'sequence'; 'constant' is by the limit of tokens.
  """
  [reader] = get_models(models, role)
  [solver] = get_models(models, 'solver') if num_solutions else [None]
  solve = solving.bind(solver, num_solutions, grade=grade)
  complete = completions_lib.bind(models, completions, grade)
  label = step_labels.bind(first_error, {})
  _check_labels(num_solutions, first_error, complete)
  num_rows = batch_size * max(1, num_solutions)
  to_rows, pack = batching.make_rows(
    reader, num_rows=num_rows, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches,
  )  # fmt: skip
  to_step_rows = step_rows.make_step_rows(to_rows, reader, aggregate)

  def collect(roles, examples, key):
    keys = jax.random.split(key, 2)

    # 1. Solve, or take the given solutions.
    solutions = label(solve(roles, examples, keys[0]))

    # 2. Targets.
    completed = []
    if complete:
      solutions, completed = complete(solutions, roles, keys[1])
    else:
      solutions = [_targeted(solution) for solution in solutions]
    ends = [
      completions_lib.step_ends(s) if s.parsed.get('targets') else []
      for s in solutions
    ]
    readable = batching.reread_own(solutions, reader)
    batch = pack(to_step_rows(readable, ends))
    return batch, [*solutions, *completed]

  sampled = [Sampled('solve', 'solver', batch_size, num_solutions)]
  return Recipe(
    collect,
    step_scores.make_step_loss(models, role, objective=objective),
    trained=(role,),
    num_rows=num_rows,
    sampled=(
      *(sampled if num_solutions else ()),
      *completions_lib.sampled(num_rows, completions),
    ),
    metrics=frozenset(
      [
        *step_scores.METRICS,
        *stage_metrics.names('solve', is_graded=True, has_targets=True),
        *completions_lib.metric_names(completions),
      ]
    ),
    corrects_staleness=True,  # a label holds whoever wrote the solution
    takes_solutions=not num_solutions,
  )


def _check_labels(num_solutions, first_error, complete) -> None:
  """Raises ValueError if nobody labels steps; a file may."""
  if num_solutions and not (complete or first_error['module']):
    raise ValueError(
      'completions.num: got 0 without labels of steps; expected who knows them;'
      ' set first_error.module and first_error.name, or completions.num'
    )


def _targeted(solution):
  """Returns a solution with targets by its first wrong step, if that is known.

  A refused solution has none, nor has one of which a grader timed out.
  """
  first_error = solution.parsed.get('first_error')
  if first_error is None or solution.undetermined:
    return solution
  num_steps = len(completions_lib.step_ends(solution))
  targets = step_values.from_first_error(first_error, num_steps)
  parsed = {**solution.parsed, 'targets': targets}
  return dataclasses.replace(solution, parsed=parsed)
