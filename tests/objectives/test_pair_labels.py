import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import pair_labels


def test_strength_by_hand():
  scores = jnp.array([[[2.0, 1.0], [0.0, 3.0]], [[5.0, 1.0], [0.0, 1.0]]])
  mean, deviation = pair_labels.preference_strength(scores, jnp.ones(2, bool))
  np.testing.assert_allclose(mean, [2.5, -2.0])  # of 1, 4 and of -3, -1
  np.testing.assert_allclose(deviation, [1.5, 1.0])
  mean, deviation = pair_labels.preference_strength(
    scores[:1], jnp.ones(2, bool)
  )
  np.testing.assert_allclose(mean, [1.0, -3.0])
  assert not np.any(deviation)


def test_strength_ignores_each_models_constant_and_padding():
  scores = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 2)))
  where = jnp.array([True, True, True, False])
  expected = pair_labels.preference_strength(scores, where)
  moved = scores + jnp.array([0.0, 5.0, -7.0])[:, None, None]
  moved = moved.at[:, 3].set(jnp.nan)
  for actual, values in zip(
    pair_labels.preference_strength(moved, where), expected, strict=True
  ):
    np.testing.assert_allclose(actual, values, rtol=1e-4, atol=1e-5)
    assert values[3] == 0


@pytest.mark.parametrize(
  ('strengths', 'share', 'expected'),
  [
    ([-3, 1, -1, -2, 5], 0.4, [1, 0, 0, 1, 0]),
    ([-3, 1, -1, -2, 5], 0.2, [1, 0, 0, 0, 0]),
    ([-3, 1, -1, -2, 5], 0.19, [0, 0, 0, 0, 0]),
    ([-3, 1, -1, -2, 5], 1.0, [1, 0, 1, 1, 0]),  # none that is above 0
    ([-3, 1, -1, -2, 5], 0.0, [0, 0, 0, 0, 0]),
    ([-1, -1, -1, 2], 0.5, [0, 0, 0, 0]),  # ties that do not all fit
    ([-1, -1, 3, 2], 0.5, [1, 1, 0, 0]),
    ([0, 0, 1, 2], 0.5, [0, 0, 0, 0]),
  ],
)
def test_flips(strengths, share, expected):
  strengths = jnp.array(strengths, jnp.float32)
  where = jnp.ones(len(expected), bool)
  actual = pair_labels.flips(strengths, where, share=share)
  assert actual.tolist() == [bool(x) for x in expected]
  # Padding neither is flipped nor counts.
  longer = jnp.concatenate([strengths, jnp.full(3, -9.0)])
  padded = jnp.concatenate([where, jnp.zeros(3, bool)])
  actual = pair_labels.flips(longer, padded, share=share)
  assert actual.tolist() == [bool(x) for x in expected] + [False] * 3


def test_flips_find_wrong_labels_of_a_world_with_noise():
  """Linear models on halves of the pairs; 30 of 100 labels are wrong."""
  random = np.random.default_rng(0)
  truth = random.normal(size=30)
  differences = random.normal(size=(1500, 30))
  is_right = random.random(1500) > 0.3
  labels = np.where(is_right, 1, -1) * np.sign(differences @ truth)
  chosen_first = differences * labels[:, None]
  scores = []
  for _ in range(10):
    half = random.choice(1500, 750, replace=False)
    # Least squares of a label on features: as good as logistic here.
    model = np.linalg.lstsq(chosen_first[half], np.ones(750), rcond=None)[0]
    scores.append(np.stack([chosen_first @ model, np.zeros(1500)], axis=1))
  where = jnp.ones(1500, bool)
  mean, _ = pair_labels.preference_strength(jnp.asarray(scores), where)
  weakest = np.asarray(pair_labels.flips(mean, where, share=0.2))
  assert weakest.sum() == 300
  assert np.mean(~is_right[weakest]) > 0.8
  strongest = np.argsort(mean)[-150:]
  assert np.mean(~is_right[strongest]) < 0.05


def test_a_share_above_1_is_refused():
  one = jnp.ones(1)
  with pytest.raises(ValueError, match='share: got 1.5; expected 0 to 1'):
    pair_labels.flips(one, one > 0, share=1.5)
