"""Rows whose trained tokens are the ends of steps."""

import dataclasses

import numpy as np
import pytest
from helpers import byte_tokenizer, make_record, tiny_lm
from loop_helpers import nano, problems

from critic_jax.data import batching, step_rows
from critic_jax.rollouts import completions, rollout
from critic_jax.types import Problem

SHORT = Problem('short', 'Q?', '1')


def read(lm, text, problem=SHORT, **parsed):
  """Returns a solution as a recipe reads it, and where its steps end."""
  record = rollout.write(lm.stages.solve, problem, text)
  record = dataclasses.replace(record, parsed={**record.parsed, **parsed})
  encoded = batching.encode(record, lm.stages.solve.prompt(problem), lm)
  return encoded, completions.step_ends(record)


def test_a_step_ends_with_its_last_token():
  lm = tiny_lm(max_new_tokens=16, lengths=(96,))  # a token is a byte
  record, ends = read(lm, 'ab\n\n c\nd')
  assert ends == [2, 6, 8]
  assert step_rows.step_tokens(record, ends, lm) == [1, 5, 7]
  # Of a solution that was cut off, too, which has no end.
  cut = dataclasses.replace(record, tokens=record.tokens[:-1])
  assert step_rows.step_tokens(cut, ends, lm) == [1, 5, 7]


def test_steps_of_the_world_end_where_their_tokens_do():
  lm = nano(max_new_tokens=96)
  for problem in problems(8):
    record, ends = read(lm, problem.solution, problem)
    places = step_rows.step_tokens(record, ends, lm)
    assert len(places) == len(ends) >= 4
    for place, end in zip(places, ends, strict=True):
      text = lm.decode_response(record.tokens[: place + 1].tolist())
      assert text == problem.solution[:end]
      # And not before.
      text = lm.decode_response(record.tokens[:place].tolist())
      assert text != problem.solution[:end]


def test_rewards_of_segments_by_hand():
  lm = tiny_lm(max_new_tokens=16, lengths=(96,))  # a token is a byte
  record, _ = read(lm, 'ab\ncd')
  record = dataclasses.replace(record, scores={'reward': 4.0})
  start = len(record.prompt_tokens)
  mask = np.zeros((4, start + 8), bool)
  mask[:2, start : start + 6] = True  # five bytes and an end
  # Two kinds: after each line, and after the whole. The rest is the answer's.
  paid = [(2, 1.0), (5, 0.5), (5, -0.25)]
  other = dataclasses.replace(record, text='not what its tokens say')
  rewards = step_rows.token_rewards(
    [record, other, record], [paid] * 3, mask, lm
  )
  expected = np.zeros(mask.shape)
  expected[0, start + np.array([1, 4, 5])] = [1, 0.25, 2.75]
  expected[1, start + 5] = 4  # its text is not found: all at the end
  # The third is not learned from, and the fourth row is padding.
  np.testing.assert_allclose(rewards, expected)
  plain = step_rows.token_rewards([record], [[]], mask, lm)
  np.testing.assert_allclose(
    plain[0], 4.0 * (np.arange(start + 8) == start + 5)
  )


def test_feedback_by_hand():
  lm = tiny_lm(max_new_tokens=16, lengths=(96,))  # a token is a byte
  record, _ = read(lm, 'ab\ncd')
  start = len(record.prompt_tokens)
  mask = np.zeros((3, start + 8), bool)
  mask[:2, start : start + 6] = True  # five bytes and an end
  mask[1, start] = False
  rated = [(2, 1.0), (4, -1.0)]
  feedback = step_rows.token_feedback([record] * 2, [rated] * 2, mask, lm)
  # The break is the second segment's; what follows the last has its feedback.
  expected = np.zeros(mask.shape)
  expected[:2, start : start + 6] = [1, 1, -1, -1, -1, -1]
  expected[1, start] = 0  # masked
  np.testing.assert_array_equal(feedback, expected)


@pytest.mark.parametrize('is_rated', [False, True])
def test_feedback_that_is_not_found(is_rated):
  lm = tiny_lm(max_new_tokens=16, lengths=(96,))
  record, _ = read(lm, 'ab')
  if is_rated:
    record = dataclasses.replace(record, text='not what its tokens say')
  mask = np.ones((1, len(record.prompt_tokens) + 3), bool)
  rated = [[(2, 1.0)] if is_rated else []]
  with pytest.raises(
    ValueError, match='^lesson short/solve.0: got no segments'
  ):
    step_rows.token_feedback([record], rated, mask, lm)


