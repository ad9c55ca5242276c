"""Who wins between an attacker and a critic."""

import dataclasses

import numpy as np
import pytest

from critic_jax.rewards import duels, refinement, verdicts
from critic_jax.types import Problem, Record

EMPTY = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
PAID = {'judge': refinement.judge, 'misjudge': refinement.misjudge}
CAUGHT, FOOLED, SILENT = 'Verdict: incorrect', 'Verdict: correct', 'Hm.'


def record(stage, parent, text='', **parsed):
  problem = Problem('p', '6 + 1?', '7')
  return Record(problem, stage, parent, 0, *EMPTY, text, parsed=parsed)


def attacked(correct=False, target=1, **parsed):
  order = record('order', record('solve', None, correct=True), target=target)
  return record('attack', order, correct=correct, **parsed)


def judged(attack, *texts):
  """Makes critiques with their rewards, 1 or -1."""
  critiques = [
    record('critique', attack, text, **verdicts.parse(text)) for text in texts
  ]
  return [
    dataclasses.replace(
      c, scores={'reward': sum(rule(c, []) for rule in PAID.values())}
    )
    for c in critiques
  ]


@pytest.mark.parametrize(
  ('attack', 'is_valid'),
  [
    (attacked(first_error=1), 1),
    # The answer is right after all, and so nothing is broken.
    (attacked(correct=True, first_error=1), 0),
    (attacked(correct=True, first_error=-1), 0),
    # A step before is changed, or a later one, or all is thrown away.
    (attacked(first_error=0), 0),
    (attacked(first_error=2), 0),
    (attacked(target=0, first_error=0), 1),
    # Nobody knows the steps: the answer decides.
    (attacked(), 1),
    (attacked(correct=True), 0),
    (attacked(grade='timeout'), None),
  ],
)
def test_an_attack_counts_if_it_breaks_the_step_that_it_was_told(
  attack, is_valid
):
  assert duels.breaks(attack) == is_valid


def test_who_wins_gets_what_the_other_loses():
  attack = attacked(first_error=1)
  for texts, won in [
    ([FOOLED], 1),
    ([CAUGHT], -1),
    # A critic without a verdict, or with both, loses; the mean of several.
    ([SILENT], 1),
    ([f'{CAUGHT}\n{FOOLED}'], 1),
    ([CAUGHT, CAUGHT, FOOLED, CAUGHT], -1 / 2),
  ]:
    critiques = judged(attack, *texts)
    assert duels.outwit(attack, critiques) == won
    total = np.mean([c.scores['reward'] for c in critiques])
    assert duels.outwit(attack, critiques) + total == 0


def test_an_attack_that_does_not_count_loses_whatever_is_said_of_it():
  for attack in (attacked(correct=True), attacked(first_error=0)):
    assert duels.outwit(attack, []) == -1
    assert duels.outwit(attack, judged(attack, FOOLED)) == -1


def test_an_attack_that_nobody_could_judge_is_not_paid():
  assert duels.outwit(attacked(first_error=1), []) is None
  assert duels.outwit(attacked(grade='timeout'), []) is None
