"""CriticLean's reward: the verdict's, in its form only."""

import itertools

import pytest
from helpers import make_record

from critic_jax.rewards import (
  critique_rewards,
  graded_verdicts,
  refinement,
  verdicts,
)

FORM = '<think>\n5? n1 = 5. Right.\n</think>\nI find no mistake.\n'


def pay(text, *, correct=True, finish='stop', grade=None):
  """Returns the verdict's reward, the form's, and CriticLean's."""
  grade = grade or ('right' if correct else 'wrong')
  parsed = dict(correct=correct, grade=grade)
  critique = make_record(
    'critique',
    make_record('solve', parsed=parsed),
    text=text,
    finish=finish,
    parsed=verdicts.parse(text),
  )
  return (
    refinement.judge(critique, []),
    graded_verdicts.in_form(critique),
    graded_verdicts.judged_in_form(critique, []),
  )


@pytest.mark.parametrize(
  ('text', 'form'),
  [
    (f'{FORM}Verdict: correct', 1),
    (f'{FORM}Verdict: correct.\n', 1),
    (f'{FORM}**Verdict:** correct', 1),
    (f'{FORM}Another reason.\n\nVerdict: correct', 1),
    # No thoughts, no reasons, no verdict, or these in another order.
    ('I find no mistake.\nVerdict: correct', 0),
    ('<think>\n</think>\nI find no mistake.\nVerdict: correct', 0),
    ('<think>\nHm.\n</think>\nVerdict: correct', 0),
    ('<think>\nHm.\n</think>\n\n \nVerdict: correct', 0),
    (FORM, 0),
    ('<think>\nHm.\n</think>\nVerdict: correct\nI find no mistake.', 0),
    (f'So. {FORM}Verdict: correct', 0),
    # Thoughts that do not end, or begin again.
    ('<think>\nHm.\nI find no mistake.\nVerdict: correct', 0),
    (f'<think>\n{FORM}Verdict: correct', 0),
    (f'{FORM}</think>\nSo.\nVerdict: correct', 0),
    (f'{FORM}{FORM}Verdict: correct', 0),
    # Two verdicts, equal ones too, and words beside the sentence.
    (f'{FORM}Verdict: correct\nVerdict: correct', 0),
    (f'{FORM}Verdict: incorrect\nVerdict: correct', 0),
    (f'{FORM}So, Verdict: correct', 0),
    (f'{FORM}Verdict: correct, I think', 0),
    (f'{FORM}Verdict: c\u043errect', 0),
    ('', 0),
  ],
)
def test_forms(text, form):
  for correct in (True, False):
    judged, in_form, reward = pay(text, correct=correct)
    assert in_form == form
    assert reward == min(judged, form) == judged * form
  # A critique that was cut off has neither.
  assert pay(text, finish='length') == (0, 0, 0)


@pytest.mark.parametrize(
  ('verdict', 'correct', 'in_form', 'expected'),
  [  # min(r_acc, r_fmt)
    ('correct', True, True, 1),  # min(1, 1)
    ('incorrect', False, True, 1),  # min(1, 1)
    ('correct', False, True, 0),  # min(0, 1); a sum would pay 1
    ('incorrect', True, True, 0),  # min(0, 1)
    ('correct', True, False, 0),  # min(1, 0); a sum would pay 1
    ('correct', False, False, 0),  # min(0, 0)
  ],
)
def test_rewards_by_hand(verdict, correct, in_form, expected):
  text = f'{FORM if in_form else ""}Verdict: {verdict}'
  assert pay(text, correct=correct)[2] == expected


def test_it_is_the_verdicts_reward_where_all_are_in_form():
  for verdict, correct in itertools.product(
    ('correct', 'incorrect'), (True, False)
  ):
    judged, _, reward = pay(f'{FORM}Verdict: {verdict}', correct=correct)
    assert reward == judged


def test_a_timeout_pays_nothing():
  text = f'{FORM}Verdict: correct'
  assert pay(text, correct=False, grade='timeout')[2] is None


def test_a_config_names_it():
  rules, weights = critique_rewards.make_rewards(
    judge_weight=0.0, misjudge_weight=0.0, refine_weight=0.0,
    refine_reward='refine', refine_settings={}, preference_weight=0.0,
    step_weight=0.0, score_weight=0.0, gate='always', num_refinements=0,
    graded=dict(judged_in_form=dict(weight=1.0)), form={},
  )  # fmt: skip
  assert weights['judged_in_form'] == 1.0 and weights['judge'] == 0.0
  assert rules['judged_in_form'].func is graded_verdicts.judged_in_form
