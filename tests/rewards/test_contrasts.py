"""Where paths part: by hand, and beside a search over all prefixes."""

import random

import pytest
from loop_helpers import PROBLEM, RIGHT, WRONG, grade

from critic_jax.rewards import contrasts
from critic_jax.rollouts import rollout
from critic_jax.rollouts.styles import plain
from critic_jax.types import Problem

END = 'The answer is \\boxed{14}.'
REORDERED = f'Step 1: 5 * 2 = 10\nStep 2: 10 + 4 = 14\n{END}'
# 5 + 2 = 8 and 8 * 2 = 14: the second slip makes up for the first.
LUCKY = f'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 14\n{END}'


def solved(*texts, problem=PROBLEM, finish='stop'):
  records = [
    rollout.write(plain.STAGES.solve, problem, text, i)
    for i, text in enumerate(texts)
  ]
  return rollout.grade(records, grade)


@pytest.mark.parametrize(
  ('path', 'others', 'expected'),
  [
    # It shares 1, 2 and 0 steps.
    ('abc', ['axx', 'abx', 'xbc'], (2, 1)),
    # Nothing is shared: the first step is where they part.
    ('abc', ['xbc'], (0, 0)),
    # The steps are the same, in another order.
    ('abc', ['bac'], (0, 0)),
    # The path ends too early, or goes on.
    ('ab', ['abc'], (2, 0)),
    ('abc', ['ab'], (2, 0)),
    ('', ['ab'], (0, 0)),
    ('ab', [''], (0, 0)),
    # Of equals the shortest, then the first.
    ('abc', ['abxyz', 'abx', 'aby'], (2, 1)),
    ('abc', ['abcd', 'abc', 'abc'], (3, 1)),
    # A later step in common is no beginning.
    ('abcd', ['xbcd', 'axxx'], (1, 1)),
  ],
)
def test_divergence_by_hand(path, others, expected):
  assert contrasts.divergence(path, others) == expected


def test_divergence_is_the_longest_prefix_of_all():
  rng = random.Random(0)

  def draw():
    return [rng.choice('ab') for _ in range(rng.randint(0, 5))]

  for _ in range(500):
    path, others = draw(), [draw() for _ in range(rng.randint(1, 4))]
    at, nearest = contrasts.divergence(path, others)
    shared = [
      max(k for k in range(len(path) + 1) if other[:k] == path[:k])
      for other in others
    ]
    assert at == shared[nearest] == max(shared)
    # Which others there are besides does not matter to the nearest.
    assert contrasts.divergence(path, [others[nearest]]) == (at, 0)
    # It is symmetric, and more paths never part earlier.
    assert contrasts.divergence(others[nearest], [path])[0] == at
    assert contrasts.divergence(path, [*others, draw()])[0] >= at
    # Among the others a path is its own nearest one.
    at, nearest = contrasts.divergence(path, [*others, path])
    assert at == len(path) and [*others, path][nearest] == path


def test_without_others_there_is_no_divergence():
  with pytest.raises(ValueError, match='others: got no paths; expected one'):
    contrasts.divergence('ab', [])


def test_steps_are_lines_that_are_not_blank():
  assert contrasts.steps('\n a b\r\n\n \t\nc\n') == ['a b', 'c']
  assert contrasts.steps(' \n') == []


def test_a_wrong_path_is_laid_beside_the_nearest_right_one():
  written = contrasts.write(solved(WRONG, REORDERED, RIGHT, RIGHT), 4)
  # All right ones share nothing with it: the first of them. Each right one is
  # its own.
  contrast = [s.parsed['contrast'] for s in written]
  assert contrast == [REORDERED, REORDERED, RIGHT, RIGHT]
  # A right answer after the same slip is nearer, and parts later than where
  # the first wrong step is: that is known of the method.
  written = contrasts.write(solved(WRONG, RIGHT, LUCKY), 3)
  assert [s.parsed['contrast'] for s in written] == [LUCKY, RIGHT, LUCKY]
  steps = [contrasts.steps(text) for text in (WRONG, LUCKY, RIGHT)]
  assert contrasts.divergence(steps[0], steps[1:2]) == (1, 0)
  assert contrasts.divergence(steps[0], steps[2:]) == (0, 0)


def test_only_siblings_are_laid_beside_each_other():
  other = Problem('other', 'Ben has 14 pens. How many?', '14', RIGHT)
  records = solved(WRONG, WRONG) + solved(RIGHT, WRONG, problem=other)
  contrast = [s.parsed['contrast'] for s in contrasts.write(records, 2)]
  assert contrast == [None, None, RIGHT, RIGHT]


def test_what_is_neither_right_nor_wrong_is_beside_nothing():
  timed_out = rollout.grade(
    solved(RIGHT), lambda pairs: ['timeout'] * len(pairs)
  )
  [hung, wrong] = contrasts.write([*timed_out, *solved(WRONG)], 2)
  assert hung.parsed['contrast'] is wrong.parsed['contrast'] is None
  [hung, right] = contrasts.write([*timed_out, *solved(RIGHT)], 2)
  assert hung.parsed['contrast'] is None and right.parsed['contrast'] == RIGHT


def test_paths_that_nobody_graded_are_refused():
  record = rollout.write(plain.STAGES.solve, PROBLEM, RIGHT)
  with pytest.raises(ValueError, match=r"parsed\['correct'\] of sum-0/solve.0"):
    contrasts.write([record], 1)
