"""Points of critiques: read, judged, merged, and how good a hint is."""

import itertools
import random

import pytest
from loop_helpers import critique

from critic_jax.rewards import critique_points
from critic_jax.rewards.critique_points import Point

RIGHT_1, RIGHT_2 = 'Step 1: 5 + 2 = 7', 'Step 2: 8 * 2 = 16'
TRUTH = {0: RIGHT_1, 1: RIGHT_2}


def says(step, line):
  return f'Step {step} is wrong. It should be\n{line}'


@pytest.mark.parametrize(
  ('text', 'points'),
  [
    (critique('incorrect', says(1, RIGHT_1)), [(0, RIGHT_1)]),
    (critique('incorrect', 'Step 1 is wrong.'), [(0, '')]),
    # In the order of the text; each has what stands before the next.
    (
      critique('incorrect', f'Step 3 is wrong.\n{says(1, RIGHT_1)}'),
      [(2, ''), (0, RIGHT_1)],
    ),
    # On its own line or not, with any spaces.
    (critique('incorrect', f'Step 1 is incorrect; it should be: {RIGHT_1} '),
     [(0, RIGHT_1)]),
    (critique('incorrect', says(1, 'Step 1:  5 +\t2 = 7')), [(0, RIGHT_1)]),
    # A point that comes again is one, with another line it is another.
    (critique('incorrect', '\n'.join([says(1, RIGHT_1)] * 2)), [(0, RIGHT_1)]),
    (critique('incorrect', f'{says(1, RIGHT_1)}\n{says(1, RIGHT_2)}'),
     [(0, RIGHT_1), (0, RIGHT_2)]),
    # Nothing is said before the verdict.
    (critique('incorrect', 'Step 1 is wrong. It should be'), [(0, '')]),
    (critique('incorrect', 'There is a mistake.'), []),
    # Thinking is not read, nor who calls the solution right or nothing.
    (critique('incorrect', 'No.', thoughts=says(1, RIGHT_1)), []),
    (critique('correct', says(1, RIGHT_1)), []),
    (says(1, RIGHT_1), []),
    (f'<think>\n{critique("incorrect", says(1, RIGHT_1))}', []),
    # Steps are counted from 1: there is no step 0.
    (critique('incorrect', 'Step 0 is wrong.'), [(-1, '')]),
    ('', []),
  ],
)  # fmt: skip
def test_points_are_read_from_the_conclusion(text, points):
  assert critique_points.read(text) == [Point(*point) for point in points]


@pytest.mark.parametrize(
  ('point', 'judgement'),
  [
    (Point(0, RIGHT_1), 1.0),
    (Point(0), 0.5),
    (Point(0, RIGHT_2), 0.0),  # the step is wrong, and this misleads
    (Point(2, RIGHT_1), 0.0),  # the step is right
    (Point(2), 0.0),
    (Point(-1), 0.0),
  ],
)
def test_a_point_is_judged_by_what_the_step_should_be(point, judgement):
  assert critique_points.judge(point, TRUTH) == judgement


def test_where_a_step_should_not_be_there_is_no_line_to_say():
  assert critique_points.judge(Point(3), {3: ''}) == 1.0
  assert critique_points.judge(Point(3, RIGHT_1), {3: ''}) == 0.0


A, B, C = Point(0, 'a'), Point(0, 'b'), Point(1, 'c')


@pytest.mark.parametrize(
  ('critiques', 'merged'),
  [
    # By step, whoever says it; the bad ones are left out.
    ([[(C, 1.0)], [(A, 1.0), (Point(2), 0.0)]], [A, C]),
    # Duplicates are one, judged by the mean: 1/2 and 1/3.
    ([[(A, 1.0)], [(A, 1.0)]], [A]),
    ([[(A, 1.0)], [(A, 0.0)]], [A]),
    ([[(A, 1.0)], [(A, 0.0)], [(A, 0.0)]], []),
    # Contradictions: the better judged one, then what more say.
    ([[(A, 0.9)], [(B, 0.8)], [(B, 0.8)]], [A]),
    ([[(A, 0.9)], [(B, 0.9)], [(B, 0.9)]], [B]),
    # Level: that the step is wrong is all that is agreed on.
    ([[(A, 0.9)], [(B, 0.9)]], [Point(0)]),
    ([[(A, 1.0), (B, 1.0)]], [Point(0)]),
    # Who says no line contradicts nobody.
    ([[(A, 1.0)], [(Point(0), 0.5)], [(Point(0), 0.5)]], [A]),
    ([[(A, 0.5)], [(Point(0), 0.5)]], [A]),
    ([[(Point(0), 0.5)]], [Point(0)]),
    # None is left, or there never was one.
    ([[(A, 0.0)], [(C, 0.25)]], []),
    ([[], []], []),
    ([], []),
  ],
)
def test_judged_points_are_merged(critiques, merged):
  assert critique_points.merge(critiques) == merged


