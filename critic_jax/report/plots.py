"""Draws a run's metrics as PNG, for light and dark pages."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from critic_jax import files
from critic_jax.report import figures, panels
from critic_jax.report.panels import Columns

LOGARITHMIC = ('time',)  # compiling takes seconds, and a step milliseconds
MAX_AXES = 24  # of a panel whose metrics have axes of their own
MAX_CURVES, MAX_PHASES = 24, 8  # of a panel


def write(columns: Columns, folder: Path) -> list[dict[str, str]]:
  """Draws every panel that has metrics; writes the light ones to plots/.

  Args:
    columns: the metrics of the run.
    folder: its folder.

  Returns:
    A dict for each panel: 'title'; 'alt', the last value of each curve; 'wide',
    whether it needs the page's full width; the images 'light' and 'dark' in
    base64.
  """
  by_file = _draw_panels(columns)
  for file, panel in by_file.items():
    path = files.inside(folder, f'plots/{file}.png')
    files.replace(path, base64.b64decode(panel['light']))
  return list(by_file.values())


def draw(
  columns: Columns, files: Sequence[str] | None = None
) -> list[dict[str, str]]:
  """Returns the panels of `write`, without writing files.

  Args:
    columns: the metrics of a run.
    files: the names of `PANELS` to draw; None for all that have metrics.
  """
  return list(_draw_panels(columns, files).values())


def compare(
  runs: Mapping[str, Columns], files: Sequence[str] | None = None
) -> list[dict[str, str]]:
  """Draws every panel with axes for each metric and a curve for each run.

  Args:
    runs: the metrics of each run, by its name.
    files: the names of `PANELS` to draw; None for all that have metrics.

  Returns:
    Panels as those of `write`; no file is written.
  """
  figures_of_panels = []
  for file, title, places, _ in panels.find(list(runs.values())):
    if files is None or file in files:
      names = list(places)[:MAX_AXES]
      is_log = file in LOGARITHMIC
      figure = _draw_runs(runs, names, is_log=is_log)
      alt = 'a curve for each run of ' + ', '.join(names)
      figures_of_panels.append(figures.panel(figure, title, alt, wide=True))
  return figures_of_panels


def _draw_panels(columns, files=None) -> dict[str, dict[str, str]]:
  """Returns the panels by file; all, or those of `files`."""
  by_file = {}
  for file, title, places, apart in panels.find([columns]):
    if files is None or file in files:
      names, phases = list(places), _phases(columns, list(places))
      if apart:
        figure = _draw_apart(columns, names[:MAX_AXES])
      else:
        is_log = file in LOGARITHMIC
        figure = _draw(columns, places, is_log)
      more = {'phases': len(phases) - MAX_PHASES}
      more['curves'] = len(names) - (MAX_AXES if apart else MAX_CURVES)
      title += ''.join(
        f' ({number} more {kind} are not drawn)'
        for kind, number in more.items()
        if number > 0
      )
      ends = ', '.join(
        f'{n} ends at {_curve(columns, n)[1][-1]:.3g}' for n in names
      )
      by_file[file] = figures.panel(figure, title, ends, wide=apart)
  return by_file


def _curve(
  columns: Columns, name: str, phase: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the steps and values of a metric where it can be drawn."""
  mask = panels.is_drawn(columns[name])
  if phase is not None:
    mask &= columns['phase'] == phase
  return columns['step'][mask], columns[name][mask]


def _widths(runs: Sequence[Columns], phases: Sequence[str]) -> np.ndarray:
  """Returns the shares of a row that phases have, float[phases].

  A phase that follows a policy gradient is what is looked at, and has the most.
  """
  widths = np.ones(len(phases))
  for columns in runs:
    for name in columns:
      if name.startswith('policy/'):
        logged = columns['phase'][panels.is_drawn(columns[name])]
        widths[np.isin(phases, logged)] = 2.5
  return widths / widths.sum()


