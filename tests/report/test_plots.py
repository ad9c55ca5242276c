"""The charts of a run: what shares axes, and what a reader can tell apart."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from critic_jax.report import figures, plots
from critic_jax.report import panels as panels_lib
from critic_jax.rollouts import stage_metrics
from critic_jax.training import phases

# All that a run of RefCritic may log, and names that only look like its.
LOGGED = [
  *phases.LOOP_METRICS,
  *stage_metrics.names('solve', rewards=['answer'], is_graded=True),
  *stage_metrics.names('critique', rewards=['judge', 'refine'],
                       has_verdict=True),
  *stage_metrics.names('refine', is_graded=True,
                       controls=['empty', 'swapped', 'masked']),
  *(f'tokens/{stage}' for stage in ('solve', 'critique', 'refine', 'reward')),
  'time/judge', 'value/reward', 'policy/refine', 'tokens/correct_s',
]  # fmt: skip


def columns_of(steps_by_phase, **curves):
  """Columns of metrics with phases of so many steps; a curve by its name."""
  number = sum(steps_by_phase.values())
  names = [n for n, steps in steps_by_phase.items() for _ in range(steps)]
  columns = {'step': np.arange(number), 'phase': np.array(names)}
  columns['time'] = np.arange(number, dtype=float)
  return columns | {k: np.asarray(v, float) for k, v in curves.items()}


def panels(names):
  """The metrics of each panel, by file."""
  columns = columns_of({'rl': 2}, **{name: [0.0, 1.0] for name in names})
  return {p.file: list(p.places) for p in panels_lib.find([columns])}


def test_series_of_one_axes_are_of_one_kind():
  by_file = panels(LOGGED)
  apart = {file for file, _, _, is_apart in panels_lib.PANELS if is_apart}
  for file, names in by_file.items():
    kinds = {name.split('/')[0] for name in names}
    assert 'tokens' not in kinds and 'value' not in kinds
    assert file in apart or 'time' not in kinds or kinds == {'time'}
  assert set(by_file['rewards']) == {
    'solve/reward', 'critique/reward', 'critique/judge', 'critique/refine'
  }  # fmt: skip


def test_a_color_is_the_metrics_whatever_else_is_logged():
  [places] = [p.places for p in find(LOGGED) if p.file == 'rewards']
  for name, place in places.items():
    [panel] = find([name, 'solve/other'])
    assert panel.places == {name: place}
  # Training logs no metric on shared axes whose colour could change.
  for panel in find(LOGGED):
    assert panel.apart or set(panel.places) <= {*panels_lib.KNOWN, 'time/judge'}
  assert find(['time/b', 'time/step_s'])[0].places == {
    'time/step_s': 0, 'time/b': 12
  }  # fmt: skip


def find(names):
  columns = columns_of({'rl': 2}, **{name: [0.0, 1.0] for name in names})
  return panels_lib.find([columns])


def draw(columns, names, is_log=False):
  places = {name: place for place, name in enumerate(names)}
  return plots._draw(columns, places, is_log)


def test_a_phase_of_a_policy_gradient_has_more_room():
  loss, kl = np.ones(644), np.where(np.arange(644) < 600, np.nan, 1.0)
  steps = {'solver': 600, 'rl': 44}
  columns = columns_of(steps, **{'loss/x': loss, 'policy/kl': kl})
  for figure in (
    draw(columns, ['loss/x']),
    plots._draw_apart(columns, ['loss/x']),
  ):
    first, second = figure.axes
    assert first.get_title(loc='left') == 'solver'
    widths = [axes.get_position().width for axes in (first, second)]
    assert 0.65 < widths[1] / sum(widths) < 0.75
  first, second = draw(columns, ['loss/x']).axes
  assert first.get_ylim() == second.get_ylim()


def test_phases_of_runs_stand_abreast():
  long, short = (
    columns_of({'sft': steps, 'rl': 4}, **{'loss/x': np.arange(steps + 4)})
    for steps in (8, 4)
  )
  figure = plots._draw_runs({'a': long, 'b': short}, ['loss/x'])
  [axes] = figure.axes[:1]
  first, second, *others = [line.get_xdata() for line in axes.lines]
  # Steps are counted from the start of a phase.
  np.testing.assert_allclose(second[-1], first[3])
  for rl in others:
    np.testing.assert_allclose(rl[[0, -1]], [0.5, 0.96])
  texts = [label.get_text() for label in axes.get_xticklabels()]
  assert texts == ['0\nsft', '7', '0\n\nrl', '3']


def test_names_and_ticks_of_many_phases_do_not_overlap():
  """Those of `configs/evidence.py:critics`, seven of them with rewards."""
  steps = {'cold_start': 60, 'rl': 40, 'judge_only': 40, 'refine_only': 40}
  steps |= {'step_rl': 40, 'more_sft': 60, 'step_labels': 60}
  of_rl = [name in {*list(steps)[1:5]} for name in steps]
  kl = np.repeat(np.where(of_rl, 1.0, np.nan), [*steps.values()])
  columns = columns_of(steps, **{'loss/x': np.ones(len(kl)), 'policy/kl': kl})
  columns['step'] += 1100
  for figure in (
    draw(columns, ['loss/x']),
    plots._draw_apart(columns, ['loss/x', 'policy/kl']),
  ):
    FigureCanvasAgg(figure).draw()
    texts = []
    for axes in figure.axes:
      texts += [axes.title, axes._left_title, axes._right_title]
      low, high = axes.get_xlim()
      texts += [
        label
        for label in axes.get_xticklabels()
        if low <= label.get_position()[0] <= high
      ]
    boxes = [x.get_window_extent() for x in texts if x.get_text()]
    assert len(boxes) >= 2 * len(steps)
    for box in boxes:
      assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
    for one, other in itertools.combinations(boxes, 2):
      assert not one.overlaps(other)


@pytest.mark.parametrize('number', [2, 12, 44, 600])
def test_ticks_are_whole_steps(number):
  columns = columns_of({'rl': number}, **{'loss/x': np.arange(number)})
  for figure in (
    draw(columns, ['loss/x']),
    plots._draw_apart(columns, ['loss/x']),
  ):
    ticks = figure.axes[0].get_xticks()
    assert len(ticks) >= 2 and np.all(ticks == np.round(ticks))


@pytest.mark.parametrize(
  ('value', 'limits'),
  [(0.0, (-0.04, 1.04)), (3e-4, (0.0, 6e-4)), (-2.0, (-4.0, 0.0))],
)
def test_a_constant_is_drawn_between_whole_values(value, limits):
  columns = columns_of({'rl': 5}, **{'loss/x': np.full(5, value)})
  for figure in (
    draw(columns, ['loss/x']),
    plots._draw_apart(columns, ['loss/x']),
  ):
    np.testing.assert_allclose(figure.axes[0].get_ylim(), limits)


def test_curves_can_be_told_apart():
  names = [f'time/{k}_s' for k in range(plots.MAX_CURVES)]
  columns = columns_of({'rl': 3}, **{name: np.ones(3) for name in names})
  lines = draw(columns, names, is_log=True).axes[0].lines
  looks = [(line.get_color(), line.get_linestyle()) for line in lines]
  assert len(looks) == len(set(looks)) == plots.MAX_CURVES
  # Equal curves lie on each other: the last is the thinnest.
  widths = [line.get_linewidth() for line in lines]
  assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(
  ('names', 'labels'),
  [
    (['critique/judge', 'critique/refine'], ['judge', 'refine']),
    (['solve/length', 'refine_empty/length'], ['solve', 'refine empty']),
    (['time/a_tokens_per_s', 'time/b_tokens_per_s'], ['a', 'b']),
    (['critique/judge_right', 'critique/judge_wrong'],
     ['judge right', 'judge wrong']),
    (['solve/reward', 'critique/judge'], ['solve reward', 'critique judge']),
    (['solve/correct'], ['solve correct']),
    (['x/a', 'x/a_a'], ['a', 'a a']),
  ],
)  # fmt: skip
def test_labels_leave_out_what_all_share(names, labels):
  assert plots._labels(names) == labels


def test_what_is_not_drawn_is_told():
  steps = {f'arm{k}': 2 for k in range(plots.MAX_PHASES + 3)}
  number = 2 * len(steps)
  names = ['critique/reward', 'loss/a', 'loss/b', 'loss/c']
  columns = columns_of(steps, **{name: np.arange(number) for name in names})
  titles = [panel['title'] for panel in plots.draw(columns)]
  assert titles == [
    'Rewards (3 more phases are not drawn)',
    'Loss (3 more phases are not drawn)',
  ]


def test_a_darkened_figure_is_the_one_that_is_drawn_dark(monkeypatch):
  """To the last pixel; curves, axes apart, names of phases, a legend."""
  columns = columns_of(
    {'warm': 3, 'rl': 60}, **{'loss/x': range(63), 'policy/kl': range(63)}
  )

  def drawn():
    return [
      plots._draw(columns, {'loss/x': 0, 'policy/kl': 1}, False),
      plots._draw_apart(columns, ['loss/x', 'policy/kl']),
      plots._draw_runs({'a': columns, 'b': columns}, ['loss/x']),
    ]

  light = drawn()
  before = [figures.png(figure) for figure in light]
  for figure in light:
    figures.darken(figure)
  darkened = [figures.png(figure) for figure in light]
  for name in ('INK', 'FAINT', 'PAPER'):
    monkeypatch.setattr(figures, name, figures.DARK[getattr(figures, name)])
  assert darkened == [figures.png(figure) for figure in drawn()]
  assert not {*darkened} & {*before}
