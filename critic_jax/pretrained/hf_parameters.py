"""The parameters of a model by Hugging Face's names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from critic_jax.models.config import TransformerConfig


class Row(NamedTuple):
  """A parameter's place in our tree and in a Hugging Face checkpoint.

  Attributes:
    path: the keys that lead to it in our tree.
    name: its name in the checkpoint.
    shape: its shape in our tree.
    stored: its shape in the checkpoint; kernels are transposed.
    expert: the expert whose part of the parameter this is, along its first
      axis, which `shape` leaves out; None if it is a whole parameter.
  """

  path: tuple[str, ...]
  name: str
  shape: tuple[int, ...]
  stored: tuple[int, ...]
  expert: int | None = None


def rows(config: TransformerConfig) -> list[Row]:
  """Lists every parameter of a model with a language head."""
  c = config
  table = (c.vocab_size, c.embed_dim)
  result = [
    Row(('embed', 'embedding'), 'model.embed_tokens.weight', table, table)
  ]
  for i in range(c.num_layers):
    layer, name = (f'layers_{i}',), f'model.layers.{i}'
    result += _of_attention(c, (*layer, 'attention'), f'{name}.self_attn')
    of_mlp = _of_experts if c.num_experts else _of_mlp
    result += of_mlp(c, (*layer, 'mlp'), f'{name}.mlp')
    result += [
      _vector((*layer, part, 'scale'), f'{name}.{hf_part}', (c.embed_dim,))
      for part, hf_part in _norms(c).items()
    ]
  result.append(_vector(('final_norm', 'scale'), 'model.norm', (c.embed_dim,)))
  if not c.tie_embeddings:
    shape = (c.embed_dim, c.vocab_size)
    result.append(_kernel(('lm_head',), 'lm_head', shape))
  return result


def of_text(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
  """Returns the tensors of the part for texts of a model that sees images too.

  Others are returned as they are.
  """
  prefixes = {
    'language_model.model.': 'model.',
    'language_model.lm_head.': 'lm_head.',
    'model.language_model.': 'model.',
  }
  if not any(name.startswith((*prefixes,)) for name in tensors):
    return tensors
  result = {}
  for name, tensor in tensors.items():
    part = name.removeprefix('model.')
    if part.startswith(('vision_tower.', 'multi_modal_projector.')):
      continue
    for prefix, ours in prefixes.items():
      if name.startswith(prefix):
        name = ours + name.removeprefix(prefix)
        break
    result[name] = tensor
  return result


def _kernel(path, name, shape, inputs=1, expert=None) -> Row:
  # Hugging Face keeps [outputs, inputs], heads flattened.
  stored = (math.prod(shape[inputs:]), math.prod(shape[:inputs]))
  return Row((*path, 'kernel'), f'{name}.weight', shape, stored, expert)


def _vector(path, name, shape, kind='weight') -> Row:
  return Row(path, f'{name}.{kind}', shape, (math.prod(shape),))


def _of_attention(c, path, name) -> list[Row]:
  result = []
  heads = {'q': c.num_heads, 'k': c.num_kv_heads, 'v': c.num_kv_heads}
  for part, count in heads.items():
    hf_name = f'{name}.{part}_proj'
    shape = (c.embed_dim, count, c.head_dim)
    result.append(_kernel((*path, part), hf_name, shape))
    if c.qkv_bias:
      bias = (*path, part, 'bias')
      result.append(_vector(bias, hf_name, (count, c.head_dim), 'bias'))
  shape = (c.num_heads, c.head_dim, c.embed_dim)
  result.append(_kernel((*path, 'o'), f'{name}.o_proj', shape, 2))
  for part in ('q_norm', 'k_norm') if c.qk_norm else ():
    scale = (*path, part, 'scale')
    result.append(_vector(scale, f'{name}.{part}', (c.head_dim,)))
  return result


def _of_mlp(c, path, name, expert=None) -> list[Row]:
  """Lists the matrices of an MLP, or of one expert."""
  shapes = {
    'gate': (c.embed_dim, c.mlp_dim),
    'up': (c.embed_dim, c.mlp_dim),
    'down': (c.mlp_dim, c.embed_dim),
  }
  prefix = '' if expert is None else 'expert_'
  return [
    _kernel((*path, prefix + part), f'{name}.{part}_proj', shape, expert=expert)
    for part, shape in shapes.items()
  ]


def _of_experts(c, path, name) -> list[Row]:
  shape = (c.num_experts, c.embed_dim)  # not transposed
  result = [Row((*path, 'router'), f'{name}.gate.weight', shape, shape)]
  for expert in range(c.num_experts):
    result += _of_mlp(c, path, f'{name}.experts.{expert}', expert)
  return result


def _norms(c) -> dict[str, str]:
  """Returns the names of a layer's norms, ours -> Hugging Face's."""
  if not c.post_norms:
    return {
      'attention_norm': 'input_layernorm',
      'mlp_norm': 'post_attention_layernorm',
    }
  return {
    'attention_norm': 'input_layernorm',
    'post_attention_norm': 'post_attention_layernorm',
    'mlp_norm': 'pre_feedforward_layernorm',
    'post_mlp_norm': 'post_feedforward_layernorm',
  }
