"""Experts against a loop in plain Python, alone and among others."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close, random_params, tiny_config

from critic_jax.models import grouped_product, quantize
from critic_jax.models.mlp import Experts
from critic_jax.models.transformer import Transformer

CONFIG = tiny_config('qwen3_moe', num_layers=1)


@functools.cache
def params():
  return random_params(Transformer(CONFIG))['layers_0']['mlp']


def inputs(rows=2, columns=9, seed=0):
  shape = rows, columns, CONFIG.embed_dim
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=2)
def run(params, x, config=CONFIG):
  return Experts(config).apply({'params': params}, x)


def one_token(params, x, normalize=True):
  scores = np.exp(params['router'] @ x)
  probs = scores / scores.sum()
  chosen = sorted(range(len(probs)), key=lambda e: -float(probs[e]))[:2]
  total = sum(probs[e] for e in chosen) if normalize else 1.0
  result = 0.0
  for e in chosen:
    gate, up, down = (
      params[f'expert_{part}']['kernel'][e] for part in ('gate', 'up', 'down')
    )
    mixed = (x @ gate / (1 + np.exp(-x @ gate)) * (x @ up)) @ down
    result += probs[e] / total * mixed
  return result


@pytest.mark.parametrize('normalize', [True, False])
def test_experts_are_a_loop_over_tokens(normalize):
  config = dataclasses.replace(CONFIG, normalize_experts=normalize)
  x, on_host = inputs(1, 5), jax.tree.map(np.asarray, params())
  expected = [one_token(on_host, token, normalize) for token in x[0]]
  np.testing.assert_allclose(
    run(params(), x, config)[0], np.stack(expected), rtol=1e-4, atol=1e-5
  )


def test_gradients_are_those_of_all_experts_computed():
  """Each token through every expert, with the weight 0 of most."""

  def dense(params, x):
    probs = jax.nn.softmax(jnp.einsum('btd,ed->bte', x, params['router']))
    kept = jax.lax.top_k(probs, 2)[0][..., -1:]
    weights = jnp.where(probs >= kept, probs, 0)
    weights /= weights.sum(-1, keepdims=True)
    gate, up = (
      jnp.einsum('btd,edf->btef', x, params[f'expert_{part}']['kernel'])
      for part in ('gate', 'up')
    )
    mixed = jax.nn.silu(gate) * up
    down = params['expert_down']['kernel']
    return jnp.einsum('btef,efd,bte->btd', mixed, down, weights)

  def gradient(function):
    total = lambda *arguments: jnp.sum(jnp.sin(function(*arguments)))  # noqa: E731
    return jax.jit(jax.grad(total, (0, 1)))(params(), inputs())

  assert_trees_close(gradient(run), gradient(dense), rtol=1e-4, atol=2e-5)


def test_a_token_does_not_see_its_neighbours():
  x = inputs()
  whole, alone = run(params(), x), run(params(), x[1:, 4:5])
  np.testing.assert_allclose(whole[1, 4], alone[0, 0], atol=1e-6)
  # All tokens to the same two experts: none is full.
  same = np.repeat(x[:1, :1], 9, axis=1)
  np.testing.assert_allclose(
    run(params(), same)[0], np.repeat(whole[0, :1], 9, axis=0), atol=1e-6
  )


def test_int8_experts_are_the_floats_that_they_stand_for():
  config = dataclasses.replace(CONFIG, param_dtype='int8')
  stored = jax.jit(quantize.quantize)({'mlp': params()})
  floats = jax.jit(quantize.dequantize)(stored)['mlp']
  assert stored['mlp']['expert_down']['kernel'].dtype == jnp.int8
  assert stored['mlp']['router'].dtype == jnp.float32
  np.testing.assert_allclose(
    run(stored['mlp'], inputs(), config), run(floats, inputs()),
    rtol=1e-4, atol=1e-5,
  )  # fmt: skip
  error = np.abs(
    floats['expert_up']['kernel'] - params()['expert_up']['kernel']
  )
  assert error.max() <= stored['mlp']['expert_up']['kernel_scale'].max() / 2


def test_every_row_has_a_place_among_rows_of_its_group():
  group = np.random.default_rng(0).integers(0, 5, 40)  # 4: of no group
  blocks = grouped_product.make_blocks(jnp.array(group), 4, 8)
  owners = np.repeat(np.array(blocks.groups), 8)
  sources = np.array(blocks.sources)
  for row, place in enumerate(np.array(blocks.places)):
    if group[row] == 4:
      assert place == len(owners)
    else:
      assert owners[place] == group[row] and sources[place] == row
      assert place < 8 * blocks.num_used
  assert (sources < 40).sum() == (group < 4).sum()
