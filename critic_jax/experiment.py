"""An experiment's file: a question, the runs of a grid, and a table.

Its docstring begins with the question and ends with the result; then come

    CONFIG = 'configs/refcritic.py:evidence'    as of training's --config
    GRID = grid.sweep('seed', [0, 1, 2])        see configs/grid.py
    TABLE = dict(evaluation='heldout', ...)     see critic_jax/summary.py

A run's folder is named by what its point of the grid sets and nothing else, so
that experiments with the same CONFIG share the runs that they have in common.
"""

from __future__ import annotations

import difflib
import json
import re
import runpy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from critic_jax import run_dir, summary

Point = Mapping[str, Any]  # {dotted name of a setting: value}


class Experiment(NamedTuple):
  """A file of experiments/, checked.

  Attributes:
    name: the file's, without its suffix.
    question: the first line of its docstring.
    config: its CONFIG.
    points: its GRID, by the names of the runs' folders.
    configs: of the points, by the same names.
    tables: its TABLE.
  """

  name: str
  question: str
  config: str
  points: dict[str, Point]
  configs: dict[str, ConfigDict]
  tables: list[summary.Table]


def load(path: str | Path) -> Experiment:
  """Reads and checks an experiment's file.

  Raises:
    ValueError: it can not be run or lacks a part, its config has no such
      setting, or its table asks for what the config does not measure.
  """
  try:
    found = runpy.run_path(str(path))
  except Exception as error:  # whatever is wrong in it
    raise ValueError(
      f'{path}: got {type(error).__name__}: {error}; expected a Python file '
      'that can be run'
    ) from error
  question = (found['__doc__'] or '').strip().partition('\n')[0]
  missing = [k for k in ('CONFIG', 'GRID', 'TABLE') if k not in found]
  missing += [] if question.endswith('?') else ['question']
  if missing:
    raise ValueError(
      f'{path}: got no {", ".join(missing)}; expected CONFIG, GRID, TABLE and, '
      'in the first line of the docstring, a question; see '
      'experiments/rewards.py'
    )
  config = found['CONFIG']
  try:
    points = _points(found['GRID'])
    configs = {name: read_config(config, p) for name, p in points.items()}
    evaluations = next(iter(configs.values())).evals
    tables = summary.make_tables(found['TABLE'], evaluations)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  stem = Path(path).stem
  return Experiment(stem, question, config, points, configs, tables)


def _points(grid) -> dict[str, Point]:
  points = {}
  for point in grid:
    if not isinstance(point, Mapping) or not point:
      raise ValueError(
        f'GRID: got the point {point!r}; expected a dict of settings, the seed '
        'at least'
      )
    name = point_name(point)
    if name in points:
      raise ValueError(f'GRID: got {name} twice; expected each point once')
    points[name] = point
  if not points:
    raise ValueError('GRID: got no points; expected one or more')
  return points


def point_name(point: Point) -> str:
  """The name of a point's folder; the seed comes last.

  >>> point_name({'seed': 0, 'phases.rl.refine_weight': 0.5})
  'phases.rl.refine_weight=0.5,seed=0'
  """
  names = sorted(point, key=lambda name: (name == 'seed', name))
  text = ','.join(f'{name}={point[name]}' for name in names)
  return re.sub(r'[^\w.,=+-]', '_', text)


def words(point: Point) -> list[str]:
  """What sets a point's settings on the command line of training."""
  return [f'--config.{name}={value}' for name, value in point.items()]


def read_config(config: str, point: Point) -> ConfigDict:
  """The config of a point, read as training reads it.

  Raises:
    ValueError: no such config or setting, or a value that it can not have.
  """
  defaults = dict(_settings(_parse(config, [])))
  for name in point:
    if name not in defaults:
      nearest = difflib.get_close_matches(name, defaults, n=1)
      hint = f'; did you mean {nearest[0]!r}?' if nearest else ''
      raise ValueError(
        f'GRID: got {name!r}; expected a setting of {config}{hint}'
      )
  read = _parse(config, words(point))
  values = dict(_settings(read))
  for name, value in point.items():
    if values[name] != value:
      raise ValueError(
        f'GRID: got {name}={value!r}, which reads as {values[name]!r}; '
        f'expected a value like {defaults[name]!r}'
      )
  return read


def _parse(config: str, settings: Sequence[str]) -> ConfigDict:
  """What training's command line makes of --config and settings."""
  arguments = ['launch', f'--config={config}', *settings]
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    'config', flag_values=values, sys_argv=arguments
  )
  try:
    values(arguments)
    holder.value.items()  # only now a file that was not found is an error
  except Exception as error:  # whatever a config's file raises
    last = str(error).strip().splitlines()[-1].strip()
    raise ValueError(f'CONFIG {config}: {last}') from error
  return holder.value


def _settings(config, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """All dotted names of a config, of sections too, and their values."""
  for name, value in config.items():
    yield prefix + name, value
    if hasattr(value, 'items'):
      yield from _settings(value, f'{prefix}{name}.')


def check_folders(experiments: Sequence[Experiment], workdir: Path) -> None:
  """Checks that the runs of several experiments can lie in one folder.

  Training would refuse to continue a run with another config; but one that is
  done is not started again, and its results would be taken for this config's.

  Raises:
    ValueError: the experiments differ in CONFIG, or a folder holds a run of
      another config.
  """
  used = {experiment.name: experiment.config for experiment in experiments}
  if len(set(used.values())) > 1:
    raise ValueError(
      f'CONFIG: got {used}; expected the same, as the runs lie in one folder; '
      'launch them apart, each with its --workdir'
    )
  for experiment in experiments:
    for name, config in experiment.configs.items():
      path = workdir / name / 'config.json'
      if path.exists():
        _check_same(config, json.loads(path.read_text()), path.parent)


def _check_same(config, saved, folder) -> None:
  differ = list(run_dir.differences(run_dir.plain(config), saved))
  if differ:
    raise ValueError(
      f'{folder}: got a run that differs in {len(differ)} settings '
      f'({", ".join(differ[:3])}...); expected one of the same config; move it '
      'away or give another --workdir'
    )
