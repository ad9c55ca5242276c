"""Draws runs that differ by their seeds: dots by column, curves over k.

In a table of metrics, each metric is a panel: a thin line of dots for each
seed, a large dot for the mean. In a table of methods, each column is a panel: a
curve for each method's mean, and the range of the seeds as a band.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from critic_jax import files
from critic_jax.evals.statistics import display_scale, finite_mean
from critic_jax.report import eval_plots, figures, summary


def write(
  tables: Sequence[summary.Table], runs: summary.Runs, path: str | Path
) -> None:
  """Draws the panels of all tables, four in a row, as a PNG."""
  evaluation_names = {table.evaluation for table in tables if table.metrics}
  # A metric may be in several evaluations: then titles name the evaluation.
  with_evaluation = len(evaluation_names) > 1
  panels = [
    panel for table in tables for panel in _panels(table, runs, with_evaluation)
  ]
  wide = min(4, len(panels))
  tall = -(-len(panels) // wide)
  size = (max(5.4, 2.75 * wide), 2.4 * tall + 0.4)
  figure = Figure(figsize=size, layout='constrained')
  grid = figure.subplots(tall, wide, squeeze=False).ravel()
  legend = {}
  for axes, (title, draw) in zip(grid, panels, strict=False):
    figures.style(figure, axes)
    axes.set_title(
      figures.literal(title), fontsize=8.5, loc='left', color=figures.INK
    )
    draw(axes)
    lines, labels = axes.get_legend_handles_labels()
    legend |= zip(labels, lines, strict=True)
  for axes in grid[len(panels) :]:
    axes.set_axis_off()
  if legend:
    handles = legend.values(), legend.keys()
    figures.add_legend(figure, *handles, ncols=4, handlelength=2.0)
  files.replace(Path(path), figures.png(figure))


def _panels(
  table, runs, with_evaluation
) -> list[tuple[str, Callable[[Any], None]]]:
  """Returns panels: a title, and a function that draws into its axes."""
  rows, panels = summary.rows(table, runs), []
  for metric in table.metrics:
    title = f'{table.evaluation}: ' * with_evaluation + summary.title(metric)
    metric_rows = [row for row in rows if row.metric == metric]
    panels.append((title, functools.partial(_dots, metric_rows)))
  if table.metrics:
    return panels
  values = [100 * cell.values for row in rows for cell in row.cells.values()]
  limits = np.nanmin(values) - 2, np.nanmax(values) + 2  # for all panels
  for group in dict.fromkeys(row.group for row in rows):
    group_rows = [row for row in rows if row.group == group]
    for column in table.columns:
      names = (table.evaluation, summary.title(column), group)
      draw = functools.partial(_curves, group_rows, column, limits)
      panels.append((', '.join(filter(None, names)), draw))
  return panels


def _dots(rows: Sequence[summary.Row], axes) -> None:
  """Draws a metric with the groups of runs side by side."""
  columns = [figures.literal(summary.title(column)) for column in rows[0].cells]
  places = np.arange(len(columns))
  for number, row in enumerate(rows):
    cells = [cell.values for cell in row.cells.values()]
    values = display_scale(row.metric) * np.stack(cells, axis=-1)  # [S, C]
    marks = _marks(number)
    x = places + 0.12 * (number - (len(rows) - 1) / 2)
    thin = {'marker': 'o', 'markersize': 2.5, 'linewidth': 0.7, 'alpha': 0.5}
    for seed in values:
      axes.plot(x, seed, **marks | thin)
    axes.plot(
      x,
      finite_mean(values),
      **marks,
      ls='',
      ms=6,
      label=figures.literal(row.group) or None,
    )
  rotation_options = {'rotation': 30, 'ha': 'right'} if len(columns) > 4 else {}
  axes.set_xticks(places, columns, **rotation_options)
  axes.set_xlim(-0.5, len(columns) - 0.5)


def _curves(rows: Sequence[summary.Row], column: str, limits, axes) -> None:
  """Draws the methods' curves over k for a column of a group."""
  curves = {}
  for row in rows:
    method, k = summary.method(row.metric)
    curves.setdefault(method, {})[k] = 100 * row.cells[column].values
  for number, (name, points) in enumerate(curves.items()):
    marks, ks = _marks(number), list(points)
    values = np.stack(list(points.values()), axis=-1)  # [S, K]
    low, high = values.min(0), values.max(0)
    axes.fill_between(ks, low, high, color=marks['color'], alpha=0.15, lw=0)
    if name.startswith('random'):  # a control is dashed
      marks |= {'ls': '--'}
    axes.plot(
      ks,
      finite_mean(values),
      **marks,
      ms=3.5,
      label=figures.literal(summary.title(name)),
    )
  eval_plots.scale_k(axes, ks)
  axes.set_ylim(limits)


def _marks(number: int) -> dict[str, str]:
  color = figures.color(number)
  return {
    'color': color,
    'marker': figures.marker(number),
  }
