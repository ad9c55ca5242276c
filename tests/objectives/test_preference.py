import functools
import inspect
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.objectives import preference

OBJECTIVES = [
  preference.dpo,
  functools.partial(preference.dpo, label_smoothing=0.2),
  preference.ipo,
  functools.partial(preference.ipo, per_token=True),
  functools.partial(preference.slic, beta=0.05),  # no pair is settled
  preference.simpo,
  preference.orpo,
  functools.partial(preference.modpo, weight=0.4, margins=0.7),
  functools.partial(preference.mmdpo, margins=0.7),
  functools.partial(preference.d2o, alpha=0.2),
  preference.kto,
]
# TRL has none of them.
WITHOUT_GOLDEN = {'modpo', 'mmdpo', 'd2o'}
# Functions of the difference of log-ratios alone.
OF_DIFFERENCES = [
  *(o for o in OBJECTIVES[:5] if 'per_token' not in getattr(o, 'keywords', ())),
  *OBJECTIVES[7:9],
]


def name_of(objective):
  return getattr(objective, 'func', objective).__name__


def random_case(num_pairs=5, seed=0):
  """Draws log-probabilities of both policies, lengths and a KL."""
  random = np.random.default_rng(seed)
  num_tokens = random.integers(1, 5, (num_pairs, 2)).astype(np.float32)
  num_tokens[:, 1] += 4  # no two lengths of a pair are equal
  logprobs, ref_logprobs = -num_tokens * random.exponential(
    size=(2, num_pairs, 2)
  ).astype(np.float32)
  return *map(jnp.asarray, (logprobs, ref_logprobs, num_tokens)), 0.3


def one_pair(objective, chosen, rejected, **settings):
  """Computes the objective of log-ratios; the reference is 0 and lengths 1."""
  logprobs = jnp.array([[chosen, rejected]], jnp.float32)
  ones = jnp.ones((1, 2))
  return float(objective(logprobs, 0 * ones, ones, **settings)[0])


def gradient(objective, logprobs, *others):
  return jax.grad(lambda x: jnp.sum(objective(x, *others)))(logprobs)


def test_the_list_has_all_functions_of_the_module():
  functions = {
    name
    for name, function in inspect.getmembers(preference, inspect.isfunction)
    if function.__module__ == preference.__name__ and name[0] != '_'
  }
  assert functions == {name_of(o) for o in OBJECTIVES}
  sets = (
    preference.WITH_REFERENCE, preference.WITH_KL, preference.WITH_MARGINS,
    preference.OF_MEANS, preference.OF_SINGLES,
  )  # fmt: skip
  assert {name for names in sets for name in names} <= functions


# ------------------------------------------------------------------ by hand


# The chosen response is e**0.75 times as likely as under the reference, the
# rejected one e**-0.25 times: h = 1.
@pytest.mark.parametrize(
  ('objective', 'settings', 'expected'),
  [
    ('dpo', dict(beta=2.0), math.log(1 + math.exp(-2))),
    (
      'dpo',
      dict(beta=2.0, label_smoothing=0.1),
      0.9 * math.log(1 + math.exp(-2)) + 0.1 * math.log(1 + math.exp(2)),
    ),
    ('ipo', dict(tau=0.25), (1 - 2) ** 2),
    ('ipo', dict(tau=0.5), 0.0),  # h = 1 / (2 tau)
    ('slic', dict(beta=0.4), 1 - 0.4),
    ('slic', dict(beta=1.5), 0.0),
    (
      'kto',
      dict(beta=2.0, chosen_weight=3.0, kl=0.5),
      (3 / (1 + math.exp(2 * 0.25)) + 1 / (1 + math.exp(2 * 0.75))) / 2,
    ),
    (
      'kto',  # a KL below 0 counts as 0
      dict(beta=1.0, rejected_weight=0.0, kl=-5.0),
      1 / (1 + math.exp(0.75)) / 2,
    ),
    # sigmoid((2 - 0.5) / 0.5) = sigmoid(3)
    (
      'modpo',
      dict(beta=2.0, weight=0.5, margins=0.5),
      math.log1p(math.exp(-3)),
    ),
    # The scale is 1 + 0.5 (1 - 1/2), as exp(-k m) = 1/2: 2 becomes 2.5.
    (
      'mmdpo',
      dict(beta=2.0, scale=0.5, rate=0.5, margins=2 * math.log(2)),
      math.log1p(math.exp(-2.5)),
    ),
    # A reward that disagrees with the label changes nothing.
    ('mmdpo', dict(beta=2.0, margins=-9.0), math.log1p(math.exp(-2))),
    # 2 * 0.75 + 4 * 0.25 = 2.5
    ('d2o', dict(beta=2.0, alpha=4.0), math.log1p(math.exp(-2.5))),
  ],
)
def test_objectives_with_a_reference_by_hand(objective, settings, expected):
  actual = one_pair(getattr(preference, objective), 0.75, -0.25, **settings)
  assert actual == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_objectives_of_means_by_hand():
  # Means of -log 2 and -log 4: probabilities 1/2 and 1/4, odds 1 and 1/3.
  logprobs = -jnp.log(jnp.array([[2.0**3, 4.0**5]]))
  case = logprobs, jnp.nan * logprobs, jnp.array([[3.0, 5.0]])
  actual = preference.simpo(*case, beta=2.0, gamma=0.5)
  # sigmoid(2 log 2 - 0.5) = 4 / (4 + sqrt(e))
  expected = math.log1p(math.exp(0.5) / 4)
  np.testing.assert_allclose(actual, [expected], rtol=1e-6)
  actual = preference.orpo(*case, lambda_=0.2)
  # log sigmoid(log 3) = log(3 / 4)
  expected = math.log(2) - 0.2 * math.log(3 / 4)
  np.testing.assert_allclose(actual, [expected], rtol=1e-6)
  # Log-ratios to a reference of zeros: 3 and 5 tokens, means log 2 apart.
  actual = preference.ipo(
    logprobs, 0 * logprobs, case[2], tau=0.5, per_token=True
  )
  np.testing.assert_allclose(actual, [(math.log(2) - 1) ** 2], rtol=1e-5)


