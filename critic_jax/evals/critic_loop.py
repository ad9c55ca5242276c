"""Measures the critic loop: first collects records, then computes metrics.

One collector samples the records that all protocols measure. A protocol is a
module with two pure functions, `metrics(records)` and `compare(before, after)`;
both return {} for records to which the protocol does not apply.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax

from critic_jax.evals import (
  calibration,
  control_metrics,
  critique_metrics,
  description,
  processbench,
  ranking,
  refinement_metrics,
  selection,
)
from critic_jax.evals.statistics import Estimate
from critic_jax.rewards.refinement import admits
from critic_jax.rollouts import controls as controls_lib
from critic_jax.rollouts import rollout
from critic_jax.sampling.lm import LM
from critic_jax.types import Key, Problem, Record, Roles

PROTOCOLS = {
  'critique': critique_metrics,
  'calibration': calibration,
  'description': description,
  'refinement': refinement_metrics,
  'controls': control_metrics,
  'processbench': processbench,
  'selection': selection,
  'ranking': ranking,
}


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
  first_error: Callable[[Problem, str], int] | None = None,
  describe: Callable[[Record], Mapping[str, bool]] | None = None,
) -> list[Record]:
  """Solves, critiques each solution k times, and refines n times.

  The same key gives the same solutions with any critic, so critics are compared
  on the same solutions.

  Args:
    models: 'critic' and, to solve or to refine, 'solver'.
    roles: the parameters of each model.
    examples: problems to solve, or solutions to critique.
    key: consumed.
    num_solutions: solutions per problem; 1 if solutions are given.
    num_critiques: critiques per solution, k; 0 for none.
    num_refinements: refinements, n, per critique that `refine` admits; 0 for
      none.
    refine: a gate of rewards/refinement.py, e.g. 'called_wrong' or 'always'.
    controls: whether to refine with the controls of rollouts/controls.py, too.
    grade: grades final answers.
    first_error: (problem, solution) -> 0-based index of the first wrong step,
      -1 if no step is wrong; None if that is unknown.
    describe: critique -> which claims it makes, by name; None to skip this.

  Returns:
    The solutions, their critiques, the refinements, and those of the controls.
  """
  # A stage's key does not depend on the other stages' settings.
  keys = jax.random.split(key, 4)
  solver, critic = models.get('solver'), models['critic']
  solve = solver.bind(roles['solver']) if solver else None

  # Sample solutions, or take those that are given.
  if isinstance(examples[0], Record):
    solutions = _graded(examples, grade)
  else:
    solutions = rollout.run_graded(
      solver.stages.solve, solve, examples, keys[0], grade, n=num_solutions
    )
  if first_error:
    solutions = [
      _parsed(s, first_error=first_error(s.problem, s.text)) for s in solutions
    ]

  # Sample critiques.
  critiques = rollout.run(
    critic.stages.critique,
    critic.bind(roles['critic']),
    solutions if num_critiques else [],
    keys[1],
    n=num_critiques,
  )
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
    for refinements in rollout.run_graded_together(requests, solve, grade):
      records += refinements
  return records


def _graded(solutions: Sequence[Record], grade) -> list[Record]:
  """Grades the given solutions whose file leaves that to us."""
  is_open = [solution.parsed.get('grade') == 'open' for solution in solutions]
  ungraded = [s for s, o in zip(solutions, is_open, strict=True) if o]
  graded = iter(rollout.grade(ungraded, grade) if ungraded else ())
  return [
    next(graded) if o else s for s, o in zip(solutions, is_open, strict=True)
  ]


def _parsed(record: Record, **fields) -> Record:
  """Returns the record with more parsed fields."""
  return dataclasses.replace(record, parsed={**record.parsed, **fields})


def metrics(
  records: Sequence[Record], *, refined: bool = True
) -> dict[str, Estimate]:
  """Returns all protocols' metrics, named by `TITLES` or 'protocol/metric'.

  Args:
    records: the records of `collect`.
    refined: whether refinements were asked for; if not, their metrics are left
      out.
  """
  return _titled(
    {
      name: module.metrics(records)
      for name, module in _protocols(refined).items()
    }
  )


def compare(
  before: Sequence[Record], after: Sequence[Record], *, refined: bool = True
) -> dict[str, Estimate]:
  """Returns all protocols' paired differences, named as in `metrics`."""
  return _titled(
    {
      name: module.compare(before, after)
      for name, module in _protocols(refined).items()
    }
  )


