import dataclasses
import math

import numpy as np
import pytest

from critic_jax.models.config import TransformerConfig
from critic_jax.pretrained import merging

CONFIG = TransformerConfig(
  vocab_size=8, embed_dim=8, mlp_dim=8, num_layers=2, num_heads=2,
  num_kv_heads=1, head_dim=4,
)  # fmt: skip


def test_a_third_of_a_right_angle():
  """Vectors of lengths 2 and 1: 60 degrees from one, 30 from the other."""
  actual = merging.slerp(np.array([2.0, 0.0]), np.array([0.0, 1.0]), 1 / 3)
  np.testing.assert_allclose(
    actual, [2 * math.sin(math.pi / 3), math.sin(math.pi / 6)]
  )


@pytest.mark.parametrize('weight', [0.0, 0.2, 0.5, 0.9, 1.0])
def test_an_arc_keeps_the_length_and_divides_the_angle(weight):
  first, second = np.random.default_rng(0).normal(size=(2, 4, 5))
  second *= np.linalg.norm(first) / np.linalg.norm(second)
  merged = merging.slerp(first, second, weight)
  assert np.linalg.norm(merged) == pytest.approx(np.linalg.norm(first))

  def angle(a, b):
    cosine = np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
    return math.acos(min(cosine, 1))

  whole = angle(first, second)
  assert angle(first, merged) == pytest.approx(weight * whole, abs=1e-6)


@pytest.mark.parametrize('rule', merging.RULES)
def test_the_ends_are_the_models(rule):
  first, second = np.random.default_rng(1).normal(size=(2, 3, 4))
  merge = merging.RULES[rule]
  np.testing.assert_allclose(merge(first, second, 0.0), first, rtol=1e-12)
  np.testing.assert_allclose(merge(first, second, 1.0), second, rtol=1e-12)
  np.testing.assert_allclose(
    merge(first, second, 0.3), merge(second, first, 0.7), rtol=1e-12
  )


def test_parallel_vectors_are_merged_on_the_line():
  a, zero = np.array([1.0, 2.0, 2.0]), np.zeros(3)
  np.testing.assert_allclose(merging.slerp(a, 3 * a, 0.25), 1.5 * a)
  np.testing.assert_allclose(merging.slerp(a, -a, 0.25), 0.5 * a)
  np.testing.assert_allclose(merging.slerp(zero, a, 0.25), 0.25 * a)
  # Just within the bound, and just beyond, where the two are nearly the same.
  for offset, is_line in ((0.031, True), (0.032, False)):
    first, second = np.array([1.0, 0.0]), np.array([1.0, offset])
    arc = merging.slerp(first, second, 0.5)
    line = merging.linear(first, second, 0.5)
    assert (arc == line).all() == is_line
    np.testing.assert_allclose(arc, line, rtol=2e-3)


def test_each_layer_is_merged_by_itself():
  """A stack of two layers, one of which is turned and one of which is not."""
  first = {'layers': {'w': np.array([[2.0, 0.0], [4.0, 0.0]], np.float32)}}
  second = {'layers': {'w': np.array([[0.0, 2.0], [2.0, 0.0]], np.float32)}}
  merged = merging.merge(first, second, weight=0.5)
  assert merged.keys() == {'layers_0', 'layers_1'}
  root = math.sqrt(2)
  np.testing.assert_allclose(merged['layers_0']['w'], [root, root], rtol=1e-6)
  np.testing.assert_allclose(merged['layers_1']['w'], [3, 0], rtol=1e-6)
  assert merged['layers_0']['w'].dtype == np.float32
  middle = merging.merge(first, second, weight=0.5, rule='linear')
  np.testing.assert_allclose(middle['layers_0']['w'], [1, 1])


def test_other_shapes_and_names_are_refused():
  first = {'a': np.zeros(2), 'b': np.zeros(3)}
  with pytest.raises(ValueError, match=r'merge: got b of .*\(3,\) and None'):
    merging.merge(first, {'a': np.zeros(2)}, weight=0.5)
  with pytest.raises(ValueError, match=r'got a .*\(2,\) and \(1, 2\)'):
    merging.merge(first, {**first, 'a': np.zeros((1, 2))}, weight=0.5)


def test_other_families_are_refused():
  same = dataclasses.replace(CONFIG, remat='full', param_dtype='bfloat16')
  merging.check(CONFIG, same)
  other = dataclasses.replace(CONFIG, vocab_size=9, norm_offset=1.0)
  with pytest.raises(
    ValueError,
    match='vocab_size=8, norm_offset=0.0 and vocab_size=9, norm_offset=1.0',
  ):
    merging.check(CONFIG, other)
