import collections

import pytest

from critic_jax.data import splits
from critic_jax.types import Problem

FRACTIONS = {'train': 0.8, 'dev': 0.1, 'test': 0.1}


def make_problems(number, start=0):
  return [
    Problem(f'p-{i}', f'What is {i} + 1?', str(i + 1))
    for i in range(start, start + number)
  ]


def test_split_is_disjoint_complete_and_of_the_asked_size():
  parts = splits.split(make_problems(2000), FRACTIONS, seed=0)
  ids = [p.id for part in parts.values() for p in part]
  assert sorted(ids) == sorted(p.id for p in make_problems(2000))
  # Binomial: a standard deviation is at most sqrt(2000 * 0.8 * 0.2) = 18.
  for name, share in FRACTIONS.items():
    assert abs(len(parts[name]) - 2000 * share) < 5 * 18


def test_split_keeps_copies_of_a_question_together():
  variants = 'What is {} + 1?', 'what  is {} + 1', 'WHAT IS\n{} + 1 ?'
  copies = [
    Problem(f'{v}-{i}', variant.format(i), str(i + 1))
    for i in range(100)
    for v, variant in enumerate(variants)
  ]
  parts = splits.split(copies, FRACTIONS, seed=0)
  assert all(parts.values())
  for part in parts.values():
    counts = collections.Counter(p.answer for p in part)
    assert set(counts.values()) <= {3}


def test_split_does_not_move_what_was_there():
  before = splits.split(make_problems(300), FRACTIONS, seed=0)
  after = splits.split(make_problems(600)[::-1], FRACTIONS, seed=0)
  for name, part in before.items():
    assert {p.id for p in part} <= {p.id for p in after[name]}


def test_split_depends_on_the_seed():
  split, other_split = (
    splits.split(make_problems(99), FRACTIONS, seed=s) for s in (0, 1)
  )
  assert split != other_split
  assert split == splits.split(make_problems(99), FRACTIONS, seed=0)


def test_split_golden():
  # The parts of a published run must never change.
  parts = splits.split(make_problems(12), {'train': 0.5, 'test': 0.5}, seed=0)
  assert [p.answer for p in parts['test']] == ['1', '5', '8', '10', '11']


def test_split_shares_of_none_and_all():
  parts = splits.split(make_problems(50), {'none': 0.0, 'all': 1.0}, seed=0)
  assert len(parts['none']) == 0
  assert len(parts['all']) == 50


@pytest.mark.parametrize(
  'fractions', [{}, {'a': 0.5}, {'a': 0.5, 'b': 0.6}, {'a': 1.5, 'b': -0.5}]
)
def test_split_needs_shares_of_a_whole(fractions):
  with pytest.raises(ValueError, match='fractions: got .* sum to 1'):
    splits.split(make_problems(3), fractions, seed=0)


def test_question_key_tells_questions_apart():
  assert splits.question_key('ＡＢ  c!') == 'ab c'
  assert splits.question_key('1.5?') != splits.question_key('15?')
