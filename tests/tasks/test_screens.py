"""The world of screens: its rules, its texts, its splits."""

import collections
import dataclasses
import math
import random

import pytest

from critic_jax.tasks import screens
from critic_jax.types import Problem

VALUES = ('name', 'Ada'), ('pet', 'empty'), ('city', 'empty'), ('seat', 'empty')
SCREEN = screens.Screen(VALUES, 'person')
GOAL = dict(name='Ben', pet='cat', city='Rome', seat='empty')
PROBLEM = Problem(
  'p', 'Fill in name Ben, pet cat, city Rome, seat empty. Then save.', ''
)


def some_screens(num=60):
  """Returns screens on random ways from the start, and their goals."""
  rng = random.Random(0)
  pairs = []
  for problem in screens.problems('train', num):
    goal, screen = screens.read_goal(problem), screens.start(problem)
    for _ in range(rng.randrange(8)):
      after = screens.execute(screen, rng.choice(screens.actions(screen)))
      screen = screen if after.is_saved else after
    pairs.append((screen, goal))
  return pairs


def searched(screen, goal):
  """Returns the least number of actions to a goal, by breadth-first search."""
  seen, queue = {screen}, collections.deque([(screen, 0)])
  while queue:
    screen, steps = queue.popleft()
    if screens.is_reached(screen, goal):
      return steps
    for action in screens.actions(screen):
      after = screens.execute(screen, action)
      if after not in seen:
        seen.add(after)
        queue.append((after, steps + 1))
  return math.inf


@pytest.mark.parametrize('open_panel', ['person', 'trip'])
@pytest.mark.parametrize(
  ('changes', 'by_panel'),
  [  # fields + panels to open + saving: trip, the last, is opened again if open
    ({}, (3 + 1 + 1, 3 + 2 + 1)),
    (dict(name='Ben', pet='cat'), (1 + 1 + 1, 1 + 0 + 1)),
    (dict(name='Ben', city='Rome'), (1 + 1 + 1, 1 + 2 + 1)),
    (dict(name='Ben', pet='cat', city='Rome'), (0 + 1 + 1, 0 + 0 + 1)),
    (dict(seat='back'), (4 + 1 + 1, 4 + 2 + 1)),
  ],
)
def test_distance(open_panel, changes, by_panel):
  values = tuple((dict(VALUES) | changes).items())
  screen = screens.Screen(values, open_panel)
  expected = by_panel[open_panel == 'trip']
  assert screens.distance(screen, GOAL) == expected
  saved = screen._replace(is_saved=True)
  is_right = dict(values) == GOAL
  assert screens.distance(saved, GOAL) == (0 if is_right else math.inf)
  assert screens.distance(saved, dict(screen.values)) == 0


def test_distance_is_the_shortest_way():
  for screen, goal in some_screens(12):
    assert screens.distance(screen, goal) == searched(screen, goal)


def test_an_action_that_works_is_one_less_and_none_is_more_than_two_off():
  for screen, goal in some_screens():
    before = screens.distance(screen, goal)
    working = screens.working(screen, goal)
    for action in screens.actions(screen):
      after = screens.distance(screens.execute(screen, action), goal)
      assert (after == before - 1) == (action in working)
      assert after in (before - 1, before, before + 1, before + 2, math.inf)


def test_the_reference_works_and_is_often_not_the_only_one():
  pairs = some_screens(200)
  several = 0
  for screen, goal in pairs:
    working = screens.working(screen, goal)
    assert screens.reference(screen, goal) in working
    several += len(working) > 1
  assert several > 60


def test_references_reach_the_goal_and_are_the_solution():
  for problem in screens.problems('train', 20):
    goal, screen = screens.read_goal(problem), screens.start(problem)
    actions = problem.solution.split('\n')
    assert len(actions) == screens.distance(screen, goal)
    for action in actions:
      assert action == screens.reference(screen, goal)
      screen = screens.execute(screen, action)
    assert screens.is_reached(screen, goal)


