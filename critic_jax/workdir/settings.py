"""A config as JSON has it: its settings by dotted names, and what differs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ABSENT = object()  # of a setting that one of two configs lacks
_LAYOUTS = ('mesh', 'sample_mesh')  # how a run is computed, not what


def plain(value: Any) -> Any:
  """`value` as JSON has it: dicts with string keys, lists, scalars.

  Raises:
    ValueError: something in it has no such form.
  """
  if hasattr(value, '_asdict'):  # a NamedTuple, e.g. an Estimate
    value = value._asdict()
  if hasattr(value, 'items'):  # a mapping or a ConfigDict
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  if hasattr(value, 'tolist'):  # numpy and jax arrays and scalars
    return plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  if isinstance(value, Path):
    return str(value)
  if value is None or isinstance(value, (str, bool, int, float)):
    return value
  raise ValueError(
    f'value: got {value!r} of type {type(value).__name__}; expected what JSON '
    'has: None, bool, int, float, str, lists and dicts of them'
  )


def differences(ours: Any, saved: Any) -> dict[str, tuple[Any, Any]]:
  """The settings in which two configs differ: both values, or `ABSENT`."""
  ours, saved = dict(leaves(ours)), dict(leaves(saved))
  pairs = {
    name: (ours.get(name, ABSENT), saved.get(name, ABSENT))
    for name in sorted(ours.keys() | saved.keys())
  }
  return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def leaves(value: Any, name: str = '') -> Iterator[tuple[str, Any]]:
  """The settings of a config as JSON has it: dotted names and values."""
  if isinstance(value, dict) and value:
    for key, child in value.items():
      yield from leaves(child, f'{name}.{key}' if name else key)
  else:
    yield name, value


def check_same(ours: Any, saved: Any, path: Path) -> None:
  """Refuses a config that would not continue the run of another.

  How arrays are laid out on devices may differ.

  Raises:
    ValueError: names every setting that differs, with both values, and `path`,
      which `saved` was read from.
  """
  differ = [
    f'{name}={_show(own)} (saved: {_show(other)})'
    for name, (own, other) in differences(ours, saved).items()
    if name.partition('.')[0] not in _LAYOUTS
  ]
  if differ:
    raise ValueError(
      f'config: got {", ".join(differ)}; expected the values in {path}; '
      'restore them or give another folder'
    )


def _show(value: Any) -> str:
  return '(absent)' if value is ABSENT else json.dumps(value)
