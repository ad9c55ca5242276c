"""Convincing wrong solutions, and self-check: by hand, and identities."""

import math

import numpy as np
import pytest
from test_selection import NO, YES, pool

from critic_jax.evals import critique_ability, protocols, selection


def values(*records):
  metrics = critique_ability.metrics([r for part in records for r in part])
  return {name: estimate.value for name, estimate in metrics.items()}


# Four solutions: the wrong answer 7 is given twice, and 5 once.
POOL = pool(
  ('0', [YES, YES, None]), ('7', [NO, YES, YES]), ('7', [NO]), ('5', [NO, NO])
)


def test_verdicts_on_a_convincing_pair():
  got = values(POOL)
  # The right one and the first 7: 2/3 of its critiques approve; 1/3 refuse.
  assert got['convincing_right'] == pytest.approx(2 / 3)
  assert got['convincing_wrong'] == pytest.approx(1 / 3)
  assert got['convincing'] == pytest.approx((2 / 3 + 1 / 3) / 2)
  # Of all wrong ones 4 of 6 critiques refuse.
  assert got['unselected'] == pytest.approx((2 / 3 + 4 / 6) / 2)


def test_silence_is_right_half_of_the_time_if_it_is_a_verdict():
  """The paper's default pays a critic that says nothing; ours does not."""
  got = values(pool(('0', [None]), ('7', [None])))
  assert got['convincing'] == 0.0
  assert got['convincing_lenient'] == 0.5
  assert got['unselected'] == 0.0
  # It is also half right if all is approved, and if all is refused.
  for verdict in (YES, NO):
    constant = values(pool(('0', [verdict]), ('7', [verdict])))
    assert constant['convincing'] == constant['convincing_lenient'] == 0.5


def test_without_a_convincing_pair_there_are_votes_alone():
  got = values(pool(('7', [NO]), ('7', [YES])))
  assert math.isnan(got['convincing']) and got['vote'] == 0.0


def test_an_uncertain_problem_is_checked():
  # 2 of 4 say 7, 2 say 0: certainty log(2 / 2) = 0, so the vote ties, 1/2.
  # Without the two that are called wrong it is 0 against 7, 2 to 1... = right.
  got = values(pool(('0', [YES]), ('0', [YES]), ('7', [NO]), ('7', [YES])))
  assert got['vote'] == 0.5
  assert got['self_check_1'] == got['self_check_all'] == 1.0
  # At random any of four is dropped: of 0 twice, which loses; of 7 twice.
  assert got['random_drop_1'] == pytest.approx((0 + 0 + 1 + 1) / 4)
  assert got['problems_uncertain'] == 1.0 and got['problems_certain'] == 0.0
  assert got['verdicts_uncertain'] == 3 / 4
  assert math.isnan(got['verdicts_certain'])


def test_a_certain_problem_is_not_checked_below_its_certainty():
  # All agree on 7 but one, which the check would keep alone.
  solutions = [('7', [NO])] * 8 + [('0', [YES])]
  got = values(pool(*solutions))  # log 8 = 2.08
  assert got['problems_certain'] == 1.0
  assert got['self_check_1'] == got['self_check_2'] == got['vote'] == 0.0
  assert got['self_check_all'] == got['self_check_certain'] == 1.0


def test_kinds_partition_problems_and_thresholds_add_up():
  sizes = ((1, 1), (2, 1), (3, 1), (7, 1), (8, 1), (4, 0))
  pools = [
    pool(*[('7', [NO])] * a, *[('0', [YES])] * b, ('5', [NO]), problem=str(i))
    for i, (a, b) in enumerate(sizes)
  ]
  got = values(*pools)
  kinds = tuple(critique_ability.KINDS)
  assert sum(got[f'problems_{kind}'] for kind in kinds) == pytest.approx(1)

  def mixed(rule, checked):
    return sum(
      got[f'problems_{kind}']
      * np.nan_to_num(got[f'{rule if kind in checked else "vote"}_{kind}'])
      for kind in kinds
    )

  assert got['vote'] == pytest.approx(mixed('vote', ()))
  for rule in ('self_check', 'random_drop'):
    assert got[f'{rule}_1'] == pytest.approx(mixed(rule, kinds[:1]))
    assert got[f'{rule}_2'] == pytest.approx(mixed(rule, kinds[:2]))
    assert got[f'{rule}_all'] == pytest.approx(mixed(rule, kinds))


def test_a_missing_verdict_drops_nothing():
  got = values(pool(('0', [YES]), ('7', [None]), ('7', [None])))
  assert got['self_check_all'] == got['vote'] == 0.0
  # `selection.filtered` keeps what is approved, and not what is not refused.
  kept = selection.curves(pool(('0', [YES]), ('7', [None]), ('7', [None])))
  assert kept['filtered'][3].value == 1.0


def test_half_of_the_critiques_drop_nothing():
  rival = [('7', [NO]), ('0', [YES, NO])]
  assert values(pool(*rival))['self_check_all'] == 1.0
  assert values(pool(rival[0], ('0', [YES, NO, NO])))['self_check_all'] == 0.5


def test_a_check_that_drops_all_or_nothing_is_the_vote():
  for verdict in (YES, NO):
    solutions = [('0', [verdict]), ('0', [verdict]), ('7', [verdict])]
    got = values(pool(*solutions))
    assert got['self_check_all'] == got['random_drop_all'] == got['vote'] == 1.0


def test_with_all_checked_it_is_the_filter_of_selection():
  """Where every critique has a verdict."""
  records = pool(
    ('0', [YES]), ('7', [NO]), ('7', [YES]), ('5', [YES]), ('0', [NO])
  )
  got, curves = values(records), selection.curves(records, [5])
  assert got['vote'] == curves['majority'][5].value
  assert got['self_check_all'] == pytest.approx(curves['filtered'][5].value)
  assert got['random_drop_all'] == pytest.approx(
    curves['random_filtered'][5].value
  )


def test_single_solutions_and_those_without_critiques_are_left_out():
  assert critique_ability.metrics(pool(('0', [YES]))) == {}
  assert critique_ability.metrics(pool(('0', []), ('7', []))) == {}
  assert not any(
    name.startswith('ability/')
    for name in protocols.metrics(pool(('0', []), ('7', [])), refined=False)
  )
  shown = protocols.metrics(POOL, refined=False)
  assert shown['ability/convincing'].value == pytest.approx(0.5)


def test_critics_are_compared_on_the_same_solutions():
  before = pool(('0', [NO]), ('7', [YES]))
  after = pool(('0', [YES]), ('7', [NO]))
  change = critique_ability.compare(before, after)
  assert change['convincing'].value == 1.0 and change['vote'].value == 0.0
