"""Flops and bytes of a model against counts by hand, and against XLA's."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from hand_counts import HEAD, KEYS, KV, LAYERS, MODEL, PARAMS

from critic_jax.models import cost, sizes, transformer
from critic_jax.models.config import TransformerConfig
from critic_jax.models.transformer import Transformer


def test_weights():
  assert cost.layer_weights(MODEL) == LAYERS == 1512
  assert cost.num_params(MODEL) == PARAMS == 1662
  assert cost.kv_bytes(MODEL, 4) == KV


@pytest.mark.parametrize(
  'extra',
  [
    {},
    {'qkv_bias': True},
    {'qk_norm': True},
    {'tie_embeddings': 0},
    {'post_norms': True, 'num_experts': 4, 'experts_per_token': 2},
  ],  # fmt: skip
)
def test_params_are_those_of_the_model(extra):
  model = {**MODEL, **extra}
  shapes = transformer.abstract_params(Transformer(TransformerConfig(**model)))
  count = sum(x.size for x in jax.tree.leaves(shapes))
  assert cost.num_params(model) == count
  untied = extra.get('tie_embeddings') == 0
  assert cost.read_params(model) == count - untied * HEAD


def test_smollm2_has_135m_parameters():
  model = sizes.SIZES['smollm2-135m']
  assert cost.num_params(model) == 134515008


def test_forward_flops():
  # Tokens 4 and 5 of a row look at 4 and 5 keys; one row of logits.
  assert cost.forward_flops(MODEL, 2, 3, 1) == (
    2 * LAYERS * 2 + KEYS * 9 + 2 * HEAD
  )


def test_a_token_pays_for_its_experts_and_its_window():
  experts = MODEL | dict(num_experts=4, experts_per_token=2)
  mlp = 3 * MODEL['embed_dim'] * MODEL['mlp_dim']
  extra = MODEL['num_layers'] * (mlp + MODEL['embed_dim'] * 4)
  plain = cost.forward_flops(MODEL, 2, 3, 1)
  assert cost.forward_flops(experts, 2, 3, 1) == plain + 2 * 2 * extra
  # Tokens 4 and 5 look at 4 and 4 keys, or at 3 and 3, or in half the layers.
  reads = {4: 8, 3: 6, 9: 9}
  for window, number in reads.items():
    flops = cost.forward_flops(MODEL | dict(sliding_window=window), 2, 3, 1)
    assert flops == plain + KEYS * (number - 9)
  model = MODEL | dict(sliding_window=3, global_every=2)
  assert MODEL['num_layers'] == 2
  assert cost.forward_flops(model, 2, 3, 1) == plain - KEYS * 3 // 2


def test_forward_flops_against_xla():
  """XLA counts all T^2 pairs, and operations between the products, too."""
  model = Transformer(
    TransformerConfig(**{'vocab_size': 4096, **sizes.SIZES['tiny']})
  )
  params = nn.meta.unbox(transformer.abstract_params(model))
  length = 64

  def forward(params, tokens):
    hidden, _ = model.apply({'params': params}, tokens)
    return model.apply({'params': params}, hidden, method='logits')

  tokens = jnp.ones((1, length), jnp.int32)
  analysis = jax.jit(forward).lower(params, tokens).compile().cost_analysis()
  fields = dataclasses.asdict(model.config)
  product_flops = cost.forward_flops(fields, length, 0, length)
  looks = KEYS_OF(fields) * (length * length - length * (length + 1) // 2)
  assert product_flops + looks == pytest.approx(analysis['flops'], rel=0.05)


def KEYS_OF(fields):
  return 4 * fields['num_layers'] * fields['num_heads'] * fields['head_dim']