def test_a_token_that_crosses_the_end_of_a_step_is_its_last():
  """A tokenizer may have one token for the end of a line and what follows."""
  plain, crossing = byte_tokenizer(), 200

  def encode(text, parse_special):
    first, *others = text.split('b\n')
    tokens = plain.encode_fn(first, parse_special)
    for other in others:
      tokens += [crossing, *plain.encode_fn(other, parse_special)]
    return tokens

  def decode(tokens):
    return ''.join(
      'b\n' if t == crossing else plain.decode_fn([t]) for t in tokens
    )

  tokenizer = dataclasses.replace(plain, encode_fn=encode, decode_fn=decode)
  lm = tiny_lm(tokenizer=tokenizer, max_new_tokens=16, lengths=(96,))
  record, ends = read(lm, 'ab\ncd')
  assert record.tokens.tolist() == [97, crossing, 99, 100, 256]
  assert step_rows.step_tokens(record, ends, lm) == [1, 3]


def test_tokens_of_another_text_have_no_steps():
  lm = tiny_lm(max_new_tokens=16, lengths=(96,))
  record, ends = read(lm, 'ab\nc')
  changed = dataclasses.replace(record, text='xb\nc')
  assert step_rows.step_tokens(changed, ends, lm) == []
  nothing = dataclasses.replace(record, tokens=np.zeros(0, np.int32))
  assert step_rows.step_tokens(nothing, ends, lm) == []


def rows(records, ends, aggregate='token', lm=None, num_rows=4):
  lm = lm or tiny_lm(max_new_tokens=16, lengths=(96,))
  to_rows, pack = batching.make_rows(
    lm, num_rows=num_rows, aggregate=aggregate, row_shapes=((2, 300),),
    microbatches=1,
  )  # fmt: skip
  to_step_rows = step_rows.make_step_rows(to_rows, lm, aggregate)
  return to_step_rows(records, ends), pack


@pytest.fixture(scope='module')
def solutions():
  lm = tiny_lm(max_new_tokens=16, lengths=(96,))
  texts = {
    'ab\ncd\nef': [1.0, 0.25, None],  # the last step was not judged
    'g\nh': [0.0, 1.0],
    'unknown': None,
  }
  pairs = [read(lm, text, targets=targets) for text, targets in texts.items()]
  return [*map(list, zip(*pairs, strict=True))]


def at_steps(batch, name):
  return [row[mask].tolist() for row, mask in zip(
    batch[name], batch['mask'], strict=True
  )]  # fmt: skip


def test_targets_and_weights_are_of_steps(solutions):
  records, ends = solutions
  batch, _ = rows(records, ends)
  assert at_steps(batch, 'targets') == [[1.0, 0.25], [0.0, 1.0], [], []]
  tokens = [''.join(map(chr, x)) for x in at_steps(batch, 'tokens')]
  assert tokens == ['bd', 'gh', '', '']
  for name in ('weights', 'mean_weights'):
    assert at_steps(batch, name) == [[0.25, 0.25], [0.25, 0.25], [], []]
  assert not batch['targets'][~batch['mask']].any()


def test_aggregates_are_of_steps(solutions):
  records, ends = solutions
  judged = dataclasses.replace(records[2], parsed={'targets': [0.5]})
  records = [*records[:2], judged]

  def weights(aggregate, name='weights'):
    batch, _ = rows(records, ends, aggregate)
    return batch[name].sum(axis=1)

  # 'sequence' is the mean of each solution's steps, then over solutions.
  by_row = [1 / 3, 1 / 3, 1 / 3, 0]
  np.testing.assert_allclose(weights('sequence'), by_row, rtol=1e-6)
  of_steps = np.array([2, 2, 1, 0])
  means = weights('sequence', 'mean_weights')
  np.testing.assert_allclose(means, of_steps / 5, rtol=1e-6)
  # The limit is 16 tokens, of three solutions.
  np.testing.assert_allclose(weights('constant'), of_steps / 48, rtol=1e-6)


def test_packing_keeps_the_ends_of_steps(solutions):
  batch, pack = rows(*solutions)
  packed = pack(batch)
  assert 'segments' in packed
  for name in ('tokens', 'targets', 'weights'):
    assert sorted(packed[name][packed['mask']]) == sorted(
      batch[name][batch['mask']]
    )


def test_what_has_no_tokens_is_an_empty_row():
  refused = make_record(
    text='ab', tokens=[], parsed={'targets': [1.0]}, finish='prompt'
  )
  batch, _ = rows([refused], [[2]])
  assert not batch['mask'].any() and not batch['weights'].any()
