import dataclasses
import functools

import numpy as np
import pytest
from loop_helpers import PROBLEM, RIGHT, nano

from critic_jax.data import batching
from critic_jax.rollouts import rollout
from critic_jax.types import Record


@pytest.fixture(scope='module')
def lm():
  """Makes a model with rows of 8, 16 or 20 columns, responses of 4 tokens."""
  return nano(lengths=(8, 16), max_new_tokens=4)


def record(num_prompt, num_tokens, first=100, **fields):
  """Makes a record of tokens 1, 2, ... and then `first`, `first` + 1, ..."""
  return Record(
    problem=PROBLEM,
    stage='solve',
    parent=None,
    index=0,
    prompt_tokens=np.arange(1, num_prompt + 1, dtype=np.int32),
    tokens=np.arange(first, first + num_tokens, dtype=np.int32),
    logprobs=-np.arange(1, num_tokens + 1, dtype=np.float32),
    text='',
    **fields,
  )


def test_a_batch_by_hand(lm):
  batch = batching.from_records(
    [record(3, 2), record(1, 4, first=200)],
    lm,
    num_rows=3,
    aggregate='token',
    advantages=[0.5, -2.0],
  )
  expected = {
    'tokens': [
      [1, 2, 3, 100, 101, 0, 0, 0],
      [1, 200, 201, 202, 203, 0, 0, 0],
      [0] * 8,
    ],
    'mask': [[0, 0, 0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0, 0, 0], [0] * 8],
    'logprobs': [
      [0, 0, 0, -1, -2, 0, 0, 0],
      [0, -1, -2, -3, -4, 0, 0, 0],
      [0] * 8,
    ],
    'advantages': [
      [0, 0, 0, 0.5, 0.5, 0, 0, 0],
      [0, -2, -2, -2, -2, 0, 0, 0],
      [0] * 8,
    ],
    # 2 + 4 trained tokens.
    'weights': [
      [0, 0, 0, 1 / 6, 1 / 6, 0, 0, 0],
      [0, 1 / 6, 1 / 6, 1 / 6, 1 / 6, 0, 0, 0],
      [0] * 8,
    ],
  }
  expected['mean_weights'] = expected['weights']  # the loss is a mean, too
  assert sorted(batch) == sorted(expected)
  for name, rows in expected.items():
    np.testing.assert_allclose(batch[name], rows, rtol=1e-6, err_msg=name)
  kinds = {name: array.dtype.name for name, array in batch.items()}
  assert kinds == dict(
    tokens='int32', mask='bool', logprobs='float32', advantages='float32',
    weights='float32', mean_weights='float32',
  )  # fmt: skip
  assert not batch['mask'][:, 0].any()


@pytest.mark.parametrize(
  ('aggregate', 'rows'),
  [
    # Row 0 has 2 tokens, row 1 has 4, rows 2 and 3 none.
    ('token', [2 / 6, 4 / 6, 0, 0]),
    ('sequence', [1 / 2, 1 / 2, 0, 0]),
    ('constant', [2 / (4 * 2), 4 / (4 * 2), 0, 0]),  # max_new_tokens = 4
  ],
)
def test_weights(lm, aggregate, rows):
  batch = batching.from_records(
    [record(3, 2), record(3, 4), record(3, 0)],
    lm,
    num_rows=4,
    aggregate=aggregate,
  )
  np.testing.assert_allclose(batch['weights'].sum(axis=1), rows, rtol=1e-6)


@pytest.mark.parametrize(
  ('num_prompt', 'num_tokens', 'columns'),
  [(4, 4, 8), (5, 4, 16), (12, 4, 16), (13, 4, 20), (16, 4, 20)],
)
def test_columns_are_of_the_table(lm, num_prompt, num_tokens, columns):
  batch = batching.from_records(
    [record(num_prompt, num_tokens)], lm, num_rows=1, aggregate='token'
  )
  assert batch['tokens'].shape == (1, columns)


def test_no_records_are_an_empty_batch_that_weighs_nothing(lm):
  batch = batching.from_records([], lm, num_rows=2, aggregate='sequence')
  assert batch['tokens'].shape == (2, 8)
  assert not batch['weights'].any() and not batch['mask'].any()


@pytest.mark.parametrize('empty', [record(3, 0), record(0, 0), record(0, 2)])
def test_a_record_without_tokens_is_an_empty_row_in_its_place(lm, empty):
  batch = batching.from_records(
    [record(3, 2), empty, record(3, 3)],
    lm,
    num_rows=3,
    aggregate='sequence',
    advantages=[1.0, 5.0, -1.0],
  )
  assert batch['mask'].sum(axis=1).tolist() == [2, 0, 3]
  assert not batch['advantages'][1].any()
  np.testing.assert_allclose(batch['weights'].sum(axis=1), [0.5, 0, 0.5])


