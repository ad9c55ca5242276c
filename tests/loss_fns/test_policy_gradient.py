"""The loss on records that a model sampled itself."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import assert_trees_close
from loop_helpers import init, nano, problems

from critic_jax.data import batching, packing
from critic_jax.loss_fns import policy_gradient
from critic_jax.models import forward, quantize
from critic_jax.models.transformer import Transformer
from critic_jax.rollouts import rollout

SETTINGS = dict(
  objective=dict(name='ppo_clip'),
  kl=dict(name='k3', coef=0.0),
  microbatches=1,
)
WITH_KL = SETTINGS | dict(kl=dict(name='k2', coef=0.5))


@pytest.fixture(scope='module')
def lm():
  return nano(max_new_tokens=8, temperature=0.7, top_p=0.9)


@pytest.fixture(scope='module')
def roles(lm):
  params = init(solver=lm, ref=lm)
  # Drawn logits are close to each other: sharpen them.
  return jax.tree.map(lambda x: 2 * x, params)


@pytest.fixture(scope='module')
def records(lm, roles):
  return rollout.run(
    lm.stages.solve,
    lm.bind(roles['solver']),
    problems(2),
    jax.random.key(0),
    n=2,
  )


def make_batch(records, lm, aggregate='sequence', num_rows=4):
  return batching.from_records(
    records,
    lm,
    num_rows=num_rows,
    aggregate=aggregate,
    advantages=[1.0, -0.5, 2.0, 0.25][: len(records)],
  )


def make_policy(lm, settings=SETTINGS):
  models = {'solver': lm, 'ref': lm}
  return policy_gradient.make_policy_loss(models, 'solver', **settings)


@pytest.fixture(scope='module')
def grad(lm):
  loss = make_policy(lm).loss
  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def trained(roles):
  return {'solver': roles['solver']}


def test_on_policy_the_ratio_is_one(lm, roles, records, grad):
  """Sampler and trainer agree, at the LM's temperature and top-p."""
  batch = make_batch(records, lm)
  (total, (metrics, _)), _ = grad(trained(roles), batch)
  assert float(metrics['policy/ratio_error']) < 1e-4
  assert abs(float(metrics['policy/kl_old'])) < 1e-4
  # With ratios of one the loss is minus the weighted advantages.
  expected = -(batch['weights'] * batch['advantages']).sum()
  assert float(total) == pytest.approx(expected, rel=1e-3)
  assert float(metrics['loss/policy']) == float(total)
  assert 0 < float(metrics['policy/entropy']) < np.log(640)
  # Another temperature would show.
  other = dataclasses.replace(
    lm, sampling_params=lm.sampling_params._replace(temperature=1.0)
  )
  _, (metrics, _) = jax.jit(make_policy(other).loss)(trained(roles), batch)
  assert float(metrics['policy/ratio_error']) > 0.05


@pytest.mark.parametrize('shift', [-1e5, 1e5])
def test_metrics_of_absurd_ratios_are_finite(lm, roles, records, grad, shift):
  batch = make_batch(records, lm)
  logprobs = (batch['logprobs'] + shift * batch['mask']).astype(np.float32)
  result = grad(trained(roles), {**batch, 'logprobs': logprobs})
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(result))


def test_the_share_of_clipped_tokens(lm, roles, records, grad):
  shifted_records = [
    dataclasses.replace(r, logprobs=r.logprobs - 0.1 * np.arange(len(r.tokens)))
    for r in records
  ]
  batch = make_batch(shifted_records, lm, 'token')
  places = np.cumsum(batch['mask'], axis=1) - 1
  # PPO's clip at 1.2; what is to become less likely is not clipped there.
  clipped = (places * 0.1 > np.log(1.2)) & (batch['advantages'] > 0)
  expected = (clipped * batch['mask'] * batch['weights']).sum()
  assert 0.1 < expected < 0.9
  (_, (metrics, _)), _ = grad(trained(roles), batch)
  assert float(metrics['policy/clipped']) == pytest.approx(expected, rel=1e-5)
  (_, (metrics, _)), _ = grad(trained(roles), make_batch(records, lm))
  assert float(metrics['policy/clipped']) == 0.0


