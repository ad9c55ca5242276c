"""A tokenizer for the world of screens, trained on its texts."""

from __future__ import annotations

import functools
import random

from critic_jax.tasks import screens, screens_agent, screens_critiques
from critic_jax.text.tokenizer import (
  Tokenizer,
  from_sentencepiece,
  train_sentencepiece,
)


def corpus(num_problems: int, *, seed: int = 0) -> list[str]:
  """Writes texts to train a tokenizer on, from the train split.

  Returns:
    For each problem its question, an action and a critique.
  """
  rng = random.Random(f'{seed}/corpus')
  texts = []
  for i, problem in enumerate(screens.problems('train', num_problems)):
    action = screens_agent.given(
      problem, rng, is_wrong=bool(i % 2), error_share=0.3
    )
    critique = screens_critiques.critique(action, rng, check_share=0.7)
    texts += [problem.question, action.text, critique]
  return texts


def tokenizer(*, vocab_size: int = 640, num_problems: int = 500) -> Tokenizer:
  """Trains a tokenizer in which any text round-trips.

  A field, a value and a panel are one token each, with and without a space
  before them, and so are the fixed parts of a line.

  Args:
    vocab_size: the greatest number of pieces.
    num_problems: problems to train it on.
  """
  return from_sentencepiece(_trained(vocab_size, num_problems))


@functools.cache
def _trained(vocab_size: int, num_problems: int) -> bytes:
  """Trains a model of sentencepiece once for all roles that have it."""
  values = {v for words in screens.VALUES.values() for v in words}
  words = sorted({*screens.PANEL_OF, *screens.PANEL_OF.values(), *values})
  fixed_parts = [
    '\nAction: ', '\nButtons: ', ' (open): ', '<think>', '\n</think>\n',
    '\nHint: ', '\nVerdict:', '\nNext: ', ' or ', ' empty', 'type', 'clear',
    'press', ' save', '. Right.', '. Wrong.', '? Right.', '? Wrong.',
    'Problem: Fill in', '. Then save.\nSolution:', '\nCritique:',
  ]  # fmt: skip
  return train_sentencepiece(
    corpus(num_problems),
    vocab_size,
    pieces=[*(space + w for w in words for space in (' ', '')), *fixed_parts],
    across_words=True,
  )
