"""Trials of a formaliser: what is drafted again, and what its end says."""

import json
import sys

import pytest
from helpers import make_record

from critic_jax.rewards import verdicts
from critic_jax.tasks import formal_drafts, formal_statements, formal_trials

SETTINGS = dict(seed=0, error_share=0.6, refused_share=0.5, max_tries=4)


def respond(record, text, **fields):
  parsed = verdicts.parse(text)
  return make_record('critique', record, text=text, parsed=parsed, **fields)


def trial(critic, problem, **settings):
  """Returns the statements of a trial, its end included."""
  settings = SETTINGS | dict(checker={}) | settings
  record = formal_trials.first(problem, **settings)
  records = [record]
  while record.parsed['episode']['left']:
    record = formal_trials.advance(respond(record, critic(record)))
    records.append(record)
  assert formal_trials.advance(respond(record, 'Verdict: correct')) is None
  return records


def approve(record):
  return 'Verdict: correct'


def refuse(record):
  return 'Verdict: incorrect'


def compare(record):
  is_right = record.parsed['correct']
  return f'Verdict: {"correct" if is_right else "incorrect"}'


def ends(critic, num=120, **settings):
  problems = formal_statements.problems('test', num)
  return [
    trial(critic, problem, **settings)[-1].parsed['episode']
    for problem in problems
  ]


def share(episodes, name):
  return sum(bool(e[name]) for e in episodes) / len(episodes)


def test_what_approval_ends():
  episodes = ends(approve)
  for episode in episodes:
    assert episode['is_reached'] == episode['alone']
    assert episode['accepted'] == episode['alone_accepted']
  # A checker's refusal is heeded: what comes next is refused no more.
  assert share(episodes, 'accepted') == 1
  # 0.4 are faithful at once; 0.3 are drafted again, of which 0.4 are.
  assert abs(share(episodes, 'single') - 0.4) < 0.12
  assert abs(share(episodes, 'alone') - 0.52) < 0.12


def test_who_compares_accepts_only_what_is_faithful():
  episodes = ends(compare)
  assert all(e['accepted'] == e['is_reached'] for e in episodes)
  assert share(episodes, 'accepted') > share(episodes, 'alone') + 0.2
  more = ends(compare, 40, max_tries=30)
  assert share(more, 'is_reached') == 1


def test_who_refuses_all_uses_up_the_tries():
  for problem in formal_statements.problems('test', 30):
    records = trial(refuse, problem)
    last = records[-1].parsed['episode']
    assert last['turn'] == 1 + SETTINGS['max_tries'] and last['left'] == 0
    assert not last['accepted'] and not last['is_reached']
    assert records[-1].text == 'None was accepted.'
    for record in records[:-1]:  # all of them pass the checker
      assert formal_drafts.make_checker()(record.text).accepted
      assert record.parsed['checked']


def test_drafts_do_not_depend_on_the_critic():
  for problem in formal_statements.problems('test', 20):
    first, second = trial(refuse, problem), trial(compare, problem)
    for one, other in zip(first, second[:-1], strict=False):
      assert one.text == other.text


def test_refusals_are_told():
  seen = 0
  for problem in formal_statements.problems('test', 60):
    for record in trial(refuse, problem)[:-1]:
      json.dumps(record.parsed)  # as it is written to files
      for message in record.parsed['refused']:
        assert ': error: ' in message
        seen += 1
  assert seen > 10


def test_a_trial_whose_drafts_all_fail_has_an_end_only():
  settings = dict(error_share=1.0, refused_share=1.0, max_tries=1)
  [end] = trial(approve, formal_statements.problems('test', 1)[0], **settings)
  episode = end.parsed['episode']
  assert not any(episode[k] for k in ('left', 'single', 'alone', 'accepted'))
  assert not episode['alone_accepted'] and episode['turn'] == 2
  assert len(end.parsed['refused']) == 1


@pytest.mark.parametrize(
  ('text', 'fields'),
  [
    ('Verdict: incorrect', {}),
    ('Hm.', {}),
    ('Verdict: correct\nVerdict: incorrect', {}),
    ('Verdict: correct', dict(finish='length')),
  ],
)
def test_what_approves_of_nothing(text, fields):
  problem = formal_statements.problems('test', 1)[0]
  record = formal_trials.first(problem, **SETTINGS, checker={})
  after = formal_trials.advance(respond(record, text, **fields))
  assert not after.parsed['episode']['accepted']
  assert after.parent.text == text


def test_a_command_checks_the_same():
  command = [sys.executable, '-m', 'critic_jax.tasks.formal_checker']
  settings = SETTINGS | dict(refused_share=0.9)
  for problem in formal_statements.problems('test', 3):
    ours, theirs = (
      formal_trials.first(problem, **settings, checker=checker)
      for checker in ({}, dict(command=command, deadline_s=30.0))
    )
    assert ours.text == theirs.text
    assert ours.parsed['correct'] == theirs.parsed['correct']


def test_a_statement_of_no_trial():
  problem = formal_statements.problems('test', 1)[0]
  check = formal_drafts.make_checker()
  record = formal_drafts.judged(problem, problem.solution, check(''))
  with pytest.raises(
    ValueError, match='got none of a trial; expected a statem'
  ):
    formal_trials.advance(respond(record, 'Verdict: correct'))
