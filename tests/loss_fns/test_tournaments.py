"""Records that play against their siblings; nothing is compiled."""

import types

import numpy as np
import pytest
from helpers import make_record

from critic_jax.loss_fns import tournaments

RATERS = dict(name='raters')
WEIGHTS = dict(a=1.0, b=1.0, c=1.0, d=0.0)
# Rows are records: each wins two of three votes against the next.
CYCLE = [(3, 1, 2), (2, 3, 1), (1, 2, 3)]


def make_records(values, **fields):
  return [
    make_record(
      index=i,
      scores=dict(zip('abc', numbers, strict=True), d=9 * i, reward=1.0),
      **fields,
    )
    for i, numbers in enumerate(values)
  ]


def make(preference=RATERS, num_siblings=3, weights=WEIGHTS, **settings):
  models = dict.fromkeys(('solver', 'ref'))
  return tournaments.make_tournament(
    models, 'solver', preference, weights=weights, num_siblings=num_siblings,
    **settings,
  )  # fmt: skip


def test_wins_are_paid_and_weightless_scores_are_no_criterion():
  records = make_records([*CYCLE, (1, 1, 1), (0, 0, 0), (2, 0, 1)])
  tournament = make()
  played = tournament.play(records)
  assert tournament.scores == ('win_rate',) and tournament.scored == ()
  expected = [
    *[0.5] * 3,
    # 1 1 1 wins 3 of 3, then 1 and a half; 0 0 0 draws once.
    (3 + 1.5) / 6, 0.5 / 6, (1.5 + 2.5) / 6,
  ]  # fmt: skip
  for name in ('win_rate', 'reward'):
    np.testing.assert_allclose([r.scores[name] for r in played], expected, 1e-6)
  assert [r.scores['a'] for r in played] == [r.scores['a'] for r in records]
  assert records[0].scores['reward'] == 1.0  # records do not change


def test_without_a_preference_rewards_stay():
  records = make_records(CYCLE)
  tournament = make({})
  assert tournament.play(records) == records
  assert tournament.scores == tournament.scored == ()


def test_who_is_not_known_plays_against_nobody():
  records = make_records([(3, 3, 3), (1, 1, 1), (2, 2, 2)] * 3)
  del records[0].scores['reward'], records[0].scores['a']
  for record in (*records[3:5], *records[6:]):
    record.scores.pop('reward')
  played = tournament_rewards(make().play(records))
  assert played == [None, 0.0, 1.0, *[None] * 6]
  # A refused record has no tokens, whatever its scores.
  records = make_records(CYCLE, tokens=[])
  assert tournament_rewards(make().play(records)) == [None] * 3


def tournament_rewards(records):
  return [record.scores.get('reward') for record in records]


def test_nash_md_by_hand(monkeypatch):
  """Sums of log-ratios over tokens; a mixture's opponents; the price."""
  ratios = np.array([0.0, 0.0, np.log(4.0), np.log(4.0)])
  mask = np.array([[False, True, True]] * 4 + [[False] * 3] * 2)
  ours = np.full((6, 3), np.nan)
  ours[mask] = np.repeat(ratios / 2, 2)
  arrays = {'solver': ours - 5.0, 'ref': np.where(mask, -5.0, np.nan)}
  monkeypatch.setattr(
    tournaments,
    'scoring',
    types.SimpleNamespace(
      logprobs_of=lambda name, models, roles, batch, microbatches: arrays[name]
    ),
  )
  records = make_records([(9,) * 3, (5,) * 3, (7,) * 3, (3,) * 3])
  tournament = make(num_siblings=4, self_play=dict(share=0.5, tau=0.1))
  played = tournament.play(records, lambda records: dict(mask=mask), {})
  # Opponents of weights 1, 1, 1/2 and 1/2.
  rates = [1.0, (0 + 0 + 0.5) / 2, (0 + 1 + 0.5) / 2.5, 0.0]
  np.testing.assert_allclose([r.scores['win_rate'] for r in played], rates)
  np.testing.assert_allclose([r.scores['log_ratio'] for r in played], ratios)
  np.testing.assert_allclose(
    tournament_rewards(played), rates - 0.1 * ratios, rtol=1e-6
  )
  assert tournament.scored == ('solver', 'ref')
  assert tournament.scores == ('win_rate', 'log_ratio')


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(preference=dict(name='rater')), "preference: .*'raters'"),
    (dict(preference=dict(name='bradley_terry')), 'temperature'),
    (
      dict(preference=dict(name='bradley_terry', temperature=-1.0)),
      r'preference: temperature: got -1\.0',
    ),
    (dict(self_play=dict(share=2.0, tau=0.0)), r'self_play: share: got 2\.0'),
    (dict(self_play=dict(share=0.0, tau=-1.0)), r'self_play: tau: got -1\.0'),
    (dict(self_play=dict(share=0.0)), 'self_play: .*tau'),
    (
      dict(preference={}, self_play=dict(share=0.0, tau=0.1)),
      'without a preference',
    ),
  ],
)
def test_wrong_settings(settings, message):
  with pytest.raises(ValueError, match=message):
    make(**settings)


def test_a_reference_must_be_there():
  with pytest.raises(ValueError, match="expected also .'ref'"):
    tournaments.make_tournament(
      {'solver': None}, 'solver', RATERS, weights=WEIGHTS, num_siblings=2,
      self_play=dict(share=0.0, tau=0.1),
    )  # fmt: skip
