import pytest
from helpers import make_record
from loop_helpers import nano

from critic_jax.data import batching, group_rows


def critiques(rewards, truths, num_siblings=2):
  """Scored critiques, in groups: of a right solution or of a wrong one."""
  records = []
  for i, reward in enumerate(rewards):
    if i % num_siblings == 0:
      parsed = dict(correct=truths[i // num_siblings], grade='right')
      parent = make_record('solve', index=i, parsed=parsed)
    scores = {} if reward is None else dict(reward=reward)
    records.append(
      make_record(
        'critique', parent=parent, index=i, tokens=[1, 2, 3], scores=scores
      )
    )
  return records


def row_advantages(records, **settings):
  lm = nano()
  to_rows, _ = batching.make_rows(
    lm, num_rows=len(records), aggregate='token', row_shapes=(), microbatches=1
  )
  to_group_rows = group_rows.make_group_rows(
    to_rows, dict(name='group_relative', normalize=False), 2, **settings
  )
  batch = to_group_rows(records)
  # All tokens of a response have its advantage; an empty row teaches nothing.
  for row, mask in zip(batch['advantages'], batch['mask'], strict=True):
    assert len(set(row[mask].tolist())) <= 1
  return [
    row[mask][0].item() if mask.any() else None
    for row, mask in zip(batch['advantages'], batch['mask'], strict=True)
  ]


def test_advantages_are_of_each_group_by_itself():
  records = critiques([1.0, 0.0, 3.0, 5.0], [True, False])
  assert row_advantages(records) == [0.5, -0.5, -1.0, 1.0]


def test_what_could_not_be_determined_is_an_empty_row():
  records = critiques([1.0, 0.0, None, 5.0], [True, False])
  assert row_advantages(records) == [0.5, -0.5, None, 0.0]


def test_as_many_groups_of_right_solutions_as_of_wrong_ones():
  rewards, truths = [1.0, 0.0] * 3, [True, True, False]
  expected = [0.5, -0.5, None, None, 0.5, -0.5]
  records = critiques(rewards, truths)
  assert row_advantages(records, is_balanced=True) == expected
  assert row_advantages(records) == [0.5, -0.5] * 3


def test_a_wrong_advantage_is_refused():
  with pytest.raises(ValueError, match="advantage: .*got 'group_relativ'"):
    group_rows.make_group_rows(None, dict(name='group_relativ'), 2)
