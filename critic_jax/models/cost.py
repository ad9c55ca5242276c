"""The least flops and bytes of a transformer, from its sizes alone.

A model is a dict of `TransformerConfig`'s fields. Flops are the multiplications
and additions of the matrix products and of causal attention, each needed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Model = Mapping[str, Any]


def layer_weights(model: Model) -> int:
  """Counts the entries of the matrices of all layers.

  L (2 D H Dh + 2 D Hkv Dh + 3 D F), with L layers of width D, H query and Hkv
  key heads of Dh, and a gated MLP of width F.
  """
  heads = model['num_heads'] + model['num_kv_heads']
  attention = 2 * model['embed_dim'] * heads * model['head_dim']
  mlp = 3 * model['embed_dim'] * model['mlp_dim']
  return model['num_layers'] * (attention + mlp)


def num_params(model: Model) -> int:
  """Counts the parameters, embeddings, norms and biases included."""
  width, head_dim = model['embed_dim'], model['head_dim']
  tables = 1 if model.get('tie_embeddings', True) else 2
  layer = 2 * width  # the norms
  if model.get('qk_norm'):
    layer += 2 * head_dim
  if model.get('qkv_bias'):
    layer += (model['num_heads'] + 2 * model['num_kv_heads']) * head_dim
  return (
    tables * model['vocab_size'] * width
    + layer_weights(model)
    + model['num_layers'] * layer
    + width
  )


def read_params(model: Model) -> int:
  """Counts parameters that a pass reads whole: all but untied embeddings."""
  is_tied = model.get('tie_embeddings', True)
  table = model['vocab_size'] * model['embed_dim']
  return num_params(model) - (0 if is_tied else table)


def kv_bytes(model: Model, itemsize: int) -> int:
  """Returns the bytes of a token's keys and values: 2 L Hkv Dh itemsize."""
  heads = model['num_kv_heads'] * model['head_dim']
  return 2 * model['num_layers'] * heads * itemsize


def forward_flops(model: Model, tokens: int, start: int, logits: int) -> int:
  """Counts the flops of a pass over consecutive tokens of one row.

  2 W n + 4 L H Dh sum_i (start + i) + 2 D V k: n tokens through W weights, the
  i-th of them, i = 1 .. n, looking at start + i keys, and k rows of logits.

  Args:
    model: the fields of a `TransformerConfig`.
    tokens: n.
    start: tokens before them, whose keys and values are cached.
    logits: k, the number of tokens whose logits are needed.
  """
  key_reads = tokens * start + tokens * (tokens + 1) // 2
  width = model['num_heads'] * model['head_dim']
  return (
    2 * layer_weights(model) * tokens
    + 4 * model['num_layers'] * width * key_reads
    + 2 * model['embed_dim'] * model['vocab_size'] * logits
  )
