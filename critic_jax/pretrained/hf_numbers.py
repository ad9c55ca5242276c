"""Numbers of a `config.json`, which may hold anything."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

# A limit, since the names of all layers' parameters are listed first.
_MOST = {'num_hidden_layers': 10_000}
_MAX = {int: 2**31 - 1, float: 1e30}


def number(source: Mapping[str, Any], key: str, kind: type, default=None):
  """Reads a positive number of type `kind`; None counts as absent.

  Raises:
    ValueError: it is missing and has no default, or is none.
  """
  value = source.get(key)
  value = default if value is None else value
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  largest = _MOST.get(key, _MAX[kind])
  if not is_number or not 0 < value <= largest or kind(value) != value:
    raise ValueError(
      f'config.json: got {key}={reprlib.repr(value)}; expected a positive '
      f'{kind.__name__}, at most {largest:g}'
    )
  return kind(value)
