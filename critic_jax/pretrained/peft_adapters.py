"""Adapters in PEFT's format: adapter_model.safetensors, adapter_config.json.

A folder of PEFT's LoRA names the model whose matrices it changes; `read` takes
it apart, and `save` writes one that PEFT reads. Of its variants those are read
that are a product of two matrices and a number, at all layers alike or not; the
others are refused by name.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from critic_jax import files, strict_json
from critic_jax.models import layer_stack, lora
from critic_jax.models.config import Lora, TransformerConfig
from critic_jax.pretrained import hf_parameters, hub_models, safetensors_io

CONFIG, WEIGHTS = 'adapter_config.json', 'adapter_model.safetensors'
_PREFIX = 'base_model.model.'
# Settings of PEFT's under which an adapter is another formula, or more than
# one; by the values that leave it as it is.
_PLAIN: dict[str, tuple[Any, ...]] = {
  'peft_type': ('LORA',),
  'bias': ('none',),
  'use_dora': (False,),
  'use_qalora': (False,),
  'use_bdlora': (None, False),
  'alora_invocation_tokens': (None,),
  'arrow_config': (None,),
  'layer_replication': (None,),
  'target_parameters': (None, []),
  'fan_in_fan_out': (False,),
  'lora_bias': (False,),
  'rank_pattern': ({},),
  'alpha_pattern': ({},),
  'modules_to_save': (None, []),
  'trainable_token_indices': (None, []),
}


class Adapters(NamedTuple):
  """A folder of adapters.

  Attributes:
    base: the name of the model that they change.
    scale: what their products are multiplied by, alpha / r.
    tensors: functions that read the matrices, by PEFT's names.
  """

  base: str
  scale: float
  tensors: safetensors_io.Tensors


def is_folder(path: str | os.PathLike) -> bool:
  """Whether a path is a folder of adapters, and not of a model, too."""
  folder = pathlib.Path(path)
  has_model = any(folder.glob('model*.safetensors'))
  return (folder / CONFIG).is_file() and not has_model


def read(folder: str | os.PathLike) -> Adapters:
  """Opens a folder of adapters.

  Raises:
    ValueError: a file is missing, or is not as it should be.
  """
  folder = pathlib.Path(folder)
  settings = strict_json.read(folder / CONFIG)
  for name, plain in _PLAIN.items():
    if settings.get(name, plain[0]) not in plain:
      raise ValueError(
        f'{CONFIG}: got {name}={settings[name]!r}; expected {plain[0]!r}; '
        'merge the adapters into their model by peft first'
      )
  base = settings.get('base_model_name_or_path')
  if not isinstance(base, str) or not base:
    raise ValueError(
      f'{CONFIG}: got base_model_name_or_path={base!r}; expected the name of a '
      "model; write its folder's"
    )
  rank, alpha = (settings.get(name) for name in ('r', 'lora_alpha'))
  for name, value in (('r', rank), ('lora_alpha', alpha)):
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
      raise ValueError(f'{CONFIG}: got {name}={value!r}; expected more than 0')
  scale = alpha / (math.sqrt(rank) if settings.get('use_rslora') else rank)
  if not (folder / WEIGHTS).is_file():
    raise ValueError(
      f'{WEIGHTS}: got {safetensors_io.describe(folder)} in {str(folder)!r}; '
      'expected that file; save the adapters as safetensors'
    )
  return Adapters(base, scale, safetensors_io.read_file(folder / WEIGHTS))


def merged(
  config: TransformerConfig, params: Mapping[str, Any], adapters: Adapters
) -> dict[str, Any]:
  """Adds adapters to their matrices, which are float32 then, on the host.

  Args:
    config: the model's.
    params: its parameters, unrolled; numpy.
    adapters: what is added.

  Raises:
    ValueError: a tensor is missing, misshapen, or of no matrix of a layer.
  """
  tensors, result = dict(adapters.tensors), dict(params)
  for matrix in _matrices(config):
    names = [_name(matrix, part) for part in 'AB']
    if not {*names} & {*tensors}:
      continue
    a, b = (_take(tensors, name) for name in names)
    num_outputs, num_inputs = matrix.stored
    expected = (len(a), num_inputs), (num_outputs, len(a))
    if (a.shape, b.shape) != expected:
      raise ValueError(
        f'{names[0]}: got the shapes {a.shape} and {b.shape} of A and B; '
        f'expected {expected[0]} and {expected[1]}'
      )
    change = lora.product(a.T, b.T, adapters.scale).reshape(matrix.shape)
    result = _with_change(result, matrix.path, change)
  if tensors:
    raise ValueError(
      f'{min(tensors)}: got an unexpected tensor; expected adapters of the '
      f'matrices of layers ({len(tensors)} more)'
    )
  return result


def _matrices(config) -> list[hf_parameters.Row]:
  """Lists the matrices of layers that may have adapters; experts' have none."""
  return [
    row
    for row in hf_parameters.rows(config)
    if row.path[0].startswith(layer_stack.LAYERS)
    and row.path[-1] == 'kernel'
    and row.expert is None
  ]


def _take(tensors, name) -> np.ndarray:
  if name not in tensors:
    raise ValueError(f'{name}: got no such tensor; expected A and B')
  return np.asarray(tensors.pop(name)(), np.float32)


def _with_change(node, path, change):
  """Returns a tree with a change added at a path."""
  name, *rest = path
  if rest:
    return {**node, name: _with_change(node[name], rest, change)}
  return {**node, name: np.asarray(node[name], np.float32) + change}


def save(
  folder: str | os.PathLike,
  config: TransformerConfig,
  settings: Lora,
  params: Mapping[str, Any],
  base: str,
) -> list[str]:
  """Writes a folder that PEFT reads.

  Args:
    folder: created if it does not exist; adapters in it are replaced.
    config: the model's, whose head is the language head.
    settings: of the adapters.
    params: the adapters; layers may be stacked.
    base: the name of the model that they change; of the hub's the id is
      written, as PEFT wants it.

  Returns:
    The names of the files written.

  Raises:
    ValueError: the head has no place in such a folder.
  """
  if config.head != 'lm':
    raise ValueError(f'head: got {config.head!r}; expected lm')
  params, tensors, targets = layer_stack.unstack(params), {}, set()
  for matrix in _matrices(config):
    node = params
    for name in matrix.path[:-1]:
      node = node.get(name, {})
    if lora.A not in node:
      continue
    targets.add(matrix.name.split('.')[-2])
    a = np.asarray(node[lora.A], np.float32).reshape(-1, settings.rank)
    b = np.asarray(node[lora.B], np.float32).reshape(settings.rank, -1)
    for part, x in zip('AB', (a, b), strict=True):
      tensors[_name(matrix, part)] = np.ascontiguousarray(x.T)
  content = dict(
    peft_type='LORA', task_type='CAUSAL_LM',
    base_model_name_or_path=base.removeprefix(hub_models.PREFIX),
    r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout,
    target_modules=sorted(targets), bias='none', inference_mode=True,
  )  # fmt: skip
  if 0 < settings.last_layers < config.num_layers:
    first = config.num_layers - settings.last_layers
    content['layers_to_transform'] = list(range(first, config.num_layers))
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  safetensors_io.write_file(folder / WEIGHTS, tensors)
  text = json.dumps(content, indent=2) + '\n'
  files.replace(folder / CONFIG, text.encode())
  return [CONFIG, WEIGHTS]


def _name(matrix, part: str) -> str:
  """Returns PEFT's name of a matrix's A or B."""
  return f'{_PREFIX}{matrix.name.removesuffix("weight")}lora_{part}.weight'
