"""The evaluations of a run: sections of a config, checked, measured, shown.

Training runs them after the phases they name, `critic_jax.evaluate` runs all of
them. Records are written part by part, and metrics are computed from what was
written: an evaluation that was stopped goes on with the part where it was.

    eval/<name>/<stem>.jsonl.gz   the records of an evaluation
    partial/<name>/<stem>/        its parts, while it is under way
    results/<name>.json           its metrics by stem, and those of groups
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from critic_jax import files, lookup
from critic_jax.evals import critic_loop, protocols, selection
from critic_jax.evals.statistics import Estimate
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.report import eval_plots, result_tables
from critic_jax.rewards import refinement
from critic_jax.rollouts import rollout, stage_metrics
from critic_jax.runtime import distributed
from critic_jax.sampling import executed_checks
from critic_jax.sampling.lm import LM, get_models
from critic_jax.terminal import Console
from critic_jax.training import data_sections, solution_scores
from critic_jax.types import Key, Problem, Record, Roles
from critic_jax.workdir import progress, run_dir

# In the place of a phase's name: before the first, as the roles were loaded.
START = 'start'


class Evaluation(NamedTuple):
  """An evaluation, checked and ready.

  Attributes:
    name: the name of its section in the config.
    config: the section.
    examples: problems to solve, or given solutions.
    lms: by role, with the section's sampling parameters.
    first_error: (problem, solution) -> index of its first wrong step, or None.
    describe: critique -> what it does, or None.
    make_score: roles -> what scores solutions, or None.
  """

  name: str
  config: Any
  examples: Sequence[Problem | Record]
  lms: Mapping[str, LM]
  first_error: Callable[[Problem, str], int] | None
  describe: Callable[[Record], Mapping[str, bool]] | None
  make_score: Callable[[Roles], Callable | None]


def make_evaluations(config, lms, splits=None) -> list[Evaluation]:
  """Makes the evaluations of a config, and checks all their settings.

  Args:
    config: has `evals`, `data`, and `order` if there are phases.
    lms: by role.
    splits: the config's own data, if it was already read.

  Raises:
    ValueError: a setting, a name or a file is wrong.
  """
  data_sections.check_splits(config)
  evaluations = []
  splits_of = [] if splits is None else [(config.data, splits)]
  for name, section in config.evals.items():
    with _naming(name):
      parts = _check_evaluation(section, config, lms)
      examples = _examples(name, section, config, splits_of)
      _check_models(section, examples, lms)
      data_sections.check_refinable(section.num_refinements, examples)
    evaluations.append(Evaluation(name, section, examples, *parts))
  return evaluations


def examples(evaluations: Sequence[Evaluation]) -> dict[str, Sequence]:
  """Returns the examples of evaluations, by the setting that names them."""
  return {f'evals.{e.name}': e.examples for e in evaluations}


def check_evaluations(config, lms) -> None:
  """Checks the evaluations of a config without reading their data.

  Args:
    config: the config of a run or of an evaluation.
    lms: by role.

  Raises:
    ValueError: a setting or a name is wrong.
  """
  for name, section in config.evals.items():
    with _naming(name):
      _check_evaluation(section, config, lms)
      if config.get('order') and not section.after:
        raise ValueError(
          f'after: got (); expected phases that it follows, or {START!r}'
        )
  data_sections.check_splits(config)
  if START in config.get('order', ()):
    raise ValueError(f'order: got {START!r}; expected no such phase; rename it')


@contextlib.contextmanager
def _naming(name):
  """Within the block an error is of the evaluation `name`."""
  run_dir.check_name('evals', name)
  with lookup.naming(f'evals.{name}'):
    yield


def check_section(
  *,
  after: Sequence[str],
  data: Mapping[str, Any],
  split: str,
  num_examples: int,
  batch_size: int,
  sampling: Mapping[str, Mapping],
  num_solutions: int,
  num_critiques: int,
  num_refinements: int,
  refine: str,
  controls: bool,
  first_error: Mapping[str, Any],
  describe: Mapping[str, Any],
  reward_model: Mapping[str, Any] | None = None,
  num_rounds: int = 1,  # a run of before has none
  step_scores: Mapping[str, Any] | None = None,  # nor these
  checks: Mapping[str, Any] | None = None,
) -> None:
  """Checks the settings of an evaluation; its parameters are their names.

  Args:
    after: the phases after which it is made; START is before the first.
    data: {} for the run's own; else a name and keywords of data/sources.py.
    split: the split of the data.
    num_examples: the first of the split; 0 is all.
    batch_size: examples whose records are saved at once.
    sampling: by role, other sampling parameters, or max_new_tokens.
    num_solutions: solutions of each problem.
    num_critiques: critiques of each solution.
    num_refinements: with each critique that the gate `refine` admits.
    refine: a gate of rewards/refinement.py.
    controls: whether these critiques are also refined with controls.
    first_error: a `module` of critic_jax.tasks, a name and keywords.
    describe: a `module` of critic_jax.tasks, a name and keywords.
    reward_model: `roles` that score solutions, () for none, and a name and
      keywords of objectives/ensembles.py.
    num_rounds: rounds of critique and refine.
    step_scores: the `role` that scores steps, '' for none, and `aggregate`, a
      function of rewards/step_aggregates.py.
    checks: who executes those of critiques; see sampling/executed_checks.py.

  Raises:
    ValueError: a value is out of its range.
  """
  del after, data, split, sampling, controls, first_error, describe
  del step_scores, reward_model, checks
  with lookup.naming('refine'):
    refinement.check_gate(refine)
  lookup.check_counts(
    num_solutions=num_solutions, batch_size=batch_size, num_rounds=num_rounds
  )
  lookup.check_counts(
    0,
    num_examples=num_examples,
    num_critiques=num_critiques,
    num_refinements=num_refinements,
  )
  if num_rounds > 1 and not num_refinements * num_critiques:
    raise ValueError(
      f'num_rounds: got {num_rounds} with num_critiques={num_critiques} and '
      f'num_refinements={num_refinements}; expected 1, or some of both'
    )


def _check_evaluation(section, config, lms):
  """Returns a section's LMs, and the functions that it names."""
  lookup.check_settings(check_section, section, 'an evaluation')
  check_section(**section)
  for phase in section.after:
    lookup.check_name('after', phase, [START, *config.get('order', ())])
  if section.data:
    data_sections.check_section(section.data)
  resampled = dict(lms)
  for role, settings in section.sampling.items():
    lookup.check_name('sampling', role, lms)
    resampled[role] = _resampled(lms[role], **settings)
  first_error = _named(section.first_error, 'first_error', 'problem', 'text')
  describe = _named(section.describe, 'describe', 'critique')
  make_score = solution_scores.bind(section, resampled)
  resampled = executed_checks.with_checks(resampled, section.get('checks'))
  return resampled, first_error, describe, make_score


