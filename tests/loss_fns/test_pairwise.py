"""The loss of pairs, on rows as recipes lay them out."""

import functools
import math

import jax
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
from critic_jax.loss_fns import pairwise, scoring
from critic_jax.models.transformer import Transformer
from critic_jax.training import updates

NUM_ROWS = 16
OBJECTIVES = {
  'dpo': dict(name='dpo', beta=0.3),
  'simpo': dict(name='simpo', beta=1.0, gamma=0.3),
  'kto': dict(name='kto', beta=0.2),
}


@functools.cache
def critic():
  model = Transformer(tiny_config(vocab_size=264, num_layers=1))
  return tiny_lm(model=model)


@functools.cache
def roles():
  return {
    role: random_params(critic().model, seed)
    for seed, role in enumerate(('critic', 'ref'))
  }


def trained():
  return {'critic': roles()['critic']}


def make_pairs(num_pairs=6, seed=0):
  """Draws pairs; prompts of 1 to 5 tokens, every second one again."""
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
    critic(), num_rows=NUM_ROWS, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches, rows_per_group=2,
  )  # fmt: skip
  return pack(to_rows(records))


@functools.cache
def make_loss(name='dpo', microbatches=1):
  return pairwise.make_pair_loss(
    {'critic': critic(), 'ref': critic()},
    'critic',
    objective=OBJECTIVES[name],
    num_pairs=NUM_ROWS // 2,
    microbatches=microbatches,
  )


@functools.cache
def optimizer():
  return optax.sgd(1.0)


def loss_and_gradient(name, batch, microbatches=1):
  """Returns the metrics and the change of an update, as a phase makes it."""
  policy = make_loss(name)
  batch = policy.add_ref_logprobs(batch, roles())
  params = jax.tree.map(np.asarray, trained())
  state = updates.TrainState(
    np.zeros((), np.int32), params, optimizer().init(params)
  )
  state, (sums, per_row) = updates.update(
    policy.loss, optimizer(), state, batch, microbatches=microbatches
  )
  assert not per_row
  return sums, jax.tree.map(np.subtract, params, state.params)


def logprobs_of(role, batch):
  scorer = scoring.bind({role: critic()}, roles(), role)
  return scoring.score(scoring.Scorer.logprobs, scorer, batch, microbatches=1)


@pytest.mark.parametrize('aggregate', ['sequence', 'token'])
def test_against_a_loop_in_plain_python(aggregate):
  batch = rows(make_pairs(5, seed=2), aggregate)
  policy, ref = (logprobs_of(role, batch) for role in ('critic', 'ref'))
  losses, margins, weights = [], [], []
  for pair in range(5):
    ratios = [
      sum((policy - ref)[row][batch['mask'][row]].astype(float).tolist())
      for row in (2 * pair, 2 * pair + 1)
    ]
    margins.append(ratios[0] - ratios[1])
    losses.append(math.log(1 + math.exp(-0.3 * margins[-1])))
    weights.append(batch['weights'][2 * pair : 2 * pair + 2].sum())
  assert sum(weights) == pytest.approx(1)
  assert (np.std(weights) < 1e-6) == (aggregate == 'sequence')
  sums, _ = loss_and_gradient('dpo', batch)
  assert sums['loss/total'] == pytest.approx(np.dot(weights, losses), rel=1e-4)
  assert sums['loss/preference'] == sums['loss/total']
  # Means over pairs, however the loss is weighted.
  assert sums['preference/margin'] == pytest.approx(np.mean(margins), rel=1e-3)
  share = np.mean(np.array(margins) > 0)
  assert sums['preference/accuracy'] == pytest.approx(share) and 0 < share < 1
  difference = float(sums['preference/chosen'] - sums['preference/rejected'])
  assert sums['preference/margin'] == pytest.approx(difference, rel=1e-3)


def test_without_a_reference_metrics_are_of_mean_log_probabilities():
  batch = rows(make_pairs(5, seed=2))
  logprobs = logprobs_of('critic', batch)
  means = [
    row[mask].mean()
    for row, mask in zip(logprobs, batch['mask'], strict=True)
    if mask.any()
  ]
  sums, _ = loss_and_gradient('simpo', batch)
  for name, its_means in (('chosen', means[::2]), ('rejected', means[1::2])):
    actual = float(sums[f'preference/{name}'])
    assert actual == pytest.approx(np.mean(its_means), rel=1e-4)


@pytest.mark.parametrize('name', OBJECTIVES)
def test_rows_and_their_order_change_nothing(name):
  """Packed rows, micro-batches of either, and pairs in another order."""
  records = make_pairs()
  expected = loss_and_gradient(name, rows(records))
  assert all(np.abs(x).max() > 1e-4 for x in jax.tree.leaves(expected[1]))
  pairs = [records[i : i + 2] for i in range(0, len(records), 2)]
  shuffled = sum((pairs[i] for i in (4, 1, 5, 0, 3, 2)), [])
  packed = rows(shuffled, row_shapes=((4, 32),), microbatches=4)
  assert packed['tokens'].shape == (4, 32)
  cases = [(packed, 4)]
  if name == 'dpo':  # each case is compiled
    cases += [(rows(shuffled), 1), (rows(records, microbatches=8), 8)]
    cases += [(packed, 1)]
  for batch, microbatches in cases:
    actual = loss_and_gradient(name, batch, microbatches)
    assert_trees_close(actual, expected, rtol=1e-4, atol=2e-6)


