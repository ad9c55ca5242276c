"""The critic loop as a measurement: records first, metrics from records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax

from critic_jax import rollout
from critic_jax.evals import critique, localisation, refinement
from critic_jax.evals.statistics import Estimate
from critic_jax.lm import LM
from critic_jax.types import Key, Problem, Record, Roles

PROTOCOLS = {
  'critique': critique,
  'refinement': refinement,
  'localisation': localisation,
}


def collect(
  models: Mapping[str, LM],
  roles: Roles,
  problems: Sequence[Problem],
  key: Key,
  *,
  num_critiques: int,
  num_refinements: int,
  grade: rollout.Grade,
  first_error: Callable[[Problem, str], int] | None = None,
) -> list[Record]:
  """Solve once, critique k times, refine what is called wrong n times.

  The same key gives the same solutions whatever the critic, so that critics are
  compared on the same solutions.

  Args:
    models: LMs of 'solver' and 'critic'.
    roles: their parameters.
    problems: what to solve.
    key: consumed.
    num_critiques: k.
    num_refinements: n.
    grade: final answers to grades.
    first_error: (problem, solution) -> 0-based index of the first wrong step,
      -1 if none is; None where nobody knows.
  """
  solver, critic = models['solver'], models['critic']
  keys = jax.random.split(key, 3)
  solve = solver.bind(roles['solver'])
  solutions = rollout.run_graded(
    solver.stages.solve, solve, problems, keys[0], grade, n=1
  )
  if first_error:
    solutions = [_locate(s, first_error) for s in solutions]
  critiques = rollout.run(
    critic.stages.critique,
    critic.bind(roles['critic']),
    solutions,
    keys[1],
    n=num_critiques,
  )
  called_wrong = [c for c in critiques if critique.verdict(c) == 'incorrect']
  refinements = rollout.run_graded(
    solver.stages.refine,
    solve,
    called_wrong,
    keys[2],
    grade,
    n=num_refinements,
  )
  return solutions + critiques + refinements


def _locate(solution, first_error):
  found = first_error(solution.problem, solution.text)
  return dataclasses.replace(
    solution, parsed={**solution.parsed, 'first_error': found}
  )


def metrics(records: Sequence[Record]) -> dict[str, Estimate]:
  """Every protocol's metrics, named by `TITLES` or 'protocol/metric'."""
  return _titled(
    {name: module.metrics(records) for name, module in PROTOCOLS.items()}
  )


def compare(
  before: Sequence[Record], after: Sequence[Record]
) -> dict[str, Estimate]:
  """Every protocol's paired differences, named as in `metrics`."""
  return _titled(
    {name: module.compare(before, after) for name, module in PROTOCOLS.items()}
  )


def _titled(found: Mapping[str, Mapping[str, Estimate]]):
  """One mapping, those of `TITLES` first."""
  flat = {
    f'{protocol}/{name}': value
    for protocol, estimates in found.items()
    for name, value in estimates.items()
  }
  first = {TITLES[name]: flat.pop(name) for name in TITLES if name in flat}
  return first | flat


# The rows of the table that a run ends with.
TITLES = {
  'critique/accuracy_right': 'verdict accuracy, right solutions',
  'critique/accuracy_wrong': 'verdict accuracy, wrong solutions',
  'critique/balanced_accuracy': 'balanced verdict accuracy',
  'refinement/refinement_accuracy_wrong': 'refined right, wrong solutions',
  'refinement/accuracy_before': 'accuracy before',
  'refinement/accuracy_after': 'accuracy after critique and refine',
  'localisation/accuracy_erroneous': 'first wrong step found',
  'localisation/f1': 'localisation F1',
  'critique/length': 'critique length in tokens',
}
