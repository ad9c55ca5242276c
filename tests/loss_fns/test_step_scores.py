"""The loss of the scores of steps, on rows as recipes lay them out."""

import functools

import jax
import numpy as np
import pytest
from helpers import random_params, tiny_config, tiny_lm

from critic_jax.data import packing
from critic_jax.loss_fns import scoring, step_scores
from critic_jax.models.transformer import Transformer
from critic_jax.objectives import masked


@functools.cache
def steps():
  model = Transformer(tiny_config(vocab_size=264, num_layers=1, head='reward'))
  return tiny_lm(model=model), random_params(model)


def make_batch(num_rows=4, columns=16, seed=0):
  """Draws solutions of one to three steps behind prompts of two tokens."""
  draw = np.random.default_rng(seed)
  shape = num_rows, columns
  batch = {
    'tokens': draw.integers(4, 99, shape).astype(np.int32),
    'mask': np.zeros(shape, bool),
    'targets': np.zeros(shape, np.float32),
  }
  for row in range(num_rows - 1):  # the last row is empty
    batch['tokens'][row, :2] = row // 2
    places = 2 + np.sort(draw.choice(columns - 2, 1 + row, replace=False))
    batch['mask'][row, places] = True
    batch['targets'][row, places] = draw.random(1 + row)
  batch['weights'] = masked.loss_weights(batch['mask'], 'sequence')
  batch['mean_weights'] = masked.loss_weights(batch['mask'], 'token')
  return batch


def make_loss(name='cross_entropy'):
  lm, params = steps()
  loss = step_scores.make_step_loss(
    {'steps': lm}, 'steps', objective=dict(name=name)
  )
  return jax.jit(jax.value_and_grad(loss, has_aux=True)), {'steps': params}


def scores_of(batch):
  lm, params = steps()
  scorer = scoring.bind({'steps': lm}, {'steps': params}, 'steps')
  return np.asarray(jax.jit(scoring.Scorer.token_scores)(scorer, batch))


def test_the_loss_is_a_loop_over_steps():
  batch = make_batch()
  scores = scores_of(batch)
  totals, accuracies, probabilities = [], [], []
  for row in range(3):
    its_losses = []
    for place in np.flatnonzero(batch['mask'][row]):
      p = 1 / (1 + np.exp(-scores[row, place]))
      t = batch['targets'][row, place]
      its_losses.append(-t * np.log(p) - (1 - t) * np.log(1 - p))
      accuracies.append((p >= 0.5) == (t >= 0.5))
      probabilities.append(p)
    totals.append(np.mean(its_losses))
  loss, roles = make_loss()
  (total, (sums, per_row)), _ = loss(roles, batch)
  assert total == pytest.approx(np.mean(totals), rel=1e-4)
  assert sums['loss/steps'] == total and not per_row
  assert sums['step/accuracy'] == pytest.approx(np.mean(accuracies), rel=1e-4)
  assert sums['step/score'] == pytest.approx(np.mean(probabilities), rel=1e-4)
  targets = batch['targets'][batch['mask']]
  assert sums['step/target'] == pytest.approx(np.mean(targets), rel=1e-4)
  assert set(sums) == set(step_scores.METRICS)


def test_a_score_has_seen_its_step_and_no_later_one():
  """An outcome that a step cannot know yet would leak into its score."""
  batch = make_batch()
  row = 2
  place = int(np.flatnonzero(batch['mask'][row])[0])
  before = scores_of(batch)[row]
  for changed, is_seen in ((place, True), (place + 1, False)):
    tokens = batch['tokens'].copy()
    tokens[row, changed] += 1
    after = scores_of({**batch, 'tokens': tokens})[row]
    is_same = np.allclose(before[place], after[place], atol=1e-6)
    assert is_same != is_seen
    assert not np.allclose(before[changed], after[changed], atol=1e-6)


def test_packed_rows_have_the_same_loss_and_gradient():
  batch = make_batch()
  batch['tokens'][1, :2] = batch['tokens'][0, :2]  # one prompt of two
  loss, roles = make_loss()
  (total, (sums, _)), slope = loss(roles, batch)
  packed = packing.pack(batch, ((2, 40),))
  assert 'segments' in packed
  (packed_total, (packed_sums, _)), packed_slope = loss(roles, packed)
  assert packed_total == pytest.approx(float(total), rel=1e-4)
  for name, value in sums.items():
    assert packed_sums[name] == pytest.approx(float(value), rel=1e-4)
  for a, b in zip(
    jax.tree.leaves(slope), jax.tree.leaves(packed_slope), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_micro_batches_add_up():
  batch = make_batch()
  loss, roles = make_loss()
  (total, (sums, _)), _ = loss(roles, batch)
  halves = [
    loss(roles, {k: x[part] for k, x in batch.items()})[0]
    for part in (slice(0, 2), slice(2, 4))
  ]
  expected = pytest.approx(float(total), rel=1e-5)
  assert sum(float(half[0]) for half in halves) == expected
  for name in sums:
    parts = sum(float(half[1][0][name]) for half in halves)
    assert parts == pytest.approx(float(sums[name]), rel=1e-5)


@pytest.mark.parametrize('name', ['cross_entropy', 'squared'])
def test_a_few_steps_tell_the_right_steps(name):
  """A wrong sign would learn the contrary."""
  batch = make_batch()
  batch['targets'] = np.where(batch['mask'], batch['targets'] > 0.5, 0)
  batch['targets'] = batch['targets'].astype(np.float32)
  loss, roles = make_loss(name)
  accuracies = []
  for _ in range(40):
    (_, (sums, _)), slope = loss(roles, batch)
    accuracies.append(float(sums['step/accuracy']))
    roles = jax.tree.map(lambda p, g: p - 0.3 * g, roles, slope)
  assert accuracies[-1] == pytest.approx(1.0) and accuracies[0] < 1


def test_a_language_head_scores_no_steps():
  with pytest.raises(ValueError, match="models.steps: got head='lm'"):
    step_scores.make_step_loss(
      {'steps': tiny_lm()}, 'steps', objective=dict(name='squared')
    )
  lm, _ = steps()
  with pytest.raises(ValueError, match="objective: .*'cross_entropy'"):
    step_scores.make_step_loss(
      {'steps': lm}, 'steps', objective=dict(name='cross_entrop')
    )
