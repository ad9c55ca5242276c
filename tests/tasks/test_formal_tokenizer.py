"""The tokenizer of statements: its texts are short, any text fits."""

import random

from configs import critic_lean
from critic_jax.rollouts.styles import plain
from critic_jax.tasks import (
  formal_critiques,
  formal_drafts,
  formal_statements,
  formal_tokenizer,
)


def test_texts_fit_the_config():
  tokenizer = formal_tokenizer.tokenizer()
  settings = critic_lean.role()
  check, rng = formal_drafts.make_checker(), random.Random(1)
  kinds = '', *formal_drafts.KINDS
  for i, problem in enumerate(formal_statements.problems('test', 400)):
    draft = formal_drafts.given(problem, rng, check, kind=kinds[i % len(kinds)])
    critique = formal_critiques.critique(draft, rng, check_share=0.9)
    prompt = tokenizer.encode(plain.ask_critique(draft))
    assert len(prompt) <= settings['lengths'][0] - 4
    tokens = tokenizer.encode(critique)
    assert len(tokens) < settings['max_new_tokens'] - 4
    assert tokenizer.decode(tokens) == critique


def test_words_are_tokens_and_any_text_round_trips():
  tokenizer = formal_tokenizer.tokenizer(num_problems=50)
  assert tokenizer.vocab_size <= 640
  for word in ('n1', 'n4', '+', '=', '12', '59'):
    assert len(tokenizer.encode(f' {word}')) == 1, word
  for text in ('', ' \n\t', 'theorem  n1\u0435', '\u65e5\u672c', '<eos></s>'):
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert not {*tokens} & {*tokenizer.eos}
