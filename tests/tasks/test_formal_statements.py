"""Statements of stories: meanings, drafts and their errors, a teacher."""

import collections
import itertools
import random
import re

import pytest

from critic_jax.execution import checkers
from critic_jax.tasks import (
  arithmetic,
  formal_critiques,
  formal_drafts,
  formal_language,
  formal_statements,
)
from critic_jax.types import Problem

RIGHT = (
  'theorem t (n1 n2 n3 : Nat) (h1 : n1 = 5) (h2 : n2 = n1 + 3) '
  '(h3 : n3 = n2 * 2) : n3 = 16'
)
PROBLEM = Problem(
  'p',
  'Ada has 5 eggs. Ada finds 3 more. Ada then has 2 times as many. '
  'How many eggs? 16.',
  '',
  RIGHT,
)
CHECK = formal_drafts.make_checker()


def changed(*pairs):
  text = RIGHT
  for old, new in pairs:
    assert text.count(old) == 1, old
    text = text.replace(old, new)
  return text


def test_what_a_problem_says():
  program = arithmetic.Program(5, (('+', 3), ('*', 2)))
  said = formal_statements.Meaning(program, 16)
  assert formal_statements.intended(PROBLEM) == said
  plain = formal_statements.plain(said)
  assert formal_language.write(plain) == RIGHT


@pytest.mark.parametrize(
  'pairs',
  [
    [],
    [('n1 + 3', '3 + n1')],
    [('n2 * 2', '2 * n2')],
    [('n1 = 5', '5 = n1')],
    [(': n3 = 16', ': 16 = n3')],
    [('n3 = n2 * 2', '2 * n2 = n3')],
    # Another order, other names, brackets, a number of which nothing is said,
    # a hypothesis twice.
    [('(h1 : n1 = 5) ', ''), (') : n3', ') (h1 : n1 = 5) : n3')],
    [('(h1 : n1 = 5)', '(fact : (n1) = (5))')],
    [('n1 n2 n3', 'n1 n2 n3 n4')],
    [('(h3', '(h4 : 5 = n1) (h3')],
    [(': n3 = 16', ': n3 = 16 := by sorry')],
  ],
)
def test_the_same_in_other_words(pairs):
  assert formal_statements.faithful(PROBLEM, changed(*pairs))


def test_names_do_not_matter():
  for names in itertools.permutations(['n1', 'n2', 'n3', 'x']):
    text = re.sub(r'n(\d)', lambda m, n=names: n[int(m[1]) - 1], RIGHT)
    assert formal_statements.faithful(PROBLEM, text)


@pytest.mark.parametrize(
  'pairs',
  [
    # Wrong operands, operations, sources; each passes the checker.
    [('n1 = 5', 'n1 = 6')],
    [('n1 + 3', 'n1 + 4')],
    [('n1 + 3', 'n1 - 3')],
    [('n2 * 2', 'n1 * 2')],
    [('n2 * 2', 'n2 * n2')],
    # A hypothesis that is not there: the claim does not follow any more.
    [('(h2 : n2 = n1 + 3) ', '')],
    [('(h1 : n1 = 5) ', '')],
    # The claim: another number, another value, no number, what is given.
    [(': n3 = 16', ': n2 = 16')],
    [(': n3 = 16', ': n3 = 15')],
    [(': n3 = 16', ': n3 = n2 * 2')],
    [(': n3 = 16', ': n1 = 5')],
    [(': n3 = 16', ': 16 = 16')],
    # TRUE, and not what the problem says: a prover would prove each.
    [('n1 + 3', 'n1 + 4'), (': n3 = 16', ': n3 = 18')],
    [('n1 = 5', 'n1 = 6'), ('n1 + 3', 'n1 + 2')],
    [('n1 + 3', 'n1 * 2'), ('n2 * 2', 'n2 + 6')],
    # Hypotheses that contradict each other prove anything.
    [('(h2', '(h9 : n1 = 6) (h2')],
    [('(h2', '(h9 : 1 = 2) (h2')],
    # More is said than the problem does, or less; a circle.
    [('(h2', '(h9 : n3 = 16) (h2')],
    [('n1 n2 n3', 'n1 n2 n3 n4'), ('(h2', '(h9 : n4 = 7) (h2')],
    [('n1 n2 n3', 'n1 n2 n3 n4'), ('(h2', '(h9 : n4 = n1 + 1) (h2')],
    [('n1 = 5', 'n1 = n3 + 5')],
    [('n2 = n1 + 3', 'n2 = n2 + 3')],
    # Sides of a difference do matter.
    [('n1 + 3', '3 - n1')],
  ],
)
def test_other_meanings(pairs):
  text = changed(*pairs)
  assert formal_language.check(text) == ''
  assert not formal_statements.faithful(PROBLEM, text)


def test_what_a_checker_refuses_is_not_faithful():
  for old, new in (('n1 n2 n3', 'n1 n2'), (': n3 = 16', ': n3'), ('(h1', 'h1')):
    assert not formal_statements.faithful(PROBLEM, changed((old, new)))
  assert not formal_statements.faithful(PROBLEM, '')


def test_problems_are_the_embedded_worlds():
  problems = formal_statements.problems('train', 300)
  told = arithmetic.problems('train', 300, min_steps=2, max_steps=3)
  for problem, other in zip(problems, told, strict=True):
    assert problem.question == f'{other.question} {other.answer}.'
    program = formal_statements.intended(problem).program
    assert program == arithmetic.read_program(other)
    assert formal_statements.faithful(problem, problem.solution)
  assert formal_statements.problems('train', 9) == problems[:9]
  assert len({problem.id for problem in problems}) == 300


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(min_steps=1), 'steps: got min_steps=1, max_steps=3'),
    (dict(max_steps=7), 'steps: got min_steps=2, max_steps=7; .* <= 6'),
    (dict(min_steps=4), 'steps: got min_steps=4'),
    (dict(split='tset'), "split: got 'tset'"),
  ],
)
def test_problems_that_are_not_there(settings, message):
  with pytest.raises(ValueError, match=message):
    formal_statements.problems(**dict(split='test', num_problems=1) | settings)


