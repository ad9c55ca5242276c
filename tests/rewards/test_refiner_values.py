"""Values of critiques by several refiners, and how they compare."""

import random

import pytest
from helpers import make_record

from critic_jax.rewards import refiner_values

OK = dict(status='ok', verdict='incorrect')


def critique(grade='wrong', scores=None, finish='stop', **parsed):
  correct = grade == 'right'
  solution = make_record(parsed=dict(grade=grade, correct=correct))
  return make_record(
    'critique', solution, parsed=OK | parsed, scores=scores or {},
    finish=finish,
  )  # fmt: skip


def refined(parent, **grades):
  """Makes refinements; `a='10t'`: right, wrong and a timeout by refiner a."""
  names = {'1': 'right', '0': 'wrong', 't': 'timeout'}
  return [
    make_record(
      'refine', parent,
      parsed=dict(refiner=role, grade=names[x], correct=x == '1'),
    )
    for role, marks in grades.items()
    for x in marks
  ]  # fmt: skip


@pytest.mark.parametrize(
  ('grades', 'value'),
  [
    (dict(a='10'), 0.5),
    (dict(a='11', b='10', c='00'), 0.5),  # (1 + 1/2 + 0) / 3
    # Not 4/5: a refiner does not count more by refining more.
    (dict(a='1111', b='0'), 0.5),
    (dict(a='1', b='1'), 1.0),
    (dict(a='0', b='00'), 0.0),
    # A grader's timeout is no wrong answer.
    (dict(a='11', b='1t'), None),
  ],
)
def test_a_value_is_the_mean_over_refiners(grades, value):
  one = critique()
  assert refiner_values.value(one, refined(one, **grades)) == value


def test_whether_the_solution_was_right_does_not_matter_once_it_is_refined():
  for grade in ('right', 'wrong', 'timeout'):
    one = critique(grade)
    assert refiner_values.value(one, refined(one, a='10')) == 0.5


@pytest.mark.parametrize(
  ('grade', 'value'), [('right', 1.0), ('wrong', 0.0), ('timeout', None)]
)
def test_who_calls_a_solution_right_leaves_it_as_it_is(grade, value):
  assert refiner_values.value(critique(grade, verdict='correct'), []) == value


def test_without_a_verdict_a_critique_of_a_right_solution_is_worth_nothing():
  for change in (dict(status='missing'), dict(finish='length')):
    assert refiner_values.value(critique('right', **change), []) == 0.0


@pytest.mark.parametrize('num_refiners', [1, 2, 4, 8])
def test_a_refiner_s_luck_moves_the_value_by_its_share(num_refiners):
  """Whatever the others do: 1 / E between all right and all wrong."""
  rng = random.Random(num_refiners)
  for _ in range(20):
    others = [
      [rng.random() < 0.5 for _ in range(rng.randint(1, 4))]
      for _ in range(num_refiners - 1)
    ]
    low, high = (
      refiner_values.mean_over_refiners([[luck] * 3, *others])
      for luck in (False, True)
    )
    assert high - low == pytest.approx(1 / num_refiners)


def test_a_lucky_bad_critique_beats_a_good_one_for_one_refiner_not_for_four():
  """One refines rightly by the bad critique alone, three by the good one."""
  bad, good = [[True], [False], [False], [False]], [[False], *[[True]] * 3]
  value = refiner_values.mean_over_refiners
  assert value(bad[:1]) > value(good[:1])
  assert value(good) - value(bad) == 0.5


def test_identities_of_the_mean():
  grades = [[True, False], [True], [False, False, True]]
  value = refiner_values.mean_over_refiners(grades)
  assert value == pytest.approx((1 / 2 + 1 + 1 / 3) / 3)
  assert refiner_values.mean_over_refiners(grades[::-1]) == value
  # Of refiners who refine equally often, it is the share of all refinements.
  even = [[True, False], [True, True]]
  assert refiner_values.mean_over_refiners(even) == 3 / 4
  assert refiner_values.mean_over_refiners(even[:1]) == 1 / 2
  assert refiner_values.mean_over_refiners([[True, None], [True]]) is None