# ---------------------------------------------------------------- TRL's

# The cases of tests/goldens/make_preference.py.
GOLDENS = {
  'dpo': functools.partial(preference.dpo, beta=0.1),
  'cdpo': functools.partial(preference.dpo, beta=0.3, label_smoothing=0.2),
  'slic': functools.partial(preference.slic, beta=0.4),
  'ipo': functools.partial(preference.ipo, tau=0.25),
  'ipo_per_token': functools.partial(
    preference.ipo, tau=0.25, per_token=True
  ),
  'kto': functools.partial(
    preference.kto, beta=0.2, chosen_weight=1.3, rejected_weight=0.7
  ),
  'simpo': functools.partial(preference.simpo, beta=2.0, gamma=0.5),
  'orpo': functools.partial(preference.orpo, lambda_=0.2),
}  # fmt: skip


@pytest.fixture(scope='module')
def goldens():
  path = pathlib.Path(__file__).parents[1] / 'goldens' / 'preference.npz'
  return dict(np.load(path))


@pytest.mark.parametrize('case', GOLDENS)
def test_losses_and_gradients_are_trl_s(goldens, case):
  arrays = [goldens[name] for name in ('logprobs', 'ref_logprobs')]
  others = *arrays[1:], goldens['num_tokens'], goldens['kl']
  loss = GOLDENS[case](arrays[0], *others)
  np.testing.assert_allclose(loss, goldens[f'loss/{case}'], rtol=1e-5)
  slope = gradient(GOLDENS[case], arrays[0], *others)
  np.testing.assert_allclose(
    slope, goldens[f'grad/{case}'], rtol=1e-4, atol=1e-7
  )
  assert np.any(slope)


def test_every_objective_has_a_golden(goldens):
  assert {f.func.__name__ for f in GOLDENS.values()} == {
    name_of(objective) for objective in OBJECTIVES
  } - WITHOUT_GOLDEN
  losses = {name for name in goldens if name.startswith('loss/')}
  assert losses == {f'loss/{case}' for case in GOLDENS}


# ------------------------------------------------------- limits, identities


def test_values_at_the_reference():
  """Before the first update both responses have the log-ratio 0."""
  logprobs, _, num_tokens, _ = random_case()
  expected = {
    'dpo': math.log(2), 'ipo': (1 / 0.2) ** 2, 'slic': 1.0, 'kto': 0.5,
    'modpo': math.log1p(math.exp(0.7 / 0.4)), 'mmdpo': math.log(2),
    'd2o': math.log(2),
  }  # fmt: skip
  for objective in OBJECTIVES:
    if name_of(objective) in preference.WITH_REFERENCE:
      actual = objective(logprobs, logprobs, num_tokens)
      np.testing.assert_allclose(actual, expected[name_of(objective)], 1e-6)


