"""The agent of the world of screens: its errors, its episodes."""

import collections
import json
import random

import pytest
from helpers import make_record

from critic_jax.rewards import suggestions, verdicts
from critic_jax.tasks import screens, screens_agent, screens_critiques
from critic_jax.types import Problem

PROBLEM = Problem(
  'p', 'Fill in name Ben, pet empty, city Rome, seat empty. Then save.', ''
)
GOAL = screens.read_goal(PROBLEM)


def respond(action, text, **fields):
  """Makes a critique of an action, as a critic's parser has it."""
  parsed = verdicts.parse(text)
  return make_record('critique', action, text=text, parsed=parsed, **fields)


def episode(critic, problem=PROBLEM, **settings):
  """Returns the actions of an episode, the end included."""
  settings = dict(seed=0, error_share=0.4, slack=2) | settings
  record = screens_agent.first(problem, **settings)
  records = [record]
  while record.parsed['episode']['left']:
    record = screens_agent.advance(respond(record, critic(record)))
    records.append(record)
  assert screens_agent.advance(respond(record, 'Verdict: correct')) is None
  return records


def approve(record):
  return 'Hint: press save\nVerdict: correct'


def teacher(record):
  return screens_critiques.critique(record, random.Random(0), check_share=1.0)


def test_the_agent_errs_as_often_as_it_is_said_to():
  rng = random.Random(0)
  screen = screens.start(PROBLEM)
  for share in (0.0, 0.3, 1.0):
    wrong = sum(
      not screens.works(
        screen, GOAL, screens_agent.act(screen, GOAL, rng, error_share=share)
      )
      for _ in range(300)
    )
    assert abs(wrong / 300 - share) < 0.08


def test_errors_are_of_all_kinds_and_none_works():
  counts = collections.Counter()
  rng = random.Random(0)
  for problem in screens.problems('train', 300):
    given = screens_agent.given(problem, rng, is_wrong=True, error_share=0.3)
    goal = screens.read_goal(problem)
    screen = screens.read(given.text)
    action = screens.read_action(given.text)
    assert not screens.works(screen, goal, action)
    assert given.parsed['grade'] == 'wrong' and not given.parsed['correct']
    after = screens.execute(screen, action)
    kind = 'closed' if after is None else action.split()[0]
    if after == screen:
      kind = 'again'
    if after and after.is_saved:
      kind = 'lost'
    counts[kind] += 1
  assert {*counts} == {'closed', 'again', 'lost', 'type', 'press'}
  assert min(counts.values()) >= 5


def test_given_actions_are_labelled_as_the_world_has_it():
  rng = random.Random(0)
  for problem in screens.problems('train', 50):
    given = screens_agent.given(problem, rng, is_wrong=False, error_share=0.3)
    known = suggestions.read(given)
    action = screens.read_action(given.text)
    assert action in known.working and given.parsed['correct'] is True
    assert known.reference in known.working
    json.dumps(given.parsed)  # as it is written to files


def test_errors_of_a_saved_form():
  saved = screens.start(PROBLEM)._replace(is_saved=True)
  with pytest.raises(ValueError, match='err: got a form that is saved'):
    screens_agent.err(saved, GOAL, random.Random(0))


# ---------------------------------------------------------------- episodes


def test_without_errors_every_episode_takes_the_shortest_way():
  for problem in screens.problems('test', 10):
    records = episode(approve, problem, error_share=0.0, slack=0)
    distance = screens.distance(
      screens.start(problem), screens.read_goal(problem)
    )
    assert len(records) == distance + 1
    assert records[-1].parsed['episode']['is_reached']
    assert records[0].parsed['episode']['alone']
    assert records[-1].text == 'Saved.'


def test_a_critic_who_approves_of_all_changes_nothing():
  reached = []
  for problem in screens.problems('test', 60):
    records = episode(approve, problem)
    last = records[-1].parsed['episode']
    assert last['is_reached'] == last['alone']
    reached.append(last['alone'])
  assert 5 < sum(reached) < 55


def test_a_critic_who_checks_reaches_every_goal():
  """Its hints work, so that each turn brings the goal nearer."""
  for problem in screens.problems('test', 40):
    for slack in (0, 2):
      records = episode(teacher, problem, slack=slack)
      assert records[-1].parsed['episode']['is_reached']
      assert records[-1].parsed['episode']['left'] == 0


def test_episodes_are_the_same_each_time():
  first, second = (episode(teacher) for _ in range(2))
  assert [r.text for r in first] == [r.text for r in second]


def begin(**settings):
  settings = dict(seed=0, error_share=1.0, slack=1) | settings
  return screens_agent.first(PROBLEM, **settings)


