"""Estimates as text and as tables of the terminal."""

import io
import math

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
