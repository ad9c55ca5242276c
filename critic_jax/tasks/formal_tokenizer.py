"""A tokenizer for statements and their stories, trained on their texts."""

from __future__ import annotations

import functools
import random

from critic_jax.tasks import (
  formal_critiques,
  formal_drafts,
  formal_statements,
)
from critic_jax.text.tokenizer import (
  Tokenizer,
  from_sentencepiece,
  train_sentencepiece,
)


def corpus(num_problems: int, *, seed: int = 0) -> list[str]:
  """Writes texts to train a tokenizer on, from the train split.

  Returns:
    For each problem its question, a draft and a critique.
  """
  rng = random.Random(f'{seed}/corpus')
  checker = formal_drafts.make_checker()
  kinds = '', *formal_drafts.KINDS
  texts = []
  for i, problem in enumerate(
    formal_statements.problems('train', num_problems)
  ):
    kind = kinds[i % len(kinds)]
    draft = formal_drafts.given(problem, rng, checker, kind=kind)
    critique = formal_critiques.critique(draft, rng, check_share=0.7)
    texts += [problem.question, draft.text, critique]
  return texts


def tokenizer(*, vocab_size: int = 640, num_problems: int = 1000) -> Tokenizer:
  """Trains a tokenizer in which any text round-trips.

  Numbers below 60, names and signs are one token each, with and without a space
  before them, and so are the fixed parts of a line.

  Args:
    vocab_size: the greatest number of pieces.
    num_problems: problems to train it on.
  """
  return from_sentencepiece(_trained(vocab_size, num_problems))


@functools.cache
def _trained(vocab_size: int, num_problems: int) -> bytes:
  """Trains a model of sentencepiece once for all roles that have it."""
  names = formal_statements.NAMES
  words = [*map(str, range(60)), *names, *'+-*=', 'none']
  phrases = [' more.', ' of them.', ' times as many.', ' How many', ' has']
  fixed_parts = [
    *(f' (h{i} :' for i in range(1, 8)),
    *(f'theorem t ({" ".join(names[:n])} : Nat)' for n in range(2, 8)),
    *(f'Part {i}:' for i in range(1, 8)),
    'Claim:', ')', ') :', ' :', '\nChecker:', '?', '. Right.\n', '. Wrong.\n',
    '<think>\n', '</think>\n', '\nVerdict:', 'It looks fine.\n',
    'I find no mistake.', 'There is a mistake.', 'Problem: ', '\nSolution:\n',
    '\nCritique:', 'Checker? Wrong.\n', ' correct', ' incorrect',
  ]  # fmt: skip
  return train_sentencepiece(
    corpus(num_problems),
    vocab_size,
    pieces=[
      *(space + word for word in words for space in (' ', '')),
      *phrases,
      *fixed_parts,
    ],
    across_words=True,
  )
