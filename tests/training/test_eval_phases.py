"""What evaluations show: also what was not measured."""

import dataclasses
import io
import types

from loop_helpers import nano, solution
from rich.console import Console

from critic_jax.training import eval_phases
from critic_jax.workdir import run_dir


def show(path, records):
  """Returns the console's text of an evaluation with such records."""
  folder = run_dir.RunDir(path)
  run_dir.write_records(
    eval_phases.records_path(path, 'heldout', 'rl'), records
  )
  output = io.StringIO()
  evaluation = types.SimpleNamespace(
    name='heldout',
    config=types.SimpleNamespace(num_refinements=0),
    examples=records,
  )
  console = Console(file=output, width=999)
  eval_phases.show_results(folder, evaluation, ['rl'], console)
  return output.getvalue()


def test_what_no_prompt_had_room_for_is_told(tmp_path):
  whole, *others = (solution(nano()) for _ in range(3))
  refused = [dataclasses.replace(other, finish='prompt') for other in others]
  text = show(tmp_path, [whole, *refused])
  assert "warning: heldout rl: 2 of 3 records of 'solve' were refused" in text
  assert 'warning' not in show(tmp_path, [whole])
