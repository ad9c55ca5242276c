"""Policies of a few dozen responses, as logits, that learn by an objective."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from critic_jax.objectives import preference


def learn(objective, logits_of, params, ref_logprobs, draw, steps, tx):
  """Learns from pairs that `draw` gives; returns the last probabilities.

  Args:
    objective: its settings are bound.
    logits_of: parameters -> logits of all responses.
    params: at the start.
    ref_logprobs: of all responses.
    draw: (probabilities of the policy) -> int[N, K + 1], K chosen responses,
      of which log-probabilities are averaged, and a rejected one.
    steps: updates.
    tx: the optimiser.
  """

  def sides(logprobs, drawn):
    chosen = jnp.mean(logprobs[drawn[:, :-1]], axis=1)
    return jnp.stack([chosen, logprobs[drawn[:, -1]]], axis=1)

  def loss(params, drawn):
    logprobs = sides(jax.nn.log_softmax(logits_of(params)), drawn)
    ones = jnp.ones_like(logprobs)
    return jnp.mean(objective(logprobs, sides(ref_logprobs, drawn), ones))

  @jax.jit
  def update(params, state, drawn):
    changes, state = tx.update(jax.grad(loss)(params, drawn), state)
    params = optax.apply_updates(params, changes)
    return params, state, jax.nn.softmax(logits_of(params))

  state, probabilities = tx.init(params), np.exp(ref_logprobs)
  for _ in range(steps):
    drawn = draw(np.asarray(probabilities, np.float64))
    params, state, probabilities = update(params, state, drawn)
  return np.asarray(probabilities)


def drawn_from(random, probabilities, size):
  return random.choice(
    len(probabilities), size, p=probabilities / sum(probabilities)
  )


def test_pairs_of_the_policy_s_own_reach_where_given_ones_do_not():
  """2404.14367: 100 arms; the reward is high where the reference has no mass.

  DPO on the best and the worst of 10 samples in 200 updates; a card of a run
  elsewhere has 0.08 at the start, 0.21 with samples of the reference and 0.28
  with the policy's own, of all pairs of the 10.
  """
  arms = np.arange(100)
  ref = np.exp(-(((arms - 20) / 10) ** 2)) + 1e-3
  ref /= ref.sum()
  reward = np.exp(-(((arms - 70) / 30) ** 2))

  def train(is_own):
    random = np.random.default_rng(0)

    def draw(policy):
      arms = drawn_from(random, policy if is_own else ref, (32, 10))
      places = [reward[arms].argmax(axis=1), reward[arms].argmin(axis=1)]
      return np.stack([arms[np.arange(32), p] for p in places], axis=1)

    policy = learn(
      preference.dpo, lambda x: x, jnp.log(ref), jnp.log(ref), draw, 200,
      optax.adam(0.02),
    )  # fmt: skip
    return policy @ reward

  given, own = train(False), train(True)
  assert 0.0795 < ref @ reward < 0.0805
  assert given > ref @ reward + 0.03 and own > given + 0.08, (given, own)


def test_d2o_unlearns_harm_without_learning_junk():
  """2403.03419: 60 responses, harmful, helpful or junk, in shared features.

  The policy's own responses are anchors of each update, or those of the
  reference, once; 11 of them, and a harmful one that is rejected.
  """
  random = np.random.default_rng(0)
  kind = np.repeat(['harm', 'help', 'junk'], [15, 25, 20])
  features = np.concatenate(
    [
      np.stack([kind != 'junk', kind == 'harm'], axis=1),
      0.3 * random.normal(size=(60, 8)),
    ],
    axis=1,
  )
  start = np.zeros(10)
  start[:2] = 4.5, 0.2  # fluent, and a little harmful

  def logits_of(params):
    return features @ params

  ref = np.asarray(jax.nn.softmax(logits_of(start)), np.float64)
  harmful = np.flatnonzero(kind == 'harm')

  def train(is_own):
    random = np.random.default_rng(1)
    fixed = drawn_from(random, ref, (64, 11))

    def draw(policy):
      rejected = harmful[drawn_from(random, ref[harmful], (64, 1))]
      others = drawn_from(random, policy, (64, 11)) if is_own else fixed
      return np.concatenate([others, rejected], axis=1)

    policy = learn(
      functools.partial(preference.d2o, beta=0.1, alpha=0.1), logits_of,
      jnp.asarray(start), jnp.log(ref), draw, 300, optax.sgd(0.5),
    )  # fmt: skip
    return {name: policy[kind == name].sum() for name in ('harm', 'junk')}

  assert 0.4 < ref[harmful].sum() < 0.45 and ref[kind == 'junk'].sum() < 0.01
  own, given = train(True), train(False)
  assert own['harm'] < 0.01 and given['harm'] < 0.02
  assert own['junk'] < given['junk'] < 0.03, (own, given)
