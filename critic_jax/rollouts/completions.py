"""Completions of the prefixes of solutions: what each step is worth.

A solution's prefix is its first t steps, a record of the stage 'prefix' that
responds to the solution. The solver goes on with it, and the share of right
answers among its completions is the prefix's Monte-Carlo value
(https://arxiv.org/abs/2312.08935); rewards/step_values.py makes labels of them.

Steps are those that a file published, or the lines that are not blank, as the
first wrong step is counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from critic_jax import lookup
from critic_jax.rewards import refinement, step_values
from critic_jax.rollouts import rollout, stage_metrics
from critic_jax.types import Begun, Generate, Key, Record, Sampled, Stage

PREFIX, NAME = 'prefix', 'complete'


def step_ends(solution: Record) -> list[int]:
  r"""Returns where each step of a solution ends in its text.

  >>> from critic_jax.types import Problem
  >>> problem = Problem('p', '', '')
  >>> step_ends(Record(problem, 'solve', None, 0, (), (), (), 'a\n\n b\nc'))
  [1, 5, 7]
  """
  published = solution.parsed.get('steps')
  steps = published or [x for x in solution.text.split('\n') if x.strip()]
  ends, place = [], 0
  for step in steps:
    start = solution.text.find(step.strip(), place)
    if start < 0:
      raise ValueError(
        f'{solution.id}: got the step {step!r}, which its text does not have; '
        'expected its steps in order'
      )
    place = start + len(step.strip())
    ends.append(place)
  return ends


def prefixes(solution: Record) -> list[Record]:
  """Returns the prefixes of a solution of 0 steps, 1, ..., all but the last."""
  ends = step_ends(solution)
  stage = Stage(PREFIX, str, lambda text: {})
  return [
    rollout.write(stage, solution, solution.text[:end], t)
    for t, end in enumerate([0, *ends[:-1]] if ends else [])
  ]


def evaluate(
  solutions: Sequence[Record],
  solve: Stage,
  generate: Generate,
  key: Key,
  grade: rollout.Grade,
  *,
  n: int,
  max_steps: int,
) -> tuple[list[Record], list[Record]]:
  """Estimates the values of the prefixes of solutions.

  Args:
    solutions: graded solutions.
    solve: the stage in which the solver writes solutions.
    generate: the sampler of the solver.
    key: consumed.
    grade: final answers to grades.
    n: completions of each prefix.
    max_steps: the most steps of a solution; one with more gets no values.

  Returns:
    The solutions, with `parsed['values']`, a list of S + 1 shares, where their
    grade is known and at least one completion of each prefix has one; and the
    completions, whose parents are prefixes of these.
  """
  by_solution = [
    [] if refinement.is_right(s) is None or len(step_ends(s)) > max_steps
    else prefixes(s)
    for s in solutions
  ]  # fmt: skip
  request = rollout.Request(
    Stage(NAME, lambda prefix: ask(solve, prefix), solve.parse),
    [prefix for of_solution in by_solution for prefix in of_solution],
    key,
    n,
    max_prompts=len(solutions) * max_steps,
  )
  [completions] = rollout.run_graded_together([request], generate, grade)
  siblings = iter(completions[i : i + n] for i in range(0, len(completions), n))
  valued = []
  for solution, of_solution in zip(solutions, by_solution, strict=True):
    shares = [_share(next(siblings)) for _ in of_solution]
    if shares and None not in shares:
      shares.append(float(refinement.is_right(solution)))
      parsed = {**solution.parsed, 'values': shares}
      solution = dataclasses.replace(solution, parsed=parsed)
    valued.append(solution)
  return valued, _follow(completions, solutions, valued)


def ask(solve: Stage, prefix: Record) -> Begun:
  """Asks the solver for a solution that begins with a prefix."""
  return Begun(solve.prompt(prefix.problem), prefix.text)


def _share(completions: Sequence[Record]) -> float | None:
  """Returns the share of right ones, of those that could be graded."""
  rights = [refinement.is_right(c) for c in completions]
  rights = [right for right in rights if right is not None]
  return float(np.mean(rights)) if rights else None


def make_labels(
  grade: rollout.Grade, *, num: int, max_steps: int, labels: Mapping
) -> Callable:
  """Makes the function that labels the steps of solutions; checks settings.

  Args:
    grade: final answers to grades.
    num: completions of each prefix.
    max_steps: the most steps of a solution; one with more gets no labels.
    labels: a name and keywords of rewards/step_values.py.

  Returns:
    `(solutions, solve, generate, key) -> (solutions, completions)`, as
    `evaluate`. Each solution that is not refused has `parsed['targets']`, a
    number for each step, or None where it could not be labelled.
  """
  lookup.check_counts(num=num, max_steps=max_steps)
  rule = lookup.bind(step_values, labels, 'labels')
  with lookup.naming('labels'):  # its values are checked when it is called
    if np.shape(rule(np.ones(2))) != (1,):
      raise ValueError(
        f'name: got {labels["name"]!r}; expected a rule that gives a target '
        'for each step, such as hard or ratio'
      )

  def label(solutions, solve, generate, key):
    valued, completed = evaluate(
      solutions, solve, generate, key, grade, n=num, max_steps=max_steps
    )
    labelled = [_targeted(solution, rule) for solution in valued]
    return labelled, _follow(completed, valued, labelled)

  return label


def _targeted(solution, rule) -> Record:
  if solution.refused:
    return solution
  values = solution.parsed.get('values')
  targets = None if values is None else rule(np.array(values))
  targets = None if targets is None else targets.tolist()
  parsed = {**solution.parsed, 'targets': targets}
  return dataclasses.replace(solution, parsed=parsed)


def _follow(completed, old, new) -> list[Record]:
  """Puts completions and their prefixes under new solutions."""
  parents = list({id(c.parent): c.parent for c in completed}.values())
  return rollout.reattach(
    completed, parents, rollout.reattach(parents, old, new)
  )


def bind(
  models: Mapping, settings: Mapping, grade: rollout.Grade
) -> Callable | None:
  """Returns `make_labels` by the settings `completions`; None for num=0.

  Args:
    models: LMs by role; 'solver' completes.
    settings: `num`, `max_steps` and `labels`.
    grade: final answers to grades.

  Returns:
    `(solutions, roles, key) -> (solutions, completions)`.

  Raises:
    ValueError: a setting is wrong, or there is no solver, or a server samples
      it: it takes whole prompts.
  """
  with lookup.naming('completions'):
    lookup.check_settings(make_labels, settings, 'it')
    lookup.bind(step_values, settings['labels'], 'labels')  # also if unused
    if not settings['num']:
      return None
    lookup.check_name('model', 'solver', models)
    solver = models['solver']
    solver.tokenizer  # noqa: B018 - a served one has none, and says so
    label = make_labels(grade, **settings)

  def complete(solutions, roles, key):
    generate = solver.bind(roles['solver'])
    return label(solutions, solver.stages.solve, generate, key)

  return complete


def sampled(num_solutions: int, settings: Mapping) -> tuple[Sampled, ...]:
  """Lists what a step samples, if all solutions have `max_steps` steps."""
  num_prefixes = num_solutions * settings['max_steps']
  stage = Sampled(NAME, 'solver', num_prefixes, settings['num'])
  return (stage,) if settings['num'] else ()


def metric_names(settings: Mapping) -> list[str]:
  """Lists the metrics of completions and of labels by them, if there are any.

  See stage_metrics.py.
  """
  if not settings['num']:
    return []
  return [
    *stage_metrics.names(NAME, is_graded=True),
    *stage_metrics.names('solve', has_targets=True),
  ]