def test_smoothed_labels_have_a_best_margin():
  """It is where sigmoid(beta h) = 1 - label_smoothing; else there is none."""
  best = jnp.array([[math.log(0.8 / 0.2) / 0.5, 0.0]])
  case = 0 * best, jnp.ones((1, 2))
  dpo = functools.partial(preference.dpo, beta=0.5)
  smoothed = functools.partial(dpo, label_smoothing=0.2)
  np.testing.assert_allclose(gradient(smoothed, best, *case), 0, atol=1e-7)
  assert gradient(smoothed, 2 * best, *case)[0, 0] > 0
  assert gradient(dpo, 2 * best, *case)[0, 0] < 0


def test_settled_pairs_have_no_gradient():
  case = jnp.zeros((1, 2)), jnp.ones((1, 2))
  for objective, margin in (
    (functools.partial(preference.slic, beta=0.5), 2.1),
    (functools.partial(preference.ipo, tau=0.25), 2.0),
  ):
    slope = gradient(objective, jnp.array([[margin, 0.0]]), *case)
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    assert np.all(gradient(objective, jnp.array([[1.9, 0.0]]), *case))


def test_simpo_of_one_token_is_dpo_without_a_reference():
  logprobs, _, num_tokens, _ = random_case()
  case = logprobs, 0 * logprobs, jnp.ones_like(num_tokens)
  np.testing.assert_allclose(
    preference.simpo(*case, beta=0.7, gamma=0.0),
    preference.dpo(*case, beta=0.7),
    rtol=1e-6,
  )


def test_orpo_without_a_weight_is_imitation():
  logprobs, ref_logprobs, num_tokens, _ = random_case()
  actual = preference.orpo(logprobs, ref_logprobs, num_tokens, lambda_=0.0)
  np.testing.assert_allclose(
    actual, -logprobs[:, 0] / num_tokens[:, 0], rtol=1e-6
  )


def test_with_which_settings_others_are_dpo():
  logprobs, ref_logprobs, num_tokens, kl = random_case()
  case = logprobs, ref_logprobs, num_tokens
  margins = jnp.linspace(0, 3, len(logprobs))
  dpo = preference.dpo(*case, beta=0.3)
  for objective in (
    functools.partial(preference.modpo, weight=1.0, margins=0.0),
    functools.partial(preference.mmdpo, margins=0.0),
    functools.partial(preference.mmdpo, margins=margins, scale=0.0),
    functools.partial(preference.d2o, alpha=0.3),
  ):
    np.testing.assert_allclose(objective(*case, beta=0.3), dpo, rtol=1e-6)
  # Equal margins are another beta, at most (1 + scale) beta.
  equal = preference.mmdpo(*case, beta=0.3, margins=2.0, scale=0.6, rate=0.7)
  beta = 0.3 * (1 + 0.6 * (1 - math.exp(-1.4)))
  other = preference.dpo(*case, beta=beta)
  np.testing.assert_allclose(equal, other, rtol=1e-6)
  settled = preference.mmdpo(*case, beta=0.3, margins=1e9, scale=0.6)
  other = preference.dpo(*case, beta=0.3 * 1.6)
  np.testing.assert_allclose(settled, other, rtol=1e-6)
  # A margin is a constant that is asked for, in the units of the log-ratios.
  shifted = logprobs.at[:, 0].add(margins / 0.3)
  modpo = functools.partial(preference.modpo, beta=0.3, weight=0.4)
  np.testing.assert_allclose(
    modpo(shifted, *case[1:], margins=margins),
    preference.dpo(*case, beta=0.3 / 0.4),
    rtol=1e-5,
  )


@pytest.mark.parametrize('name', ['modpo', 'mmdpo'])
def test_margins_have_no_gradient_and_padding_of_them_is_not_read(name):
  logprobs, ref_logprobs, num_tokens, kl = random_case()
  objective = getattr(preference, name)

  def total(margins, num_tokens=num_tokens):
    return jnp.sum(objective(logprobs, ref_logprobs, num_tokens, kl, margins))

  margins = jnp.linspace(0, 3, len(logprobs))
  assert not np.any(jax.grad(total)(margins))
  lengths = num_tokens.at[1].set(0)
  expected = total(margins, lengths)
  assert total(margins.at[1].set(jnp.nan), lengths) == expected


