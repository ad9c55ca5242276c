"""GGUF models in Hugging Face terms: config, tensor names, tokenizer files.

llama.cpp stores the q and k rows of the llama architecture in interleaved
rotary order. This module restores the half-split order, which is the only one
in the rest of critic_jax.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (
  AddedToken,
  Regex,
  Tokenizer,
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
)

ARCHITECTURES = {
  'llama': 'LlamaForCausalLM',
  'qwen2': 'Qwen2ForCausalLM',
  'qwen3': 'Qwen3ForCausalLM',
}
_LAYER_PARTS = {
  'attn_norm': 'input_layernorm',
  'attn_q': 'self_attn.q_proj',
  'attn_k': 'self_attn.k_proj',
  'attn_v': 'self_attn.v_proj',
  'attn_output': 'self_attn.o_proj',
  'attn_q_norm': 'self_attn.q_norm',
  'attn_k_norm': 'self_attn.k_norm',
  'ffn_norm': 'post_attention_layernorm',
  'ffn_gate': 'mlp.gate_proj',
  'ffn_up': 'mlp.up_proj',
  'ffn_down': 'mlp.down_proj',
}
_TOP_PARTS = {
  'token_embd': 'model.embed_tokens',
  'output_norm': 'model.norm',
  'output': 'lm_head',
}
# Llama 3's scaling of rotary frequencies in llama.cpp's converter; a file holds
# only the resulting divisors.
_LLAMA3 = {
  'rope_type': 'llama3',
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 8192,
}

# The expressions that split text before byte-pair merges, one after another,
# by `tokenizer.ggml.pre` (llama.cpp, src/llama-vocab.cpp).
_GPT2 = (
  r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
  r'|\s+(?!\S)|\s+'
)
_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
_SPLITS = {
  'default': (r'[\p{P}\$\+<=>\^~\|]+', _GPT2, r'\p{N}+', r'[0-9][0-9][0-9]'),
  'gpt-2': (_GPT2,),
  'smollm': (r'\p{N}', _GPT2),
  'llama-bpe': (_WORDS.replace('DIGITS', '{1,3}'),),
  'qwen2': (_WORDS.replace('DIGITS', ''),),
}
# Other names, under which llama.cpp's converter files the same expressions.
_SAME_SPLITS = {
  'deepseek-r1-qwen': 'qwen2',
  'falcon3': 'llama-bpe',
  'llama-v3': 'llama-bpe',
  'llama3': 'llama-bpe',
}
_TOKENIZER_TYPES = {  # the types of a key's value and of its items
  'tokenizer.ggml.tokens': (list, str),
  'tokenizer.ggml.token_type': (list, int),
  'tokenizer.ggml.merges': (list, str),
  'tokenizer.ggml.scores': (list, float),
  'tokenizer.ggml.add_bos_token': (bool, None),
  'tokenizer.ggml.add_space_prefix': (bool, None),
  'tokenizer.ggml.model': (str, None),
  'tokenizer.ggml.pre': (str, None),
  'tokenizer.ggml.bos_token_id': (int, None),
  'tokenizer.ggml.eos_token_id': (int, None),
  'tokenizer.ggml.eot_token_id': (int, None),
  'tokenizer.ggml.eom_token_id': (int, None),
  'tokenizer.ggml.unknown_token_id': (int, None),
  'tokenizer.ggml.padding_token_id': (int, None),
  'tokenizer.chat_template': (str, None),
}
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6  # token types

Tensors = Mapping[str, Callable[[], np.ndarray]]


def to_hf(
  metadata: Mapping[str, Any], tensors: Tensors
) -> tuple[dict[str, Any], Tensors]:
  """Translates the config and the tensors of a GGUF model to Hugging Face's.

  Args:
    metadata: the metadata of the file.
    tensors: functions that return the values, by GGUF's names.

  Returns:
    The contents of `config.json`, and the tensors by Hugging Face's names;
    unknown names are kept.

  Raises:
    ValueError: another architecture, a missing key, or rotary scaling that is
      not Llama 3's.
  """
  arch = metadata.get('general.architecture')
  if not isinstance(arch, str) or arch not in ARCHITECTURES:
    raise ValueError(
      f'general.architecture: got {reprlib.repr(arch)}; expected one of '
      f'{tuple(ARCHITECTURES)}; give the Hugging Face folder of the model'
    )
  tensors = dict(tensors)
  config = _config(metadata, arch, tensors)
  factors = tensors.pop('rope_freqs.weight', None)
  if factors is not None:
    config['rope_scaling'] = _rope_scaling(factors(), config)
  heads = {
    'attn_q': config['num_attention_heads'],
    'attn_k': config['num_key_value_heads'],
  }
  renamed = {}
  for name, read in tensors.items():
    if match := re.fullmatch(r'blk\.(\d+)\.(\w+)\.(weight|bias)', name):
      layer, part, kind = match.groups()
      if arch == 'llama' and part in heads:
        read = _half_split(read, heads[part], name)
      if part in _LAYER_PARTS:
        name = f'model.layers.{layer}.{_LAYER_PARTS[part]}.{kind}'
    else:
      part, _, kind = name.partition('.')
      if part in _TOP_PARTS:
        name = f'{_TOP_PARTS[part]}.{kind}'
    renamed[name] = read
  return config, renamed


def _config(metadata, arch, tensors) -> dict[str, Any]:
  def get(key, default=None):
    value = metadata.get(f'{arch}.{key}', default)
    if value is None:
      raise ValueError(f'{arch}.{key}: got none; expected it in the metadata')
    return value

  def count(key, default=None):
    value = get(key, default)
    if type(value) is not int or not 0 < value < 2**31:
      raise ValueError(
        f'{arch}.{key}: got {reprlib.repr(value)}; expected an integer from 1 '
        'to 2^31 - 1'
      )
    return value

  num_heads, width = count('attention.head_count'), count('embedding_length')
  head_dim = count('attention.key_length', width // num_heads)
  tokens = metadata.get('tokenizer.ggml.tokens')
  tokens = tokens if isinstance(tokens, list) else ()
  base = get('rope.freq_base', 10000.0)
  if type(base) not in (int, float) or not 0 < base < 1e30:
    raise ValueError(
      f'{arch}.rope.freq_base: got {reprlib.repr(base)}; expected a number '
      'above 0'
    )
  expected = {
    'rope.dimension_count': head_dim,
    'attention.value_length': head_dim,
    'expert_count': 0,
    'rope.scaling.type': 'none',
  }
  for key, value in expected.items():
    if get(key, value) != value:
      raise ValueError(f'{arch}.{key}: got {get(key)!r}; expected {value!r}')
  return {
    'architectures': [ARCHITECTURES[arch]],
    'vocab_size': get('vocab_size', len(tokens) or None),
    'hidden_size': width,
    'intermediate_size': get('feed_forward_length'),
    'num_hidden_layers': get('block_count'),
    'num_attention_heads': num_heads,
    'num_key_value_heads': count('attention.head_count_kv', num_heads),
    'head_dim': head_dim,
    'rope_theta': base,
    'rms_norm_eps': get('attention.layer_norm_rms_epsilon'),
    'max_position_embeddings': get('context_length'),
    'tie_word_embeddings': 'output.weight' not in tensors,
  }


def _rope_scaling(factors, config) -> dict[str, Any]:
  """Recovers Llama 3's scaling from divisors of frequencies, [Dh / 2]."""
  if 2 * factors.size != config['head_dim']:
    raise ValueError(
      f'rope_freqs.weight: got {factors.size} factors; expected one for each '
      f'two of {config["head_dim"]} dimensions of a head'
    )
  exponent = np.arange(0, config['head_dim'], 2) / config['head_dim']
  turns = _LLAMA3['original_max_position_embeddings'] / (
    2 * math.pi * config['rope_theta'] ** exponent
  )
  low, high = _LLAMA3['low_freq_factor'], _LLAMA3['high_freq_factor']
  keep = np.clip((turns - low) / (high - low), 0, 1)
  largest = float(factors.max(initial=0))
  scaling = _LLAMA3 | {'factor': largest if largest > 0 else 1.0}
  expected = 1 / (keep + (1 - keep) / scaling['factor'])
  if factors.shape != expected.shape or not np.allclose(
    factors, expected, rtol=1e-4
  ):
    raise ValueError(
      f'rope_freqs.weight: got {factors}; expected {expected}, as Llama 3 '
      'has them'
    )
  return scaling


