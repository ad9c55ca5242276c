"""Draws a run's metrics as PNG, for light and dark pages.

All figures are matplotlib's objects, never pyplot's: no window and no global
state.
"""

from __future__ import annotations

import base64
import functools
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from critic_jax import files
from critic_jax.terminal import printable

Columns = Mapping[str, np.ndarray]  # as returned by inspection.reading.metrics

# (file, title, pattern of metrics, whether each metric gets axes of its own). A
# metric belongs to the first panel whose pattern it matches. The counts of
# tokens (tokens/<stage>) are in none: they would dwarf rewards.
PANELS = (
  ('rewards', 'Rewards', r'(?!tokens/)\w+/(reward|judge|refine)$', False),
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
MAX_AXES = 12  # in a panel whose metrics have axes of their own
MAX_CURVES = 24  # in the axes of another panel, and phases that it marks
MAX_LABEL = 80  # characters

PALETTE = ('#3f72af', '#c8643c', '#3f8f6b', '#8d5a9e', '#a08a2c', '#5b7f8f')
MARKERS = 'os^vDP'  # colours alone do not tell lines apart for every eye
THEMES = {
  'light': {'ink': '#3c3f45', 'faint': '#9aa0a8', 'paper': '#ffffff'},
  'dark': {'ink': '#c9cdd3', 'faint': '#6b727c', 'paper': '#1b1e23'},
}


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
      draw_one = functools.partial(_draw_runs, runs, names)
      alt = 'a curve for each run of ' + ', '.join(names)
      panels.append(panel(draw_one, title, alt, wide=True))
  return panels


def panel(
  draw_one: Callable[[str], Figure], title: str, alt: str, *, wide: bool
) -> dict[str, str]:
  """Returns a panel as those of `write`, drawn once for each of `THEMES`."""
  images = {
    theme: base64.b64encode(png(draw_one(theme))).decode() for theme in THEMES
  }
  return {'title': title, 'wide': wide, 'alt': alt, **images}


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
  return name in columns and bool(np.isfinite(columns[name]).any())


def _draw_panels(columns, files=None) -> dict[str, dict[str, str]]:
  """Returns the panels by file; all, or those of `files`."""
  by_file = {}
  for file, title, names, apart in _panels([columns]):
    if files is None or file in files:
      draw_one = functools.partial(
        _draw_apart if apart else _draw, columns, names
      )
      ends = ', '.join(
        f'{n} ends at {_curve(columns, n)[1][-1]:.3g}' for n in names
      )
      by_file[file] = panel(draw_one, title, ends, wide=apart)
  return by_file


def png(figure: Figure) -> bytes:
  """Returns a figure as the bytes of a PNG file."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', dpi=144)
  return buffer.getvalue()


def _curve(
  columns: Columns, name: str, phase: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the steps and values of a metric where it is finite."""
  mask = np.isfinite(columns[name])
  if phase is not None:
    mask &= columns['phase'] == phase
  return columns['step'][mask], columns[name][mask]


def _draw(columns: Columns, names: Sequence[str], theme: str) -> Figure:
  """Draws all curves in the same axes."""
  figure = Figure(figsize=(5.4, 2.9), layout='constrained')
  axes = figure.add_subplot()
  style(figure, axes, theme)
  phases = spans(columns)
  for number, name in enumerate(names[:MAX_CURVES]):
    label = _label(name)
    for phase in phases:  # a running mean must not reach into another phase
      curve = _curve(columns, name, phase)
      if len(curve[0]):
        color = PALETTE[number % len(PALETTE)]
        _line(axes, *curve, color, label)
        label = None
  first, last = axes.dataLim.intervalx
  for phase, (start, end) in [*phases.items()][:MAX_CURVES]:
    if len(phases) > 1 and end >= first and start <= last:
      _mark(axes, max(start, first), phase, THEMES[theme]['faint'])
  add_legend(figure, theme, ncols=2, fontsize=7.5)
  return figure


def add_legend(figure: Figure, theme: str, *handles, **options) -> None:
  """Adds a legend below the axes.

  Args:
    figure: the figure.
    theme: a key of `THEMES`.
    *handles: lines and their labels; by default those of the axes.
    **options: keyword arguments of `Figure.legend`.
  """
  figure.legend(
    *handles,
    loc='outside lower left',
    frameon=False,
    labelcolor=THEMES[theme]['ink'],
    **{'handlelength': 1.4, 'fontsize': 8, **options},
  )


def _mark(axes, step, phase: str, color: str) -> None:
  """Draws a thin line with the phase's name where it begins."""
  axes.axvline(step, color=color, linewidth=0.6, linestyle=(0, (2, 2)))
  axes.annotate(
    literal(phase),
    (step, 1),
    xycoords=('data', 'axes fraction'),
    xytext=(3, -2),
    va='top',
    textcoords='offset points',
    color=color,
    fontsize=7,
  )


def _draw_apart(columns: Columns, names: Sequence[str], theme: str) -> Figure:
  """Draws axes for each metric and phase, as their scales differ."""
  parts = [
    (name, phase)
    for name in names
    for phase in spans(columns)
    if len(_curve(columns, name, phase)[0])
  ][:MAX_AXES]
  grid, figure = _small_axes(len(parts), min(4, len(parts)))
  for axes, (name, phase) in zip(grid, parts, strict=False):
    style(figure, axes, theme)
    _line(axes, *_curve(columns, name, phase), PALETTE[0], None)
    ink = THEMES[theme]['ink']
    title = f'{_label(name)} ({literal(phase)})'
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
  return literal(metric.replace('/', ' ').replace('_', ' '))


def literal(text: str) -> str:
  r"""Returns a name as matplotlib's text that shows it, and no formula.

  A dollar is escaped, a label that began with `_` would be left out, and a long
  one would leave no room for its figure.

  >>> print(literal('loss $x$'))
  loss \$x\$
  """
  text = ' '.join(printable(text).split())
  if len(text) > MAX_LABEL:
    text = f'{text[:MAX_LABEL]}…'
  text = text.replace('$', r'\$')
  return f' {text}' if text.startswith('_') else text


def _draw_runs(
  runs: Mapping[str, Columns], names: Sequence[str], theme: str
) -> Figure:
  """Draws axes for each metric, with a curve for each run."""
  grid, figure = _small_axes(len(names), min(4, max(2, len(names))), margin=0.4)
  ink = THEMES[theme]['ink']
  for axes, name in zip(grid, names, strict=False):
    style(figure, axes, theme)
    axes.set_title(_label(name), fontsize=8.5, loc='left', color=ink)
    for number, columns in enumerate(runs.values()):
      for phase in spans(columns) if _has(columns, name) else ():
        curve = _curve(columns, name, phase)
        if len(curve[0]):
          _line(axes, *curve, PALETTE[number % len(PALETTE)], None)
  lines = [
    Line2D([], [], color=PALETTE[number % len(PALETTE)], linewidth=1.5)
    for number in range(len(runs))
  ]
  names = [literal(name) for name in runs]
  add_legend(figure, theme, lines, names, ncols=min(6, len(runs)))
  return figure


def _line(axes, steps, values, color, label) -> None:
  """Draws a curve; a long one as its running mean over the raw values."""
  width = len(values) // 25
  if width > 1:
    axes.plot(steps, values, color=color, alpha=0.22, linewidth=0.8)
    sums = np.cumsum(np.insert(values, 0, 0.0))
    counts = np.arange(1, len(values) + 1)
    begin = np.maximum(counts - width, 0)
    values = (sums[counts] - sums[begin]) / (counts - begin)
  marker = 'o' if len(values) < 3 else None
  style = {'color': color, 'linewidth': 1.5, 'label': label}
  axes.plot(steps, values, marker=marker, markersize=3.5, **style)


def style(figure: Figure, axes: Any, theme: str) -> None:
  """Gives axes the colours of a theme, and only the lines that they need."""
  colors = THEMES[theme]
  figure.set_facecolor(colors['paper'])
  axes.set_facecolor(colors['paper'])
  axes.spines[['top', 'right', 'left']].set_visible(False)
  axes.spines['bottom'].set_color(colors['faint'])
  axes.grid(axis='y', color=colors['faint'], alpha=0.25, linewidth=0.6)
  axes.tick_params(
    colors=colors['ink'], labelsize=7.5, length=0, labelcolor=colors['ink']
  )
  exponent = axes.yaxis.get_offset_text()  # e.g. 1e-8, above the axis
  exponent.set(fontsize=7, color=colors['ink'])


def spans(columns: Columns) -> dict[str, tuple[int, int]]:
  """Returns the first and last step of each phase, in order of the start."""
  return {
    phase: (steps.min(), steps.max())
    for phase in dict.fromkeys(columns['phase'].tolist())
    for steps in [columns['step'][columns['phase'] == phase]]
  }
