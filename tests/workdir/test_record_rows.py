import json

import numpy as np
import pytest
import synthetic_run

from critic_jax.types import Problem
from critic_jax.workdir import record_rows


def row(**changes):
  root = synthetic_run.message(Problem('p', 'q?', '1'), 'solve', text='one')
  fields = record_rows.to_row(root, {}, tokens=True)
  return json.loads(json.dumps(fields)) | changes


def test_a_row_is_its_record():
  record = record_rows.from_row(row(), None)
  assert record.problem == Problem('p', 'q?', '1') and record.text == 'one'
  assert record.logprobs.dtype == np.float32 and record.tokens.dtype == np.int32
  assert record_rows.to_row(record, {}, tokens=True) == row()


@pytest.mark.parametrize(
  'change, message',
  [
    ({'text': 5}, 'text: got int'),
    ({'index': 'a'}, 'index: got str'),
    ({'parsed': []}, 'parsed: got list'),
    ({'parsed': {'step': 'a'}}, 'parsed step: got str'),
    ({'parsed': {'conclusion': 1}}, 'parsed conclusion: got int'),
    ({'parsed': {'steps': ['a', 1]}}, 'step: got int'),
    ({'parsed': {'step_scores': [0.5, 'x']}}, 'step score: got str'),
    ({'tokens': [2**40, 1]}, 'tokens: got'),
    ({'tokens': ['a', 'b']}, 'tokens: got'),
    ({'logprobs': [1.0, []]}, 'logprobs: got list'),
    ({'num_tokens': -1}, 'tokens: got -1'),
    ({'num_tokens': 3}, 'tokens: got 2; expected 3'),
    ({'scores': {'reward': 10**400}}, 'reward: got a number beyond floats'),
    ({'stage': 'critique'}, 'critique: got no parent'),
    ({'problem': {'id': 'p'}}, 'problem: got'),
    ({'problem': dict(id=1, question='', answer='', solution='')}, 'problem'),
  ],
)
def test_fields_are_of_their_types(change, message):
  with pytest.raises(ValueError, match=message):
    record_rows.from_row(row(**change), None)


def test_what_is_no_row_is_refused():
  for value in (None, 5, [], '', {}):
    with pytest.raises(ValueError, match='got .*; expected'):
      record_rows.from_row(value, None)


def test_tokens_that_were_not_written_take_no_memory():
  short = row(num_tokens=10**9, num_prompt_tokens=2)
  for name in ('tokens', 'prompt_tokens', 'logprobs'):
    del short[name]
  record = record_rows.from_row(short, None)
  assert len(record.tokens) == len(record.logprobs) == 10**9
  assert record.tokens[-1] == -1 and np.isnan(record.logprobs[-1])
  assert record.prompt_tokens.tolist() == [-1, -1]
