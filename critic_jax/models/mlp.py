"""The part of a layer that sees each token alone: one MLP, or experts.

A token goes through the few experts that its router's softmax weighs most, and
gets their weighted sum (Qwen3-MoE). No expert is ever full, so that a token's
result does not depend on its neighbours, and sampler and trainer agree. The
loss that balances experts in pretraining is not there: the router of a trained
model is balanced, and RL and imitation change it little.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from critic_jax.models import grouped_product, kernel_shards
from critic_jax.models.config import TransformerConfig
from critic_jax.models.linear import PRODUCT, ExpertMatrices, Projection
from critic_jax.runtime import sharding

ACTIVATIONS = {
  'silu': jax.nn.silu,
  'gelu_tanh': functools.partial(jax.nn.gelu, approximate=True),
}


class MLP(nn.Module):
  """A gated MLP: SwiGLU (2002.05202, eq. 6), or its kin."""

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
    act = ACTIVATIONS[self.config.activation]
    return self.down(act(self.gate(x)) * self.up(x))


class Experts(nn.Module):
  """A mixture of gated MLPs (2101.03961, without its capacity)."""

  config: TransformerConfig

  def setup(self):
    """Declares the router and the matrices of all experts."""
    c = self.config
    names = 'experts', 'embed', 'expert_mlp'
    up = c.num_experts, c.embed_dim, c.mlp_dim
    self.router = self.param(
      'router',
      nn.with_logical_partitioning(
        nn.initializers.normal(c.embed_dim**-0.5), names[:2]
      ),
      up[:2],
      c.vector_dtype,
    )
    self.expert_gate = ExpertMatrices(c, up, names)
    self.expert_up = ExpertMatrices(c, up, names)
    self.expert_down = ExpertMatrices(
      c, (c.num_experts, c.mlp_dim, c.embed_dim),
      ('experts', 'expert_mlp', 'embed'),
    )  # fmt: skip

  def __call__(self, x):
    """Maps `[B, T, D]` to `[B, T, D]`."""
    weights, chosen = self._route(x)
    experts = jnp.arange(self.config.num_experts)
    matrices = self.expert_gate(), self.expert_up(), self.expert_down()
    of_rows, of_experts = ('rows', 'columns'), ('experts',)
    # The compiler does not split a loop over blocks.
    return kernel_shards.map_shards(
      functools.partial(_mix, self.config),
      (x, of_rows), (weights, of_rows), (chosen, of_rows),
      (experts, of_experts), (matrices, of_experts),
    )  # fmt: skip

  def _route(self, x):
    """Returns the weights and the numbers of each token's experts, [B, T, K].

    They are computed in float32: where rounding decided, the sampler's experts
    would be others than the trainer's.
    """
    c = self.config
    scores = jnp.einsum(
      'btd,ed->bte',
      x.astype(jnp.float32),
      self.router.astype(jnp.float32),
      precision='highest',
    )
    weights, chosen = jax.lax.top_k(jax.nn.softmax(scores), c.experts_per_token)
    if c.normalize_experts:
      weights /= jnp.sum(weights, axis=-1, keepdims=True)
    return weights, chosen


def _mix(config, x, weights, chosen, experts, matrices):
  """Sends tokens through those of their experts that this device has.

  Pairs of a token and an expert are put into blocks of one expert's pairs. A
  device has room for all pairs, as all may be its own.

  Args:
    config: the model's.
    x: [B, T, D].
    weights: float32[B, T, K].
    chosen: int32[B, T, K].
    experts: int32[E / n], the experts of this device, which are adjacent.
    matrices: those of gate, up and down, with their scales.

  Returns:
    [B, T, D].
  """
  number, expert = len(experts), chosen.reshape(-1) - experts[0]
  expert = jnp.where((expert >= 0) & (expert < number), expert, number)
  size = grouped_product.block_size(len(expert), config.num_experts)
  blocks = grouped_product.make_blocks(expert, number, size)

  def product(rows, matrices):
    kernel, scale = matrices
    y = grouped_product.product(rows, kernel, blocks.groups, blocks.num_used)
    if scale is not None:
      y = (y * scale[blocks.groups][:, None]).astype(y.dtype)
    return checkpoint_name(y, PRODUCT)

  gate, up, down = matrices
  activation = ACTIVATIONS[config.activation]
  tokens = blocks.sources // config.experts_per_token
  rows = x.reshape(-1, x.shape[-1]).at[tokens].get(mode='fill', fill_value=0)
  rows = rows.reshape(-1, size, x.shape[-1])
  mixed = product(activation(product(rows, gate)) * product(rows, up), down)
  # Back to tokens, each of which is a sum of its own.
  mixed = mixed.reshape(-1, x.shape[-1])
  mixed = mixed.at[blocks.places].get(mode='fill', fill_value=0)
  mixed = mixed.reshape(*chosen.shape, -1).astype(jnp.float32)
  result = jnp.einsum('btkd,btk->btd', mixed, weights)
  if number < config.num_experts:
    result = jax.lax.psum(result, sharding.RULES['experts'])
  return result.astype(x.dtype)