def test_slic_with_a_small_beta_is_linear():
  logprobs, ref_logprobs, num_tokens, _ = random_case()
  actual = preference.slic(logprobs, ref_logprobs, num_tokens, beta=1e-3)
  ratios = logprobs - ref_logprobs
  expected = 1 - 1e-3 * (ratios[:, 0] - ratios[:, 1])
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


# -------------------------------------------------------- laws of all of them


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_the_chosen_response_becomes_likelier_and_the_other_not(objective):
  logprobs, ref_logprobs, num_tokens, kl = random_case()
  ref_logprobs = logprobs  # at the reference
  slope = gradient(objective, logprobs, ref_logprobs, num_tokens, kl)
  assert np.all(slope[:, 0] < 0) and np.all(slope[:, 1] > 0)


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_what_does_not_matter_to_the_difference(objective):
  """A shift of both log-ratios, as by the reference's constant; see `h`."""
  logprobs, ref_logprobs, num_tokens, kl = random_case()
  others = ref_logprobs, num_tokens, kl
  plain = objective(logprobs, *others)
  shifted = objective(logprobs - 0.7, *others)
  slope = gradient(objective, logprobs, *others)
  if objective in OF_DIFFERENCES:
    np.testing.assert_allclose(shifted, plain, rtol=1e-4)
    np.testing.assert_allclose(slope[:, 0], -slope[:, 1], rtol=1e-5)
  else:
    assert np.all(np.abs(shifted - plain) > 1e-4)


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_only_log_ratios_matter_where_there_is_a_reference(objective):
  logprobs, ref_logprobs, num_tokens, kl = random_case()
  plain = objective(logprobs, ref_logprobs, num_tokens, kl)
  shift = jnp.linspace(-3, 3, logprobs.size).reshape(logprobs.shape)
  both = objective(logprobs + shift, ref_logprobs + shift, num_tokens, kl)
  other = objective(logprobs, ref_logprobs + shift, num_tokens, kl)
  if name_of(objective) in preference.WITH_REFERENCE:
    np.testing.assert_allclose(both, plain, rtol=1e-4)
    assert np.all(np.abs(other - plain) > 1e-5)
  else:
    np.testing.assert_array_equal(other, plain)


def test_kto_compares_with_the_kl_alone():
  """A shift of its log-ratios by what the KL is shifted by changes nothing."""
  logprobs, ref_logprobs, num_tokens, kl = random_case()
  plain = preference.kto(logprobs, ref_logprobs, num_tokens, kl)
  shifted = preference.kto(logprobs + 2, ref_logprobs, num_tokens, kl + 2)
  np.testing.assert_allclose(shifted, plain, rtol=1e-5)
  # The chosen response's part knows nothing of the rejected one.
  other = logprobs.at[:, 1].add(-9)
  slope, other_slope = (
    gradient(preference.kto, x, ref_logprobs, num_tokens, kl)[:, 0]
    for x in (logprobs, other)
  )
  np.testing.assert_array_equal(slope, other_slope)


@pytest.mark.parametrize('objective', [*OBJECTIVES[:2], preference.simpo])
def test_swapped_pairs(objective):
  """Losses of the two labels of a pair differ by the logit between them."""
  case = random_case()[:3]
  settings = dict(gamma=0.0) if objective is preference.simpo else {}
  loss = functools.partial(objective, **settings)
  swapped = loss(*(x[:, ::-1] for x in case))
  smoothing = getattr(objective, 'keywords', {}).get('label_smoothing', 0)
  logprobs, ref_logprobs, num_tokens = case
  ratios = (
    2.0 * logprobs / num_tokens
    if objective is preference.simpo
    else 0.1 * (logprobs - ref_logprobs)
  )
  margins = (1 - 2 * smoothing) * (ratios[:, 0] - ratios[:, 1])
  np.testing.assert_allclose(swapped - loss(*case), margins, rtol=1e-4)


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_gradient_flows_through_logprobs_only(objective):
  logprobs, ref_logprobs, num_tokens, kl = random_case()

  def total(*x):
    return jnp.sum(objective(x[0], x[1], num_tokens, x[2]))

  slopes = jax.grad(total, (0, 1, 2))(logprobs, ref_logprobs, kl)
  assert np.all(slopes[0])
  assert not np.any(slopes[1]) and not np.any(slopes[2])


