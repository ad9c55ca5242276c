"""Draws a run's metrics as PNG, for light and dark pages."""

from __future__ import annotations

import base64
import functools
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
from critic_jax.report import figures

Columns = Mapping[str, np.ndarray]  # as returned by inspection.reading.metrics

# (file, title, pattern of metrics, whether each metric gets axes of its own). A
# metric belongs to the first panel whose pattern it matches, and what shares
# axes has one unit: the first part of its name says of what it is.
PANELS = (
  (
    'rewards',
    'Rewards',
    r'(solve|critique|refine)/(reward|judge|refine)$',
    False,
  ),
  ('answers', 'Answers that are right', r'\w+/correct$', False),
  (
    'judged',
    'True verdicts, on right and on wrong solutions',
    r'critique/judge_(right|wrong)$',
    False,
  ),
  ('calls', 'Solutions called wrong', r'\w+/called_wrong$', False),
  ('lifts', 'Refined right, more than by controls', r'refine/lift_over', False),
  (
    'failures',
    'Critiques without a usable verdict',
    r'critique/(missing|contradictory|unfinished|truncated)$',
    False,
  ),
  ('lengths', 'Length in tokens', r'\w+/length$', False),
  ('speed', 'Tokens a second', r'time/\w+_tokens_per_s$', False),
  ('time', 'Seconds', r'time/', False),
  ('machine', 'The machine', r'compile/|memory/|device/', True),
  ('loss', 'Loss', r'loss/', True),
  ('optimisation', 'Optimisation', r'policy/|grad_norm|learning_rate', True),
)
LOGARITHMIC = ('time',)  # compiling takes seconds, and a step milliseconds
MAX_AXES = 24  # in a panel whose metrics have axes of their own
MAX_CURVES, MAX_PHASES = 24, 8  # of another panel
MAX_VALUE = 1e100  # beyond it matplotlib's sums overflow


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
  panels = _draw_panels(columns)
  for file, panel in panels.items():
    path = files.inside(folder, f'plots/{file}.png')
    files.replace(path, base64.b64decode(panel['light']))
  return list(panels.values())


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
  panels = []
  for file, title, names, _ in _panels(list(runs.values())):
    if files is None or file in files:
      names = names[:MAX_AXES]
      is_log = file in LOGARITHMIC
      draw_one = functools.partial(_draw_runs, runs, names, is_log=is_log)
      alt = 'a curve for each run of ' + ', '.join(names)
      panels.append(figures.panel(draw_one, title, alt, wide=True))
  return panels


def _panels(
  runs: Sequence[Columns],
) -> list[tuple[str, str, list[str], bool]]:
  """Returns file, title, metrics and `apart` of each panel with a metric."""
  unassigned = dict.fromkeys(n for columns in runs for n in columns)
  unassigned = [n for n in unassigned if n not in ('step', 'phase', 'time')]
  panels = []
  for file, title, pattern, apart in PANELS:
    names = [n for n in unassigned if re.match(pattern, n)]
    unassigned = [n for n in unassigned if n not in names]
    names = [n for n in names if any(_has(c, n) for c in runs)]
    panels += [(file, title, names, apart)] if names else []
  return panels


def _has(columns: Columns, name: str) -> bool:
  return name in columns and bool(_is_drawn(columns[name]).any())


def _is_drawn(values: np.ndarray) -> np.ndarray:
  return np.abs(values) <= MAX_VALUE  # not so for NaN


def _draw_panels(columns, files=None) -> dict[str, dict[str, str]]:
  """Returns the panels by file; all, or those of `files`."""
  by_file = {}
  for file, title, names, apart in _panels([columns]):
    if files is None or file in files:
      is_log = file in LOGARITHMIC
      if apart:
        parts, limit = _parts(columns, names), MAX_AXES
        draw_one = functools.partial(_draw_apart, columns, parts[:limit])
      else:
        parts, limit = _phases(columns, names), MAX_PHASES
        draw_one = functools.partial(_draw, columns, names, is_log)
      if len(parts) > limit:
        kind = 'curves' if apart else 'phases'
        title += f' ({len(parts) - limit} more {kind} are not drawn)'
      ends = ', '.join(
        f'{n} ends at {_curve(columns, n)[1][-1]:.3g}' for n in names
      )
      by_file[file] = figures.panel(draw_one, title, ends, wide=apart)
  return by_file


