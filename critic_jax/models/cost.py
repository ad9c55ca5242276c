"""The least flops and bytes of a transformer, from its sizes alone.

A model is a dict of `TransformerConfig`'s fields. Flops are the multiplications
and additions of the matrix products and of causal attention, each needed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Model = Mapping[str, Any]


def layer_weights(model: Model, *, per_token: bool = False) -> int:
  """Counts the entries of the matrices of all layers.

  L (2 D H Dh + 2 D Hkv Dh + 3 D F), with L layers of width D, H query and Hkv
  key heads of Dh, and a gated MLP of width F. Where it is a mixture of E
  experts, E (3 D F) and the router's D E.

  Args:
    model: the fields of a `TransformerConfig`.
    per_token: whether only the experts that a token goes through are counted.
  """
  heads = model['num_heads'] + model['num_kv_heads']
  attention = 2 * model['embed_dim'] * heads * model['head_dim']
  mlp = 3 * model['embed_dim'] * model['mlp_dim']
  if num_experts := model.get('num_experts'):
    mlp *= model['experts_per_token'] if per_token else num_experts
    mlp += model['embed_dim'] * num_experts
  return model['num_layers'] * (attention + mlp)


def num_params(model: Model) -> int:
  """Counts the parameters, embeddings, norms and biases included."""
  width, head_dim = model['embed_dim'], model['head_dim']
  tables = 1 if model.get('tie_embeddings', True) else 2
  layer = (4 if model.get('post_norms') else 2) * width  # the norms
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


def trained_params(model: Model) -> int:
  """Counts the parameters that are trained: all, or those of adapters."""
  if not (lora := model.get('lora')):
    return num_params(model)
  heads, kv_heads = (
    model[name] * model['head_dim'] for name in ('num_heads', 'num_kv_heads')
  )
  width, mlp = model['embed_dim'], model['mlp_dim']
  sizes = {
    'attention/q': width + heads,
    'attention/k': width + kv_heads,
    'attention/v': width + kv_heads,
    'attention/o': heads + width,
    'mlp/gate': width + mlp,
    'mlp/up': width + mlp,
    'mlp/down': mlp + width,
  }
  if model.get('num_experts'):  # whose matrices have none
    sizes = {x: size for x, size in sizes.items() if not x.startswith('mlp')}
  layer = sum(size for name, size in sizes.items() if lora.is_target(name))
  return backward_layers(model) * lora.rank * layer


def backward_layers(model: Model) -> int:
  """Counts the layers that a backward pass goes through: those with adapters.

  Without adapters they are all.
  """
  lora, num_layers = model.get('lora'), model['num_layers']
  return (min(lora.last_layers, num_layers) if lora else 0) or num_layers


def read_params(model: Model) -> int:
  """Counts parameters that a pass reads whole: all but untied embeddings.

  All experts are among them: a pass over many tokens goes through each.
  """
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
  i-th of them, i = 1 .. n, looking at start + i keys, and k rows of logits. In
  layers with a window it looks at no more keys than that.

  Args:
    model: the fields of a `TransformerConfig`.
    tokens: n.
    start: tokens before them, whose keys and values are cached.
    logits: k, the number of tokens whose logits are needed.
  """
  num_layers, window = model['num_layers'], model.get('sliding_window', 0)
  num_global = num_layers
  if window:
    every = model.get('global_every', 0)
    num_global = num_layers // every if every else 0
  key_reads = num_global * _key_reads(tokens, start)
  key_reads += (num_layers - num_global) * _key_reads(tokens, start, window)
  width = model['num_heads'] * model['head_dim']
  return (
    2 * layer_weights(model, per_token=True) * tokens
    + 4 * width * key_reads
    + 2 * model['embed_dim'] * model['vocab_size'] * logits
  )


def _key_reads(tokens: int, start: int, window: int = 0) -> int:
  """Counts the keys that tokens look at in a layer; 0 is no window."""
  all_reads = tokens * start + tokens * (tokens + 1) // 2
  # Token i lacks start + i - window keys, where that is above 0.
  last = start + tokens - window
  if not window or last <= 0:
    return all_reads
  first = max(start + 1 - window, 1)
  return all_reads - (first + last) * (last - first + 1) // 2
