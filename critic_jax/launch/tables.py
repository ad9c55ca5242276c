"""The results of an experiment's runs: tables and a figure.

They are written as <workdir>/<experiment>.md, .csv, .tex and .png.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from critic_jax import files
from critic_jax.inspection import reading
from critic_jax.launch import experiment as experiment_lib
from critic_jax.launch.experiment import Experiment
from critic_jax.report import summary, summary_plots
from critic_jax.terminal import Console

FORMATS = ('text', 'csv', 'latex')


def unfinished(experiment: Experiment, workdir: Path) -> list[str]:
  """Returns the names of an experiment's runs that are not done."""
  folders = [experiment_lib.folder(run, workdir) for run in experiment.runs]
  return [f.name for f in folders if reading.state(f) != 'done']


def show(
  experiment: Experiment,
  workdir: Path,
  console: Console,
  form: str = 'text',
  metrics: Sequence[str] = (),
) -> None:
  """Prints the tables of an experiment whose runs are done.

  Args:
    experiment: the experiment.
    workdir: the folder of its runs.
    console: prints them.
    form: one of `FORMATS`.
    metrics: other metrics than its TABLE has.

  Raises:
    ValueError: the runs have no such metric.
  """
  tables, runs = experiment.tables, _results(experiment, workdir)
  if metrics:
    tables = [t._replace(metrics=tuple(metrics)) for t in tables if t.metrics]
  if not tables:
    raise ValueError(
      f'{experiment.name}: got metrics {list(metrics)}; expected an experiment '
      'whose TABLE has metrics; leave --metrics away'
    )
  try:
    if form == 'text':
      _show_text(experiment, tables, runs, console)
    else:
      write = summary.csv_text if form == 'csv' else summary.latex
      console.out(write(tables, runs), end='', highlight=False)
  except ValueError as error:
    raise ValueError(f'{experiment.name}: {error}') from error


def write(experiment: Experiment, workdir: Path, console: Console) -> None:
  """Prints the tables of an experiment and writes its files."""
  show(experiment, workdir, console)
  tables, runs = experiment.tables, _results(experiment, workdir)

  # Write the same numbers in each format, beside the figure.
  path = workdir / f'{experiment.name}.md'
  image = path.with_suffix('.png')
  text = summary.markdown(tables, runs)
  page = f'# {experiment.question}\n\n{text}\n![Figure]({image.name})\n'
  files.replace(path, page.encode())
  csv_text, tex = summary.csv_text(tables, runs), summary.latex(tables, runs)
  files.replace(path.with_suffix('.csv'), csv_text.encode())
  files.replace(path.with_suffix('.tex'), tex.encode())
  summary_plots.write(tables, runs, image)
  console.print(f'{path}\n{image}', soft_wrap=True, highlight=False)


def _show_text(experiment, tables, runs, console) -> None:
  console.print(f'\n{experiment.question}', highlight=False)
  for table in tables:
    console.print(summary.terminal(table, runs))
  console.print(summary.caption(tables, runs), highlight=False)


def _results(experiment: Experiment, workdir: Path) -> summary.Runs:
  """Reads the results of an experiment's runs, by points of its grid."""
  results = []
  for run in experiment.runs:
    folder = experiment_lib.folder(run, workdir)
    results.append((run.point, reading.all_results(reading.load(folder))))
  return results
