"""Estimates as text and as tables of the terminal."""

import io
import math

import pytest
from rich.console import Console

from critic_jax.evals.statistics import Estimate
from critic_jax.report import result_tables


def test_format_estimate():
  estimate = Estimate(0.6134, 0.55, 0.671, 10)
  assert result_tables.format_estimate(estimate, 'accuracy', 'RL') == (
    '61.3 [55.0, 67.1]'
  )
  change = Estimate(0.02, -0.011, 0.05, 10)
  assert result_tables.format_estimate(change, 'accuracy', 'difference') == (
    '+2.0 [-1.1, +5.0]'
  )
  length = Estimate(120.25, 100.0, 140.0, 10)
  assert result_tables.format_estimate(length, 'length in tokens', 'RL') == (
    '120.2 [100.0, 140.0]'
  )
  empty_estimate = Estimate(math.nan, math.nan, math.nan, 0)
  assert result_tables.format_estimate(empty_estimate, 'a', 'RL') == '–'
  assert result_tables.format_estimate(None, 'a', 'RL') == '–'


def test_results_table():
  results = {
    'cold start': {'accuracy': Estimate(0.5, 0.4, 0.6, 9)},
    'RL': {'accuracy': Estimate(0.9, 0.8, 1.0, 9), 'f1': Estimate(1, 1, 1, 9)},
  }
  console = Console(width=100, record=True, file=io.StringIO())
  console.print(result_tables.results_table(results, 'Critic'))
  lines = [line.split('  ') for line in console.export_text().splitlines()]
  cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
  assert ['cold start', 'RL'] in cells
  assert ['accuracy', '50.0 [40.0, 60.0]', '90.0 [80.0, 100.0]'] in cells
  assert ['f1', '–', '100.0 [100.0, 100.0]'] in cells


def ten_columns():
  """Estimates of ten critics and a difference, whose numbers have signs."""
  names = ['difference', *(f'critic_{i}' for i in range(10))]
  return {
    name: {
      'balanced verdict accuracy': Estimate(0.9, 0.05 * i, 1.0, 9),
      'critique length in tokens': Estimate(120.25, 100.0, 140.0, 9),
    }
    for i, name in enumerate(names)
  }


@pytest.mark.parametrize('width', [*range(50, 130), 300])
def test_more_columns_than_a_line_holds_go_on_below(width):
  """As after ten phases in a terminal of 80 characters: no number is cut."""
  columns = ten_columns()
  console = Console(width=width, record=True, file=io.StringIO())
  console.print(result_tables.results_table(columns, 'Critics'))
  text = console.export_text()
  for column, rows in columns.items():
    assert text.count(column) == 1
    for row, estimate in rows.items():
      assert result_tables.format_estimate(estimate, row, column) in text
  assert text.count('Critics') == text.count('percent') == 1
  heads = [line for line in text.splitlines() if 'critic_' in line]
  heads += [] if 'critic_' in heads[0] else ['difference']
  assert text.count('balanced') == text.count('critique') >= len(heads)
  assert (len(heads) == 1) == (width == 300)


def test_names_are_no_markup_for_the_terminal():
  estimate = Estimate(0.5, 0.4, 0.6, 9)
  table = result_tables.results_table(
    {'[/a]': {'[red]\x1b[1m': estimate}}, '[b]x'
  )
  out = io.StringIO()
  Console(file=out, width=80).print(table)
  text = out.getvalue()
  assert '[/a]' in text and '[red]\ufffd[1m' in text and '[b]x' in text
  assert '\x1b' not in text