def _resampled(lm: LM, *, max_new_tokens: int | None = None, **sampling) -> LM:
  """Returns the LM with some settings of its sampling replaced.

  Raises:
    ValueError: a value is out of its range, or there is no such setting.
  """
  for name in sampling:
    lookup.check_name(
      'setting', name, [*SamplingParams._fields, 'max_new_tokens']
    )
  if max_new_tokens is None:
    max_new_tokens = lm.max_new_tokens
  lookup.check_counts(max_new_tokens=max_new_tokens)
  sampling_params = lm.sampling_params._replace(**sampling).check()
  return dataclasses.replace(
    lm, sampling_params=sampling_params, max_new_tokens=max_new_tokens
  )


def _check_models(section, examples, lms) -> None:
  """Raises ValueError if a role has no model that is to be sampled."""
  roles = {'critic'} if section.num_critiques else set()
  if section.num_refinements or isinstance(examples[0], Problem):
    roles.add('solver')
  get_models(lms, *roles)


def _examples(name, section, config, splits_of) -> list[Problem | Record]:
  """Returns the first examples of the split that a section names.

  Args:
    name: the evaluation's.
    section: its section.
    config: the config.
    splits_of: pairs of a section of data and its splits, which are read once;
      more are added.
  """
  data = section.data or config.data
  splits = next((splits for other, splits in splits_of if other == data), None)
  if splits is None:
    splits = data_sections.read(data, name if section.data else '')
    splits_of.append((data, splits))
  lookup.check_name('split', section.split, splits)
  examples = splits[section.split]
  number = min(section.num_examples or len(examples), len(examples))
  if not number:
    raise ValueError(f'data: got no examples in {section.split!r}')
  return [examples[i] for i in range(number)]


def _named(settings, setting, *parameters) -> Callable | None:
  """Returns the function of critic_jax.tasks that a setting may name."""
  with lookup.naming(setting):
    lookup.check_has('name', settings, 'function of critic_jax.tasks')
  return lookup.bind_task(settings, setting, parameters)


def noise(seed: int) -> Key:
  """Returns the key of all evaluations of a run: phases share one noise."""
  return jax.random.fold_in(jax.random.key(seed), 2**31)