def draw(rng):
  points = [Point(step, line) for step in range(3) for line in ('', 'a', 'b')]
  levels = 0.0, 0.1, 0.3, 0.5, 0.7, 1.0
  return [
    [(p, rng.choice(levels)) for p in rng.sample(points, rng.randint(0, 4))]
    for _ in range(3)
  ]


@pytest.mark.parametrize('seed', range(30))
def test_identities_of_merging(seed):
  critiques = draw(random.Random(seed))
  merged = critique_points.merge(critiques)
  # Nobody comes first, by critique or within one.
  for order in itertools.permutations(critiques):
    assert critique_points.merge([c[::-1] for c in order]) == merged
  # Everything twice, or another who says nothing, changes nothing.
  assert critique_points.merge(critiques * 2) == merged
  assert critique_points.merge([*critiques, []]) == merged
  # A merged critique that is judged good is itself.
  assert critique_points.merge([[(p, 1.0) for p in merged]]) == merged
  # One point a step, in order, and no step that nobody named.
  steps = [point.step for point in merged]
  assert steps == sorted(set(steps))
  assert set(steps) <= {p.step for c in critiques for p, _ in c}


def test_of_a_judge_without_errors_a_merged_critique_is_never_wrong():
  rng = random.Random(0)
  for _ in range(50):
    critiques = [
      [(p, critique_points.judge(p, TRUTH)) for p, _ in c]
      for c in [*draw(rng), [(Point(1, RIGHT_2), 0.0)]]
    ]
    merged = critique_points.merge(critiques)
    assert Point(1, RIGHT_2) in merged
    assert all(critique_points.judge(p, TRUTH) >= 0.5 for p in merged)


@pytest.mark.parametrize(
  ('critiques', 'best'),
  [
    # 1 - 1, 1: the second has fewer bad ones.
    ([[(A, 1.0), (C, 0.0)], [(A, 1.0)]], [A]),
    # 2 - 1, 0: all of its points, the bad one too, in its order.
    ([[], [(C, 1.0), (B, 0.0), (A, 1.0)]], [C, B, A]),
    # -1, 0: better to say nothing.
    ([[(A, 0.0)], []], []),
    # 0, 0: the first.
    ([[(A, 1.0), (B, 0.0)], []], [A, B]),
    ([[], [(A, 0.5)]], []),
  ],
)
def test_the_best_critique_is_taken_whole(critiques, best):
  assert critique_points.best(critiques) == best


@pytest.mark.parametrize(
  ('verdict', 'advice', 'worth'),
  [
    ('incorrect', says(1, RIGHT_1), 1.0),
    ('incorrect', 'Step 1 is wrong.', 0.5),
    ('incorrect', f'{says(1, RIGHT_1)}\nStep 9 is wrong.', 1.0),
    ('incorrect', says(1, RIGHT_2), 0.0),
    # A later wrong step, or one that comes before the first wrong one.
    ('incorrect', says(2, RIGHT_2), 0.0),
    ('incorrect', f'{says(2, RIGHT_2)}\n{says(1, RIGHT_1)}', 0.0),
    ('incorrect', 'There is a mistake.', 0.0),
    ('correct', 'Every step is right.', 0.0),
  ],
)
def test_a_hint_is_worth_what_its_first_point_is(verdict, advice, worth):
  assert critique_points.hint(critique(verdict, advice), TRUTH) == worth


def test_of_a_right_solution_the_verdict_is_the_hint():
  for verdict, worth in (('correct', 1.0), ('incorrect', 0.0)):
    assert critique_points.hint(critique(verdict), {}) == worth
  assert critique_points.hint('', {}) == 0.0
