"""An agent of the world of screens that errs, and its episodes.

The agent mostly does one of the actions that work, any of them alike. With the
probability `error_share` it errs: it types another value, or into a field that
shall be empty, types again what is there, presses a button too early, or acts
on a panel that is not open. Some errors cost an action, others two, and a form
that is saved too early is lost.

A critic judges each action before it is executed (GUI-Critic-R1,
https://arxiv.org/abs/2506.04614). In an episode it decides what is done:
`advance` takes a critique and gives the agent's next action. The agent's noise
depends on the episode's seed and turn alone, so that episodes with and without
a critic differ by the critic.
"""

from __future__ import annotations

import dataclasses
import random

from critic_jax.rewards import suggestions
from critic_jax.tasks import screens
from critic_jax.types import Problem, Record, given_record


def check(error_share: float) -> None:
  """Raises ValueError if no agent errs so often and reaches a goal."""
  if not 0 <= error_share < 1:
    raise ValueError(
      f'error_share: got {error_share}; expected a number of 0 or more, and '
      'below 1, as an agent that always errs reaches nothing'
    )


def act(
  screen: screens.Screen,
  goal: screens.Goal,
  rng: random.Random,
  *,
  error_share: float,
) -> str:
  """Returns the agent's next action on a screen that is not saved."""
  if rng.random() < error_share:
    return err(screen, goal, rng)
  return rng.choice(screens.working(screen, goal))


def err(screen: screens.Screen, goal: screens.Goal, rng: random.Random) -> str:
  """Returns an action that does not work, of a kind drawn from those there are.

  Raises:
    ValueError: the form is saved.
  """
  values = dict(screen.values)
  filled = {f: v for f, v in goal.items() if v != screens.EMPTY}
  kinds = {
    'value': [
      f'type {f} {v}'
      for f in screen.fields
      for v in screens.VALUES[f]
      if f in filled and v not in (goal[f], values[f])
    ],
    'field': [
      f'type {f} {v}'
      for f in screen.fields
      for v in screens.VALUES[f]
      if f not in filled
    ],
    'again': [
      f'type {f} {values[f]}'
      for f in screen.fields
      if values[f] != screens.EMPTY
    ],
    'early': [f'press {button}' for button in screen.buttons],
    'closed': [
      f'type {f} {v}' for f, v in filled.items() if f not in screen.fields
    ],
  }
  wrong = {
    kind: [a for a in found if not screens.works(screen, goal, a)]
    for kind, found in kinds.items()
  }
  if screen.is_saved:
    raise ValueError('err: got a form that is saved; expected another')
  return rng.choice(wrong[rng.choice([kind for kind in wrong if wrong[kind]])])


def judged(
  problem: Problem, screen: screens.Screen, action: str, **parsed
) -> Record:
  """Returns a given action: a record in a solution's place, labelled.

  Args:
    problem: its goal.
    screen: the screen that it would be done to.
    action: a text, also one that is no action of the screen.
    **parsed: more of what is known of it.
  """
  goal = screens.read_goal(problem)
  is_right = screens.works(screen, goal, action)
  labels = suggestions.Suggestions(
    screens.reference(screen, goal), screens.working(screen, goal)
  )
  return _record(
    problem,
    screens.write(screen, action),
    correct=is_right,
    grade='right' if is_right else 'wrong',
    suggestions=labels._asdict(),
    **parsed,
  )


def _record(problem: Problem, text: str, **parsed) -> Record:
  """Makes a record in a solution's place, which no model wrote."""
  fields = {'answer': None, 'part': 'screens', **parsed}
  return given_record(problem, text, parsed=fields)


def given(
  problem: Problem, rng: random.Random, *, is_wrong: bool, error_share: float
) -> Record:
  """Returns an action at some screen of an episode, labelled.

  Args:
    problem: a problem of the world.
    rng: consumed.
    is_wrong: whether the action does not work.
    error_share: how often the agent errs on its way to the screen.
  """
  goal = screens.read_goal(problem)
  screen = screens.start(problem)
  for _ in range(rng.randrange(8)):
    action = act(screen, goal, rng, error_share=error_share)
    after = screens.execute(screen, action) or screen
    if after.is_saved:
      break
    screen = after
  choose = err if is_wrong else _any_working
  return judged(problem, screen, choose(screen, goal, rng))


