"""Pairs of responses in rows: each response once, pairs as bits."""

import numpy as np
import pytest
from helpers import make_record, tiny_lm

from critic_jax.data import pair_rows


def respond(prompt, length, **scores):
  return make_record(
    prompt_tokens=[prompt] * 2, tokens=[7] * length, scores=scores
  )


def lay_out(groups, size=3, **settings):
  settings = dict(aggregate='token', row_shapes=(), microbatches=1) | settings
  return pair_rows.make_pair_rows(
    tiny_lm(), num_groups=4, rows_per_group=size, **settings
  )(groups)


def of_rows(batch, name):
  """Returns what the tokens of each row have in sum, or in common."""
  x = np.where(batch['mask'], batch[name], 0)
  return x.max(axis=1) if x.dtype == np.int32 else x.sum(axis=1)


A, B, C = (respond(9, n, reward=r) for n, r in ((1, 0.5), (2, -1.0), (4, 2.0)))
D, E = respond(8, 3, reward=1.0, margin=7.0), respond(8, 5)


def test_a_group_by_hand():
  batch = lay_out([[(A, B), (C, B)], [], [(D, E)]])
  lengths = batch['mask'].sum(axis=1).tolist()
  assert lengths == [1, 2, 4, 3, 5, 0, *[0] * 6]  # no rows for no pairs
  bits = of_rows(batch, 'pairs').tolist()
  assert bits == [0b010, 0, 0b010, 0b010, 0, 0, *[0] * 6]
  # Two pairs of 3 and 6 tokens, and one of 8: 17, the tokens of B twice.
  weights = of_rows(batch, 'weights')[:5]
  np.testing.assert_allclose(weights, np.array([1, 2, 4, 3, 5]) / 17, 1e-6)
  means = of_rows(batch, 'mean_weights')[:5]
  np.testing.assert_allclose(means, [1 / 6] * 5, 1e-6)
  rewards = of_rows(batch, 'rewards')[:5]
  np.testing.assert_allclose(rewards, [0.5, -1.0, 2.0, 7.0, 0.0], 1e-6)
  assert of_rows(batch, 'responses').tolist()[:5] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
  ('aggregate', 'shares'),
  [('sequence', [1, 1]), ('token', [3, 8]), ('constant', [3, 8])],
)
def test_pairs_weigh_alike_or_by_their_tokens(aggregate, shares):
  batch = lay_out([[(A, B)], [(D, E)]], aggregate=aggregate)
  weights = of_rows(batch, 'weights')
  pairs = [weights[0] + weights[1], weights[3] + weights[4]]
  assert pairs[1] / pairs[0] == pytest.approx(shares[1] / shares[0])
  total = 1 if aggregate != 'constant' else 11 / (4 * tiny_lm().max_new_tokens)
  assert sum(pairs) == pytest.approx(total)


def test_responses_alone_have_bits_of_their_own():
  batch = lay_out([[(A, None), (None, B), (C, None)]], aggregate='sequence')
  assert of_rows(batch, 'pairs').tolist()[:3] == [1 << 3, 1 << 4, 1 << 3]
  np.testing.assert_allclose(of_rows(batch, 'weights')[:3], 1 / 3, 1e-6)
  # Metrics are means over either side.
  means = of_rows(batch, 'mean_weights')[:3]
  np.testing.assert_allclose(means, [1 / 2, 1, 1 / 2], 1e-6)
  # With a pair, weights are of all, and metrics of the pair.
  batch = lay_out([[(A, None), (None, B)], [(D, E)]], aggregate='sequence')
  weights = of_rows(batch, 'weights')
  np.testing.assert_allclose(weights[[0, 1, 3, 4]], 1 / 4, 1e-6)
  means = of_rows(batch, 'mean_weights')
  np.testing.assert_allclose(means[[0, 1, 3, 4]], [0, 0, 1 / 2, 1 / 2], 1e-6)
  # Apart, either kind is weighed by itself.
  batch = lay_out(
    [[(A, None), (B, None)], [(D, E)]], aggregate='sequence', is_apart=True
  )
  np.testing.assert_allclose(of_rows(batch, 'weights')[[0, 1, 3, 4]], 1 / 2)


def test_groups_stay_together_where_they_are_packed():
  groups = [[(A, B), (C, B)], [(D, E)]]
  plain, packed = lay_out(groups), lay_out(groups, row_shapes=((2, 16),))
  assert packed['tokens'].shape == (2, 16) and 'segments' in packed
  for name in ('pairs', 'rewards', 'weights', 'mean_weights'):
    for number in range(1, 6):
      ours, theirs = (
        b[name][b['responses'] == number] for b in (packed, plain)
      )
      np.testing.assert_array_equal(ours, theirs)
  for numbers in ((1, 2, 3), (4, 5)):
    rows = [np.isin(packed['responses'], numbers).any(axis=1)]
    assert np.sum(rows) == 1


def test_an_empty_batch():
  batch = lay_out([[], []])
  assert not batch['mask'].any() and not batch['pairs'].any()


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match='sum-0/solve.0: got 3 .*max_responses'):
    lay_out([[(A, B), (C, B)]], size=2)
  with pytest.raises(ValueError, match='responses: got 30 .*2 to 29; lower'):
    lay_out([], size=30)
  with pytest.raises(ValueError, match='without tokens'):
    lay_out([[(A, respond(9, 0))]])
  with pytest.raises(ValueError, match='got 8; .* 12 rows in groups of 3'):
    lay_out([], microbatches=8)
