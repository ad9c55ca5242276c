"""Means, ranges and paired changes over seeds, from results made by hand."""

import csv
import io
import json
import math
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from critic_jax.evals import selection
from critic_jax.evals.statistics import Estimate
from critic_jax.inspection import reading
from critic_jax.report import result_tables, summary, summary_plots
from critic_jax.report.figures import PALETTE

EVALUATIONS = {
  'heldout': {'after': ('cold_start', 'rl', 'judge_only')},
  'selection': {'after': ('cold_start', 'rl')},
}
TABLE = dict(
  evaluation='heldout',
  columns=('cold_start', 'rl', 'judge_only'),
  metrics=('balanced verdict accuracy', 'critique length in tokens'),
)
CURVES = dict(
  evaluation='selection',
  columns=('cold_start', 'rl'),
  methods=('majority', 'random_filtered'),
)
# Values of seeds 0, 1, 2.
ACCURACY = dict(
  cold_start=(0.50, 0.60, 0.70),
  rl=(0.55, 0.75, 0.80),  # +5, +15, +10: mean 10
  judge_only=(0.45, 0.65, 0.80),  # -5, +5, +10: mean 3.3
)
LENGTH = dict(
  cold_start=(20, 30, 40),  # mean 30
  rl=(19, 28, 37),  # -1, -2, -3
  judge_only=(20, 30, 40),  # no change: no sign to agree in
)
POINTS = {
  'majority': {1: (0.4, 0.4, 0.4), 4: (0.5, 0.6, 0.7)},
  'random_filtered': {1: (0.4, 0.4, 0.4), 4: (0.4, 0.6, 0.5)},
}


def estimate(value):
  return {'value': value, 'low': value, 'high': value, 'n': 300}


def write_run(folder, seed):
  """Writes the results of a run, as training leaves them."""
  heldout = {
    column: {
      'balanced verdict accuracy': estimate(ACCURACY[column][seed]),
      'critique length in tokens': estimate(LENGTH[column][seed]),
    }
    for column in ACCURACY
  }
  curves = {
    f'selection/{method}@{k}': estimate(values[seed])
    for method, points in POINTS.items()
    for k, values in points.items()
  }
  results = folder / 'results'
  results.mkdir(parents=True)
  (folder / 'config.json').write_text('{}')
  tables = {
    'heldout': heldout,
    'selection': {'cold_start': curves, 'rl': curves},
  }
  for name, columns in tables.items():
    (results / f'{name}.json').write_text(json.dumps({'columns': columns}))


@pytest.fixture
def runs(tmp_path):
  for seed in range(3):
    write_run(tmp_path / f'seed={seed}', seed)
  folders = {seed: reading.load(tmp_path / f'seed={seed}') for seed in range(3)}
  return [
    ({'seed': seed}, reading.all_results(folder))
    for seed, folder in folders.items()
  ]


def make(entry):
  return summary.make_tables(entry, EVALUATIONS)


def test_cells_are_means_with_ranges_and_paired_changes(runs):
  accuracy, length = summary.rows(make(TABLE)[0], runs)
  assert accuracy.metric == 'balanced verdict accuracy'
  np.testing.assert_array_equal(accuracy.cells['rl'].values, [0.55, 0.75, 0.8])
  np.testing.assert_allclose(accuracy.cells['rl'].change, [0.05, 0.15, 0.1])
  assert accuracy.cells['cold_start'].change is None
  np.testing.assert_array_equal(length.cells['rl'].change, [-1, -2, -3])


def test_csv_has_a_line_for_each_cell(runs):
  text = summary.csv_text(make([TABLE, CURVES]), runs)
  lines = list(csv.DictReader(io.StringIO(text)))
  assert (
    len(lines) == 2 * 3 + 2 * 2 * 2
  )  # metrics, columns; methods, k, columns
  first, second = lines[:2]
  assert first | {'mean': '0.6', 'change_mean': ''} == first
  assert (second['metric'], second['column']) == (TABLE['metrics'][0], 'rl')
  names = ('seeds', 'mean', 'least', 'greatest')
  assert [second[k] for k in names] == ['3', '0.7', '0.55', '0.8']
  changes = [second[f'change_{k}'] for k in names[1:]]
  assert changes == ['0.1', '0.05', '0.15']
  assert lines[-1]['metric'] == 'selection/random_filtered@4'


