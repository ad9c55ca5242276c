"""An experiment's file: a question, the runs of a grid, and a table.

Its docstring begins with the question and ends with the result; then come

    CONFIG = 'configs/refcritic.py:evidence'    as of training's --config
    GRID = grid.sweep('seed', [0, 1, 2])        see configs/grid.py
    TABLE = dict(evaluation='heldout', ...)     see critic_jax/report/summary.py

A run is known by all its settings, not by who asked for it: its folder is named
by what differs from CONFIG and by a digest of the whole config,

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
from critic_jax.workdir import settings as settings_lib

_MAX_LABEL = 160  # characters; a digest tells longer ones apart
_MAX_NAME = 255  # of a file, on most file systems

Point = Mapping[str, Any]  # {dotted name of a setting: value}


class Run(NamedTuple):
  """A point of a grid, read.

  Attributes:
    config: the experiment's CONFIG.
    point: what is set.
    settings: the whole config that comes of it.
    label: what the point changes in CONFIG, and its seed.
  """

  config: str
  point: Point
  settings: ConfigDict
  label: str

  @property
  def digest(self) -> str:
    """Of all settings; 8 hexadecimal digits."""
    text = json.dumps(settings_lib.plain(self.settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]

  @property
  def name(self) -> str:
    """Of the folder."""
    return f'{self.label}-{self.digest}'


class Experiment(NamedTuple):
  """A file of experiments/, checked.

  Attributes:
    name: the file's, without its suffix.
    question: the first line of its docstring.
    runs: of its GRID, in order.
    tables: its TABLE.
  """

  name: str
  question: str
  runs: list[Run]
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
  try:
    runs = _runs(found['CONFIG'], found['GRID'])
    tables = summary.make_tables(found['TABLE'], runs[0].settings.evals)
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
  """A point as part of a folder's name; the seed comes last.

  >>> point_name({'seed': 0, 'phases.rl.refine_weight': 0.5})
  'phases.rl.refine_weight=0.5,seed=0'
  """
  names = sorted(point, key=lambda name: (name == 'seed', name))
  text = ','.join(f'{name}={point[name]}' for name in names)
  return re.sub(r'[^\w.,=+-]', '_', text)


def words(point: Point) -> list[str]:
  """What sets a point's settings on the command line of training."""
  return [f'--config.{name}={value}' for name, value in point.items()]


def read(config: str, point: Point) -> Run:
  """A point and the config of it, read as training reads it.

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
  settings = _parse(config, words(point))
  values = dict(_settings(settings))
  for name, value in point.items():
    if values[name] != value:
      raise ValueError(
        f'GRID: got {name}={value!r}, which reads as {values[name]!r}; '
        f'expected a value like {defaults[name]!r}'
      )
  told = {
    name: values[name]
    for name in point
    if name == 'seed' or values[name] != defaults[name]
  }
  label = point_name(told)[:_MAX_LABEL] or 'default'
  return Run(config, point, settings, label)


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


def folder(run: Run, workdir: Path) -> Path:
  """The run's folder in `workdir`: the one that is there, or will be made.

  One that was named by the point alone, before names had digests, or by another
  CONFIG with the same settings, is as good.

  Raises:
    ValueError: it holds a run with other settings. Training would refuse to
      continue it, but what is done is not started again, and its results would
      be taken for this run's.
  """
  ours, old = workdir / run.name, workdir / point_name(run.point)[:_MAX_NAME]
  others = sorted(workdir.glob(f'*-{run.digest}'))
  there = [p for p in (ours, *others, old) if (p / 'config.json').exists()]
  if not there:
    return ours
  saved = strict_json.read(there[0] / 'config.json')
  if differ := differences(run, saved):
    raise ValueError(
      f'{there[0]}: got a run that differs in {len(differ)} settings '
      f'({", ".join(differ[:3])}...); expected one of the same config; move it '
      'away or give another --workdir'
    )
  return there[0]


def differences(run: Run, saved: Mapping[str, Any]) -> list[str]:
  """The names of the settings in which a saved config differs from a run's."""
  return list(settings_lib.differences(settings_lib.plain(run.settings), saved))
