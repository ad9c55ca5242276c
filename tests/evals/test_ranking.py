"""One right solution against many wrong ones, by hand and by brute force."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from critic_jax.evals import ranking
from critic_jax.types import Problem, Record


def record(problem, stage, parent, index, parsed, scores=None):
  empty = np.zeros(0, np.int32)
  logprobs = np.zeros(0, np.float32)
  return Record(
    Problem(problem, '', ''), stage, parent, index, empty, empty, logprobs, '',
    'stop', parsed, scores or {},
  )  # fmt: skip


def scored(right, wrong, name='p'):
  """Makes solutions of a problem with the scores of a reward model."""
  truths = [True] * len(right) + [False] * len(wrong)
  return [
    record(name, 'solve', None, i, {'correct': truth}, {'score': score})
    for i, (truth, score) in enumerate(zip(truths, right + wrong, strict=True))
  ]


def criticised(right, approvals, k=4, name='p', index=0):
  """Makes a solution that `approvals` of k critiques call right."""
  solution = record(name, 'solve', None, index, {'correct': right})
  verdicts = ['correct'] * approvals + ['incorrect'] * (k - approvals)
  return [solution] + [
    record(name, 'critique', solution, i, {'verdict': v, 'status': 'ok'})
    for i, v in enumerate(verdicts)
  ]


def values(records, **options):
  return {k: e.value for k, e in ranking.metrics(records, **options).items()}


def test_by_hand():
  records = [
    *scored([0.9], [0.1, 0.2, 0.3], name='first'),
    *scored([0.2], [0.1, 0.3, 0.4], name='third'),
    *scored([0.5], [0.5, 0.5, 0.1], name='tied'),  # with two
    *scored([0.5], [0.7, 0.5, 0.1], name='behind'),  # 2nd or 3rd
  ]
  got = values(records)
  assert got['accuracy'] == pytest.approx(1 / 4)
  assert got['accuracy_ties_shared'] == pytest.approx((1 + 0 + 1 / 3 + 0) / 4)
  tie_rank, last_rank = (1 + 1 / 2 + 1 / 3) / 3, (1 / 2 + 1 / 3) / 2
  assert got['reciprocal_rank'] == pytest.approx(
    (1 + 1 / 3 + tie_rank + last_rank) / 4
  )
  assert got['accuracy_chance'] == pytest.approx(1 / 4)
  harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4
  assert got['reciprocal_rank_chance'] == pytest.approx(harmonic / 4)
  assert ranking.metrics(records)['accuracy'].n == 4


def test_the_chance_of_many_or_few():
  records = scored([1.0], [0.0] * 9) + scored([1.0], [0.0], name='q')
  got = ranking.metrics(records)['accuracy_chance']
  assert got.value == pytest.approx((1 / 10 + 1 / 2) / 2)
  chance = ranking.metrics(scored([1.0], [0.0] * 9))['accuracy_chance']
  assert chance[:3] == pytest.approx((0.1, 0.1, 0.1))  # no doubt about it


@pytest.mark.parametrize(
  ('right', 'wrong'),
  list(itertools.product(range(3), itertools.product(range(3), repeat=3))),
)
def test_brute_force_over_the_breakings_of_ties(right, wrong):
  firsts, reciprocals = [], []
  for order in itertools.permutations(range(4)):
    # Equal scores are ranked by a random permutation.
    scores = [(right, order[0]), *zip(wrong, order[1:], strict=True)]
    place = sorted(scores, reverse=True).index(scores[0]) + 1
    firsts.append(place == 1)
    reciprocals.append(1 / place)
  columns = ranking.table(scored([right], list(wrong))).columns
  got = {name: column[0] for name, column in columns.items()}
  assert got['shared'] == pytest.approx(np.mean(firsts))
  assert got['reciprocal'] == pytest.approx(np.mean(reciprocals))
  assert got['first'] == (right > max(wrong))


def test_constant_scores_are_at_chance():
  got = values(scored([0.0], [0.0] * 9))
  assert got['accuracy'] == 0
  assert got['accuracy_ties_shared'] == pytest.approx(got['accuracy_chance'])
  assert got['reciprocal_rank'] == pytest.approx(got['reciprocal_rank_chance'])


def test_random_scores_are_at_chance():
  rng = np.random.default_rng(0)
  records = [
    r
    for i in range(800)
    for r in scored([rng.random()], rng.random(9).tolist(), name=str(i))
  ]
  got = ranking.metrics(records)
  for name in ('accuracy', 'reciprocal_rank'):
    assert got[name].low < got[f'{name}_chance'].value < got[name].high
  assert got['accuracy'] == got['accuracy_ties_shared']


def test_several_right_solutions_are_ranked_one_by_one():
  got = values(scored([0.9, 0.2], [0.5, 0.1]))
  # Among the two wrong ones the first is 1st, the second is 2nd.
  assert got['accuracy'] == pytest.approx(1 / 2)
  assert got['reciprocal_rank'] == pytest.approx((1 + 1 / 2) / 2)
  assert got['accuracy_chance'] == pytest.approx(1 / 3)


def test_critiques_score_by_the_share_that_approves():
  records = [
    *criticised(True, 3),
    *criticised(False, 2, index=1),
    *criticised(False, 3, index=2),
  ]
  got = values(records)
  assert (got['accuracy'], got['accuracy_ties_shared']) == (0, 1 / 2)


def test_silence_and_contradictions_do_not_approve():
  solution, *critiques = criticised(True, 4)
  critiques[0].parsed['verdict'] = None
  critiques[1].parsed['status'] = 'contradictory'
  assert ranking.score(solution, critiques) == 1 / 2


def test_a_reward_model_goes_before_critiques():
  solution, *critiques = criticised(True, 4)
  solution.scores['score'] = -2.5
  assert ranking.score(solution, critiques) == -2.5


def test_another_scorer():
  records = scored([1.0], [2.0])
  got = values(records, score=lambda s, critiques: -s.scores['score'])
  assert got['accuracy'] == 1


@pytest.mark.parametrize(
  'records',
  [
    [],
    scored([1.0], []),
    scored([], [1.0, 2.0]),
    [record('p', 'solve', None, i, {'correct': i == 0}) for i in range(2)],
    # One wrong solution has no score, or no known correctness: without it the
    # problem would be easier.
    scored([1.0], [0.0]) + [record('p', 'solve', None, 2, {'correct': False})],
    scored([1.0], [0.0]) + [record('p', 'solve', None, 2, {}, {'score': 2.0})],
    scored([1.0], [0.0])
    + [
      record(
        'p', 'solve', None, 2, {'correct': False, 'grade': 'timeout'},
        {'score': 2.0},
      )
    ],
    scored([1.0], [])
    + [dataclasses.replace(
      record('p', 'solve', None, 2, {'correct': False}, {'score': 0.5}),
      finish='prompt',
    )],
  ],
)  # fmt: skip
def test_problems_that_cannot_be_ranked(records):
  assert ranking.metrics(records) == {}
  assert ranking.compare(records, records) == {}


def test_no_score_is_nan():
  solution = record('p', 'solve', None, 0, {'correct': True})
  assert math.isnan(ranking.score(solution, []))


def test_infinite_scores_rank():
  assert values(scored([0.0], [-math.inf, -math.inf]))['accuracy'] == 1


def test_compare_takes_the_problems_of_both():
  before = scored([0.0], [1.0]) + scored([1.0], [0.0], name='gone')
  after = scored([1.0], [0.0]) + scored([1.0], [0.0], name='new')
  got = ranking.compare(before, after)
  assert got['accuracy'].value == 1 and got['accuracy'].n == 1
  assert got['accuracy_chance'].value == 0
