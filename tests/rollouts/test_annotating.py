"""Which answers are attempted again, kept, and told what became of them."""

import dataclasses

import pytest
from helpers import make_record

from critic_jax.rollouts import annotating


def answer(right, parent=None, text='', stage='solve', **fields):
  return make_record(
    stage, parent, text=text, parsed={'correct': right}, **fields
  )


def chain(solution, right):
  """Makes a critique of an answer and a refinement that it led to."""
  critique = make_record('critique', solution)
  return answer(right, critique, stage='refine')


def test_answers_belong_to_the_problem_of_their_solution():
  solutions = [answer(False, index=i) for i in range(4)]
  first = chain(solutions[2], False)
  second = chain(first, True)
  groups = annotating.groups([solutions, [first], [second]], 2)
  assert groups[0] == [(0, solutions[0]), (0, solutions[1])]
  assert groups[1] == [
    (0, solutions[2]), (0, solutions[3]), (1, first), (2, second)
  ]  # fmt: skip


def test_only_the_newest_answers_of_unsolved_problems_are_attempted_again():
  solutions = [answer(False), answer(True), answer(False), answer(False)]
  assert annotating.unsolved([solutions], 2) == solutions[2:]
  refined = [chain(solution, False) for solution in solutions[2:]]
  assert annotating.unsolved([solutions, refined], 2) == refined
  refined[1] = chain(solutions[3], True)
  assert annotating.unsolved([solutions, refined], 2) == []
  # Nobody was refined: there is nothing new to refine again.
  assert annotating.unsolved([solutions, []], 2) == []


def assess(experts, mixture='minimum'):
  """Assesses an answer by experts that say a number each."""
  specs = {
    name: dict(module='arithmetic_experts', name='ending', error=1.0 - value)
    for name, value in experts.items()
  }
  return annotating.bind_assessment(specs, mixture, dict(module=''))


class Sure:
  """Random numbers that make an expert err, or not, as its error is above."""

  def random(self):
    return 0.5


@pytest.mark.parametrize(
  ('mixture', 'expected'), [('minimum', 0.0), ('mean', 2 / 3)]
)
def test_a_mixture_is_a_veto_or_a_mean(mixture, expected):
  text = 'Step 1: 1 + 1 = 2\nThe answer is \\boxed{2}.'
  record = answer(True, text=text)
  judge = assess(dict(x=1.0, y=1.0, z=0.0), mixture)
  [note] = judge([record], [], Sure()).values()
  assert [note[name] for name in 'xyz'] == [1.0, 1.0, 0.0]
  assert note['quality'] == expected


def test_without_experts_and_reviews_nothing_is_filtered():
  record = answer(True)
  notes = assess({})([record], [], Sure())
  assert notes == {id(record): {'quality': 1.0}}
  review = make_record(
    'review', record, parsed={'status': 'ok', 'verdict': 'incorrect'}
  )
  notes = assess({})([record], [review], Sure())
  assert notes == {id(record): {'approval': 0.0, 'quality': 0.0}}


def test_the_best_are_kept_and_of_equal_ones_the_first():
  answers = [answer(True, text=text) for text in 'abcab']
  quality = [0.5, 1.0, 1.0, 1.0, 1.0]
  group = [(0, r) for r in answers]
  notes = {id(r): {'quality': x} for r, x in zip(answers, quality, strict=True)}

  def kept(least, number):
    return annotating.keep(group, notes, [least], number)

  assert kept(0.0, 1) == [answers[1]]
  # Texts that were there are left out: b, c, and the second a.
  assert kept(0.0, 9) == [answers[1], answers[2], answers[3]]
  assert kept(1.1, 9) == []
  del notes[id(answers[1])]
  assert kept(1.0, 1) == [answers[2]]


def test_each_attempt_has_a_least_score_of_its_own():
  early, late = answer(True, text='early'), answer(True, text='late')
  notes = {id(r): {'quality': 0.5} for r in (early, late)}
  group = [(0, early), (1, late)]
  assert annotating.keep(group, notes, [0.5, 0.6], 9) == [early]
  assert annotating.keep(group, notes, [0.6, 0.5], 9) == [late]


def test_records_are_told_and_their_parents_with_them():
  solution = answer(False, text='a b')
  refined = chain(solution, True)
  records = [solution, refined.parent, refined]
  group = [(0, solution), (1, refined)]
  new = annotating.tell(
    records, [group], {id(refined): {'quality': 1.0}}, [[refined]]
  )
  assert new[0].scores == {'kept': 0.0, 'covered': 1.0, 'distinct': 1.0}
  assert new[2].scores == {'quality': 1.0, 'kept': 1.0}
  assert new[2].parent is new[1] and new[1].parent is new[0]
  assert [dataclasses.asdict(r)['scores'] for r in records] == [{}] * 3


def test_diversity_is_of_all_texts_together():
  assert annotating.distinct(['a b', 'a b']) == 0.5
  assert annotating.distinct(['a b a b']) == 2 / 3  # ab, ba, ab
  assert annotating.distinct(['a', '']) == 0.0
  assert annotating.distinct(['a b', 'b c'], n=1) == 3 / 4
