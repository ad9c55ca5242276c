"""The Python of each peer: a virtual environment of its own, made on demand.

`peers/<name>.txt` pins its packages; its first line may ask for a newer Python
than this one. An environment that exists already is used as it is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PEERS = Path(__file__).with_name('peers')
# A peer has its worker's script and the list of its packages in `peers`.
NAMES = tuple(sorted(path.stem for path in PEERS.glob('*.txt')))


def script(name: str) -> Path:
  """Returns the path of a peer's worker."""
  return PEERS / f'{name}.py'


def python(
  name: str,
  directory: Path,
  run: Callable[..., object] = subprocess.run,
  say: Callable[[str], None] = print,
) -> str:
  """Returns the interpreter of a peer's environment, and makes it if needed.

  Args:
    name: the peer's name.
    directory: the folder of the environments.
    run: `subprocess.run`.
    say: is called with a line before something is installed.

  Raises:
    ValueError: the environment could not be made; none is left.
  """
  folder = directory.resolve() / name
  interpreter = folder / 'bin' / 'python'
  if interpreter.exists():
    return str(interpreter)
  packages = PEERS / f'{name}.txt'
  base = _new_enough(name, packages, run)
  say(f'installing {name} in {folder}')
  commands = (
    [base, '-m', 'venv', str(folder)],
    [str(interpreter), '-m', 'pip', 'install', '-q', '-r', str(packages)],
  )
  for command in commands:
    try:
      run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
      shutil.rmtree(folder, ignore_errors=True)
      output = (getattr(error, 'stderr', '') or str(error)).strip()
      last_line = output.splitlines()[-1] if output else ''
      raise ValueError(
        f'{name}: got {last_line!r} from {" ".join(command)}; expected an '
        f'environment in {folder}; make one there by hand'
      ) from error
  return str(interpreter)


def _new_enough(name, packages: Path, run) -> str:
  """Returns an interpreter that the packages allow: this one, or a newer.

  Raises:
    ValueError: there is none on the PATH.
  """
  asked = re.match(r'# python >= 3\.(\d+)', packages.read_text())
  minor = int(asked[1]) if asked else 0
  if sys.version_info >= (3, minor):
    return sys.executable
  for number in range(minor, minor + 4):
    if interpreter := shutil.which(f'python3.{number}'):
      try:  # a shim may stand for a version that is not chosen
        run([interpreter, '-c', ''], check=True, capture_output=True)
      except (OSError, subprocess.CalledProcessError):
        continue
      return interpreter
  raise ValueError(
    f'{name}: got Python 3.{sys.version_info.minor}; expected 3.{minor} or '
    'newer on the PATH for its environment; install one'
  )
