import random

import pytest
from loop_helpers import PROBLEM, RIGHT

from critic_jax.tasks import arithmetic, arithmetic_tokenizer


@pytest.fixture(scope='module')
def tokenizer():
  return arithmetic_tokenizer.tokenizer(num_problems=50)


@pytest.mark.parametrize(
  'text',
  [
    '',
    ' ',
    '  two  spaces  ',
    '\n\n\t\r\n',
    PROBLEM.question,
    RIGHT,
    "▁ is sentencepiece's space",
    '<think>\n</think>\n</s><unk><pad><0x41>',
    '日本語 עברית e\u0301 ﬁ',
    '👩\u200d👩\u200d👧 \U0010fffd\x00\x7f\u202e',
    '3 + 4 = 7' * 50,
    '٣ + ٤',
  ],
)
def test_any_text_round_trips(tokenizer, text):
  tokens = tokenizer.encode(text)
  assert tokenizer.decode(tokens) == text
  assert not set(tokens) & set(tokenizer.eos)


def test_random_texts_round_trip(tokenizer):
  rng = random.Random(0)
  for _ in range(300):
    text = ''.join(
      chr(rng.choice([rng.randrange(128), rng.randrange(0xD800)]))
      for _ in range(rng.randrange(20))
    )
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_numbers_are_one_token_and_lines_are_short(tokenizer):
  for number in range(60):
    assert len(tokenizer.encode(f' {number}')) == 1
    assert len(tokenizer.encode(f'{number}')) == 1
  # 'Step 1:', ' 5', ' +', ' 2', ' =', ' 7'.
  assert len(tokenizer.encode('Step 1: 5 + 2 = 7')) == 6
  # The same line, '?', ' 8', '. Wrong.'.
  assert len(tokenizer.encode('\nStep 1: 5 + 2 = 7? 8. Wrong.')) == 9


@pytest.mark.parametrize(
  'piece',
  [
    '. Right.', '. Wrong.', '\nSolution:', '\nCritique:', '<think>',
    '\n</think>\n', '\nRefined solution:', 'Check each step.',
    'Step 9 is wrong', '\nStep 9 is wrong', '. It should be', '\nVerdict:',
  ],
)  # fmt: skip
def test_what_is_always_the_same_is_one_token(tokenizer, piece):
  assert len(tokenizer.encode(piece)) == 1


def test_the_default_vocabulary_is_small():
  assert arithmetic_tokenizer.tokenizer().vocab_size == 640


def test_the_tokenizer_learns_from_the_train_split_only():
  corpus = set(arithmetic_tokenizer.corpus(50))
  for split in ('dev', 'test'):
    for problem in arithmetic.problems(split, 200):
      assert problem.question not in corpus