def groups(
  records: Sequence[Record],
) -> dict[str, dict[str, Mapping[str, Estimate]]]:
  """Returns how well critiques judge, by generator, number of steps, lengths.

  Returns:
    The metrics of `critique_metrics` by key and group. A key is left out if all
    critiques are in the same group.
  """
  by_key = {
    key: critique_metrics.by(records, fn)
    for key, fn in critique_metrics.KEYS.items()
  }
  return {
    key: by_group for key, by_group in by_key.items() if len(by_group) > 1
  }


def _protocols(refined):
  omitted = () if refined else ('refinement', 'controls')
  return {name: m for name, m in PROTOCOLS.items() if name not in omitted}


def _titled(by_protocol: Mapping[str, Mapping[str, Estimate]]):
  """Returns one mapping of all protocols' estimates, `TITLES` first."""
  flat = {
    f'{protocol}/{name}': value
    for protocol, estimates in by_protocol.items()
    for name, value in estimates.items()
  }
  titled = {TITLES[name]: flat.pop(name) for name in TITLES if name in flat}
  return titled | flat


# The rows of a table and their titles. `headlines` adds the rows of selection.
TITLES = {
  'critique/accuracy_right': 'verdict accuracy, right solutions',
  'critique/accuracy_wrong': 'verdict accuracy, wrong solutions',
  'critique/balanced_accuracy': 'balanced verdict accuracy',
  'critique/f1': 'verdict F1 on wrong solutions',
  'calibration/vote_balanced_accuracy': 'balanced accuracy of the vote',
  'calibration/calibration_error': 'calibration error of the vote',
  'refinement/refinement_accuracy_wrong': 'refined right, wrong solutions',
  'description/computes': 'critiques that compute',
  'description/names_step_wrong': 'critiques that name a step, if wrong',
  'description/gives_result_wrong': 'critiques that correct a step, if wrong',
  'controls/lift_over_empty': 'lift over no critique',
  'controls/lift_over_swapped': "lift over another's critique",
  'controls/lift_over_masked': 'lift over the masked critique',
  'refinement/answer_leak': 'critiques that name the answer',
  'refinement/accuracy_before': 'accuracy before',
  'refinement/accuracy_after': 'accuracy after critique and refine',
  'processbench/accuracy_erroneous': 'first wrong step found',
  'processbench/accuracy_correct': 'right solutions passed',
  'processbench/f1': 'ProcessBench F1',
  'processbench/vote_f1': 'ProcessBench F1 of the vote',
  'processbench/f1_uniform_step': 'F1 of guessing any step',
  'processbench/f1_modal_step': 'F1 of guessing the commonest step',
  'ranking/accuracy': 'right solution ranked first',
  'ranking/accuracy_ties_shared': 'the same, ties shared',
  'ranking/accuracy_chance': 'the same, by chance',
  'critique/missing': 'critiques without a verdict',
  'critique/length': 'critique length in tokens',
}


def headlines(estimates: Mapping[str, Estimate]) -> dict[str, Estimate]:
  """Returns the metrics for a table: `TITLES`, and selection at its largest k.

  Args:
    estimates: the estimates of `metrics`.
  """
  rows = {t: estimates[t] for t in TITLES.values() if t in estimates}
  curves = selection.curves_of(estimates)
  max_k = max((k for curve in curves.values() for k in curve), default=0)
  return rows | {
    f'{method}@{max_k}': curve[max_k]
    for method, curve in curves.items()
    if max_k in curve
  }