def measure(
  evaluation: Evaluation,
  roles: Roles,
  folder: Path,
  stem: str,
  key: Key,
  grade: rollout.Grade,
  console: Console,
) -> None:
  """Writes `<folder>/eval/<name>/<stem>.jsonl.gz`, if it is not there.

  Args:
    evaluation: what to measure.
    roles: parameters by role.
    folder: the run's folder.
    stem: the file's, such as the phase after which the roles are measured.
    key: the key of all noise; finished parts of an evaluation are kept.
    grade: final answers to grades.
    console: where progress is shown.
  """
  section = evaluation.config
  target = records_path(folder, evaluation.name, stem)
  if distributed.agreed('measured', target.exists()):
    return
  parts = folder / 'partial' / evaluation.name / stem
  size = section.batch_size
  starts = range(0, len(evaluation.examples), size)
  files = [parts / f'{start:06d}.jsonl.gz' for start in starts]
  is_done = distributed.agreed('parts', [file.exists() for file in files])
  title = f'{evaluation.name} {stem}'.strip()
  with progress.phase(console, title, len(files), sum(is_done)) as advance:
    for start, file, exists in zip(starts, files, is_done, strict=True):
      if exists:
        continue
      records = critic_loop.collect(
        evaluation.lms,
        roles,
        evaluation.examples[start : start + size],
        key,
        num_solutions=section.num_solutions,
        num_critiques=section.num_critiques,
        num_refinements=section.num_refinements,
        refine=section.refine,
        controls=section.controls,
        grade=grade,
        num_rounds=section.get('num_rounds', 1),
        first_error=evaluation.first_error,
        describe=evaluation.describe,
        score=evaluation.make_score(roles),
      )
      if distributed.is_first():
        run_dir.write_records(file, records)
      advance(stage_metrics.summary(records))
  if not distributed.is_first():
    return
  records = [r for file in files for r in run_dir.read_records(file)]
  run_dir.write_records(target, records)
  shutil.rmtree(folder / 'partial')


def records_path(folder: Path, name: str, stem: str) -> Path:
  """Returns the path of an evaluation's records."""
  return folder / 'eval' / name / f'{stem}.jsonl.gz'


def show_results(
  folder: run_dir.RunDir,
  evaluation: Evaluation,
  stems: Sequence[str],
  console: Console,
) -> None:
  """Metrics from the saved records: results/<name>.json, and a table."""
  name = evaluation.name
  records = {
    stem: run_dir.read_records(records_path(folder.path, name, stem))
    for stem in stems
  }
  refined = bool(evaluation.config.num_refinements)
  columns = {
    stem: protocols.metrics(trees, refined=refined)
    for stem, trees in records.items()
  }
  if len(stems) == 2:
    columns['difference'] = protocols.compare(
      *records.values(), refined=refined
    )
  groups = {stem: protocols.groups(trees) for stem, trees in records.items()}
  folder.write_results(
    f'results/{name}', {'columns': columns, 'groups': groups}
  )
  for stem in stems:
    if curves := selection.curves_of(columns[stem]):
      file = f'plots/selection-{name}-{stem}.png'
      eval_plots.selection_curves(curves, files.inside(folder.path, file))
  shown = {
    column: protocols.headlines(rows) for column, rows in columns.items()
  }
  folder.log_results(name, {stem: shown[stem] for stem in stems})
  num = len(evaluation.examples)
  console.print(result_tables.results_table(shown, f'{name}: {num} examples'))
  for stem, keys in groups.items():
    if by := keys.get('generator'):
      title = f'{name} {stem}: by generator of the solution'
      console.print(result_tables.results_table(_verdicts(by), title))
  for stem, trees in records.items():
    _tell_refused(f'{name} {stem}', trees, console)


def _tell_refused(title: str, records: Sequence[Record], console) -> None:
  """Says how many records of an evaluation were not sampled, by stage."""
  total = collections.Counter(record.stage for record in records)
  refused = collections.Counter(r.stage for r in records if r.refused)
  for stage, number in sorted(refused.items()):
    console.print(
      f'warning: {title}: {number} of {total[stage]} records of {stage!r} were '
      'refused and have no text: their prompts are longer than lengths allow'
    )


def _verdicts(metrics) -> dict[str, dict[str, Estimate]]:
  """Makes a row for each group, a column for each of three accuracies."""
  columns = {
    'right solutions': 'accuracy_right',
    'wrong solutions': 'accuracy_wrong',
    'balanced': 'balanced_accuracy',
  }
  return {
    title: {group: values[metric] for group, values in metrics.items()}
    for title, metric in columns.items()
  }
