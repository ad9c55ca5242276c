"""Scores of several responses: a table of texts, the rule, hostile slates."""

import dataclasses
import random
import time

import pytest
from helpers import make_record

from critic_jax.rewards import critique_rewards, ratings, refinement
from critic_jax.rollouts import rollout
from critic_jax.types import Problem

PROBLEM = Problem('p', 'How many?', '2')
THREE = ratings.Slate(
  responses=['a', 'b', 'c'], labels=[0, 1, 0], order=[0, 1, 2], low=1, high=10
)


def rate(text, slate=THREE, finish='stop'):
  """Makes a critique of a slate."""
  parent = ratings.make_record(PROBLEM, slate, part='test')
  return make_record(
    'critique', parent, text=text, finish=finish, parsed=ratings.parse(text)
  )


# ------------------------------------------------------------------ parsing


@pytest.mark.parametrize(
  'text',
  [
    'Scores: 3, 10, 1',
    'Scores: 3, 10, 1.',
    'scores:3,10,1',
    'SCORES : 3 , 10 , 1  ',
    'b is best.\nScores: 3, 10, 1\nThat is all.',
    'Scores: [3, 10, 1]',
    '**Scores:** \\boxed{3, 10, 1}',
    '**Scores: 3, 10, 1**',
    'Scores: $\\boxed{3, 10, 1}$.',
    '<think>\nScores: 9, 9, 9\n</think>\nScores: 3, 10, 1',  # thoughts
  ],
)
def test_one_list_is_read(text):
  parsed = ratings.parse(text)
  assert (parsed['ratings'], parsed['status']) == ([3, 10, 1], 'ok')
  assert ratings.scores(rate(text)) == [3, 10, 1]


@pytest.mark.parametrize(
  ('text', 'status'),
  [
    ('', 'missing'),
    ('3, 10, 1', 'missing'),
    ('Scores:', 'missing'),
    ('Scores: \n3, 10, 1', 'missing'),
    ('Scores: 3, 10, x', 'missing'),
    ('Scores: 3, 10,', 'missing'),
    ('Scores: , 3, 10, 1', 'missing'),
    ('Scores: 3; 10; 1', 'missing'),
    ('Scores: 3 10 1', 'missing'),
    ('Scores: 3/10, 10/10, 1/10', 'missing'),
    ('Scores: 3.5, 10, 1', 'missing'),
    ('Scores: 3, 10.0, 1', 'missing'),
    ('Scores: 03, 10, 1', 'missing'),
    ('Scores: +3, 10, 1', 'missing'),
    ('Scores: 3e0, 10, 1', 'missing'),
    ('Scores: 3, 10, 1, ...', 'missing'),
    ('Scores: 3, 10, 1 of 10', 'missing'),
    ('Scores: about 3, 10, 1', 'missing'),
    ('Scores: [3, 10, 1', 'missing'),
    ('Scores: 3, 10, 1]', 'missing'),
    ('Scores: [3, 10, 1}', 'missing'),
    ('Scores: \\boxed{3}, \\boxed{10}, \\boxed{1}', 'missing'),
    ('Scores: ٣, 10, 1', 'missing'),  # a digit of another script
    ('Scores: 3, 10\u200b, 1', 'missing'),
    ('Scоres: 3, 10, 1', 'missing'),  # a letter of another script
    ('Underscores: 3, 10, 1', 'missing'),
    ('Score: 3, 10, 1', 'missing'),
    ('Scores: 3, 10, 1\nScores: 1, 10, 3', 'contradictory'),
    ('Scores: 3, 10, 1\nScores: 3, 10, 1', 'contradictory'),  # equal, too
    ('Scores: none. Scores: 3, 10, 1', 'contradictory'),
    ('<think>Scores: 3, 10, 1', 'unfinished'),
  ],
)
def test_all_else_is_no_list(text, status):
  parsed = ratings.parse(text)
  assert (parsed['ratings'], parsed['status']) == (None, status)
  critique = rate(text)
  assert ratings.scores(critique) is None
  assert refinement.judge(critique, []) == 0.0


@pytest.mark.parametrize(
  'text',
  [
    'Scores: 10',
    'Scores: 3, 10',
    'Scores: 3, 10, 1, 1',
    'Scores: 0, 10, 1',
    'Scores: -3, 10, 1',
    'Scores: 3, 11, 1',
    'Scores: 3, 999999, 1',
  ],
)
def test_other_numbers_than_the_slate_asks_for_are_no_scores(text):
  assert ratings.parse(text)['status'] == 'ok'  # the text does not know it
  assert ratings.scores(rate(text)) is None
  assert not ratings.is_true(rate(text))


def test_a_text_that_was_cut_has_no_scores():
  """`Scores: 3, 10, 1` may be the beginning of 3, 10, 10."""
  assert ratings.is_true(rate('Scores: 3, 10, 1'))
  assert not ratings.is_true(rate('Scores: 3, 10, 1', finish='length'))


def test_any_text_is_parsed_in_linear_time():
  rng = random.Random(0)
  parts = ['Scores:', ' 3', ',', '[', '\\boxed{', '}', '**', '\n', '<think>']
  for _ in range(300):
    ratings.parse(''.join(rng.choices(parts, k=rng.randint(0, 30))))
  start = time.perf_counter()
  for text in ('Scores: ' + '1, ' * 200_000, 'scores:' * 100_000):
    assert ratings.parse(text)['ratings'] is None
  assert time.perf_counter() - start < 2


# ----------------------------------------------------------------- the rule


