"""An experiment's file: a question, the runs of a grid, and a table.

Its docstring begins with the question and ends with the result; then come

    CONFIG = 'configs/evidence.py:critics'    as training's --config
    GRID = grid.sweep('seed', [0, 1, 2])        see configs/grid.py
    TABLE = dict(evaluation='heldout', ...)     see critic_jax/report/summary.py

All its settings identify a run, whichever experiment has it: its folder is
named by its differences from CONFIG and by a digest of the whole config,

    phases.rl.refine_weight=0.5,seed=0-7c9e2a41

so the same settings are the same folder, whichever experiment or CONFIG they
come from, and a config that was changed since makes another.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import runpy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from critic_jax import strict_json
from critic_jax.report import summary
from critic_jax.runtime import config_files
from critic_jax.workdir import settings as settings_lib

_MAX_LABEL = 160  # characters; a digest tells longer ones apart
_MAX_NAME = 255  # bytes of a file's name, on most file systems

Point = Mapping[str, Any]  # {dotted name of a setting: value}


class Run(NamedTuple):
  """A point of a grid and its config.

  Attributes:
    config: the experiment's CONFIG.
    point: the settings of the point.
    settings: the whole config.
    label: the settings in which the point differs from CONFIG, and its seed.
  """

  config: str
  point: Point
  settings: ConfigDict
  label: str

  @property
  def digest(self) -> str:
    """Returns the digest of all settings, 8 hexadecimal digits."""
    text = json.dumps(settings_lib.plain(self.settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]

  @property
  def name(self) -> str:
    """Returns the name of the folder."""
    return f'{self.label}-{self.digest}'


class Experiment(NamedTuple):
  """A file of experiments/, checked.

  Attributes:
    name: the file's name without its suffix.
    question: the first line of its docstring.
    runs: the runs of its GRID, in order.
    tables: the tables of its TABLE.
  """

  name: str
  question: str
  runs: list[Run]
  tables: list[summary.Table]


def load(path: str | Path) -> Experiment:
  """Reads and checks an experiment's file.

  Raises:
    ValueError: the file fails or lacks a part, its config has no such setting,
      or its config does not measure what its table shows.
  """
  config_files.make_importable(Path(path).parent)
  try:
    names = runpy.run_path(str(path))
  except Exception as error:  # whatever is wrong in it
    raise ValueError(
      f'{path}: got {type(error).__name__}: {error}; expected a Python file '
      'that can be run'
    ) from error
  question = (names['__doc__'] or '').strip().partition('\n')[0]
  missing_parts = [k for k in ('CONFIG', 'GRID', 'TABLE') if k not in names]
  missing_parts += [] if question.endswith('?') else ['question']
  if missing_parts:
    raise ValueError(
      f'{path}: got no {", ".join(missing_parts)}; expected CONFIG, GRID, '
      'TABLE and, in the first line of the docstring, a question; see '
      'experiments/rewards.py'
    )
  try:
    runs = _runs(names['CONFIG'], names['GRID'])
    tables = summary.make_tables(names['TABLE'], runs[0].settings.evals)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return Experiment(Path(path).stem, question, runs, tables)


def _runs(config: str, grid) -> list[Run]:
  runs = {}
  for point in grid:
    if not isinstance(point, Mapping) or not point:
      raise ValueError(
        f'GRID: got the point {point!r}; expected a dict of settings, the seed '
        'at least'
      )
    run = read(config, point)
    if run.digest in runs:
      raise ValueError(
        f'GRID: got {dict(runs[run.digest].point)} and {dict(point)}, the same '
        'settings; expected each point once'
      )
    runs[run.digest] = run
  if not runs:
    raise ValueError('GRID: got no points; expected one or more')
  return list(runs.values())


def point_name(point: Point) -> str:
  """Returns a point as part of a folder's name; the seed comes last.

  >>> point_name({'seed': 0, 'phases.rl.refine_weight': 0.5})
  'phases.rl.refine_weight=0.5,seed=0'
  """
  names = sorted(point, key=lambda name: (name == 'seed', name))
  text = ','.join(f'{name}={point[name]}' for name in names)
  return re.sub(r'[^\w.,=+-]', '_', text)


def words(point: Point) -> list[str]:
  """Returns the words that set a point on the command line of training."""
  return [f'--config.{name}={value}' for name, value in point.items()]


def read(config: str, point: Point) -> Run:
  """Reads a point and its config as training reads them.

  Raises:
    ValueError: no such config or setting, or a value that it can not have.
  """
  # Refuse settings that the config lacks.
  defaults = dict(_settings(_parse(config, [])))
  for name in point:
    if name not in defaults:
      nearest = difflib.get_close_matches(name, defaults, n=1)
      hint = f'; did you mean {nearest[0]!r}?' if nearest else ''
      raise ValueError(
        f'GRID: got {name!r}; expected a setting of {config}{hint}'
      )

  # Refuse values that training would read as others.
  settings = _parse(config, words(point))
  values = dict(_settings(settings))
  for name, value in point.items():
    if values[name] != value:
      raise ValueError(
        f'GRID: got {name}={value!r}, which reads as {values[name]!r}; '
        f'expected a value like {defaults[name]!r}'
      )

  # Name the run by its differences from the config.
  changes = {
    name: values[name]
    for name in point
    if name == 'seed' or values[name] != defaults[name]
  }
  label = point_name(changes)[:_MAX_LABEL] or 'default'
  return Run(config, point, settings, label)


def _parse(config: str, settings: Sequence[str]) -> ConfigDict:
  """Makes a config as training's command line does of --config and settings."""
  try:
    arguments = ['launch', f'--config={config_files.find(config)}', *settings]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file(
      'config', flag_values=values, sys_argv=arguments
    )
    values(arguments)
    holder.value.items()  # only now a file that was not found is an error
  except Exception as error:  # whatever a config's file raises
    last = str(error).strip().splitlines()[-1].strip()
    raise ValueError(f'CONFIG {config}: {last}') from error
  return holder.value


def _settings(config, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Yields dotted names and values of a config, its sections included."""
  for name, value in config.items():
    yield prefix + name, value
    if hasattr(value, 'items'):
      yield from _settings(value, f'{prefix}{name}.')


def folder(run: Run, workdir: Path) -> Path:
  """Returns the run's folder in `workdir`, which exists or will be made.

  An existing folder that was named by the point alone, before names had
  digests, or by another CONFIG with the same settings, is as good.

  Raises:
    ValueError: the folder holds a run with other settings. Training would
      refuse to continue it, but a run that is done is not started again, and
      its results would be taken for this run's.
  """
  path, old_path = (
    workdir / name for name in (run.name, point_name(run.point)[:_MAX_NAME])
  )
  same_digest = sorted(workdir.glob(f'*-{run.digest}'))
  candidates = (path, *same_digest, old_path)
  existing = [p for p in candidates if (p / 'config.json').exists()]
  if not existing:
    return path
  saved = strict_json.read(existing[0] / 'config.json')
  if names := differences(run, saved):
    raise ValueError(
      f'{existing[0]}: got a run that differs in {len(names)} settings '
      f'({", ".join(names[:3])}...); expected one of the same config; move it '
      'away or give another --workdir'
    )
  return existing[0]


def differences(run: Run, saved: Mapping[str, Any]) -> list[str]:
  """Returns the settings in which a saved config differs from a run's."""
  return list(settings_lib.differences(settings_lib.plain(run.settings), saved))
