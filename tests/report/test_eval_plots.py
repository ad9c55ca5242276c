"""Figures of evaluations: what is drawn where."""

import base64
import math

import numpy as np

from critic_jax.evals.calibration import Bin
from critic_jax.evals.statistics import Estimate
from critic_jax.report import eval_plots

BINS = [
  Bin(0.0, 0.1, 0.0, Estimate(0.25, 0.1, 0.4, 8)),
  Bin(0.9, 1.0, 1.0, Estimate(0.75, 0.5, 0.9, 4)),
]
NAN = Estimate(math.nan, math.nan, math.nan, 0)


def test_reliability_is_in_percent_with_its_diagonal():
  (axes,) = eval_plots._draw_reliability({'RL': BINS}).axes
  diagonal, line = axes.lines
  assert diagonal.get_xydata().tolist() == [[0, 0], [100, 100]]
  assert line.get_xdata().tolist() == [0, 100]
  assert line.get_ydata().tolist() == [25, 75]
  whiskers, dots = axes.collections
  ends = np.array(whiskers.get_segments())  # [dots, ends, x or y]
  np.testing.assert_allclose(ends[:, :, 1], [[10, 40], [50, 90]])
  first, second = dots.get_sizes()
  assert first > second  # eight solutions, and four


def test_reliability_panel():
  panel = eval_plots.reliability({'cold': [], 'RL': BINS}, 'Votes')
  assert panel['title'] == 'Votes'
  assert 'RL: 25 of 100 wrong at 0, 75 of 100 wrong at 100' in panel['alt']
  for theme in ('light', 'dark'):
    assert base64.b64decode(panel[theme]).startswith(b'\x89PNG')


def test_intervals_of_runs():
  f1 = 'F1', Estimate(0.5, 0.25, 0.75, 9)
  length = 'length in tokens', Estimate(30, 20, 40, 9)
  groups = {
    'wrong': {'a': dict([f1, length]), 'b': dict([f1])},
    'always': {'c': {'F1': NAN}},
  }
  figure = eval_plots._draw_intervals(groups, ['F1', length[0]])
  first, second = figure.axes
  assert [a.get_title(loc='left') for a in figure.axes] == ['F1', length[0]]
  names = [label.get_text() for label in first.get_yticklabels()]
  assert names == ['a', 'b', 'c']
  low, high = first.get_ylim()
  assert low > high  # the first run is at the top
  assert list(first.lines[0].get_xdata()) == [25, 75]
  assert list(first.lines[1].get_xdata()) == [50]
  assert list(second.lines[0].get_xdata()) == [20, 40]  # no percent
  assert len(second.lines) == 2
  colors = [first.lines[i].get_color() for i in (0, 2, 4)]
  assert colors[0] == colors[1] != colors[2]


def test_intervals_panel_says_what_it_shows():
  panel = eval_plots.intervals({'all': {'a': {'F1': NAN}}}, ['F1'], 'held out')
  assert panel['title'] == 'held out' and 'F1' in panel['alt']
  assert panel['wide']
