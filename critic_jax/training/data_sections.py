"""The sections of data in a config: a run's own, and those of its evaluations.

Their names are checked, and that each split is both given and read, before a
file is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from critic_jax import lookup
from critic_jax.data import sources

_SPLITS = ('train', 'dev', 'test')


def check_section(data: Mapping[str, Any]) -> None:
  """Checks the names in a section of data.

  Raises:
    ValueError: no such source, setting or split, or a setting is missing.
  """
  lookup.bind(sources, data)
  for name in ('paths', 'fractions'):
    value = data.get(name)
    for split in value if hasattr(value, 'items') else ():
      lookup.check_name(f'split of {name}', split, _SPLITS)


def check_splits(config) -> None:
  """Checks that splits with a path are read, and that those read have one.

  Training reads 'train' of the run's own data, an evaluation its `split`. One
  without a path is a share of `paths.train`, or lies in the folder there.

  Args:
    config: the config of a run or of an evaluation; its names were checked.

  Raises:
    ValueError: a split that nothing reads has a path, or one that is read
      has none.
  """
  sections = [('data', config.data, {})]
  if config.get('order'):
    sections[0][2]['train'] = 'training'
  for name, section in config.evals.items():
    setting = f'evals.{name}'
    lookup.check_name(f'{setting}: split', section.split, _SPLITS)
    data = section.data or config.data
    readers = next((r for _, other, r in sections if other == data), None)
    if readers is None:
      readers = {}
      sections.append((f'{setting}.data', data, readers))
    readers.setdefault(section.split, setting)
  for setting, data, readers in sections:
    _check_paths(setting, data.get('paths'), readers)


def _check_paths(setting, paths, readers: Mapping[str, str]) -> None:
  """Raises ValueError if paths are not of the splits in `readers`."""
  if not hasattr(paths, 'items'):  # a mapping or a ConfigDict
    return
  given = {split: path for split, path in paths.items() if path}
  missing = [split for split in readers if split not in given]
  if missing and 'train' not in given:
    split = missing[0]
    raise ValueError(
      f'{setting}.paths: got {given or "none"}; expected {split!r}, too, which '
      f'{readers[split]} reads; write --config.{setting}.paths.{split}=FILE'
    )
  for split in given:
    if split not in readers and not (split == 'train' and missing):
      raise ValueError(
        f'{setting}.paths.{split}: got {given[split]!r}, which nothing reads; '
        f'expected paths of {sorted(readers)}; leave it out, or name the split '
        f'in an evaluation: --config.evals.NAME.split={split}'
      )


def read(data: Mapping[str, Any], name: str = '') -> sources.Splits:
  """Reads a section of data.

  Args:
    data: the section.
    name: that of its evaluation, '' for the run's own data.

  Raises:
    ValueError: a file is wrong; names the flag to type.
  """
  try:
    return lookup.bind(sources, data)()
  except ValueError as error:
    if not name:
      raise
    own = f'--config.evals.{name}.data.'  # sources know the flags of a run
    raise ValueError(str(error).replace('--config.data.', own)) from error
