"""The decoder-only transformer: families of models in one linen module.

RMSNorm, rotary positions, grouped-query attention, a gated MLP. The families
differ only by data in `TransformerConfig`: biases on q, k and v (Qwen2), norms
of q and k (Qwen3), sliding windows (Mistral, Gemma 3), and so on. Every
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
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from critic_jax.models import (
  attention,
  cudnn_attention,
  layer_stack,
  layer_views,
  lora,
  quantize,
  splash_attention,
)
from critic_jax.models.attention import MIXED
from critic_jax.models.config import TransformerConfig
from critic_jax.models.linear import PRODUCT, Embedding, Projection
from critic_jax.models.mlp import MLP, Experts
from critic_jax.models.rotary import rotate
from critic_jax.models.visibility import Causal
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


class RMSNorm(nn.Module):
  """Root-mean-square norm (1910.07467, eq. 4), in float32."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Norms the last axis of `x`."""
    config = self.config
    init = nn.initializers.constant(1 - config.norm_offset)
    scale = self.param(
      'scale', nn.with_logical_partitioning(init, ('norm',)), x.shape[-1:],
      config.vector_dtype,
    )  # fmt: skip
    scale = scale.astype(jnp.float32)
    if config.norm_offset:
      scale += config.norm_offset
    y = x.astype(jnp.float32)
    y *= jax.lax.rsqrt(
      jnp.mean(jnp.square(y), axis=-1, keepdims=True) + config.norm_eps
    )
    return (y * scale).astype(config.dtype)


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

  def __call__(self, x, view, cache, slot, prefix):
    """Attends as `view` says: ([B, T, D], (keys, values)).

    Those of the whole cache are returned, or where layers are scanned those of
    this call's tokens.

    Args:
      x: [B, T, D].
      view: a `layer_views.View`.
      cache: keys and values of the layer, or None.
      slot: as `Transformer` takes it.
      prefix: keys and values of earlier tokens, or None.
    """
    q, k, v = self.q(x), self.k(x), self.v(x)
    if self.config.qk_norm:
      q, k = self.q_norm(q), self.k_norm(k)
    mask = view.mask
    kernel = self.config.attention if isinstance(mask, Causal) else 'xla'
    q = rotate(q, view.angles, 'float32')
    q = q if view.factor is None else q * view.factor
    # Splash scales queries, and rounds them once if they were not rounded here.
    q = q if kernel == 'splash' else q.astype(k.dtype)
    k = rotate(k, view.angles)
    k, v = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)  # [B, Hkv, T, Dh]
    # Columns of queries may be split; each looks at the keys of all columns.
    q = sharding.constrain(q, 'rows', 'columns', 'heads')
    k, v = (sharding.constrain(x, 'rows', 'kv_heads') for x in (k, v))
    parts = [] if prefix is None else [(*prefix, view.prefix)]
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


