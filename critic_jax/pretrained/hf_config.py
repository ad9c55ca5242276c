"""`config.json` of Hugging Face, to and from `TransformerConfig`.

Llama, Qwen2 and Qwen3. A setting that would change the computation in a way
`transformer.py` does not know is an error, never ignored.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from critic_jax.models.config import RopeScaling, TransformerConfig
from critic_jax.text.tokenizer import Tokenizer

ARCHITECTURES = ('LlamaForCausalLM', 'Qwen2ForCausalLM', 'Qwen3ForCausalLM')

# Settings that would change the computation: key -> the values that do not.
_PLAIN_SETTINGS = {
  'hidden_act': ('silu',),
  'attention_bias': (False,),
  'mlp_bias': (False,),
  'use_sliding_window': (False,),
  'partial_rotary_factor': (1, 1.0),
  'quantization_config': (),
}
# Parameters are named before any is read: layers must not be without end.
_MAX_LAYERS = 10_000
_MAX = {int: 2**31 - 1, float: 1e30}


def read(hf_config: Mapping[str, Any]) -> TransformerConfig:
  """The config that a `config.json` describes.

  Raises:
    ValueError: another architecture, a setting that the transformer does not
      have, a rotary scaling other than Llama 3's, or a missing key.
  """
  names = hf_config.get('architectures') or ['none']
  if not isinstance(names, list) or names not in [[n] for n in ARCHITECTURES]:
    raise ValueError(
      f'architectures: got {names}; expected one of {ARCHITECTURES}'
    )
  for key, allowed in _PLAIN_SETTINGS.items():
    if hf_config.get(key) is not None and hf_config[key] not in allowed:
      raise ValueError(
        f'config.json: got {key}={hf_config[key]!r}; expected it absent or '
        f'in {allowed}'
      )
  kinds = hf_config.get('layer_types') or []
  if not isinstance(kinds, list) or kinds.count('full_attention') < len(kinds):
    raise ValueError(
      f'layer_types: got {reprlib.repr(kinds)}; expected full_attention only'
    )
  rope = hf_config.get('rope_parameters') or hf_config.get('rope_scaling') or {}
  if not isinstance(rope, Mapping):
    raise ValueError(f'rope_scaling: got {rope!r}; expected an object')
  rope = dict(rope)
  # transformers 5 moved the base into rope_parameters.
  if 'rope_theta' not in rope:
    rope['rope_theta'] = hf_config.get('rope_theta', 10000.0)
  heads = _number(hf_config, 'num_attention_heads', int)
  width = _number(hf_config, 'hidden_size', int)
  return TransformerConfig(
    vocab_size=_number(hf_config, 'vocab_size', int),
    embed_dim=width,
    mlp_dim=_number(hf_config, 'intermediate_size', int),
    num_layers=_number(hf_config, 'num_hidden_layers', int),
    num_heads=heads,
    num_kv_heads=_number(hf_config, 'num_key_value_heads', int, heads),
    head_dim=_number(hf_config, 'head_dim', int, width // heads),
    rope_theta=_number(rope, 'rope_theta', float),
    rope_scaling=_rope_scaling(rope),
    norm_eps=_number(hf_config, 'rms_norm_eps', float),
    qkv_bias=names[0] == 'Qwen2ForCausalLM',
    qk_norm=names[0] == 'Qwen3ForCausalLM',
    tie_embeddings=bool(hf_config.get('tie_word_embeddings', False)),
    max_len=_number(hf_config, 'max_position_embeddings', int),
  )


def _number(source, key, kind, default=None):
  """A positive number of type `kind`, not too large; None is absent."""
  value = source.get(key)
  value = default if value is None else value
  number = isinstance(value, int | float) and not isinstance(value, bool)
  largest = _MAX_LAYERS if key == 'num_hidden_layers' else _MAX[kind]
  if not number or not 0 < value <= largest or kind(value) != value:
    raise ValueError(
      f'config.json: got {key}={reprlib.repr(value)}; expected a positive '
      f'{kind.__name__}, at most {largest:g}'
    )
  return kind(value)


def _rope_scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
  kind = rope.get('rope_type', rope.get('type', 'default'))
  if any(isinstance(value, Mapping) for value in rope.values()):
    kind = 'one a kind of layer'  # transformers 5 nests those
  if kind == 'default':
    return None
  if kind != 'llama3':
    raise ValueError(
      f'rope_scaling: got the type {kind!r}; expected default or llama3'
    )
  return RopeScaling(
    factor=_number(rope, 'factor', float),
    low_freq_factor=_number(rope, 'low_freq_factor', float),
    high_freq_factor=_number(rope, 'high_freq_factor', float),
    original_max_len=_number(rope, 'original_max_position_embeddings', int),
  )


def write(
  config: TransformerConfig, tokenizer: Tokenizer, dtype: str
) -> dict[str, Any]:
  """What `config.json` says of a model; the inverse of `read`.

  Args:
    config: the model's.
    tokenizer: the model's; generation stops at its `eos`.
    dtype: the parameters' type, by numpy's name.

  Raises:
    ValueError: no architecture has these biases and norms.
  """
  if config.qkv_bias and config.qk_norm:
    raise ValueError(
      'config: got qkv_bias and qk_norm; expected at most one; no supported '
      'architecture has both'
    )
  family = ('Qwen3' if config.qk_norm else
            'Qwen2' if config.qkv_bias else 'Llama')  # fmt: skip
  scaling = config.rope_scaling and {
    'rope_type': 'llama3',
    'factor': config.rope_scaling.factor,
    'low_freq_factor': config.rope_scaling.low_freq_factor,
    'high_freq_factor': config.rope_scaling.high_freq_factor,
    'original_max_position_embeddings': config.rope_scaling.original_max_len,
  }
  ends = list(tokenizer.eos)
  return {
    'architectures': [f'{family}ForCausalLM'],
    'model_type': family.lower(),
    'vocab_size': config.vocab_size,
    'hidden_size': config.embed_dim,
    'intermediate_size': config.mlp_dim,
    'num_hidden_layers': config.num_layers,
    'num_attention_heads': config.num_heads,
    'num_key_value_heads': config.num_kv_heads,
    'head_dim': config.head_dim,
    'hidden_act': 'silu',
    'attention_bias': False,
    'rope_theta': config.rope_theta,
    'rope_scaling': scaling,
    'rms_norm_eps': config.norm_eps,
    'max_position_embeddings': config.max_len,
    'tie_word_embeddings': config.tie_embeddings,
    'bos_token_id': tokenizer.bos,
    'eos_token_id': ends if len(ends) != 1 else ends[0],
    'pad_token_id': tokenizer.pad,
    'torch_dtype': dtype,
  }
