import random

import pytest

from critic_jax.tasks import arithmetic, arithmetic_feedback, arithmetic_labels

PROBLEMS = list(arithmetic.problems('train', 60, min_steps=2, max_steps=4))
NOTES = dict(
  wrong_note='There is a mistake.', right_note='Every step is right.'
)


def lessons(name, seed=0, **settings):
  rng = random.Random(seed)
  write = getattr(arithmetic_feedback, name)
  return [write(problem, rng, **settings) for problem in PROBLEMS]


def text(lesson):
  [(stage, solution)] = lesson.messages
  assert stage == 'solve'
  return solution


def is_right(lesson):
  return not any(arithmetic_labels.step_marks(lesson.problem, text(lesson)))


def test_ratings_are_of_lines():
  values = set()
  for lesson in lessons('rated', hard_share=0.5):
    lines = text(lesson).split('\n')
    marks = arithmetic_labels.step_marks(lesson.problem, text(lesson))
    ends, ratings = zip(*lesson.segments, strict=True)
    assert [text(lesson)[:end].count('\n') for end in ends] == list(
      range(len(lines))
    )
    assert ends[-1] == len(text(lesson)) and ratings[-1] == 1
    assert ratings[:-1] == tuple(-1.0 if mark else 1.0 for mark in marks)
    values.update(ratings)
  assert values == {1, -1}


def test_filtered_solutions_are_right_unless_none_is():
  right = lessons('rated', hard_share=0.3, least=1.0)
  assert all(map(is_right, right))
  assert 10 < sum(map(is_right, lessons('rated', hard_share=0.3))) < 50
  # The student knows 4 of 10 hard facts; one try is not filtered.
  once = lessons('rated', hard_share=1.0, least=1.0, tries=1)
  assert not all(map(is_right, once))
  with pytest.raises(ValueError, match='^tries: got 0'):
    lessons('rated', hard_share=0.3, tries=0)


def test_notes_are_in_the_prompts_of_wrong_solutions():
  noted = lessons('noted', hard_share=0.3, wrong_note='Err.', drop_share=0.0)
  for lesson, problem in zip(noted, PROBLEMS, strict=True):
    extra = '' if is_right(lesson) else '\nErr.'
    assert lesson.problem.question == problem.question + extra
  dropped = lessons('noted', hard_share=0.3, wrong_note='Err.', drop_share=1.0)
  assert [lesson.problem for lesson in dropped] == PROBLEMS


def test_hindsight_by_kind():
  kinds = set()
  for lesson, problem in zip(
    lessons('hindsight', max_slips=2, **NOTES), PROBLEMS, strict=True
  ):
    question, *shown = lesson.problem.question.split('\n')
    assert question == problem.question
    kinds.add((is_right(lesson), bool(shown[1:])))
    if not shown[1:]:
      assert shown == ([] if is_right(lesson) else [NOTES['wrong_note']])
      continue
    note, *other, last_note = shown
    notes = [NOTES['wrong_note'], NOTES['right_note']]
    assert [note, last_note] == (notes if is_right(lesson) else notes[::-1])
    marks = arithmetic_labels.step_marks(problem, '\n'.join(other))
    assert any(marks) == is_right(lesson)
  assert len(kinds) == 4


def test_shares_of_hindsight():
  only = lessons(
    'hindsight', max_slips=1, wrong_share=0, chain_share=0, **NOTES
  )
  assert [lesson.problem for lesson in only] == PROBLEMS
  assert [text(lesson) for lesson in only] == [p.solution for p in PROBLEMS]
