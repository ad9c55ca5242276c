"""Checks a file that holds a statement: a command like `lean FILE`.

    python -m critic_jax.tasks.formal_checker FILE

The exit code is 0 if `formal_language` accepts it; else 1, and the first error
is printed as `FILE:LINE:COLUMN: error: MESSAGE`.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

from critic_jax.tasks import formal_language
from critic_jax.terminal import printable


def main(arguments: Sequence[str]) -> int:
  """Prints the error of a file; returns the exit code."""
  if len(arguments) != 1:
    print('usage: python -m critic_jax.tasks.formal_checker FILE')
    return 2
  [path] = arguments
  error = formal_language.check(pathlib.Path(path).read_text(errors='replace'))
  if error:
    print(printable(f'{path}:{error}'))
  return int(bool(error))


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