def _draw(columns: Columns, places: Mapping[str, int], is_log: bool) -> Figure:
  """Draws all curves over each other, with a row of axes for the phases.

  Of curves that lie on each other the one below is wider.
  """
  names = list(places)[:MAX_CURVES]
  phases = _phases(columns, names)[:MAX_PHASES]
  figure = Figure(figsize=(5.4, 2.9), layout='constrained')
  figure.get_layout_engine().set(w_pad=0.04, wspace=0.0)
  widths = _widths([columns], phases)
  row = figure.subplots(
    1, len(phases), sharey=True, squeeze=False, width_ratios=widths
  )[0]
  sizes = np.linspace(2.6, 1.2, len(names)) if len(names) > 1 else [1.5]
  marks = [
    dict(
      color=figures.color(places[name]),
      linestyle=figures.dashes(places[name]),
      linewidth=size,
    )
    for name, size in zip(names, sizes, strict=True)
  ]
  for axes, phase in zip(row, phases, strict=True):
    figures.style(figure, axes)
    for name, mark in zip(names, marks, strict=True):
      _line(axes, *_curve(columns, name, phase), **mark)
  if len(spans(columns)) > 1:
    _name_phases(row, phases)
  _fit_row(row, 7 * widths)
  values = [_curve(columns, name)[1] for name in names]
  _scale(row[0], np.concatenate(values), is_log)
  lines, labels = [Line2D([], [], **mark) for mark in marks], _labels(names)
  figures.add_legend(figure, lines, labels, ncols=2, fontsize=7.5)
  return figure


def _name_phases(row: Sequence[Any], phases: Sequence[str]) -> None:
  """Writes the names of phases above a row of axes, in turn on two levels.

  Where they are many the last one ends with its axes, and so in the figure.
  """
  are_many = len(phases) > 3
  for number, (axes, phase) in enumerate(zip(row, phases, strict=True)):
    pad = 4 + 9 * (number % 2 if are_many else 0)
    loc = 'right' if are_many and axes is row[-1] else 'left'
    axes.set_title(
      figures.literal(phase), fontsize=7, loc=loc, color=figures.FAINT, pad=pad
    )


def _fit_row(row: Sequence[Any], nums_ticks: Sequence[float]) -> None:
  """Gives each axes of a row with curves about so many ticks.

  Those with room for less than two have that of their first step.
  """
  for axes, num_ticks in zip(row, nums_ticks, strict=True):
    first = [x for line in axes.lines for x in line.get_xdata()[:1]]
    if first and num_ticks >= 1.5:
      _fit(axes, round(num_ticks))
    elif first:
      axes.set_xticks(first[:1], [f'{first[0]:g}'], ha='left')


def _phases(columns: Columns, names: Sequence[str]) -> list[str]:
  """Returns the phases that have one of these metrics."""
  mask = np.any([panels.is_drawn(columns[name]) for name in names], axis=0)
  return list(dict.fromkeys(columns['phase'][mask].tolist()))


def _fit(axes: Any, num_ticks: int = 6) -> None:
  """Gives steps ticks at whole numbers."""
  locator = MaxNLocator(num_ticks, steps=[1, 2, 5, 10], integer=True)
  axes.xaxis.set_major_locator(locator)


def _scale(axes: Any, values: np.ndarray, is_log: bool = False) -> None:
  """Scales an axis; that of a constant ends at 1, or at twice its value."""
  low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
  if is_log and high > 0:
    axes.set_yscale('log', nonpositive='clip')
    axes.yaxis.set_major_formatter('{x:g}')
    axes.minorticks_off()
  elif low == high:
    axes.set_ylim(*sorted((0.0, 2 * low)) if low else (-0.04, 1.04))


def _labels(names: Sequence[str]) -> list[str]:
  """Returns names for a legend, without what all of them share.

  >>> _labels(['time/solve_s', 'time/grade_s'])
  ['solve', 'grade']
  >>> _labels(['solve/correct', 'refine/correct'])
  ['solve', 'refine']
  """
  start = os.path.commonprefix(names).rfind('/') + 1
  common = os.path.commonprefix([name[:start:-1] for name in names])[::-1]
  boundary = re.search('[/_]', common)
  end = len(common) - boundary.start() if boundary else 0
  if len(names) == 1:
    start = end = 0
  return [_label(name[start : len(name) - end]) for name in names]


