"""Labels of steps by the values of their prefixes."""

import numpy as np
import pytest

from critic_jax.rewards import step_values

# GenPRM's labels of three steps: shares of 8 completions, and before the first.
VALUES = np.array([4, 6, 3, 0]) / 8


def random_values(num=200, seed=0):
  random = np.random.default_rng(seed)
  for _ in range(num):
    size = random.integers(1, 7)
    yield np.append(random.integers(0, 5, size) / 4, random.integers(2))


def test_ratio_by_hand():
  # 6/4 = 1.5, 3/6 = 0.5, 0/3 = 0.
  for threshold, labels in (
    (0.1, [1, 1, 0]), (0.5, [1, 1, 0]), (0.51, [1, 0, 0]), (0.8, [1, 0, 0]),
    (1.5, [1, 0, 0]), (1.51, [0, 0, 0]),
  ):  # fmt: skip
    actual = step_values.ratio(VALUES, threshold=threshold)
    assert actual.tolist() == labels, threshold


def test_difference_by_hand():
  # 2/8 = 0.25, -3/8 = -0.375, -3/8.
  for threshold, labels in (
    (-0.5, [1, 1, 1]), (-0.375, [1, 1, 1]), (-0.3, [1, 0, 0]),
    (0.25, [1, 0, 0]), (0.3, [0, 0, 0]),
  ):  # fmt: skip
    actual = step_values.difference(VALUES, threshold=threshold)
    assert actual.tolist() == labels, threshold


def test_a_share_on_the_threshold_is_right_whatever_its_rounding():
  # 0.7 - 0.8 is -0.10000000000000009, and 0.8 * 0.7 above 0.56.
  for before, after in ((8, 7), (10, 9), (7, 6), (3, 2), (4, 3)):
    values = np.array([before, after, 1]) / [10, 10, 1]
    assert step_values.difference(values, threshold=-0.1)[0] == 1
    assert step_values.difference(values, threshold=-0.099)[0] == 0
    values = np.array([0.1 * before, 0.1 * before * 0.8, 1.0])
    assert step_values.ratio(values, threshold=0.8)[0] == 1


@pytest.mark.parametrize('after', [0.0, 0.25])
def test_nothing_recovers_from_a_share_of_0(after):
  """A later success was luck, also of the solution itself."""
  values = np.array([0.5, 0.0, after, 1.0])
  assert step_values.ratio(values, threshold=0.8).tolist() == [0, 0, 0]
  # The others say what the completions said.
  assert step_values.hard(values).tolist() == [0, after > 0, 1]
  assert step_values.first_wrong(step_values.hard(values)) == 0


def test_a_problem_that_nobody_solved_has_right_steps_all_the_same():
  values = np.array([0.0, 0.25, 0.25, 1.0])
  for rule in (
    step_values.hard(values), step_values.ratio(values, threshold=0.8),
    step_values.difference(values, threshold=-0.1),
  ):  # fmt: skip
    assert rule.tolist() == [1, 1, 1]


def test_limits_are_the_other_rules():
  num_alike = 0
  for values in random_values():
    alive = step_values.settled(values)
    hard = step_values.hard(alive)
    # A ratio above 0 is a share above 0.
    assert step_values.ratio(values, threshold=1e-6).tolist() == hard.tolist()
    assert (hard <= step_values.hard(values)).all()
    # And that of 1 is a difference of 0.
    ratio = step_values.ratio(values, threshold=1.0)
    difference = step_values.difference(values, threshold=0.0)
    assert ratio.tolist() == difference.tolist()
    # A penalty of nothing is the share.
    penalised, soft = step_values.penalised(values), step_values.soft(values)
    assert (penalised <= soft).all() and (penalised >= 0).all()
    rising = np.sort(values)
    assert step_values.penalised(rising).tolist() == rising[1:].tolist()
    assert step_values.penalised(values).tolist() == np.maximum(
      soft - np.maximum(values[:-1] - soft, 0), 0
    ).tolist()  # fmt: skip
    num_alike += (penalised == soft).all()
  assert 0 < num_alike < 200


def test_lower_thresholds_call_more_steps_right():
  for values in random_values(50):
    for rule, thresholds in (
      (step_values.ratio, (0.1, 0.5, 0.8, 1.0, 1.3)),
      (step_values.difference, (-0.5, -0.3, -0.1, 0.0)),
    ):
      labels = [rule(values, threshold=t) for t in thresholds]
      assert (np.diff(labels, axis=0) <= 0).all()


def test_a_wrong_solution_has_a_wrong_step_but_by_a_difference():
  for values in random_values():
    wrong = np.append(values[:-1], 0.0)
    for targets in (
      step_values.hard(wrong), step_values.soft(wrong),
      step_values.penalised(wrong), step_values.ratio(wrong, threshold=0.8),
    ):  # fmt: skip
      assert step_values.first_wrong(targets) >= 0
  # 0.25 cannot fall by 0.3: nothing is found.
  targets = step_values.difference(np.array([0.25, 0.25, 0]), threshold=-0.3)
  assert step_values.first_wrong(targets) == -1


def test_penalised_marks_a_wrong_step_with_a_right_answer():
  """The step made it unlikely, and a later slip made up for it."""
  values = np.array([0.75, 0.75, 0.25, 1.0])
  assert step_values.penalised(values).tolist() == [0.75, 0.0, 1.0]
  assert step_values.soft(values).tolist() == [0.75, 0.25, 1.0]


def test_sustained():
  def label(*values):
    targets = step_values.sustained(np.array(values), least=0.5)
    return None if targets is None else step_values.first_wrong(targets)

  assert label(0.75, 0.5, 0.0, 0.0) == 1
  assert label(0.5, 0.0, 0.0) == 0
  assert label(0.75, 0.5, 0.5, 1.0) == -1
  # It is not clear which step failed.
  assert label(0.75, 0.25, 0.0, 0.0) is None
  assert label(0.25, 0.75, 0.0, 0.0) is None
  assert label(0.0, 0.0, 0.0) is None
  # A share of 0 that is followed by a success is no failure for good.
  assert label(0.75, 0.0, 0.5, 0.0) is None


@pytest.mark.parametrize(
  ('rule', 'settings', 'message'),
  [
    ('ratio', dict(threshold=0.0), 'threshold: got 0.0; expected above 0'),
    ('difference', dict(threshold=-1.0), 'threshold: got -1.0'),
    ('sustained', dict(least=0.0), 'least: got 0.0'),
    ('sustained', dict(least=1.5), 'least: got 1.5'),
  ],
)
def test_thresholds_by_which_no_step_is_wrong(rule, settings, message):
  with pytest.raises(ValueError, match=message):
    getattr(step_values, rule)(VALUES, **settings)


def test_first_wrong():
  assert step_values.first_wrong(np.array([1.0, 0.0, 1.0])) == 1
  assert step_values.first_wrong(np.array([0.5, 0.5])) == -1
  assert step_values.first_wrong(np.array([0.49])) == 0
  assert step_values.first_wrong(np.zeros(0)) == -1


def test_label_errors_by_hand():
  labels = [0, 1, -1, -1, 2, None]
  truths = [0, 2, 3, -1, -1, 0]
  # Right: 0 and -1. Early: 1 before 2, and 2 where none is. Late: -1 for 3.
  assert step_values.label_errors(labels, truths) == pytest.approx(
    dict(right=2 / 5, early=2 / 5, late=1 / 5, labelled=5 / 6)
  )
  assert step_values.label_errors([None], [0]) == {}
  assert step_values.label_errors([], []) == {}
