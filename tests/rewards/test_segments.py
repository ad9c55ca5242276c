import pytest

from critic_jax.rewards import segments
from critic_jax.types import Problem, Record

PROBLEM = Problem(
  'p', 'Ada has 5 eggs. Ada finds 2 more.', '7', 'Step 1: 5 + 2 = 7'
)
KIND = dict(module='arithmetic_labels', name='rewarded_results')


def solved(text, finish='stop'):
  return Record(PROBLEM, 'solve', None, 0, (), (), (), text, finish)


def test_two_kinds_by_hand():
  settings = dict(
    results=dict(KIND, weight=0.5),
    operations=dict(KIND, name='rewarded_operations', weight=0.25),
  )
  measures, rules, weights = segments.bind(settings)
  text = 'Step 1: 5 + 2 = 8'
  [record, refused] = segments.write(
    [solved(text), solved('', finish='prompt')], measures
  )
  assert record.parsed['segments'] == {
    'results': [(17, -1.0)],
    'operations': [(17, 1.0)],
  }
  assert segments.weighted(record, weights) == [(17, -0.5), (17, 0.25)]
  assert {kind: rule(record, []) for kind, rule in rules.items()} == {
    'results': -1.0,
    'operations': 1.0,
  }
  assert segments.weighted(refused, weights) == []


def test_no_kinds_change_nothing():
  measures, rules, weights = segments.bind({})
  assert not measures and not rules and not weights
  record = solved('Hm.')
  assert segments.write([record], measures) == [record]
  assert segments.weighted(record, weights) == []


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(x=KIND), r"^segment_rewards\.x: .*expected 'weight'"),
    (dict(x=dict(KIND, weight='1')), r'^segment_rewards\.x: weight: got'),
    (dict(correct=dict(KIND, weight=1.0)), 'the name of another reward'),
    (dict(x=dict(KIND, weight=1.0, name='solution')), r'segment_rewards\.x'),
    (dict(x=dict(KIND, weight=1.0, module='no')), r'segment_rewards\.x'),
  ],
)
def test_wrong_settings(settings, message):
  with pytest.raises(ValueError, match=message):
    segments.bind(settings)