def test_a_parted_pair_would_be_seen():
  batch = rows(make_pairs())
  expected, _ = loss_and_gradient('dpo', batch)
  order = [0, 2, 1, *range(3, NUM_ROWS)]
  parted = {name: x[order] for name, x in batch.items()}
  whole, _ = loss_and_gradient('dpo', parted)
  assert whole['loss/total'] == pytest.approx(float(expected['loss/total']))
  parts, _ = loss_and_gradient('dpo', parted, 8)
  assert abs(parts['loss/total'] - expected['loss/total']) > 1e-3


def test_a_step_without_pairs_is_finite():
  for name in OBJECTIVES:
    sums, change = loss_and_gradient(name, rows([]))
    assert not any(map(np.any, jax.tree.leaves((sums, change))))


def test_at_the_reference_the_loss_is_known():
  batch = rows(make_pairs())
  same = {**batch, 'ref_logprobs': logprobs_of('critic', batch)}
  policy = make_loss('dpo')
  total, (sums, _) = jax.jit(policy.loss)(trained(), same)
  assert total == pytest.approx(math.log(2), rel=1e-5)
  assert sums['preference/chosen'] == pytest.approx(0, abs=1e-5)


def test_an_update_makes_the_chosen_likelier():
  """The wrong sign would not."""
  batch = make_loss('dpo').add_ref_logprobs(rows(make_pairs()), roles())
  tx = optax.adam(0.03)
  params = trained()
  state = updates.TrainState(
    np.zeros((), np.int32), jax.tree.map(np.asarray, params), tx.init(params)
  )
  margins = []
  for _ in range(8):
    state, (sums, _) = updates.update(make_loss('dpo').loss, tx, state, batch)
    margins.append(float(sums['preference/margin']))
  assert margins[-1] > margins[0] + 5
  assert sums['preference/accuracy'] == 1


def test_the_kl_is_that_of_all_responses():
  batch = rows(make_pairs())
  scored = make_loss('kto', microbatches=2).add_ref_logprobs(batch, roles())
  log_ratios = logprobs_of('critic', batch) - logprobs_of('ref', batch)
  by_response = np.where(batch['mask'], log_ratios, 0).sum(axis=1)[:12]
  expected = max(by_response.mean(), 0)
  sums = pairwise.sums_of_pairs(scored['kl'], batch['responses'], 8)
  np.testing.assert_allclose(sums[:6], expected, rtol=1e-4)
  assert not np.any(sums[6:])
  spread = pairwise.spread_kl(np.full_like(log_ratios, -1.0), batch)
  assert not spread.any()
  spread = pairwise.spread_kl(np.full_like(log_ratios, 0.5), batch)
  total = 0.5 * batch['mask'].sum() / 12
  np.testing.assert_allclose(
    pairwise.sums_of_pairs(spread, batch['responses'], 8)[:6], total, 1e-5
  )


def test_what_an_objective_does_not_read_is_not_scored():
  batch = rows(make_pairs())
  simpo = pairwise.make_pair_loss(
    {'critic': critic()}, 'critic', objective=OBJECTIVES['simpo'],
    num_pairs=8, microbatches=1,
  )  # fmt: skip
  assert simpo.add_ref_logprobs(batch, {}) is batch and simpo.scored == ()
  assert 'kl' not in make_loss('dpo').add_ref_logprobs(batch, roles())
  for name in OBJECTIVES:
    loss = make_loss(name)
    scored = loss.add_ref_logprobs(batch, roles())
    _, (sums, per_row) = jax.eval_shape(loss.loss, trained(), scored)
    assert {*sums, *per_row} == {*loss.metrics}


@pytest.mark.parametrize(
  ('models', 'objective', 'message'),
  [
    (('critic',), dict(name='dpo'), "'dpo' without a model 'ref'; .* simpo"),
    (('critic', 'ref'), dict(name='dppo'), "mean 'dpo'"),
    (('critic', 'ref'), dict(name='dpo', beta=0.0), 'objective: beta: got 0'),
    (('critic', 'ref'), dict(name='ipo', beta=0.1), 'per_token|tau'),
    (('critic', 'ref'), dict(beta=0.1), "expected 'name'"),
  ],
)
def test_wrong_settings(models, objective, message):
  with pytest.raises(ValueError, match=message):
    pairwise.make_pair_loss(
      dict.fromkeys(models, critic()), 'critic', objective=objective,
      num_pairs=1, microbatches=1,
    )  # fmt: skip


def test_micro_batches_that_would_part_a_pair_are_refused():
  with pytest.raises(ValueError, match='got 16; .* 16 rows in groups of 2'):
    rows(make_pairs(), microbatches=16)