def test_without_a_coefficient_no_reference_is_needed(lm, roles, records):
  batch = make_batch(records, lm)
  policy = policy_gradient.make_policy_loss(
    {'solver': lm}, 'solver', **SETTINGS
  )
  assert policy.add_ref_logprobs(batch, trained(roles)) is batch
  _, (metrics, _) = jax.eval_shape(policy.loss, trained(roles), batch)
  assert 'loss/kl' not in metrics and not policy.scored


def test_a_coefficient_without_a_reference_is_refused(lm):
  with pytest.raises(
    ValueError, match="kl.coef: got 0.5 .*'ref'.*solver.*copy"
  ):
    policy_gradient.make_policy_loss({'solver': lm}, 'solver', **WITH_KL)


def test_the_reference_is_scored_by_its_own_model(lm, roles, records):
  """In int8 its parameters are another tree, for another model."""
  config = dataclasses.replace(lm.model.config, param_dtype='int8')
  int8 = dataclasses.replace(lm, model=Transformer(config))
  policy = policy_gradient.make_policy_loss(
    {'solver': lm, 'ref': int8}, 'solver', **WITH_KL
  )
  batch = make_batch(records, lm)
  roles = {**roles, 'ref': quantize.quantize(roles['ref'])}
  expected = jax.jit(forward.token_logprobs, static_argnums=0)(
    int8.model,
    roles['ref'],
    batch['tokens'],
    sampling_params=lm.sampling_params,
    mask=batch['mask'],
  )
  assert np.count_nonzero(expected) == np.count_nonzero(batch['mask'])
  np.testing.assert_array_equal(
    policy.add_ref_logprobs(batch, roles)['ref_logprobs'], expected
  )


def test_the_metrics_are_those_it_names(lm, roles, records):
  for settings in (SETTINGS, WITH_KL):
    policy = make_policy(lm, settings)
    batch = policy.add_ref_logprobs(make_batch(records, lm), roles)
    _, (sums, per_row) = jax.eval_shape(policy.loss, trained(roles), batch)
    assert {*sums, *per_row} == set(policy.metrics)


def test_the_penalty_is_added_by_its_coefficient(lm, roles, records, grad):
  batch = make_batch(records, lm)
  policy = make_policy(lm, WITH_KL)
  with_ref = policy.add_ref_logprobs(batch, roles)
  loss = jax.jit(policy.loss)
  (plain, _), _ = grad(trained(roles), batch)
  total, (metrics, _) = loss(trained(roles), with_ref)
  # k2, by hand: half the squared log-ratio.
  log_ratio = batch['logprobs'] - with_ref['ref_logprobs']
  expected = np.where(batch['mask'], log_ratio**2 / 2, 0) * batch['weights']
  assert float(metrics['loss/kl']) == pytest.approx(expected.sum(), rel=1e-3)
  assert float(metrics['loss/kl']) > 0.01
  assert float(total) == pytest.approx(
    float(plain) + 0.5 * float(metrics['loss/kl']), rel=1e-4
  )
  # To itself there is none.
  itself = {**with_ref, 'ref_logprobs': batch['logprobs']}
  total, (metrics, _) = loss(trained(roles), itself)
  assert float(metrics['loss/kl']) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize('aggregate', ['token', 'sequence', 'constant'])