def test_a_problem_of_another_world():
  problem = arithmetic.problems('test', 1)[0]
  with pytest.raises(ValueError, match='got no statement in its solution'):
    formal_statements.faithful(problem, RIGHT)


# ------------------------------------------------------------------ drafts


@pytest.mark.parametrize('kind', ['', *formal_drafts.KINDS])
def test_drafts_err_as_they_are_told(kind):
  rng = random.Random(kind)
  texts = set()
  for problem in formal_statements.problems('train', 120):
    text = formal_drafts.draft(problem, rng, kind)
    texts.add(text == problem.solution)
    assert CHECK(text).accepted == (kind not in formal_drafts.REFUSED)
    assert formal_statements.faithful(problem, text) == (not kind)
  assert texts == ({True, False} if not kind else {False})


def test_checkers_of_three_kinds_of_errors():
  rng = random.Random(0)
  messages = collections.Counter()
  for kind in formal_drafts.REFUSED:
    for problem in formal_statements.problems('train', 60):
      message = CHECK(formal_drafts.draft(problem, rng, kind)).message
      messages[kind, message.split(': ')[2].split()[0]] += 1
  assert {word for kind, word in messages if kind == 'unbound'} == {'unknown'}
  assert {word for kind, word in messages if kind == 'ill_typed'} == {'type'}
  assert ('syntax', 'unexpected') in messages


def test_a_draft_without_such_an_error():
  with pytest.raises(ValueError, match="kind: got 'typo'; expected one of"):
    formal_drafts.draft(PROBLEM, random.Random(0), 'typo')
  with pytest.raises(ValueError, match='error_share, refused_share: got 2 and'):
    formal_drafts.draw_kind(random.Random(0), error_share=2, refused_share=0)


def test_given_drafts_carry_the_checkers_message():
  settings = dict(seed=3, checker={})
  records = formal_drafts.examples('train', 200, refused_share=0.5, **settings)
  for i, record in enumerate(records):
    assert record.parsed['correct'] == (i % 2 == 0)
    text, mark, message = record.text.partition('\nChecker: ')
    assert bool(mark) == (not record.parsed['checked'])
    assert message == formal_language.check(text)
  refused = sum(not record.parsed['checked'] for record in records)
  assert 30 < refused < 70
  [one, *_] = formal_drafts.examples('train', 9, refused_share=0.0, **settings)
  assert one.parsed['checked'] and one.parsed['grade'] == 'right'


def test_a_checker_that_does_not_answer_says_nothing():
  with pytest.raises(ValueError, match="got 'no answer in 1 s' of 'theorem"):
    formal_drafts.judged(
      PROBLEM, RIGHT, checkers.Checked(None, 'no answer in 1 s')
    )


def test_a_checker_that_is_not_there():
  with pytest.raises(ValueError, match="checker: got 'lake-of-nobody env"):
    formal_drafts.make_checker(('lake-of-nobody', 'env', 'lean'))


# ---------------------------------------------------------------- critiques


def teach(text, check_share=1.0, seed=0):
  record = formal_drafts.judged(PROBLEM, text, CHECK(text))
  return formal_critiques.critique(
    record, random.Random(seed), check_share=check_share
  )


def test_a_teacher_lays_the_statement_beside_the_problem():
  assert teach(changed(('n1 + 3', '3 + n1'))) == (
    '<think>\n'
    'Part 1: 5? 5. Right.\n'
    'Part 2: n1 + 3? n1 + 3. Right.\n'
    'Part 3: n2 * 2? n2 * 2. Right.\n'
    'Claim: n3 = 16? n3 = 16. Right.\n'
    '</think>\nI find no mistake.\nVerdict: correct'
  )


@pytest.mark.parametrize(
  ('pairs', 'lines'),
  [
    ([('n1 + 3', 'n1 + 4')], ['Part 2: n1 + 3? n1 + 4. Wrong.']),
    ([('(h2 : n2 = n1 + 3) ', '')], ['Part 2: n1 + 3? none. Wrong.']),
    ([(': n3 = 16', ': n2 = 16')], ['Claim: n3 = 16? n2 = 16. Wrong.']),
    (
      [('n1 = 5', 'n1 = 6'), (': n3 = 16', ': n3 = 18')],
      ['Part 1: 5? 6. Wrong.', 'Claim: n3 = 16? n3 = 18. Wrong.'],
    ),
    ([('n1 n2 n3', 'n1 n3')], ['Checker? Wrong.']),
  ],
)
def test_a_teacher_marks_every_part(pairs, lines):
  text = teach(changed(*pairs))
  assert [line for line in text.split('\n') if 'Wrong' in line] == lines
  num_parts = 1 if 'Checker' in text else 4
  assert text.count('? ') == num_parts
  assert text.endswith('There is a mistake.\nVerdict: incorrect')


def test_a_teacher_who_compares_is_always_right():
  rng = random.Random(0)
  for problem in formal_statements.problems('train', 40):
    for kind in ('', *formal_drafts.KINDS):
      record = formal_drafts.given(problem, rng, CHECK, kind=kind)
      text = formal_critiques.critique(record, rng, check_share=1.0)
      assert text.endswith(': correct') == record.parsed['correct']


def test_a_teacher_who_glances_guesses():
  verdicts = {teach(RIGHT, 0.0, seed)[-9:] for seed in range(20)}
  assert len(verdicts) == 2
