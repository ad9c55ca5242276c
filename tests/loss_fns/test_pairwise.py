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
  slow,
  tiny_config,
  tiny_lm,
)

from critic_jax.data import pair_rows
from critic_jax.loss_fns import pairwise, scoring
from critic_jax.models.transformer import Transformer
from critic_jax.training import updates

NUM_ROWS = 16
OBJECTIVES = {
  'dpo': dict(name='dpo', beta=0.3),
  'simpo': dict(name='simpo', beta=1.0, gamma=0.3),
  'kto': dict(name='kto', beta=0.2),
  'mmdpo': dict(name='mmdpo', beta=0.2, scale=0.7),
  'd2o': dict(name='d2o', beta=0.3, alpha=0.2),
}
KEEP = 0.7


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


def make_responses(draw, size, number):
  """Draws responses to a prompt of `size` tokens, with rewards."""
  return [
    make_record(
      prompt_tokens=[size] * size,
      tokens=draw.integers(4, 99, draw.integers(1, 7)),
      scores={'reward': float(draw.normal())},
    )
    for _ in range(number)
  ]


def make_pairs(num_pairs=6, seed=0):
  """Draws pairs; prompts of 1 to 5 tokens, every second one again."""
  draw = np.random.default_rng(seed)
  return [
    [tuple(make_responses(draw, 1 + pair // 2, 2))] for pair in range(num_pairs)
  ]


def make_groups(seed=0):
  """Draws groups in which responses are in several pairs."""
  draw = np.random.default_rng(seed)
  a, b, c, d = make_responses(draw, 3, 4)
  e, f = make_responses(draw, 2, 2)
  g, h, i = make_responses(draw, 4, 3)
  return [[(a, b), (a, c), (c, b), (d, b)], [(e, f)], [(g, i), (h, i)]]


def rows(
  groups, aggregate='sequence', row_shapes=(), microbatches=1, size=2,
  is_apart=False,
):  # fmt: skip
  return pair_rows.make_pair_rows(
    critic(), num_groups=NUM_ROWS // size, rows_per_group=size,
    aggregate=aggregate, row_shapes=row_shapes, microbatches=microbatches,
    is_apart=is_apart,
  )(groups)  # fmt: skip


@functools.cache
def make_loss(name='dpo', microbatches=1, size=2, keep_coef=0.0):
  return pairwise.make_pair_loss(
    {'critic': critic(), 'ref': critic()},
    'critic',
    objective=OBJECTIVES[name],
    num_groups=NUM_ROWS // size,
    rows_per_group=size,
    microbatches=microbatches,
    keep_coef=keep_coef,
  )


@functools.cache
def optimizer():
  return optax.sgd(1.0)


def loss_and_gradient(name, batch, microbatches=1, **settings):
  """Returns the metrics and the change of an update, as a phase makes it."""
  policy = make_loss(name, **settings)
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


@pytest.mark.parametrize(
  'objective',
  [dict(name='inpo', eta=0.5, tau=0.2), dict(name='sppo', eta=3.0, even=0.5)],
)
def test_games_against_a_loop_in_plain_python(objective):
  """The old policy is the one that is read before the update."""
  batch = rows(make_pairs(5, seed=2))
  old, ref = (logprobs_of(role, batch) for role in ('critic', 'ref'))
  loss = pairwise.make_pair_loss(
    {'critic': critic(), 'ref': critic()}, 'critic', objective=objective,
    num_groups=NUM_ROWS // 2, rows_per_group=2, microbatches=1, is_played=True,
  )  # fmt: skip
  # The policy that is trained is now the reference's double.
  double = {'critic': roles()['ref']}
  total, (sums, _) = jax.jit(loss.loss)(
    double, loss.add_ref_logprobs(batch, roles())
  )
  mask = batch['mask']
  olds, refs, wins = (
    np.where(mask, x, 0).sum(axis=1)[:10].reshape(5, 2)
    for x in (old, ref, batch['rewards'])
  )
  is_inpo = objective['name'] == 'inpo'
  if is_inpo:  # h of the mixture, whose reference is 0.4 of the reference
    ratios = refs - 0.4 * refs - 0.6 * olds
    expected = (ratios[:, 0] - ratios[:, 1] - 1.0) ** 2
  else:
    expected = ((refs - olds - 3 * (wins - 0.5)) ** 2).mean(axis=1)
  assert total == pytest.approx(expected.mean(), rel=1e-4)
  # Metrics are of the reference, or, without one, of the old policy.
  margins = (refs - (refs if is_inpo else olds)) @ [1, -1]
  assert sums['preference/margin'] == pytest.approx(
    margins.mean(), rel=1e-3, abs=1e-4
  )
  assert loss.scored == (('ref', 'critic') if is_inpo else ('critic',))
  assert {*sums} == {*loss.metrics}


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


def plain(name, x, ref, gap):
  """Computes an objective of log-ratios, in plain Python."""
  h = x - ref
  if name == 'dpo':
    return math.log1p(math.exp(-0.3 * h))
  beta = 0.2 * (1 + 0.7 * (1 - math.exp(-0.5 * max(gap, 0))))
  return math.log1p(math.exp(-beta * h))


@pytest.mark.parametrize('name', ['dpo', 'mmdpo'])
@pytest.mark.parametrize('aggregate', ['sequence', 'token'])
def test_a_response_in_several_pairs_counts_in_each(name, aggregate):
  """As in a batch in which each pair has rows of its own."""
  groups = make_groups()
  pairs = [pair for group in groups for pair in group]
  batch = rows(groups, aggregate, size=4)
  assert batch['mask'].any(axis=1).sum() == 4 + 2 + 3
  actual, change = loss_and_gradient(name, batch, size=4)
  expected, expected_change = loss_and_gradient(
    name, rows([[pair] for pair in pairs], aggregate)
  )
  assert_trees_close(actual, expected, rtol=1e-4, atol=2e-6)
  assert_trees_close(change, expected_change, rtol=1e-4, atol=2e-6)
  # And by hand, from the log-ratios of each response.
  ratios = logprobs_of('critic', batch) - logprobs_of('ref', batch)
  records = {id(r): r for group in groups for pair in group for r in pair}
  sums = [
    float(row[mask].sum())
    for row, mask in zip(ratios, batch['mask'], strict=True)
    if mask.any()
  ]
  ratio = dict(zip(records, sums, strict=True))
  reward = {key: r.scores['reward'] for key, r in records.items()}
  tokens = [len(c.tokens) + len(r.tokens) for c, r in pairs]
  shares = [1 / len(pairs)] * len(pairs)
  if aggregate == 'token':
    shares = [n / sum(tokens) for n in tokens]
  losses = [
    plain(name, ratio[id(c)], ratio[id(r)], reward[id(c)] - reward[id(r)])
    for c, r in pairs
  ]
  total = sum(w * x for w, x in zip(shares, losses, strict=True))
  assert actual['loss/total'] == pytest.approx(total, rel=1e-4)


def test_d2o_has_the_mean_of_all_that_are_chosen_over_a_response():
  groups = make_groups()
  batch = rows(groups, size=4)
  ratios = logprobs_of('critic', batch) - logprobs_of('ref', batch)
  sums = np.where(batch['mask'], ratios, 0).sum(axis=1)
  # In the order in which they come first in a pair.
  a, b, c, d, e, f, _, _, g, i, h, _ = sums[:12]
  terms = [
    *[((a + c + d) / 3, b)] * 3, (a, c), (e, f), *[((g + h) / 2, i)] * 2
  ]  # fmt: skip
  losses = [math.log1p(math.exp(-0.3 * x + 0.2 * y)) for x, y in terms]
  sums, change = loss_and_gradient('d2o', batch, size=4)
  assert sums['loss/total'] == pytest.approx(np.mean(losses), rel=1e-4)
  assert all(np.abs(x).max() > 1e-4 for x in jax.tree.leaves(change))


def alone(number=4, seed=3):
  """Draws responses without another side, every second one rejected."""
  draw = np.random.default_rng(seed)
  responses = make_responses(draw, 2, number)
  return [(r, None) if i % 2 == 0 else (None, r)
          for i, r in enumerate(responses)]  # fmt: skip


def test_kto_learns_from_responses_alone():
  """The mean over all responses, also of pairs."""
  pair = tuple(make_responses(np.random.default_rng(5), 3, 2))
  for groups in ([alone()], [alone(), [pair]]):
    batch = make_loss('kto', size=4).add_ref_logprobs(
      rows(groups, size=4), roles()
    )
    ratios = logprobs_of('critic', batch) - logprobs_of('ref', batch)
    sums = np.where(batch['mask'], ratios, 0).sum(axis=1)
    kl = max(sums.sum() / np.count_nonzero(batch['mask'].any(axis=1)), 0)
    chosen = [*sums[:4:2], *sums[4 : 2 * len(groups) + 1][: len(groups) - 1]]
    rejected = [*sums[1:4:2], *sums[5 : 4 + 2 * (len(groups) - 1)]]
    losses = [1 / (1 + math.exp(0.2 * (x - kl))) for x in chosen]
    losses += [1 / (1 + math.exp(-0.2 * (x - kl))) for x in rejected]
    metrics, _ = loss_and_gradient('kto', batch, size=4)
    assert metrics['loss/total'] == pytest.approx(np.mean(losses), rel=1e-4)
    if len(groups) > 1:  # metrics are of pairs, if there are any
      chosen, rejected = chosen[-1:], rejected[-1:]
    else:
      right = (
        np.mean([x > 0 for x in chosen]),
        np.mean([x < 0 for x in rejected]),
      )
      assert metrics['preference/accuracy'] == pytest.approx(np.mean(right))
    for name, side in (('chosen', chosen), ('rejected', rejected)):
      mean = float(metrics[f'preference/{name}'])
      assert mean == pytest.approx(np.mean(side), rel=1e-3)


def test_what_is_kept_is_imitated_beside_the_pairs():
  """C3PO's loss: L(pairs) + coef L(imitation), each a mean of its own."""
  keep = [(r, None) for pair in alone() for r in pair if r is not None]
  pairs = make_pairs(3)
  batch = rows([*[pairs[i] for i in range(3)], keep[:2], keep[2:]],
               is_apart=True)  # fmt: skip
  sums, change = loss_and_gradient('dpo', batch, keep_coef=KEEP)
  expected, of_pairs = loss_and_gradient('dpo', rows(pairs))
  assert sums['loss/preference'] == pytest.approx(
    float(expected['loss/total']), rel=1e-5
  )
  logprobs = logprobs_of('critic', batch)
  means = [row[mask].mean() for row, mask in zip(logprobs, batch['mask'],
           strict=True) if mask.any()][6:]  # fmt: skip
  assert len(means) == 4
  kept = -KEEP * np.mean(means)
  assert sums['loss/kept'] == pytest.approx(kept, rel=1e-4)
  total = float(sums['loss/preference'] + sums['loss/kept'])
  assert sums['loss/total'] == pytest.approx(total, rel=1e-5)
  for name in ('accuracy', 'margin', 'chosen'):
    name = f'preference/{name}'
    assert sums[name] == pytest.approx(float(expected[name]), rel=1e-4)
  differ = jax.tree.map(lambda x, y: np.abs(x - y).max(), change, of_pairs)
  assert all(x > 1e-5 for x in jax.tree.leaves(differ))
  assert make_loss('dpo', keep_coef=KEEP).reads_singles
  assert not make_loss('dpo').reads_singles


@pytest.mark.parametrize(
  'name', ['dpo', 'kto', *slow(*sorted({*OBJECTIVES} - {'dpo', 'kto'}))]
)
def test_rows_and_their_order_change_nothing(name):
  """Packed rows, micro-batches of either, and pairs in another order."""
  records = make_pairs()
  expected = loss_and_gradient(name, rows(records))
  assert all(np.abs(x).max() > 1e-4 for x in jax.tree.leaves(expected[1]))
  shuffled = [records[i] for i in (4, 1, 5, 0, 3, 2)]
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
  sums = pairwise.sums_of_responses(scored['kl'], batch['responses'], 16)
  np.testing.assert_allclose(sums[:12], expected, rtol=1e-4)
  assert not np.any(sums[12:])
  spread = pairwise.spread_kl(np.full_like(log_ratios, -1.0), batch)
  assert not spread.any()
  spread = pairwise.spread_kl(np.full_like(log_ratios, 0.5), batch)
  total = 0.5 * batch['mask'].sum() / 12
  np.testing.assert_allclose(
    pairwise.sums_of_responses(spread, batch['responses'], 16)[:12], total, 1e-5
  )


def test_what_an_objective_does_not_read_is_not_scored():
  batch = rows(make_pairs())
  simpo = pairwise.make_pair_loss(
    {'critic': critic()}, 'critic', objective=OBJECTIVES['simpo'],
    num_groups=8, rows_per_group=2, microbatches=1,
  )  # fmt: skip
  assert simpo.add_ref_logprobs(batch, {}) is batch and simpo.scored == ()
  assert 'kl' not in make_loss('dpo').add_ref_logprobs(batch, roles())
  for name in OBJECTIVES:
    loss = make_loss(name)
    scored = loss.add_ref_logprobs(batch, roles())
    _, (sums, per_row) = jax.eval_shape(loss.loss, trained(), scored)
    assert {*sums, *per_row} == {*loss.metrics}
  # A plan counts each pass over the rows.
  assert make_loss('dpo').scored == ('ref',)
  assert make_loss('kto').scored == ('ref', 'critic')


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
      num_groups=1, rows_per_group=2, microbatches=1,
    )  # fmt: skip


def test_what_is_kept_needs_an_objective_of_pairs():
  with pytest.raises(ValueError, match="keep_coef: got 0.7 with .*'kto'"):
    make_loss('kto', keep_coef=KEEP)
  with pytest.raises(ValueError, match='keep_coef: got -1'):
    make_loss('dpo', keep_coef=-1.0)


def test_micro_batches_that_would_part_a_pair_are_refused():
  with pytest.raises(ValueError, match='got 16; .* 16 rows in groups of 2'):
    rows(make_pairs(), microbatches=16)
