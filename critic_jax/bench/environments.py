"""The Python of each peer: a virtual environment of its own, made on demand.

`peers/<name>.txt` pins what is installed in it. An environment that is there
already is used as it is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PEERS = Path(__file__).with_name('peers')
# What each needs of a peer: the worker's script, and the list to install.
NAMES = tuple(sorted(path.stem for path in PEERS.glob('*.txt')))


def script(name: str) -> Path:
  """The worker of a peer."""
  return PEERS / f'{name}.py'


def python(
  name: str,
  directory: Path,
  run: Callable[..., object] = subprocess.run,
  say: Callable[[str], None] = print,
) -> str:
  """The interpreter of a peer's environment, which is made if it is not there.

  Args:
    name: of the peer.
    directory: holds the environments by name.
    run: `subprocess.run`.
    say: is told before something is installed.

  Raises:
    ValueError: the environment could not be made; none is left.
  """
  folder = directory.resolve() / name
  interpreter = folder / 'bin' / 'python'
  if interpreter.exists():
    return str(interpreter)
  packages = PEERS / f'{name}.txt'
  say(f'installing {name} in {folder}')
  commands = (
    [sys.executable, '-m', 'venv', str(folder)],
    [str(interpreter), '-m', 'pip', 'install', '-q', '-r', str(packages)],
  )
  for command in commands:
    try:
      run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
      shutil.rmtree(folder, ignore_errors=True)
      said = (getattr(error, 'stderr', '') or str(error)).strip()
      last = said.splitlines()[-1] if said else ''
      raise ValueError(
        f'{name}: got {last!r} from {" ".join(command)}; expected an '
        f'environment in {folder}; make one there by hand'
      ) from error
  return str(interpreter)
