"""JSON that nobody vouches for: what it holds, or a ValueError.

Python's reader also raises RecursionError, at some thousand levels, and so does
what walks through a value that it just managed.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

MAX_DEPTH = 100
MAX_BYTES = 500_000_000  # of a file; a large vocabulary takes 40 million


def loads(content: bytes | str) -> Any:
  """The value of a text.

  Raises:
    ValueError: it is broken, not UTF-8 or nested too deep; says which.
  """
  try:
    value = json.loads(content)
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
      held = [v.values() if isinstance(v, dict) else v for v in level]
      level = [v for vs in held for v in vs if isinstance(v, dict | list)]
      if not level:
        return value
  except RecursionError:
    pass
  raise ValueError(f'lists or objects of more than {MAX_DEPTH} levels')


def read(path: str | os.PathLike) -> dict[str, Any]:
  """The object that a file holds.

  Raises:
    ValueError: it holds something else, or more than `MAX_BYTES`.
    OSError: there is no such file.
  """
  try:
    with pathlib.Path(path).open('rb') as file:
      size = os.fstat(file.fileno()).st_size
      if size > MAX_BYTES:
        raise ValueError(f'more than {MAX_BYTES} bytes')
      value = loads(file.read(size))
    if not isinstance(value, dict):
      raise ValueError(f'a JSON {type(value).__name__}')
  except ValueError as error:
    raise ValueError(f'{path}: got {error}; expected a JSON object') from None
  return value
