"""The critic loop as a measurement: records first, metrics from records.

One collector makes what every protocol measures; a protocol is a module with
`metrics(records)` and `compare(before, after)`, pure, and gives {} for records
that hold nothing of its kind.
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
  """Solve, critique k times, refine n times.

  The same key gives the same solutions whatever the critic, so that critics are
  compared on the same solutions.

  Args:
    models: LMs of 'critic' and, to solve or to refine, of 'solver'.
    roles: their parameters.
    examples: problems to solve, or solutions that somebody wrote.
    key: consumed.
    num_solutions: of each problem; 1 if solutions are given.
    num_critiques: k, of each solution; 0 for none.
    num_refinements: n, of each critique that `refine` admits; 0 for none.
    refine: a gate of rewards/refinement.py, e.g. 'called_wrong', 'always'.
    controls: whether those critiques get the refinements of controls.py too.
    grade: final answers to grades.
    first_error: (problem, solution) -> 0-based index of the first wrong step,
      -1 if none is; None where nobody knows.
    describe: critique -> what it does, by name; None for nothing.
  """
  keys = jax.random.split(key, 4)
  solver, critic = models.get('solver'), models['critic']
  solve = solver.bind(roles['solver']) if solver else None
  if isinstance(examples[0], Record):
    solutions = list(examples)
  else:
    solutions = rollout.run_graded(
      solver.stages.solve, solve, examples, keys[0], grade, n=num_solutions
    )
  if first_error:
    solutions = [
      _parsed(s, first_error=first_error(s.problem, s.text)) for s in solutions
    ]
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
  if num_refinements:
    stage = solver.stages.refine
    admitted = [c for c in critiques if admits(refine, c)]
    asks = [rollout.Ask(stage, admitted, keys[2], num_refinements)]
    if controls:
      asks += controls_lib.asks(stage, admitted, keys[3])
    for found in rollout.run_graded_together(asks, solve, grade):
      records += found
  return records


def _parsed(record: Record, **found) -> Record:
  return dataclasses.replace(record, parsed={**record.parsed, **found})


def metrics(
  records: Sequence[Record], *, refined: bool = True
) -> dict[str, Estimate]:
  """Every protocol's metrics, named by `TITLES` or 'protocol/metric'.

  Args:
    records: as `collect` makes them.
    refined: whether refinements were to be made; without, what is about them
      is left out.
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
  """Every protocol's paired differences, named as in `metrics`."""
  return _titled(
    {
      name: module.compare(before, after)
      for name, module in _protocols(refined).items()
    }
  )


def groups(
  records: Sequence[Record],
) -> dict[str, dict[str, Mapping[str, Estimate]]]:
  """How well critiques judge, by generator, number of steps and lengths.

  Returns:
    The metrics of evals/critique.py by key and group; without the keys by which
    all are of one group.
  """
  found = {
    key: critique_metrics.by(records, fn)
    for key, fn in critique_metrics.KEYS.items()
  }
  return {key: by for key, by in found.items() if len(by) > 1}


def _protocols(refined):
  about = () if refined else ('refinement', 'controls')
  return {name: m for name, m in PROTOCOLS.items() if name not in about}


def _titled(found: Mapping[str, Mapping[str, Estimate]]):
  """One mapping, those of `TITLES` first."""
  flat = {
    f'{protocol}/{name}': value
    for protocol, estimates in found.items()
    for name, value in estimates.items()
  }
  first = {TITLES[name]: flat.pop(name) for name in TITLES if name in flat}
  return first | flat


# What a table shows; names of selection have the k of the run after them.
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


def shown(found: Mapping[str, Estimate]) -> dict[str, Estimate]:
  """What a table shows of `metrics`: `TITLES`, and selection at its most."""
  titled = {title: found[title] for title in TITLES.values() if title in found}
  curves = selection.curves_of(found)
  most = max((k for curve in curves.values() for k in curve), default=0)
  return titled | {
    f'{method}@{most}': curve[most]
    for method, curve in curves.items()
    if most in curve
  }