def _draw_apart(columns: Columns, names: Sequence[str]) -> Figure:
  """Draws a row of phases for each metric; each axes has its own scale."""
  phases = _phases(columns, names)[:MAX_PHASES]
  widths = _widths([columns], phases)
  figure = Figure(figsize=(11, 0.3 + 1.2 * len(names)), layout='constrained')
  grid = figure.subplots(
    len(names), len(phases), squeeze=False, width_ratios=widths
  )
  _name_phases(grid[0], phases)
  for row, name in zip(grid, names, strict=True):
    row[0].set_ylabel(
      _label(name).replace(' ', '\n', 1), rotation=0, ha='right', va='center',
      fontsize=8.5, color=figures.INK,
    )  # fmt: skip
    for axes, phase in zip(row, phases, strict=True):
      figures.style(figure, axes)
      steps, values = _curve(columns, name, phase)
      _line(axes, steps, values, color=figures.color(0))
      _scale(axes, values)
      if not len(values):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    _fit_row(row, 14 * widths)
  return figure


def _label(metric: str) -> str:
  """Returns a metric's name as a legend shows it."""
  return figures.literal(metric.replace('/', ' ').replace('_', ' '))


def _draw_runs(
  runs: Mapping[str, Columns],
  names: Sequence[str],
  is_log: bool = False,
) -> Figure:
  """Draws axes for each metric, with a curve for each run.

  Phases stand abreast, and steps are counted from the start of each: runs may
  have phases of other lengths.
  """
  wide = min(4, max(2, len(names)))
  rows = math.ceil(len(names) / wide)
  figure = Figure(figsize=(11, 2.3 * rows + 0.4), layout='constrained')
  figure.get_layout_engine().set(h_pad=0.09)  # titles keep off ticks above
  grid = figure.subplots(rows, wide, squeeze=False).ravel()
  for axes in grid[len(names) :]:
    axes.set_axis_off()
  for axes, name in zip(grid, names, strict=False):
    figures.style(figure, axes)
    axes.set_title(_label(name), fontsize=8.5, loc='left', color=figures.INK)
    _draw_metric(axes, list(runs.values()), name)
    values = [_curve(c, name)[1] for c in runs.values() if panels.has(c, name)]
    _scale(axes, np.concatenate(values or [[]]), is_log)
  lines = [
    Line2D([], [], color=figures.color(number), linewidth=1.5)
    for number in range(len(runs))
  ]
  names = [figures.literal(name) for name in runs]
  figures.add_legend(figure, lines, names, ncols=min(6, len(runs)))
  return figure


def _draw_metric(axes: Any, runs: Sequence[Columns], name: str) -> None:
  """Draws a metric of all runs, its phases abreast."""
  logged = [columns for columns in runs if panels.has(columns, name)]
  phases = dict.fromkeys(p for c in logged for p in _phases(c, [name]))
  phases = list(phases)[:MAX_PHASES]
  has_names = any(len(spans(columns)) > 1 for columns in logged)
  start, ticks = 0.0, {}
  widths = _widths(logged, phases)
  for place, (phase, width) in enumerate(zip(phases, widths, strict=True)):
    lasts = [
      high - low for c in logged for low, high in [spans(c).get(phase, (0, 0))]
    ]
    scale = 0.92 * width / max(1, *lasts)
    for number, columns in enumerate(runs):
      if panels.has(columns, name):
        steps, values = _curve(columns, name, phase)
        places = start + scale * (steps - spans(columns).get(phase, (0, 0))[0])
        _line(axes, places, values, color=figures.color(number))
    below = '\n' * (1 + place % 2)  # names of short phases stand apart
    ticks[start] = f'0{below}{figures.literal(phase)}' if has_names else '0'
    if width > 0.2:
      ticks[start + scale * max(lasts)] = str(max(lasts))
    start += width
  axes.set_xticks([*ticks], [*ticks.values()], ha='left')


def _line(axes, steps, values, **marks) -> None:
  """Draws a curve; a long one as its running mean over the raw values."""
  marks = {'linewidth': 1.5, **marks}
  width = len(values) // 25
  if width > 1:
    axes.plot(steps, values, color=marks['color'], alpha=0.22, linewidth=0.8)
    sums = np.cumsum(np.insert(values, 0, 0.0))
    counts = np.arange(1, len(values) + 1)
    begin = np.maximum(counts - width, 0)
    values = (sums[counts] - sums[begin]) / (counts - begin)
  marker = 'o' if len(values) < 3 else None
  axes.plot(steps, values, marker=marker, markersize=3.5, **marks)


def spans(columns: Columns) -> dict[str, tuple[int, int]]:
  """Returns the first and last step of each phase, in order of the start."""
  return {
    phase: (steps.min(), steps.max())
    for phase in dict.fromkeys(columns['phase'].tolist())
    for steps in [columns['step'][columns['phase'] == phase]]
  }
