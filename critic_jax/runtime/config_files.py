"""Files of configs: those that are typed as paths, and those installed with us.

`--config` is FILE.py[:VARIANT], a file, or NAME[:VARIANT], a config that comes
with critic_jax: in a checkout a file of `configs/`, which is installed as
`critic_jax/configs`. So `refcritic:tiny` means the same everywhere. Whatever
config is read, it can import ours: `from configs import common`.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path

from critic_jax import lookup


def folder() -> Path:
  """Returns the folder of the configs that come with critic_jax."""
  package = Path(__file__).parents[1]
  installed = package / 'configs'
  return installed if installed.is_dir() else package.parent / 'configs'


def names() -> list[str]:
  """Returns the names of the configs that come with critic_jax, sorted."""
  return sorted(
    path.stem
    for path in folder().glob('*.py')
    if '\ndef get_config(' in path.read_text()
  )


def find(config: str) -> str:
  """Finds the file of a config, and makes ours importable for it.

  Args:
    config: FILE.py, NAME, or either with ':VARIANT' behind it.

  Returns:
    FILE.py or FILE.py:VARIANT.

  Raises:
    ValueError: there is no such file or name.
  """
  name, colon, variant = config.partition(':')
  if re.fullmatch(r'[\w-]+', name):
    lookup.check_name('name of a config', name, names())
    path = folder() / f'{name}.py'
  else:
    path = Path(name)
  if not path.is_file():
    raise ValueError(
      f'got {config!r}, which is no file in {Path.cwd()}; expected '
      'FILE.py[:VARIANT], or NAME[:VARIANT] of a config that comes with '
      f'critic_jax: {", ".join(names())}'
    )
  make_importable(path.parent)
  return f'{path}{colon}{variant}'


def make_importable(beside: Path) -> None:
  """Makes the modules of our configs importable as `configs`.

  Those of a folder `configs` come first, for the files that lie in it.

  Args:
    beside: the folder of the file that may import them.
  """
  beside = beside.resolve()
  paths = [str(beside)] if beside.name == 'configs' else []
  paths.append(str(folder().resolve()))
  try:
    module = importlib.import_module('configs')
  except ModuleNotFoundError:
    module = sys.modules['configs'] = types.ModuleType('configs')
  paths += getattr(module, '__path__', ())
  module.__path__ = list(dict.fromkeys(paths))


def in_arguments(arguments: Sequence[str]) -> list[str]:
  """Returns a command line with the file of its `--config` found.

  >>> in_arguments(['train', '--workdir=a', '--config.seed=1'])
  ['train', '--workdir=a', '--config.seed=1']

  Raises:
    ValueError: as `find`.
  """
  words, is_next = [], False
  for word in arguments:
    flag, equals, value = word.partition('=')
    is_config = flag in ('-config', '--config')
    if is_next:
      word = find(word)
    elif is_config and equals:
      word = f'{flag}={find(value)}'
    words.append(word)
    is_next = is_config and not equals and not is_next
  return words