def _curve(
  columns: Columns, name: str, phase: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the steps and values of a metric where it can be drawn."""
  mask = _is_drawn(columns[name])
  if phase is not None:
    mask &= columns['phase'] == phase
  return columns['step'][mask], columns[name][mask]


def _draw(
  columns: Columns, names: Sequence[str], is_log: bool, theme: str
) -> Figure:
  """Draws all curves over each other, with axes side by side for each phase.

  A short phase gets more room than its steps. Of curves that lie on each other
  the one below is wider.
  """
  names = names[:MAX_CURVES]
  phases = _phases(columns, names)[:MAX_PHASES]
  sizes = np.sqrt([np.sum(columns['phase'] == phase) for phase in phases])
  sizes = np.maximum(sizes, sizes.max() / 3)
  sizes /= sizes.sum()
  figure = Figure(figsize=(5.4, 2.9), layout='constrained')
  figure.get_layout_engine().set(w_pad=0.04, wspace=0.0)
  grid = figure.subplots(
    1, len(phases), sharey=True, squeeze=False, width_ratios=sizes
  )
  widths = np.linspace(2.6, 1.2, len(names)) if len(names) > 1 else [1.5]
  marks = [
    dict(color=figures.color(k), linestyle=figures.dashes(k), linewidth=width)
    for k, width in enumerate(widths)
  ]
  for number, (axes, phase) in enumerate(zip(grid[0], phases, strict=True)):
    figures.style(figure, axes, theme)
    if len(spans(columns)) > 1:
      pad = 4 + 9 * (number % 2 if len(phases) > 4 else 0)
      faint = figures.THEMES[theme]['faint']
      title = figures.literal(phase)
      axes.set_title(title, fontsize=7, loc='left', color=faint, pad=pad)
    for name, mark in zip(names, marks, strict=True):
      _line(axes, *_curve(columns, name, phase), **mark)
    _fit(axes, max(1, round(7 * sizes[number])))
  values = [_curve(columns, name)[1] for name in names]
  _scale(axes, np.concatenate(values), is_log)
  lines, labels = [Line2D([], [], **mark) for mark in marks], _labels(names)
  figures.add_legend(figure, theme, lines, labels, ncols=2, fontsize=7.5)
  return figure


def _phases(columns: Columns, names: Sequence[str]) -> list[str]:
  """Returns the phases that have one of these metrics."""
  mask = np.any([_is_drawn(columns[name]) for name in names], axis=0)
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


def _parts(columns: Columns, names: Sequence[str]) -> list[tuple[str, str]]:
  """Returns the metrics and phases that have axes of their own."""
  return [(name, phase) for name in names for phase in _phases(columns, [name])]


def _draw_apart(
  columns: Columns, parts: Sequence[tuple[str, str]], theme: str
) -> Figure:
  """Draws axes for each metric and phase, as their scales differ."""
  grid, figure = _small_axes(len(parts), min(4, len(parts)))
  for axes, (name, phase) in zip(grid, parts, strict=False):
    figures.style(figure, axes, theme)
    steps, values = _curve(columns, name, phase)
    _line(axes, steps, values, color=figures.color(0))
    _fit(axes)
    _scale(axes, values)
    ink = figures.THEMES[theme]['ink']
    title = f'{_label(name)} ({figures.literal(phase)})'
    axes.set_title(title, fontsize=8.5, loc='left', color=ink)
  return figure


def _small_axes(number: int, width: int, margin: float = 0.0):
  """Returns a grid of small axes, `width` in a row, and their figure.

  Args:
    number: the number of axes; the rest of the last row stays empty.
    width: the number of axes in a row.
    margin: the height of the legend, in inches.
  """
  rows = math.ceil(number / width)
  figure = Figure(figsize=(11, 2.2 * rows + margin), layout='constrained')
  figure.get_layout_engine().set(h_pad=0.09)  # titles keep off ticks above
  grid = figure.subplots(rows, width, squeeze=False).ravel()
  for axes in grid[number:]:
    axes.set_axis_off()
  return grid, figure


def _label(metric: str) -> str:
  """Returns a metric's name as a legend shows it."""
  return figures.literal(metric.replace('/', ' ').replace('_', ' '))


def _draw_runs(
  runs: Mapping[str, Columns],
  names: Sequence[str],
  theme: str,
  is_log: bool = False,
) -> Figure:
  """Draws axes for each metric, with a curve for each run."""
  grid, figure = _small_axes(len(names), min(4, max(2, len(names))), margin=0.4)
  ink = figures.THEMES[theme]['ink']
  for axes, name in zip(grid, names, strict=False):
    figures.style(figure, axes, theme)
    axes.set_title(_label(name), fontsize=8.5, loc='left', color=ink)
    for number, columns in enumerate(runs.values()):
      for phase in spans(columns) if _has(columns, name) else ():
        curve = _curve(columns, name, phase)
        if len(curve[0]):
          _line(axes, *curve, color=figures.color(number))
    _fit(axes)
    values = [_curve(c, name)[1] for c in runs.values() if _has(c, name)]
    _scale(axes, np.concatenate(values or [[]]), is_log)
  lines = [
    Line2D([], [], color=figures.color(number), linewidth=1.5)
    for number in range(len(runs))
  ]
  names = [figures.literal(name) for name in runs]
  figures.add_legend(figure, theme, lines, names, ncols=min(6, len(runs)))
  return figure


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
