"""A tokenizer for the embedded world, trained on its texts."""

from __future__ import annotations

import functools
import random

from critic_jax.tasks import arithmetic, arithmetic_lessons
from critic_jax.text.tokenizer import (
  Tokenizer,
  from_sentencepiece,
  train_sentencepiece,
)
from critic_jax.types import Record


def corpus(num_problems: int, *, seed: int = 0) -> list[str]:
  """Writes texts to train a tokenizer on, from the train split.

  Returns:
    For each problem its question, a solution and a critique.
  """
  rng = random.Random(f'{seed}/corpus')
  texts = []
  for problem in arithmetic.problems('train', num_problems, seed=seed):
    lesson = arithmetic_lessons.solver_lesson(problem, rng, hard_share=0.2)
    solution = lesson.messages[0][1]
    record = Record(problem, 'solve', None, 0, (), (), (), solution)
    critique = arithmetic_lessons.teacher_critique(
      record, rng, check_share=0.7, correct_share=0.4, point_share=0.3
    )
    texts += [problem.question, solution, critique]
  return texts


def tokenizer(*, vocab_size: int = 640, num_problems: int = 2000) -> Tokenizer:
  """Trains a tokenizer in which any text round-trips.

  Numbers below 60, with and without a space before them, marks and the fixed
  parts of a line are one token each; so lines are short.

  Args:
    vocab_size: the greatest number of pieces.
    num_problems: problems to train it on.
  """
  return from_sentencepiece(_trained(vocab_size, num_problems))


@functools.cache
def _trained(vocab_size: int, num_problems: int) -> bytes:
  """Trains a model of sentencepiece once for all roles that have it."""
  numbers = [space + str(n) for n in range(60) for space in ('', ' ')]
  line_starts = [
    start + f'Step {n}' + end
    for n in range(1, 10)
    for start, end in (
      ('', ':'),
      ('\n', ':'),
      ('', ' is wrong'),
      ('\n', ' is wrong'),
    )  # fmt: skip
  ]
  fixed_parts = [
    '\nThe answer is \\boxed{', '}.', '. Right.', '. Wrong.', '. It should be',
    '<think>', '\n</think>', '\n</think>\n', '\nVerdict:', 'Problem: ',
    '\nSolution:', '\nCritique:', '\nRefined solution:', 'Check each step.',
  ]  # fmt: skip
  return train_sentencepiece(
    corpus(num_problems),
    vocab_size,
    pieces=[*numbers, *line_starts, *fixed_parts],
    across_words=True,
  )