def test_latex(runs):
  text = summary.latex(make(TABLE), runs)
  assert text.splitlines() == [
    '% ' + summary.caption(make(TABLE), runs),
    '\\begin{tabular}{lrrr}',
    '\\toprule',
    'heldout & cold start & rl & judge only \\\\',
    '\\midrule',
    'balanced verdict accuracy & 60.0 [50.0, 70.0] & 70.0 [55.0, 80.0] & '
    '63.3 [45.0, 80.0] \\\\',
    '&  & \\small \\textbf{+10.0} [+5.0, +15.0] & \\small +3.3 [-5.0, +10.0] '
    '\\\\',
    'critique length in tokens & 30.0 [20.0, 40.0] & 28.0 [19.0, 37.0] & '
    '30.0 [20.0, 40.0] \\\\',
    '&  & \\small \\textbf{-2.0} [-3.0, -1.0] & \\small +0.0 [+0.0, +0.0] \\\\',
    '\\bottomrule',
    '\\end{tabular}',
  ]


def test_latex_escapes_what_users_write(runs):
  hostile = 'a_b%{c}\\d$&#~^'
  named = [({'gate': hostile, **point}, results) for point, results in runs]
  text = summary.latex(make(TABLE), named)
  assert (
    '\\multicolumn{4}{l}{\\emph{gate=a\\_b\\%\\{c\\}\\textbackslash{}d\\$\\&\\#'
    '\\textasciitilde{}\\textasciicircum{}}} \\\\'
  ) in text


def test_markdown(runs):
  lines = summary.markdown(make(TABLE), runs).splitlines()
  # The changes' range is not the ranges' change: 55 - 50, 80 - 70.
  assert lines == [
    '| heldout | cold start | rl | judge only |',
    '| --- | --- | --- | --- |',
    '| balanced verdict accuracy | 60.0 [50.0, 70.0] '
    '| 70.0 [55.0, 80.0]<br>**+10.0** [+5.0, +15.0] '
    '| 63.3 [45.0, 80.0]<br>+3.3 [-5.0, +10.0] |',
    '| critique length in tokens | 30.0 [20.0, 40.0] '
    '| 28.0 [19.0, 37.0]<br>**-2.0** [-3.0, -1.0] '
    '| 30.0 [20.0, 40.0]<br>+0.0 [+0.0, +0.0] |',
    '',
    'Percent (tokens where named): mean [least, greatest] of seeds 0, 1, 2; '
    "below, the same of the change from 'cold start', paired by seed, in bold "
    'where all seeds agree in its sign.',
  ]


def test_curves_have_a_row_for_each_method_and_k(runs):
  (table,) = make([CURVES])
  lines = summary.markdown([table], runs).splitlines()
  assert [line.split(' | ')[0] for line in lines[2:6]] == [
    '| majority, k = 1', '| majority, k = 4',
    '| random filtered, k = 1', '| random filtered, k = 4',
  ]  # fmt: skip
  assert lines[3] == (
    '| majority, k = 4 | 60.0 [50.0, 70.0] | 60.0 [50.0, 70.0] |'
  )
  # Compared to the majority at 4: -10, 0, -20.
  cell = '50.0 [40.0, 60.0]<br>-10.0 [-20.0, +0.0]'
  assert lines[5] == f'| random filtered, k = 4 | {cell} | {cell} |'
  assert "from 'majority' at the same k, paired" in lines[-1]


def test_ks_are_in_the_order_of_numbers(runs):
  (table,) = make(dict(CURVES, methods=('majority',)))
  for _, results in runs:
    for column in results['selection'].values():
      column['selection/majority@16'] = column['selection/majority@4']
  ks = [row.metric.split('@')[1] for row in summary.rows(table, runs)]
  assert ks == ['1', '4', '16']


