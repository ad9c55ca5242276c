"""Digests of inputs: what changes them, and that nothing else does."""

import dataclasses
import gzip
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from helpers import byte_tokenizer, make_record, random_params, tiny_config

from critic_jax.data import sources
from critic_jax.models.config import RopeScaling
from critic_jax.models.transformer import Transformer
from critic_jax.pretrained import hf_weights
from critic_jax.runtime import distributed
from critic_jax.text import tokenizer as tokenizer_lib
from critic_jax.training import inputs
from critic_jax.types import Comparison, Problem, Record

CONFIG = tiny_config('llama', num_layers=1)
PROBLEM = Problem('gsm8k-1', 'What is 3 + 4?', '7', '3 + 4 = 7')


def params():
  return jax.tree.map(np.array, random_params(Transformer(CONFIG)))


def reverse(tree):
  """Returns a tree of dicts with all names in the other order."""
  if not isinstance(tree, dict):
    return tree
  return {name: reverse(tree[name]) for name in reversed(tree)}


def test_any_bit_of_any_parameter_changes_the_digest_of_weights():
  digests = {inputs.of_weights(CONFIG, params())}
  num_leaves = len(jax.tree.leaves(params()))
  for i in range(num_leaves):
    changed = params()
    leaf = jax.tree.leaves(changed)[i]
    leaf.reshape(-1).view(np.uint8)[-1] ^= 1
    digests.add(inputs.of_weights(CONFIG, changed))
  assert len(digests) == num_leaves + 1


@pytest.mark.parametrize(
  'change',
  [
    dict(rope_theta=1e6),
    dict(norm_eps=1e-6),
    dict(rope_scaling=None),
    dict(rope_scaling=RopeScaling(8.0, 1.0, 4.0, 32)),
    dict(max_len=64),
  ],
)
def test_another_config_is_another_model(change):
  other = dataclasses.replace(CONFIG, **change)
  assert inputs.of_weights(other, params()) != inputs.of_weights(
    CONFIG, params()
  )


def test_another_form_of_the_same_arrays_changes_nothing():
  digest = inputs.of_weights(CONFIG, params())
  assert inputs.of_weights(CONFIG, reverse(params())) == digest
  # Arrays on a device, and arrays that lie in another order.
  assert inputs.of_weights(CONFIG, random_params(Transformer(CONFIG))) == digest
  fortran = jax.tree.map(np.asfortranarray, params())
  assert inputs.of_weights(CONFIG, fortran) == digest
  # Settings of a role, which config.json has.
  config = dataclasses.replace(
    CONFIG, head='value', dtype='bfloat16', param_dtype='bfloat16', remat='full'
  )
  assert inputs.of_weights(config, params()) == digest
  bfloat16 = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), params())
  assert inputs.of_weights(CONFIG, bfloat16) != digest


def test_shards_and_a_copy_are_the_same_weights(tmp_path):
  pieces = tokenizer_lib.from_sentencepiece(
    tokenizer_lib.train_sentencepiece(['hello world'], 300)
  )
  hf_weights.save(tmp_path / 'a', CONFIG, params(), pieces)
  hf_weights.save(
    tmp_path / 'b', CONFIG, params(), pieces, max_shard_bytes=4000
  )
  digests = {
    (
      inputs.of_weights(*hf_weights.load_weights(tmp_path / name)),
      inputs.of_tokenizer(hf_weights.load(tmp_path / name)[2]),
    )
    for name in 'ab'
  }
  assert len(digests) == 1
  (tmp_path / 'b' / 'chat_template.jinja').write_text('{{ messages }}')
  tokenizer = hf_weights.load(tmp_path / 'b')[2]
  assert inputs.of_tokenizer(tokenizer) not in {d for _, d in digests}


