"""Hints of critiques, and S-GRPO's rewards of form and suggestion."""

import itertools

import pytest
from helpers import make_record

from critic_jax.rewards import (
  critique_rewards,
  graded_verdicts,
  refinement,
  suggestions,
  verdicts,
)

KNOWN = dict(reference='type name Ada', working=['type name Ada', 'press trip'])
# A wrong action; the screen has these and others.
JUDGED = 'type name Ben'
WRONG = dict(correct=False, grade='wrong', suggestions=KNOWN)
RIGHT = dict(correct=True, grade='right', suggestions=KNOWN)


def make(text, finish='stop', **parsed):
  action = make_record('solve', text=f'Action: {JUDGED}', parsed=parsed)
  return make_record(
    'critique', action, text=text, finish=finish, parsed=verdicts.parse(text)
  )


def pay(text, finish='stop', **parsed):
  """Returns the form, the reference's and the working hint's reward."""
  critique = make(text, finish, **parsed)
  rules = graded_verdicts.form, graded_verdicts.reference, graded_verdicts.works
  return tuple(rule(critique, []) for rule in rules)


def says(hint, verdict='incorrect'):
  return f'Hint: {hint}\nVerdict: {verdict}'


@pytest.mark.parametrize(
  ('hint', 'expected'),
  [  # form, reference, works; of a wrong action
    ('type name Ada', (1, 1, 1)),
    ('type name Ada.', (1, 1, 1)),
    ('`type  name Ada`', (1, 1, 1)),
    # It works, though it is another than the reference.
    ('press trip', (1, 0, 1)),
    ('none', (1, 0, 0)),
    # It restates the judged action.
    (JUDGED, (1, 0, 0)),
    # It is not on the screen, or is no action.
    ('press save', (1, 0, 0)),
    ('type city Rome', (1, 0, 0)),
    ('Think again', (1, 0, 0)),
    # Two actions at once, in one sentence or in two.
    ('type name Ada or press trip', (1, 0, 0)),
    ('type name Ada, press trip', (1, 0, 0)),
    ('type name Ada' + ' ' * 200 + 'press trip', (1, 0, 0)),
    ('type name Ada. press trip', (1, 0, 0)),
    ('type name Ada\nHint: press trip', (0, 0, 0)),
    ('type name Ada\nHint: type name Ada', (0, 0, 0)),
    ('type name Ada Hint: press trip', (0, 0, 0)),
    # Nothing, another case, a letter of another alphabet, an invisible one.
    ('', (0, 0, 0)),
    ('...', (1, 0, 0)),
    ('type name ada', (1, 0, 0)),
    ('type n\u0430me Ada', (1, 0, 0)),
    ('type name\u200b Ada', (1, 0, 0)),
    ('type name\u00a0Ada', (1, 0, 0)),
  ],
)
def test_rewards_of_hints(hint, expected):
  assert pay(says(hint), **WRONG) == expected
  # The verdict is another reward's: it must be there, and may be false.
  assert pay(says(hint, 'correct'), **WRONG) == expected
  # A right action needs no suggestion.
  assert pay(says(hint), **RIGHT) == (expected[0], 1, 1)


@pytest.mark.parametrize(
  ('text', 'finish'),
  [
    ('Hint: type name Ada', 'stop'),
    ('Hint: type name Ada\nVerdict: correct\nVerdict: incorrect', 'stop'),
    ('<think>\nHint: type name Ada\nVerdict: incorrect', 'stop'),
    (says('type name Ada'), 'length'),
    ('', 'stop'),
  ],
)
def test_without_one_whole_verdict_nothing_is_paid(text, finish):
  assert pay(text, finish, **WRONG) == (0, 0, 0)
  assert pay(text, finish, **RIGHT) == (0, 0, 0)


def test_a_hint_in_the_thinking_is_none():
  text = f'<think>\nHint: type name Ada\n</think>\n{says("press trip")}'
  assert suggestions.hint(text) == 'press trip'
  text = '<think>\nHint: type name Ada\n</think>\nVerdict: incorrect'
  assert suggestions.hint(text) is None
  assert pay(text, **WRONG) == (0, 0, 0)


def test_identities():
  """Where one action alone works, both rewards are one."""
  alone = dict(reference='press save', working=['press save'])
  hints = 'press save', 'press trip', 'none', ''
  for hint, verdict in itertools.product(hints, ('correct', 'incorrect')):
    critique = make(says(hint, verdict), **WRONG | dict(suggestions=alone))
    paid = graded_verdicts.reference(critique, [])
    assert paid == graded_verdicts.works(critique, [])
    # The reference works, so that `works` is never less.
    critique = make(says(hint, verdict), **WRONG)
    paid = graded_verdicts.reference(critique, [])
    assert paid <= graded_verdicts.works(critique, [])


def test_the_reward_is_a_sum_of_three():
  """1 for the form, 2 of the verdict, 4 of the suggestion: each shows."""
  rules, weights = critique_rewards.make_rewards(
    judge_weight=2.0, misjudge_weight=0.0, refine_weight=0.0,
    refine_reward='refine', refine_settings={}, preference_weight=0.0,
    step_weight=0.0, score_weight=0.0, gate='always', num_refinements=0,
    graded=dict(form=dict(weight=1.0), reference=dict(weight=4.0)), form={},
  )  # fmt: skip

  def total(text, **parsed):
    critique = make(text, **parsed)
    return sum(weights[n] * rule(critique, []) for n, rule in rules.items())

  assert total(says('type name Ada'), **WRONG) == 1 + 2 + 4
  assert total(says('press trip'), **WRONG) == 1 + 2
  assert total(says('type name Ada', 'correct'), **WRONG) == 1 + 4
  assert total(says('none', 'correct'), **RIGHT) == 1 + 2 + 4
  assert total(says('none'), **RIGHT) == 1 + 4
  assert total('Verdict: incorrect', **WRONG) == 2
  assert total('Hint: type name Ada', **WRONG) == 0


@pytest.mark.parametrize(
  'known',
  [
    None,
    {},
    [],
    dict(reference='press save'),
    dict(reference=None, working=[]),
    dict(reference='press save', working='press save'),
    dict(reference='press save', working=[1]),
    dict(reference='press save', working=[], more=1),
  ],
)
def test_labels_that_are_none(known):
  critique = make(says('none'), correct=False, suggestions=known)
  for rule in (graded_verdicts.reference, graded_verdicts.works):
    with pytest.raises(ValueError, match=r"parsed\['suggestions'\] of .*: got"):
      rule(critique, [])


def test_an_action_whose_grade_is_not_known():
  critique = make(says('none'), correct=False, grade='timeout')
  assert graded_verdicts.reference(critique, []) is None
  assert graded_verdicts.works(critique, []) is None
  assert refinement.judge(critique, []) is None
  with pytest.raises(ValueError, match=r"parsed\['correct'\] of"):
    graded_verdicts.works(make(says('none')), [])


def test_hints_take_linear_time():
  """A text of 200,000 characters, of which each might begin a hint."""
  for part in ('hint:', 'hint' + '*' * 9, 'Hint: a ', '\nHint :\t'):
    suggestions.hint(part * (200_000 // len(part)))