class Block(nn.Module):
  """Attention and MLP, each behind a norm and beside a residual."""

  config: TransformerConfig

  def setup(self):
    """Declares the parts."""
    self.attention_norm = RMSNorm(self.config)
    self.attention = Attention(self.config)
    self.mlp_norm = RMSNorm(self.config)
    self.mlp = (Experts if self.config.num_experts else MLP)(self.config)
    if self.config.post_norms:
      self.post_attention_norm = RMSNorm(self.config)
      self.post_mlp_norm = RMSNorm(self.config)

  def __call__(self, x, view, cache, slot, prefix):
    """Computes a layer as `Attention` takes it: ([B, T, D], (keys, values))."""
    mixed, cache = self.attention(
      self.attention_norm(x), view, cache, slot, prefix
    )
    if self.config.post_norms:
      mixed = self.post_attention_norm(mixed)
    x = x + mixed
    mixed = self.mlp(self.mlp_norm(x))
    if self.config.post_norms:
      mixed = self.post_mlp_norm(mixed)
    return x + mixed, cache


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
    cache_positions: jax.Array | None = None,
  ) -> tuple[jax.Array, Cache]:
    """Computes the hidden state after each token.

    Args:
      tokens: int32[B, T].
      positions: int32[B, T]; by default 0 .. T - 1.
      mask: bool[B, T, S], True where token t may look at slot s, or without a
        cache `Causal`, which is the default and right for right-padded rows. S
        is T, or the cache's. A layer with a window looks at fewer of them.
      cache: keys and values of each layer, [B, Hkv, S, Dh] each.
      slot: the place in `cache` where this call's T keys and values are
        written.
      prefix: keys and values of earlier tokens, read but not written, of each
        layer [B / n, Hkv, P, Dh], shared by n adjacent rows; and the mask of
        the valid ones, bool[B / n, P]. Column p has the token of position p.
      cache_positions: int32[B, S], the positions of the tokens in the cache and
        of this call's; only windows need them.

    Returns:
      The normed hidden states, `dtype[B, T, D]`, and the cache; without a
      `cache`, this call's own keys and values, [B, Hkv, T, Dh].

    Raises:
      ValueError: a model with windows gets a cache without positions.
    """
    config = self.config
    if config.sliding_window and cache is not None and cache_positions is None:
      raise ValueError(
        'cache_positions: got none for a model with windows; expected those of '
        'all slots'
      )
    if positions is None:
      positions = jnp.arange(tokens.shape[1])[None]

    def view(has_window):
      return layer_views.of_layer(
        config,
        has_window,
        positions,
        Causal() if mask is None else mask,
        positions if cache is None else cache_positions,
        None if prefix is None else prefix[1],
        len(tokens),
      )

    x = self.embed(tokens)
    if config.scale_embeddings:
      x *= jnp.asarray(math.sqrt(config.embed_dim), x.dtype)
    x = sharding.constrain(x, 'rows', 'columns')
    loop = self._scan if _is_scanned(self) else self._unroll
    x, cache = loop(x, view, cache, slot, prefix and prefix[0])
    x = self.final_norm(x)
    if self.is_initializing():  # the heads' parameters exist from the start
      (self.logits if config.head == 'lm' else self.scalars)(x)
    return x, cache

  def _unroll(self, x, view, cache, slot, prefix):
    """Computes the layers one after another."""
    views = {kind: view(kind) for kind in set(self.config.has_window)}
    caches = []
    for i, (layer, kind) in enumerate(
      zip(self.layers, self.config.has_window, strict=True)
    ):
      x, layer_cache = layer(
        x, views[kind], cache and cache[i], slot, prefix and prefix[i]
      )
      x = sharding.constrain(x, 'rows', 'columns')
      caches.append(layer_cache)
    return x, tuple(caches)

  def _scan(self, x, view, cache, slot, prefix):
    """Computes the layers in a loop over their stacked parameters."""
    block = Block(self.config, parent=None)
    first, *others = self.config.has_window
    is_mixed = (not first) in others
    shared_view = None if is_mixed else view(first)

    def one_layer(params, has_window, x, cache, slot, prefix):
      # A mixed view is made here, so that no layer's is kept for the backward.
      layer_view = view(has_window) if is_mixed else shared_view
      return block.apply({'params': params}, x, layer_view, cache, slot, prefix)

    if self.config.remat != 'none':
      policy = REMAT_POLICIES[self.config.remat]
      # The forward and the backward loop have nothing in common to merge.
      one_layer = jax.checkpoint(one_layer, policy=policy, prevent_cse=False)

    def body(x, layer):
      params, has_window, cache, prefix = layer
      x, own = one_layer(params, has_window, x, cache, slot, prefix)
      return sharding.constrain(x, 'rows', 'columns'), own

    layers = (
      self._cast(self.get_variable('params', layer_stack.LAYERS)),
      jnp.array(self.config.has_window) if is_mixed else None,
      cache and cache[0],
      prefix and prefix[0],
    )
    if cache is None:
      x, own = jax.lax.scan(body, x, layers)
      return x, (own,)
    x, own = layer_stack.scan_as_stored(body, x, layers)
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


@functools.cache
def abstract_params(model: Transformer):
  """Returns the parameters as shapes, boxed with their logical axis names."""
  # One layer is traced: all have the same, but for adapters.
  config = dataclasses.replace(model.config, num_layers=1, layers='unrolled')
  tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
  init = Transformer(config).init
  shapes = jax.eval_shape(init, jax.random.key(0), tokens)['params']
  shapes = layer_stack.repeat(shapes, model.config.num_layers)
  shapes |= lora.plain(model.config, shapes)
  return layer_stack.stack(shapes) if _is_scanned(model) else shapes


def init_params(model: Transformer, key: jax.Array):
  """Draws parameters, unboxed; residual outputs scaled by 1/sqrt(2L).

  The scaling is GPT-2's: it keeps the variance of the residual stream
  independent of depth. int8 parameters are initialised in float32, then
  quantised; those of scanned layers are unrolled, then stacked.
  """
  if _is_scanned(model):
    config = dataclasses.replace(model.config, layers='unrolled')
    return layer_stack.stack(init_params(Transformer(config), key))
  if model.config.is_int8:
    config = dataclasses.replace(model.config, param_dtype='float32')
    return quantize.quantize(init_params(Transformer(config), key))
  params = nn.meta.unbox(
    model.init(key, jnp.zeros((1, 2), jnp.int32))['params']
  )
  scale = 1 / math.sqrt(2 * model.config.num_layers)

  def shrink(path, x):
    names = [k.key for k in path]
    is_output = names[-2] in ('o', 'down', 'expert_down')
    return x * scale if is_output and names[-1] == 'kernel' else x

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
