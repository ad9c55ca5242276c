import itertools

import numpy as np
import pytest

from critic_jax.rewards import critique_rewards, verdicts
from critic_jax.tasks import arithmetic_labels
from critic_jax.types import Problem, Record

_NONE = np.zeros(0, np.int32)
SETTINGS = dict(
  judge_weight=1.0,
  misjudge_weight=0.0,
  refine_weight=1.0,
  refine_reward='refine',
  refine_settings={},
  preference_weight=0.0,
  step_weight=0.0,
  score_weight=0.0,
  gate='rightly_called_wrong',
  num_refinements=1,
  graded={},
  form={},
)
# Of a right solution and of a wrong one; the last is TRAPS 26's hedge.
TEXTS = (
  'Verdict: correct',
  'Verdict: incorrect',
  'It is wrong.',
  'Verdict: correct\nVerdict: incorrect',
)


def record(stage, text='', parent=None, **parsed):
  return Record(
    Problem('p', '6 * 7?', '42'), stage, parent, 0, _NONE, _NONE,
    np.zeros(0, np.float32), text, parsed=parsed,
  )  # fmt: skip


def totals(**changes):
  """The reward of each critique, and of each refinement that it may have."""
  rules, weights = critique_rewards.make_rewards(**SETTINGS | changes)
  assert rules.keys() == weights.keys()
  rewards = []
  for right, text, refined in itertools.product(
    (True, False), TEXTS, (True, False)
  ):
    solution = record('solve', correct=right)
    critique = record('critique', text, solution, **verdicts.parse(text))
    refinements = [record('refine', '', critique, correct=refined)]
    rewards.append(
      sum(w * rules[name](critique, refinements) for name, w in weights.items())
    )
  return rewards


def as_released(mode):
  """Critique-RL's second stage, as its code has it."""
  rewards = []
  for right, text, refined in itertools.product(
    (True, False), TEXTS, (True, False)
  ):
    base = {
      'refine': float(refined),
      'delta': float(refined) - float(right),
      'mend': (0.2 if right else 1.0) * refined,
    }[mode]
    word = 'correct' if right else 'incorrect'
    rewards.append(base + 0.2 if text == f'Verdict: {word}' else -1.0)
  return rewards


@pytest.mark.parametrize('mode', ['refine', 'delta', 'mend'])
def test_the_weights_make_critique_rls_second_stage(mode):
  weights = dict(judge_weight=0.2, misjudge_weight=1.0, refine_reward=mode)
  ours = totals(**weights, gate='rightly_judged')
  np.testing.assert_allclose(ours, as_released(mode))
  # A false verdict pays -1 in place of the refinement's reward, not beside it.
  beside = totals(**weights, gate='always')
  assert max(np.abs(np.subtract(ours, beside))) == 1.0


def test_the_weights_make_critique_rls_first_stage():
  rewards = totals(misjudge_weight=1.0, refine_weight=0.0)
  assert rewards == [1, 1] + [-1] * 6 + [-1, -1, 1, 1] + [-1] * 4


def test_further_settings_are_those_of_the_reward_that_is_named():
  mend = dict(refine_reward='mend', gate='always', judge_weight=0.0)
  kept = totals(**mend, refine_settings=dict(kept=1.0))
  # All of a right solution is what `refine` pays for it.
  assert kept == totals(gate='always', judge_weight=0.0)
  assert kept != totals(**mend)


def test_a_measure_is_a_function_of_the_world():
  share = dict(module='arithmetic_labels', name='share_right')
  rules, _ = critique_rewards.make_rewards(
    **SETTINGS
    | dict(refine_reward='gain', refine_settings=dict(measure=share, eps=0.5))
  )
  settings = rules['gain'].keywords
  assert settings['eps'] == 0.5
  assert settings['measure'].func is arithmetic_labels.share_right


REVIEWER = dict(module='arithmetic_reviews', name='review')


def test_a_penalty_is_a_bonus_less_a_constant_which_no_group_learns():
  penalty = totals(judge_weight=0.2, misjudge_weight=1.0)
  bonus = totals(judge_weight=1.2)
  np.testing.assert_allclose(np.subtract(bonus, penalty), 1.0)


def test_rules_that_are_not_paid_for_are_left_out():
  rules, _ = critique_rewards.make_rewards(**SETTINGS)
  assert [*rules] == ['judge', 'refine']
  changes = dict(
    misjudge_weight=0.5, refine_reward='delta', preference_weight=1.0,
    step_weight=2.0, form=dict(length=dict(weight=3.0, cost=0.1, max_len=9)),
  )  # fmt: skip
  rules, weights = critique_rewards.make_rewards(**SETTINGS | changes)
  assert weights == dict(
    judge=1.0, delta=1.0, misjudge=0.5, preferred=1.0, locate=2.0, length=3.0
  )
  assert [*rules] == [*weights]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(refine_reward='deltas'), "refine_reward: got 'deltas'.*mean 'delta'"),
    (dict(gate='no'), "gate: got 'no'"),
    (dict(misjudge_weight=None), 'misjudge_weight: got None'),
    (dict(form=dict(length=dict(cost=1.0))), "shaping.length.*a 'weight'"),
    (dict(graded=dict(distance={})), "graded.distance: got .*a 'weight'"),
    (
      dict(graded=dict(distanse=dict(weight=1.0))),
      "graded.distanse: function of .*did you mean 'distance'",
    ),
    (
      dict(graded=dict(reviewed=dict(weight=1.0, reviewer=dict(module='')))),
      'graded.reviewed: reviewer: got none',
    ),
    (
      dict(
        graded=dict(
          reviewed=dict(weight=1.0, reviewer=REVIEWER, flawed_score=2.0)
        )
      ),
      'graded.reviewed: flawed_score: got 2.0',
    ),
    (
      dict(refine_reward='gain', refine_settings=dict(eps=0.0)),
      'refine_settings: eps: got 0.0',
    ),
    (dict(refine_settings=dict(gate='always')), 'refine_settings: .*gate'),
    (dict(refine_settings=dict(kept=0.5)), "refine_settings: keyword.*'kept'"),
    (
      dict(judge_weight=0.0, refine_reward='delta', num_refinements=0),
      'by which no critique earns anything',
    ),
  ],
)
def test_wrong_settings_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    critique_rewards.make_rewards(**SETTINGS | changes)