@pytest.mark.parametrize(
  ('text', 'changed'),
  [
    ('Hint: type name Ben\nVerdict: incorrect', 'type name Ben'),
    ('Hint: press trip\nVerdict: incorrect', 'press trip'),
    # Off the screen, two at once, none, or no hint: the turn is lost.
    ('Hint: press save\nVerdict: incorrect', None),
    ('Hint: type city Rome\nVerdict: incorrect', None),
    ('Hint: type name Ben or press trip\nVerdict: incorrect', None),
    ('Hint: type name Ben\nHint: press trip\nVerdict: incorrect', None),
    ('Hint: none\nVerdict: incorrect', None),
    ('Verdict: incorrect', None),
    # The hint of who approves is not read, nor that without a verdict.
    ('Hint: press trip\nVerdict: correct', 'judged'),
    ('Hint: press trip', 'judged'),
    ('Hint: press trip\nVerdict: incorrect\nVerdict: correct', 'judged'),
  ],
)
def test_what_is_done_after_a_critique(text, changed):
  action = begin()
  judged = screens.read_action(action.text)
  screen = screens.start(PROBLEM)
  after = screens_agent.advance(respond(action, text))
  done = judged if changed == 'judged' else changed
  expected = screens.execute(screen, done or '') or screen
  assert screens.read(after.text) == expected
  assert after.parsed['episode']['turn'] == 2
  assert (
    after.parsed['episode']['left'] == begin().parsed['episode']['left'] - 1
  )
  assert after.parent.text == text
  # A verdict alone: what is refused is not done, and no hint is.
  alone = screens_agent.advance(respond(action, text), follow_hints=False)
  expected = screens.execute(screen, judged) if changed == 'judged' else screen
  assert screens.read(alone.text) == (expected or screen)


def test_a_critique_that_was_cut_off_refuses_nothing():
  action = begin()
  text = 'Hint: press trip\nVerdict: incorrect'
  after = screens_agent.advance(respond(action, text, finish='length'))
  judged = screens.read_action(action.text)
  screen = screens.start(PROBLEM)
  expected = screens.execute(screen, judged) or screen
  assert screens.read(after.text) == expected


def test_who_saves_too_early_has_lost():
  values = tuple((f, 'empty') for f in GOAL)
  screen = screens.Screen(values, 'trip')
  action = screens_agent.judged(
    PROBLEM, screen, 'press save', episode=begin().parsed['episode']
  )
  after = screens_agent.advance(respond(action, 'Verdict: correct'))
  assert after.text == 'Saved.' and after.parsed['episode']['left'] == 0
  assert not after.parsed['episode']['is_reached']
  assert 'correct' not in after.parsed and 'suggestions' not in after.parsed


def test_an_action_of_no_episode():
  action = screens_agent.judged(PROBLEM, screens.start(PROBLEM), 'press trip')
  with pytest.raises(ValueError, match='episode.*got none; expected an action'):
    screens_agent.advance(respond(action, 'Verdict: correct'))


# ----------------------------------------------------------------- critiques


def test_a_critique_of_the_teacher():
  screen = screens.Screen(
    (('name', 'Ada'), ('pet', 'empty'), ('city', 'Rome'), ('seat', 'empty')),
    'trip',
  )
  action = screens_agent.judged(PROBLEM, screen, 'press save')
  assert teacher(action) == (
    '<think>\n'
    'name Ada? Ben. Wrong.\n'
    'pet empty? empty. Right.\n'
    'city Rome? Rome. Right.\n'
    'seat empty? empty. Right.\n'
    'Next: press person.\n'
    'press save? Wrong.\n'
    '</think>\n'
    'Hint: press person\n'
    'Verdict: incorrect'
  )
  right = screens_agent.judged(PROBLEM, screen, 'press person')
  assert teacher(right).endswith(
    'Right.\n</think>\nHint: none\nVerdict: correct'
  )


@pytest.mark.parametrize('check_share', [0.0, 1.0])
def test_who_checks_is_right_and_who_glances_guesses(check_share):
  rng = random.Random(0)
  true = working = 0
  for i, problem in enumerate(screens.problems('train', 200)):
    action = screens_agent.given(
      problem, rng, is_wrong=bool(i % 2), error_share=0.3
    )
    text = screens_critiques.critique(action, rng, check_share=check_share)
    critique = respond(action, text)
    said = critique.parsed['verdict'] == 'correct'
    true += said == action.parsed['correct']
    claims = screens_critiques.describe(critique)
    assert claims['hints'] == claims['hint_on_screen'] == (not said)
    working += claims['hint_works']
  if check_share:
    assert true == 200 and working == 100
  else:
    assert 70 < true < 130 and working < 40


def test_what_is_told_of_hints():
  action = begin()
  judged = screens.read_action(action.text)

  def told(hint):
    return {
      name
      for name, holds in screens_critiques.describe(
        respond(action, f'{hint}\nVerdict: incorrect')
      ).items()
      if holds
    }

  assert told('') == told('Hint: none') == set()
  assert told('Hint: press save') == {'hints'}
  assert told('Hint: type pet dog') == {'hints', 'hint_on_screen'} | (
    {'hint_restates'} if judged == 'type pet dog' else set()
  )
  both = {'hints', 'hint_on_screen', 'hint_works'}
  assert told('Hint: type name Ben') == both | {'hint_is_reference'}
  assert 'hint_restates' in told(f'Hint: {judged}')
  assert 'hint_works' not in told(f'Hint: {judged}')
  # Nothing is left to open first here, but on the last panel there is.
  screen = screens.Screen(
    (('name', 'empty'), ('pet', 'empty'), ('city', 'empty'), ('seat', 'empty')),
    'trip',
  )
  action = screens_agent.judged(PROBLEM, screen, 'press save')
  assert told('Hint: press person') == both
  assert told('Hint: type city Rome') == both | {'hint_is_reference'}