def test_other_settings_are_groups(runs):
  results = [columns for _, columns in runs]
  grouped = [
    ({'seed': seed, 'weight': weight}, results[index])
    for weight, seed, index in [(0.0, 0, 0), (0.0, 1, 1), (1.0, 0, 2)]
  ]
  table_rows = summary.rows(make(TABLE)[0], grouped)
  assert [row.group for row in table_rows] == ['weight=0.0'] * 2 + [
    'weight=1.0'
  ] * 2
  np.testing.assert_array_equal(table_rows[0].cells['rl'].values, [0.55, 0.75])
  np.testing.assert_array_equal(table_rows[2].cells['rl'].values, [0.8])
  lines = summary.markdown(make(TABLE), grouped).splitlines()
  assert lines[2] == '| *weight=0.0* |  |  |  |'
  assert lines[5] == '| *weight=1.0* |  |  |  |'
  assert '<br>+10.0 [+10.0, +10.0]' in lines[6], 'one seed agrees with nobody'


def test_a_seed_where_a_metric_is_undefined_is_told_of(runs):
  undefined = Estimate(math.nan, math.nan, math.nan, 0)
  name = 'balanced verdict accuracy'
  runs[0][1]['heldout']['rl'][name] = undefined
  for _, results in runs:
    results['heldout']['judge_only'][name] = undefined
  line = summary.markdown(make(TABLE), runs).splitlines()[2]
  assert line == (
    '| balanced verdict accuracy | 60.0 [50.0, 70.0] '
    # 75 and 80; changes +15 and +10, on which not all seeds can agree.
    '| 77.5 [75.0, 80.0] (2 of 3 seeds)<br>+12.5 [+10.0, +15.0] (2 of 3 seeds) '
    '| –<br>– |'
  )


def test_terminal_has_the_same_numbers(runs):
  console = Console(width=120, record=True, file=io.StringIO())
  console.print(summary.terminal(make(TABLE)[0], runs))
  text = console.export_text()
  for cell in ('60.0 [50.0, 70.0]', '+10.0 [+5.0, +15.0]', '28.0 [19.0, 37.0]'):
    assert cell in text


@pytest.mark.parametrize(
  ('change', 'expected'),
  [((1, 2), True), ((-1, -2), True), ((1, -2), False), ((1, 0), False),
   ((1,), False), ((1, math.nan), False)],
)  # fmt: skip
def test_agree(change, expected):
  assert summary.agree(np.array(change, float)) is expected


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(evaluation='helout'), "evaluation: got 'helout'.*mean 'heldout'"),
    (dict(columns=('rl', 'judge')), "column: got 'judge'.*mean 'judge_only'"),
    (dict(columns=()), r'columns: got \(\); expected a list of names'),
    (dict(metrics='length'), "metrics: got 'length'; expected a list of names"),
    (dict(methods=('majority',)), 'expected evaluation, columns, and metrics'),
    (dict(rows=('a',)), 'expected evaluation, columns, and metrics'),
  ],
)
def test_a_wrong_table_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    make([TABLE | change])


def test_two_phases_have_a_difference():
  evals = {'heldout': dict(after=('cold_start', 'rl'))}
  table = TABLE | dict(columns=('difference',))
  assert summary.make_tables(table, evals)[0].columns == ('difference',)
  evals['heldout']['after'] += ('judge_only',)
  with pytest.raises(
    ValueError, match="column: got 'difference'; expected one"
  ):
    summary.make_tables(table, evals)


@pytest.mark.parametrize('entries', [[], 'heldout', 3, ['heldout'], [TABLE, 3]])
def test_what_is_no_table_is_refused(entries):
  with pytest.raises(ValueError, match='TABLE: got'):
    make(entries)


def test_what_was_not_measured_is_an_error(runs):
  (table,) = make(dict(TABLE, metrics=('balanced verdict acuracy',)))
  with pytest.raises(ValueError, match="mean 'balanced verdict accuracy'"):
    summary.rows(table, runs)
  (table,) = make(dict(CURVES, methods=('best_of', 'majority')))
  with pytest.raises(ValueError, match=r'no selection/best_of@\*'):
    summary.rows(table, runs)
  del runs[1][1]['heldout']
  with pytest.raises(ValueError, match="got 'heldout'; expected one of"):
    summary.rows(make(TABLE)[0], runs)


def test_methods_are_those_of_selection():
  for method in selection.METHODS:
    assert summary.method(f'selection/{method}@16') == (method, 16)


