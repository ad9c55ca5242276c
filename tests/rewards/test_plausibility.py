"""What a solver believes of its own solutions: by hand, and identities."""

import math

import pytest
from helpers import make_record

from critic_jax.rewards import plausibility


def solutions(*answers, texts=(), **fields):
  """Makes graded solutions; '0' is right, None gives no answer."""
  records = []
  for i, answer in enumerate(answers):
    parsed = {'answer': answer, 'correct': answer == '0'}
    text = texts[i] if texts else 'abc'
    records.append(make_record(index=i, text=text, parsed=parsed, **fields))
  return records


def changed(record, **parsed):
  return make_record(
    index=record.index, text=record.text, parsed={**record.parsed, **parsed}
  )


# -------------------------------------------------------------- certainty


@pytest.mark.parametrize(
  ('labels', 'expected'),
  [
    ([0, 0, 0, 1], math.log(3 / 1)),
    ([2, 2, 0, 1], math.log(2 / 1)),  # certain of what is wrong
    ([0, 0, 1, 1], 0.0),
    ([0, -1, -1], math.inf),  # who gives no answer does not vote
    ([-1, -1], 0.0),
    ([], 0.0),
  ],
)
def test_certainty_by_hand(labels, expected):
  assert plausibility.certainty(labels) == expected


def test_certainty_depends_on_counts_alone():
  labels = [0, 0, 1, 2, 0, -1, 1]
  expected = plausibility.certainty(labels)
  assert plausibility.certainty(labels[::-1]) == expected
  assert plausibility.certainty([{0: 7, 1: 4}.get(x, x) for x in labels]) == (
    expected
  )
  assert plausibility.certainty(labels * 3) == pytest.approx(expected)


# ------------------------------------------------------ convincing solutions


def test_the_most_frequent_wrong_answer_convinces():
  pool = solutions('5', '0', '7', '7', '0')
  right, wrong = plausibility.convincing(pool)
  assert (right.index, wrong.index) == (1, 2)


def test_the_longest_of_a_kind_is_chosen_and_then_the_first():
  texts = ['a', 'bb', 'cc', 'long but rare', 'd', 'ee']
  pool = solutions('0', '0', '0', '9', '7', '7', texts=texts)
  right, wrong = plausibility.convincing(pool)
  assert (right.text, right.index) == ('bb', 1)
  assert wrong.text == 'ee'


def test_one_spelling_is_as_good_as_another():
  """Votes by strings would make '07' and '7.0' rare answers."""
  pool = solutions('0', '5', '5', '7', '7.0', '\\frac{14}{2}')
  assert plausibility.convincing(pool)[1].index == 3
  assert plausibility.classes(pool)[3:] == [plausibility.classes(pool)[3]] * 3


def test_equally_frequent_wrong_answers_are_taken_in_order():
  assert plausibility.convincing(solutions('9', '0', '2'))[1].index == 0


@pytest.mark.parametrize('answers', [('0', '0'), ('3', '3'), (None, '0'), ()])
def test_without_both_kinds_there_is_no_pair(answers):
  assert plausibility.convincing(solutions(*answers)) is None


def test_a_grade_that_is_open_is_neither_right_nor_wrong():
  pool = solutions('7', '7', '5', '0')
  hung = [changed(r, grade='timeout') for r in pool[:2]]
  assert plausibility.convincing([*hung, *pool[2:]])[1].index == 2
  assert plausibility.convincing([*hung, pool[3]]) is None


def test_one_that_was_cut_off_is_wrong_whatever_its_answer():
  cut = make_record(finish='length', parsed={'answer': '0', 'correct': False})
  right, wrong = plausibility.convincing([cut, *solutions('0')])
  assert wrong is cut and right is not cut


# -------------------------------------------------------------------- scores


def test_agreement_is_a_share_of_all():
  pool = solutions('0', '7', '7', None)
  assert plausibility.agreement(pool, []) == [1 / 4, 2 / 4, 2 / 4, 0.0]


def test_confidence_does_not_depend_on_length():
  short = make_record(tokens=[1, 2], logprobs=[-1.0, -2.0])
  long = make_record(tokens=[1] * 4, logprobs=[-1.0, -2.0] * 2)
  none = make_record(tokens=[], logprobs=[])
  assert plausibility.confidence([short, long, none], []) == [
    -1.5, -1.5, -math.inf
  ]  # fmt: skip


def test_approval_counts_whole_critiques_with_one_verdict():
  def critique(verdict, status='ok', finish='stop'):
    parsed = {'verdict': verdict, 'status': status}
    return make_record('critique', make_record(), parsed=parsed, finish=finish)

  yes, no = critique('correct'), critique('incorrect')
  both = critique(None, status='contradictory')  # the hedge earns nothing
  cut = critique('correct', finish='length')
  groups = [[yes, yes], [yes, no], [yes, both, cut, no], []]
  assert plausibility.approval([None] * 4, groups) == [1.0, 0.5, 0.25, 0.0]
