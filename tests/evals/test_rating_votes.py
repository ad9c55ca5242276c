"""Choices by votes: by hand, by a loop in plain Python, and identities."""

import itertools

import numpy as np
import pytest
from helpers import make_record

from critic_jax.evals import protocols, rating_votes
from critic_jax.rewards import ratings
from critic_jax.types import Problem

LABELS = [0, 1, 0]


def vote(said, order=(0, 1, 2), index=0, name='p', score=None, **fields):
  """Makes a slate in some order, and a critique; its scores are as shown."""
  slate = ratings.Slate(['a', 'b', 'c'], LABELS, [*order], 1, 10)
  slate = ratings.make_record(
    Problem(name, '', ''), slate, index=index, part=''
  )
  text = f'Scores: {said}'
  critique = make_record(
    'critique', slate, text=text, parsed=ratings.parse(text),
    scores={} if score is None else {'score': score}, **fields,
  )  # fmt: skip
  return [slate, critique]


def votes(*each, **kwargs):
  """Makes records of (said, order, score) in a row."""
  return [
    record
    for i, (said, order, score) in enumerate(each)
    for record in vote(said, order, i, score=score, **kwargs)
  ]


def values(records):
  return {k: e.value for k, e in rating_votes.metrics(records).items()}


def test_scores_are_added_in_the_true_order():
  """Shown in three orders; b is always the second best as places go."""
  records = votes(
    ('9, 7, 1', (0, 1, 2), None),  # a 9, b 7, c 1
    ('7, 1, 9', (1, 2, 0), None),  # b 7, c 1, a 9
    ('8, 9, 1', (2, 1, 0), None),  # c 8, b 9, a 1
    ('7, 6, 1', (2, 1, 0), None),  # c 7, b 6, a 1
  )
  # All: a 20, b 29, c 17. Of one vote only the third is right. Of the pairs
  # b wins 13 (a 10, b 16), 23 (the same), 14 (a 10, b 13), 24; ties none;
  # 12: a 18, b 14; 34: b 15, c 15, a 2: a tie.
  got = values(records)
  assert got['vote@4'] == 1 and got['vote@1'] == got['right'] == 1 / 4
  assert got['vote@2'] == pytest.approx(4 / 6)
  assert got['vote_ties_shared@2'] == pytest.approx(4.5 / 6)
  assert got['chance'] == pytest.approx(1 / 3) and got['missing'] == 0


def test_what_has_no_scores_adds_nothing_and_alone_is_wrong():
  records = votes(
    ('1, 10, 1', (0, 1, 2), None),
    ('1, 10', (0, 1, 2), None),  # one too few
  )
  got = values(records)
  assert got['vote@1'] == got['vote_ties_shared@1'] == 1 / 2
  assert got['vote@2'] == 1 and got['missing'] == 1 / 2
  none = values(votes(('?', (0, 1, 2), None), ('?', (2, 1, 0), None)))
  # Not a tie of three with a third for each.
  assert none['vote@2'] == none['vote_ties_shared@2'] == 0
  assert none['missing'] == 1


def test_a_meta_judge_filters():
  records = votes(
    ('10, 1, 1', (0, 1, 2), -1.0),
    ('10, 1, 1', (0, 1, 2), -2.0),
    ('1, 5, 1', (0, 1, 2), 3.0),
    ('1, 5, 1', (0, 1, 2), 2.0),
  )
  got = values(records)
  # All: a 22, b 12. The best half: b. Of pairs the better vote: it is right
  # but for the pair of both wrong ones.
  assert (got['vote@4'], got['filtered@4']) == (0, 1)
  assert got['filtered@2'] == pytest.approx(5 / 6)
  assert got['filtered@1'] == got['vote@1'] == 1 / 2  # one is kept of one
  assert got['filtered_1@4'] == 1  # the best of four
  kept = {name.split('@')[0] for name in got if '@4' in name}
  assert {'filtered', 'filtered_1'} < kept and 'vote_1' not in kept
  assert 'filtered_1@2' not in got  # it is `filtered@2`


def test_a_vote_that_was_not_read_is_kept_last():
  records = votes(
    ('10, 1, 1', (0, 1, 2), None),
    ('1, 5, 1', (0, 1, 2), -9.0),
  )
  assert values(records)['filtered@2'] == 1


def test_the_surest_votes_are_kept():
  sure = vote('1, 5, 1', index=0, logprobs=[-0.1, -0.1])
  unsure = vote('10, 1, 1', index=1, logprobs=[-3.0, -0.1])
  got = values(sure + unsure)
  assert got['certain@2'] == 1 and got['vote@2'] == 0
  given = vote('10, 1, 1', index=1, tokens=[])  # of a file: nothing is known
  assert 'certain@2' not in values(sure + given)


def some_votes(seed, num=6):
  rng = np.random.default_rng(seed)
  scores = rng.integers(1, 4, (num, 3)).astype(float)
  scores[rng.random(num) < 0.2] = np.nan
  return rating_votes.Votes(
    scores, np.array(LABELS) == 1, {'filtered': rng.random(num)}
  )