def test_what_must_not_change_the_loss(lm, roles, records, grad, aggregate):
  # Off-policy, so that the ratio matters.
  shifted_records = [
    dataclasses.replace(r, logprobs=r.logprobs - 0.1 * np.arange(len(r.tokens)))
    for r in records
  ]
  batch = make_batch(shifted_records, lm, aggregate)
  (total, (metrics, _)), gradient = grad(trained(roles), batch)
  order = [2, 0, 3, 1]
  shuffled = {name: x[order] for name, x in batch.items()}
  (other, _), other_gradient = grad(trained(roles), shuffled)
  assert float(other) == pytest.approx(float(total), rel=1e-5)
  assert_trees_close(other_gradient, gradient, rtol=1e-3, atol=1e-6)
  # Masked places may hold anything.
  noise = np.random.default_rng(0).normal(size=batch['mask'].shape)
  noisy = {
    name: np.where(batch['mask'], x, 9 * noise).astype(np.float32)
    if name in ('logprobs', 'advantages') else x
    for name, x in batch.items()
  }  # fmt: skip
  after = np.cumsum(batch['mask'][:, ::-1], axis=1)[:, ::-1] == 0
  noisy['tokens'] = np.where(after, 7, batch['tokens'])
  (other, _), other_gradient = grad(trained(roles), noisy)
  assert float(other) == pytest.approx(float(total), rel=1e-5)
  assert_trees_close(other_gradient, gradient, rtol=1e-3, atol=1e-6)


def test_empty_rows_and_parts_of_the_batch_add_up(lm, roles, records, grad):
  batch = make_batch(records[:3], lm)  # row 3 is empty
  (total, (metrics, _)), gradient = grad(trained(roles), batch)
  # Each part in the same shape: rows of another weigh nothing.
  sums, parts = 0.0, []
  for rows in ([0, 1], [2, 3]):
    keep = np.isin(np.arange(4), rows)[:, None]
    part = {**batch, 'weights': np.where(keep, batch['weights'], 0)}
    (value, _), part_gradient = grad(trained(roles), part)
    sums += float(value)
    parts.append(part_gradient)
  assert sums == pytest.approx(float(total), rel=1e-5)
  assert_trees_close(
    jax.tree.map(np.add, *parts), gradient, rtol=1e-3, atol=1e-6
  )


def test_packed_rows_have_the_same_loss(lm, roles, records):
  settings = SETTINGS | dict(
    objective=dict(name='gspo'), kl=dict(name='k2', coef=1e-3)
  )
  policy = make_policy(lm, settings)
  grad = jax.jit(jax.value_and_grad(policy.loss, has_aux=True))
  plain = make_batch(records, lm)
  packed = packing.pack(plain, [(2, 176)])
  assert packed['tokens'].shape == (2, 176)
  expected, actual = (
    grad(trained(roles), policy.add_ref_logprobs(batch, roles))
    for batch in (plain, packed)
  )
  largest = [
    f[0][1][1].pop('policy/max_ratio_error') for f in (actual, expected)
  ]
  assert [x.shape for x in largest] == [(2,), (len(records),)]
  assert max(map(np.max, largest)) < 1e-4
  assert_trees_close(actual, expected, rtol=1e-5, atol=1e-5)
  assert float(actual[0][1][0]['loss/kl']) > 0.01


# ------------------------------------------------------ off-policy tokens

MIXED = SETTINGS | dict(
  objective=dict(name='gspo'), off_policy=dict(name='shaped')
)


def with_off_policy(batch, rows=(1,), shift=1.0):
  """Marks rows whose writer was surer of each token, by `shift` nats."""
  is_off = np.isin(np.arange(len(batch['mask'])), rows)[:, None]
  is_off = is_off & batch['mask']
  logprobs = (batch['logprobs'] + shift * is_off).astype(np.float32)
  return {**batch, 'off_policy': is_off, 'logprobs': logprobs}


def test_each_token_has_the_surrogate_of_its_kind(lm, roles, records):
  batch = with_off_policy(make_batch(records, lm))
  total, (metrics, per_row) = jax.jit(make_policy(lm, MIXED).loss)(
    trained(roles), batch
  )
  # By hand: ratios of one where the policy sampled, p / (p + 0.1) elsewhere.
  p = np.exp(batch['logprobs'] - batch['off_policy'])
  factor = np.where(batch['off_policy'], p / (p + 0.1), 1.0)
  expected = -(batch['weights'] * batch['advantages'] * factor).sum()
  assert float(total) == pytest.approx(expected, rel=1e-3)
  # The others' ratio is no disagreement of sampler and trainer.
  assert np.max(per_row['policy/max_ratio_error']) < 1e-3
  assert abs(float(metrics['policy/kl_old'])) < 1e-3
  share = batch['off_policy'].sum() / batch['mask'].sum()
  assert float(metrics['policy/off_policy']) == pytest.approx(share, rel=1e-5)
  gap = float(metrics['policy/off_policy_gap']) / share
  assert gap == pytest.approx(1.0, rel=1e-3)  # nats a token


