"""Reward models on rows as recipes lay them out: their loss, and scores."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
  assert_trees_close,
  make_record,
  random_params,
  tiny_config,
  tiny_lm,
)

from critic_jax.data import batching
from critic_jax.loss_fns import pairwise, reward_models, scoring
from critic_jax.models.transformer import Transformer
from critic_jax.rewards import preferences
from critic_jax.rollouts import rollout
from critic_jax.training import updates

NUM_ROWS = 16
OBJECTIVE = dict(name='bradley_terry', label_smoothing=0.1, center_coef=0.2)


@functools.cache
def lm(head='reward'):
  config = tiny_config(vocab_size=264, num_layers=1, head=head)
  return tiny_lm(model=Transformer(config))


@functools.cache
def models():
  return {'reward': lm(), 'other': lm(), 'solver': lm('lm')}


@functools.cache
def roles():
  return {
    role: random_params(lm.model, seed)
    for seed, (role, lm) in enumerate(models().items())
  }


def trained():
  return {'reward': roles()['reward']}


def make_pairs(num_pairs=6, seed=0):
  """Draws pairs; prompts of 1 to 3 tokens, every second one again."""
  draw = np.random.default_rng(seed)
  records = []
  for pair in range(num_pairs):
    size = 1 + pair // 2
    records += [
      make_record(
        prompt_tokens=[size] * size,
        tokens=draw.integers(4, 99, draw.integers(1, 7)),
      )
      for _ in range(2)
    ]
  return records


def rows(records, aggregate='sequence', row_shapes=(), microbatches=1):
  to_rows, pack = batching.make_rows(
    lm(), num_rows=NUM_ROWS, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches, rows_per_group=2,
  )  # fmt: skip
  return pack(to_rows(records))


@functools.cache
def loss_fn():
  return reward_models.make_score_loss(
    models(), 'reward', objective=OBJECTIVE, num_pairs=NUM_ROWS // 2
  )


@functools.cache
def optimizer():
  return optax.sgd(1.0)


def loss_and_gradient(batch, microbatches=1):
  """Returns the metrics and the change of an update, as a phase makes it."""
  params = jax.tree.map(np.asarray, trained())
  state = updates.TrainState(
    np.zeros((), np.int32), params, optimizer().init(params)
  )
  state, (sums, per_row) = updates.update(
    loss_fn(), optimizer(), state, batch, microbatches=microbatches
  )
  assert not per_row
  return sums, jax.tree.map(np.subtract, params, state.params)


def scores_of(batch, role='reward'):
  return scoring.score(
    scoring.Scorer.scores,
    scoring.bind(models(), roles(), role),
    batch,
    microbatches=1,
  )


@pytest.mark.parametrize('aggregate', ['sequence', 'token'])
def test_against_a_loop_in_plain_python(aggregate):
  batch = rows(make_pairs(5, seed=2), aggregate)
  scores = scores_of(batch).astype(float).tolist()
  losses, margins, weights = [], [], []
  for pair in range(5):
    chosen, rejected = scores[2 * pair : 2 * pair + 2]
    margins.append(chosen - rejected)
    losses.append(
      0.9 * math.log(1 + math.exp(-margins[-1]))
      + 0.1 * math.log(1 + math.exp(margins[-1]))
      + 0.2 * (chosen + rejected) ** 2
    )
    weights.append(batch['weights'][2 * pair : 2 * pair + 2].sum())
  assert sum(weights) == pytest.approx(1)
  assert (np.std(weights) < 1e-6) == (aggregate == 'sequence')
  sums, _ = loss_and_gradient(batch)
  assert sums['loss/total'] == pytest.approx(np.dot(weights, losses), rel=1e-4)
  assert sums['loss/score'] == sums['loss/total']
  # Means over pairs, however the loss is weighted.
  assert sums['score/margin'] == pytest.approx(np.mean(margins), rel=1e-3)
  assert sums['score/chosen'] == pytest.approx(np.mean(scores[:10:2]), rel=1e-3)
  assert sums['score/rejected'] == pytest.approx(
    np.mean(scores[1:10:2]), rel=1e-3
  )
  share = np.mean(np.array(margins) > 0)
  assert sums['score/accuracy'] == pytest.approx(share) and 0 < share < 1
  assert {*reward_models.METRICS} <= {*sums}


def test_rows_and_their_order_change_nothing():
  """Packed rows, micro-batches of either, and pairs in another order."""
  records = make_pairs()
  expected = loss_and_gradient(rows(records))
  assert all(np.abs(x).max() > 1e-4 for x in jax.tree.leaves(expected[1]))
  pairs = [records[i : i + 2] for i in range(0, len(records), 2)]
  shuffled = sum((pairs[i] for i in (4, 1, 5, 0, 3, 2)), [])
  packed = rows(shuffled, row_shapes=((4, 32),), microbatches=4)
  assert packed['tokens'].shape == (4, 32)
  for batch, microbatches in ((packed, 4), (rows(shuffled), 1)):
    actual = loss_and_gradient(batch, microbatches)
    assert_trees_close(actual, expected, rtol=1e-4, atol=2e-6)


def test_the_last_token_of_each_response():
  """Of a response with a hole, of one at the end, and of none."""
  responses = jnp.array([[0, 1, 1, 0, 2, 2], [0, 4, 0, 4, 0, 0]])
  x = jnp.arange(12.0).reshape(2, 6)
  actual = reward_models.at_last_tokens(x, responses, 3)
  np.testing.assert_array_equal(actual, [[2, 5], [0, 9], [0, 0]])
  slope = jax.grad(
    lambda y: jnp.sum(reward_models.at_last_tokens(y, responses, 3))
  )(x)
  np.testing.assert_array_equal(slope, [[0, 0, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0]])


def test_a_step_without_pairs_is_finite():
  sums, change = loss_and_gradient(rows([]))
  assert not any(map(np.any, jax.tree.leaves((sums, change))))


def test_an_update_makes_the_chosen_score_higher():
  """The wrong sign would not."""
  batch, tx = rows(make_pairs()), optax.adam(0.03)
  params = jax.tree.map(np.asarray, trained())
  state = updates.TrainState(np.zeros((), np.int32), params, tx.init(params))
  for _ in range(12):
    state, (sums, _) = updates.update(loss_fn(), tx, state, batch)
  assert sums['score/accuracy'] == 1 and sums['score/margin'] > 1


@pytest.mark.parametrize(
  ('role', 'objective', 'message'),
  [
    ('solver', OBJECTIVE, "models.solver: got head='lm'; expected 'reward'"),
    ('reward', dict(name='bradley_tery'), "mean 'bradley_terry'"),
    ('reward', dict(name='simcse'), "got 'simcse'; expected one of"),
    (
      'reward',
      dict(name='bradley_terry', label_smoothing=0.5),
      'objective: label_smoothing: got 0.5',
    ),
  ],
)
def test_wrong_objectives(role, objective, message):
  with pytest.raises(ValueError, match=message):
    reward_models.make_score_loss(
      models(), role, objective=objective, num_pairs=1
    )


# ------------------------------------------------------ corrected labels


def strengths_of(batch):
  scores = np.stack([scores_of(batch, name) for name in ('reward', 'other')])
  return (scores[:, ::2] - scores[:, 1::2]).mean(axis=0)


def relabelled(records, **settings):
  section = dict(roles=('reward', 'other'), share=1.0, has_margin=True)
  relabeller = reward_models.make_relabeller(
    models(), section | settings, microbatches=2
  )
  assert relabeller.roles == ('reward', 'other')
  return relabeller.relabel(rows(records), roles())


def test_labels_that_models_disagree_with_are_flipped():
  records = make_pairs(5)
  before = strengths_of(rows(records))[:5]
  assert 0 < np.sum(before < 0) < 5
  batch = relabelled(records)
  np.testing.assert_allclose(strengths_of(batch)[:5], np.abs(before), rtol=1e-4)
  # The margin is the strength of the label that is taken.
  sums = pairwise.sums_of_responses(batch['margins'], batch['responses'], 16)
  sums = sums.reshape(8, 2)
  np.testing.assert_allclose(sums[:5, 0], np.abs(before), rtol=1e-4)
  assert not np.any(sums[:, 1]) and not np.any(sums[5:])
  # Rows are numbered as those of any pairs, and are the same rows.
  plain = rows(records)
  numbers = np.arange(1, 17)[:, None]
  np.testing.assert_array_equal(
    batch['responses'], np.where(batch['mask'], numbers, 0)
  )
  pairs = [
    {tuple(row) for row in b['tokens'].reshape(8, 2, -1)[i].tolist()}
    for b in (batch, plain) for i in range(8)
  ]  # fmt: skip
  assert pairs[:8] == pairs[8:]


def test_the_weakest_share_alone_is_flipped():
  records = make_pairs(5)
  before = strengths_of(rows(records))[:5]
  after = strengths_of(relabelled(records, share=0.2))[:5]
  expected = before.copy()
  expected[np.argmin(before)] *= -1
  np.testing.assert_allclose(after, expected, rtol=1e-4)
  batch = relabelled(records, share=0.0, has_margin=False)
  np.testing.assert_allclose(strengths_of(batch)[:5], before, rtol=1e-4)
  assert 'margins' not in batch


def test_margins_of_a_batch_are_those_of_the_loss():
  batch = relabelled(make_pairs(5))
  scores = scores_of(batch).astype(float)
  sums, _ = loss_and_gradient(batch)
  margins = strengths_of(batch)
  losses = []
  for pair in range(5):
    chosen, rejected = scores[2 * pair : 2 * pair + 2]
    logit = chosen - rejected - margins[pair]
    losses.append(
      0.9 * math.log(1 + math.exp(-logit))
      + 0.1 * math.log(1 + math.exp(logit))
      + 0.2 * (chosen + rejected) ** 2
    )
  assert sums['loss/score'] == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(roles=()), 'relabel: roles: got none, share=1.0'),
    (dict(share=2.0), 'relabel: share: got 2.0'),
    (dict(roles=('solver',)), "relabel: models.solver: got head='lm'"),
    (dict(has_margin=1), 'relabel: has_margin: got 1'),
    (dict(shar=1.0), "mean 'share'"),
  ],
)
def test_wrong_relabelling(settings, message):
  with pytest.raises(ValueError, match=message):
    relabelled(make_pairs(1), **settings)


# ------------------------------------------------------- scores of records


def make_reader(*names, name='average', **settings):
  section = dict(roles=names, name=name, **settings)
  return reward_models.make_reader(models(), section)


def test_records_are_scored_by_several_models():
  records = make_pairs(3)
  records[2] = dataclasses.replace(records[2], tokens=np.zeros(0, np.int32))
  batch = batching.from_records(
    records, lm(), num_rows=NUM_ROWS, aggregate='token'
  )
  first, second = (scores_of(batch, name)[:6] for name in ('reward', 'other'))
  assert np.abs(first - second).max() > 0.1
  for rule, expected in (
    ('average', (first + second) / 2),
    ('worst_case', np.minimum(first, second)),
  ):
    reader = make_reader('reward', 'other', name=rule)
    scored = reader.write(records, batch, roles())
    values = [record.parsed['score'] for record in scored]
    assert values.pop(2) is None
    np.testing.assert_allclose(values, np.delete(expected, 2), rtol=1e-5)
  assert [r.text for r in scored] == [r.text for r in records]
  assert all('score' not in r.parsed for r in records)
  # An empty row earns nothing, and is not learned from.
  paid = rollout.score(
    scored, [], {'score': preferences.scored}, {'score': 2.0}
  )
  rewards, where = rollout.determined_rewards(paid)
  assert where.tolist() == [True, True, False, True, True, True]
  np.testing.assert_allclose(np.delete(rewards, 2), 2 * np.array(values))


def test_a_record_that_was_not_scored_is_not_paid():
  with pytest.raises(ValueError, match=r"parsed\['score'\] of .*: got none"):
    preferences.scored(make_record(), [])


def test_nobody_is_asked_without_a_weight():
  section = dict(roles=('judge',), name='average')
  assert reward_models.make_reader(models(), section, weight=0.0).roles == ()


@pytest.mark.parametrize(
  ('settings', 'weight', 'message'),
  [
    (
      dict(roles=(), name='average'),
      1.0,
      'roles: got none; .* score_weight=0.0',
    ),
    (dict(roles=(), name='average'), 'x', "score_weight: got 'x'"),
    (dict(roles=('solver',), name='average'), 1.0, "solver: got head='lm'"),
    (dict(roles=('judge',), name='average'), 1.0, r"expected also \['judge'\]"),
    (dict(roles='reward', name='average'), 1.0, "roles: got 'reward'"),
    (dict(roles=['reward'] * 2, name='average'), 1.0, 'expected different'),
    (dict(roles=('reward',), name='averag'), 1.0, "mean 'average'"),
    (dict(roles=('reward',)), 1.0, "reward_model: .*expected 'name'"),
    (dict(name='average'), 1.0, "expected 'roles'"),
    (
      dict(roles=('reward',), name='uncertainty_weighted', coef=-1.0),
      1.0,
      'reward_model: coef: got -1.0',
    ),
  ],
)
def test_wrong_readers(settings, weight, message):
  with pytest.raises(ValueError, match=message):
    reward_models.make_reader(models(), settings, weight=weight)
