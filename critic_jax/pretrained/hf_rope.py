"""Rotary positions in `config.json`, to and from `TransformerConfig`.

Older files have `rope_theta` and `rope_scaling`; transformers 5 has both in
`rope_parameters`, which models with windows have once for each kind of layer.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Mapping
from typing import Any

from critic_jax.models.config import (
  LinearScaling,
  RopeScaling,
  TransformerConfig,
  YarnScaling,
)
from critic_jax.pretrained.hf_numbers import number

# `rope_type` -> the class, and the key of each field.
_SCALINGS = {
  'linear': (LinearScaling, {'factor': 'factor'}),
  'llama3': (
    RopeScaling,
    {
      'factor': 'factor',
      'low_freq_factor': 'low_freq_factor',
      'high_freq_factor': 'high_freq_factor',
      'original_max_len': 'original_max_position_embeddings',
    },
  ),
  'yarn': (
    YarnScaling,
    {
      'factor': 'factor',
      'original_max_len': 'original_max_position_embeddings',
      'amplitude': 'attention_factor',
      'beta_fast': 'beta_fast',
      'beta_slow': 'beta_slow',
      'truncate': 'truncate',
    },
  ),
}
_KINDS = ('full_attention', 'sliding_attention')


def read(hf_config: Mapping[str, Any], has_local: bool) -> dict[str, Any]:
  """Reads the fields of `TransformerConfig` that are about rotary positions.

  Args:
    hf_config: the contents of `config.json`.
    has_local: whether layers with windows have a base of their own.

  Raises:
    ValueError: a missing key, or a scaling that the transformer does not have.
  """
  rope = hf_config.get('rope_parameters') or hf_config.get('rope_scaling') or {}
  if not isinstance(rope, Mapping):
    raise ValueError(f'rope_scaling: got {rope!r}; expected an object')
  local = {}
  if has_local and any(isinstance(rope.get(kind), Mapping) for kind in _KINDS):
    rope, local = (rope.get(kind) or {} for kind in _KINDS)
    if not isinstance(rope, Mapping) or not isinstance(local, Mapping):
      raise ValueError(
        f'rope_parameters: got {reprlib.repr(hf_config["rope_parameters"])}; '
        f'expected an object for each of {_KINDS}'
      )
  base = hf_config.get('rope_theta', 1e6 if has_local else 10000.0)
  rope = {'rope_theta': base, **rope}
  fields = {
    'rope_theta': number(rope, 'rope_theta', float),
    'rope_scaling': _read_scaling(rope),
  }
  if has_local:
    if local.get('rope_type', 'default') != 'default':
      raise ValueError(
        f'rope_parameters: got the type {local["rope_type"]!r} for '
        'sliding_attention; expected default'
      )
    base = hf_config.get('rope_local_base_freq', 10000.0)
    local = {'rope_theta': base, **local}
    fields['local_rope_theta'] = number(local, 'rope_theta', float)
  return fields


def _read_scaling(rope: Mapping[str, Any]):
  kind = rope.get('rope_type', rope.get('type', 'default'))
  if any(isinstance(value, Mapping) for value in rope.values()):
    kind = 'one for each kind of layer'  # which only some families have
  if kind == 'default':
    return None
  if not isinstance(kind, str) or kind not in _SCALINGS:
    raise ValueError(
      f'rope_scaling: got the type {reprlib.repr(kind)}; expected default or '
      f'one of {tuple(_SCALINGS)}'
    )
  scaling, keys = _SCALINGS[kind]
  defaults = {
    f.name: f.default
    for f in dataclasses.fields(scaling)
    if f.default is not dataclasses.MISSING
  }
  if scaling is YarnScaling:
    if number(rope, 'rope_theta', float) <= 1:
      raise ValueError(
        f'rope_theta: got {rope["rope_theta"]!r} with the type yarn; expected '
        'a number above 1'
      )
    defaults['amplitude'] = _amplitude(rope)
  return scaling(
    **{
      field: _value(rope, key, field, defaults.get(field))
      for field, key in keys.items()
    }
  )


def _value(rope, key, field, default):
  if field == 'truncate':
    return bool(rope.get(key, default))
  kind = int if field == 'original_max_len' else float
  return number(rope, key, kind, default)


def _amplitude(rope) -> float:
  """Returns YaRN's factor of queries and keys (2309.00071, eq. 22)."""
  factor = number(rope, 'factor', float)

  def of(scale):
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

  if rope.get('mscale') and rope.get('mscale_all_dim'):
    scales = (number(rope, key, float) for key in ('mscale', 'mscale_all_dim'))
    above, below = map(of, scales)
    return above / below
  return of(1.0)


def write(config: TransformerConfig) -> dict[str, Any]:
  """Makes the keys of `config.json` that `read` reads."""
  result = {'rope_theta': config.rope_theta, 'rope_scaling': None}
  if config.local_rope_theta is not None:
    result['rope_local_base_freq'] = config.local_rope_theta
  for kind, (scaling, keys) in _SCALINGS.items():
    if isinstance(config.rope_scaling, scaling):
      result['rope_scaling'] = {
        'rope_type': kind,
        **{k: getattr(config.rope_scaling, f) for f, k in keys.items()},
      }
  return result
