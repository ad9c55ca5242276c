"""The decoder-only transformer: Llama, Qwen2 and Qwen3 in one linen module.

RMSNorm, rotary positions, grouped-query attention, SwiGLU. The families differ
only by data in `TransformerConfig`: biases on q, k and v (Qwen2), norms of q
and k (Qwen3), rotary scaling (Llama 3), tied or untied embeddings. Every
parameter carries logical axis names; `sharding.py` maps them to a mesh. Norms,
rotary angles, softmax and logits are computed in float32, everything else in
`dtype`. Parameters are stored in `param_dtype`; an int8 matrix has a scale for
each output, which multiplies its product.

The key-value cache is an argument and a result, never hidden state: one
`(keys, values)` pair a layer, each `[B, Hkv, S, Dh]`. Where layers are scanned,
it is one pair of all layers, `[L, B, Hkv, S, Dh]`, as parameters are stacked
(`layer_stack.py`).
"""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from critic_jax.models import (
  attention,
  cudnn_attention,
  layer_stack,
  quantize,
  splash_attention,
)
from critic_jax.models.attention import MIXED, Causal
from critic_jax.models.config import TransformerConfig
from critic_jax.models.linear import PRODUCT, Embedding, Projection
from critic_jax.runtime import sharding

REMAT_POLICIES = {
  # Keeps the results of projections and attention; norms, rotations and gates
  # are computed again, which takes no longer than to store and read them.
  'dots_and_attention': jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.save_only_these_names(PRODUCT, MIXED),
    cudnn_attention.is_kept,
  ),
  # Keeps the results of projections; attention is computed again, too.
  'dots': jax.checkpoint_policies.save_only_these_names(PRODUCT),
  'full': None,  # Keeps only the input of each layer.
}
# Attention of `Causal` rows by the kernel that `TransformerConfig` names.
KERNELS = {
  'xla': attention.attend,
  'splash': splash_attention.attend,
  'cudnn': cudnn_attention.attend,
}
Cache = tuple[tuple[jax.Array, jax.Array], ...]


def rotary_frequencies(config: TransformerConfig) -> jax.Array:
  """Returns angles per position, float32[Dh / 2] (2104.09864, eq. 15)."""
  exponent = jnp.arange(0, config.head_dim, 2) / config.head_dim
  frequencies = config.rope_theta ** -exponent.astype(jnp.float32)
  scaling = config.rope_scaling
  if scaling is None:
    return frequencies
  wavelength = 2 * math.pi / frequencies
  # 0 where the wavelength is long (stretch), 1 where it is short (keep).
  keep = (scaling.original_max_len / wavelength - scaling.low_freq_factor) / (
    scaling.high_freq_factor - scaling.low_freq_factor
  )
  keep = jnp.clip(keep, 0.0, 1.0)
  return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def rotate(x: jax.Array, angles: jax.Array, dtype=None) -> jax.Array:
  """Rotates `x[B, T, H, Dh]` by `angles[B, T, Dh / 2]`, half-split order.

  Args:
    x: of any float dtype.
    angles: float32.
    dtype: the result's; None: that of `x`.
  """
  x_1, x_2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]
  rotated = (x_1 * cos - x_2 * sin, x_2 * cos + x_1 * sin)
  return jnp.concatenate(rotated, axis=-1).astype(dtype or x.dtype)


class RMSNorm(nn.Module):
  """Root-mean-square norm (1910.07467, eq. 4), in float32."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Norms the last axis of `x`."""
    ones = nn.with_logical_partitioning(nn.initializers.ones, ('norm',))
    scale = self.param('scale', ones, (x.shape[-1],), self.config.vector_dtype)
    y = x.astype(jnp.float32)
    y *= jax.lax.rsqrt(
      jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.config.norm_eps
    )
    return (y * scale.astype(jnp.float32)).astype(self.config.dtype)