def test_what_actions_do():
  do = screens.execute
  typed = do(SCREEN, 'type pet dog')
  assert dict(typed.values) == dict(VALUES) | dict(pet='dog')
  assert do(typed, 'clear pet') == SCREEN
  assert do(SCREEN, 'clear pet') == SCREEN
  trip = do(SCREEN, 'press trip')
  assert trip == SCREEN._replace(open='trip')
  assert do(trip, 'press save') == trip._replace(is_saved=True)
  assert SCREEN.buttons == ['trip'] and trip.buttons == ['person', 'save']


@pytest.mark.parametrize(
  'action',
  [
    '', 'press', 'press save', 'press person', 'press meal', 'type city Rome',
    'type pet Rome', 'type pet empty', 'type pet', 'clear city', 'clear color',
    'type pet dog and press trip', 'type pet dog\npress trip', 'Type pet dog',
    ' type pet dog', 'type  pet dog', 'type pet d\u043eg', 'none',
  ],
)  # fmt: skip
def test_what_a_screen_does_not_have(action):
  assert screens.execute(SCREEN, action) is None
  assert not screens.works(SCREEN, GOAL, action)


def test_nothing_is_done_to_a_saved_form():
  saved = SCREEN._replace(is_saved=True)
  assert screens.actions(saved) == screens.working(saved, GOAL) == []
  assert screens.execute(saved, 'type pet cat') is None
  with pytest.raises(ValueError, match='reference: got a form that is saved'):
    screens.reference(saved, GOAL)


def test_texts_are_read_back():
  for screen, _ in some_screens():
    for action in ('', *screens.actions(screen)):
      text = screens.write(screen, action)
      assert screens.read(text) == screen
      assert screens.read_action(text) == action
  assert screens.read_goal(PROBLEM) == GOAL
  assert screens.start(PROBLEM).open == 'person'


@pytest.mark.parametrize(
  ('old', 'new'),
  [
    (' (open)', ''),
    ('trip:', 'trip (open):'),
    ('trip:', 'person:'),
    ('trip:', 'tour:'),
    ('city', 'color'),
    ('city', 'name'),
    ('Ada', 'Rome'),
    ('Ada', 'Zoe'),
    ('trip', 'trip: city empty, seat empty\nmeal'),
    ('\n', ' '),
  ],
)
def test_texts_that_are_no_screen(old, new):
  text = screens.write(SCREEN)
  screens.read(text)
  with pytest.raises(ValueError, match='screen: got .*; expected two panels'):
    screens.read(text.replace(old, new))


@pytest.mark.parametrize(
  'question',
  [
    '',
    'Ada has 5 eggs.',
    'Fill in name Ben, pet cat, city Rome. Then save.',
    'Fill in name Rome, pet cat, city Rome, seat empty. Then save.',
    'Fill in name Ben, city Rome, pet cat, seat empty. Then save.',
    'Fill in name Ben, pet cat, color red, seat empty. Then save.',
    'Fill in name Ben, pet cat, name Ada, pet cat. Then save.',
    'Fill in name Ben, pet cat, city Rome, seat empty. Then save. Now.',
  ],
)
def test_problems_of_other_worlds(question):
  problem = dataclasses.replace(PROBLEM, question=question)
  with pytest.raises(ValueError, match='problem p: got no goal'):
    screens.read_goal(problem)


def test_splits_share_no_goal():
  goals = {
    split: {
      frozenset(screens.read_goal(p).items())
      for p in screens.problems(split, n)
    }
    for split, n in dict(train=2000, dev=400, test=400).items()
  }
  assert not goals['train'] & (goals['dev'] | goals['test'])
  assert not goals['dev'] & goals['test']
  assert screens.problems('test', 3) == screens.problems('test', 9)[:3]
  assert screens.problems('test', 3) != screens.problems('test', 3, seed=1)
  with pytest.raises(ValueError, match="split: got 'tset'; expected one of"):
    screens.problems('tset', 1)


def test_goals_fill_three_fields_or_four():
  counts = collections.Counter()
  for problem in screens.problems('train', 300):
    goal = screens.read_goal(problem)
    counts[sum(value != screens.EMPTY for value in goal.values())] += 1
  assert set(counts) == {3, 4} and min(counts.values()) > 100