def by_loop(votes, k, k_meta=None):
  """Returns both accuracies, subset by subset."""
  strict, shared = [], []
  for subset in itertools.combinations(range(len(votes.scores)), k):
    kept = sorted(subset, key=lambda i: -votes.merits['filtered'][i])[:k_meta]
    said = [votes.scores[i] for i in kept if not np.isnan(votes.scores[i][0])]
    if not said:
      strict.append(0), shared.append(0)
      continue
    sums = [sum(row[n] for row in said) for n in range(3)]
    top = [n for n in range(3) if sums[n] == max(sums)]
    strict.append(top == [1])
    shared.append((1 in top) / len(top))
  return np.mean(strict), np.mean(shared)


@pytest.mark.parametrize('seed', range(5))
def test_as_a_loop_has_it(seed):
  votes = some_votes(seed)
  for k in range(1, 7):
    np.testing.assert_allclose(
      rating_votes.accuracy(votes, k), by_loop(votes, k)
    )
    for k_meta in range(1, k + 1):
      got = rating_votes.accuracy(votes, k, method='filtered', k_meta=k_meta)
      np.testing.assert_allclose(got, by_loop(votes, k, k_meta))
    half = rating_votes.accuracy(votes, k, method='filtered')
    np.testing.assert_allclose(half, by_loop(votes, k, max(1, k // 2)))
    # A filter that keeps all is none.
    whole = rating_votes.accuracy(votes, k, method='filtered', k_meta=k)
    np.testing.assert_allclose(whole, rating_votes.accuracy(votes, k))


def test_a_random_half_is_the_vote_at_half():
  """So the control of a filter needs no code of its own."""
  votes = some_votes(0)
  halves = []
  for seed in range(400):
    merits = {'random': np.random.default_rng(seed).random(6)}
    halves.append(
      rating_votes.accuracy(
        votes._replace(merits=merits), 6, method='random', k_meta=3
      )
    )
  expected = rating_votes.accuracy(votes, 3)
  np.testing.assert_allclose(np.mean(halves, 0), expected, atol=0.08)


def test_many_votes_are_drawn():
  rng = np.random.default_rng(0)
  votes = rating_votes.Votes(
    rng.integers(1, 11, (32, 3)).astype(float), np.array(LABELS) == 1, {}
  )
  assert rating_votes._subsets(32, 16).shape == (rating_votes.NUM_DRAWS, 16)
  first = rating_votes.accuracy(votes, 16)
  assert first == rating_votes.accuracy(votes, 16)
  assert 0 <= first[0] <= first[1] <= 1


@pytest.mark.parametrize(
  ('k', 'k_meta', 'message'),
  [
    (0, 0, 'k: got 0; expected 1 to 6'),
    (7, 0, 'k: got 7'),
    (4, 5, 'k_meta: got 5; expected 1 to k=4'),
    (4, -1, 'k_meta: got -1'),
  ],
)
def test_wrong_numbers_of_votes(k, k_meta, message):
  with pytest.raises(ValueError, match=message):
    rating_votes.accuracy(some_votes(0), k, method='filtered', k_meta=k_meta)


def test_slates_of_one_problem_have_the_same_responses():
  first, other = vote('1, 5, 1'), vote('1, 5, 1', index=1)
  other[0].parsed['slate']['responses'][0] = 'another'
  with pytest.raises(ValueError, match='got other responses than'):
    rating_votes.metrics(first + other)


def test_problems_are_the_unit_and_the_fewest_votes_are_the_limit():
  records = votes(*[('1, 5, 1', (0, 1, 2), None)] * 5, name='p')
  records += votes(*[('5, 1, 1', (0, 1, 2), None)] * 2, name='q')
  got = values(records)
  assert got['vote@1'] == got['vote@2'] == 1 / 2 and 'vote@4' not in got
  assert rating_votes.metrics(records)['vote@1'].n == 2
  assert values([]) == {}
  assert rating_votes.compare([], []) == {}


def test_one_response_is_judged_and_not_chosen():
  alone = ratings.Slate(['a'], [10], [0], 1, 10)
  alone = ratings.make_record(Problem('p', '', ''), alone, part='')
  critiques = [
    make_record('critique', alone, index=i, parsed=ratings.parse(text))
    for i, text in enumerate(['Scores: 10', 'Scores: 9', '?', 'Scores: 10'])
  ]
  assert values([alone, *critiques]) == dict(right=1 / 2, missing=1 / 4)
  changes = rating_votes.compare(critiques[:1], critiques[1:2])
  assert changes['right'].value == -1


def test_protocols_tell_of_slates_by_votes_alone():
  records = votes(*[('1, 5, 1', (0, 1, 2), 0.5)] * 2)
  got = protocols.metrics(records, refined=False)
  assert {name.split('/')[0] for name in got} == {'ratings'}
  shown = protocols.headlines(got)
  assert shown['ratings/filtered@2'].value == 1
  assert not any('_' in name for name in shown)
  better = votes(*[('5, 1, 1', (0, 1, 2), None)] * 2)
  changes = protocols.compare(records, better, refined=False)
  assert changes['ratings/vote@2'].value == -1
  assert 'ratings/filtered@2' not in changes  # only what both have