class Attention(nn.Module):
  """Self-attention over the call's tokens and, with a cache, earlier ones."""

  config: TransformerConfig

  def setup(self):
    """Declares the projections."""
    c = self.config
    q_shape = (c.embed_dim, c.num_heads, c.head_dim)
    kv_shape = (c.embed_dim, c.num_kv_heads, c.head_dim)
    kv_names = ('embed', 'kv_heads', 'head_dim')
    self.q = Projection(c, q_shape, ('embed', 'heads', 'head_dim'),
                        bias=c.qkv_bias)  # fmt: skip
    self.k = Projection(c, kv_shape, kv_names, bias=c.qkv_bias)
    self.v = Projection(c, kv_shape, kv_names, bias=c.qkv_bias)
    self.o = Projection(
      c, (c.num_heads, c.head_dim, c.embed_dim),
      ('heads', 'head_dim', 'embed'), inputs=2,
    )  # fmt: skip
    if c.qk_norm:
      self.q_norm, self.k_norm = RMSNorm(c), RMSNorm(c)

  def __call__(self, x, angles, mask, cache, slot, prefix):
    """Attends with `Transformer`'s arguments: ([B, T, D], (keys, values)).

    Those of the whole cache are returned, or where layers are scanned those of
    this call's tokens.
    """
    q, k, v = self.q(x), self.k(x), self.v(x)
    if self.config.qk_norm:
      q, k = self.q_norm(q), self.k_norm(k)
    kernel = self.config.attention if isinstance(mask, Causal) else 'xla'
    # Splash scales queries, and rounds them once if they were not rounded here.
    q = rotate(q, angles, 'float32' if kernel == 'splash' else None)
    k = rotate(k, angles)
    k, v = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)  # [B, Hkv, T, Dh]
    # Columns of queries may be split; each looks at the keys of all columns.
    q = sharding.constrain(q, 'rows', 'columns', 'heads')
    k, v = (sharding.constrain(x, 'rows', 'kv_heads') for x in (k, v))
    parts = [] if prefix is None else [prefix]
    if cache is not None and self.config.layers == 'scanned':
      mask, cache_mask = _split_mask(mask, slot, k.shape[2])
      parts = [(*cache, cache_mask), *parts]
    elif cache is not None:
      write = jax.lax.dynamic_update_slice_in_dim
      k, v = write(cache[0], k, slot, 2), write(cache[1], v, slot, 2)
    return self.o(KERNELS[kernel](q, (k, v, mask), *parts)), (k, v)


def _split_mask(mask, slot, length):
  """Splits bool[B, T, S] into that of slots `slot` .. + T - 1 and the rest."""
  own = jax.lax.dynamic_slice_in_dim(mask, slot, length, axis=2)
  slots = jnp.arange(mask.shape[2]) - slot
  return own, mask & ((slots < 0) | (slots >= length))


class MLP(nn.Module):
  """SwiGLU (2002.05202, eq. 6)."""

  config: TransformerConfig

  def setup(self):
    """Declares the projections."""
    c = self.config
    up, down = ('embed', 'mlp'), ('mlp', 'embed')
    self.gate = Projection(c, (c.embed_dim, c.mlp_dim), up)
    self.up = Projection(c, (c.embed_dim, c.mlp_dim), up)
    self.down = Projection(c, (c.mlp_dim, c.embed_dim), down)

  def __call__(self, x):
    """Maps `[B, T, D]` to `[B, T, D]`."""
    return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
  """Attention and MLP, each behind a norm and beside a residual."""

  config: TransformerConfig

  def setup(self):
    """Declares the parts."""
    self.attention_norm = RMSNorm(self.config)
    self.attention = Attention(self.config)
    self.mlp_norm = RMSNorm(self.config)
    self.mlp = MLP(self.config)

  def __call__(self, x, angles, mask, cache, slot, prefix):
    """Computes one layer of `Transformer`: ([B, T, D], (keys, values))."""
    mixed, cache = self.attention(
      self.attention_norm(x), angles, mask, cache, slot, prefix
    )
    x = x + mixed
    return x + self.mlp(self.mlp_norm(x)), cache


