import functools
import inspect

import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.evals import voting
from critic_jax.objectives import ensembles

RULES = [
  ensembles.average,
  ensembles.worst_case,
  ensembles.uncertainty_weighted,
  functools.partial(ensembles.uncertainty_weighted, coef=0.1),
]
SCORES = np.array([[1.0, 4.0, -2.0], [3.0, 4.0, 1.0]], np.float32)


def test_by_hand():
  np.testing.assert_allclose(ensembles.average(SCORES), [2, 4, -0.5])
  np.testing.assert_allclose(ensembles.worst_case(SCORES), [1, 4, -2])
  # Variances 1, 0 and 1.5**2 = 2.25: of the population, and no deviations.
  np.testing.assert_allclose(
    ensembles.uncertainty_weighted(SCORES, coef=0.5), [1.5, 4, -0.5 - 1.125]
  )


def test_the_list_has_all_rules():
  functions = {
    function
    for _, function in inspect.getmembers(ensembles, inspect.isfunction)
    if function.__module__ == ensembles.__name__ and function.__name__[0] != '_'
  }
  assert functions == {getattr(rule, 'func', rule) for rule in RULES}


@pytest.mark.parametrize('rule', RULES)
def test_laws(rule):
  random = np.random.default_rng(0)
  scores = random.normal(size=(5, 7)).astype(np.float32)
  combined = rule(scores)
  assert combined.shape == (7,) and combined.dtype == jnp.float32
  # The order of models is nobody's; one model, or copies of it, is itself.
  np.testing.assert_allclose(rule(scores[::-1]), combined, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(rule(scores[:1]), scores[0], rtol=1e-6)
  np.testing.assert_allclose(
    rule(np.stack([scores[0]] * 4)), scores[0], rtol=1e-5
  )
  # A constant added to all scores is added to the result.
  np.testing.assert_allclose(rule(scores + 3), combined + 3, rtol=1e-4)
  # No disagreement is paid for.
  assert np.all(combined <= scores.mean(axis=0) + 1e-5)
  assert rule(scores.astype(jnp.bfloat16)).dtype == jnp.float32


def test_scales():
  """The mean and the least score scale with the models; a variance does not."""
  for rule in RULES[:2]:
    np.testing.assert_allclose(rule(10 * SCORES), 10 * rule(SCORES), rtol=1e-6)
  actual = ensembles.uncertainty_weighted(10 * SCORES, coef=0.05)
  np.testing.assert_allclose(
    actual, 10 * ensembles.uncertainty_weighted(SCORES, coef=0.5), rtol=1e-5
  )
  np.testing.assert_allclose(
    ensembles.uncertainty_weighted(SCORES, coef=0.0), ensembles.average(SCORES)
  )


def test_a_negative_price_is_refused():
  with pytest.raises(ValueError, match='coef: got -0.5; expected >= 0'):
    ensembles.uncertainty_weighted(SCORES, coef=-0.5)


def features(x):
  """Looks at a point by one of five random sets of waves."""
  random = np.random.default_rng(1)
  waves = random.normal(size=(5, x.shape[1], 40))
  return np.cos(np.einsum('nd,kdf->knf', x, waves) + np.arange(40))


def test_best_of_many_by_one_model_and_by_an_ensemble():
  """The gold of one model's best of 512 is below that of an ensemble's."""
  random = np.random.default_rng(0)

  def gold(x):
    return 3 * np.tanh(x[:, 0]) - 0.15 * np.sum(x**2, axis=1)

  pairs = random.normal(size=(2, 600, 6))
  is_first = gold(pairs[0]) > gold(pairs[1])
  labels = np.where(is_first ^ (random.random(600) < 0.25), 1.0, -1.0)
  rows = features(pairs[0]) - features(pairs[1])
  models = [
    np.linalg.lstsq(
      np.concatenate([x, np.eye(40)]),
      np.concatenate([labels, np.zeros(40)]),
      rcond=None,
    )[0]
    for x in rows
  ]
  pool = random.normal(size=(2000, 6))
  scores = np.einsum('knf,kf->kn', features(pool), np.array(models))
  best = {
    'single': np.mean(
      [voting.best_of(x, gold(pool), [512])[0] for x in scores]
    ),
    **{
      rule.__name__: voting.best_of(
        np.asarray(rule(scores)), gold(pool), [512]
      )[0]
      for rule in RULES[:3]
    },
  }
  for name in ('average', 'worst_case', 'uncertainty_weighted'):
    assert best[name] > best['single'] + 0.1, best