def examples(
  split: str, size: int, *, seed: int, error_share: float
) -> list[Record]:
  """Returns given actions of a split's problems, every second one wrong."""
  rng = random.Random(f'{seed}/screens/{split}')
  return [
    given(problem, rng, is_wrong=bool(i % 2), error_share=error_share)
    for i, problem in enumerate(screens.problems(split, size, seed=seed))
  ]


def _any_working(screen, goal, rng) -> str:
  return rng.choice(screens.working(screen, goal))


# ---------------------------------------------------------------- episodes


def first(
  problem: Problem, *, seed: int, error_share: float, slack: int
) -> Record:
  """Returns the first action of an episode.

  Args:
    problem: a problem of the world.
    seed: of the agent's noise.
    error_share: how often the agent errs.
    slack: turns beside the least number that the goal takes.

  Returns:
    A given action. `parsed['episode']` has the number of its `turn`, from 1,
    the turns that are `left`, this one included, whether the goal `is_reached`,
    and whether it would be by the agent `alone`.
  """
  goal = screens.read_goal(problem)
  screen = screens.start(problem)
  episode = dict(
    turn=1,
    left=int(screens.distance(screen, goal)) + slack,
    is_reached=False,
    seed=seed,
    error_share=error_share,
  )
  record = begun = _turn(problem, screen, episode)
  while record.parsed['episode']['left']:
    record = _next(record, screens.read_action(record.text))
  alone = record.parsed['episode']['is_reached']
  parsed = {**begun.parsed, 'episode': {**episode, 'alone': alone}}
  return dataclasses.replace(begun, parsed=parsed)


def first_actions(num: int, *, seed: int, **settings) -> list[Record]:
  """Returns `first` of the first problems of 'test', with its settings."""
  return [
    first(problem, seed=seed, **settings)
    for problem in screens.problems('test', num, seed=seed)
  ]


def _turn(problem, screen, episode) -> Record:
  """Returns the agent's action in a turn, or the end of an episode."""
  if screen.is_saved or not episode['left']:
    reached = screens.is_reached(screen, screens.read_goal(problem))
    text = 'Saved.' if screen.is_saved else screens.write(screen)
    ended = episode | dict(left=0, is_reached=reached)
    return _record(problem, text, episode=ended)
  rng = random.Random(f'{episode["seed"]}/{problem.id}/{episode["turn"]}')
  action = act(
    screen,
    screens.read_goal(problem),
    rng,
    error_share=episode['error_share'],
  )
  return judged(problem, screen, action, episode=episode)


def _next(record: Record, action: str | None) -> Record:
  """Returns the turn after one in which an action was done, or nothing."""
  screen, episode = screens.read(record.text), record.parsed['episode']
  # What the screen does not have changes nothing.
  after = screens.execute(screen, action or '') or screen
  changes = dict(turn=episode['turn'] + 1, left=episode['left'] - 1)
  return _turn(record.problem, after, {**episode, **changes})


def advance(critique: Record, *, follow_hints: bool = True) -> Record | None:
  """Returns the agent's action after a critique of the one before.

  An action that is not called incorrect is executed. In the place of one that
  is, the hint is executed; without a hint nothing is, and the turn is lost. So
  it is with what the screen does not have.

  Args:
    critique: a critique of an episode's action.
    follow_hints: False, and hints are not read: the verdict alone decides.

  Returns:
    The next action, a response to the critique; at the end of the episode a
    record whose `parsed['episode']['left']` is 0; None after that.

  Raises:
    ValueError: the action is of no episode.
  """
  record = critique.parent
  if 'episode' not in record.parsed:
    raise ValueError(
      f"parsed['episode'] of {record.id}: got none; expected an action of an "
      "episode; set data to dict(name='screen_episodes')"
    )
  if not record.parsed['episode']['left']:
    return None
  is_refused = (
    critique.finish == 'stop' and critique.parsed.get('verdict') == 'incorrect'
  )
  action = screens.read_action(record.text)
  if is_refused:
    action = suggestions.suggested(critique) if follow_hints else None
  after = _next(record, action)
  return dataclasses.replace(after, parent=critique)
