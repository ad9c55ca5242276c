"""The piece that each token adds to a text."""

import pytest
from helpers import tiny_lm

from critic_jax.tasks import arithmetic_tokenizer
from critic_jax.text import pieces


@pytest.fixture(scope='module')
def bytes_tokenizer():
  return tiny_lm().tokenizer


def test_pieces_are_the_text():
  tokenizer = arithmetic_tokenizer.tokenizer(vocab_size=640, num_problems=50)
  text = 'Step 1: 5 + 2 = 7\nThe answer is \\boxed{7}. Naïve \U0001f642?'
  tokens = tokenizer.encode(text)
  texts = pieces.split(tokens, tokenizer.decode)
  assert ''.join(texts) == text and len(texts) == len(tokens)
  assert texts[:5] == ['Step 1:', ' 5', ' +', ' 2', ' =']


def test_the_last_byte_of_a_character_gets_it(bytes_tokenizer):
  tokens = bytes_tokenizer.encode('aé')
  assert pieces.split(tokens, bytes_tokenizer.decode) == ['a', '', 'é']
  # Cut within a character, it is what a decoder makes of it.
  texts = pieces.split(tokens[:2], bytes_tokenizer.decode)
  assert texts == ['a', '\ufffd']
  assert pieces.split([], bytes_tokenizer.decode) == []


def test_a_decoder_may_drop_a_leading_space():
  vocabulary = ['I', ' think', ' so', '.']
  texts = pieces.split(
    [0, 1, 2, 3], lambda tokens: ''.join(vocabulary[t] for t in tokens).lstrip()
  )
  assert texts == vocabulary


def test_special_tokens_are_visible(bytes_tokenizer):
  eos = bytes_tokenizer.eos[0]
  tokens = [*bytes_tokenizer.encode('a'), eos, *bytes_tokenizer.encode('b')]
  [name] = [k for k, v in bytes_tokenizer.special.items() if v == eos]
  assert pieces.visible(tokens, bytes_tokenizer) == ['a', name, 'b']


def test_tokenizers_of_a_run(tmp_path):
  named = dict(
    module='arithmetic_tokenizer',
    name='tokenizer',
    vocab_size=640,
    num_problems=50,
  )
  saved_tokenizer = arithmetic_tokenizer.tokenizer(
    vocab_size=640, num_problems=50
  )
  saved_tokenizer.save(tmp_path)
  config = dict(
    models=dict(
      critic=dict(source='', tokenizer=named),
      solver=dict(source=str(tmp_path), tokenizer=''),
      gguf=dict(source='package:nowhere', tokenizer=''),
      gone=dict(source=str(tmp_path / 'gone'), tokenizer=''),
      none=dict(source='', tokenizer=''),
      wrong=dict(source='', tokenizer=dict(module='nothing', name='x')),
    )
  )
  tokenizers = pieces.tokenizers(config)
  assert list(tokenizers) == ['critic', 'solver']
  for tokenizer in tokenizers.values():
    assert tokenizer.encode('Step 1: 5') == saved_tokenizer.encode('Step 1: 5')
  assert pieces.tokenizers({}) == {}


@pytest.mark.parametrize(
  'named',
  [
    dict(module='sources', name='files', paths='/etc/passwd', data_dir='DIR'),
    dict(module='store', name='shuffled', num_examples=3, seed=0, epoch=0),
    dict(module='arithmetic_tokenizer', name='tokenizer', num_problems=10**9),
    dict(module='arithmetic_tokenizer', name='tokenizer', vocab_size='768'),
    dict(module=['arithmetic_tokenizer'], name='tokenizer'),
    5,
  ],
)
def test_a_config_calls_nothing_but_what_makes_a_tokenizer(named, tmp_path):
  if isinstance(named, dict) and 'data_dir' in named:
    named = named | {'data_dir': str(tmp_path)}
  assert pieces.tokenizers({'models': {'a': {'tokenizer': named}}}) == {}
  assert not list(tmp_path.iterdir())
