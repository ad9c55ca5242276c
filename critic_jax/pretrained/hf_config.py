"""`config.json` of Hugging Face, to and from `TransformerConfig`.

Tables name the families and the fields, and are read both ways. A setting that
would change the computation in a way that `transformer.py` does not know is an
error, never ignored.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from critic_jax.models.config import TransformerConfig
from critic_jax.pretrained import hf_rope
from critic_jax.pretrained.hf_numbers import number
from critic_jax.text.tokenizer import Tokenizer


class _Family(NamedTuple):
  """An architecture of `config.json`.

  Attributes:
    fields: the fields of `TransformerConfig` that tell it from others.
    windows: the layers with a sliding window: 'none', 'all', or 'most', of
      which every n-th sees all tokens.
    has_experts: whether the MLP is a mixture of experts.
    defaults: the values of keys that a file may lack.
    plain: settings that could change the computation, beside
      `_PLAIN_SETTINGS` -> the values that do not.
  """

  fields: Mapping[str, Any] = {}
  windows: str = 'none'
  has_experts: bool = False
  defaults: Mapping[str, Any] = {}
  plain: Mapping[str, tuple] = {'hidden_act': ('silu',)}


_GEMMA3 = dict(
  qk_norm=True, norm_offset=1.0, post_norms=True, scale_embeddings=True,
  activation='gelu_tanh',
)  # fmt: skip
FAMILIES = {
  'LlamaForCausalLM': _Family(),
  'MistralForCausalLM': _Family(
    windows='all', defaults=dict(sliding_window=4096)
  ),
  'Qwen2ForCausalLM': _Family(dict(qkv_bias=True)),
  'Qwen3ForCausalLM': _Family(dict(qk_norm=True)),
  'Qwen3MoeForCausalLM': _Family(
    dict(qk_norm=True),
    has_experts=True,
    plain=dict(
      hidden_act=('silu',), mlp_only_layers=([],), decoder_sparse_step=(1,)
    ),
  ),
  'Gemma3ForCausalLM': _Family(
    _GEMMA3,
    windows='most',
    defaults=dict(
      vocab_size=262208, num_attention_heads=8, num_key_value_heads=4,
      head_dim=256, query_pre_attn_scalar=256, rms_norm_eps=1e-6,
      max_position_embeddings=131072, tie_word_embeddings=True,
      sliding_window=4096, sliding_window_pattern=6,
    ),
    plain=dict(
      hidden_activation=('gelu_pytorch_tanh',), attn_logit_softcapping=(),
      final_logit_softcapping=(), use_bidirectional_attention=(False,),
    ),
  ),
}  # fmt: skip
# Models of texts and images: the text's part is read, as this family.
TEXT_PARTS = {'Gemma3ForConditionalGeneration': 'Gemma3ForCausalLM'}
# Others that are asked for: what the transformer lacks, and what to take.
_OTHERS = {
  'DeepseekV3ForCausalLM': (
    'latent attention', 'one of the models distilled from DeepSeek-R1'
  ),
  'FalconMambaForCausalLM': ('state spaces', 'Qwen3'),
  'Gemma2ForCausalLM': ('soft caps', 'Gemma 3'),
  'GemmaForCausalLM': ('the first Gemma', 'Gemma 3'),
  'GptOssForCausalLM': ('attention sinks', 'Qwen3-MoE'),
  'Llama4ForConditionalGeneration': ('chunked attention', 'Qwen3-MoE'),
  'MambaForCausalLM': ('state spaces', 'Qwen3'),
  'MixtralForCausalLM': ("Mixtral's names of experts", 'Qwen3-MoE'),
  'Olmo2ForCausalLM': ('norms of all heads at once', 'Qwen3'),
  'Phi3ForCausalLM': ('joint projections', 'Qwen3'),
  'PhiForCausalLM': ('parallel layers', 'Qwen3'),
  'Qwen2MoeForCausalLM': ('shared experts', 'Qwen3-MoE'),
  'Qwen3NextForCausalLM': ('linear attention', 'Qwen3-MoE'),
}  # fmt: skip
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
_EXPERT_SIZES = {
  'moe_intermediate_size': 'mlp_dim',
  'num_experts': 'num_experts',
  'num_experts_per_tok': 'experts_per_token',
}
_PLAIN_SETTINGS = {
  'attention_bias': (False,),
  'mlp_bias': (False,),
  'use_sliding_window': (False,),
  'partial_rotary_factor': (1, 1.0),
  'quantization_config': (),
}
_MAX_EXPERTS = 100_000  # the names of all their parameters are listed first
_FULL, _SLIDING = 'full_attention', 'sliding_attention'


def read(hf_config: Mapping[str, Any]) -> TransformerConfig:
  """Reads the config that a `config.json` describes.

  Raises:
    ValueError: another architecture, a setting that the transformer does not
      have, or a missing key.
  """
  name, hf_config = _find_family(hf_config)
  family = FAMILIES[name]
  hf_config = {**family.defaults, **hf_config}
  for key, allowed in {**_PLAIN_SETTINGS, **family.plain}.items():
    if hf_config.get(key) is not None and hf_config[key] not in allowed:
      raise ValueError(
        f'config.json: got {key}={reprlib.repr(hf_config[key])}; expected it '
        f'absent or in {allowed}'
      )
  heads = number(hf_config, 'num_attention_heads', int)
  width = number(hf_config, 'hidden_size', int)
  defaults = {'num_key_value_heads': heads, 'head_dim': width // heads}
  keys = dict(_SIZES)
  if family.has_experts:
    del keys['intermediate_size']  # of layers without experts
    keys |= _EXPERT_SIZES
    hf_config.setdefault('num_experts', hf_config.get('num_local_experts'))
  fields = {
    field: number(hf_config, key, int, defaults.get(key))
    for key, field in keys.items()
  }
  if family.has_experts:
    if fields['num_layers'] * fields['num_experts'] > _MAX_EXPERTS:
      raise ValueError(
        f'num_experts: got {fields["num_experts"]} in {fields["num_layers"]} '
        f'layers; expected {_MAX_EXPERTS} in all, at most'
      )
    fields['normalize_experts'] = bool(hf_config.get('norm_topk_prob', False))
  if 'query_pre_attn_scalar' in family.defaults:
    scale = number(hf_config, 'query_pre_attn_scalar', float) ** -0.5
    is_usual = scale == fields['head_dim'] ** -0.5
    fields['query_scale'] = None if is_usual else scale
  return TransformerConfig(
    **fields,
    **family.fields,
    **_read_windows(hf_config, family.windows, fields['num_layers']),
    **hf_rope.read(hf_config, has_local=family.windows == 'most'),
    norm_eps=number(hf_config, 'rms_norm_eps', float),
    tie_embeddings=bool(hf_config.get('tie_word_embeddings', False)),
    max_len=number(hf_config, 'max_position_embeddings', int),
  )


def _find_family(hf_config):
  """Returns the name of the family, and its part of a `config.json`."""
  names = hf_config.get('architectures') or ['none']
  name = names[0] if isinstance(names, list) and len(names) == 1 else None
  name = name if isinstance(name, str) else None
  if name in TEXT_PARTS:
    text = hf_config.get('text_config')
    if not isinstance(text, Mapping):
      raise ValueError(
        f'text_config: got {reprlib.repr(text)}; expected an object'
      )
    return TEXT_PARTS[name], text
  if name in FAMILIES:
    return name, hf_config
  lacks = advice = ''
  if name in _OTHERS:
    lacks, advice = _OTHERS[name]
    lacks, advice = f', which has {lacks}', f'; take {advice} instead'
  raise ValueError(
    f'architectures: got {reprlib.repr(names)}{lacks}; expected one of '
    f'{(*FAMILIES, *TEXT_PARTS)}{advice}'
  )


def _read_windows(hf_config, windows: str, num_layers: int) -> dict[str, int]:
  """Reads which layers have a sliding window, and how long it is.

  Raises:
    ValueError: other layers than the family's, or than every n-th are full.
  """
  kinds = hf_config.get('layer_types') or []
  if not isinstance(kinds, list):
    raise ValueError(
      f'layer_types: got {reprlib.repr(kinds)}; expected a list of kinds'
    )
  has_window = windows != 'none' and hf_config.get('sliding_window') is not None
  if not has_window:
    every = 1
  elif windows == 'all':
    every = 0
  elif kinds:
    every = kinds.index(_FULL) + 1 if _FULL in kinds else 0
  else:
    every = number(hf_config, 'sliding_window_pattern', int)
  every = every if every <= num_layers else 0
  expected = [
    _FULL if every and i % every == 0 else _SLIDING
    for i in range(1, num_layers + 1)
  ]
  if kinds and kinds != expected:
    raise ValueError(
      f'layer_types: got {reprlib.repr(kinds)}; expected '
      f'{reprlib.repr(expected)}'
    )
  if every == 1:
    return {}
  window = number(hf_config, 'sliding_window', int)
  return dict(sliding_window=window, global_every=every)


def write(
  config: TransformerConfig, tokenizer: Tokenizer, dtype: str
) -> dict[str, Any]:
  """Makes the contents of a model's `config.json`; the inverse of `read`.

  Args:
    config: the model's config.
    tokenizer: the model's tokenizer; generation stops at its `eos`.
    dtype: numpy's name of the parameters' type.

  Raises:
    ValueError: no architecture has these features.
  """
  name = _family_of(config)
  family = FAMILIES[name]
  result = {
    'architectures': [name],
    'model_type': _MODEL_TYPES.get(
      name, name.removesuffix('ForCausalLM').lower()
    ),
    **{key: getattr(config, field) for key, field in _SIZES.items()},
    'attention_bias': False,
    **hf_rope.write(config),
    'rms_norm_eps': config.norm_eps,
    'max_position_embeddings': config.max_len,
    'tie_word_embeddings': config.tie_embeddings,
  }
  if config.activation == 'silu':
    result['hidden_act'] = 'silu'
  else:
    result['hidden_activation'] = 'gelu_pytorch_tanh'
  if family.has_experts:
    result |= {k: getattr(config, field) for k, field in _EXPERT_SIZES.items()}
    result['norm_topk_prob'] = config.normalize_experts
  if family.windows != 'none':
    result['sliding_window'] = config.sliding_window or None
  if family.windows == 'most':
    kinds = {True: _SLIDING, False: _FULL}
    result['layer_types'] = [kinds[x] for x in config.has_window]
    scalar = (config.query_scale or config.head_dim**-0.5) ** -2
    is_whole = math.isclose(scalar, round(scalar))  # as transformers wants it
    result['query_pre_attn_scalar'] = round(scalar) if is_whole else scalar
  eos = list(tokenizer.eos)
  return result | {
    'bos_token_id': tokenizer.bos,
    'eos_token_id': eos if len(eos) != 1 else eos[0],
    'pad_token_id': tokenizer.pad,
    'torch_dtype': dtype,
  }


_MODEL_TYPES = {
  'Qwen3MoeForCausalLM': 'qwen3_moe',
  'Gemma3ForCausalLM': 'gemma3_text',
}


def _family_of(config: TransformerConfig) -> str:
  """Returns the first architecture that has a config's features.

  Raises:
    ValueError: there is none.
  """
  names = {key for family in FAMILIES.values() for key in family.fields}
  defaults = TransformerConfig.__dataclass_fields__
  fields = {
    key: getattr(config, key)
    for key in sorted(names)
    if getattr(config, key) != defaults[key].default
  }
  windows = 'none'
  if config.sliding_window:
    windows = 'all' if config.local_rope_theta is None else 'most'
  for name, family in FAMILIES.items():
    if (
      family.fields == fields
      and family.windows == windows
      and family.has_experts == (config.num_experts > 0)
    ):
      return name
  raise ValueError(
    f'config: got {fields} with windows in {windows} of the layers and '
    f'{config.num_experts} experts; expected the features of one of '
    f'{tuple(FAMILIES)}'
  )
