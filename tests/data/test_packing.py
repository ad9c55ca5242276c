"""Packed rows against plain ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
  FAMILIES,
  assert_trees_close,
  make_record,
  tiny_lm,
  tiny_model,
)

from critic_jax.data import batching, packing
from critic_jax.models import forward
from critic_jax.objectives import policy

# Prompts of 1 to 7 tokens with 3, 1, 4 and 2 responses, and two records
# without tokens.
GROUPS = {5: (4, 2, 7), 1: (6,), 7: (1, 3, 8, 2), 3: (5, 5)}
TRAINED = 'mask', 'weights', 'logprobs', 'advantages'
NUM_ROWS = 24  # of plain rows


def make_records(seed=0, groups=GROUPS, vocab_size=264):
  """Makes groups in a shuffled order: siblings are not neighbours."""
  random = np.random.default_rng(seed)
  draw = functools.partial(random.integers, 0, vocab_size)
  records = []
  for num_prompt, lengths in groups.items():
    prompt = draw(num_prompt)
    records += [
      make_record(
        prompt_tokens=prompt,
        tokens=draw(length),
        logprobs=-5 - random.random(length),
      )
      for length in lengths
    ]
  records += [make_record(tokens=[])] * 2
  random.shuffle(records)
  return records


def plain_batch(records, aggregate='sequence'):
  return batching.from_records(
    records,
    tiny_lm(),
    num_rows=NUM_ROWS,
    aggregate=aggregate,
    advantages=np.random.default_rng(1).normal(size=len(records)),
  )


def reversed_batch(batch):
  return {name: x[::-1] for name, x in batch.items()}


def seen_by(batch, row, column):
  """Returns the tokens that a token sees, by position (packing.py)."""
  segments, prefixes = batch['segments'][row], batch['prefixes'][row]
  columns = [
    s
    for s in range(column + 1)
    if segments[s] == segments[column] or segments[s] == prefixes[column]
  ]
  positions = batch['positions'][row][columns].tolist()
  assert sorted(positions) == list(range(len(columns)))
  return tuple(batch['tokens'][row][columns][np.argsort(positions)].tolist())


def trained_places(batch, predicate):
  """Returns what each trained token sees, and its targets, sorted."""
  return sorted(
    (predicate(b, t), *(float(batch[name][b, t]) for name in TRAINED))
    for b, t in zip(*np.nonzero(batch['mask']), strict=True)
  )


def assert_the_same_is_trained(packed, plain):
  assert trained_places(
    packed, functools.partial(seen_by, packed)
  ) == trained_places(plain, lambda b, t: tuple(plain['tokens'][b, : t + 1]))
  # Predicted by the token before it in its own sequence, which is on its left.
  for b, t in zip(*np.nonzero(packed['mask']), strict=True):
    assert seen_by(packed, b, t)[:-1] == seen_by(packed, b, t - 1)
  padding = packed['segments'] == 0
  assert not any(packed[name][padding].any() for name in packed)
  assert {n: packed[n].dtype for n in plain} == {
    n: x.dtype for n, x in plain.items()
  }


def test_rows_by_hand():
  def record(prompt, tokens):
    return make_record(prompt_tokens=prompt, tokens=tokens)

  shared, other = [1, 2, 3], [7, 8]
  records = [record(shared, [4, 5]), record(other, [9]), record(shared, [6])]
  plain = plain_batch(records)
  packed = packing.pack(plain, [(1, 12)])
  expected = {
    # Prompt, response and response, each after the prompt's last token; then a
    # prompt with its only response.
    'tokens': [[1, 2, 3, 4, 5, 3, 6, 7, 8, 9, 0, 0]],
    'mask': [[0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0]],
    'segments': [[1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 0, 0]],
    'prefixes': [[1, 1, 1, 1, 1, 1, 1, 4, 4, 4, 0, 0]],
    'positions': [[0, 1, 2, 3, 4, 2, 3, 0, 1, 2, 0, 0]],
  }
  for name, rows in expected.items():
    np.testing.assert_array_equal(packed[name], rows, err_msg=name)
  # Each of the three responses weighs a third.
  np.testing.assert_allclose(
    packed['weights'][0, [3, 4, 6, 9]], [1 / 6, 1 / 6, 1 / 3, 1 / 3]
  )
  assert_the_same_is_trained(packed, plain)


@pytest.mark.parametrize('seed', range(20))
def test_nothing_is_lost_or_seen_by_others(seed):
  random = np.random.default_rng(seed)
  groups = {
    int(num_prompt): random.integers(1, 9, random.integers(1, 6))
    for num_prompt in random.choice(range(1, 17), 4, replace=False)
  }
  # Few different tokens: prompts may begin alike, and responses be equal.
  records = make_records(seed, groups, vocab_size=3)
  plain = plain_batch(records)
  columns = int(random.integers(24, 60))
  packed = packing.pack(plain, [(NUM_ROWS, columns)])
  assert_the_same_is_trained(packed, plain)


def test_prompts_are_shared_as_far_as_a_row_goes():
  # A prompt of 5, four responses of 3: 5 + 3, and then 1 + 3 each.
  records = make_records(groups={5: (3, 3, 3, 3)})
  plain = plain_batch(records)
  for columns, num_rows in ((20, 1), (19, 2), (12, 2), (11, 4), (8, 4)):
    packed = packing.pack(plain, [(n, columns) for n in range(1, 5)])
    assert packed['tokens'].shape == (num_rows, columns)
    assert_the_same_is_trained(packed, plain)
    np.testing.assert_array_equal(packed['mask'].sum(), 12)
  assert (packing.pack(plain, [(1, 20)])['segments'] > 0).all()


def make_pairs(num_prompts, lengths):
  """Makes two records for each prompt of so many tokens, of such lengths."""
  draw = np.random.default_rng(0)
  return [
    make_record(
      prompt_tokens=[num_prompt] * num_prompt,
      tokens=draw.integers(1, 99, length),
      logprobs=-5 - draw.random(length),
    )
    for num_prompt, pair in zip(num_prompts, lengths, strict=True)
    for length in pair
  ]


def rows_of_pairs(batch):
  """Returns the rows that each pair of responses is in."""
  numbers = batch['responses']
  return [
    np.flatnonzero(np.isin(numbers, [i, i + 1]).any(axis=1)).tolist()
    for i in range(1, numbers.max() + 1, 2)
  ]


@pytest.mark.parametrize('seed', range(10))
def test_linked_rows_come_to_one_row(seed):
  """Also where a prompt has more pairs than a row holds."""
  num_prompts = 3, 5, 3, 3, 8, 5, 3, 3, 1
  lengths = np.random.default_rng(seed).integers(1, 7, (len(num_prompts), 2))
  to_rows, pack = batching.make_rows(
    tiny_lm(), num_rows=NUM_ROWS, aggregate='sequence', microbatches=2,
    row_shapes=((NUM_ROWS, 24),), rows_per_group=2,
  )  # fmt: skip
  plain = to_rows(make_pairs(num_prompts, lengths))
  np.testing.assert_array_equal(
    plain['responses'], plain['mask'] * np.arange(1, NUM_ROWS + 1)[:, None]
  )
  packed = pack(plain)
  assert_the_same_is_trained(packed, plain)
  assert [len(rows) for rows in rows_of_pairs(packed)] == [1] * 9
  np.testing.assert_array_equal(packed['responses'] > 0, packed['mask'])
  # A pair's prompt is there once.
  assert (packed['segments'] > 0).sum() < (plain['tokens'] > 0).sum()
  # A pair's weights are those of any other.
  for batch in (plain, packed):
    for name in ('weights', 'mean_weights'):
      sums = np.bincount(batch['responses'].ravel(), batch[name].ravel())
      np.testing.assert_allclose(sums, [0, *[1 / 18] * 18], rtol=1e-5)


def test_what_is_not_linked_is_parted():
  # 2 columns of a prompt, and 5 for each response: 18 hold three of them.
  plain = plain_batch(make_pairs([3, 3], [(4, 4), (4, 4)]))
  plain['responses'] = plain['mask'] * np.arange(1, NUM_ROWS + 1)[:, None]
  free, linked = (packing.pack(plain, [(2, 18)], n) for n in (1, 2))
  assert rows_of_pairs(free) == [[0], [0, 1]]
  assert rows_of_pairs(linked) == [[0], [1]]
  assert_the_same_is_trained(linked, plain)


def test_a_pair_that_no_row_holds_stays_plain():
  # A prompt of 5, two responses of 3: 4 + 4 + 4 columns.
  plain = plain_batch(make_pairs([5], [(3, 3)]))
  assert packing.pack(plain, [(2, 11)], 2) is plain
  assert packing.pack(plain, [(2, 11), (2, 12)], 2)['tokens'].shape == (2, 12)
  assert packing.pack(plain, [(2, 11)])['tokens'].shape == (2, 11)


def test_linked_rows_of_two_prompts_are_refused():
  records = make_pairs([5, 2], [(3, 3), (3, 3)])[1:3]
  with pytest.raises(ValueError, match='rows 0 to 1: got 2 prompts; .* one'):
    packing.pack(plain_batch(records), [(4, 24)], 2)


def test_the_first_shape_that_holds_a_batch_is_taken():
  plain = plain_batch(make_records(groups={5: (3, 3, 3), 2: (4,)}))  # 16 and 6

  def shape(*shapes):
    return packing.pack(plain, shapes)['tokens'].shape

  assert shape((1, 22), (2, 22)) == (1, 22)
  assert shape((1, 21), (2, 21)) == (2, 21)  # does not fit in one
  assert shape((4, 7), (2, 16)) == (2, 16)  # a response is too long
  # 8 + 4, and 8 with 6.
  assert shape((1, 15), (2, 15), (3, 15)) == (2, 15)
  assert packing.pack(plain, [(1, 21), (9, 7)]) is plain


def test_an_empty_batch_has_the_first_shape():
  plain = plain_batch(make_records(groups={}))
  packed = packing.pack(plain, [(2, 8), (4, 16)])
  assert packed['tokens'].shape == (2, 8)
  assert not any(x.any() for x in packed.values())


@functools.cache
def program(family):
  """Makes a loss of whole responses, its gradient and log-probabilities."""
  model, params = tiny_model(family, vocab_size=264)

  def loss(params, batch):
    logprobs = forward.token_logprobs(
      model, params, batch['tokens'], layout=forward.layout(batch)
    )
    per_token = policy.gspo(
      logprobs,
      batch['logprobs'],
      batch['advantages'],
      batch['mask'],
      batch.get('segments'),
      clip_low=1.0,
      clip_high=9.0,  # few are clipped
    )
    return jnp.sum(batch['weights'] * per_token), logprobs

  grad = jax.jit(jax.value_and_grad(loss, has_aux=True))

  def evaluate(batch):
    if 'segments' in batch:  # to one shape: compiled once
      num_missing = np.subtract((8, 32), batch['tokens'].shape)
      batch = {
        name: np.pad(x, [(0, n) for n in num_missing])
        for name, x in batch.items()
      }
    (total, logprobs), gradient = grad(params, batch)
    # Each trained token was given another old log-probability.
    order = np.argsort(batch['logprobs'][batch['mask']])
    return total, np.asarray(logprobs)[batch['mask']][order], gradient

  return evaluate


def assert_the_same(actual, expected):
  """Asserts equal totals, log-probabilities and gradients, within 1e-5."""
  for x, y in zip(actual[:2], expected[:2], strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)
  assert_trees_close(actual[2], expected[2], atol=1e-5)
  assert abs(expected[0]) > 1e-3
  assert all(np.abs(x).max() > 1e-3 for x in jax.tree.leaves(expected[2]))


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize(
  ('groups', 'columns', 'shared', 'packed'),
  [
    ({5: (4, 2, 7), 7: (1, 3, 8, 2)}, 24, True, False),  # a group a row
    ({5: (4,), 1: (6,), 7: (8,), 3: (5,)}, 32, False, True),
    (GROUPS, 32, True, True),
    (GROUPS, 19, True, True),  # groups are cut, too
  ],
)
def test_log_probabilities_loss_and_gradient_are_those_of_plain_rows(
  family, groups, columns, shared, packed
):
  plain = plain_batch(make_records(groups=groups))
  batch = packing.pack(plain, [(8, columns)])
  assert (batch['segments'] != batch['prefixes']).any() == shared
  starts = (batch['segments'] > 0) & (batch['positions'] == 0)
  assert (starts.sum(axis=1).max() > 1) == packed
  evaluate = program(family)
  assert_the_same(evaluate(batch), evaluate(plain))


@pytest.mark.parametrize('family', ['gemma3', 'qwen3_moe'])
def test_windows_and_experts_of_packed_rows_are_those_of_plain_rows(family):
  plain = plain_batch(make_records(groups=GROUPS))
  evaluate = program(family)
  packed = packing.pack(plain, [(8, 19)])
  assert_the_same(evaluate(packed), evaluate(plain))


@pytest.mark.parametrize('aggregate', ['token', 'sequence', 'constant'])
def test_order_and_rows_do_not_matter(aggregate):
  evaluate = program('qwen3')
  plain = plain_batch(make_records(), aggregate)
  packed = packing.pack(plain, [(4, 31)])
  expected = evaluate(packed)
  assert_the_same(evaluate(plain), expected)
  backwards = packing.pack(reversed_batch(plain), [(4, 31)])
  assert (backwards['tokens'] != packed['tokens']).any()
  assert_the_same(evaluate(backwards), expected)
  assert_the_same(evaluate(reversed_batch(packed)), expected)


def test_parts_of_a_packed_batch_add_up():
  evaluate = program('qwen3')
  packed = packing.pack(plain_batch(make_records()), [(4, 31)])
  parts = []
  for rows in ([0, 2], [1, 3]):
    ours = np.isin(np.arange(4), rows)[:, None]
    parts.append(
      evaluate({**packed, 'weights': np.where(ours, packed['weights'], 0)})
    )
  first, second = parts
  total = (
    first[0] + second[0],
    first[1],
    jax.tree.map(np.add, first[2], second[2]),
  )
  assert_the_same(total, evaluate(packed))
  assert any(np.any(x) for x in jax.tree.leaves(second[2]))
