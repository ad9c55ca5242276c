"""Draws figures of evaluations, in the style of figures.py."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from critic_jax import files
from critic_jax.evals.calibration import Bin
from critic_jax.evals.statistics import Estimate, display_scale
from critic_jax.report import figures


def reliability(
  curves: Mapping[str, Sequence[Bin]], title: str
) -> dict[str, str]:
  """Returns a reliability diagram: the share of wrong solutions over votes.

  On the diagonal, the share of votes that call a solution wrong is the
  probability that it is wrong. A dot's area grows with its number of solutions.

  Args:
    curves: bins of `evals.calibration.reliability` by label.
    title: the title of the figure.

  Returns:
    A panel as those of `plots.draw`.
  """
  alt = '; '.join(
    f'{name}: '
    + ', '.join(
      f'{100 * b.wrong.value:.0f} of 100 wrong at {100 * b.called:.0f}'
      for b in bins
    )
    for name, bins in curves.items()
  )
  return figures.panel(_draw_reliability(curves), title, alt, wide=False)


def _draw_reliability(curves: Mapping[str, Sequence[Bin]]) -> Figure:
  figure = Figure(figsize=(5.4, 4.4), layout='constrained')
  axes = figure.add_subplot()
  figures.style(figure, axes)
  axes.plot([0, 100], [0, 100], color=figures.FAINT, linewidth=0.8)
  for number, (name, bins) in enumerate(curves.items()):
    color = figures.color(number)
    counts = np.array([b.wrong.n for b in bins], float)
    called = np.array([100 * b.called for b in bins])
    wrong, low, high = (
      np.array([100 * b.wrong[side] for b in bins]) for side in range(3)
    )
    called = called + 0.8 * number  # so that intervals do not overlap
    axes.vlines(called, low, high, color=color, alpha=0.5, linewidth=1)
    axes.plot(
      called, wrong, color=color, linewidth=1.2, label=figures.literal(name)
    )
    sizes = 12 + 150 * counts / max(1.0, counts.sum())
    axes.scatter(called, wrong, sizes, color=color, zorder=3)
  axes.set_xlim(-3, 105)
  axes.set_ylim(-3, 103)
  label = {'fontsize': 7.5, 'color': figures.INK}
  axes.set_xlabel('votes that call the solution wrong, percent', **label)
  axes.set_ylabel('solutions that are wrong, percent', **label)
  figures.add_legend(figure, ncols=3, fontsize=7.5)
  return figure


# Estimates by group, run and metric.
Grouped = Mapping[str, Mapping[str, Mapping[str, Estimate]]]


def intervals(
  groups: Grouped, metrics: Sequence[str], title: str
) -> dict[str, str]:
  """Returns axes for each metric, with the interval of each run on a line.

  Args:
    groups: the estimates of each group's runs; a group has its own colour.
    metrics: names of the metrics to draw; shares are drawn in percent.
    title: the title of the figure.

  Returns:
    A panel as those of `plots.draw`.
  """
  alt = 'an interval for each run of ' + ', '.join(metrics)
  figure = _draw_intervals(groups, metrics)
  return figures.panel(figure, title, alt, wide=True)


def _draw_intervals(groups: Grouped, metrics: Sequence[str]) -> Figure:
  runs = [
    (name, number, estimates)
    for number, group in enumerate(groups.values())
    for name, estimates in group.items()
  ]
  wide = max(1, min(4, len(metrics)))
  rows = math.ceil(len(metrics) / wide)
  height = rows * (0.6 + 0.22 * len(runs)) + 0.5
  figure = Figure(figsize=(11, height), layout='constrained')
  grid = figure.subplots(rows, wide, squeeze=False, sharey=True).ravel()
  for axes, metric in zip(grid, metrics, strict=False):
    figures.style(figure, axes)
    axes.grid(axis='x', color=figures.INK, alpha=0.15, linewidth=0.6)
    axes.set_title(
      figures.literal(metric), fontsize=8.5, loc='left', color=figures.INK
    )
    scale = display_scale(metric)
    for y, (_, number, estimates) in enumerate(runs):
      if metric in estimates:
        value, low, high = (scale * x for x in estimates[metric][:3])
        color = figures.color(number)
        axes.plot([low, high], [y, y], color=color, linewidth=1.5)
        axes.plot([value], [y], color=color, marker='o', markersize=4)
    axes.set_yticks(
      range(len(runs)), [figures.literal(name) for name, *_ in runs]
    )
  for axes in grid[len(metrics) :]:
    axes.set_axis_off()
  grid[0].set_ylim(len(runs) - 0.5, -0.5)  # all axes share it
  lines = [
    Line2D([], [], color=figures.color(i), marker='o')
    for i in range(len(groups))
  ]
  figures.add_legend(figure, lines, [*map(figures.literal, groups)], ncols=2)
  return figure


def selection_curves(
  curves: Mapping[str, Mapping[int, Any]], path: str | Path
) -> None:
  """Draws the accuracy of each selection method over k, with its interval.

  Args:
    curves: `value`, `low` and `high` by method and k, as returned by
      `evals.selection.curves`; the axis of k is log2.
    path: the PNG file to write.

  Raises:
    ValueError: there is no curve.
  """
  if not curves:
    raise ValueError(
      'curves: got none; expected a method or more; sample several solutions'
    )
  files.replace(Path(path), figures.png(_draw_selection(curves)))


def selection_panel(
  curves: Mapping[str, Mapping[int, Any]], title: str
) -> dict[str, str]:
  """Returns the figure of `selection_curves` as a panel of `plots.write`."""
  ends = ', '.join(
    f'{method} of {max(points)}: {100 * points[max(points)].value:.1f} percent'
    for method, points in curves.items()
  )
  return figures.panel(_draw_selection(curves), title, ends, wide=False)


def _draw_selection(curves: Mapping[str, Mapping[int, Any]]) -> Figure:
  figure = Figure(figsize=(5.4, 3.4), layout='constrained')
  axes = figure.add_subplot()
  figures.style(figure, axes)
  for number, (method, points) in enumerate(curves.items()):
    color = figures.color(number)
    ks = sorted(points)
    value, low, high = (
      [100 * getattr(points[k], side) for k in ks]
      for side in ('value', 'low', 'high')
    )
    axes.fill_between(ks, low, high, color=color, alpha=0.1, linewidth=0)
    axes.plot(
      ks,
      value,
      color=color,
      label=figures.literal(method.replace('_', ' ')),
      # A control is dashed.
      linestyle='--' if method.startswith('random') else '-',
      linewidth=1.5,
      marker=figures.marker(number),
      markersize=3.5,
    )
  scale_k(axes, {k for points in curves.values() for k in points})
  axes.set_ylabel('accuracy, percent', fontsize=7.5, color=figures.INK)
  figures.add_legend(figure, ncols=3, fontsize=7.5, handlelength=2.4)
  return figure


def scale_k(axes: Any, ks: Iterable[int]) -> None:
  """Gives axes a log2 scale of k, the number of solutions, with ticks."""
  axes.set_xscale('log', base=2)
  ks = sorted(ks)
  axes.set_xticks(ks, [str(k) for k in ks])
  axes.minorticks_off()
  axes.set_xlabel('solutions k', fontsize=7.5, color=figures.INK)
