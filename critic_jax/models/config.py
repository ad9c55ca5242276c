"""Sizes and family of a transformer, as plain data."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

HEADS = ('lm', 'value', 'reward')
ACTIVATIONS = ('silu', 'gelu_tanh')
DTYPES = ('float32', 'bfloat16', 'float16')
PARAM_DTYPES = (*DTYPES, 'int8')
# The choices of a layer's results that are kept for the backward pass
# (`transformer.REMAT_POLICIES`).
REMATS = ('none', 'dots_and_attention', 'dots', 'full')
# Programs for attention in long rows (`transformer.KERNELS`), and the platform
# that each needs; '' is any.
ATTENTIONS = {'xla': '', 'splash': 'tpu', 'cudnn': 'gpu'}
MAX_SPLASH_COLUMNS = 2**16  # of the splash kernel's packed rows
MAX_SPLASH_HEAD = 512  # larger ones do not fit into a TPU's fast memory
LAYERS = ('unrolled', 'scanned')
# The kinds of devices that models are computed on, in words.
PLATFORMS = {
  'cpu': 'CPUs',
  'gpu': "NVIDIA's GPUs from Ampere on",
  'other_gpu': "AMD's or older GPUs",
  'tpu': 'TPUs',
}
# The matrices of a layer, by the modules of `transformer.py`.
KERNELS = (
  'attention/q', 'attention/k', 'attention/v', 'attention/o', 'mlp/gate',
  'mlp/up', 'mlp/down',
)  # fmt: skip
_ATTENTION = KERNELS[:4]
# Settings that may be 'auto': the field that each platform gets then.
AUTO = {
  'layers': {name: 'scanned' for name in PLATFORMS} | {'cpu': 'unrolled'},
}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """Llama 3's stretching of slow rotary frequencies (Llama 3.1 release).

  Attributes:
    factor: the divisor of the slow frequencies.
    low_freq_factor: wavelengths above `original_max_len / low_freq_factor`
      are stretched in full.
    high_freq_factor: wavelengths below `original_max_len / high_freq_factor`
      are kept; those between are blended.
    original_max_len: the context that the model was first trained on, in
      tokens.
  """

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_max_len: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
  """Adapters of a model whose own matrices are not trained (`lora.py`).

  Attributes:
    rank: r, the rank of a matrix's change; 0: there are no adapters.
    alpha: the change is multiplied by alpha / r.
    targets: a regular expression of the names of matrices in a layer that have
      adapters: those of `KERNELS` that it matches whole.
    dropout: the share of an adapter's inputs that are 0 in a training step.
    last_layers: the number of layers at the end that have adapters; 0, or more
      than there are: all. Nothing is computed backward through the others.
  """

  rank: int
  alpha: float
  targets: str
  dropout: float
  last_layers: int = 0

  def __post_init__(self):
    if not self.rank >= 0:
      raise ValueError(f'rank: got {self.rank}; expected 0 for none, or more')
    if not 0 < self.alpha < math.inf:
      raise ValueError(f'alpha: got {self.alpha}; expected more than 0')
    if not 0 <= self.dropout < 1:
      raise ValueError(f'dropout: got {self.dropout}; expected 0 or more, < 1')
    if not self.last_layers >= 0:
      raise ValueError(
        f'last_layers: got {self.last_layers}; expected 0 for all, or more'
      )
    try:
      has_target = any(map(self.is_target, KERNELS))
    except re.error as error:
      raise ValueError(
        f'targets: got {self.targets!r}, {error}; expected a regular '
        "expression, such as 'attention/.*'"
      ) from None
    if not has_target:
      raise ValueError(
        f'targets: got {self.targets!r}, which matches no matrix; expected a '
        f'regular expression of some of {KERNELS}'
      )

  def is_target(self, name: str) -> bool:
    """Whether the matrix of this name in a layer has an adapter."""
    return bool(re.fullmatch(self.targets, name))


@dataclasses.dataclass(frozen=True)
class LinearScaling:
  """Stretching of all rotary frequencies (2306.15595).

  Attributes:
    factor: the divisor of the frequencies.
  """

  factor: float


@dataclasses.dataclass(frozen=True)
class YarnScaling:
  """YaRN's stretching of slow rotary frequencies (2309.00071).

  Attributes:
    factor: the divisor of the slow frequencies.
    original_max_len: the context that the model was first trained on, in
      tokens.
    amplitude: the factor of rotated queries, and of keys.
    beta_fast: pairs that turn more often in that context are kept.
    beta_slow: pairs that turn more rarely in it are stretched in full; those
      between are blended.
    truncate: whether the bounds between pairs are rounded outwards.
  """

  factor: float
  original_max_len: int
  amplitude: float
  beta_fast: float = 32.0
  beta_slow: float = 1.0
  truncate: bool = True


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """Sizes and family of a transformer; plain, hashable data.

  Attributes:
    vocab_size: V, the rows of the embedding.
    embed_dim: D, the width of the residual stream.
    mlp_dim: F, the width inside the gated MLP, or inside each expert.
    num_layers: L.
    num_heads: H, the query heads.
    num_kv_heads: Hkv, the key and value heads; divides H.
    head_dim: Dh, even.
    rope_theta: the base of the rotary frequencies.
    rope_scaling: the stretching of them, or None.
    sliding_window: the tokens that a layer with a window looks at, the token
      itself included; 0 if no layer has one.
    global_every: of layers with windows, the n-th, 2 n-th, ... have none and
      look at all tokens; 0 if all have one.
    local_rope_theta: the base of layers with a window, whose frequencies are
      not stretched; None: they have those of all layers.
    query_scale: the factor of scores; None for 1 / sqrt(Dh).
    norm_eps: added to the mean square in a norm.
    norm_offset: added to the stored scales of norms (Gemma: 1).
    post_norms: whether the results of attention and MLP are normed, too.
    scale_embeddings: whether embeddings are multiplied by sqrt(D).
    activation: that of the MLP's gate; one of `ACTIVATIONS`.
    num_experts: E, the MLPs of each layer, of which a token goes through a few;
      0: one MLP, for all tokens.
    experts_per_token: K, those few.
    normalize_experts: whether their weights are divided by their sum.
    qkv_bias: whether q, k and v have biases (Qwen2).
    qk_norm: whether q and k are normed (Qwen3).
    tie_embeddings: whether the embedding is also the language head.
    max_len: the most tokens of a row.
    head: 'lm', 'value' or 'reward'.
    dtype: the dtype of activations; one of `DTYPES`.
    param_dtype: the dtype of the stored matrices; one of `PARAM_DTYPES`.
    remat: the results of a layer that are kept for the backward pass; one of
      `REMATS`.
    attention: the program for attention in rows of more than `attention.SHORT`
      tokens; one of `ATTENTIONS`.
    layers: how layers are computed; one of `LAYERS`. Scanned: by a loop over
      parameters that are stacked (`layer_stack.py`), whose body is compiled
      once. Unrolled: one after another.
    lora: the adapters; None: there are none.
  """

  vocab_size: int
  embed_dim: int
  mlp_dim: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  rope_theta: float = 10000.0
  rope_scaling: RopeScaling | LinearScaling | YarnScaling | None = None
  sliding_window: int = 0
  global_every: int = 0
  local_rope_theta: float | None = None
  query_scale: float | None = None
  norm_eps: float = 1e-6
  norm_offset: float = 0.0
  post_norms: bool = False
  scale_embeddings: bool = False
  activation: str = 'silu'
  num_experts: int = 0
  experts_per_token: int = 0
  normalize_experts: bool = False
  qkv_bias: bool = False
  qk_norm: bool = False
  tie_embeddings: bool = True
  max_len: int = 2048
  head: str = 'lm'
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  remat: str = 'dots_and_attention'
  attention: str = 'xla'
  layers: str = 'unrolled'
  lora: Lora | None = None

  def __post_init__(self):
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f'num_heads: got {self.num_heads}; expected a multiple of '
        f'num_kv_heads={self.num_kv_heads}'
      )
    if self.head_dim % 2:
      raise ValueError(f'head_dim: got {self.head_dim}; expected an even size')
    if self.head not in HEADS:
      raise ValueError(f'head: got {self.head!r}; expected one of {HEADS}')
    if self.lora and self.num_experts:
      if not any(map(self.lora.is_target, _ATTENTION)):
        raise ValueError(
          f'lora.targets: got {self.lora.targets!r} for a model of experts, '
          f'whose matrices have no adapters; expected some of {_ATTENTION}'
        )
    if self.lora and self.lora.last_layers and self.layers == 'scanned':
      raise ValueError(
        f'lora.last_layers: got {self.lora.last_layers} for layers as a loop, '
        "which are all alike; expected 0 for all; or set layers to 'unrolled'"
      )
    if self.activation not in ACTIVATIONS:
      raise ValueError(
        f'activation: got {self.activation!r}; expected one of {ACTIVATIONS}'
      )
    if self.experts_per_token > self.num_experts or (
      self.num_experts and not self.experts_per_token
    ):
      raise ValueError(
        f'experts_per_token: got {self.experts_per_token}; expected 1 to '
        f'num_experts={self.num_experts}'
      )
    if not self.sliding_window and (self.global_every or self.local_rope_theta):
      raise ValueError(
        'sliding_window: got 0 with global_every or local_rope_theta; expected '
        'a number of tokens'
      )
    if self.remat not in REMATS:
      raise ValueError(f'remat: got {self.remat!r}; expected one of {REMATS}')
    if self.attention not in ATTENTIONS:
      raise ValueError(
        f'attention: got {self.attention!r}; expected one of {[*ATTENTIONS]}'
      )
    if self.layers not in LAYERS:
      raise ValueError(
        f"layers: got {self.layers!r}; expected 'auto' or one of {LAYERS}"
      )
    if self.dtype not in DTYPES:
      raise ValueError(f'dtype: got {self.dtype!r}; expected one of {DTYPES}')
    if self.param_dtype not in PARAM_DTYPES:
      raise ValueError(
        f'param_dtype: got {self.param_dtype!r}; expected one of {PARAM_DTYPES}'
      )

  @property
  def is_int8(self) -> bool:
    """Whether matrices are stored in int8, with scales (`quantize.py`)."""
    return self.param_dtype == 'int8'

  @property
  def has_window(self) -> tuple[bool, ...]:
    """Tells of each layer whether it looks at a sliding window only."""
    every = self.global_every or self.num_layers + 1
    return tuple(
      self.sliding_window > 0 and i % every > 0
      for i in range(1, self.num_layers + 1)
    )

  @property
  def vector_dtype(self) -> str:
    """Returns the dtype of norms and biases; int8 is too coarse for them."""
    return 'float32' if self.is_int8 else self.param_dtype


def concrete(settings: Mapping[str, Any], platform: str) -> dict[str, Any]:
  """Returns the fields of the settings in `AUTO`, none of which is 'auto'.

  Args:
    settings: of a model, by the names of `TransformerConfig`'s fields.
    platform: one of `PLATFORMS`, of the devices that compute.
  """
  return {
    name: choices[platform] if settings[name] == 'auto' else settings[name]
    for name, choices in AUTO.items()
  }


def attention_program(
  setting: str, platform: str, config: TransformerConfig
) -> tuple[str, str]:
  """Returns the program that a setting of attention means, of `ATTENTIONS`.

  Args:
    setting: one of them, or 'auto': the platform's kernel, where it can compute
      the model, and else 'xla'.
    platform: as of `concrete`.
    config: the model.

  Returns:
    The program, and the reason in words where 'auto' is not the kernel of a
    platform that has one, or ''.

  Raises:
    ValueError: there is no such program, or it cannot compute the model.
  """
  if setting not in ('auto', *ATTENTIONS):
    raise ValueError(
      f'attention: got {setting!r}; expected one of {["auto", *ATTENTIONS]}'
    )
  kernels = [name for name in ATTENTIONS if ATTENTIONS[name] == platform]
  name = setting if setting != 'auto' else [*kernels, 'xla'][0]
  misfit = _misfit(name, platform, config)
  if not misfit:
    return name, ''
  given, expected = misfit
  if setting == 'auto':
    return 'xla', f'{name} computes {expected}, not {given}'
  raise ValueError(
    f'attention: got {setting!r} for {given}; expected {expected}; set '
    "attention='auto'"
  )


def _misfit(name, platform, config) -> tuple[str, str] | None:
  """Returns what a program is given and cannot compute, and what it can."""
  needed = ATTENTIONS[name]
  if needed not in ('', platform):
    return PLATFORMS[platform], PLATFORMS[needed]
  if name == 'splash' and config.sliding_window:
    return f'windows of {config.sliding_window}', 'attention to all tokens'
  if name == 'splash' and config.head_dim > MAX_SPLASH_HEAD:
    return f'heads of {config.head_dim}', f'heads of {MAX_SPLASH_HEAD} at most'
  dtypes = {
    'splash': ('float32', 'bfloat16'), 'cudnn': ('bfloat16', 'float16')
  }.get(name, DTYPES)  # fmt: skip
  if config.dtype not in dtypes:
    return config.dtype, ' or '.join(dtypes)
  if name == 'cudnn' and (config.head_dim % 8 or config.head_dim > 128):
    return f'heads of {config.head_dim}', 'heads of 8, 16, ..., 128'
  return None
