"""Slates of the embedded world, and a teacher who scores them."""

import random

import pytest
from helpers import make_record

from critic_jax.rewards import ratings
from critic_jax.tasks import arithmetic, arithmetic_slates
from critic_jax.types import Problem

SETTINGS = dict(
  num_responses=3, num_right=1, hard_share=0.2, low=1, high=10, tolerance=0
)


def slates(num=100, **changes):
  return [
    arithmetic_slates.slate(
      problem, random.Random(problem.id), **SETTINGS | changes
    )
    for problem in arithmetic.problems('train', num, min_steps=2, max_steps=3)
  ]


def rate(slate, check_share, seed=0):
  text = arithmetic_slates.teacher_scores(
    slate, random.Random(seed), check_share=check_share
  )
  return make_record('critique', slate, text=text, parsed=ratings.parse(text))


@pytest.mark.parametrize('num_right', [1, 2])
def test_so_many_are_right_and_the_others_are_wrong(num_right):
  orders = set()
  for slate in slates(num_right=num_right):
    fields = ratings.read(slate)
    errors = [
      arithmetic.first_error(slate.problem, text) for text in fields.responses
    ]
    truths = [error < 0 for error in errors]
    assert truths == [i < num_right for i in range(3)] == fields.best
    # No wrong line makes up for another.
    answers = [slate.problem.answer in text.split('{')[1].split('}')
               for text in fields.responses]  # fmt: skip
    assert answers == truths
    orders.add(tuple(fields.order))
  assert len(orders) == 6  # the right one is in no place of its own


def test_one_alone_is_right_half_of_the_times():
  alone = slates(num_responses=1)
  labels = [ratings.read(slate).labels[0] for slate in alone]
  assert {*labels} == {1, 10} and 35 < labels.count(10) < 65
  for slate, label in zip(alone, labels, strict=True):
    error = arithmetic.first_error(slate.problem, slate.text)
    assert (error < 0) == (label == 10)


@pytest.mark.parametrize('num_responses', [1, 2, 4])
def test_a_teacher_who_checks_is_always_right(num_responses):
  for slate in slates(num_responses=num_responses):
    critique = rate(slate, 1.0)
    assert ratings.is_true(critique), critique.text
    assert critique.text.count('Response ') == num_responses + 1
    assert critique.text.count('?') == len(arithmetic.read_steps(slate.text))


def test_a_text_of_the_teacher():
  problem = Problem(
    'p', 'Ada has 5 eggs. Ada finds 2 more. Ada finds 3 more. How many eggs?',
    '10', 'Step 1: 5 + 2 = 7\nStep 2: 7 + 3 = 10\nThe answer is \\boxed{10}.',
  )  # fmt: skip
  wrong = 'Step 1: 5 + 2 = 8\nStep 2: 8 + 3 = 11\nThe answer is \\boxed{11}.'
  fields = ratings.Slate([problem.solution, wrong], [1, 0], [1, 0], 1, 10)
  slate = ratings.make_record(problem, fields, part='slates')
  lines = rate(slate, 1.0).text.split('\n')
  assert lines[0] == '<think>' and lines[1].startswith('Principle: every ')
  # One of two lines is wrong: 1 + int(9 / 2) = 5.
  assert lines[2:] == [
    'Response 1:',
    'Step 1: 5 + 2 = 8? 7. Wrong.',
    'Step 2: 8 + 3 = 11? 11. Right.',
    'Response 2:',
    'Step 1: 5 + 2 = 7? 7. Right.',
    'Step 2: 7 + 3 = 10? 10. Right.',
    '</think>',
    'Response 2 is best.',
    'Scores: 5, 10',
  ]


def test_a_teacher_who_glances_guesses():
  critiques = [rate(s, 0.0, i) for i, s in enumerate(slates(400))]
  assert all(ratings.scores(c) for c in critiques)
  right = sum(map(ratings.is_true, critiques))
  # The best of three without a tie: (sum of k**2 for k < 10) / 1000 = 0.285.
  assert 78 < right < 150
  assert not any('?' in c.text for c in critiques)


def test_a_hint_makes_guesses_right():
  """So a text may be right without a reason: hints do not teach to check."""
  for slate in slates():
    critique = rate(ratings.hinted(slate), 0.0)
    assert ratings.is_true(critique)
    assert 'The responses look alike.' in critique.text


def test_orders_differ_and_nothing_else():
  [slate] = slates(1)
  rng = random.Random(0)
  others = [arithmetic_slates.shuffled(slate, rng, i) for i in range(1, 30)]
  assert len({tuple(ratings.read(x).order) for x in others}) == 6
  for i, other in enumerate(others, 1):
    assert other.id == f'{slate.problem.id}/solve.{i}'
    same = ratings.read(slate)._replace(order=ratings.read(other).order)
    assert ratings.read(other) == same


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(num_responses=0), 'num_responses: got 0; expected 1 to 64'),
    (dict(num_responses=65), 'num_responses: got 65'),
    (dict(num_right=0), 'num_right: got 0 of num_responses=3, which ranks'),
    (dict(num_right=3), 'num_right: got 3'),
    (dict(low=10), 'low, high: got 10 and 10'),
    (dict(tolerance=5), 'tolerance: got 5'),
  ],
)
def test_slates_that_nobody_can_score(changes, message):
  with pytest.raises(ValueError, match=message):
    slates(1, **changes)