@pytest.mark.parametrize(
  ('labels', 'said', 'is_true'),
  [
    ([0, 1, 0], '3, 10, 1', True),
    ([0, 1, 0], '9, 10, 9', True),  # the others' order is free
    ([0, 1, 0], '1, 2, 1', True),  # and so is the scale
    ([0, 1, 0], '10, 10, 1', False),  # a tie is false
    ([0, 1, 0], '5, 5, 5', False),
    ([0, 1, 0], '10, 9, 1', False),
    ([3, 1, 2], '7, 5, 1', True),  # only the best counts
    ([1, 1, 0], '8, 9, 7', True),  # several best ones, each above the others
    ([1, 1, 0], '8, 7, 7', False),
  ],
)
def test_the_rule_for_several(labels, said, is_true):
  critique = rate(f'Scores: {said}', THREE._replace(labels=labels))
  assert ratings.is_true(critique) is is_true


@pytest.mark.parametrize(
  ('label', 'said', 'tolerance', 'is_true'),
  [
    (10, 10, 0, True),
    (10, 9, 0, False),
    (1, 1, 0, True),
    (10, 6, 4, True),
    (10, 5, 4, False),
    (1, 5, 4, True),
    (1, 6, 4, False),
  ],
)
def test_the_rule_for_one(label, said, tolerance, is_true):
  slate = ratings.Slate(['a'], [label], [0], 1, 10, tolerance)
  assert ratings.is_true(rate(f'Scores: {said}', slate)) is is_true


def test_scores_are_of_the_responses_and_not_of_their_places():
  slate = THREE._replace(order=[2, 0, 1])  # c, a, b are shown
  critique = rate('Scores: 1, 3, 10', slate)
  assert ratings.scores(critique) == [3, 10, 1]
  assert ratings.is_true(critique)
  assert not ratings.is_true(rate('Scores: 3, 10, 1', slate))


def test_the_rewards_are_1_and_minus_1():
  rules, weights = critique_rewards.make_rewards(
    judge_weight=1.0, misjudge_weight=1.0, refine_weight=0.0,
    refine_reward='refine', refine_settings={}, preference_weight=0.0,
    step_weight=0.0, score_weight=0.0, gate='rightly_called_wrong',
    num_refinements=0, graded={}, form={},
  )  # fmt: skip
  texts = 'Scores: 3, 10, 1', 'Scores: 10, 3, 1', 'Scores: 10, 10, 1', 'Hm.'
  scored = rollout.score([rate(text) for text in texts], [], rules, weights)
  assert [r.scores['reward'] for r in scored] == [1.0, -1.0, -1.0, -1.0]


def test_a_slate_is_neither_right_nor_wrong():
  slate = ratings.make_record(PROBLEM, THREE, part='test')
  assert refinement.is_right(slate) is None
  with pytest.raises(ValueError, match='expected a bool'):
    refinement.is_right(make_record())  # as before


# ------------------------------------------------------------------- slates


def test_a_hint_is_of_the_place_that_is_shown():
  slate = ratings.make_record(
    PROBLEM, THREE._replace(order=[2, 0, 1]), part='test'
  )
  assert ratings.hinted(slate).parsed['hint'] == 3  # b is the third shown
  assert 'hint' not in slate.parsed
  other = ratings.reordered(slate, [1, 2, 0], 4)
  assert ratings.hinted(other).parsed['hint'] == 1 and other.index == 4
  several = THREE._replace(labels=[1, 0, 1], order=[1, 2, 0])
  several = ratings.make_record(PROBLEM, several, part='test')
  assert ratings.hinted(several).parsed['hint'] == 2


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(low=5, high=5), 'low, high: got 5 and 5; expected'),
    (dict(low=10, high=1), 'low, high: got 10 and 1'),
    (dict(low=1.0), 'low, high: got 1.0'),
    (dict(tolerance=-1), 'tolerance: got -1'),
    (dict(tolerance=5), 'tolerance: got 5'),  # 10 and 1 would both be right
    (dict(responses=[], labels=[], order=[]), 'responses: got 0'),
    (dict(labels=[0, 1]), 'labels: got'),
    (dict(labels=[0, 1, float('nan')]), 'labels: got'),
    (dict(labels=[1, 1, 1]), 'which rank nothing'),
    (dict(order=[0, 1, 1]), 'order: got'),
    (dict(order=[0, 1]), 'order: got'),
    (dict(responses=['a'], labels=[11], order=[0]), 'for a response alone'),
  ],
)
def test_slates_that_nobody_can_score(changes, message):
  with pytest.raises(ValueError, match=message):
    ratings.make_record(PROBLEM, THREE._replace(**changes), part='test')


@pytest.mark.parametrize(
  'fields', [None, [], {}, {'responses': []}, dict(THREE._asdict(), more=1)]
)
def test_a_slate_of_a_file_is_checked(fields):
  record = make_record(parsed={'slate': fields})
  with pytest.raises(ValueError, match='slate of .*: got .*; expected'):
    ratings.read(record)
  fields = dict(THREE._asdict(), order='012')
  with pytest.raises(ValueError, match='got no list of order'):
    ratings.read(make_record(parsed={'slate': fields}))


def test_ratings_of_a_file_are_checked():
  for said in ('3, 10, 1', [3, '10', 1], [3, 10.0, 1], [True, 10, 1], {}):
    critique = rate('')
    parsed = {**critique.parsed, 'ratings': said, 'status': 'ok'}
    critique = dataclasses.replace(critique, parsed=parsed)
    assert ratings.scores(critique) is None


def test_a_hint_needs_a_ranking():
  alone = ratings.Slate(['a'], [10], [0], 1, 10)
  slate = ratings.make_record(PROBLEM, alone, part='test')
  with pytest.raises(ValueError, match='num_hinted: .* of one response'):
    ratings.hinted(slate)
  with pytest.raises(ValueError, match='slate of'):
    ratings.hinted(make_record())
