"""What the recipes of critics share: stages that are graded, and their names.

Solutions are graded while the critic writes about them; the critiques that a
gate admits are refined, some of them also by the rules of controls.py.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from critic_jax import lookup
from critic_jax.execution import code
from critic_jax.rewards import refinement
from critic_jax.rollouts import comparisons, controls, rollout, stage_metrics
from critic_jax.rollouts import completions as completions_lib
from critic_jax.types import Generate, Key, Record, Roles, Sampled, Stage


class CriticStages(NamedTuple):
  """The stages after the solutions, with their models and settings.

  Attributes:
    critique: `(solutions, roles, keys) -> (solutions, critiques, completions)`;
      the solutions are graded, and labelled if completions label steps.
    compare: `(critiques, roles, key) -> (critiques, comparisons)`; without a
      judge the same critiques, and none.
    refine: `(critiques, roles, keys) -> (refinements, those of controls)`.
    sampled: what they and the solver sample, if every critique is refined.
  """

  critique: Callable
  compare: Callable
  refine: Callable
  sampled: tuple[Sampled, ...]


def bind(
  models: Mapping[str, Any],
  grade: rollout.Grade,
  *,
  batch_size: int,
  num_solutions: int,
  num_critiques: int,
  num_refinements: int,
  num_controls: int,
  gate: str,
  mask_answers: bool,
  each_test: bool,
  completions: Mapping,
  has_judge: bool,
) -> CriticStages:
  """Binds the stages of a critic's step to models and settings.

  Args:
    models: LMs of 'critic', of 'solver' to refine or to complete, and of
      'judge'.
    grade: final answers to grades.
    batch_size: examples a step.
    num_solutions: solutions of each; 0: the examples are solutions.
    num_critiques: critiques of each solution.
    num_refinements: refinements with each admitted critique; 0 for none.
    num_controls: as of `refine`, and so are the others.
    gate: which critiques are admitted.
    mask_answers: whether the solver is shown masked critiques.
    each_test: whether refined programs are graded by each test, too.
    completions: of prefixes of the solutions (`completions.bind`).
    has_judge: whether the judge compares critiques (comparisons.py).

  Raises:
    ValueError: a setting is wrong, or critiques are not several.
  """
  lookup.check_counts(2, num_critiques=num_critiques)  # a group to compare
  lookup.check_counts(
    0, num_solutions=num_solutions, num_refinements=num_refinements,
    num_controls=num_controls,
  )  # fmt: skip
  complete = completions_lib.bind(models, completions, grade)
  counts = batch_size, num_solutions, num_critiques, num_refinements
  max_prompts = batch_size * max(1, num_solutions) * num_critiques

  def criticise(solutions, roles, keys):
    critic = models['critic']
    stage, generate = critic.stages.critique, critic.bind(roles['critic'])
    graded, critiques = critique(
      stage, generate, solutions, keys[0], grade, n=num_critiques
    )
    if not complete:
      return graded, critiques, []
    labelled, completed = complete(graded, roles, keys[1])
    return labelled, rollout.reattach(critiques, graded, labelled), completed

  def compare(critiques, roles, key):
    if not has_judge:
      return critiques, []
    generate = models['judge'].bind(roles['judge'])
    return comparisons.compare(critiques, num_critiques, generate, key)

  def refine_admitted(critiques, roles, keys):
    solver = models['solver']
    return refine(
      solver.stages.refine, solver.bind(roles['solver']), critiques, keys,
      grade, gate=gate, n=num_refinements, num_controls=num_controls,
      mask_answers=mask_answers, each_test=each_test, max_prompts=max_prompts,
    )  # fmt: skip

  sampled = _sampled(*counts, int(has_judge), completions)
  return CriticStages(criticise, compare, refine_admitted, sampled)


def critique(
  stage: Stage,
  generate: Generate,
  solutions: Sequence[Record],
  key: Key,
  grade: rollout.Grade,
  *,
  n: int,
) -> tuple[list[Record], list[Record]]:
  """Samples n critiques of each solution; solutions are graded meanwhile.

  Args:
    stage: the prompt of each critique, and its parser.
    generate: the sampler of the critic.
    solutions: solve records.
    key: consumed.
    grade: final answers to grades.
    n: critiques of each solution.

  Returns:
    The graded solutions, and len(solutions) * n critiques of them.
  """
  with rollout.grading(solutions, grade) as graded:
    critiques = rollout.run(stage, generate, solutions, key, n=n)
  return graded.result(), rollout.reattach(
    critiques, solutions, graded.result()
  )


def refine(
  stage: Stage,
  generate: Generate,
  critiques: Sequence[Record],
  keys: tuple[Key, Key],
  grade: rollout.Grade,
  *,
  gate: str,
  n: int,
  num_controls: int,
  mask_answers: bool,
  each_test: bool,
  max_prompts: int,
) -> tuple[list[Record], list[Record]]:
  """Samples and grades n refinements with each critique that a gate admits.

  Args:
    stage: the prompt of each refinement, and its parser.
    generate: the sampler of the solver.
    critiques: critiques of graded solutions.
    keys: of the refinements and of the controls; consumed.
    grade: final answers to grades.
    gate: which critiques are admitted; see `refinement.admits`.
    n: refinements with each of them.
    num_controls: admitted critiques that are also refined with controls.
    mask_answers: whether the solver is shown masked critiques
      (`controls.masking`).
    each_test: whether refined programs are graded by each test alone, too
      (`write_shares`).
    max_prompts: critiques that may be admitted at another step.

  Returns:
    The refinements, and those of controls, which respond to critiques, too.
  """
  admitted = [c for c in critiques if refinement.admits(gate, c)]
  shown = controls.masking(stage) if mask_answers else stage
  refined = rollout.Request(shown, admitted, keys[0], n, max_prompts)
  compared = controls.requests(
    stage,
    controls.spread(admitted, num_controls),
    keys[1],
    max_prompts=min(max_prompts, num_controls),
  )
  # Together: the sampler then has more rows to decode at once.
  refinements, *controlled = rollout.run_graded_together(
    [refined, *compared], generate, grade
  )
  if each_test:
    refinements = write_shares(refinements, grade)
  return refinements, list(itertools.chain(*controlled))


def refine_by(
  refiners: Sequence[str],
  models: Mapping[str, Any],
  roles: Roles,
  critiques: Sequence[Record],
  key: Key,
  grade: rollout.Grade,
  *,
  gate: str,
  n: int,
  max_prompts: int,
) -> list[Record]:
  """Samples and grades n refinements by each of several roles.

  Args:
    refiners: roles; each refines with each admitted critique.
    models: LMs by role.
    roles: parameters by role.
    critiques: critiques of graded solutions.
    key: consumed.
    grade: final answers to grades.
    gate: which critiques are admitted; see `refinement.admits`.
    n: refinements by each role with each of them.
    max_prompts: critiques that may be admitted at another step.

  Returns:
    Refinements with `parsed['refiner']`, the role; siblings of several roles
    are numbered through, and not adjacent.
  """
  admitted = [c for c in critiques if refinement.admits(gate, c)]
  refinements = []
  keys = jax.random.split(key, len(refiners))
  for i, (role, own_key) in enumerate(zip(refiners, keys, strict=True)):
    lm = models[role]
    request = rollout.Request(
      lm.stages.refine, admitted, own_key, n, max_prompts
    )
    [its] = rollout.run_graded_together([request], lm.bind(roles[role]), grade)
    refinements += [
      dataclasses.replace(
        r, index=i * n + r.index, parsed={**r.parsed, 'refiner': role}
      )
      for r in its
    ]
  return refinements


def write_shares(
  programs: Sequence[Record], grade: rollout.Grade
) -> list[Record]:
  """Returns graded programs with the share of tests that each passes.

  A right program passes all, and one that was cut off none, as it is wrong. Of
  others each test is graded alone, so that an endless loop in one of them fails
  no other; a test that needs an earlier one's leavings fails, too.

  Args:
    programs: graded records of problems whose answers are unit tests.
    grade: programs and tests to grades.

  Returns:
    The records with `parsed['passed']`, in [0, 1]; None where it is not known,
    as nothing was sampled or the grader timed out.

  Raises:
    ValueError: a problem's answer is not unit tests.
  """
  pairs = {
    id(record): [
      (record.text, test) for test in code.single_tests(record.problem.answer)
    ]
    for record in programs
    if refinement.is_right(record) is False and not record.truncated
  }
  marks = iter(grade([*itertools.chain(*pairs.values())]))
  marks_of = {
    name: [*itertools.islice(marks, len(own))] for name, own in pairs.items()
  }
  return [
    dataclasses.replace(
      r, parsed={**r.parsed, 'passed': _share(r, marks_of.get(id(r)))}
    )
    for r in programs
  ]


def _share(program: Record, marks: Sequence[str] | None) -> float | None:
  """Returns the share of tests that a program passes, by those done alone."""
  if marks is None:
    right = refinement.is_right(program)
    return None if right is None else float(right)
  return None if 'timeout' in marks else marks.count('right') / len(marks)


def _sampled(
  num_examples: int,
  num_solutions: int,
  num_critiques: int,
  num_refinements: int,
  num_judges: int,
  completions: Mapping,
) -> tuple[Sampled, ...]:
  """Lists what a step samples if every critique is refined."""
  num_critiqued = num_examples * max(1, num_solutions)
  num_refined = num_critiqued * num_critiques
  stages = [
    Sampled('solve', 'solver', num_examples, num_solutions),
    Sampled('critique', 'critic', num_critiqued, num_critiques),
    Sampled('refine', 'solver', num_refined, num_refinements),
    # Each critique with the next one, in both orders.
    Sampled(comparisons.NAME, 'judge', 2 * num_refined, num_judges),
  ]
  # No other prompt holds completions, so they are named last.
  completed = completions_lib.sampled(num_critiqued, completions)
  return (*(stage for stage in stages if stage.num_samples), *completed)


def metric_names(
  rewards: Iterable[str], completions: Mapping, has_judge: bool
) -> list[str]:
  """Lists the metrics of a step's records (stage_metrics.py).

  Args:
    rewards: the rules that score critiques.
    completions: of prefixes of the solutions (completions.py).
    has_judge: whether a judge compares the critiques.
  """
  stages = (comparisons.NAME, comparisons.SWAPPED) if has_judge else ()
  compared = [stage_metrics.names(x, is_compared=True) for x in stages]
  return [
    *stage_metrics.names('solve', is_graded=True),
    *stage_metrics.names('critique', rewards=rewards, has_verdict=True),
    *stage_metrics.names('refine', is_graded=True, controls=controls.NAMES),
    *itertools.chain(*compared),
    *completions_lib.metric_names(completions),
  ]
