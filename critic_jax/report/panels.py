"""Which metrics share axes, in which colours, whatever else a run logged."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Columns = Mapping[str, np.ndarray]  # as returned by inspection.reading.metrics

MAX_VALUE = 1e100  # beyond it matplotlib's sums overflow

# (file, title, pattern of metrics, whether each metric gets axes of its own). A
# metric belongs to the first panel whose pattern it matches, and what shares
# axes has one unit: the first part of its name says of what it is.
PANELS = (
  (
    'rewards',
    'Rewards',
    r'(solve|critique|refine)/(reward|judge|refine)$',
    False,
  ),
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

_CONTROLS = ('empty', 'swapped', 'masked')
_STAGES = (
  'solve', 'critique', 'refine', *(f'refine_{name}' for name in _CONTROLS)
)  # fmt: skip
_PARTS = ('step', 'collect', 'update', 'compile', 'grade', 'grade_waited')
# A metric's colour is that of its place among those here of its panel; metrics
# that are not here come after them.
KNOWN = (
  *(f'critique/{name}' for name in ('reward', 'judge', 'refine')),
  *('solve/reward', 'refine/reward'),
  *(f'{stage}/correct' for stage in _STAGES),
  *('critique/judge_right', 'critique/judge_wrong', 'critique/called_wrong'),
  *(f'refine/lift_over_{name}' for name in _CONTROLS),
  *(f'critique/{name}' for name in ('missing', 'contradictory', 'unfinished')),
  'critique/truncated',
  *(f'{stage}/length' for stage in _STAGES),
  *(f'time/{stage}_tokens_per_s' for stage in _STAGES),
  *(f'time/{part}_s' for part in (*_PARTS, *_STAGES)),
)


class Panel(NamedTuple):
  """The metrics of a figure.

  Attributes:
    file: its name, and that of its file.
    title: its title.
    places: the number of each metric's colour, by name, in order.
    apart: whether each metric has axes of its own.
  """

  file: str
  title: str
  places: dict[str, int]
  apart: bool


def find(runs: Sequence[Columns]) -> list[Panel]:
  """Returns the panels that have a metric of the runs."""
  logged = {name for columns in runs for name in columns}
  unassigned = sorted(logged - {'step', 'phase', 'time'} - {*KNOWN})
  unassigned = [*KNOWN, *unassigned]
  panels = []
  for file, title, pattern, apart in PANELS:
    names = [n for n in unassigned if re.match(pattern, n)]
    unassigned = [n for n in unassigned if n not in names]
    places = {
      name: place
      for place, name in enumerate(names)
      if any(has(columns, name) for columns in runs)
    }
    panels += [Panel(file, title, places, apart)] if places else []
  return panels


def has(columns: Columns, name: str) -> bool:
  """Whether a metric has a value that can be drawn."""
  return name in columns and bool(is_drawn(columns[name]).any())


def is_drawn(values: np.ndarray) -> np.ndarray:
  """Returns bool[N]: which values can be drawn; NaN cannot."""
  return np.abs(values) <= MAX_VALUE