@pytest.fixture
def figures(monkeypatch):
  """Collects the figures that are saved."""
  figures, save = [], Figure.savefig

  def keep(figure, *args, **options):
    figures.append(figure)
    save(figure, *args, **options)

  monkeypatch.setattr(Figure, 'savefig', keep)
  return figures


def test_a_figure_has_each_seed_and_the_mean(runs, tmp_path, figures):
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    path = tmp_path / 'figure.png'
    summary_plots.write(make([TABLE, CURVES]), runs, path)
  assert path.read_bytes().startswith(b'\x89PNG')
  panels = [axes for axes in figures[0].axes if axes.axison]
  assert [axes.get_title(loc='left') for axes in panels] == [
    'balanced verdict accuracy', 'critique length in tokens',
    'selection, cold start', 'selection, rl',
  ]  # fmt: skip
  *seeds, mean = [line.get_ydata() for line in panels[0].lines]
  np.testing.assert_allclose(seeds, 100 * np.array(list(ACCURACY.values())).T)
  np.testing.assert_allclose(mean, [60, 70, 190 / 3])
  np.testing.assert_allclose(panels[1].lines[-1].get_ydata(), [30, 28, 30])
  majority, control = panels[2].lines
  np.testing.assert_allclose(majority.get_ydata(), [40, 60])
  assert control.get_linestyle() == '--'
  band = panels[2].collections[0].get_paths()[0].vertices
  np.testing.assert_allclose(sorted(band[band[:, 0] == 4, 1])[::2], [50, 70])
  assert panels[2].get_ylim() == panels[3].get_ylim()
  legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
  assert legend == ['majority', 'random filtered']


def test_a_figure_of_groups_and_what_is_undefined(runs, tmp_path, figures):
  undefined = Estimate(math.nan, math.nan, math.nan, 0)
  for number, (_, results) in enumerate(runs):
    results['heldout']['rl']['balanced verdict accuracy'] = undefined
    if not number:
      results['heldout']['judge_only'] = results['heldout']['rl']
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    summary_plots.write(make(TABLE), runs, tmp_path / 'figure.png')
  # The judge-only critics of seeds 1 and 2 have 65 and 80.
  mean = figures.pop().axes[0].lines[-1].get_ydata()
  np.testing.assert_allclose(mean, [60, np.nan, 72.5])
  grouped = [
    ({'seed': 0, 'weight': weight}, results)
    for weight, (_, results) in enumerate(runs)
  ]
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    summary_plots.write(make(TABLE), grouped, tmp_path / 'figure.png')
  means = [
    line for line in figures[0].axes[0].lines if line.get_linestyle() == 'None'
  ]
  assert [line.get_label() for line in means] == [
    'weight=0', 'weight=1', 'weight=2'
  ]  # fmt: skip
  assert {line.get_color() for line in means} == set(PALETTE[:3])
  values = np.array([line.get_ydata() for line in means])
  np.testing.assert_allclose(values[:, 0], [50, 60, 70])
  assert np.isnan(values[:, 1]).all()


def test_figures_show_in_the_unit_of_tables(runs, tmp_path, figures):
  table = make(TABLE)
  summary_plots.write(table, runs, tmp_path / 'figure.png')
  for axes, row in zip(
    figures[0].axes, summary.rows(*table, runs), strict=False
  ):
    for x, cell in enumerate(row.cells.values()):
      mean = cell.values.mean()
      text = result_tables.format_estimate(
        Estimate(mean, 0, 0, 3), row.metric, ''
      )
      height = axes.lines[-1].get_ydata()[x]
      assert f'{height:.1f}' == text.split()[0]


def test_titles_tell_evaluations_apart(runs, tmp_path, figures):
  for _, results in runs:
    results['longer'] = results['heldout']
  evaluations = EVALUATIONS | {'longer': EVALUATIONS['heldout']}
  entries = [TABLE, TABLE | dict(evaluation='longer')]
  tables = summary.make_tables(entries, evaluations)
  summary_plots.write(tables, runs, tmp_path / 'figure.png')
  titles = [axes.get_title(loc='left') for axes in figures[0].axes]
  assert titles[1:3] == [
    'heldout: critique length in tokens', 'longer: balanced verdict accuracy'
  ]  # fmt: skip