@pytest.mark.parametrize('objective', OBJECTIVES)
@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf, -jnp.inf, 0.0])
@pytest.mark.parametrize('missing', [[0, 0], [0, 3], [3, 0]])
def test_padding_reaches_neither_value_nor_gradient(objective, bad, missing):
  if name_of(objective) in preference.OF_SINGLES and any(missing):
    return  # there is a response: the next test
  logprobs, ref_logprobs, num_tokens, kl = random_case()
  expected = objective(logprobs, ref_logprobs, num_tokens, kl)
  slope = gradient(objective, logprobs, ref_logprobs, num_tokens, kl)
  padding = jnp.full((2, 2), bad)
  padded = [jnp.concatenate([x, padding]) for x in (logprobs, ref_logprobs)]
  lengths = jnp.concatenate([num_tokens, jnp.array([missing] * 2, jnp.float32)])
  actual = objective(*padded, lengths, kl)
  padded_slope = gradient(objective, *padded, lengths, kl)
  np.testing.assert_array_equal(actual[:5], expected)
  np.testing.assert_array_equal(padded_slope[:5], slope)
  assert not np.any(actual[5:]) and not np.any(padded_slope[5:])


@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf, 0.0])
def test_kto_learns_from_a_response_that_has_no_other_side(bad):
  """The loss of a pair is the mean of those of its sides."""
  logprobs, ref_logprobs, num_tokens, kl = random_case()
  kto = functools.partial(preference.kto, chosen_weight=1.3)
  sides, slopes = [], []
  for side in (0, 1):
    arrays = [x.at[:, 1 - side].set(bad) for x in (logprobs, ref_logprobs)]
    lengths = num_tokens.at[:, 1 - side].set(0)
    sides.append(kto(*arrays, lengths, kl))
    slopes.append(gradient(kto, *arrays, lengths, kl))
    assert not np.any(slopes[-1][:, 1 - side])
  both = kto(logprobs, ref_logprobs, num_tokens, kl)
  np.testing.assert_allclose((sides[0] + sides[1]) / 2, both, rtol=1e-6)
  slope = gradient(kto, logprobs, ref_logprobs, num_tokens, kl)
  np.testing.assert_allclose((slopes[0] + slopes[1]) / 2, slope, rtol=1e-6)


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_the_order_of_pairs_does_not_matter(objective):
  *case, kl = random_case()
  order = jnp.array([3, 0, 4, 1, 2])
  np.testing.assert_array_equal(
    objective(*(x[order] for x in case), kl), objective(*case, kl)[order]
  )


@pytest.mark.parametrize('objective', OBJECTIVES)
@pytest.mark.parametrize('size', [0.0, 1e-30, 1e5, 1e15])
def test_extreme_values_are_finite(objective, size):
  """Of certain tokens, and of the logits of a broken model."""
  for logprobs in ([[0.0, -size]], [[-size, 0.0]], [[-size, -size]]):
    for ref_logprobs in ([[0.0, 0.0]], [[-size, 0.0]], [[0.0, -size]]):
      case = jnp.array(ref_logprobs), jnp.array([[1.0, 2.0]]), size
      loss = objective(jnp.array(logprobs), *case)
      slope = gradient(objective, jnp.array(logprobs), *case)
      assert np.all(np.isfinite(loss)) and np.all(np.isfinite(slope))


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_bfloat16_is_only_read(objective):
  """All is computed in float32: differences of large sums would be lost."""
  logprobs, ref_logprobs, num_tokens, kl = random_case()
  short = [x.astype(jnp.bfloat16) for x in (logprobs * 100, ref_logprobs * 100)]
  actual = objective(*short, num_tokens, kl)
  assert actual.dtype == jnp.float32
  expected = objective(*(x.astype(jnp.float32) for x in short), num_tokens, kl)
  np.testing.assert_array_equal(actual, expected)
  slope = gradient(objective, *short, num_tokens, kl)
  assert slope.dtype == jnp.bfloat16 and np.all(np.isfinite(slope))


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_losses_are_float32_of_a_pair_each(objective):
  *case, kl = random_case(num_pairs=3)
  loss = objective(*map(np.asarray, case), kl)
  assert loss.shape == (3,) and loss.dtype == jnp.float32
  assert objective(*(x[:0] for x in case), kl).shape == (0,)


