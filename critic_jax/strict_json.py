"""Untrusted JSON, read to a value or refused with a ValueError.

Python's reader also raises RecursionError, at some thousand levels, and so do
functions that walk through a value of nearly as many.
"""

from __future__ import annotations

import json
import os
from typing import Any

from critic_jax import files

MAX_DEPTH = 100
MAX_BYTES = 500_000_000  # of a file; a large vocabulary takes 40 million


def loads(content: bytes | str) -> Any:
  """Returns the value of a text.

  Raises:
    ValueError: it is broken, not UTF-8 or nested too deep; the message says
      which.
  """
  try:
    value = json.loads(content)
    # Walk the levels without recursion.
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
      contents = [v.values() if isinstance(v, dict) else v for v in level]
      level = [v for vs in contents for v in vs if isinstance(v, dict | list)]
      if not level:
        return value
  except RecursionError:
    pass
  raise ValueError(f'lists or objects of more than {MAX_DEPTH} levels')


def read(path: str | os.PathLike) -> dict[str, Any]:
  """Reads the object of a JSON file.

  Raises:
    ValueError: the file holds another value, or more than `MAX_BYTES`.
    FileNotFoundError: there is none.
  """
  other = None
  with files.opened(path) as file:
    try:
      size = os.fstat(file.fileno()).st_size
      if size > MAX_BYTES:
        raise ValueError(f'more than {MAX_BYTES} bytes')
      content = file.read(size)
      if other := files.other_format(content):
        raise ValueError(other[0])
      value = loads(content)
      if not isinstance(value, dict):
        raise ValueError(f'a JSON {type(value).__name__}')
    except ValueError as error:
      advice = f'; {other[1]}' if other else ''
      raise ValueError(
        f'{path}: got {error}; expected a JSON object{advice}'
      ) from None
  return value
