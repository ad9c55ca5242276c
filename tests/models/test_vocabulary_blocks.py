"""Blocks of the vocabulary give what chunks of tokens give.

On meshes of several devices tests/runtime/test_sharding.py compares both.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.models import linear_cross_entropy, vocabulary_blocks
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.runtime import sharding

CHUNKS, ROWS, WIDTH, SIZE, VOCAB = 2, 3, 4, 5, 12


@pytest.mark.parametrize('axes', ['vd', 'dv'])
@pytest.mark.parametrize(('num_shards', 'num_blocks'), [(1, 3), (2, 1), (4, 3)])
def test_values_and_gradients(monkeypatch, axes, num_shards, num_blocks):
  """The blocks of several shards, here all on one device."""
  monkeypatch.setattr(
    sharding,
    'num_parts',
    lambda name, size: num_shards if name == 'vocab' else 1,
  )
  keys = jax.random.split(jax.random.key(0), 4)
  hidden = 3 * jax.random.normal(keys[0], (CHUNKS, ROWS, WIDTH, SIZE))
  shape = (VOCAB, SIZE) if axes == 'vd' else (SIZE, VOCAB)
  kernel = 3 * jax.random.normal(keys[1], shape)
  weights = jax.random.normal(keys[2], hidden.shape[:3])
  targets = jax.random.randint(keys[3], hidden.shape[:3], 0, VOCAB)

  def loss(num_blocks, hidden, kernel):
    statistics = linear_cross_entropy._statistics(
      axes, num_blocks, hidden, kernel, targets, None, SamplingParams(0.7)
    )
    return jnp.sum(weights * statistics[0]), statistics

  grad_fn = jax.value_and_grad(loss, (1, 2), has_aux=True)
  expected = grad_fn(0, hidden, kernel)
  for value, other in zip(
    *map(jax.tree.leaves, (grad_fn(num_blocks, hidden, kernel), expected)),
    strict=True,
  ):
    np.testing.assert_allclose(value, other, rtol=2e-5, atol=2e-5)


def test_logits_too_large_to_exponentiate():
  hidden, kernel = jnp.ones((1, 1, 1, 1)), jnp.array([[-900.0], [0], [900.0]])
  blocks = vocabulary_blocks.cut(kernel, 'vd', 3, jnp.float32)
  logprobs, entropies, normalizer = vocabulary_blocks.statistics(
    blocks, hidden, jnp.zeros((1, 1, 1), jnp.int32), 1.0
  )
  assert (logprobs, entropies, normalizer) == (-1800, 0, 900)


@pytest.mark.parametrize(
  ('num_logits', 'vocab', 'number'),
  [(100, 12, 1), (101, 12, 2), (250, 12, 3), (450, 12, 6), (250, 13, 0)],
)
def test_blocks_are_as_large_as_may_be_and_of_one_size(
  num_logits, vocab, number
):
  assert vocabulary_blocks.number(num_logits, vocab, 100) == number


def test_only_distributions_known_to_be_whole_have_blocks():
  is_whole = linear_cross_entropy._is_known_whole
  assert is_whole(SamplingParams()) and is_whole(SamplingParams(0.5))
  for other in (dict(top_k=2), dict(top_p=0.9), dict(temperature=0.0)):
    assert not is_whole(SamplingParams(**other))
  seen = []
  jax.eval_shape(lambda x: seen.append(is_whole(SamplingParams(x))), 1.0)
  assert seen == [False]