@pytest.mark.parametrize(
  ('objective', 'settings', 'message'),
  [
    ('dpo', dict(beta=0.0), 'beta: got 0.0; expected > 0'),
    ('dpo', dict(label_smoothing=0.5), 'label_smoothing: got 0.5'),
    ('dpo', dict(label_smoothing=-0.1), 'label_smoothing: got -0.1'),
    ('ipo', dict(tau=-1.0), 'tau: got -1.0; expected > 0'),
    ('slic', dict(beta=-1.0), 'beta: got -1.0'),
    ('simpo', dict(beta=math.nan), 'beta: got nan'),
    ('orpo', dict(lambda_=-0.1), 'lambda_: got -0.1; expected >= 0'),
    ('modpo', dict(weight=0.0), 'weight: got 0.0; expected > 0 and <= 1'),
    ('modpo', dict(weight=1.5), 'weight: got 1.5'),
    ('mmdpo', dict(scale=-0.1), 'scale: got -0.1; expected >= 0'),
    ('mmdpo', dict(rate=0.0), 'rate: got 0.0; expected > 0'),
    ('d2o', dict(alpha=0.0), 'alpha: got 0.0'),
    ('kto', dict(beta=0.0), 'beta: got 0.0'),
    ('kto', dict(chosen_weight=-1.0), 'chosen_weight, rejected_weight: got -1'),
    ('kto', dict(rejected_weight=-1.0), 'rejected_weight: got 1.0, -1'),
  ],
)
def test_wrong_settings(objective, settings, message):
  with pytest.raises(ValueError, match=message):
    one_pair(getattr(preference, objective), 0.0, 0.0, **settings)


# ------------------------------------------- optima that papers derive
#
# Policies over 6 responses, as logits; a loss is a mean over all ordered pairs,
# which logits minimise by Newton's method.

NUM_RESPONSES = 6


def game(seed=0):
  """Draws log-probabilities of two policies, and P(row is preferred)."""
  random = np.random.default_rng(seed)
  ref, other = jax.nn.log_softmax(random.normal(size=(2, NUM_RESPONSES)))
  strength = 3 * random.normal(size=(NUM_RESPONSES, NUM_RESPONSES))
  return ref, other, jax.nn.sigmoid(jnp.asarray(strength - strength.T))


def minimiser(objective, ref_logprobs, weights, num_steps=8):
  """Returns the log-probabilities that minimise the mean loss of all pairs.

  Args:
    objective: its settings are bound.
    ref_logprobs: float[6], or [6, 6, 2] of pairs.
    weights: float[6, 6], of the pairs (chosen, rejected).
  """

  def of_pairs(x):
    x = jnp.asarray(x)
    if x.ndim == 3:
      return x.reshape(-1, 2)
    return jnp.stack(jnp.meshgrid(x, x, indexing='ij'), -1).reshape(-1, 2)

  refs, ones = of_pairs(ref_logprobs), jnp.ones((NUM_RESPONSES**2, 2))

  def loss(logits):
    logprobs = of_pairs(jax.nn.log_softmax(logits))
    return jnp.sum(weights.ravel() * objective(logprobs, refs, ones))

  @jax.jit
  def newton(logits):
    hessian = jax.hessian(loss)(logits) + 1e-6 * jnp.eye(NUM_RESPONSES)
    step = jnp.linalg.solve(hessian, jax.grad(loss)(logits))
    logits = logits - step
    return logits - jnp.mean(logits)

  logits = jnp.zeros(NUM_RESPONSES)
  for _ in range(num_steps):
    logits = newton(logits)
  return jax.nn.log_softmax(logits)


def test_dpo_finds_the_policy_of_the_reward():
  """Labels of Bradley and Terry: pi = ref exp(r / beta), section 4."""
  ref, _, _ = game()
  reward = jnp.linspace(-0.4, 0.4, NUM_RESPONSES)
  labels = jax.nn.sigmoid(reward[:, None] - reward[None])
  actual = minimiser(functools.partial(preference.dpo, beta=0.5), ref, labels)
  expected = jax.nn.log_softmax(ref + reward / 0.5)
  np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_modpo_finds_the_policy_of_all_rewards():
  """2310.03708: pi = ref exp(sum_i w_i r_i / beta)."""
  ref, _, _ = game()
  beta, weight = 0.5, 0.3
  own, other = jnp.array([[1, -1, 0.5, 0, 0.2, -0.4], [0, 1, -1, 0.5, 0, 0.3]])
  labels = jax.nn.sigmoid(own[:, None] - own[None])
  margins = (1 - weight) * (other[:, None] - other[None])
  modpo = functools.partial(
    preference.modpo, beta=beta, weight=weight, margins=margins.ravel()
  )
  total = weight * own + (1 - weight) * other
  expected = jax.nn.softmax(ref + total / beta)
  actual = jnp.exp(minimiser(modpo, ref, labels))
  np.testing.assert_allclose(actual, expected, atol=2e-5)