class Transformer(nn.Module):
  """Tokens to hidden states; `logits` and `scalars` are its heads."""

  config: TransformerConfig

  def setup(self):
    """Declares embeddings, layers and the head that `config.head` names."""
    c = self.config
    self.embed = Embedding(c)
    if c.layers == 'unrolled':
      block = Block
      if c.remat != 'none':
        block = nn.remat(Block, policy=REMAT_POLICIES[c.remat])
      self.layers = [block(c) for _ in range(c.num_layers)]
    self.final_norm = RMSNorm(c)
    if c.head != 'lm':
      self.scalar_head = Projection(
        c, (c.embed_dim, 1), ('embed', 'scalar'), result='float32'
      )
    elif not c.tie_embeddings:
      self.lm_head = Projection(
        c, (c.embed_dim, c.vocab_size), ('embed', 'vocab'), result='float32'
      )

  def __call__(
    self,
    tokens: jax.Array,
    positions: jax.Array | None = None,
    mask: jax.Array | Causal | None = None,
    cache: Cache | None = None,
    slot: jax.Array | int = 0,
    prefix: tuple[Cache, jax.Array] | None = None,
  ) -> tuple[jax.Array, Cache]:
    """Computes the hidden state after each token.

    Args:
      tokens: int32[B, T].
      positions: int32[B, T]; by default 0 .. T - 1.
      mask: bool[B, T, S], True where token t may look at slot s, or without a
        cache `Causal`, which is the default and right for right-padded rows. S
        is T, or the cache's.
      cache: keys and values of each layer, [B, Hkv, S, Dh] each.
      slot: the place in `cache` where this call's T keys and values are
        written.
      prefix: keys and values of earlier tokens, read but not written, of each
        layer [B / n, Hkv, P, Dh], shared by n adjacent rows; and the mask of
        the valid ones, bool[B / n, P].

    Returns:
      The normed hidden states, `dtype[B, T, D]`, and the cache; without a
      `cache`, this call's own keys and values, [B, Hkv, T, Dh].
    """
    length = tokens.shape[1]
    if positions is None:
      positions = jnp.arange(length)[None]
    # Short rows get a mask; for long ones each block makes its own.
    mask = Causal() if mask is None else mask
    if isinstance(mask, Causal) and length <= attention.SHORT:
      mask = mask.mask(length)
    frequencies = rotary_frequencies(self.config)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    x = sharding.constrain(self.embed(tokens), 'rows', 'columns')
    loop = self._scan if _is_scanned(self) else self._unroll
    x, cache = loop(x, angles, mask, cache, slot, prefix)
    x = self.final_norm(x)
    if self.is_initializing():  # the heads' parameters exist from the start
      (self.logits if self.config.head == 'lm' else self.scalars)(x)
    return x, cache

  def _unroll(self, x, angles, mask, cache, slot, prefix):
    """Computes the layers one after another."""
    caches = []
    for i, layer in enumerate(self.layers):
      shared = prefix and (*prefix[0][i], prefix[1][:, None])
      x, layer_cache = layer(
        x, angles, mask, None if cache is None else cache[i], slot, shared
      )
      x = sharding.constrain(x, 'rows', 'columns')
      caches.append(layer_cache)
    return x, tuple(caches)

  def _scan(self, x, angles, mask, cache, slot, prefix):
    """Computes the layers in a loop over their stacked parameters."""
    block = Block(self.config, parent=None)

    def one_layer(params, *arguments):
      return block.apply({'params': params}, *arguments)

    if self.config.remat != 'none':
      policy = REMAT_POLICIES[self.config.remat]
      # The forward and the backward loop have nothing in common to merge.
      one_layer = jax.checkpoint(one_layer, policy=policy, prevent_cse=False)

    def body(x, layer):
      params, cache, shared = layer
      shared = shared and (*shared, prefix[1][:, None])
      x, own = one_layer(params, x, angles, mask, cache, slot, shared)
      return sharding.constrain(x, 'rows', 'columns'), own

    layers = (
      self._cast(self.get_variable('params', layer_stack.LAYERS)),
      cache and cache[0],
      prefix and prefix[0][0],
    )
    x, own = jax.lax.scan(body, x, layers)
    if cache is None:
      return x, (own,)
    # The loop reads the cache; it is written once, for all layers.
    write = jax.lax.dynamic_update_slice_in_dim
    return x, (
      tuple(write(*xs, slot, 3) for xs in zip(*cache, own, strict=True)),
    )

  def _cast(self, layers):
    """Casts stacked matrices, as `Projection` would cast each layer's.

    XLA casts them before the loop in any case. Here the gradients of all
    layers are of that dtype, too, which is the one they are computed in.
    """
    if self.config.is_int8:
      return layers
    return jax.tree_util.tree_map_with_path(
      lambda path, x: (
        x.astype(self.config.dtype) if path[-1].key == 'kernel' else x
      ),
      layers,
    )

  def logits(self, hidden: jax.Array) -> jax.Array:
    """Computes next-token logits: [..., D] -> float32[..., V]."""
    if self.config.tie_embeddings:
      return self.embed.logits(hidden)
    return self.lm_head(hidden)

  def scalars(self, hidden: jax.Array) -> jax.Array:
    """Computes values or rewards: [..., D] -> float32[...]."""
    return self.scalar_head(hidden)[..., 0]


def abstract_params(model: Transformer):
  """Returns the parameters as shapes, boxed with their logical axis names."""
  tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
  init = _unrolled(model).init
  shapes = jax.eval_shape(init, jax.random.key(0), tokens)['params']
  return layer_stack.stack(shapes) if _is_scanned(model) else shapes


def init_params(model: Transformer, key: jax.Array):
  """Draws parameters, unboxed; residual outputs scaled by 1/sqrt(2L).

  The scaling is GPT-2's: it keeps the variance of the residual stream
  independent of depth. int8 parameters are initialised in float32, then
  quantised; those of scanned layers are unrolled, then stacked.
  """
  if _is_scanned(model):
    return layer_stack.stack(init_params(_unrolled(model), key))
  if model.config.is_int8:
    config = dataclasses.replace(model.config, param_dtype='float32')
    return quantize.quantize(init_params(Transformer(config), key))
  params = nn.meta.unbox(
    model.init(key, jnp.zeros((1, 2), jnp.int32))['params']
  )
  scale = 1 / math.sqrt(2 * model.config.num_layers)

  def shrink(path, x):
    names = [k.key for k in path]
    return x * scale if names[-2] in ('o', 'down') else x

  return jax.tree_util.tree_map_with_path(shrink, params)


def empty_cache(config: TransformerConfig, rows: int, slots: int) -> Cache:
  """Makes a cache of zeros for B rows of S tokens."""
  shape = rows, config.num_kv_heads, slots, config.head_dim
  number = config.num_layers
  if config.layers == 'scanned':
    shape, number = (number, *shape), 1
  layer = jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype)
  return (layer,) * number


def _is_scanned(model: Transformer) -> bool:
  return model.config.layers == 'scanned'


def _unrolled(model: Transformer) -> Transformer:
  """Returns the model with its layers unrolled."""
  return Transformer(dataclasses.replace(model.config, layers='unrolled'))