def test_a_batch_without_such_tokens_is_as_it_was(lm, roles, records):
  batch = with_off_policy(make_batch(records, lm), rows=())
  mixed, plain = (
    jax.jit(make_policy(lm, s).loss)(trained(roles), batch)
    for s in (MIXED, SETTINGS | dict(objective=dict(name='gspo')))
  )
  assert float(mixed[0]) == pytest.approx(float(plain[0]), rel=1e-6)
  metrics = dict(mixed[1][0])
  assert metrics.pop('policy/off_policy') == 0
  assert metrics.pop('policy/off_policy_gap') == 0
  assert_trees_close(metrics, plain[1][0], rtol=1e-5, atol=1e-6)


def test_a_surrogate_with_a_ratio_weighs_by_importance(lm, roles, records):
  """The writer's log-probabilities are those under the prompt that it read."""
  loose = dict(name='ppo_clip', clip_low=1.0, clip_high=1e6)
  settings = MIXED | dict(off_policy=loose)
  batch = with_off_policy(make_batch(records, lm), shift=0.5)
  total, _ = jax.jit(make_policy(lm, settings).loss)(trained(roles), batch)
  factor = np.where(batch['off_policy'], np.exp(-0.5), 1.0)
  expected = -(batch['weights'] * batch['advantages'] * factor).sum()
  assert float(total) == pytest.approx(expected, rel=1e-3)


def test_the_penalty_reads_the_policy_s_own_samples(lm, roles, records):
  policy = make_policy(lm, MIXED | dict(kl=WITH_KL['kl']))
  batch = with_off_policy(make_batch(records, lm), rows=(0, 1, 2, 3))
  batch = policy.add_ref_logprobs(batch, roles)
  _, (sums, per_row) = jax.jit(policy.loss)(trained(roles), batch)
  assert {*sums, *per_row} == set(policy.metrics)
  assert sums['loss/kl'] == sums['policy/kl_ref'] == 0
  assert sums['policy/off_policy'] == pytest.approx(1.0, rel=1e-5)


def test_packed_rows_keep_what_is_off_policy(lm, roles, records):
  grad = jax.jit(jax.value_and_grad(make_policy(lm, MIXED).loss, has_aux=True))
  plain = with_off_policy(make_batch(records, lm))
  packed = packing.pack(plain, [(2, 176)])
  assert packed['off_policy'].dtype == bool
  assert packed['off_policy'].sum() == plain['off_policy'].sum() > 0
  expected, actual = (grad(trained(roles), batch) for batch in (plain, packed))
  for result in (expected, actual):
    result[0][1][1].pop('policy/max_ratio_error')
  assert_trees_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (SETTINGS | dict(objective=dict(name='ppo_clp')), "mean 'ppo_clip'"),
    (SETTINGS | dict(objective=dict(clip_low=0.2)), "expected 'name'"),
    (SETTINGS | dict(kl=dict(name='kl', coef=0.0)), "got 'kl'"),
    (SETTINGS | dict(kl=dict(name='ppo_clip', coef=0.0)), "got 'ppo_clip'"),
    (SETTINGS | dict(kl=dict(name='k3', coeff=0.0)), "mean 'coef'"),
    (SETTINGS | dict(kl=dict(name='k3')), "also \\['coef'\\]"),
    (SETTINGS | dict(objective=dict(name='k3')), "got 'k3'"),
    (SETTINGS | dict(off_policy=dict(name='shapd')), "off_policy: .*'shaped'"),
    (SETTINGS | dict(off_policy=dict(name='shaped', gamma=0.0)),
     'off_policy: gamma: got 0.0'),
  ],
)  # fmt: skip
def test_wrong_settings(lm, settings, message):
  with pytest.raises(ValueError, match=message):
    make_policy(lm, settings)
