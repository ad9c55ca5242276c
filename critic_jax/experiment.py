"""An experiment's file: a question, the runs of a grid, and a table.

Its docstring begins with the question and ends with the result; then come

    CONFIG = 'configs/refcritic.py:evidence'      as of training's --config
    GRID = grid.sweep('seed', [0, 1, 2])          see configs/grid.py
    TABLE = dict(evaluation='heldout', ...)       see critic_jax/summary.py

A run's folder is named by what its point of the grid changes and nothing else,
so that experiments with the same CONFIG share the runs they have in common.
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
  """A file of experiments/.

  Attributes:
    name: the file's, without its suffix.
    question: the first line of its docstring.
    config: its CONFIG.
    points: its GRID, by the names of the runs' folders.
    table: its TABLE, unchecked.
  """

  name: str
  question: str
  config: str
  points: dict[str, Point]
  table: Any


def load(path: str | Path) -> Experiment:
  """Reads an experiment's file.

  Raises:
    ValueError: it can not be run, or lacks a part.
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
  missing += [] if question.endswith('?') else ['a docstring with a question']
  if missing:
    raise ValueError(
      f'{path}: got no {", ".join(missing)}; expected a question in the first '
      'line of the docstring, CONFIG, GRID and TABLE; see
      'experiments/rewards.py'
    )
  points = [_checked(path, point) for point in found['GRID']]
  names = [point_name(point) for point in points]
  if not points or len(set(names)) < len(names):
    raise ValueError(f'{path}: GRID: got {names}; expected points, each once')
  points = dict(zip(names, points, strict=True))
  stem = Path(path).stem
  return Experiment(stem, question, found['CONFIG'], points, found['TABLE'])


def _checked(path, point) -> Point:
  if not isinstance(point, Mapping) or not point:
    raise ValueError(
      f'{path}: GRID: got the point {point!r}; expected a dict of settings; '
      'sweep the seed at least'
    )
  return point


def point_name(point: Point) -> str:
  """The name of a point's folder; the seed comes last.

  >>> point_name({'seed': 0, 'phases.rl.refine_weight': 0.5})
  'phases.rl.refine_weight=0.5,seed=0'
  """
  names = sorted(point, key=lambda name: (name == 'seed', name))
  text = ','.join(f'{name}={point[name]}' for name in names)
  return re.sub(r'[^\w.,=+-]', '_', text)


def words(point: Point) -> list[str]:
  """The words that set a point's settings on the command line of training."""
  return [f'--config.{name}={value}' for name, value in point.items()]


def read_config(config: str, point: Point) -> ConfigDict:
  """The config of a point, read as training reads it.

  Raises:
    ValueError: no such config or setting, or a value that a setting can not
      have.
  """
  known = _parse(config, [])
  names = dict(_settings(known))
  for name in point:
    if name not in names:
      nearest = difflib.get_close_matches(name, names, n=1)
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
        f'expected a value like {names[name]!r}'
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
  """All dotted names of a config, and what they are set to."""
  for name, value in config.items():
    yield prefix + name, value
    if isinstance(value, (ConfigDict, dict)):
      yield from _settings(value, f'{prefix}{name}.')


def check(experiments: Sequence[Experiment], workdir: Path) -> None:
  """Checks all that can be before a run.

  Raises:
    ValueError: an experiment has another CONFIG, a setting or a table is wrong,
      or a folder holds a run of another config.
  """
  configs = {experiment.config: experiment.name for experiment in experiments}
  if len(configs) > 1:
    raise ValueError(
      f'CONFIG: got {configs}; expected one, as the runs lie in one folder; '
      'launch them apart, with a --workdir each'
    )
  for experiment in experiments:
    try:
      for name, point in experiment.points.items():
        config = read_config(experiment.config, point)
        summary.make_tables(experiment.table, config.evals)
        _check_same(config, workdir / name)
    except ValueError as error:
      raise ValueError(f'{experiment.name}: {error}') from error


def _check_same(config: ConfigDict, folder: Path) -> None:
  """A run that is done is not started, so that training would not tell."""
  path = folder / 'config.json'
  if not path.exists():
    return
  ours = dict(_settings(run_dir.plain(config)))
  saved = dict(_settings(json.loads(path.read_text())))
  differ = [
    name
    for name in sorted(ours.keys() | saved.keys())
    if (name in ours) != (name in saved) or ours.get(name) != saved.get(name)
  ]
  if differ:
    raise ValueError(
      f'{folder}: got a run that differs in {differ[-1]} (and '
      f'{len(differ) - 1} more); expected one of this CONFIG; give another '
      '--workdir or delete it'
    )