def test_a_record_that_nothing_is_learned_from_is_an_empty_row(lm):
  """The others weigh what they would without it; it does not widen them."""
  records, advantages = [record(3, 2), record(9, 4), record(3, 1)], [1, 2, 3]
  for aggregate in ('token', 'sequence', 'constant'):
    make = functools.partial(
      batching.from_records, lm=lm, num_rows=3, aggregate=aggregate
    )
    batch = make(records, advantages=advantages, where=[True, False, True])
    assert not any(x[1].any() for x in batch.values())
    expected = make(records[::2], advantages=advantages[::2])
    for name, x in batch.items():
      np.testing.assert_array_equal(x[::2], expected[name][:2], err_msg=name)


def test_a_long_refused_prompt_does_not_widen_the_batch(lm):
  overlong_record = record(1000, 0, finish='prompt')
  batch = batching.from_records(
    [record(3, 2), overlong_record], lm, num_rows=2, aggregate='token'
  )
  assert batch['tokens'].shape == (2, 8)


def test_what_does_not_fit_is_refused(lm):
  with pytest.raises(ValueError, match='records: got 2; expected at most'):
    batching.from_records([record(1, 1)] * 2, lm, num_rows=1, aggregate='token')
  with pytest.raises(ValueError, match='row: got 21 tokens; expected at most'):
    batching.from_records([record(17, 4)], lm, num_rows=1, aggregate='token')
  with pytest.raises(ValueError, match="how: got 'mean'"):
    batching.from_records([], lm, num_rows=1, aggregate='mean')
  with pytest.raises(ValueError):
    batching.from_records(
      [record(1, 1)], lm, num_rows=1, aggregate='token', advantages=[1, 2]
    )


def make_pack(lm, **changes):
  settings = dict(num_rows=4, aggregate='token', row_shapes=(), microbatches=1)
  return batching.make_rows(lm, **settings | changes)[1]


def test_rows_are_plain_or_of_a_declared_shape(lm):
  plain = batching.from_records(
    [record(3, 2), record(2, 4), record(3, 1)],
    lm,
    num_rows=3,
    aggregate='token',
  )
  assert make_pack(lm)(plain) is plain
  # 2 + 4, and 3 + 2 + 1 + 1: more than 10.
  shapes = [1, 10], [2, 20], [9, 99]
  packed = make_pack(lm, row_shapes=shapes)(plain)
  assert packed['tokens'].shape == (2, 20)
  assert (packed['segments'] > 0).sum() == 13
  assert plain.keys() < packed.keys()


@pytest.mark.parametrize(
  'changes',
  [
    dict(row_shapes=(2, 20)),
    dict(row_shapes=((2, 20, 1),)),
    dict(row_shapes=((2, 0),)),
    dict(row_shapes=((2, 20), (3, 20)), microbatches=2),
  ],
)
def test_what_is_not_a_shape_is_refused_when_a_recipe_is_made(lm, changes):
  with pytest.raises(ValueError, match='row_shapes: got .*a multiple of micro'):
    make_pack(lm, **changes)


def test_microbatches_divide_plain_rows_too(lm):
  with pytest.raises(ValueError, match='microbatches: got 3; .* the 4 rows'):
    make_pack(lm, microbatches=3)


def test_an_unknown_aggregate_is_refused_when_a_recipe_is_made(lm):
  with pytest.raises(ValueError, match="got 'mean'; expected 'token'"):
    make_pack(lm, aggregate='mean')


def test_encode_is_what_a_model_would_have_written():
  lm = nano()
  stage = lm.stages.solve
  written = rollout.write(stage, PROBLEM, RIGHT)
  record = batching.encode(written, stage.prompt(PROBLEM), lm)
  assert record.finish == 'stop'
  assert record.prompt_tokens.tolist() == lm.encode_prompt(
    stage.prompt(PROBLEM)
  )
  assert lm.tokenizer.decode(record.tokens[:-1]) == RIGHT
  assert record.tokens[-1] == lm.tokenizer.eos[0]
  assert len(record.logprobs) == len(record.tokens)
  # The limits are inclusive: one token less and it does not fit.
  fits = dict(
    lengths=(len(record.prompt_tokens),), max_new_tokens=len(record.tokens)
  )
  short = nano(**fits)
  assert batching.encode(written, stage.prompt(PROBLEM), short).tokens.size
  for field, less in (
    ('lengths', (fits['lengths'][0] - 1,)),
    ('max_new_tokens', fits['max_new_tokens'] - 1),
  ):
    overlong_record = batching.encode(
      written,
      stage.prompt(PROBLEM),
      dataclasses.replace(short, **{field: less}),
    )
    assert overlong_record.refused and overlong_record.tokens.size == 0


def test_a_model_rereads_behind_its_own_prompt_of_the_stage():
  lm, other = nano(max_new_tokens=64), nano(max_new_tokens=64, prefix='So ')
  solution = rollout.write(other.stages.solve, PROBLEM, RIGHT)
  critique = rollout.write(other.stages.critique, solution, 'Verdict: correct')
  prompts = lm.stages.solve.prompt(PROBLEM), lm.stages.critique.prompt(solution)
  read = batching.reread_own([solution, critique], lm)
  for record, prompt, text in zip(
    read, prompts, (RIGHT, 'Verdict: correct'), strict=True
  ):
    assert record.prompt_tokens.tolist() == lm.encode_prompt(prompt)
    assert record.tokens.tolist() == lm.encode_response(text)