@pytest.mark.parametrize(
  ('values', 'margin', 'tied'),
  [
    ([0.0, 0.0, 1.0], 0.0, [0.5, 0.5, 0.0]),
    ([0.0, 0.25, 0.5], 0.25, [0.5, 1.0, 0.5]),  # at the margin is too close
    ([0.0, 0.25, 0.5], 0.2, [0.0, 0.0, 0.0]),
    # Unknown ones are nobody's others.
    ([0.0, None, 0.0], 0.0, [1.0, None, 1.0]),
    ([0.0, None], 0.0, [None, None]),
    ([0.5], 0.0, [None]),
    ([], 0.0, []),
  ],
)
def test_ties_are_counted(values, margin, tied):
  assert refiner_values.tied(values, margin) == tied
  # A tie is of two: the mean is the share of all pairs.
  known = [x for x in values if x is not None]
  pairs = [abs(a - b) <= margin for i, a in enumerate(known) for b in known[:i]]
  if pairs:
    own = [x for x in tied if x is not None]
    assert sum(own) / len(own) == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize(
  ('values', 'golds', 'ordered'),
  [
    ([0.0, 1.0], [0.0, 1.0], [1.0, 1.0]),
    ([0.0, 1.0], [1.0, 0.0], [0.0, 0.0]),
    # The third is above both; the gold has it between them.
    ([0.0, 0.5, 1.0], [0.0, 1.0, 0.5], [1.0, 0.5, 0.5]),
    # Ties of either side are not asked, nor what is not known.
    ([0.0, 0.1], [0.0, 1.0], [None, None]),
    ([0.0, 0.2], [0.0, 1.0], [None, None]),
    ([0.0, 1.0], [1.0, 1.0], [None, None]),
    ([0.0, None, 1.0], [0.0, 1.0, 1.0], [1.0, None, 1.0]),
    ([0.0, 1.0, 1.0], [0.0, None, 1.0], [1.0, None, 1.0]),
  ],
)
def test_pairs_are_compared_with_the_gold(values, golds, ordered):
  assert refiner_values.ordered(values, golds, 0.2) == ordered
  # Whoever is better is so from both sides.
  turned = [None if x is None else -x for x in golds]
  assert refiner_values.ordered(values, turned, 0.2) == [
    None if x is None else 1 - x for x in ordered
  ]


def test_siblings_get_both_as_scores():
  scores = dict(value=0.0, hint=0.0), dict(value=1.0, hint=1.0), {}
  siblings = [critique(scores=s) for s in scores]
  compared = refiner_values.compare(siblings, 0.2, 'hint')
  assert [c.scores for c in compared] == [
    dict(value=0.0, hint=0.0, tied=0.0, ordered=1.0),
    dict(value=1.0, hint=1.0, tied=0.0, ordered=1.0),
    {},
  ]
  assert [c.scores for c in siblings] == [*scores]
  [alone] = refiner_values.compare(siblings[:1], 0.2)
  assert alone.scores == scores[0]


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (((), 'always', 0), 'refiners: got (); expected roles'),
    ((('a', 'a'), 'always', 0), "refiners: got ('a', 'a'); .* each of them"),
    (('ab', 'always', 0), "refiners: got 'ab'; expected roles"),
    ((('a',), 'wrong', 0), r"gate: got 'wrong'; expected one of \['always'"),
    ((('a',), 'always', -0.1), 'margin: got -0.1; expected a number of 0'),
    ((('a',), 'always', float('nan')), 'margin: got nan'),
    ((('a',), 'always', '0'), "margin: got '0'; expected a number"),
    ((('a',), 'always', 1.0), 'margin: got 1.0; expected less than 1'),
  ],
)  # fmt: skip
def test_wrong_settings(settings, message):
  message = message.replace('(', r'\(').replace(')', r'\)')
  with pytest.raises(ValueError, match=message):
    refiner_values.check(*settings)
