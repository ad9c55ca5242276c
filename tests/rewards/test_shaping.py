import numpy as np
import pytest

from critic_jax.rewards import shaping, verdicts
from critic_jax.types import Problem, Record


def record(tokens=(), text='', parsed=None):
  tokens = np.array(tokens, np.int32)
  return Record(
    problem=Problem('p', '6 * 7?', '42'),
    stage='critique',
    parent=None,
    index=0,
    prompt_tokens=np.zeros(50, np.int32),
    tokens=tokens,
    logprobs=np.zeros(len(tokens), np.float32),
    text=text,
    parsed=verdicts.parse(text) if parsed is None else parsed,
  )


@pytest.mark.parametrize(
  'text, reward',
  [
    ('<think>a</think> Verdict: correct', 1.0),
    ('Verdict: incorrect', 1.0),
    ('<think>a</think> Verdict: correct. Verdict: incorrect.', 0.0),
    ('<think>Verdict: correct', 0.0),
    ('<think>Verdict: correct</think>', 0.0),
  ],
)
def test_format(text, reward):
  assert shaping.format(record(text=text), []) == reward


def test_format_of_a_record_without_status_is_an_error():
  with pytest.raises(ValueError, match='status.*p/critique.0'):
    shaping.format(record(parsed={'answer': '5'}), [])


@pytest.mark.parametrize(
  'num_tokens, reward',
  [
    (0, 0.0),
    (16, 0.0),  # max_len - buffer
    (17, -0.25),  # (16 - 17) / 4
    (19, -0.75),
    (20, -1.0),  # max_len
    (21, -1.0),
    (100, -1.0),
  ],
)
def test_overlong(num_tokens, reward):
  # TRAPS 17: tokens, whatever the number of characters.
  solution = record(range(num_tokens), text='a' * 1000)
  assert shaping.overlong(solution, [], max_len=20, buffer=4) == reward


@pytest.mark.parametrize('buffer', [0, -1, 21])
def test_overlong_buffer_is_checked(buffer):
  with pytest.raises(ValueError, match='buffer: got'):
    shaping.overlong(record(), [], max_len=20, buffer=buffer)


def test_length():
  assert shaping.length(record(range(3)), [], cost=0.25, max_len=4) == -0.75
  assert shaping.length(record(range(9)), [], cost=0.25, max_len=4) == -1.0
  assert shaping.length(record(), [], cost=0.25, max_len=4) == 0.0
  with pytest.raises(ValueError, match='weight'):
    shaping.length(record(), [], cost=-1.0, max_len=4)


def test_repetition():
  # Bigrams of 1 2 1 2 1: 12 21 12 21; two of four occurred before.
  solution = record([1, 2, 1, 2, 1])
  assert shaping.repetition(solution, [], n=2) == -0.5
  # Unigrams: three of five occurred before.
  assert shaping.repetition(solution, [], n=1) == pytest.approx(-0.6)
  assert shaping.repetition(record(range(100)), []) == 0.0
  assert shaping.repetition(record([7] * 3), [], n=4) == 0.0  # too short
  assert shaping.repetition(record([7] * 1003), [], n=4) == pytest.approx(
    -0.999
  )
  with pytest.raises(ValueError, match='n: got 0'):
    shaping.repetition(solution, [], n=0)
