"""Curves of a run's metrics, as PNG for light and for dark pages.

Drawn with matplotlib's own objects, never pyplot: no window, no global state.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

Columns = Mapping[str, np.ndarray]  # as of inspection.metrics

# (file, title, names of metrics, whether each metric gets axes of its own). A
# metric goes where it matches first.
PANELS = (
  ('rewards', 'Rewards', r'\w+/(reward|judge|refine)$', False),
  ('answers', 'Answers that are right', r'\w+/correct$', False),
  ('calls', 'Solutions called wrong', r'\w+/called_wrong$', False),
  (
    'failures',
    'Critiques without a usable verdict',
    r'critique/(missing|contradictory|unfinished|truncated)$',
    False,
  ),
  ('lengths', 'Length in tokens', r'\w+/length$', False),
  ('time', 'Seconds', r'time/', False),
  ('loss', 'Loss', r'loss/', True),
  ('optimisation', 'Optimisation', r'policy/|grad_norm|learning_rate', True),
)
MAX_AXES = 12  # in a panel whose metrics have axes of their own

_PALETTE = ('#3f72af', '#c8643c', '#3f8f6b', '#8d5a9e', '#a08a2c', '#5b7f8f')
_THEMES = {
  'light': {'ink': '#3c3f45', 'faint': '#9aa0a8', 'paper': '#ffffff'},
  'dark': {'ink': '#c9cdd3', 'faint': '#6b727c', 'paper': '#1b1e23'},
}


def write(columns: Columns, folder: Path) -> list[dict[str, str]]:
  """Draws every panel that has metrics; the light ones go to `folder` too.

  Returns:
    For each panel its title, 'alt' (where each curve ends), 'wide', and the
    images 'light' and 'dark' in base64.
  """
  left = [n for n in columns if n not in ('step', 'phase', 'time')]
  panels = []
  for file, title, pattern, apart in PANELS:
    names = [n for n in left if re.match(pattern, n)]
    left = [n for n in left if n not in names]
    names = [n for n in names if np.isfinite(columns[n]).any()]
    panels.append((file, title, names, apart))
  folder.mkdir(exist_ok=True)
  return [
    _write_panel(columns, folder / f'{file}.png', title, names, apart)
    for file, title, names, apart in panels
    if names
  ]


def _write_panel(columns, path, title, names, apart) -> dict[str, str]:
  images = {}
  for theme in _THEMES:
    figure = (_draw_apart if apart else _draw)(columns, names, theme)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=144)
    images[theme] = buffer.getvalue()
  path.write_bytes(images['light'])
  ends = [f'{n} ends at {_curve(columns, n)[1][-1]:.3g}' for n in names]
  inlined = {k: base64.b64encode(v).decode() for k, v in images.items()}
  return {'title': title, 'wide': apart, 'alt': ', '.join(ends), **inlined}


def _curve(
  columns: Columns, name: str, phase: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
  kept = np.isfinite(columns[name])
  if phase is not None:
    kept &= columns['phase'] == phase
  return columns['step'][kept], columns[name][kept]


def _draw(columns: Columns, names: Sequence[str], theme: str) -> Figure:
  """All curves in one pair of axes."""
  figure = Figure(figsize=(5.4, 2.9), layout='constrained')
  axes = figure.add_subplot()
  _style(figure, axes, theme)
  phases = spans(columns)
  for number, name in enumerate(names):
    label = name.replace('/', ' ').replace('_', ' ')
    for phase in phases:  # a running mean must not reach into another phase
      curve = _curve(columns, name, phase)
      if len(curve[0]):
        color = _PALETTE[number % len(_PALETTE)]
        _line(axes, *curve, color, label)
        label = None
  first, last = axes.dataLim.intervalx
  for phase, (start, end) in phases.items():
    if len(phases) > 1 and end >= first and start <= last:
      _mark(axes, max(start, first), phase, _THEMES[theme]['faint'])
  figure.legend(
    loc='outside lower left',
    ncols=2,
    frameon=False,
    fontsize=7.5,
    labelcolor=_THEMES[theme]['ink'],
    handlelength=1.4,
  )
  return figure


def _mark(axes, step, phase: str, color: str) -> None:
  """A thin line where a phase begins, with its name."""
  axes.axvline(step, color=color, linewidth=0.6, linestyle=(0, (2, 2)))
  axes.annotate(
    phase,
    (step, 1),
    xycoords=('data', 'axes fraction'),
    xytext=(3, -2),
    va='top',
    textcoords='offset points',
    color=color,
    fontsize=7,
  )


def _draw_apart(columns: Columns, names: Sequence[str], theme: str) -> Figure:
  """Axes for each metric and phase: their scales have nothing in common."""
  parts = [
    (name, phase)
    for name in names
    for phase in spans(columns)
    if len(_curve(columns, name, phase)[0])
  ][:MAX_AXES]
  rows = math.ceil(len(parts) / 4)
  figure = Figure(figsize=(11, 2.2 * rows), layout='constrained')
  grid = figure.subplots(rows, min(4, len(parts)), squeeze=False).ravel()
  for axes, (name, phase) in zip(grid, parts, strict=False):
    _style(figure, axes, theme)
    _line(axes, *_curve(columns, name, phase), _PALETTE[0], None)
    title = f'{name.replace("/", " ").replace("_", " ")} ({phase})'
    ink = _THEMES[theme]['ink']
    axes.set_title(title, fontsize=8.5, loc='left', color=ink)
  for axes in grid[len(parts) :]:
    axes.set_axis_off()
  return figure


def _line(axes, steps, values, color, label) -> None:
  """A curve; if it is long, its running mean over the raw values."""
  width = len(values) // 25
  smooth = width > 1
  if smooth:
    axes.plot(steps, values, color=color, alpha=0.22, linewidth=0.8)
    sums = np.cumsum(np.insert(values, 0, 0.0))
    counts = np.arange(1, len(values) + 1)
    begin = np.maximum(counts - width, 0)
    values = (sums[counts] - sums[begin]) / (counts - begin)
  marker = 'o' if len(values) < 3 else None
  style = {'color': color, 'linewidth': 1.5, 'label': label}
  axes.plot(steps, values, marker=marker, markersize=3.5, **style)


def _style(figure, axes, theme: str) -> None:
  colors = _THEMES[theme]
  figure.set_facecolor(colors['paper'])
  axes.set_facecolor(colors['paper'])
  axes.spines[['top', 'right', 'left']].set_visible(False)
  axes.spines['bottom'].set_color(colors['faint'])
  axes.grid(axis='y', color=colors['faint'], alpha=0.25, linewidth=0.6)
  axes.tick_params(
    colors=colors['ink'], labelsize=7.5, length=0, labelcolor=colors['ink']
  )


def spans(columns: Columns) -> dict[str, tuple[int, int]]:
  """The first and last step of each phase, in the order of their start."""
  return {
    phase: (steps.min(), steps.max())
    for phase in dict.fromkeys(columns['phase'].tolist())
    for steps in [columns['step'][columns['phase'] == phase]]
  }
