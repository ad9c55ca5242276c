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
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from critic_jax import files, lookup
from critic_jax.evals import critic_loop, protocols, selection
from critic_jax.evals.statistics import Estimate
from critic_jax.report import eval_plots, result_tables
from critic_jax.rollouts import rollout, stage_metrics
from critic_jax.runtime import distributed
from critic_jax.sampling.lm import get_models
from critic_jax.terminal import Console
from critic_jax.training import data_sections, eval_sections
from critic_jax.types import Key, Problem, Record, Roles
from critic_jax.workdir import progress, run_dir

START = eval_sections.START


class Evaluation(NamedTuple):
  """An evaluation, checked and ready.

  Attributes:
    name: the name of its section in the config.
    config: the section.
    examples: problems to solve, or given solutions.
    bound: what the section names.
  """

  name: str
  config: Any
  examples: Sequence[Problem | Record]
  bound: eval_sections.Bound


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
      bound = eval_sections.bind(section, config, lms)
      examples = _examples(name, section, config, splits_of)
      _check_models(section, examples, lms)
      data_sections.check_refinable(section.num_refinements, examples)
    evaluations.append(Evaluation(name, section, examples, bound))
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
      eval_sections.bind(section, config, lms)
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
    raise ValueError(
      f'data: got no examples in {section.split!r}; expected one; give more '
      f'data, a path or a larger share of {section.split!r}, or another split'
    )
  return [examples[i] for i in range(number)]


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
        evaluation.bound.lms,
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
        first_error=evaluation.bound.first_error,
        describe=evaluation.bound.describe,
        score=evaluation.bound.make_score(roles),
        advance=evaluation.bound.advance,
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
  title = f'{name}: {num} example{"s" * (num > 1)}'
  console.print(result_tables.results_table(shown, title))
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