def _half_split(read, num_heads, name):
  """Undoes `LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py."""

  def get():
    x = read()
    if num_heads < 1 or x.shape[0] % (2 * num_heads):
      raise ValueError(
        f'{name}: got shape {x.shape}; expected rows for {num_heads} heads'
      )
    pairs = x.reshape(num_heads, x.shape[0] // num_heads // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(x.shape)

  return get


def tokenizer_files(metadata: Mapping[str, Any]) -> dict[str, bytes]:
  """Makes the files for `tokenizer.from_files` from GGUF metadata.

  Raises:
    ValueError: the vocabulary is malformed or of an unknown kind.
  """

  def get(key, default=None):
    return metadata.get(f'tokenizer.ggml.{key}', default)

  _check_types(metadata)
  texts, kinds = get('tokens'), get('token_type')
  if not texts or (kinds and len(kinds) != len(texts)):
    raise ValueError(
      'tokenizer.ggml.tokens: got none, or not one token_type for each; '
      'expected a vocabulary in the file'
    )
  kinds = kinds or [1] * len(texts)
  if not {1, 2, 3, 4, 5, 6}.issuperset(kinds):
    raise ValueError(
      f'tokenizer.ggml.token_type: got {sorted(set(kinds))[-9:]}; expected '
      'types from 1 to 6'
    )
  ids, config = {}, {}
  for role in ('bos', 'eos', 'unknown', 'padding'):
    token = get(f'{role}_token_id')
    if token is not None and 0 <= token < len(texts):
      ids[role] = token
      short = {'unknown': 'unk', 'padding': 'pad'}.get(role, role)
      config[f'{short}_token'] = texts[token]
  ends = [get('eos_token_id'), get('eot_token_id'), get('eom_token_id')]
  ends = [t for t in dict.fromkeys(ends) if t is not None]
  template = metadata.get('tokenizer.chat_template')
  if template is not None:
    config['chat_template'] = template
  model = get('model')
  if model == 'gpt2':
    adds_bos = _split_name(get('pre')) == 'llama-bpe'
    bos = ids.get('bos') if get('add_bos_token', adds_bos) else None
    data = {'tokenizer.json': _byte_pair(texts, kinds, get, bos)}
    config['tokenizer_class'] = 'PreTrainedTokenizerFast'
  elif model == 'llama':
    config['add_bos_token'] = get('add_bos_token', True)
    data = {'tokenizer.model': _sentencepiece(texts, kinds, get)}
    config['tokenizer_class'] = 'LlamaTokenizer'
  else:
    raise ValueError(
      f'tokenizer.ggml.model: got {model!r}; expected gpt2 or llama'
    )
  generation = {'eos_token_id': ends} if ends else {}
  for name, value in (
    ('tokenizer_config.json', config),
    ('generation_config.json', generation),
  ):
    text = json.dumps(value, ensure_ascii=False, indent=2) + '\n'
    data[name] = text.encode('utf-8', errors='replace')
  return data


def _check_types(metadata):
  for key, (kind, item) in _TOKENIZER_TYPES.items():
    value = metadata.get(key)
    is_valid = isinstance(value, kind) and (
      kind is not list or all(isinstance(x, item) for x in value)
    )
    if value is not None and not is_valid:
      raise ValueError(
        f'{key}: got {str(value)[:40]}; expected {kind.__name__}'
        + (f' of {item.__name__}' if item else '')
      )


def _split_name(pre: str | None) -> str | None:
  """Returns the name in `_SPLITS` that a pre-tokenizer goes by."""
  return _SAME_SPLITS.get(pre, pre)


def _byte_pair(texts, kinds, get, bos) -> bytes:
  """Makes the `tokenizer.json` of a byte-level byte-pair vocabulary."""
  pre = _split_name(get('pre', 'default'))
  if pre not in _SPLITS:
    raise ValueError(
      f'tokenizer.ggml.pre: got {pre!r}; expected one of '
      f'{(*_SPLITS, *_SAME_SPLITS)}'
    )
  merges = [tuple(merge.split(' ', 1)) for merge in get('merges') or ()]
  try:
    model = models.BPE(
      {text: i for i, text in enumerate(texts)},
      merges,
      ignore_merges=pre == 'llama-bpe',
    )
  except Exception as e:  # the library raises plain Exception
    raise ValueError(
      f'tokenizer.ggml.merges: got {e}; expected pairs of tokens'
    ) from None
  library = Tokenizer(model)
  # DeepSeek's tokenizer has none.
  if (
    get('pre') == 'qwen2'
  ):  # as in Qwen's tokenizer.json; llama.cpp leaves it out
    library.normalizer = normalizers.NFC()
  splits = [pre_tokenizers.Split(Regex(s), 'isolated') for s in _SPLITS[pre]]
  library.pre_tokenizer = pre_tokenizers.Sequence(
    [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
  )
  library.decoder = decoders.ByteLevel()
  library.add_special_tokens(
    [
      AddedToken(text, special=True, normalized=False)
      for text, kind in zip(texts, kinds, strict=True)
      if kind in (_CONTROL, _UNKNOWN)
    ]
  )
  library.add_tokens(
    [
      AddedToken(text, normalized=False)
      for text, kind in zip(texts, kinds, strict=True)
      if kind == _USER_DEFINED
    ]
  )
  if bos is not None:
    library.post_processor = processors.TemplateProcessing(
      single=f'{texts[bos]} $A', special_tokens=[(texts[bos], bos)]
    )
  return library.to_str().encode()


def _sentencepiece(texts, kinds, get) -> bytes:
  """Makes the `tokenizer.model` of a sentencepiece vocabulary."""
  scores = get('scores')
  if scores is None or len(scores) != len(texts):
    raise ValueError(
      'tokenizer.ggml.scores: got none, or not one for each token; expected '
      'those of the sentencepiece model'
    )
  proto = sentencepiece_model_pb2.ModelProto()
  for text, score, kind in zip(texts, scores, kinds, strict=True):
    proto.pieces.add(piece=text, score=score, type=kind)
  proto.trainer_spec.model_type = proto.trainer_spec.BPE
  proto.trainer_spec.byte_fallback = _BYTE in kinds
  proto.trainer_spec.vocab_size = len(texts)
  proto.normalizer_spec.name = 'identity'
  proto.normalizer_spec.add_dummy_prefix = get('add_space_prefix', True)
  proto.normalizer_spec.remove_extra_whitespaces = False
  if _UNKNOWN in kinds:
    proto.trainer_spec.unk_piece = texts[kinds.index(_UNKNOWN)]
  return proto.SerializeToString()