EXAMPLES = [
  [],
  [PROBLEM],
  [PROBLEM, PROBLEM],
  *(
    [dataclasses.replace(PROBLEM, **{field.name: 'other'})]
    for field in dataclasses.fields(PROBLEM)
  ),
  # No two fields run into each other.
  [Problem('a', 'b', 'c')],
  [Problem('a', 'bc', '')],
  [Problem('a', '', 'bc')],
  [Problem('a', 'b', 'c'), Problem('d', 'e', 'f')],
  [Problem('d', 'e', 'f'), Problem('a', 'b', 'c')],
  [Problem('a\n', 'b', 'c')],
  [Problem('a', 'b\ud800', 'c')],
  *(
    [make_record(**{'text': 'x', 'parsed': {'correct': True}} | change)]
    for change in (
      {},
      {'text': 'y'},
      {'parsed': {'correct': False}},
      {'parsed': {'correct': True, 'first_error': 2}},
      {'scores': {'reward': 1.0}},
      {'stage': 'refine'},
      {'index': 1},
    )
  ),
  [make_record('critique', make_record(text='x'), text='y')],
  [make_record('critique', make_record(text='z'), text='y')],
  *(
    [Comparison(PROBLEM, (make_record(**x), make_record(text='y')), messages)]
    for x, messages in (
      ({'text': 'x'}, ()),
      ({'text': 'z'}, ()),
      ({'text': 'x', 'scores': {'preference': 1.0}}, ()),
      ({'text': 'x', 'parsed': {'label': True}}, ()),
      ({'text': 'x'}, ({'role': 'user', 'content': 'a'},)),
      ({'text': 'x'}, ({'role': 'system', 'content': 'a'},)),
    )
  ),
]


def test_all_of_an_example_and_their_order_count():
  digests = [inputs.of_examples(examples) for examples in EXAMPLES]
  assert len({*digests}) == len(EXAMPLES)
  assert digests == [inputs.of_examples(iter(list(e))) for e in EXAMPLES]


def test_every_field_of_an_example_is_digested_or_named_here():
  """A new field must not be left out by accident."""
  ours = {'stage', 'index', 'text', 'finish', 'parsed', 'scores'}
  walked = {'problem', 'parent'}
  of_models = {'prompt_tokens', 'tokens', 'logprobs', 'control_of'}
  names = {field.name for field in dataclasses.fields(Record)}
  assert names == ours | walked | of_models


def test_processes_that_have_read_different_files_are_told_of(monkeypatch):
  class Lm:
    tokenizer = byte_tokenizer()

  first = inputs.digests({'critic': Lm}, {}, {'data': [PROBLEM]})
  assert sorted(first) == ['data', 'models.critic.tokenizer']
  monkeypatch.setattr(distributed, 'agreed', lambda name, value: first)
  assert inputs.digests({'critic': Lm}, {}, {'data': [PROBLEM]}) == first
  with pytest.raises(ValueError, match='^data: got another content in process'):
    inputs.digests({'critic': Lm}, {}, {'data': []})


ROWS = [
  {'question': f'What is {i} + 1?', 'answer': str(i + 1)} for i in range(9)
]


def file_digest(paths):
  """The digest of the problems that paths name."""
  shares = {'train': 1.0, 'dev': 0.0, 'test': 0.0}
  splits = sources.files(paths=paths, data_dir='', fractions=shares)
  return inputs.of_examples(splits['train'])


def test_problems_are_the_same_in_another_format_and_place(tmp_path):
  lines = [json.dumps(row) + '\n' for row in ROWS]
  cells = [f'{row["question"]},{row["answer"]}\n' for row in ROWS]
  table = ['question,answer\n', *cells]
  contents = {
    'a/set.jsonl': ''.join(lines).encode(),
    'b/set.jsonl.gz': gzip.compress(''.join(lines).encode()),
    'c/set.csv': ''.join(table).encode(),
  }  # fmt: skip
  for name, content in contents.items():
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(content)
  digests = {file_digest(str(tmp_path / name)) for name in contents}
  assert len(digests) == 1
  # A folder, a pattern and a list of the same file.
  paths = (tmp_path / 'a', tmp_path / 'b' / '*', [str(tmp_path / 'c/set.csv')])
  for path in paths:
    digests.add(file_digest(path if isinstance(path, list) else str(path)))
  assert len(digests) == 1
  (tmp_path / 'c/set.csv').write_text(''.join(table).replace('4 + 1', '4+1'))
  assert file_digest(str(tmp_path / 'c')) not in digests


def test_several_files_may_move_together_but_not_change(tmp_path):
  def digest(folder, *parts):
    (tmp_path / folder).mkdir()
    for name, rows in zip('xyz', parts, strict=False):
      text = ''.join(json.dumps(row) + '\n' for row in rows)
      (tmp_path / folder / f'{name}.jsonl').write_text(text)
    return file_digest(str(tmp_path / folder))

  first = digest('a', ROWS[:4], ROWS[4:])
  assert digest('b', ROWS[:4], ROWS[4:]) == first
  assert digest('c', ROWS[:5], ROWS[5:]) != first, 'ids tell the files'
  assert digest('d', ROWS[:4], ROWS[4:8]) != first
