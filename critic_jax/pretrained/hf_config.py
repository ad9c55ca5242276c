"""`config.json` of Hugging Face, to and from `TransformerConfig`.

Tables name the families and the fields, and are read both ways. A setting that
would change the computation in a way that `transformer.py` does not know is an
error, never ignored.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from critic_jax.models.config import RopeScaling, TransformerConfig
from critic_jax.text.tokenizer import Tokenizer

# Architecture -> the fields of `TransformerConfig` that tell it from others.
FAMILIES = {
  'LlamaForCausalLM': dict(qkv_bias=False, qk_norm=False),
  'Qwen2ForCausalLM': dict(qkv_bias=True, qk_norm=False),
  'Qwen3ForCausalLM': dict(qkv_bias=False, qk_norm=True),
}
# Key of `config.json` -> field of `TransformerConfig`.
_SIZES = {
  'vocab_size': 'vocab_size',
  'hidden_size': 'embed_dim',
  'intermediate_size': 'mlp_dim',
  'num_hidden_layers': 'num_layers',
  'num_attention_heads': 'num_heads',
  'num_key_value_heads': 'num_kv_heads',
  'head_dim': 'head_dim',
}
# Key of `rope_scaling` -> field of `RopeScaling` and its type.
_LLAMA3 = {
  'factor': ('factor', float),
  'low_freq_factor': ('low_freq_factor', float),
  'high_freq_factor': ('high_freq_factor', float),
  'original_max_position_embeddings': ('original_max_len', int),
}
# Settings that could change the computation -> the values that do not.
_PLAIN_SETTINGS = {
  'hidden_act': ('silu',),
  'attention_bias': (False,),
  'mlp_bias': (False,),
  'use_sliding_window': (False,),
  'partial_rotary_factor': (1, 1.0),
  'quantization_config': (),
}
# A limit, since the names of all layers' parameters are listed first.
_MAX_LAYERS = 10_000
_MAX = {int: 2**31 - 1, float: 1e30}


def read(hf_config: Mapping[str, Any]) -> TransformerConfig:
  """Reads the config that a `config.json` describes.

  Raises:
    ValueError: another architecture, a setting that the transformer does not
      have, a rotary scaling other than Llama 3's, or a missing key.
  """
  names = hf_config.get('architectures') or ['none']
  if not isinstance(names, list) or names not in [[n] for n in FAMILIES]:
    raise ValueError(
      f'architectures: got {names}; expected one of {tuple(FAMILIES)}'
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
  defaults = {'num_key_value_heads': heads, 'head_dim': width // heads}
  sizes = {
    field: _number(hf_config, key, int, defaults.get(key))
    for key, field in _SIZES.items()
  }
  return TransformerConfig(
    **sizes,
    **FAMILIES[names[0]],
    rope_theta=_number(rope, 'rope_theta', float),
    rope_scaling=_read_rope_scaling(rope),
    norm_eps=_number(hf_config, 'rms_norm_eps', float),
    tie_embeddings=bool(hf_config.get('tie_word_embeddings', False)),
    max_len=_number(hf_config, 'max_position_embeddings', int),
  )


def _number(source, key, kind, default=None):
  """Reads a positive number of type `kind`; None counts as absent."""
  value = source.get(key)
  value = default if value is None else value
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  largest = _MAX_LAYERS if key == 'num_hidden_layers' else _MAX[kind]
  if not is_number or not 0 < value <= largest or kind(value) != value:
    raise ValueError(
      f'config.json: got {key}={reprlib.repr(value)}; expected a positive '
      f'{kind.__name__}, at most {largest:g}'
    )
  return kind(value)


def _read_rope_scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
  kind = rope.get('rope_type', rope.get('type', 'default'))
  if any(isinstance(value, Mapping) for value in rope.values()):
    kind = 'one for each kind of layer'  # transformers 5 nests them
  if kind == 'default':
    return None
  if kind != 'llama3':
    raise ValueError(
      f'rope_scaling: got the type {kind!r}; expected default or llama3'
    )
  return RopeScaling(
    **{
      field: _number(rope, key, kind) for key, (field, kind) in _LLAMA3.items()
    }
  )


def write(
  config: TransformerConfig, tokenizer: Tokenizer, dtype: str
) -> dict[str, Any]:
  """Makes the contents of a model's `config.json`; the inverse of `read`.

  Args:
    config: the model's config.
    tokenizer: the model's tokenizer; generation stops at its `eos`.
    dtype: numpy's name of the parameters' type.

  Raises:
    ValueError: no architecture has these biases and norms.
  """
  family = dict(qkv_bias=config.qkv_bias, qk_norm=config.qk_norm)
  names = [name for name, fields in FAMILIES.items() if fields == family]
  if not names:
    raise ValueError(
      'config: got qkv_bias and qk_norm; expected at most one; no supported '
      'architecture has both'
    )
  scaling = config.rope_scaling
  eos = list(tokenizer.eos)
  return {
    'architectures': names,
    'model_type': names[0].removesuffix('ForCausalLM').lower(),
    **{key: getattr(config, field) for key, field in _SIZES.items()},
    'hidden_act': 'silu',
    'attention_bias': False,
    'rope_theta': config.rope_theta,
    'rope_scaling': scaling
    and {
      'rope_type': 'llama3',
      **{key: getattr(scaling, field) for key, (field, _) in _LLAMA3.items()},
    },
    'rms_norm_eps': config.norm_eps,
    'max_position_embeddings': config.max_len,
    'tie_word_embeddings': config.tie_embeddings,
    'bos_token_id': tokenizer.bos,
    'eos_token_id': eos if len(eos) != 1 else eos[0],
    'pad_token_id': tokenizer.pad,
    'torch_dtype': dtype,
  }
