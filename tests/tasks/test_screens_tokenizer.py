"""The tokenizer of the world of screens: its texts are short, any text fits."""

import random

from configs import gui_critic
from critic_jax.rollouts.styles import plain
from critic_jax.tasks import (
  screens,
  screens_agent,
  screens_critiques,
  screens_tokenizer,
)


def test_texts_fit_the_config():
  tokenizer = screens_tokenizer.tokenizer()
  settings = gui_critic.role()
  rng = random.Random(1)
  for i, problem in enumerate(screens.problems('test', 400)):
    action = screens_agent.given(
      problem, rng, is_wrong=bool(i % 2), error_share=0.5
    )
    critique = screens_critiques.critique(action, rng, check_share=0.9)
    prompt = tokenizer.encode(plain.ask_critique(action))
    assert len(prompt) <= settings['lengths'][0] - 8
    tokens = tokenizer.encode(critique)
    assert len(tokens) < settings['max_new_tokens'] - 8
    assert tokenizer.decode(tokens) == critique


def test_words_are_tokens_and_any_text_round_trips():
  tokenizer = screens_tokenizer.tokenizer(num_problems=50)
  assert tokenizer.vocab_size <= 640
  for field, values in screens.VALUES.items():
    for word in (field, *values):
      assert len(tokenizer.encode(f' {word}')) == 1, word
  for text in ('', ' \n\t', 'type  nam\u0435 Ada', '\u65e5\u672c', '<eos></s>'):
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert not {*tokens} & {*tokenizer.eos}
